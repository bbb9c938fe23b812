"""A measured number with all that belongs to it: what, of which threads, in which unit, how sure, of how many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grooming_flag.evaluation.metrics import clustered_rate, rate


class Figure(NamedTuple):
    """One measured number.

    Attributes
    ----------
    section : str
        Part of the evaluation that it belongs to.
    measure : str
        What was measured: "recall", say.
    slice : str
        Of which threads: "all", a source, a length, a family.
    at : str
        Operating point, or the false-positive rate at which the threshold was set; empty where none is needed.
    unit : str
        What is counted: thread, line, author.
    value, low, high : float or None
        The number and its 95 % interval; None where it is not defined.
    n : int
        How many units it was measured on.
    hits : int or None
        Of a share: how many of the n.
    """

    section: str
    measure: str
    slice: str
    at: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    hits: int | None = None


def share(
    section: str,
    measure: str,
    slice: str,  # noqa: A002
    at: str,
    hits: Sequence[bool] | NDArray[np.bool_],
    clusters: Sequence[str] | NDArray[np.object_] | None = None,
    unit: str = "thread",
) -> Figure:
    """Return the share of hits: with its interval over clusters if they are given, else with the exact one."""
    found = rate(hits) if clusters is None else clustered_rate(hits, clusters)
    value = found.value if found.total else None
    return Figure(section, measure, slice, at, unit, value, found.low, found.high, found.total, found.hits)


def as_number(value: float) -> float | None:
    """Return a number as JSON has it: None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def as_list(values: NDArray[np.float64]) -> list[float | None]:
    """Return numbers as JSON has them."""
    return [as_number(value) for value in values]


def format_figure(figure: Figure) -> str:
    """Return value, interval and counts as text."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "none"
    digits = 4 if abs(figure.value) < 0.05 else 3
    counts = f"{figure.hits}/{figure.n}" if figure.hits is not None else f"n={figure.n}"
    return f"{figure.value:.{digits}f} [{figure.low:.{digits}f}, {figure.high:.{digits}f}] ({counts})"
