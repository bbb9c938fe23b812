"""Operating points chosen on labelled threads."""

from __future__ import annotations

import numpy as np

from grooming_flag.evaluation.answers import Answers
from grooming_flag.evaluation.metrics import rate, threshold_at_fpr
from grooming_flag.evaluation.pool import Pool
from grooming_flag.policy import OperatingPoint

FPR_OF_POINT = {"balanced": 1e-3, "sensitive": 1e-2}


def choose_operating_points(pool: Pool, answers: Answers, on: str) -> dict[str, OperatingPoint]:
    """Return an operating point for each target false-positive rate, with what it does on these threads.

    Parameters
    ----------
    pool : Pool
    answers : Answers
        Of a system that gives probabilities.
    on : str
        Name of the data, for the record.
    """
    probabilities = np.nan_to_num(answers.probabilities, nan=0.0)
    benign, risky = probabilities[~pool.risky], probabilities[pool.risky]
    points = {}
    for name, fpr in FPR_OF_POINT.items():
        threshold = threshold_at_fpr(benign, fpr)
        alarms, found = rate(benign >= threshold), rate(risky >= threshold)
        points[name] = OperatingPoint(
            name,
            threshold,
            {
                "on": on,
                "unit": "thread",
                "target_fpr": fpr,
                "false_positives": alarms.hits,
                "negatives": alarms.total,
                "fpr": alarms.value,
                "fpr_95": [alarms.low, alarms.high],
                "true_positives": found.hits,
                "positives": found.total,
                "recall": found.value,
            },
        )
    return points
