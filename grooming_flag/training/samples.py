"""What a model is trained on: segments, random windows of them as others might write them, and the privacy floor."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from grooming_flag.evaluation.perturbations import perturb
from grooming_flag.evaluation.slices import sides_of
from grooming_flag.features import OWN, POOLED, FeatureExtractor, Packed, Scanner, pack_by_author
from grooming_flag.records import Message, Thread
from grooming_flag.segments import SegmentRule

Run = Sequence[Message]

WINDOW_MESSAGES = (2, 120)  # shortest and longest window
REWRITES = (
    "leet", "letters-spaced", "letters-repeated", "letters-masked", "words-separated", "vowels-dropped",
    "leet-throughout", "letters-spaced-throughout", "letters-repeated-throughout", "letters-masked-throughout",
    "words-separated-throughout", "vowels-dropped-throughout", "typing-errors", "abbreviations", "bare-text",
    "messages-split", "messages-merged",
)  # fmt: skip
"""Perturbations that the fold table does not undo."""
PADDING = (0.25, 0.5, 0.5, 1.0)  # messages added for each that is there
WEIGHT_OF_SEGMENT, WEIGHT_OF_WINDOW, WEIGHT_OF_REWRITTEN, WEIGHT_OF_PADDED = 1.0, 0.25, 1.0, 0.02
NGRAM_BITS = 24
BATCH_MESSAGES = 100_000


class Plan(NamedTuple):
    """How many random runs a training takes of each risky thread, and of each other thread.

    All of them are drawn `draws` times, each time for heads of their own, and the model is the mean of these.
    """

    windows: tuple[int, int] = (6, 3)
    rewritten: tuple[int, int] = (6, 2)
    padded: int = 4
    attribution: int = 2
    draws: int = 3


class Runs(NamedTuple):
    """Runs of messages to train on.

    Attributes
    ----------
    messages : list of sequences of Message, length n_runs
    threads : ndarray of int64, shape (n_runs,)
        Index of the thread that each is from.
    weights : ndarray of float64, shape (n_runs,)
    padded : ndarray of bool, shape (n_runs,)
        Which have messages that others than the authors of the thread wrote.
    """

    messages: list[Run]
    threads: NDArray[np.int64]
    weights: NDArray[np.float64]
    padded: NDArray[np.bool_]


def training_runs(
    threads: Sequence[Thread], risky: NDArray[np.bool_], rule: SegmentRule, plan: Plan, rng: random.Random
) -> Runs:
    """Return what the risk head is trained on.

    From each thread, and from the suspects' side alone of each risky thread where there is another one:

    - its segments;
    - windows of log-uniform length, without which the model is at home in whole threads only;
    - rewritten segments and windows, each by a random perturbation, so that no way of writing is evidence by itself;
    - if it is risky, padded ones: with messages of other threads in between, before or after, so that no amount of
      ordinary talk outweighs the rest.
    """
    others = _others(threads, risky)
    runs: list[_Weighted] = []
    padded: list[_Weighted] = []
    for i, thread in enumerate(threads):
        kind = 0 if risky[i] else 1
        for side in (thread, *_suspects_alone(thread)) if risky[i] else (thread,):
            of_side = _segments_and_windows(side.messages, rule, plan.windows[kind], rng)
            for _ in range(plan.rewritten[kind] if side.messages else 0):
                of_side.append((_rewritten(side, rule, rng), WEIGHT_OF_REWRITTEN))
            runs += [(run, i, weight) for run, weight in of_side]
            for _ in range(plan.padded if risky[i] and _can_be_padded(side, others, rule) else 0):
                run = _padded(_part(side.messages, rule, rng), others, rule, rng)
                padded.append((run, i, WEIGHT_OF_PADDED))
    return _runs(runs, padded)


def attribution_runs(threads: Sequence[Thread], rule: SegmentRule, plan: Plan, rng: random.Random) -> Runs:
    """Return segments, windows and rewritten parts of threads with known suspects, for the attribution head."""
    runs: list[_Weighted] = []
    for i, thread in enumerate(threads):
        of_thread = _segments_and_windows(thread.messages, rule, plan.attribution, rng)
        for _ in range(plan.attribution if thread.messages else 0):
            of_thread.append((_rewritten(thread, rule, rng), WEIGHT_OF_WINDOW))
        runs += [(run, i, weight) for run, weight in of_thread]
    return _runs(runs)


def whole_threads(threads: Sequence[Thread]) -> Runs:
    """Return each thread as a run."""
    return _runs([(thread.messages, i, WEIGHT_OF_SEGMENT) for i, thread in enumerate(threads)])


_Weighted = tuple[Run, int, float]


def _runs(runs: Sequence[_Weighted], padded: Sequence[_Weighted] = ()) -> Runs:
    every = [*runs, *padded]
    return Runs(
        [run for run, _, _ in every],
        np.array([source for _, source, _ in every], dtype=np.int64),
        np.array([weight for _, _, weight in every], dtype=np.float64),
        np.repeat([False, True], [len(runs), len(padded)]),
    )


def _segments_and_windows(
    messages: Run, rule: SegmentRule, n_windows: int, rng: random.Random
) -> list[tuple[Run, float]]:
    windows = (_window(messages, rule, rng) for _ in range(n_windows))
    return [
        *((messages[a:b], WEIGHT_OF_SEGMENT) for a, b in rule.split(messages)),
        *((window, WEIGHT_OF_WINDOW) for window in windows if len(window) < len(messages)),
    ]


def _suspects_alone(thread: Thread) -> Iterator[Thread]:
    own, others = sides_of(thread)
    if own and others:
        yield replace(thread, messages=own)


def _window(messages: Run, rule: SegmentRule, rng: random.Random, lengths: tuple[int, int] = WINDOW_MESSAGES) -> Run:
    """Return a random window of log-uniform length, or all messages where they are few."""
    low, high = (min(length, rule.max_messages) for length in lengths)
    length = int(math.exp(rng.uniform(math.log(low), math.log(max(min(len(messages), high), low) + 1))))
    return _cut(messages, length, rng)


def _cut(messages: Run, length: int, rng: random.Random) -> Run:
    """Return so many messages in a row, or all where there are fewer."""
    start = rng.randint(0, max(len(messages) - length, 0))
    return messages[start : start + length]


def _part(messages: Run, rule: SegmentRule, rng: random.Random) -> Run:
    """Return by even chances a window, or as many messages as a segment may have."""
    if rng.random() < 0.5:
        return _window(messages, rule, rng)
    return _cut(messages, rule.max_messages, rng)


def _rewritten(thread: Thread, rule: SegmentRule, rng: random.Random) -> Run:
    """Return a part of the thread as somebody else might write it."""
    part = replace(thread, messages=_part(thread.messages, rule, rng))
    return perturb(part, [rng.choice(REWRITES)], rng.getrandbits(32)).messages[: rule.max_messages]


def _others(threads: Sequence[Thread], risky: NDArray[np.bool_]) -> list[Run]:
    """Return the messages of the threads that are not risky, which may pad others."""
    return [t.messages for t, is_risky in zip(threads, risky, strict=True) if t.messages and not is_risky]


def _can_be_padded(thread: Thread, others: Sequence[Run], rule: SegmentRule) -> bool:
    return bool(thread.messages and others) and rule.max_messages > 1


def _padded(messages: Run, others: Sequence[Run], rule: SegmentRule, rng: random.Random) -> Run:
    """Return the messages with runs of other threads, by the same authors: strewn in, or all before or after.

    Of many messages the first are taken, as many as a segment has room for with all that is added to them.
    """
    share = rng.choice(PADDING)
    messages = messages[: int(rule.max_messages / (1.0 + share))]
    n_added = max(round(len(messages) * share), 1)
    authors = list(dict.fromkeys(message.author for message in messages))
    added: list[Message] = []
    while len(added) < n_added:
        other = rng.choice(others)
        start = rng.randrange(max(len(other), 1))
        run = other[start : start + min(n_added - len(added), rng.randint(1, 30))]
        added += [Message(rng.choice(authors), message.text) for message in run]
    if rng.random() < 0.5:
        return [*messages, *added] if rng.random() < 0.5 else [*added, *messages]
    places = sorted([(rng.random() * len(messages), message) for message in added], key=lambda of_one: of_one[0])
    padded = list(messages)
    for place, message in reversed(places):
        padded.insert(int(place), message)
    return padded


def runs_of_all_kinds(
    threads: Sequence[Thread], risky: NDArray[np.bool_], rule: SegmentRule, rng: random.Random
) -> tuple[list[Run], NDArray[np.int64]]:
    """Return segments, random windows of log-uniform length, and rewritten and padded parts, and their threads.

    A calibration on them holds for any amount of text, and does not take one way of writing for granted.
    """
    others = _others(threads, risky)
    runs: list[Run] = []
    sources: list[int] = []
    for i, thread in enumerate(threads):
        of_thread = [thread.messages[a:b] for a, b in rule.split(thread.messages)]
        lengths = (1, rule.max_messages)
        of_thread += [_window(thread.messages, rule, rng, lengths) for _ in range(6 if risky[i] else 1)]
        of_thread += [_rewritten(thread, rule, rng) for _ in range(8 if risky[i] else 2) if thread.messages]
        if _can_be_padded(thread, others, rule) and risky[i]:
            of_thread.append(_padded(_part(thread.messages, rule, rng), others, rule, rng))
        runs += of_thread
        sources += [i] * len(of_thread)
    return runs, np.array(sources, dtype=np.int64)


class Floor:
    """The privacy floor of a training: how many distinct authors an n-gram must have.

    Parameters
    ----------
    extractor : FeatureExtractor
    threads : sequence of Thread
        An author id counts once a thread, since ids may mean another person elsewhere; in the threads of one `person`
        all suspects count as one author, and all others as one.
    n_authors : int

    Attributes
    ----------
    buckets : ndarray of bool, shape (n_features,)
        Which are of enough authors by what these wrote themselves.
    """

    def __init__(self, extractor: FeatureExtractor, threads: Sequence[Thread], n_authors: int) -> None:
        self.extractor = extractor
        self.threads = threads
        self.n_authors = n_authors
        self.buckets = _n_authors(extractor.scanner(), threads, whole_threads(threads)) >= n_authors


class Ngrams:
    """The n-grams that may have a weight: those of enough distinct authors.

    They are told apart by `NGRAM_BITS` bits of their hash, far more than the buckets of a model have: an n-gram of few
    authors takes no part in training, not even through others that share its bucket. One that arises where a text is
    rewritten is its author's too, but its bucket must be of enough authors by what they wrote themselves.

    Parameters
    ----------
    floor : Floor
    runs : Runs
        What of its threads is trained on, as it is or rewritten. Padded runs do not count.
    """

    def __init__(self, floor: Floor, runs: Runs) -> None:
        extractor = floor.extractor
        bits = max(NGRAM_BITS, extractor.n_features.bit_length() - 1)
        self.n_buckets = extractor.n_features
        self._shift = bits + 1 - extractor.n_features.bit_length()
        self._scanner = FeatureExtractor(**{**extractor.get_params(), "n_features": 1 << bits}).scanner()
        known = _n_authors(self._scanner, floor.threads, runs) >= floor.n_authors
        self.known = known & np.repeat(floor.buckets, 1 << self._shift)

    def rows(self, packed: Packed, by: int = POOLED) -> csr_matrix:
        """Return what `FeatureExtractor.rows` does, of these n-grams alone."""
        rows = self._scanner.rows(packed, by)
        kept = self.known[rows.indices]
        indptr = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
        shape = (rows.shape[0], self.n_buckets)
        folded = csr_matrix((rows.data[kept], rows.indices[kept] >> self._shift, indptr), shape=shape)
        folded.sum_duplicates()
        folded.data[:] = 1.0
        return folded


def _n_authors(scanner: Scanner, threads: Sequence[Thread], runs: Runs) -> NDArray[np.int32]:
    """Return of how many authors each bucket is in runs that are not padded, shape (n_features,)."""
    n = scanner.n_features
    n_authors = np.zeros(n, dtype=np.int32)
    for batch in _by_person(threads, runs):
        packed = pack_by_author(runs.messages[i] for i in batch)
        rows = scanner.rows(packed, OWN)
        ids: dict[tuple[str | int, str | bool], int] = {}
        owners = np.empty(len(packed.authors), dtype=np.int64)
        for slot, (i, author) in enumerate(zip(packed.segments, packed.authors, strict=True)):
            thread = threads[source := int(runs.threads[batch[i]])]
            owner = (thread.person, author in thread.suspects) if thread.person else (source, author)
            owners[slot] = ids.setdefault(owner, len(ids))
        pairs = np.repeat(owners, np.diff(rows.indptr)) * n + rows.indices
        np.add.at(n_authors, np.unique(pairs) % n, 1)
    return n_authors


def _by_person(threads: Sequence[Thread], runs: Runs) -> Iterator[list[int]]:
    """Yield the runs that are not padded in batches that bound the memory, all runs of a person in one of them."""
    of_person: dict[str | int, list[int]] = {}
    for i in np.flatnonzero(~runs.padded).tolist():
        source = int(runs.threads[i])
        of_person.setdefault(threads[source].person or source, []).append(i)
    batch: list[int] = []
    n_messages = 0
    for of_one in of_person.values():
        batch += of_one
        n_messages += sum(len(runs.messages[i]) for i in of_one)
        if n_messages >= BATCH_MESSAGES:
            yield batch
            batch, n_messages = [], 0
    if batch:
        yield batch


def suspects_against_partners(packed: Packed, suspects: Sequence[Sequence[str]]) -> tuple[NDArray[np.int64], ...]:
    """Return slots of suspects and of others in the same segment, pair by pair; also the segment of each pair.

    Parameters
    ----------
    suspects : sequence of sequence of str, length n_segments
    """
    own: list[int] = []
    other: list[int] = []
    of_segment: dict[int, list[int]] = {}
    for slot, segment in enumerate(packed.segments.tolist()):
        of_segment.setdefault(segment, []).append(slot)
    for segment, slots in of_segment.items():
        suspected = [slot for slot in slots if packed.authors[slot] in suspects[segment]]
        rest = [slot for slot in slots if packed.authors[slot] not in suspects[segment]]
        own += [a for a in suspected for _ in rest]
        other += rest * len(suspected)
    first, second = np.array(own, dtype=np.int64), np.array(other, dtype=np.int64)
    return first, second, packed.segments[first].astype(np.int64)
