"""What a model is trained on: segments, random windows, authors against partners, and the privacy floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from grooming_flag.features import OWN, FeatureExtractor, Packed, pack_by_author
from grooming_flag.records import Message, Thread
from grooming_flag.segments import SegmentRule

Run = Sequence[Message]


class Runs(NamedTuple):
    """Runs of messages, the thread that each is from, and whether it is a random window of it."""

    messages: list[Run]
    threads: NDArray[np.int64]
    is_window: NDArray[np.bool_]


def segments_and_windows(
    threads: Sequence[Thread],
    risky: NDArray[np.bool_],
    rule: SegmentRule,
    windows: tuple[int, int],
    window_messages: tuple[int, int],
    rng: np.random.Generator,
) -> Runs:
    """Return the segments of all threads and, from each longer thread, random windows of uniform length.

    Windows teach the risk head little text: without them it is at home in whole threads only.

    Parameters
    ----------
    windows : tuple of two ints
        How many of each risky thread, and of each other thread.
    window_messages : tuple of two ints
        Shortest and longest window.
    """
    low, high = window_messages

    def lengths(n: int, is_risky: bool) -> list[int]:
        return [int(rng.integers(low, high + 1)) for _ in range(windows[0 if is_risky else 1] if n > low else 0)]

    return _runs(threads, risky, rule, lengths, rng)


def lengths_of_all_kinds(
    threads: Sequence[Thread], risky: NDArray[np.bool_], rule: SegmentRule, rng: np.random.Generator
) -> Runs:
    """Return the segments and random windows of log-uniform length, for a calibration at every amount of text."""

    def lengths(n: int, is_risky: bool) -> list[int]:
        longest = min(n, rule.max_messages) + 1.0
        return [int(np.exp(rng.uniform(0.0, np.log(longest)))) for _ in range(6 if is_risky else 1)]

    return _runs(threads, risky, rule, lengths, rng)


def _runs(
    threads: Sequence[Thread],
    risky: NDArray[np.bool_],
    rule: SegmentRule,
    lengths: Callable[[int, bool], list[int]],
    rng: np.random.Generator,
) -> Runs:
    messages: list[Run] = []
    sources: list[int] = []
    is_window: list[bool] = []
    for i, thread in enumerate(threads):
        runs = [thread.messages[a:b] for a, b in rule.split(thread.messages)]
        n_segments, n = len(runs), len(thread.messages)
        for length in lengths(n, bool(risky[i])):
            start = int(rng.integers(0, max(n - length, 0) + 1))
            runs.append(thread.messages[start : start + length])
        messages += runs
        sources += [i] * len(runs)
        is_window += [place >= n_segments for place in range(len(runs))]
    return Runs(messages, np.array(sources, dtype=np.int64), np.array(is_window, dtype=bool))


def buckets_above_floor(extractor: FeatureExtractor, threads: Sequence[Thread], floor: int) -> NDArray[np.bool_]:
    """Return which buckets hold n-grams of at least `floor` distinct authors, shape (n_features,).

    An author id counts once a thread, since ids may mean another person elsewhere; in the threads of one `person`
    all suspects count as one author, and all others as one.
    """
    packed = pack_by_author(thread.messages for thread in threads)
    rows = extractor.rows(packed, OWN)
    ids: dict[tuple[str | None, str | bool], int] = {}
    owners = np.empty(len(packed.authors), dtype=np.int64)
    for slot, (i, author) in enumerate(zip(packed.segments, packed.authors, strict=True)):
        thread = threads[i]
        is_suspect = author in thread.suspects
        owner = (thread.person, is_suspect) if thread.person else (thread.thread_id, author)
        owners[slot] = ids.setdefault(owner, len(ids))
    pairs = np.repeat(owners, np.diff(rows.indptr)) * extractor.n_features + rows.indices
    buckets = np.unique(pairs) % extractor.n_features
    return np.bincount(buckets, minlength=extractor.n_features) >= floor


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


def mirrored(differences: csr_matrix) -> tuple[csr_matrix, NDArray[np.int64]]:
    """Return the rows, every second one negated, and the sign of each: two balanced classes."""
    signs = np.where(np.arange(differences.shape[0]) % 2 == 0, 1, -1)
    rows = differences.copy()
    rows.data *= np.repeat(signs, np.diff(rows.indptr))
    return rows, signs
