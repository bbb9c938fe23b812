"""The figures of an evaluation, arranged in tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from grooming_flag.evaluation.audits import OTHER_SOURCES, RETRAINED
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.perturbations import PERTURBATIONS, describe
from grooming_flag.evaluation.report.findings import differences, missed, verdict
from grooming_flag.evaluation.report.plots import Plot
from grooming_flag.evaluation.report.reading import BASE_RATE, SET_HERE, Reading, base_rate, one_in
from grooming_flag.evaluation.templates import families

FPR, RECALL = "false-positive rate", "recall"
SHORTCUTS = {
    "length": "sees only how many messages and characters there are",
    "timing": "sees only the times between messages",
    "parties": "sees only how many authors there are, and their shares of the messages",
    "source": "sees only which source the thread is of",
    OTHER_SOURCES: "sees the text; was fitted on all sources but the one it scores",
}

Cell = Figure | str | None


class Row(NamedTuple):
    """One row of a table: its name, what the name means, and its cells."""

    name: str
    note: str
    cells: Sequence[Cell]


class Table(NamedTuple):
    """A table of figures.

    Attributes
    ----------
    caption : str
    corner : str
        What the rows are.
    columns : sequence of str
    rows : sequence of Row
    scales : mapping of str to (float, float)
        Ends of the bars beside the figures, by column.
    folded : bool
        Whether a reader has to unfold it.
    """

    caption: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[Row]
    scales: Mapping[str, tuple[float, float]]
    folded: bool = False


Name = Callable[[Figure], str]


def pivot(
    caption: str,
    corner: str,
    figures: Iterable[Figure],
    row: Name,
    column: Name,
    *,
    bars: Collection[str] | None = (),
    notes: Mapping[str, str] | None = None,
    folded: bool = False,
) -> list[Table]:
    """Return figures as a table, rows and columns in the order in which they come; no table if there are none.

    Parameters
    ----------
    caption, corner : str
    figures : iterable of Figure
    row, column : callable
        Give the name of a figure's row and column.
    bars : collection of str, optional
        Columns with bars; None for all.
    notes : mapping of str to str, optional
        What names of rows mean.
    folded : bool
    """
    cells: dict[str, dict[str, Figure]] = {}
    columns: dict[str, list[Figure]] = {}
    for figure in figures:
        cells.setdefault(row(figure), {})[column(figure)] = figure
        columns.setdefault(column(figure), []).append(figure)
    if not cells:
        return []
    rows = [Row(name, (notes or {}).get(name, ""), [of.get(c) for c in columns]) for name, of in cells.items()]
    scales = {name: _scale(of) for name, of in columns.items() if bars is None or name in bars}
    return [Table(caption, corner, list(columns), rows, scales, folded)]


def _scale(figures: Iterable[Figure]) -> tuple[float, float]:
    ends = [end for f in figures if f.value is not None for end in (f.value, f.low, f.high) if end is not None]
    return min([0.0, *ends]), max([0.0, *ends])


def _measure(figure: Figure) -> str:
    return figure.measure


def _slice(figure: Figure) -> str:
    return figure.slice


def _at(figure: Figure) -> str:
    return figure.at


def _measure_at(figure: Figure) -> str:
    return f"{figure.measure} at {figure.at}" if figure.at else figure.measure


def _by_point(reading: Reading, figures: Sequence[Figure]) -> list[tuple[str, list[Figure]]]:
    """Return figures by operating point, the main one first."""
    points = sorted(dict.fromkeys(figure.at for figure in figures), key=lambda at: at != reading.main)
    return [(at, [figure for figure in figures if figure.at == at]) for at in points]


def _detection(reading: Reading) -> list[Table]:
    figures = reading.of("detection")
    ranking = [f for f in figures if not f.at or (f.measure == RECALL and f.hits is None)]
    at_points = [f for _, of_point in _by_point(reading, figures) for f in of_point if f not in ranking]
    return [
        *pivot("Ranking, whatever the operating points", "Measure", ranking, _measure_at, lambda _: "Value"),
        *pivot("At each operating point", "Operating point", at_points, _at, _measure, bars=(RECALL,)),
    ]


def _alerts(reading: Reading) -> list[Table]:
    recalls = {f.at: f for f in reading.of("detection", measure=RECALL) if f.value is not None}
    figures = reading.of("alerts")
    tables = []
    for at, of_point in _by_point(reading, [f for f in figures if f.measure != "precision"]):
        rates = dict.fromkeys(f.slice for f in of_point)
        of_point += [missed(rate, recalls[at]) for rate in rates if at in recalls]
        caption = f"What 10,000 threads bring at {at}, by the share of risky threads"
        tables += pivot(caption, "Risky", of_point, base_rate, _measure, folded=at != reading.main)
    capacity = (
        "Share of risky threads among so many alerts, those with the highest values, by the share of risky threads"
    )
    return [
        *tables,
        *pivot(capacity, "Risky", reading.of("alerts", measure="precision"), base_rate, _at),
    ]


def _calibration(reading: Reading) -> list[Table]:
    figures = reading.of("calibration")
    flagged = [f for f in figures if f.slice == "flagged"]
    shifted = [f for f in figures if f.slice.startswith(BASE_RATE)]
    overall = [f for f in figures if f not in flagged and f not in shifted]
    return [
        *pivot("Over all threads", "Measure", overall, _measure, lambda _: "Value"),
        *pivot("Among flagged threads", "Threshold", flagged, _at, _measure),
        *pivot("Risky threads among alerts, predicted / observed", "Risky", shifted, base_rate, _at),
    ]


def _early(reading: Reading) -> list[Table]:
    figures = [figure for figure in reading.of("early") if figure.at]
    return pivot("By operating point", "Measure", figures, _measure, _at)


def _suspects(reading: Reading) -> list[Table]:
    def column(figure: Figure) -> str:
        what = figure.measure.removeprefix("suspect named").removeprefix("flagged").strip(", ")
        return what if figure.at == "any" else f"{what} at {figure.at}"

    figures = reading.of("suspects")
    named = [figure for figure in figures if figure.measure.startswith("suspect")]
    flagged = [figure for figure in figures if figure.measure.startswith("flagged")]
    return [
        *pivot("Share of risky threads with the right suspect", "Source", named, _slice, column, bars=None),
        *pivot("Share flagged of one side of risky threads alone", "Source", flagged, _slice, column, bars=None),
    ]


def _evidence(reading: Reading) -> list[Table]:
    figures = reading.of("evidence")
    return pivot(
        "Messages marked by annotators", "Messages", figures, _measure, lambda f: f"{f.slice}, at {f.at}", bars=None
    )


def _slices(reading: Reading) -> list[Table]:
    sources = {one["source"] for one in reading.sources}
    alarms = [f for f in reading.of("slices", measure=FPR) if f.slice in {*sources, "all negatives"}]
    own, set_here = ([f for f in alarms if (f.at in reading.operating_points()) == is_own] for is_own in (True, False))
    tables = [
        *pivot("False-positive rate by source", "Source", own, _slice, _at, bars=None),
        *pivot("The same at thresholds set here", "Source", set_here, _slice, _at, bars=None, folded=True),
    ]
    for at, figures in _by_point(reading, reading.of("slices")):
        found = [f for f in figures if f.measure == RECALL and f.slice.rpartition(", ")[0] in sources]
        kinds = [f for f in figures if f not in found and f not in alarms]
        folded = at != reading.main
        tables += _by_length(f"Recall by source and length, at {at}", found, folded)
        tables += pivot(f"By kind of thread, at {at}", "Kind", kinds, _slice, _measure, bars=None, folded=folded)
    return tables


def _by_length(caption: str, figures: Sequence[Figure], folded: bool) -> list[Table]:
    """Return a table of figures whose slices are a source and a length."""

    def part(place: int) -> Name:
        return lambda figure: figure.slice.rpartition(", ")[place]

    return pivot(caption, "Source", figures, part(0), part(2), bars=None, folded=folded)


def _perturbations(reading: Reading) -> list[Table]:
    figures = reading.of("perturbations")
    lost = {f.slice: f.value or 0.0 for f in figures if f.measure == "recall lost"}
    figures.sort(key=lambda figure: -lost.get(figure.slice, 0.0))
    unchanged = [reading.one("detection", measure=measure, at=reading.main) for measure in (RECALL, FPR)]
    figures += [figure._replace(slice="none") for figure in unchanged if figure and lost]
    single = [figure for figure in figures if " + " not in figure.slice]
    pairs = [figure for figure in figures if " + " in figure.slice]
    notes = {name: describe(name) for name in PERTURBATIONS}
    shown = ("recall lost", FPR)
    return [
        *pivot("One perturbation", "Perturbation", single, _slice, _measure, bars=shown, notes=notes),
        *pivot("Random pairs, one after the other", "Perturbations", pairs, _slice, _measure, bars=shown),
    ]


def _templates(reading: Reading) -> list[Table]:
    figures = reading.of("templates")
    notes = {name: family.what for name, family in families("judging").items()} if figures else {}
    tables = []
    for measure, what in ((FPR, "ordinary talk"), (RECALL, "risk-patterned talk")):
        caption = f"Templates of {what}, which test a mechanism, not detection quality: share of threads flagged"
        of_kind = [figure for figure in figures if figure.measure == measure]
        tables += pivot(caption, "Family", of_kind, _slice, _at, bars=None, notes=notes)
    return tables


def _audits(reading: Reading) -> list[Table]:
    figures = reading.of("audits")
    prefix = f"{OTHER_SOURCES}: "
    other = [f._replace(slice=f.slice.removeprefix(prefix)) for f in figures if f.slice.startswith(prefix)]
    whole = [f for f in figures if not f.slice.startswith((prefix, RETRAINED))]

    tables = pivot(
        "Models that see one thing only", "Model", whole, _slice, _measure_at, bars=("ROC-AUC",), notes=SHORTCUTS
    )
    alarms = [figure for figure in other if figure.measure == FPR]
    tables += pivot(
        "Fitted on other sources: false-positive rate by source", "Source", alarms, _slice, _at, folded=True
    )
    for at, of_point in _by_point(reading, [figure for figure in other if figure.measure == RECALL]):
        caption = f"Fitted on other sources: recall by source and length, at {at}"
        tables += _by_length(caption, of_point, True)
    return tables + _retrained(reading)


def _retrained(reading: Reading) -> list[Table]:
    """Return what the recipe comes to without one of its sources, beside the model that had all."""

    def model(figure: Figure) -> str:
        return figure.slice.partition(": ")[0] if figure.slice.startswith(RETRAINED) else "trained on all sources"

    def threads(figure: Figure) -> str:
        return figure.slice.partition(": ")[2] if figure.slice.startswith(RETRAINED) else figure.slice

    figures = [figure for figure in reading.of("audits") if figure.slice.startswith(RETRAINED)]
    whole, parts = ([f for f in figures if bool(threads(f)) is is_part] for is_part in (False, True))
    measured = {_measure_at(figure) for figure in whole}
    full = [f for f in reading.of("detection") if _measure_at(f) in measured]
    tables = pivot("Trained once more without one source", "Model", [*full, *whole], model, _measure_at)
    for at, of_point in _by_point(reading, parts):
        wanted = {threads(figure) for figure in of_point}
        full = [f for f in reading.of("slices", measure=RECALL, at=at) if f.slice in wanted]
        caption = f"Trained once more without one source: recall at {at}"
        tables += pivot(caption, "Threads", [*full, *of_point], threads, model, bars=None)
    return tables


def _tactics(reading: Reading) -> list[Table]:
    return pivot("By tactic", "Tactic", reading.of("tactics"), _slice, _measure_at)


def _comparison(reading: Reading) -> list[Table]:
    against = str(reading.metrics.get("against"))
    mine = {_compared(f): f for section in ("detection", "alerts") for f in reading.of(section)}
    theirs = {_compared(f): f for f in reading.of("comparison", slice=against)}
    rows = []
    for figure in differences(reading):
        name = _compared(figure)
        rows.append(Row(name, "", [mine.get(name), theirs.get(name), figure, verdict(figure)]))
    columns = [reading.system, against, "Difference", "What it says"]
    return [Table("Both systems on the same threads", "Measure", columns, rows, {})] if rows else []


def _compared(figure: Figure) -> str:
    """Return what is compared: a measure, at which threshold and base rate."""
    measure, _, rate = figure.measure.partition(f", {BASE_RATE}")
    rate = figure.slice.removeprefix(BASE_RATE) if figure.section == "alerts" else rate
    at = f" at {figure.at}" if figure.at else ""
    return f"{measure}{at}, {one_in(float(rate))} risky" if rate else f"{measure}{at}"


def _data(reading: Reading) -> list[Table]:
    columns = ("threads", "risky", "persons", "messages", "clusters")
    rows = [Row(one["source"], "", [f"{one.get(name, 0):,}" for name in columns]) for one in reading.sources]
    points = [
        Row(name, "", [_threshold(threshold), "on the judged threads" if name.endswith(SET_HERE) else "before"])
        for name, threshold in reading.points.items()
    ]
    return [
        *([Table("Threads that were judged", "Source", columns, rows, {})] if rows else []),
        *([Table("Thresholds", "Operating point", ("Threshold", "Set"), points, {})] if points else []),
    ]


def _threshold(threshold: float | None) -> str:
    return "none: flags nothing" if threshold is None else f"{threshold:.6g}"


TABLES: Mapping[str, Callable[[Reading], list[Table]]] = {
    "detection": _detection,
    "alerts": _alerts,
    "calibration": _calibration,
    "early": _early,
    "suspects": _suspects,
    "evidence": _evidence,
    "tactics": _tactics,
    "slices": _slices,
    "perturbations": _perturbations,
    "templates": _templates,
    "audits": _audits,
    "comparison": _comparison,
    "data": _data,
}


def numbers_of(plot: Plot) -> Table:
    """Return the numbers of a drawing as a table."""
    x = next(iter(plot.curves.values()))["x"]
    ends = [zip(*(curve[key] for key in ("values", "low", "high")), strict=True) for curve in plot.curves.values()]
    rows = []
    for place, *of_curves in zip(x, *ends, strict=True):
        cells = [f"{value} [{low}, {high}]" for value, low, high in ([_short(end) for end in one] for one in of_curves)]
        rows.append(Row(_short(place), "", cells))
    return Table(f"Numbers of the drawing: {plot.title}", plot.x, list(plot.curves), rows, {})


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
