"""Flags at a fixed threshold: under perturbations, and on templates of ordinary and of risk-patterned talk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from grooming_flag.errors import DataError
from grooming_flag.evaluation.answers import Answers, Floats, answers_of
from grooming_flag.evaluation.figures import Figure, share
from grooming_flag.evaluation.metrics import clopper_pearson
from grooming_flag.evaluation.perturbations import PERTURBATIONS, Perturbation, perturb, random_pairs
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.resampling import Label, labeled, resampled
from grooming_flag.evaluation.templates import families, generate
from grooming_flag.model import Model
from grooming_flag.records import Thread

CHUNK = 500
PAIRS = 4
Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]


def perturbation_figures(
    model: Model,
    pool: Pool,
    answers: Answers,
    at: str,
    seed: int = 0,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> list[Figure]:
    """Return recall, recall lost, false-positive rate and flags flipped under each perturbation and some random pairs.

    The threshold is that of the operating point `at`, unchanged.
    """
    combinations = [(name,) for name in PERTURBATIONS] + random_pairs(PAIRS, seed)
    threshold = answers.points[at]
    before = answers.values >= threshold
    chunks = [pool.threads[i : i + CHUNK] for i in range(0, len(pool.threads), CHUNK)]
    run = Parallel(n_jobs=n_jobs, return_as="generator")
    jobs = (delayed(_flags)(model, chunk, combinations, threshold, seed, dict(PERTURBATIONS)) for chunk in chunks)
    after = np.concatenate(list(_counted(run(jobs), "perturbations", len(chunks), progress)), axis=1)
    lost = (before.astype(np.float64) - after)[:, pool.risky]

    def statistics(weights: Floats) -> Floats:
        of_risky = weights[pool.risky]
        found: Floats = (lost @ of_risky) / of_risky.sum()
        return found

    names = [" + ".join(combination) for combination in combinations]
    n_risky = int(pool.risky.sum())
    labels = [Label("perturbations", "recall lost", name, at, "thread", n_risky) for name in names]
    intervals = resampled(statistics, pool, seed)
    unseen = clopper_pearson(0, len(set(pool.clusters[pool.risky])))[1]  # where no flag changed, as for other shares
    unchanged = ~lost.any(axis=1)
    low, high = np.where(unchanged, -unseen, intervals.low), np.where(unchanged, unseen, intervals.high)
    figures = labeled(labels, intervals._replace(low=low, high=high))
    for name, flags in zip(names, after, strict=True):
        of_risky, clusters = flags[pool.risky], pool.clusters[pool.risky]
        figures.append(share("perturbations", "recall", name, at, of_risky, clusters))
        figures.append(share("perturbations", "false-positive rate", name, at, flags[~pool.risky]))
        figures.append(share("perturbations", "flags flipped", name, at, flags != before, pool.clusters))
    return figures


def template_figures(
    model: Model,
    points: Mapping[str, float],
    *,
    n: int = 1000,
    seed: int = 0,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> list[Figure]:
    """Return false-positive rates (or, of risk-patterned ones, recall) on threads of each family of judging templates.

    They come from seeded grammars: they show whether a mechanism works, and are no measure of detection. The exact
    interval is over draws from a grammar, not over what people write.
    """
    known = families("judging")
    run = Parallel(n_jobs=n_jobs, return_as="generator")
    jobs = (delayed(_template_values)(model, name, n, seed) for name in known)
    values = _counted(run(jobs), "templates", len(known), progress)
    return [
        figure
        for (name, family), of_family in zip(known.items(), values, strict=True)
        for figure in family_figures(name, family.label, of_family, points)
    ]


def family_figures(name: str, label: int, values: Floats, points: Mapping[str, float]) -> list[Figure]:
    """Return the share of flagged threads of one family, at each operating point."""
    measure = "recall" if label else "false-positive rate"
    return [
        share("templates", measure, name, at, values >= threshold, unit="template thread")
        for at, threshold in points.items()
    ]


def _flags(
    model: Model,
    threads: Sequence[Thread],
    combinations: Sequence[Sequence[str]],
    threshold: float,
    seed: int,
    known: Mapping[str, Perturbation],
) -> NDArray[np.bool_]:
    """Return which perturbed threads are flagged, shape (n_combinations, n_threads)."""
    PERTURBATIONS.update(known)  # another process has not registered those of the user
    flags = []
    for names in combinations:
        perturbed = [_perturbed(thread, names, seed) for thread in threads]
        flags.append(answers_of(model, perturbed).values >= threshold)
    return np.stack(flags)


def _perturbed(thread: Thread, names: Sequence[str], seed: int) -> Thread:
    try:
        return perturb(thread, names, seed)
    except Exception as error:
        what = " + ".join(names)
        problem = f"perturbation {what} failed on thread {thread.thread_id} ({type(error).__name__})"
    raise DataError(f"{problem}; try perturb() on that thread")  # the error itself may quote the thread


def _template_values(model: Model, family: str, n: int, seed: int) -> Floats:
    return answers_of(model, list(generate(family, n, seed))).values


def _counted(results: Iterable[Result], name: str, total: int, progress: Progress | None) -> Iterator[Result]:
    for done, result in enumerate(results, 1):
        if progress:
            progress(name, done, total)
        yield result
