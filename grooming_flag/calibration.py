"""Score, amount of text and who drives it to probability, at the base rate of a platform."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from grooming_flag import _answers
from grooming_flag.errors import ModelError

if TYPE_CHECKING:  # kept out of the cold start
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


sigmoid: Callable[[float], float] = _answers.sigmoid


def log_odds(probability: float) -> float:
    """Return ``log(p / (1 - p))``; infinite at 0 and 1."""
    if probability <= 0.0 or probability >= 1.0:
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability) - math.log1p(-probability)


def restate(probability: float, prior: float, new_prior: float) -> float:
    """Return the probability at another prior (Elkan 2001, "The foundations of cost-sensitive learning", theorem 2)."""
    return sigmoid(log_odds(probability) - log_odds(prior) + log_odds(new_prior))


def recalibrated(probability: float, slope: float, offset: float) -> float:
    """Return the probability whose log-odds are ``slope * log-odds + offset`` (Cox 1958, Biometrika 45, 562-565)."""
    return sigmoid(slope * log_odds(probability) + offset)


class Inputs(NamedTuple):
    """What probabilities of segments are made from, shape (n_segments,) each; see `Calibration.probability`."""

    scores: NDArray[np.float64]
    amounts: NDArray[np.int64]
    leads: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling (Platt 1999) of the score, with terms for the amount of text and for who drives it.

    ``log-odds = slope * score + amount * log(1 + n) + root * sqrt(1 + n) + lead * max(d, 0) + no_lead * min(d, 0)
    + intercept + log(prior / (1 - prior))``, where ``n`` is the number of distinct weighted buckets in the segment and
    ``d`` the highest score that an author of it has in the attribution head. All but the last term are the log of a
    likelihood ratio, fitted where risky and other threads are equally frequent at every amount of text: length by
    itself says nothing.

    The score is of all text together, so it also rises with what a partner writes. `no_lead` takes that back where
    nobody writes like the side that drives: ordinary talk of young people, or the partner's side alone.

    Parameters
    ----------
    slope : float
        Above 0, so that a higher score never means a lower probability.
    amount, intercept : float
    prior : float
        Assumed share of risky threads, above 0 and below 1.
    root, lead, no_lead : float
        The last two not below 0.
    """

    slope: float = 1.0
    amount: float = 0.0
    intercept: float = 0.0
    prior: float = 0.5
    root: float = 0.0
    lead: float = 0.0
    no_lead: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.prior < 1.0:
            raise ModelError(f"the prior is {self.prior!r}; use the share of risky threads, above 0 and below 1")
        if not all(map(math.isfinite, astuple(self))):
            raise ModelError("the slope or another term of the calibration is not finite")
        if not self.slope > 0.0:
            raise ModelError(f"the slope of the calibration is {self.slope!r}; it must be above 0")
        if self.lead < 0.0 or self.no_lead < 0.0:
            raise ModelError("lead or no_lead of the calibration is below 0; who drives it must not speak against it")

    def probability(self, score: float, n: int, lead: float = 0.0) -> float:
        """Return the probability of a segment.

        Parameters
        ----------
        score : float
        n : int
            Distinct weighted buckets.
        lead : float
            Highest score that an author has in the attribution head, log-odds.
        """
        found: float = _answers.probability(score, n, lead, self.terms)
        return found

    @property
    def terms(self) -> tuple[float, ...]:
        """Slope, amount, root, lead, no_lead and intercept, and the log-odds of the prior."""
        terms = (self.slope, self.amount, self.root, self.lead, self.no_lead, self.intercept)
        return tuple(map(float, (*terms, log_odds(self.prior))))

    def with_prior(self, prior: float) -> Calibration:
        """Return the same calibration at another prior."""
        return replace(self, prior=prior)

    def recalibrated(self, slope: float, offset: float) -> Calibration:
        """Return the calibration whose log-odds are ``slope * log-odds + offset``, for the same prior.

        Parameters
        ----------
        slope : float
            Above 0.
        offset : float
        """
        return Calibration(
            slope=slope * self.slope,
            amount=slope * self.amount,
            intercept=slope * self.intercept + (slope - 1.0) * log_odds(self.prior) + offset,
            prior=self.prior,
            root=slope * self.root,
            lead=slope * self.lead,
            no_lead=slope * self.no_lead,
        )
