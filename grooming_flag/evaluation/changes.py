"""How much a distribution, a rate, a share or a mean changed, each with an interval of its size."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from grooming_flag.evaluation.metrics import clopper_pearson

Interval = tuple[float, float, float]
"""A value and both ends; not numbers where there is nothing to tell it from."""
UNKNOWN = (math.nan, math.nan, math.nan)


def stability_index(reference: NDArray[np.int64], window: NDArray[np.int64], level: float = 0.95) -> Interval:
    """Return the population stability index of counts in the same bins.

    It is ``PSI = sum (w - r) ln(w / r)``, where `r` and `w` are the shares of each bin (Lewis 1994, An introduction to
    credit scoring), with 0.5 added to all counts, so that there is one where a bin is empty. With n and m units
    ``PSI / (1/n + 1/m)`` has a chi-square distribution where nothing changed, of one degree of freedom less than there
    are bins (Yurdakul 2018, Statistical properties of the population stability index), and else nearly a noncentral
    one, the square root of which is nearly normal (Johnson, Kotz and Balakrishnan 1995, chapter 29). The interval is
    of the index itself: that chance adds to it, the less the more units there are, is taken off.

    Parameters
    ----------
    reference, window : ndarray of int, shape (n_bins,)
        Two bins or more.
    level : float
    """
    if not reference.any() or not window.any():
        return UNKNOWN
    r, w = ((counts + 0.5) / np.sum(counts + 0.5) for counts in (reference, window))
    index = float(np.sum((w - r) * np.log(w / r)))
    scale = 1.0 / float(reference.sum()) + 1.0 / float(window.sum())
    center = (len(r) - 2) / 2.0  # half of the degrees of freedom less one
    root = math.sqrt(max(index / scale - center, 0.0))
    z = float(norm.ppf((1.0 + level) / 2.0))
    low, high = (max(max(root + end, 0.0) ** 2 - center, 0.0) * scale for end in (-z, z))
    return index, low, max(high, index)


def ratio_of_rates(reference: tuple[int, int], window: tuple[int, int], level: float = 0.95) -> Interval:
    """Return how many times as frequent hits became.

    Given their sum, the later of two Poisson counts is binomial (Przyborowski and Wilenski 1940, Biometrika 31,
    313-323), and the interval of Clopper and Pearson becomes that of the ratio: exact for rare hits, too wide for
    frequent ones.

    Parameters
    ----------
    reference, window : tuple of int
        Hits, and units that may have been hit.
    level : float
    """
    (hits, n), (new_hits, new_n) = reference, window
    if not hits and not new_hits:
        return math.nan, 0.0, math.inf
    value = new_hits * n / (hits * new_n) if hits else math.inf
    low, high = clopper_pearson(new_hits, hits + new_hits, level)
    least, most = (end / (1.0 - end) * n / new_n if end < 1.0 else math.inf for end in (low, high))
    return value, least, most


def difference_of_shares(reference: Interval, window: Interval) -> Interval:
    """Return how much a share grew, given both with their intervals.

    ``d - sqrt((w - w_low)^2 + (r_high - r)^2)`` and ``d + sqrt((w_high - w)^2 + (r - r_low)^2)`` are its ends (Newcombe
    1998, Statistics in Medicine 17, 873-890; with any intervals: Zou and Donner 2008, Statistics in Medicine 27,
    1693-1702).
    """
    (r, r_low, r_high), (w, w_low, w_high) = reference, window
    difference = w - r
    return difference, difference - math.hypot(w - w_low, r_high - r), difference + math.hypot(w_high - w, r - r_low)


def difference_of_means(reference: NDArray[np.float64], window: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Return how much a mean grew (Welch 1947, Biometrika 34, 28-35); unknown where a side has fewer than two."""
    if min(len(reference), len(window)) < 2:
        return UNKNOWN
    squares = np.array([one.var(ddof=1) / len(one) for one in (reference, window)])
    difference, variance = float(window.mean() - reference.mean()), float(squares.sum())
    if variance == 0.0:
        return difference, difference, difference
    freedom = variance**2 / float(np.sum(squares**2 / [len(reference) - 1, len(window) - 1]))
    half = float(t.ppf((1.0 + level) / 2.0, freedom)) * math.sqrt(variance)
    return difference, difference - half, difference + half
