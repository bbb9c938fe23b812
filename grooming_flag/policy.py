"""Operating points: named thresholds with what was measured there. Scoring knows nothing of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from grooming_flag.calibration import recalibrated, restate
from grooming_flag.errors import PolicyError


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold with a name.

    Parameters
    ----------
    name : str or None
        None for a bare threshold.
    threshold : float
        Cut on the probability, 0..1: at or above it a thread is flagged.
    measured : mapping
        What was measured at this threshold, and on what.
    """

    name: str | None
    threshold: float
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.threshold, bool) or not 0.0 <= self.threshold <= 1.0:
            raise PolicyError(f"the threshold is {self.threshold!r}; use a probability from 0 to 1")

    def restated(self, prior: float, new_prior: float) -> OperatingPoint:
        """Return the point that flags the same threads when probabilities are restated for another prior."""
        return replace(self, threshold=restate(self.threshold, prior, new_prior))

    def recalibrated(self, slope: float, offset: float) -> OperatingPoint:
        """Return the point that flags the same threads after `Calibration.recalibrated`."""
        return replace(self, threshold=recalibrated(self.threshold, slope, offset))


def resolve(at: str | float, points: Mapping[str, OperatingPoint]) -> OperatingPoint:
    """Return the operating point of that name, or the bare threshold.

    Raises
    ------
    PolicyError
        If there is no such name, or the number is no probability.
    """
    if not isinstance(at, str):
        return OperatingPoint(None, at)
    if at not in points:
        known = ", ".join(sorted(points)) or "none"
        raise PolicyError(
            f"there is no operating point {at!r}; the model has {known}; or pass a threshold, at=0.05 say"
        )
    return points[at]
