"""Fit the maps from scores to probabilities, on threads that the model was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from grooming_flag.calibration import Calibration
from grooming_flag.errors import DataError
from grooming_flag.features import pack_by_author
from grooming_flag.model import Model
from grooming_flag.records import Thread
from grooming_flag.training.samples import lengths_of_all_kinds, suspects_against_partners

BINS = 8


def fit_calibration(amounts: NDArray[np.int64], scores: NDArray[np.float64], risky: NDArray[np.bool_]) -> Calibration:
    """Fit a calibration at prior 1/2 in which the amount of text by itself says nothing.

    Samples are weighted so that at every amount of text (by octiles of the risky ones) risky and other ones weigh the
    same. What is learnt is how much a score means given so much text, not that risky threads of a corpus are long.

    Parameters
    ----------
    amounts, scores : ndarray, shape (n_samples,)
        Distinct weighted buckets and log-odds.
    risky : ndarray of bool, shape (n_samples,)
    """
    edges = np.quantile(amounts[risky], np.linspace(0.0, 1.0, BINS + 1)[1:-1])
    cells = 2 * np.digitize(amounts, edges) + risky
    counts = np.bincount(cells, minlength=2 * BINS)
    weights = 1.0 / counts[cells]
    weights[(counts.reshape(BINS, 2).min(axis=1) == 0)[cells // 2]] = 0.0  # nothing to compare with
    if not weights.any():
        raise DataError("risky threads and others have no amount of text in common to calibrate on; add threads")
    columns = np.column_stack([scores, np.log1p(amounts)])
    center, spread = columns.mean(axis=0), columns.std(axis=0)
    spread[spread == 0.0] = 1.0
    fitted = LogisticRegression(C=10.0, max_iter=1000).fit(
        (columns - center) / spread, risky, sample_weight=weights * len(weights) / weights.sum()
    )
    slope, amount = fitted.coef_[0] / spread
    if slope <= 0.0:
        raise DataError("scores do not rise with risk on the calibration data: too little of it, or wrong labels?")
    intercept = fitted.intercept_[0] - slope * center[0] - amount * center[1]
    return Calibration(float(slope), float(amount), float(intercept))


def fit_attribution_scale(differences: NDArray[np.float64]) -> float:
    """Fit the factor that makes suspect-minus-partner scores log-odds; 1.0 where there is nothing to fit."""
    if len(differences) < 2 or not differences.any():
        return 1.0
    columns = np.concatenate([differences, -differences])[:, None]
    signs = np.repeat([1, -1], len(differences))
    scale = float(LogisticRegression(C=10.0, fit_intercept=False).fit(columns, signs).coef_[0, 0])
    return scale if scale > 0.0 else 1.0


def calibrate(model: Model, threads: Sequence[Thread], seed: int) -> Model:
    """Return the model with its probabilities calibrated on labelled threads that it has not seen.

    Parameters
    ----------
    model : Model
        Its prior is kept.
    threads : sequence of Thread
        With labels, and suspects where known.
    seed : int
    """
    risky = np.array([thread.label == 1 for thread in threads])
    runs = lengths_of_all_kinds(threads, risky, model.segment_rule, np.random.default_rng(seed))
    amounts, scores = model.amounts_and_scores(runs.messages)
    with threadpool_limits(1):  # the order of a sum decides its last bit
        calibration = fit_calibration(amounts, scores, risky[runs.threads])
    known = [i for i, source in enumerate(runs.threads) if risky[source] and threads[source].suspects]
    packed = pack_by_author(runs.messages[i] for i in known)
    own, other, _ = suspects_against_partners(packed, [threads[runs.threads[i]].suspects for i in known])
    sums = model.own_scores(packed)
    return model.replace(
        calibration=calibration.with_prior(model.calibration.prior),
        attribution_scale=fit_attribution_scale(sums[own] - sums[other]),
    )
