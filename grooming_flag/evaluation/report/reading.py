"""Look-up of what was measured, and numbers in words; shared by the page and by the summary in plain text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grooming_flag.evaluation.figures import Figure

BASE_RATE = "base rate "
SET_HERE = "(set here)"

Curve = Mapping[str, Sequence[float | None]]


class Reading:
    """The metrics of an evaluation, with names that are safe to show.

    Parameters
    ----------
    metrics : mapping
        What `grooming_flag.evaluation.protocol.evaluate` returns. Any of its keys may be missing.
    """

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        self.metrics: dict[str, Any] = _printable(metrics)
        self.figures = [_figure(row) for row in self.metrics.get("figures", ())]
        self.curves: dict[str, Curve] = self.metrics.get("curves", {})
        self.system = str(self.metrics.get("system", "unnamed"))
        self.main = str(self.metrics.get("at", ""))
        self.points: dict[str, float | None] = self.metrics.get("points", {})
        self.data: dict[str, Any] = self.metrics.get("data", {})
        self.sources: list[dict[str, Any]] = self.data.get("sources", [])

    def of(self, section: str, **wanted: str) -> list[Figure]:
        """Return the figures of a section whose fields have these values."""
        wanted["section"] = section
        return [f for f in self.figures if all(getattr(f, name) == value for name, value in wanted.items())]

    def one(self, section: str, **wanted: str) -> Figure | None:
        """Return the figure with these values, if it is defined; of several, one that counts hits."""
        found = [figure for figure in self.of(section, **wanted) if figure.value is not None]
        return max(found, key=lambda figure: figure.hits is not None, default=None)

    def operating_points(self) -> list[str]:
        """Return the main operating point, and the others that were not set on the judged threads."""
        return list(dict.fromkeys([self.main, *(name for name in self.points if not name.endswith(SET_HERE))]))


def _figure(row: Mapping[str, Any]) -> Figure:
    ends = {name: None if row[name] is None else float(row[name]) for name in ("value", "low", "high")}
    return Figure(**{**row, **ends})


def _printable(value: Any) -> Any:
    """Return it with a sign for every character that could steer a terminal, or cannot be written or seen."""
    if isinstance(value, str):
        return "".join(character if character.isprintable() else "\ufffd" for character in value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list | tuple) else value


def highest(figures: Iterable[Figure]) -> Figure | None:
    """Return the highest figure; of equals, the one that may be highest."""
    return max((f for f in figures if f.value is not None), key=lambda f: (f.value, f.high or 0.0), default=None)


def lowest(figures: Iterable[Figure]) -> Figure | None:
    """Return the lowest figure; of equals, the one that may be lowest."""
    return min((f for f in figures if f.value is not None), key=lambda f: (f.value, f.low or 0.0), default=None)


def decimals(figure: Figure) -> int:
    """Return after how many decimals to round.

    Two digits of the interval's far end, a leading 1 not counted, and of a share three decimals at least.
    """
    known = [number for number in (figure.value, figure.low, figure.high) if number is not None]
    size = max((abs(number) for number in known), default=0.0)
    if size > 2.0:
        return 0 if size >= 100 or all(number.is_integer() for number in known) else 1 if size >= 10 else 2
    return max(3, 1 - math.floor(math.log10(size / 2))) if size > 0.0 else 3


def number(value: float | None, digits: int) -> str:
    """Return a number as text: a plain 0 where it is none at all, and no minus before one that is rounded to it."""
    if value is None or not math.isfinite(value):
        return "unknown"
    if value == 0.0:
        return "0"
    text = f"{value:,.{digits}f}"
    return text if float(text.replace(",", "")) else text.lstrip("-")


def interval(figure: Figure) -> str:
    """Return both ends of the 95 % interval."""
    return "[" + ", ".join(number(end, decimals(figure)) for end in (figure.low, figure.high)) + "]"


def counts(figure: Figure) -> str:
    """Return of what the figure was measured, and how much there was."""
    unit = f"{figure.unit}s"
    return f"n={figure.n:,} {unit}" if figure.hits is None else f"{figure.hits:,}/{figure.n:,} {unit}"


def estimate(figure: Figure) -> str:
    """Return value and interval."""
    return "not defined" if figure.value is None else f"{number(figure.value, decimals(figure))} {interval(figure)}"


def in_full(figure: Figure) -> str:
    """Return value, interval and counts.

    Examples
    --------
    >>> in_full(Figure("detection", "recall", "all", "balanced", "thread", 0.8125, 0.7222, 0.8889, 468, 380))
    '0.812 [0.722, 0.889] (380/468 threads)'
    """
    return f"{estimate(figure)} ({counts(figure)})"


def one_in(rate: float) -> str:
    """Return a share as people say it.

    Examples
    --------
    >>> one_in(0.001)
    '1 in 1,000'
    """
    return f"1 in {1 / rate:,.0f}" if rate > 0.0 else "none"


def base_rate(figure: Figure) -> str:
    """Return at which share of risky threads a figure holds, as people say it."""
    return one_in(float(figure.slice.removeprefix(BASE_RATE)))


def rate_set_here(at: str) -> str | None:
    """Return the false-positive rate that a threshold was set to have on the judged threads, as people say it.

    Examples
    --------
    >>> rate_set_here("FPR 0.001 (set here)")
    '1 in 1,000'
    """
    found = re.fullmatch(r"FPR (\d+(?:\.\d+)?(?:e-\d+)?) \(set here\)", at)
    return one_in(float(found[1])) if found else None


def plural(n: int, what: str) -> str:
    """Return a count with its noun."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
