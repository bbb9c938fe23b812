"""The changes of a window as a drawing: each beside what is tolerated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from grooming_flag.evaluation.report.plots import DASHES, INK, LINE, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FURTHEST = 4.0
"""Multiples of the tolerance beyond which changes are drawn at the edge."""


def drift_plot(found: Mapping[str, Any]) -> str:
    """Return as SVG how much each quantity changed, in multiples of its tolerance, with intervals.

    Parameters
    ----------
    found : mapping
        What `grooming_flag.evaluation.drift.drift` returns.
    """
    rows = [one for one in found["changes"] if one["low"] is not None]

    def draw(axes: Axes) -> None:
        axes.axvspan(-1, 1, color=LINE, alpha=0.25, linewidth=0)
        axes.axvline(0, color=LINE, linestyle=DASHES[1], linewidth=1)
        for place, row in enumerate(reversed(rows)):
            ends = [_in_tolerances(row, row[end]) for end in ("low", "high")]
            axes.plot(ends, [place, place], color=INK, clip_on=False)
            if row["change"] is not None:
                mark = "D" if row["alarm"] else "o"
                axes.plot(_in_tolerances(row, row["change"]), place, marker=mark, color=INK, clip_on=False)
        axes.set_yticks(range(len(rows)), [_named(row) for row in reversed(rows)])
        axes.set(xlim=(-FURTHEST, FURTHEST), ylim=(-0.6, len(rows) - 0.4))
        axes.set_xlabel("change, in multiples of what is tolerated")

    return drawn(draw)


def _in_tolerances(row: Mapping[str, Any], end: float | None) -> float:
    if end is None:  # without a bound
        return FURTHEST
    if row["measure"] == "ratio":
        scaled = math.log(end) / math.log(row["tolerance"]) if end > 0.0 else -FURTHEST
    else:
        scaled = end / row["tolerance"]
    return max(-FURTHEST, min(scaled, FURTHEST))


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['quantity']}\nALARM" if row["alarm"] else str(row["quantity"])
