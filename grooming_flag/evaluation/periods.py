"""What there is of a time under a model: its answers, verdicts on them, and threads, which must belong together."""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from grooming_flag.errors import DataError
from grooming_flag.io.scores import FlagRow, read_flags
from grooming_flag.io.shards import MANIFEST
from grooming_flag.io.streams import input_files
from grooming_flag.io.threads import read_threads
from grooming_flag.io.verdicts import Verdict, latest, read_all_verdicts
from grooming_flag.model import Model
from grooming_flag.records import Thread

WIDTH = 0.01  # of a score, below which scores are one
SAMPLE = 2000
IN_ORDER = 8
"""So many different probabilities are in falling order by chance in one file of 40,320 (8!)."""


@dataclass(slots=True)
class Answers:
    """What a model said of many threads, in constant memory.

    Attributes
    ----------
    model, operating_point : str
    n, n_flagged, n_abstained : int
        Threads.
    scores : Counter
        How many threads have which score, in steps of 0.01, of those the model did not abstain on.
    least_flagged, highest_unflagged : float
        Probabilities; infinite where there are none.
    known : set of str
        Of the thread ids that were asked for, those that have an answer.
    """

    model: str
    operating_point: str | None
    n: int = 0
    n_flagged: int = 0
    n_abstained: int = 0
    scores: Counter[int] = field(default_factory=Counter)
    least_flagged: float = math.inf
    highest_unflagged: float = -math.inf
    known: set[str] = field(default_factory=set)

    def add(self, row: FlagRow) -> None:
        """Count a thread."""
        self.n += 1
        self.n_flagged += row.flagged
        self.n_abstained += row.abstained
        if not row.abstained:
            self.scores[math.floor(row.score / WIDTH)] += 1
        if row.probability is not None and row.flagged:
            self.least_flagged = min(self.least_flagged, row.probability)
        elif row.probability is not None:
            self.highest_unflagged = max(self.highest_unflagged, row.probability)

    @property
    def median_score(self) -> float | None:
        """The median of the scores, log-odds; None if there are none."""
        middle = quantiles(self.scores, 2)
        return middle[0] * WIDTH if middle else None

    @property
    def by(self) -> str:
        """Whose answers these are."""
        return f"{self.model} at {self.operating_point or 'a threshold without a name'}"


@dataclass(frozen=True, slots=True)
class Period:
    """What there is of a time: answers, and where they are known verdicts and shares of unknown n-grams of threads.

    Attributes
    ----------
    answers : Answers
    verdicts : sequence of Verdict
        Those that count, on threads that have an answer.
    unknown : ndarray or None, shape (n,)
        In 0..1.
    n_elsewhere, n_disagreeing : int
        Verdicts on other threads; threads with verdicts of different kinds.
    """

    answers: Answers
    verdicts: Sequence[Verdict] = ()
    unknown: NDArray[np.float64] | None = None
    n_elsewhere: int = 0
    n_disagreeing: int = 0


def read_period(
    scores: Sequence[str],
    verdicts: Sequence[str | os.PathLike[str]] = (),
    threads: Sequence[str] = (),
    model: Model | None = None,
) -> Period:
    """Return what files say of a time; score files are read as a stream, and threads too, of which `SAMPLE` are held.

    Parameters
    ----------
    scores, verdicts, threads : sequence of path
        Verdicts and threads of those that have scores.
    model : Model, optional
        The one whose scores these are, where there are threads.

    Raises
    ------
    DataError
        As `read_answers`; also if no verdict is on a thread that has a score, a thread drawn has none, or the model is
        another one.
    """
    decided, n_disagreeing = latest(read_all_verdicts(*verdicts))
    drawn = draw(read_threads(*input_files(threads))) if threads else []
    ids = [thread.thread_id for thread in drawn]
    answers = read_answers(*scores, ids={*ids, *(one.thread_id for one in decided)})
    counted = [one for one in decided if one.thread_id in answers.known]
    if decided and not counted:
        raise DataError(
            f"{_named(verdicts)}: none of {len(decided)} verdicts is on a thread of {_named(scores)}; give verdicts on "
            "threads that have scores there"
        )
    unknown = None
    if threads and model is not None:
        unknown = _unknown(model, answers, drawn, _named(threads), _named(scores))
    return Period(answers, counted, unknown, len(decided) - len(counted), n_disagreeing)


def read_answers(*inputs: str, ids: Collection[str] = ()) -> Answers:
    """Return what score files say, read as a stream.

    Parameters
    ----------
    *inputs : str
        JSON lines or Parquet; folders and patterns of names stand for the files in them.
    ids : collection of str, optional
        Threads of which is asked whether they have an answer.

    Raises
    ------
    DataError
        If a row is none of this library's, rows are of two models or operating points, or a file has only the highest
        of its threads.
    """
    found: Answers | None = None
    for path in input_files(inputs):
        if os.path.basename(path) == MANIFEST:
            continue
        before, steps = math.inf, 0
        for place, row in read_flags(path):
            found = found or Answers(row.model, row.operating_point)
            if (row.model, row.operating_point) != (found.model, found.operating_point):
                raise DataError(
                    f"{path}, {place}: is by {Answers(row.model, row.operating_point).by}, rows before by {found.by}; "
                    "compare scores of one model at one operating point"
                )
            found.add(row)
            if row.thread_id in ids:
                found.known.add(row.thread_id)
            if row.probability is None or row.probability > before:
                before = -math.inf  # for good: nothing is below
            else:
                steps += row.probability < before
                before = row.probability
        if steps >= IN_ORDER and before > -math.inf:
            raise DataError(
                f"{path}: the threads are in order of probability, highest first, as score --capacity writes the "
                "highest alone; give the scores of all threads, in the order of the threads"
            )
    if found is None:
        raise DataError(f"{', '.join(inputs)}: there are no scores")
    return found


def draw(threads: Iterable[Thread], n: int = SAMPLE, seed: int = 0) -> list[Thread]:
    """Return at most n threads drawn at random: a reservoir (Vitter 1985, algorithm R), so that n are held."""
    rng = random.Random(seed)
    drawn: list[Thread] = []
    for i, thread in enumerate(threads):
        if i < n:
            drawn.append(thread)
        elif (place := rng.randrange(i + 1)) < n:
            drawn[place] = thread
    return drawn


def unknown_shares(model: Model, threads: Iterable[Thread]) -> NDArray[np.float64]:
    """Return which share of the distinct n-grams of each thread has no weight, 0..1."""
    return 1.0 - model.known_shares([thread.messages for thread in threads])


def _unknown(model: Model, answers: Answers, drawn: Sequence[Thread], files: str, scores: str) -> NDArray[np.float64]:
    if model.name != answers.model:
        raise DataError(f"the scores are by {answers.model}, and the model is {model.name}; name its folder")
    if not drawn:
        raise DataError(f"{files}: there are no threads")
    n = sum(thread.thread_id not in answers.known for thread in drawn)
    if n:
        raise DataError(
            f"{files}: {n} of {len(drawn)} threads drawn have no score in {scores}; give those scored there"
        )
    return unknown_shares(model, drawn)


def _named(paths: Iterable[str | os.PathLike[str]]) -> str:
    return ", ".join(map(str, paths))


def quantiles(scores: Counter[int], bins: int) -> list[int]:
    """Return the highest score of each bin but the last, where bins hold equally many threads as far as they can."""
    places = np.array(sorted(scores))
    below = np.cumsum([scores[place] for place in places.tolist()])
    wanted = scores.total() * np.arange(1, bins) / bins
    return np.unique(places[np.searchsorted(below, wanted)]).tolist() if len(places) else []
