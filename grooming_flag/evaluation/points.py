"""Operating points chosen on labelled threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grooming_flag.errors import DataError
from grooming_flag.evaluation.answers import Answers, Floats, Replay
from grooming_flag.evaluation.metrics import rate, threshold_at_fpr
from grooming_flag.evaluation.pool import Pool
from grooming_flag.policy import OperatingPoint

Bools = NDArray[np.bool_]
FPR_OF_POINT = {"balanced": 1e-3, "sensitive": 1e-2}
FEWEST_ALARMS = 10
"""With fewer false alarms the interval of their rate spans more than a factor of 3."""
PER = 10_000
"""Threads that a capacity is for."""


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
    values = last_values(answers)
    return {name: at_fpr(name, pool, values, fpr, {"on": on}) for name, fpr in FPR_OF_POINT.items()}


def last_values(answers: Answers) -> Floats:
    """Return the probability of each whole thread, 0 where the model abstains."""
    return np.nan_to_num(answers.probabilities, nan=0.0)


def highest_values(replays: Sequence[Replay], min_messages: int = 0) -> Floats:
    """Return the highest probability that each thread has after any of its messages from the so many-th on, or 0."""
    return np.array([one.values[one.messages >= min_messages].max(initial=0.0) for one in replays])


def check_values(pool: Pool, values: Floats) -> None:
    """Raise a DataError unless there are risky threads and others, and others that the model does not abstain on."""
    if pool.risky.all() or not pool.risky.any():
        raise DataError("the labelled threads are all of one label; both 0 and 1 are needed to choose a threshold")
    if not values[~pool.risky].any():
        raise DataError("the model abstains on all ordinary threads; give threads with more text")


def at_fpr(name: str, pool: Pool, values: Floats, fpr: float, record: dict[str, Any]) -> OperatingPoint:
    """Return the operating point that flags at most the share `fpr` of the threads that are not risky.

    Parameters
    ----------
    name : str
    pool : Pool
    values : ndarray, shape (n_threads,)
        Probabilities that decide about the threads.
    fpr : float
        In 0..1.
    record : dict
        What else to put down.
    """
    threshold = max(threshold_at_fpr(values[~pool.risky], fpr), float(np.nextafter(0.0, 1.0)))  # abstained is 0
    return OperatingPoint(name, threshold, {**_measured(pool, values, threshold), "target_fpr": fpr, **record})


def at_precision(
    name: str, pool: Pool, values: Floats, precision: float, prior: float, record: dict[str, Any]
) -> OperatingPoint:
    """Return the operating point that finds most while so large a share of its flags is right, at a base rate.

    Of ``prior`` risky threads ``recall`` are flagged, and of the others the share ``fpr``, so the precision is
    ``recall prior / (recall prior + fpr (1 - prior))`` (Bayes).

    Raises
    ------
    DataError
        If no threshold does that on these threads.
    """
    record = {"target_precision": precision, "prior": prior, **record}
    return _loosest(name, pool, values, lambda recall, fpr: _precision(recall, fpr, prior) >= precision, record)


def at_capacity(
    name: str, pool: Pool, values: Floats, capacity: float, prior: float, record: dict[str, Any]
) -> OperatingPoint:
    """Return the operating point that flags at most so many of `PER` threads, at a base rate; see `at_precision`."""
    return _loosest(
        name,
        pool,
        values,
        lambda recall, fpr: PER * (recall * prior + fpr * (1.0 - prior)) <= capacity,
        {"target_capacity": capacity, "prior": prior, **record},
    )


def doubts(point: OperatingPoint) -> list[str]:
    """Return what should keep one from relying on a point that was chosen on too few threads."""
    measured, found = point.measured, []
    if not measured["true_positives"]:
        found.append(f"none of the {measured['positives']} risky threads is flagged at {point.name}")
    if measured["false_positives"] < FEWEST_ALARMS:
        found.append(
            f"{measured['false_positives']} of {measured['negatives']} ordinary threads are flagged at {point.name}; "
            f"from so few the rate may be up to {measured['fpr_95'][1]:.2g}: give more ordinary threads"
        )
    if measured.get("min_messages"):
        found.append(f"this holds only under a policy with min_messages = {measured['min_messages']} or more")
    return found


def _precision(recall: Floats, fpr: Floats, prior: float) -> Floats:
    flagged = recall * prior + fpr * (1.0 - prior)
    return np.divide(recall * prior, flagged, out=np.zeros_like(flagged), where=flagged > 0.0)


def _loosest(
    name: str, pool: Pool, values: Floats, suits: Callable[[Floats, Floats], Bools], record: dict[str, Any]
) -> OperatingPoint:
    """Return the point of the lowest threshold whose recall and false-positive rate suit."""
    ordinary, risky = np.sort(values[~pool.risky]), np.sort(values[pool.risky])
    different = np.unique([*values, 0.0])
    highest = min(np.nextafter(different[-1], np.inf), 1.0)
    thresholds = np.unique([*(different[1:] + different[:-1]) / 2.0, highest])
    recall, fpr = (1.0 - np.searchsorted(of, thresholds) / len(of) for of in (risky, ordinary))
    found = np.flatnonzero(suits(recall, fpr))
    if not len(found):
        raise DataError(f"{name}: no threshold does that on these threads; ask for less, or give more threads")
    threshold = float(thresholds[found[0]])
    return OperatingPoint(name, threshold, {**_measured(pool, values, threshold), **record})


def _measured(pool: Pool, values: Floats, threshold: float) -> dict[str, Any]:
    alarms, found = rate(values[~pool.risky] >= threshold), rate(values[pool.risky] >= threshold)
    return {
        "unit": "thread",
        "false_positives": alarms.hits,
        "negatives": alarms.total,
        "fpr": alarms.value,
        "fpr_95": [alarms.low, alarms.high],
        "true_positives": found.hits,
        "positives": found.total,
        "recall": found.value,
    }
