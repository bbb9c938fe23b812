"""What is measured of a model on labelled threads, source by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from grooming_flag.evaluation.metrics import Rate, clustered_rate, rate, threshold_at_fpr
from grooming_flag.model import Model
from grooming_flag.policy import OperatingPoint
from grooming_flag.records import Assessment, Thread

FPR_OF_POINT = {"balanced": 1e-3, "sensitive": 1e-2}
LENGTHS = ((1, 9), (10, 19), (20, 39), (40, None))


class Judged(NamedTuple):
    """A labelled thread, the source it is from, and the answer."""

    source: str
    thread: Thread
    assessment: Assessment


class Figure(NamedTuple):
    """One measured share: what, of which threads, at which operating point."""

    measure: str
    slice: str
    point: str
    rate: Rate


def judge(model: Model, sources: Mapping[str, Sequence[Thread]]) -> list[Judged]:
    """Assess labelled threads, by source."""
    return [
        Judged(source, thread, assessment)
        for source, threads in sources.items()
        for thread, assessment in zip(threads, model.assess_many(threads, at=1.0), strict=True)
    ]


def choose_operating_points(judged: Sequence[Judged], on: str) -> dict[str, OperatingPoint]:
    """Return an operating point for each target false-positive rate, with what it does on these threads.

    Parameters
    ----------
    judged : sequence of Judged
    on : str
        Name of the data, for the record.
    """
    benign = np.array([_probability(j) for j in judged if j.thread.label == 0])
    risky = np.array([_probability(j) for j in judged if j.thread.label == 1])
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


def figures(judged: Sequence[Judged], points: Mapping[str, OperatingPoint]) -> list[Figure]:
    """Return recall by source and length, false-positive rates by source, and how often the suspect is right."""
    rows = []
    for name, point in points.items():
        for source, threads in _by_source(judged, 1):
            for low, high in ((1, None), *LENGTHS):
                chosen = [j for j in threads if low <= len(j.thread.messages) <= (high or np.inf)]
                if chosen:
                    hits = [_probability(j) >= point.threshold for j in chosen]
                    rows.append(Figure("recall", f"{source}, {_length(low, high)}", name, _by_person(hits, chosen)))
        for source, threads in [("all negatives", [j for j in judged if j.thread.label == 0]), *_by_source(judged, 0)]:
            hits = [_probability(j) >= point.threshold for j in threads]
            rows.append(Figure("false-positive rate", source, name, rate(hits)))
        for source, threads in _by_source(judged, 1):
            flagged = [j for j in threads if _probability(j) >= point.threshold and j.thread.suspects]
            hits = [j.assessment.suspect in j.thread.suspects for j in flagged]
            rows.append(Figure("suspect named, of flagged", source, name, _by_person(hits, flagged)))
    for source, threads in _by_source(judged, 1):
        known = [j for j in threads if j.thread.suspects]
        hits = [j.assessment.suspect in j.thread.suspects for j in known]
        rows.append(Figure("suspect named, of all", source, "any", _by_person(hits, known)))
    return rows


def format_rate(share: Rate) -> str:
    """Return share, interval and counts as text."""
    if not share.total:
        return "none"
    digits = 4 if share.value < 0.05 else 3
    return f"{share.value:.{digits}f} [{share.low:.{digits}f}, {share.high:.{digits}f}] ({share.hits}/{share.total})"


def _probability(j: Judged) -> float:
    return j.assessment.probability or 0.0


def _by_source(judged: Sequence[Judged], label: int) -> list[tuple[str, list[Judged]]]:
    chosen: dict[str, list[Judged]] = {}
    for j in judged:
        if j.thread.label == label:
            chosen.setdefault(j.source, []).append(j)
    return list(chosen.items())


def _by_person(hits: Sequence[bool], judged: Sequence[Judged]) -> Rate:
    return clustered_rate(hits, [j.thread.person or j.thread.thread_id for j in judged])


def _length(low: int, high: int | None) -> str:
    if (low, high) == (1, None):
        return "all lengths"
    return f"{low}+ messages" if high is None else f"{low}-{high} messages"
