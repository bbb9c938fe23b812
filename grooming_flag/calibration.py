"""Score and amount of text to probability, at the base rate of a platform."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from grooming_flag.errors import ModelError


def log_odds(probability: float) -> float:
    """Return ``log(p / (1 - p))``; infinite at 0 and 1."""
    if probability <= 0.0 or probability >= 1.0:
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability) - math.log1p(-probability)


def sigmoid(x: float) -> float:
    """Return ``1 / (1 + exp(-x))``, in 0..1, without overflow."""
    if x < 0.0:
        return math.exp(x) / (1.0 + math.exp(x))
    return 1.0 / (1.0 + math.exp(-x))


def restate(probability: float, prior: float, new_prior: float) -> float:
    """Return the probability at another prior (Elkan 2001, "The foundations of cost-sensitive learning", theorem 2)."""
    return sigmoid(log_odds(probability) - log_odds(prior) + log_odds(new_prior))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling (Platt 1999) of the score, with a term for the amount of text and a prior of its own.

    ``log-odds = slope * score + amount * log(1 + n) + intercept + log(prior / (1 - prior))``, where ``n`` is the number
    of distinct weighted buckets in the segment. The first three terms are the log of a likelihood ratio, fitted where
    risky and other threads are equally frequent at every amount of text: length by itself says nothing.

    Parameters
    ----------
    slope : float
        Above 0, so that a higher score never means a lower probability.
    amount, intercept : float
    prior : float
        Assumed share of risky threads, above 0 and below 1.
    """

    slope: float = 1.0
    amount: float = 0.0
    intercept: float = 0.0
    prior: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.prior < 1.0:
            raise ModelError(f"the prior is {self.prior!r}; use the share of risky threads, above 0 and below 1")
        if not all(map(math.isfinite, (self.slope, self.amount, self.intercept))):
            raise ModelError("the slope or another term of the calibration is not finite")
        if not self.slope > 0.0:
            raise ModelError(f"the slope of the calibration is {self.slope!r}; it must be above 0")

    def probability(self, score: float, n: int) -> float:
        """Return the probability of a segment with this score and `n` distinct weighted buckets."""
        return sigmoid(self.slope * score + self.amount * math.log1p(n) + self.intercept + log_odds(self.prior))

    def with_prior(self, prior: float) -> Calibration:
        """Return the same calibration at another prior."""
        return replace(self, prior=prior)
