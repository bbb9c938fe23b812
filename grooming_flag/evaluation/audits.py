"""What a model could do on labelled threads that is blind to what is said: shortcuts, and the step to another source.

A shortcut that does much better than chance says that the data give their labels away by it, so that part of what any
system shows on these data may be no more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from grooming_flag.errors import DataError
from grooming_flag.evaluation.answers import Answers
from grooming_flag.evaluation.detection import ranking_figures, with_fpr_points
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.form import MEASURES, form
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.slices import slice_figures
from grooming_flag.evaluation.splits import components, folds, labels_of
from grooming_flag.features import FeatureExtractor
from grooming_flag.records import Thread

FOLDS = 5
OTHER_SOURCES = "other sources"
RETRAINED = "trained without "
"""How figures of a recipe are named that was trained once more without one of its sources."""
SHORTCUTS = {
    "length": ("messages", "characters"),
    "timing": ("timed", "span", "gap", "long gap", "reply"),
    "parties": ("authors", "first author's share", "second author's share"),
}

Part = tuple[NDArray[np.int64], NDArray[np.int64]]


class Audit(NamedTuple):
    """What one kind of model makes of threads that it was not fitted on.

    Attributes
    ----------
    name : str
    description : str
    scores : ndarray of float64, shape (n_threads,)
        Log-odds. Not a number for the threads of a source without which there is one class only.
    """

    name: str
    description: str
    scores: NDArray[np.float64]


class _Trial(NamedTuple):
    """A kind of model, what it sees of the threads, and how they are split."""

    name: str
    description: str
    head: ClassifierMixin
    rows: Any
    parts: list[Part]


def audit(
    threads: Sequence[Thread],
    sources: Sequence[str],
    seed: int,
    n_jobs: int = 1,
    groups: NDArray[np.int64] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Audit]:
    """Return what models that see one shortcut only make of the threads, and a text model of the sources it never saw.

    The shortcuts are fitted on other persons (five folds), the text model on all other sources. It is left out if there
    is no source that it could score.

    Parameters
    ----------
    threads : sequence of Thread, length n_threads
        Labelled.
    sources : sequence of str, length n_threads
        Where each thread is from.
    seed : int
    n_jobs : int
        Processes; no score depends on it.
    groups : ndarray of int, shape (n_threads,), optional
        What must stay in one fold; by default threads with a person or an author in common.
    progress : callable, optional
        Gets how many models are fitted, and of how many.

    Raises
    ------
    DataError
        If a thread has no label, or there would be a fold without threads of both labels.
    """
    if len(sources) != len(threads):
        raise DataError(f"there are {len(threads)} threads but {len(sources)} sources")
    labels = labels_of(threads)
    fold = folds(threads, FOLDS, seed, groups=components(threads) if groups is None else groups)
    trials = [*_shortcuts(threads, sources, fold, seed), *_other_sources(threads, sources, labels)]
    tasks = [(trial, *part) for trial in trials for part in trial.parts]
    scores = [np.full(len(threads), np.nan) for _ in trials]
    of_task = [i for i, trial in enumerate(trials) for _ in trial.parts]
    run = Parallel(n_jobs=n_jobs, return_as="generator")
    found = run(delayed(_scores)(trial.head, trial.rows, labels, train, test) for trial, train, test in tasks)
    for done, (i, (_, _, test), values) in enumerate(zip(of_task, tasks, found, strict=True), 1):
        scores[i][test] = values
        if progress:
            progress(done, len(tasks))
    return [Audit(trial.name, trial.description, values) for trial, values in zip(trials, scores, strict=True)]


def audit_figures(pool: Pool, answers: Answers, seed: int, by_source: bool) -> list[Figure]:
    """Return how well something ranks, and if wanted what it finds and falsely flags of each source and length.

    Parameters
    ----------
    pool : Pool
    answers : Answers
        Without operating points; their system names the figures.
    seed : int
    by_source : bool
        Thresholds are set on the pool to have certain false-positive rates, so that both kinds of thread are needed.
    """
    ranked = [figure for figure in ranking_figures(pool, answers, seed) if figure.section == "detection"]
    figures = [figure._replace(slice=answers.system) for figure in ranked]
    if by_source and pool.risky.any() and not pool.risky.all():
        sliced = slice_figures(pool, replace(answers, points=with_fpr_points(pool, answers)))
        figures += [figure._replace(slice=f"{answers.system}: {figure.slice}") for figure in sliced]
    return [figure._replace(section="audits") for figure in figures]


def _shortcuts(threads: Sequence[Thread], sources: Sequence[str], fold: NDArray[np.int64], seed: int) -> list[_Trial]:
    parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(FOLDS)]
    boosting = HistGradientBoostingClassifier(max_leaf_nodes=8, early_stopping=False, random_state=seed)
    measured = form(threads)
    trials = []
    for name, measures in SHORTCUTS.items():
        columns = measured[:, [MEASURES.index(measure) for measure in measures]]
        trials.append(_Trial(name, f"sees only: {', '.join(measures)}", boosting, columns, parts))
    if len(set(sources)) < 2:
        return trials
    indicators = np.stack([_is_of(name, sources) for name in sorted(set(sources))], axis=1).astype(np.float64)
    return [*trials, _Trial("source", "sees only which source it is", LogisticRegression(), indicators, parts)]


def _other_sources(threads: Sequence[Thread], sources: Sequence[str], labels: NDArray[np.int64]) -> list[_Trial]:
    left_out = [_is_of(name, sources) for name in sorted(set(sources))]
    parts = [(np.flatnonzero(~chosen), np.flatnonzero(chosen)) for chosen in left_out]
    parts = [(train, test) for train, test in parts if len(np.unique(labels[train])) == 2]
    if not parts:
        return []
    head = LogisticRegression(C=0.1, max_iter=1000)
    description = "a text model that was fitted on all sources but the one it scores"
    return [_Trial(OTHER_SOURCES, description, head, FeatureExtractor().transform(threads), parts)]


def _is_of(name: str, sources: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([source == name for source in sources])


def _scores(
    head: ClassifierMixin, rows: Any, labels: NDArray[np.int64], train: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.float64]:
    with threadpool_limits(1):  # the order of a sum decides its last bit
        fitted = clone(head).fit(rows[train], labels[train])
        scores: NDArray[np.float64] = fitted.decision_function(rows[test])
    return scores
