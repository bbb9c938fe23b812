"""Two systems on the same threads, by paired resampling."""

from __future__ import annotations

from dataclasses import replace

from grooming_flag.evaluation.answers import Answers
from grooming_flag.evaluation.detection import ranking_figures, ranking_statistics
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.resampling import labeled, resampled


def comparison_figures(pool: Pool, answers: Answers, other: Answers, seed: int = 0) -> list[Figure]:
    """Return what the second system does, and the first one minus the second, both with intervals.

    Every sample of clusters is given to both systems, so that what makes a sample hard cancels out (paired bootstrap:
    Efron and Tibshirani 1993, chapter 16). A difference is one beyond chance if its interval leaves out 0. Recall is
    compared at equal false-positive rates, each system at its own threshold.
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
    return [figure._replace(section="comparison") for figure in [*theirs, *differences]]


def _measure(measure: str, where: str) -> str:
    return measure if where == "all" else f"{measure}, {where}"
