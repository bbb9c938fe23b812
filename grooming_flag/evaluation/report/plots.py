"""Curves with their 95 % bands, as SVG that stands in a page: text as text, colors by name from the page's style."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grooming_flag.errors import MissingExtraError
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.report.reading import SET_HERE, Curve, Reading, one_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.0, 3.75)  # inches; small, so that text stays legible where the page is as narrow as a telephone
COLORS = {"#1a1a1a": "currentColor", "#808080": "var(--line)"} | {f"#00000{i}": f"var(--curve{i})" for i in range(1, 4)}
INK, LINE, *CURVES = COLORS
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))
MARKERS = ("", "s", "^")
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.4,
    "grid.linewidth": 0.6,
    "grid.color": LINE,
    "hatch.color": LINE,
    "hatch.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}

LEAST_FPR = 1e-4
STEEP = 1.0  # points by which a curve rises from one place to the next
LOW = 0.15  # below there is no room under a mark

RECALL_BY_FPR = "recall by false-positive rate"
PRECISION_BY_RECALL = "precision by recall"
WORKLOAD = "risky threads per 100 reviews by alerts per 10,000, base rate "
RELIABILITY = "share of risky threads by probability, at equal shares"
RISKY_BY_MESSAGE, OTHER_BY_MESSAGE = "risky threads flagged by message, ", "other threads flagged by message, "

Floats = NDArray[np.float64]


class Plot(NamedTuple):
    """A drawing with what belongs to it.

    Attributes
    ----------
    title : str
    caption : str
        What to read from it.
    svg : str
    x : str
        What its curves run over.
    curves : mapping of str to Curve
        The numbers.
    """

    title: str
    caption: str
    svg: str
    x: str
    curves: Mapping[str, Curve]


def recall_by_fpr(reading: Reading) -> Plot | None:
    """Draw recall against the false-positive rate, on a logarithmic axis."""
    curve = reading.curves.get(RECALL_BY_FPR)
    if not curve:
        return None
    points = _at_points(reading, "false-positive rate", "recall")
    one_thread = 1.0 / max((alarms.n for _, alarms, _ in points), default=1)

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.set(xlim=(LEAST_FPR, 1), ylim=(0, 1.02), ylabel="recall")
        axes.set_xlabel("false-positive rate: other threads flagged")
        rates = [LEAST_FPR, 1e-3, 1e-2, 1e-1, 1]
        axes.set_xticks(rates, [one_in(rate) if rate < 1 else "all" for rate in rates])
        _band(axes, {key: values[1:] for key, values in curve.items()}, 0)  # its first place, 0, has no logarithm
        chance = np.geomspace(LEAST_FPR, 1)
        axes.plot(chance, chance, color=LINE, linestyle=DASHES[1], linewidth=1)
        axes.annotate("chance", (0.35, 0.35), (-4, 4), textcoords="offset points", ha="right", fontsize=9)
        if one_thread > LEAST_FPR:
            axes.axvspan(LEAST_FPR, one_thread, facecolor="none", edgecolor=LINE, hatch="//", linewidth=0)
        _mark(axes, points, left=LEAST_FPR)

    return Plot(
        "Recall by false-positive rate",
        "How many of the risky threads are found (up) if so many of the other threads are flagged by mistake (to the "
        "right; each step is ten times as many). What matters is the left: most threads are ordinary. Diamonds are "
        "operating points, the lines through them intervals."
        + (" Where it is hatched, a single one of the other threads is already more." * (one_thread > LEAST_FPR)),
        _drawn(draw),
        "false-positive rate",
        {"recall": curve},
    )


def precision_by_recall(reading: Reading) -> Plot | None:
    """Draw precision against recall."""
    curve = reading.curves.get(PRECISION_BY_RECALL)
    if not curve:
        return None
    share = reading.data.get("risky", 0) / max(reading.data.get("threads", 0), 1)

    def draw(axes: Axes) -> None:
        _band(axes, curve, 0)
        axes.axhline(share, color=LINE, linestyle=DASHES[1], linewidth=1)
        axes.annotate("chance", (0.02, share), (0, 4), textcoords="offset points", fontsize=9)
        _mark(axes, _at_points(reading, "recall", "precision"))
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="precision", xlabel="recall")

    return Plot(
        "Precision by recall",
        f"How many of the flagged threads are risky (up) if so many of the risky ones are found (to the right), where "
        f"{share:.1%} of the threads are risky, as in these data. On a platform they are far fewer, and precision is "
        "lower: see the workload.",
        _drawn(draw),
        "recall",
        {"precision": curve},
    )


def workload(reading: Reading) -> Plot | None:
    """Draw how many of 100 reviews are of risky threads, by alerts, at each base rate."""
    curves = {
        one_in(float(name.removeprefix(WORKLOAD))): curve
        for name, curve in reading.curves.items()
        if name.startswith(WORKLOAD)
    }
    if not curves:
        return None

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.set(xlim=(0.1, 1000), ylim=(0, 102), ylabel="risky threads per 100 reviews")
        axes.set_xlabel("threads reviewed of 10,000, highest first")
        axes.set_xticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1,000"])
        for i, curve in enumerate(curves.values()):
            _band(axes, curve, i)
        _name_curves(axes, curves)

    return Plot(
        "Workload",
        "If a team reviews so many of 10,000 threads, those with the highest values first (to the right), how many of "
        "100 reviews are of risky threads (up), for three shares of risky threads on the platform.",
        _drawn(draw),
        "reviewed of 10,000",
        {f"risky per 100 reviews, {name} risky": curve for name, curve in curves.items()},
    )


def reliability(reading: Reading) -> Plot | None:
    """Draw the share of risky threads against the probability."""
    curve = reading.curves.get(RELIABILITY)
    if not curve:
        return None

    def draw(axes: Axes) -> None:
        x, y, low, high = (_array(curve[key]) for key in ("x", "values", "low", "high"))
        axes.plot([0, 1], [0, 1], color=LINE, linestyle=DASHES[1], linewidth=1)
        axes.annotate("as it should be", (0.5, 0.5), (-6, 4), textcoords="offset points", ha="right", fontsize=9)
        axes.errorbar(x, y, _ends(y, low, high), fmt="o", color=CURVES[0], capsize=3, elinewidth=1.2)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean probability", ylabel="share of risky threads")

    return Plot(
        "Reliability of probabilities",
        "Threads in up to 15 groups of like probability (to the right), restated and weighted as if half of all "
        "threads were risky, with how many are (up). Below the broken line probabilities are too high, above it too "
        "low.",
        _drawn(draw),
        "mean probability",
        {"share of risky threads": curve},
    )


def by_message(reading: Reading) -> Plot | None:
    """Draw which share of risky threads and of others is flagged by each message."""
    known = [
        at for at in reading.operating_points() if {RISKY_BY_MESSAGE + at, OTHER_BY_MESSAGE + at} <= {*reading.curves}
    ]
    names = known[: len(CURVES)]
    if not names:
        return None
    risky = {name: reading.curves[RISKY_BY_MESSAGE + name] for name in names}
    others = {name: reading.curves[OTHER_BY_MESSAGE + name] for name in names}

    def draw(above: Axes, below: Axes) -> None:
        for axes, curves, what in ((above, risky, "risky threads"), (below, others, "other threads")):
            axes.set_xscale("log")
            axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
            for i, curve in enumerate(curves.values()):
                _band(axes, curve, i)
            axes.set(xlim=(1, 1000), ylabel=f"share of\n{what}")
            axes.set_ylim(bottom=0)
            _name_curves(axes, curves)
        above.set_ylim(top=1.02)
        below.set_xlabel("messages of the thread so far")

    return Plot(
        "Flagged by message",
        "Above, which share of the risky threads has been flagged once so many messages were written (to the right; "
        "each step is ten times as many); below, on a scale of its own, of the others, which never should be.",
        _drawn(draw, rows=2),
        "messages",
        {
            f"{what} threads, {name}": curve
            for what, curves in (("risky", risky), ("other", others))
            for name, curve in curves.items()
        },
    )


def _drawn(draw: Callable[..., None], rows: int = 1) -> str:
    return _inline(drawn(draw, rows, transparent=True))


def drawn(draw: Callable[..., None], rows: int = 1, transparent: bool = False) -> str:
    """Return as SVG what a function draws on so many axes, one below the other.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure as Drawing
    except ModuleNotFoundError as error:
        raise MissingExtraError("a report needs matplotlib; pip install 'grooming-flag[report]'") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not what the user's own settings say
        matplotlib.rcParams.update(STYLE | {"svg.hashsalt": draw.__qualname__})  # no two drawings share an id
        drawing = Drawing(SIZE if rows == 1 else (SIZE[0], 1.25 * SIZE[1]), layout="constrained")
        draw(*drawing.subplots(rows, sharex=True, squeeze=False)[:, 0])
        svg = io.StringIO()
        drawing.savefig(
            svg, format="svg", transparent=transparent, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    return svg.getvalue()


def _inline(svg: str) -> str:
    """Return the drawing as an element of a page, with the page's colors and no id that nothing refers to."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", svg.partition(">")[0]) + svg[svg.index(">") :]
    svg = svg.replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would be that of the whole page
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0].replace("\n", " ")), svg)
    for color, name in COLORS.items():
        svg = svg.replace(color, name)
    return svg


def _band(axes: Axes, curve: Curve, i: int) -> None:
    """Draw a curve and its interval, the i-th in style and marks."""
    x, y, low, high = (_array(curve[key]) for key in ("x", "values", "low", "high"))
    axes.fill_between(x, low, high, color=CURVES[i], alpha=0.18, linewidth=0)
    axes.plot(x, y, color=CURVES[i], linestyle=DASHES[i], marker=MARKERS[i], markevery=6)


def _at_points(reading: Reading, x: str, y: str) -> list[tuple[str, Figure, Figure]]:
    """Return what was measured at each operating point, where both were."""
    found = []
    for at in reading.operating_points():
        one, other = (reading.one("detection", measure=measure, at=at) for measure in (x, y))
        if one and other:
            found.append((at, one, other))
    return found


def _mark(axes: Axes, points: Sequence[tuple[str, Figure, Figure]], left: float = 0.0) -> None:
    """Mark operating points with their names and intervals, those that lie further left at the left edge."""
    for i, (name, one, other) in enumerate(points):
        ends = [_ends(*(np.array([end], dtype=float) for end in (f.value, f.low, f.high))) for f in (one, other)]
        place = (max(one.value or 0.0, left), other.value or 0.0)
        axes.errorbar(*place, xerr=ends[0], yerr=ends[1], fmt="D", color=INK, markersize=6, elinewidth=1)
        step = 12 * (i % 2)  # so that names do not meet where points do
        offset = (8, -14 - step) if place[1] > LOW else (8, 6 + step)
        axes.annotate(_drawable(name), place, offset, textcoords="offset points", fontweight="bold")


def _name_curves(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """Write each curve's name where it is furthest from the others, the highest one's above it."""
    places = np.array([axes.transData.transform(np.c_[_array(c["x"]), _array(c["values"])]) for c in curves.values()])
    n = places.shape[1]
    named = np.full((1, 2), -1e6)
    for i, name in enumerate(curves):
        others = np.delete(places, i, axis=0).reshape(-1, 2)
        inner = places[i, n // 6 : -n // 4]
        room = _distances(inner, others) + 0.1 * _distances(inner, named)  # where curves are one, names are still apart
        best = n // 6 + int(np.nan_to_num(room).argmax())
        named = np.vstack([named, places[i, best]])
        rising = np.diff(places[i, best - 1 : best + 2, 1]).mean() > STEEP
        is_highest = places[i, best, 1] >= places[:, best, 1].max()
        offset, side = ((6, 4), "left") if not rising else ((-6, 4), "right") if is_highest else ((6, -12), "left")
        x, y = axes.transData.inverted().transform(places[i, best])
        style: Any = {"textcoords": "offset points", "ha": side, "color": CURVES[i], "fontweight": "bold"}
        axes.annotate(_drawable(name), (x, y), offset, **style)


def _distances(places: Floats, others: Floats) -> Floats:
    """Return how far each place is from the nearest of the others."""
    nearest: Floats = np.hypot(*(places[:, None, :] - others).transpose(2, 0, 1)).min(axis=1, initial=1e6)
    return nearest


def _ends(value: Floats, low: Floats, high: Floats) -> Floats:
    """Return how far the ends of intervals are from the value, as error bars want them."""
    return np.nan_to_num(np.maximum([value - low, high - value], 0.0))


def _array(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _drawable(name: str, longest: int = 16) -> str:
    """Return a name that the font can measure, and that has room."""
    from matplotlib.font_manager import findfont, get_font

    known: Any = get_font(findfont("DejaVu Sans")).get_charmap()
    name = "".join(character if ord(character) in known else "?" for character in name.removesuffix(f" {SET_HERE}"))
    return name if len(name) <= longest else f"{name[: longest - 3]}..."
