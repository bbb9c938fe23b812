"""Fit the maps from scores to probabilities, on threads that the model was not trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from grooming_flag.calibration import Calibration, Inputs
from grooming_flag.errors import DataError
from grooming_flag.evaluation.slices import sides_of
from grooming_flag.features import pack_by_author
from grooming_flag.model import Model
from grooming_flag.records import Thread
from grooming_flag.training.samples import Run, runs_of_all_kinds, suspects_against_partners

BINS = 8
WEIGHT_OF_SIDE = 0.2
"""Of one side of a risky thread alone, where a risky thread has 1."""


class Unseen(NamedTuple):
    """Labelled threads, and a model that was not trained on them."""

    model: Model
    threads: Sequence[Thread]
    risky: NDArray[np.bool_]


def fit_calibration(inputs: Inputs, risky: NDArray[np.bool_], is_side: NDArray[np.bool_]) -> Calibration:
    """Fit a calibration at prior 1/2 in which the amount of text by itself says nothing.

    Samples are weighted so that at every amount of text (by octiles of the risky ones) risky and other ones weigh the
    same. What is learnt is how much a score means given so much text, not that risky threads of a corpus are long.

    Parameters
    ----------
    inputs : Inputs, of length n_samples
    risky, is_side : ndarray of bool, shape (n_samples,)
        Of what is one side of a risky thread alone, the suspects' counts as risky and the partners' does not.
    """
    whole = ~is_side
    amounts = inputs.amounts
    edges = np.quantile(amounts[whole & risky], np.linspace(0.0, 1.0, BINS + 1)[1:-1])
    cells = 2 * np.digitize(amounts, edges) + risky
    counts = np.bincount(cells[whole], minlength=2 * BINS)
    weights = 1.0 / np.maximum(counts, 1)[cells]
    weights[(counts.reshape(BINS, 2).min(axis=1) == 0)[cells // 2]] = 0.0  # nothing to compare with
    if not weights[whole].any():
        raise DataError("risky threads and others have no amount of text in common to calibrate on; add threads")
    weights[is_side] = WEIGHT_OF_SIDE * weights[whole & risky].mean()
    leads = inputs.leads
    terms = [
        inputs.scores,
        np.log1p(amounts),
        np.sqrt(1.0 + amounts),
        np.maximum(leads, 0.0),
        np.minimum(leads, 0.0),
    ]
    center, spread = np.mean(terms, axis=1), np.std(terms, axis=1)
    spread[spread < 1e-9] = 1.0  # of what is the same everywhere, but for the last bits of a mean
    columns = (np.column_stack(terms) - center) / spread

    def fitted(used: list[int]) -> tuple[NDArray[np.float64], float]:
        head = LogisticRegression(C=10.0, max_iter=1000)
        head.fit(columns[:, used], risky, sample_weight=weights * len(weights) / weights.sum())
        found = np.zeros(len(terms))
        found[used] = head.coef_[0] / spread[used]
        return found, float(head.intercept_[0] - found @ center)

    used = [0, 1, 2, 3, 4]
    coef, intercept = fitted(used)
    while coef[3:].min() < 0.0 or (coef[0] <= 0.0 and coef[3:].any()):  # too few threads to learn who leads
        used = [term for term in used if term < 3 or (coef[0] > 0.0 and coef[term] > 0.0)]
        coef, intercept = fitted(used)
    if coef[0] <= 0.0:
        raise DataError("scores do not rise with risk on the calibration data: too little of it, or wrong labels?")
    slope, amount, root, lead, no_lead = coef.tolist()
    return Calibration(slope, amount, intercept, root=root, lead=lead, no_lead=no_lead)


def fit_attribution_scale(differences: NDArray[np.float64]) -> float:
    """Fit the factor that makes suspect-minus-partner scores log-odds; 1.0 where there is nothing to fit."""
    if len(differences) < 2 or not differences.any():
        return 1.0
    columns = np.concatenate([differences, -differences])[:, None]
    signs = np.repeat([1, -1], len(differences))
    scale = float(LogisticRegression(C=10.0, fit_intercept=False).fit(columns, signs).coef_[0, 0])
    return scale if scale > 0.0 else 1.0


def calibrate(model: Model, unseen: Sequence[Unseen], seed: int) -> Model:
    """Return the model with its probabilities calibrated.

    Parameters
    ----------
    model : Model
        Its prior is kept.
    unseen : sequence of Unseen
        The model itself on threads that it has not seen, or models of folds.
    seed : int
    """
    rng = random.Random(seed)
    inputs, risky, is_side, differences = [], [], [], []
    for judge, threads, labels in unseen:
        judge = judge.replace(attribution_scale=1.0)
        runs, sources = runs_of_all_kinds(threads, labels, judge.segment_rule, rng)
        sides, of_suspects = _sides_alone([thread for thread, label in zip(threads, labels, strict=True) if label])
        inputs.append(judge.calibration_inputs([*runs, *sides]))
        risky.append(np.concatenate([labels[sources], of_suspects]))
        is_side.append(np.repeat([False, True], [len(runs), len(sides)]))
        known = [i for i, source in enumerate(sources) if labels[source] and threads[source].suspects]
        packed = pack_by_author(runs[i] for i in known)
        own, other, _ = suspects_against_partners(packed, [threads[sources[i]].suspects for i in known])
        sums = judge.own_scores(packed)
        differences.append(sums[own] - sums[other])
    with threadpool_limits(1):  # the order of a sum decides its last bit
        scale = fit_attribution_scale(np.concatenate(differences))
        scores, amounts, leads = (np.concatenate(column) for column in zip(*inputs, strict=True))
        fitted = fit_calibration(Inputs(scores, amounts, leads * scale), np.concatenate(risky), np.concatenate(is_side))
    return model.replace(calibration=replace(fitted, prior=model.calibration.prior), attribution_scale=scale)


def _sides_alone(threads: Sequence[Thread]) -> tuple[list[Run], NDArray[np.bool_]]:
    """Return the suspects' and the other side of threads that have both, and which are the suspects'."""
    sides: list[Run] = [side for both in map(sides_of, threads) if all(both) for side in both]
    return sides, np.arange(len(sides)) % 2 == 0
