"""Whether the messages named as evidence are those that annotators marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from grooming_flag.evaluation.answers import Answers
from grooming_flag.evaluation.figures import Figure, share
from grooming_flag.evaluation.pool import Pool
from grooming_flag.io.scores import evidence_rows
from grooming_flag.model import Model
from grooming_flag.records import Message, Thread

TOP = (1, 3, 5)
Coded = Mapping[str, Sequence[bool]]
"""By thread id, which messages are marked."""


def message_evidence(model: Model, thread: Thread) -> list[dict[str, Any]]:
    """Return what each message contributes, strongest first, with its place in the thread as its id."""
    numbered = [Message(m.author, m.text, m.sent_at, i) for i, m in enumerate(thread.messages)]
    return evidence_rows(model.explain(replace(thread, messages=numbered)))


def evidence_places(model: Model, thread: Thread) -> list[int]:
    """Return the places of the messages that speak for the pattern, strongest evidence first."""
    return [row["message_id"] for row in message_evidence(model, thread) if row["contribution"] > 0.0]


def with_evidence(model: Model, pool: Pool, answers: Answers, coded: Coded, at: str) -> Answers:
    """Return the answers with the evidence of risky threads that are flagged at a point and have marked messages."""
    chosen = pool.risky & (answers.values >= answers.points[at])
    places = {
        i: evidence_places(model, pool.threads[i])
        for i in np.flatnonzero(chosen).tolist()
        if any(coded.get(pool.threads[i].thread_id, ()))
    }
    return replace(answers, evidence=places)


def evidence_figures(pool: Pool, answers: Answers, coded: Coded, at: str) -> list[Figure]:
    """Return the precision of the strongest 1, 3 and 5 messages of flagged risky threads with marked messages.

    Where annotators did not mark every message that shows the pattern, this is a lower bound. Beside it: the share of
    marked messages in the same threads, which is what naming any message would give.
    """
    hits: dict[int, list[bool]] = {k: [] for k in TOP}
    clusters: dict[int, list[str]] = {k: [] for k in TOP}
    marked: list[bool] = []
    owners: list[str] = []
    for i, places in (answers.evidence or {}).items():
        lines = coded.get(pool.threads[i].thread_id, ())
        if not any(lines) or not pool.risky[i] or answers.values[i] < answers.points[at]:
            continue
        marked += lines
        owners += [pool.clusters[i]] * len(lines)
        for k in TOP:
            hits[k] += [lines[place] for place in places[:k]]
            clusters[k] += [pool.clusters[i]] * len(places[:k])
    if not marked:
        return []
    where = ("flagged, with marked lines", at)
    named = [
        share("evidence", f"precision of the strongest {k}", *where, hits[k], clusters[k], unit="line") for k in TOP
    ]
    return [*named, share("evidence", "marked lines", *where, marked, owners, unit="line")]
