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


def clopper_pearson(hits: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact binomial interval of Clopper and Pearson (1934); 0..1 if there is nothing."""
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


def clustered_rate(hits: Sequence[bool] | NDArray[np.bool_], clusters: Sequence[str], seed: int = 0) -> Rate:
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
    if array.all() or not array.any():
        return Rate(int(array.sum()), len(array), *clopper_pearson(n if array.any() else 0, n))
    sizes = np.bincount(members, minlength=n)
    found = np.bincount(members, weights=array, minlength=n)
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    shares = found[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return Rate(int(array.sum()), len(array), float(low), float(high))


def threshold_at_fpr(probabilities: NDArray[np.float64], fpr: float) -> float:
    """Return the least threshold that flags at most the share `fpr` of these; 1.0 if more than that are certain.

    Parameters
    ----------
    probabilities : ndarray, shape (n,)
        Of threads that are not risky, 0..1; 0 where the model abstains.
    fpr : float
        In 0..1.
    """
    ordered = np.sort(probabilities)[::-1]
    allowed = int(fpr * len(ordered))
    if allowed >= len(ordered):
        return 0.0
    highest_not_flagged = ordered[allowed]
    above = ordered[:allowed][ordered[:allowed] > highest_not_flagged]
    between = (above.min() + highest_not_flagged) / 2 if len(above) else np.nextafter(highest_not_flagged, 2.0)
    return float(min(between, 1.0)) if between > highest_not_flagged else float(above.min())
