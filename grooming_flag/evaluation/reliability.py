"""Whether probabilities mean what they say: over all threads, among the flagged ones, and at other base rates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grooming_flag.calibration import restate
from grooming_flag.evaluation.answers import Answers, Floats
from grooming_flag.evaluation.detection import BASE_RATES, Curve
from grooming_flag.evaluation.figures import Figure, as_list
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.resampling import Intervals, Label, labeled, resampled

BINS = 15
AMONG_FLAGGED = ("mean probability", "share of risky threads", "mean probability minus share")
AFTER_SHIFT = "risky threads among alerts, predicted / observed"
RELIABILITY = "share of risky threads by probability, at equal shares"


def calibration_figures(pool: Pool, answers: Answers, seed: int = 0) -> tuple[list[Figure], dict[str, Curve]]:
    """Return Brier score, expected calibration error, both means among the flagged, and the reliability curve.

    Probabilities assume a prior; they are first restated for the share of risky threads in the pool, and for each base
    rate, at which threads are then weighted. Where the prior is unknown they are taken as they are. Threads without a
    probability are left out.

    - Brier score (Brier 1950): mean of ``(p - y)^2``.
    - ECE: mean over bins of equal mass of ``|mean p - share of risky threads|`` (Naeini et al. 2015; equal mass: Nguyen
      and O'Connor 2015).
    - Among the flagged: mean p and share of risky threads, whose difference is the calibration error there.
    - After a prior shift: risky threads predicted among the alerts (sum of p) over those observed.
    - The curve is for a base rate of one half, risky threads and others weighing the same, since else almost all
      threads lie at its foot.
    """
    known = np.isfinite(answers.probabilities)
    if not known.any() or not pool.risky.any() or pool.risky.all():
        return [], {}
    y = pool.risky.astype(np.float64)
    share = float(y.mean())
    p, even_p = _restated(answers, share), _restated(answers, 0.5)
    even = _reweighted(y, share, 0.5)
    bins, even_bins = _equal_mass_bins(p, known * 1.0), _equal_mass_bins(even_p, known * even)
    flags = [known & (answers.values >= threshold) for threshold in answers.points.values()]
    shifted = [(_reweighted(y, share, rate), _restated(answers, rate)) for rate in BASE_RATES]

    def statistics(weights: Floats) -> Floats:
        w = weights * known
        mass, mean_p, mean_y = _by_bin(bins, w, p, y)
        found = [_mean((p - y) ** 2, w), _mean(np.abs(mean_p - mean_y), mass)]
        for flagged in flags:
            predicted, observed = _mean(p, w * flagged), _mean(y, w * flagged)
            found += [predicted, observed, predicted - observed]
            found += [_ratio(np.sum(w * flagged * v * q), np.sum(w * flagged * v * y)) for v, q in shifted]
        return np.concatenate([found, *_by_bin(even_bins, w * even, even_p, y)[1:]])

    n = int(known.sum())
    labels = [Label("calibration", name, "all", "", "thread", n) for name in ("Brier score", "ECE")]
    for at, flagged in zip(answers.points, flags, strict=True):
        k = int(flagged.sum())
        persons = len(set(pool.clusters[flagged]))
        labels += [
            Label("calibration", name, "flagged", at, "thread", k, persons if name == AMONG_FLAGGED[1] else None)
            for name in AMONG_FLAGGED
        ]
        labels += [Label("calibration", AFTER_SHIFT, f"base rate {rate:g}", at, "thread", k) for rate in BASE_RATES]
    intervals = resampled(statistics, pool, seed)
    mean_p, values = intervals.values[len(labels) :].reshape(2, -1)
    low, high = (end[len(labels) :].reshape(2, -1)[1] for end in intervals[1:])
    curve = {"x": mean_p, "values": values, "low": low, "high": high, "n": np.bincount(even_bins, weights=known)}
    return labeled(labels, _reversed(intervals, 1)), {
        RELIABILITY: {key: as_list(array) for key, array in curve.items()}
    }


def _reversed(intervals: Intervals, i: int) -> Intervals:
    """Turn the interval of a mean of gaps over: chance only adds to it, so that samples lie above what is measured.

    The basic bootstrap interval (Davison and Hinkley 1997, section 5.2) takes away above what samples have added; it is
    cut at 0, and at the value.
    """
    value, low, high = (column[i] for column in intervals)
    ends = intervals.low.copy(), intervals.high.copy()
    ends[0][i], ends[1][i] = max(2 * value - high, 0.0), max(2 * value - low, value)
    return intervals._replace(low=ends[0], high=ends[1])


def _restated(answers: Answers, share: float) -> Floats:
    """Return the probabilities at another share of risky threads; 0 where there is none."""
    p = np.nan_to_num(answers.probabilities, nan=0.0)
    if answers.prior is None:
        return p
    return np.array([restate(one, answers.prior, share) for one in p])


def _reweighted(y: Floats, share: float, base_rate: float) -> Floats:
    """Return the weights of threads that make so many of them risky."""
    return np.where(y == 1.0, base_rate / share, (1.0 - base_rate) / (1.0 - share))


def _equal_mass_bins(p: Floats, weights: Floats) -> NDArray[np.int64]:
    """Return the bin of each thread, numbered without gaps, 0 if it has no weight; equal probabilities share one."""
    order = np.argsort(p, kind="stable")
    mass = np.cumsum(weights[order])
    ends = np.searchsorted(mass, mass[-1] * np.arange(1, BINS) / BINS * (1 - 1e-12), side="left")
    edges = np.unique(p[order][np.minimum(ends + 1, len(p) - 1)])
    bins: NDArray[np.int64] = np.zeros(len(p), dtype=np.int64)
    counted = weights > 0.0
    bins[counted] = np.unique(np.digitize(p[counted], edges), return_inverse=True)[1]
    return bins


def _by_bin(bins: NDArray[np.int64], w: Floats, p: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    mass = np.bincount(bins, weights=w).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return mass, np.bincount(bins, weights=w * p) / mass, np.bincount(bins, weights=w * y) / mass


def _mean(values: Floats, weights: Floats) -> float:
    return _ratio(float(np.sum(np.nan_to_num(values) * weights)), float(np.sum(weights)))


def _ratio(over: float, under: float) -> float:
    return over / under if under > 0.0 else float("nan")
