"""Measures of detection at low false-positive rates, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

RESAMPLES = 2000


class Rate(NamedTuple):
    """A share with its 95 % interval.

    Attributes
    ----------
    hits, total : int
    low, high : float
        In 0..1.
    """

    hits: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share, 0..1; not a number if there is nothing."""
        return self.hits / self.total if self.total else float("nan")


def clopper_pearson(hits: float, total: float, level: float = 0.95) -> tuple[float, float]:
    """Return the exact binomial interval of Clopper and Pearson (1934); 0..1 if there is nothing.

    Numbers of hits and units need not be whole: those of weighted units are effective ones.
    """
    if total == 0:
        return 0.0, 1.0
    tail = (1.0 - level) / 2.0
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, total - hits + 1))
    high = 1.0 if hits == total else float(beta.ppf(1.0 - tail, hits + 1, total - hits))
    return low, high


def rate(hits: Sequence[bool] | NDArray[np.bool_]) -> Rate:
    """Return the share of independent hits, with the interval of Clopper and Pearson."""
    array = np.asarray(hits, dtype=bool)
    return Rate(int(array.sum()), len(array), *clopper_pearson(int(array.sum()), len(array)))


def weighted_rate(
    hits: Sequence[bool] | NDArray[np.bool_], weights: Sequence[float] | NDArray[np.float64], level: float = 0.95
) -> tuple[float, float, float]:
    """Return a weighted share of independent hits with its interval; not a number, 0 and 1 if there is nothing.

    The interval is that of Clopper and Pearson with ``(sum w)^2 / sum w^2`` units (Korn and Graubard 1998, Survey
    Methodology 24, 193-201), and the plain one where all weigh the same.

    Parameters
    ----------
    hits : sequence of bool, length n
    weights : sequence of float, length n
        Above 0: one over the probability of selection, say.
    level : float
    """
    h, w = np.asarray(hits, dtype=bool), np.asarray(weights, dtype=np.float64)
    if not len(w):
        return float("nan"), 0.0, 1.0
    total = float(w.sum())
    share, n = float(w[h].sum()) / total, total**2 / float(np.sum(w**2))
    return share, *clopper_pearson(share * n, n, level)


def clustered_rate(
    hits: Sequence[bool] | NDArray[np.bool_], clusters: Sequence[str] | NDArray[np.object_], seed: int = 0
) -> Rate:
    """Return the share of hits with an interval over clusters.

    The interval is the 2.5th and 97.5th percentile of the share in 2,000 samples of whole clusters, drawn with
    replacement (Davison and Hinkley 1997, section 3.8). Where all or none hit, it is that of Clopper and Pearson with
    the number of clusters, since resampling cannot see beyond the data.

    Parameters
    ----------
    hits : sequence of bool, length n
    clusters : sequence of str, length n
        The person of each, say.
    seed : int
    """
    array = np.asarray(hits, dtype=bool)
    names, members = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    n = len(names)
    if n == 1 and 0 < array.sum() < len(array):  # a single cluster says nothing of others
        return Rate(int(array.sum()), len(array), 0.0, 1.0)
    if array.all() or not array.any():
        return Rate(int(array.sum()), len(array), *clopper_pearson(n if array.any() else 0, n))
    sizes = np.bincount(members, minlength=n)
    found = np.bincount(members, weights=array, minlength=n)
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    shares = found[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return Rate(int(array.sum()), len(array), float(low), float(high))


def least_threshold(values: NDArray[np.float64], fpr: float) -> float:
    """Return the least threshold that flags at most the share `fpr` of these: just above the next value.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Of threads that are not risky, any real; minus infinity is not to be flagged.
    fpr : float
        In 0..1.
    """
    return float(np.nextafter(_highest_not_flagged(values, fpr), np.inf))


def threshold_at_fpr(probabilities: NDArray[np.float64], fpr: float) -> float:
    """Return a threshold to keep, which flags at most the share `fpr` of these: half way to the next one, if it can.

    It is 1.0 if more than the share `fpr` of these are certain.

    Parameters
    ----------
    probabilities : ndarray, shape (n,)
        Of threads that are not risky, 0..1; 0 where the model abstains.
    fpr : float
        In 0..1.
    """
    below = _highest_not_flagged(probabilities, fpr)
    above = probabilities[probabilities > below].min(initial=np.inf)
    if below == -np.inf:
        return 0.0
    if above == np.inf:
        return min(least_threshold(probabilities, fpr), 1.0)
    between = (above + below) / 2
    return float(between if between > below else above)


def _highest_not_flagged(values: NDArray[np.float64], fpr: float) -> float:
    allowed = int(fpr * len(values) * (1 + 1e-12))
    return float(np.sort(values)[::-1][allowed]) if allowed < len(values) else -np.inf


def f_beta(precision: float, recall: float, beta: float) -> float:
    """Return ``(1 + b^2) P R / (b^2 P + R)`` (van Rijsbergen 1979, chapter 7); 0 where both are 0."""
    weighted = beta**2 * precision + recall
    return (1.0 + beta**2) * precision * recall / weighted if weighted > 0.0 else 0.0
