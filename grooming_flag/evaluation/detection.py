"""How well a system ranks: areas, recall at low false-positive rates, and what that is worth at a base rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from grooming_flag.evaluation.answers import Answers, Floats
from grooming_flag.evaluation.figures import Figure, as_list, share
from grooming_flag.evaluation.metrics import f_beta, least_threshold
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.resampling import Intervals, Label, Statistics, labeled, resampled

Number = TypeVar("Number", float, Floats)
FPRS = (1e-2, 1e-3, 1e-4)
BASE_RATES = (1e-2, 1e-3, 1e-4)
CAPACITIES = (10, 100)
"""Alerts per 10,000 threads that a team can look at."""

FPR_GRID = np.concatenate([[0.0], np.logspace(-4, 0, 49)])
RECALL_GRID = np.linspace(0.02, 1.0, 50)
ALERT_GRID = np.logspace(-1, 3, 33)


class Counts(NamedTuple):
    """Shares of risky and of other threads at or above each distinct value, from the highest on."""

    recall: Floats
    fpr: Floats
    precision: Floats


class Ranking:
    """Threads in order of value, ready to be counted under any weights.

    Parameters
    ----------
    values : ndarray, shape (n_threads,)
        Minus infinity is never flagged.
    risky : ndarray of bool, shape (n_threads,)
    """

    def __init__(self, values: Floats, risky: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-values, kind="stable")
        ordered = values[self._order]
        self._risky = risky[self._order]
        self._ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True) & np.isfinite(ordered))

    def counts(self, weights: Floats) -> Counts:
        """Return the shares of threads that thresholds flag, each thread counted `weights` times."""
        ordered = weights[self._order]
        risky, all_ = np.cumsum(ordered * self._risky), np.cumsum(ordered)
        tp, flagged = risky[self._ends], all_[self._ends]
        with np.errstate(invalid="ignore", divide="ignore"):
            return Counts(tp / risky[-1], (flagged - tp) / (all_[-1] - risky[-1]), tp / flagged)


def roc_auc(counts: Counts) -> float:
    """Return the area under the ROC curve, by trapezoids (Fawcett 2006, algorithm 2); the never flagged are a tie."""
    recall, fpr = np.r_[0.0, counts.recall, 1.0], np.r_[0.0, counts.fpr, 1.0]
    return float(np.sum(np.diff(fpr) * (recall[1:] + recall[:-1])) / 2)


def pr_auc(counts: Counts) -> float:
    """Return average precision: the mean of precision over the steps of recall, without interpolation.

    What is never flagged adds nothing. (Davis and Goadrich 2006 say why not to interpolate.)
    """
    return float(np.sum(np.diff(counts.recall, prepend=0.0) * np.nan_to_num(counts.precision)))


def recall_at_fpr(counts: Counts, fpr: Floats) -> Floats:
    """Return the recall of the least threshold whose false-positive rate is at most `fpr`, for each of those."""
    if np.isnan(counts.fpr).any():  # there is nobody to be falsely flagged
        return np.full(len(fpr), np.nan)
    return np.append(0.0, counts.recall)[np.searchsorted(counts.fpr, fpr * (1 + 1e-12), side="right")]


def precision_at_recall(counts: Counts, recall: Floats) -> Floats:
    """Return the precision of the highest threshold whose recall is at least `recall`; NaN where none reaches it."""
    return np.append(counts.precision, np.nan)[np.searchsorted(counts.recall, recall * (1 - 1e-12))]


def precision_at_alerts(counts: Counts, base_rate: float, per_10k: Floats) -> Floats:
    """Return the precision if so many of 10,000 threads are looked at, where `base_rate` of them are risky.

    By Bayes: ``base_rate * recall / (base_rate * recall + (1 - base_rate) * fpr)``, at the least threshold that flags
    no more than that. Between two thresholds, or where the highest one flags more, a share of its alerts is looked at.
    """
    true = np.append(0.0, base_rate * counts.recall) * 1e4
    alerts = true + np.append(0.0, (1.0 - base_rate) * counts.fpr) * 1e4
    cases = np.interp(per_10k, alerts, true)
    if alerts[-1] == 0.0:
        return np.full(len(per_10k), np.nan)
    precision: Floats = cases / np.minimum(per_10k, alerts[-1])
    return precision


def with_fpr_points(pool: Pool, answers: Answers) -> dict[str, float]:
    """Return the operating points, and the thresholds of the false-positive rates that these threads can show."""
    benign = answers.values[~pool.risky]
    set_here = {fpr_point(fpr): least_threshold(benign, fpr) for fpr in FPRS if is_measurable(pool, fpr)}
    return {**answers.points, **set_here}


def is_measurable(pool: Pool, fpr: float) -> bool:
    """Tell whether the rate allows for one false alarm at least; else what is measured is another, lower rate."""
    return fpr * int((~pool.risky).sum()) * (1 + 1e-12) >= 1.0


def fpr_point(fpr: float) -> str:
    """Return the name of the threshold that was set on the judged threads to have a false-positive rate."""
    return f"FPR {fpr:g} (set here)"


def ranking_statistics(pool: Pool, answers: Answers) -> tuple[list[Label], Statistics]:
    """Return areas, recall at false-positive rates, and precision at capacities and base rates."""
    ranking = Ranking(answers.values, pool.risky)
    n, n_risky = len(pool.threads), int(pool.risky.sum())
    persons = len(set(pool.clusters[pool.risky]))
    labels = [
        Label("detection", "ROC-AUC", "all", "", "thread", n),
        Label("detection", "PR-AUC", "all", "", "thread", n),
        *(Label("detection", "recall", "all", fpr_point(fpr), "thread", n_risky, persons) for fpr in FPRS),
        *(
            Label("alerts", "precision", f"base rate {rate:g}", f"{capacity} alerts per 10,000", "thread", n)
            for rate in BASE_RATES
            for capacity in CAPACITIES
        ),
    ]

    measurable = [is_measurable(pool, fpr) for fpr in FPRS]

    def statistics(weights: Floats) -> Floats:
        counts = ranking.counts(weights)
        if np.isnan(counts.recall).any() or np.isnan(counts.fpr).any():  # there is one kind of thread only
            return np.full(len(labels), np.nan)
        found = [precision_at_alerts(counts, rate, np.array(CAPACITIES, dtype=np.float64)) for rate in BASE_RATES]
        recalls = np.where(measurable, recall_at_fpr(counts, np.array(FPRS)), np.nan)
        return np.concatenate([[roc_auc(counts), pr_auc(counts)], recalls, *found])

    return labels, statistics


def ranking_figures(pool: Pool, answers: Answers, seed: int = 0) -> list[Figure]:
    """Return what `ranking_statistics` says, with intervals."""
    labels, statistics = ranking_statistics(pool, answers)
    intervals = resampled(statistics, pool, seed)
    doubtful = _doubtful(pool, answers)
    least = [least_precision(doubtful, rate, np.array(CAPACITIES, dtype=np.float64)) for rate in BASE_RATES]
    figures = labeled(labels, _lowered(intervals, np.concatenate(least)))
    return [figure for figure in figures if figure.at not in answers.points]  # which `point_figures` measures


def _doubtful(pool: Pool, answers: Answers) -> Counts:
    """Return the counts with as many false alarms as the exact interval allows.

    Resampling cannot see beyond the false alarms that there were, which are few or none where it matters.
    """
    counts = Ranking(answers.values, pool.risky).counts(np.ones(len(pool.threads)))
    n, share_risky = int((~pool.risky).sum()), float(pool.risky.mean())
    hits = np.round(np.nan_to_num(counts.fpr) * n)
    fpr = np.where(hits < n, beta.ppf(0.975, hits + 1, np.maximum(n - hits, 1)), 1.0)  # of Clopper and Pearson
    return Counts(counts.recall, fpr, _at_base_rate(counts.recall, fpr, share_risky)[1] / 100.0)


def least_precision(doubtful: Counts, base_rate: float, per_10k: Floats) -> Floats:
    """Return the precision, if so many of 10,000 threads are looked at, of the best threshold in doubt.

    That is one that makes fewer alerts than are looked at, or one that makes more, of which a share is looked at.
    """
    if not len(doubtful.fpr):
        return np.full(len(per_10k), np.nan)
    alerts, found = _at_base_rate(doubtful.recall, doubtful.fpr, base_rate)
    return np.array([np.max(found * np.minimum(1.0, alerts / min(k, alerts[-1]))) / 100.0 for k in per_10k])


def _lowered(intervals: Intervals, least: Floats) -> Intervals:
    """Let the lower ends of the last figures be no higher than these."""
    least = np.concatenate([np.full(len(intervals.low) - len(least), np.inf), np.nan_to_num(least, nan=np.inf)])
    return intervals._replace(low=np.minimum(intervals.low, least))


def point_figures(pool: Pool, answers: Answers, seed: int = 0) -> list[Figure]:
    """Return precision, F and false alarms at each operating point, and what they are worth at each base rate."""
    risky = pool.risky
    figures: list[Figure] = []
    masks = [answers.values >= threshold for threshold in answers.points.values()]

    def statistics(weights: Floats) -> Floats:
        n_risky, n_benign = weights[risky].sum(), weights[~risky].sum()
        found = []
        for flagged in masks:
            tp, fp = weights[flagged & risky].sum(), weights[flagged & ~risky].sum()
            precision = tp / (tp + fp) if tp + fp else np.nan
            recall, fpr = tp / n_risky if n_risky else np.nan, fp / n_benign if n_benign else np.nan
            found += [precision, f_beta(precision, recall, 1.0), f_beta(precision, recall, 0.5)]
            found += [value for base_rate in BASE_RATES for value in _at_base_rate(recall, fpr, base_rate)]
        return np.array(found)

    labels = []
    for at, flagged in zip(answers.points, masks, strict=True):
        labels.append(Label("detection", "precision", "all", at, "thread", int(flagged.sum())))
        labels += [Label("detection", name, "all", at, "thread", len(risky)) for name in ("F1", "F0.5")]
        for base_rate in BASE_RATES:
            where = (f"base rate {base_rate:g}", at)
            labels.append(Label("alerts", "alerts per 10,000 threads", *where, "thread", len(risky)))
            labels.append(Label("alerts", "risky threads found per 100 reviews", *where, "thread", len(risky)))
    measured = labeled(labels, resampled(statistics, pool, seed))
    width = len(labels) // max(len(masks), 1)
    for i, (at, flagged) in enumerate(zip(answers.points, masks, strict=True)):
        recall = share("detection", "recall", "all", at, flagged[risky], pool.clusters[risky])
        alarms = share("detection", "false-positive rate", "all", at, flagged[~risky])
        _widen(measured, i * width, recall, alarms, float(risky.mean()))
        figures += [recall, alarms]
    return figures + measured


def _widen(measured: list[Figure], start: int, recall: Figure, fpr: Figure, share_risky: float) -> None:
    """Let precision, and figures at base rates, allow for as many false alarms as the exact interval does."""
    worst = [_at_base_rate(recall.value or 0.0, fpr.high or 0.0, rate) for rate in (share_risky, *BASE_RATES)]
    _lower(measured, start, worst[0][1] / 100.0)
    for i, (alerts, found) in enumerate(worst[1:]):
        one = start + 3 + 2 * i
        high = measured[one].high
        if high is not None:
            measured[one] = measured[one]._replace(high=max(high, float(alerts)))
        _lower(measured, one + 1, found)


def _lower(measured: list[Figure], i: int, end: float) -> None:
    low = measured[i].low
    if low is not None:
        measured[i] = measured[i]._replace(low=min(low, float(end)))


def _at_base_rate(recall: Number, fpr: Number, base_rate: float) -> tuple[Number, Number]:
    """Return alerts per 10,000 threads and risky threads per 100 alerts, by Bayes."""
    alerts = base_rate * recall + (1.0 - base_rate) * fpr
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1e4 * alerts, 100.0 * np.divide(base_rate * recall, alerts)


Curve = Mapping[str, Any]
"""Places on an axis (`x`), the values there, and both ends of their 95 % intervals."""


def curves(pool: Pool, answers: Answers, seed: int = 0) -> dict[str, Curve]:
    """Return recall against false-positive rate, precision against recall, and the workload at each base rate."""
    ranking = Ranking(answers.values, pool.risky)
    grids = {"recall by false-positive rate": FPR_GRID, "precision by recall": RECALL_GRID}
    grids |= {f"risky threads per 100 reviews by alerts per 10,000, base rate {r:g}": ALERT_GRID for r in BASE_RATES}

    def statistics(weights: Floats) -> Floats:
        counts = ranking.counts(weights)
        workload = [100.0 * precision_at_alerts(counts, base_rate, ALERT_GRID) for base_rate in BASE_RATES]
        return np.concatenate([recall_at_fpr(counts, FPR_GRID), precision_at_recall(counts, RECALL_GRID), *workload])

    doubtful = _doubtful(pool, answers)
    least = [100.0 * least_precision(doubtful, base_rate, ALERT_GRID) for base_rate in BASE_RATES]
    least.insert(0, precision_at_recall(doubtful, RECALL_GRID))
    return split_curves(grids, _lowered(resampled(statistics, pool, seed), np.concatenate(least)))


def split_curves(grids: Mapping[str, Floats], intervals: Intervals) -> dict[str, Curve]:
    """Return the curve over each grid, from figures that lie end to end."""
    found: dict[str, Curve] = {}
    start = 0
    for name, grid in grids.items():
        cut = slice(start, start + len(grid))
        ends = {key: as_list(array[cut]) for key, array in intervals._asdict().items()}
        found[name] = {"x": as_list(grid), **ends}
        start += len(grid)
    return found
