"""Which threads are reviewed, and in which order."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heappush, heappushpop
from math import fsum, isclose
from typing import Literal

from grooming_flag.errors import DataError
from grooming_flag.evaluation.splits import AuthorIds, Authors, authors_are
from grooming_flag.io.scores import FlagRow, encodable
from grooming_flag.model import Model
from grooming_flag.records import Assessment, Thread

Row = FlagRow | Assessment


@dataclass(frozen=True, slots=True)
class Review:
    """A thread that a person is asked to look at.

    Attributes
    ----------
    thread_id, suspect : str
        As the score file has them, which cannot hold lone surrogates; `suspect` may be None.
    thread : Thread
        With its text, which is not shown in the `repr`.
    assessment : Assessment
        Computed anew from the text, and the same as in the score file.
    selection : {"flagged", "sample"}
        Why it is reviewed.
    selection_probability : float
        Above 0 and at most 1: 1 for flagged threads, whose cut by probability leaves nothing to chance; for sampled
        ones their share of all that are not flagged.
    """

    thread_id: str
    suspect: str | None
    thread: Thread
    assessment: Assessment
    selection: Literal["flagged", "sample"]
    selection_probability: float


@dataclass(frozen=True, slots=True)
class Case:
    """Reviews that belong together: the flagged threads of one suspect, most probable first, or a single thread.

    Attributes
    ----------
    reviews : sequence of Review
    n_more : int
        Flagged threads of the same suspect that are not in the case.
    """

    reviews: Sequence[Review]
    n_more: int


@dataclass(frozen=True, slots=True)
class Queue:
    """What is to be reviewed, in order.

    Attributes
    ----------
    cases : sequence of Case
        Those of flagged threads by their highest probability; those of sampled threads anywhere between them.
    n_flagged, n_unflagged : int
        Threads in the score file.
    operating_point : str or None
        At which threads were flagged; None for a bare threshold.
    authors : {"global", "thread"}
        Whether author ids were taken for persons, and threads merged by suspect.
    """

    cases: Sequence[Case]
    n_flagged: int
    n_unflagged: int
    operating_point: str | None
    authors: Authors

    @property
    def reviews(self) -> list[Review]:
        """All reviews, in order."""
        return [review for case in self.cases for review in case.reviews]

    @property
    def is_blind(self) -> bool:
        """Whether there are sampled threads, so that nobody may see before the verdict what the model says."""
        return any(review.selection == "sample" for review in self.reviews)

    @property
    def expected(self) -> float:
        """About how many of the flagged threads will be confirmed: the sum of their probabilities."""
        flagged = (review.assessment for review in self.reviews if review.selection == "flagged")
        return fsum(assessment.probability or 0.0 for assessment in flagged)

    @property
    def expected_in_words(self) -> str:
        """`expected` as people say it."""
        return "less than 0.1" if self.expected < 0.1 else f"about {self.expected:.1f}"


@dataclass(slots=True)
class _Rows:
    """The rows that matter, and counts of the others."""

    flagged: list[Row] = field(default_factory=list)
    sampled: list[Row] = field(default_factory=list)
    n_flagged: int = 0
    n_unflagged: int = 0
    of_suspect: Counter[str] = field(default_factory=Counter)
    first: Row | None = None
    scored: set[int] | None = None  # a hash of each thread id, if all threads need a row


def build_queue(
    rows: Iterable[Row],
    threads: Iterable[Thread],
    model: Model,
    *,
    capacity: int | None = None,
    n_sampled: int = 0,
    seed: int = 0,
    authors: AuthorIds = "auto",
) -> Queue:
    """Choose what to review from a score file, and find the threads of it.

    The most probable flagged threads are chosen before they are merged into cases, so that a case costs as many reviews
    as it has threads, and the cut depends on probabilities alone.

    Parameters
    ----------
    rows : iterable of FlagRow or Assessment
        Those that `grooming_flag.io.scores.read_flags` gives, or of a model. Read first, and once.
    threads : iterable of Thread
        The threads that were scored; read once, and only those that are reviewed are kept.
    model : Model
        The one that scored them.
    capacity : int, optional
        Reviews of flagged threads; by default all.
    n_sampled : int
        Reviews, beside these, of threads drawn at random from all that are not flagged. Which ones depends on their
        ids and the seed, not on the order of rows. Then each thread needs a row.
    seed : int
    authors : {"auto", "global", "thread"}
        Whether author ids mean persons in all threads; "auto" asks `grooming_flag.evaluation.splits.authors_are`.

    Raises
    ------
    DataError
        If a thread is missing or was scored twice, the model gives it another score or probability, rows are of two
        runs, or a sample is asked for and a thread has no row.

    Examples
    --------
    >>> import grooming_flag as gf
    >>> model, threads = gf.load_model(), list(gf.read_threads("examples/threads.jsonl"))
    >>> queue = build_queue(model.assess_many(threads, at="sensitive"), threads, model, capacity=2)
    >>> [review.thread_id for review in queue.reviews]
    ['skatepark-videos', 'block-server-friend']
    """
    chosen = _choose(rows, capacity, n_sampled, seed)
    found, kind = _find(threads, chosen, authors, seed)
    assessments = dict(zip(found, model.assess_many(found.values(), at=1.0), strict=True))

    def review(row: Row, selection: Literal["flagged", "sample"]) -> Review:
        share = 1.0 if selection == "flagged" else len(chosen.sampled) / chosen.n_unflagged
        thread_id, suspect = encodable(row.thread_id), None if row.suspect is None else encodable(row.suspect)
        _check_same(row, assessments[thread_id], model.name)
        return Review(thread_id, suspect, found[thread_id], assessments[thread_id], selection, share)

    merged: dict[tuple[str, str], list[Review]] = {}
    for row in chosen.flagged:
        by_suspect = kind == "global" and row.suspect is not None
        key = ("author", row.suspect or "") if by_suspect else ("thread", row.thread_id)
        merged.setdefault(key, []).append(review(row, "flagged"))
    groups = _dealt(list(merged.values()), [[review(row, "sample")] for row in chosen.sampled], seed)
    return Queue(
        cases=[Case(group, _n_more(group, chosen, kind)) for group in groups],
        n_flagged=chosen.n_flagged,
        n_unflagged=chosen.n_unflagged,
        operating_point=chosen.first.operating_point if chosen.first else None,
        authors=kind,
    )


def _choose(rows: Iterable[Row], capacity: int | None, n_sampled: int, seed: int) -> _Rows:
    chosen = _Rows(scored=set() if n_sampled else None)
    drawn: list[tuple[int, int, Row]] = []  # a heap, whose first is the highest draw
    for row in rows:
        first = chosen.first = chosen.first or row
        if (row.model, row.operating_point) != (first.model, first.operating_point):
            raise DataError(
                f"thread {row.thread_id} was scored by {row.model} at {row.operating_point}, others by {first.model} "
                f"at {first.operating_point}; give the scores of one run"
            )
        draw = _draw(row.thread_id, seed) if n_sampled else 0
        if chosen.scored is not None:
            chosen.scored.add(draw)
        if row.flagged:
            chosen.flagged.append(row)
            chosen.of_suspect[encodable(row.suspect or "")] += 1
            continue
        chosen.n_unflagged += 1
        if n_sampled:
            place = (-draw, chosen.n_unflagged, row)
            if len(drawn) < n_sampled:
                heappush(drawn, place)
            else:
                heappushpop(drawn, place)
    chosen.n_flagged = len(chosen.flagged)
    chosen.flagged = sorted(chosen.flagged, key=lambda row: (-(row.probability or 0.0), row.thread_id))[:capacity]
    chosen.sampled = [row for _, _, row in sorted(drawn, reverse=True)]
    return chosen


def _draw(thread_id: str, seed: int) -> int:
    return int.from_bytes(blake2b(f"{seed} {encodable(thread_id)}".encode(), digest_size=16).digest())


def _find(threads: Iterable[Thread], chosen: _Rows, authors: AuthorIds, seed: int) -> tuple[dict[str, Thread], Authors]:
    """Return the threads that were chosen, by id, and what author ids are in all threads.

    If none was chosen, the thread of the first row, so that the threads of other scores are told.
    """
    rows = [*chosen.flagged, *chosen.sampled] or [row for row in [chosen.first] if row]
    wanted, found = Counter(encodable(row.thread_id) for row in rows), dict[str, Thread]()

    def keep_wanted() -> Iterator[Thread]:
        for thread in threads:
            thread_id = encodable(thread.thread_id)
            if chosen.scored is not None and _draw(thread_id, seed) not in chosen.scored:
                raise DataError(
                    f"thread {thread_id} has no score, and a random sample has to be of all threads; give scores "
                    "without --capacity or --only-flagged, of all files of the run"
                )
            if thread_id in found:
                raise DataError(
                    f"several threads have the id {thread_id}, as score files write it (a lone surrogate as ?); "
                    "give each an id of its own and score again"
                )
            if thread_id in wanted:
                found[thread_id] = thread
            yield thread

    passing = keep_wanted()
    kind = authors_are(passing) if authors == "auto" else authors
    deque(passing, maxlen=0)  # to the end
    for thread_id, times in wanted.items():
        if thread_id not in found:
            raise DataError(f"thread {thread_id} has a score and is not among the threads; give those of the scores")
        if times > 1:
            raise DataError(f"thread {thread_id} has several scores; give the scores of one run")
    return found, kind


def _check_same(row: Row, assessment: Assessment, model: str) -> None:
    same = row.score == assessment.score and (row.probability is None) == (assessment.probability is None)
    if not same or not isclose(row.probability or 0.0, assessment.probability or 0.0, rel_tol=1e-9):
        raise DataError(
            f"thread {row.thread_id} has score {row.score!r}, probability {row.probability!r}; {model} gives "
            f"{assessment.score!r}, {assessment.probability!r}: scored by another model or text changed"
        )


def _dealt(flagged: Sequence[list[Review]], sampled: Sequence[list[Review]], seed: int) -> Iterator[list[Review]]:
    """Yield both in their order, the sampled ones at random places."""
    is_sampled = [False] * len(flagged) + [True] * len(sampled)
    random.Random(seed).shuffle(is_sampled)
    of_flagged, of_sampled = iter(flagged), iter(sampled)
    for one in is_sampled:
        yield next(of_sampled if one else of_flagged)


def _n_more(reviews: Sequence[Review], chosen: _Rows, kind: Authors) -> int:
    suspect = reviews[0].suspect
    if kind == "thread" or suspect is None:
        return 0
    return chosen.of_suspect[suspect] - sum(review.selection == "flagged" for review in reviews)
