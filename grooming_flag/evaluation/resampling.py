"""Intervals by resampling whole clusters: what belongs to one person, or to connected authors, is drawn together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grooming_flag.evaluation.figures import Figure, as_number
from grooming_flag.evaluation.metrics import RESAMPLES, clopper_pearson
from grooming_flag.evaluation.pool import Pool

Floats = NDArray[np.float64]
Statistics = Callable[[Floats], Floats]
"""Weights of the threads, shape (n_threads,), to any number of figures, shape (n_figures,)."""


class Intervals(NamedTuple):
    """Figures on the data as they are, and their 95 % intervals; each of shape (n_figures,), NaN where undefined."""

    values: Floats
    low: Floats
    high: Floats


class Label(NamedTuple):
    """What a figure is (see `Figure`), for those that are computed many at once.

    `clusters` is given for shares that may be all or nothing, where resampling cannot see beyond the data: the number
    of independent clusters, of which the interval of Clopper and Pearson is then taken.
    """

    section: str
    measure: str
    slice: str
    at: str
    unit: str
    n: int
    clusters: int | None = None


def resampled(statistics: Statistics, pool: Pool, seed: int = 0) -> Intervals:
    """Return figures with the 2.5th and 97.5th percentile over 2,000 samples of whole clusters.

    Clusters are drawn with replacement (Davison and Hinkley 1997, section 3.8), those with a risky thread and those
    without each by themselves, so that every sample has about as much of both as the data. Sample number b depends on
    the seed and b alone.

    Parameters
    ----------
    statistics : callable
        Given how often each thread was drawn, returns the figures.
    pool : Pool
    seed : int
    """
    _, members = np.unique(pool.clusters, return_inverse=True)
    has_risky = np.bincount(members, weights=pool.risky) > 0
    strata = [np.flatnonzero(has_risky), np.flatnonzero(~has_risky)]
    values = statistics(np.ones(len(members)))
    samples = np.empty((RESAMPLES, len(values)))
    for b in range(RESAMPLES):
        rng = np.random.default_rng((seed, b))
        counts = np.empty(len(has_risky))
        for stratum in strata:
            counts[stratum] = np.bincount(rng.integers(0, len(stratum), len(stratum)), minlength=len(stratum))
        samples[b] = statistics(counts[members])
    low, high = np.full((2, len(values)), np.nan)
    defined = ~np.isnan(values) & ~np.isnan(samples).all(axis=0)
    if any(len(stratum) == 1 for stratum in strata):  # all samples are the same, and say nothing
        return Intervals(values, low, high)
    low[defined], high[defined] = np.nanpercentile(samples[:, defined], [2.5, 97.5], axis=0)
    return Intervals(values, low, high)


def labeled(labels: Sequence[Label], intervals: Intervals) -> list[Figure]:
    """Return the first figures of the intervals with what they are."""
    figures = []
    for label, value, low, high in zip(labels, *intervals, strict=False):
        if label.n < 2:  # one thread says nothing of others
            low = high = np.nan
        if label.clusters is not None and value in (0.0, 1.0):
            low, high = clopper_pearson(int(value) * label.clusters, label.clusters)
        figures.append(Figure(*label[:5], as_number(value), as_number(low), as_number(high), label.n))
    return figures
