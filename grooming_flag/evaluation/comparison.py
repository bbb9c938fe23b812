"""Two systems on the same threads, by paired resampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grooming_flag.evaluation.answers import Answers, Floats
from grooming_flag.evaluation.detection import ranking_figures, ranking_statistics
from grooming_flag.evaluation.figures import Figure, share
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.resampling import Label, labeled, resampled

OWN_POINTS = "each at its own point"


def comparison_figures(
    pool: Pool, answers: Answers, other: Answers, mains: tuple[str, str], seed: int = 0
) -> list[Figure]:
    """Return what the second system does, and the first one minus the second, both with intervals.

    Every sample of clusters is given to both systems, so that what makes a sample hard cancels out (paired bootstrap:
    Efron and Tibshirani 1993, chapter 16). A difference is one beyond chance if its interval leaves out 0. Recall is
    compared at equal false-positive rates, each system at its own threshold; and recall and false-positive rate at the
    main operating point of each, whose names are `mains`.
    """
    labels, first = ranking_statistics(pool, answers)
    _, second = ranking_statistics(pool, other)
    name = f"{answers.system} minus {other.system}"
    differences = labeled(
        [label._replace(slice=name, measure=_measure(label.measure, label.slice), clusters=None) for label in labels],
        resampled(lambda weights: first(weights) - second(weights), pool, seed),
    )
    theirs = [
        figure._replace(slice=other.system, measure=_measure(figure.measure, figure.slice))
        for figure in ranking_figures(pool, replace(other, points={}), seed)
    ]
    flags = [one.values >= one.points[main] for one, main in zip((answers, other), mains, strict=True)]
    risky, clusters = pool.risky, pool.clusters
    theirs.append(share("", "recall", other.system, OWN_POINTS, flags[1][risky], clusters[risky]))
    theirs.append(share("", "false-positive rate", other.system, OWN_POINTS, flags[1][~risky]))
    gap = flags[0].astype(np.float64) - flags[1]

    def at_own_points(weights: Floats) -> Floats:
        return np.array([np.average(gap[chosen], weights=weights[chosen]) for chosen in (risky, ~risky)])

    of_points = [
        Label("comparison", measure, name, OWN_POINTS, "thread", int(chosen.sum()))
        for measure, chosen in (("recall", risky), ("false-positive rate", ~risky))
    ]
    differences += labeled(of_points, resampled(at_own_points, pool, seed))
    return [figure._replace(section="comparison") for figure in [*theirs, *differences]]


def _measure(measure: str, where: str) -> str:
    return measure if where == "all" else f"{measure}, {where}"
