"""What a system said of threads: a model of this library, or any other through its score file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grooming_flag.errors import DataError
from grooming_flag.io.scores import ScoreRow
from grooming_flag.model import Model
from grooming_flag.records import Thread

Floats = NDArray[np.float64]


class Replay(NamedTuple):
    """What a system said of the beginnings of one thread: after so many messages, this value."""

    messages: NDArray[np.int64]
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a system said of the threads of a pool.

    Attributes
    ----------
    system : str
    values : ndarray of float, shape (n_threads,)
        What it ranks by, higher is riskier: its probability, or its score if it gives none. Minus infinity where it
        abstained or left the thread out, which is never flagged and always counted.
    probabilities : ndarray of float, shape (n_threads,)
        NaN where there is none.
    prior : float or None
        Share of risky threads that the probabilities assume; None if unknown.
    suspects : sequence of str or None, length n_threads
    points : mapping of str to float
        Thresholds on values, by the name of the operating point.
    replays : sequence of Replay, optional
    evidence : mapping of int to sequence of int, optional
        By the index of a thread, the places of its messages, strongest evidence first.
    """

    system: str
    values: Floats
    probabilities: Floats
    prior: float | None
    suspects: Sequence[str | None]
    points: Mapping[str, float]
    replays: Sequence[Replay] | None = None
    evidence: Mapping[int, Sequence[int]] | None = None


def answers_of(model: Model, threads: Sequence[Thread]) -> Answers:
    """Return what a model says of threads, without replays and evidence."""
    assessed = list(model.assess_many(threads, at=1.0))
    probabilities = np.array([np.nan if a.probability is None else a.probability for a in assessed], dtype=np.float64)
    return Answers(
        model.name,
        np.where(np.isnan(probabilities), -np.inf, probabilities),
        probabilities,
        model.calibration.prior,
        [a.suspect for a in assessed],
        {name: point.threshold for name, point in model.operating_points.items()},
    )


def answers_of_rows(system: str, rows: Sequence[ScoreRow], threads: Sequence[Thread]) -> Answers:
    """Return what the rows of a score file say of threads.

    A thread without a row counts as one on which the system abstained. Several rows of a thread are its beginnings.

    Parameters
    ----------
    system : str
        What to call it.
    rows : sequence of ScoreRow
        Those of other threads are ignored.
    threads : sequence of Thread

    Raises
    ------
    DataError
        If no row is about one of the threads, a row is of more messages than its thread has, several rows of a
        thread do not say of how many messages they are, or only some rows have a probability.
    """
    of_thread: dict[str, list[ScoreRow]] = {}
    for row in rows:
        of_thread.setdefault(row.thread_id, []).append(row)
    found = [sorted(of_thread.get(t.thread_id, ()), key=lambda row: row.n_messages or 0) for t in threads]
    if not any(found):
        raise DataError(f"{system}: has no score of any judged thread; are the thread ids the same?")
    given = [row for of_one in found for row in of_one if not row.abstained]
    by_probability = any(row.probability is not None for row in given)
    if by_probability and any(row.probability is None for row in given):
        raise DataError(f"{system}: some rows have a probability and some only a score; give all rows the same")
    for of_one, thread in zip(found, threads, strict=True):
        counts = [row.n_messages for row in of_one]
        if any(count is not None and not 1 <= count <= len(thread.messages) for count in counts):
            raise DataError(
                f"{system}: thread {thread.thread_id} has {len(thread.messages)} messages and a row of another "
                "n_messages; are these scores of the same threads?"
            )
        if len(of_one) > 1 and (None in counts or len(set(counts)) < len(counts)):
            raise DataError(f"{system}: thread {of_one[0].thread_id} has several rows; give each its own n_messages")
    values = [np.array([_value(row, by_probability) for row in of_one], dtype=np.float64) for of_one in found]
    last = [of_one[-1] if of_one else None for of_one in found]
    probabilities = [np.nan if row is None or row.abstained else row.probability for row in last]
    evidence = {i: _places(of_one[-1], threads[i]) for i, of_one in enumerate(found) if of_one and of_one[-1].evidence}
    replays = None
    if any(len(of_one) > 1 for of_one in found):
        seen = [[row.n_messages or len(t.messages) for row in of] for of, t in zip(found, threads, strict=True)]
        replays = [Replay(np.array(of, dtype=np.int64), v) for of, v in zip(seen, values, strict=True)]
    return Answers(
        system,
        np.array([of_one[-1] if len(of_one) else -np.inf for of_one in values]),
        np.array(probabilities, dtype=np.float64),
        None,
        [row.suspect if row else None for row in last],
        {},
        replays,
        evidence or None,
    )


def _value(row: ScoreRow, by_probability: bool) -> float:
    value = row.probability if by_probability else row.score
    return -np.inf if value is None or row.abstained else value


def _places(row: ScoreRow, thread: Thread) -> list[int]:
    """Return where the messages that a row names as evidence are in the thread."""
    places = {str(i if m.message_id is None else m.message_id): i for i, m in enumerate(thread.messages)}
    return [places[str(item)] for item in row.evidence if str(item) in places]
