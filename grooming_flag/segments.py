"""Threads to segments: the runs of messages that are scored together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from grooming_flag.errors import ModelError
from grooming_flag.records import Message, ThreadColumns


@dataclass(frozen=True, slots=True)
class SegmentRule:
    """When a segment closes.

    A segment closes when it has `max_messages`, or when it has `min_messages` and the next one was sent more than
    `max_gap` seconds later; so what is too short joins what follows. A short rest at the end joins the segment
    before it.

    Parameters
    ----------
    max_messages : int
        At least 1.
    min_messages : int
        At most `max_messages`.
    max_gap : float, optional
        Seconds; None never closes on a gap.
    """

    max_messages: int = 200
    min_messages: int = 20
    max_gap: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_messages <= self.max_messages or self.max_messages < 1:
            raise ModelError(f"{self}: use at least 1 message, and no greater minimum than maximum")

    def split(self, messages: Sequence[Message]) -> Iterator[tuple[int, int]]:
        """Yield first and one-past-last message of each segment; together they cover all messages in order."""
        first = last = 0
        for closed, start in self.walk(messages):
            if closed > first:
                yield first, closed
            first, last = closed, start
        yield from self.ends(first, last, len(messages))

    def walk(self, messages: Sequence[Message]) -> Iterator[tuple[int, int]]:
        """Yield, after each message, the first message of the segment before the open one, and of the open one.

        What comes before the two is settled; they may still become one, see `ends`. In the first segment both are 0.
        """
        closed = start = 0
        for i in range(len(messages)):
            if self.closes(i - start, messages[i - 1].sent_at, messages[i].sent_at):
                closed, start = start, i
            yield closed, start

    def closes(self, length: int, before: float | None, after: float | None) -> bool:
        """Return whether an open segment of so many messages, the last sent at `before`, closes for one at `after`."""
        return length > 0 and (
            length >= self.max_messages or (length >= self.min_messages and self._is_gap(before, after))
        )

    def ends(self, closed: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the last segments of a thread of `stop` messages, given where `walk` arrived."""
        if stop - start < self.min_messages:
            yield closed, stop
        else:
            if start > closed:
                yield closed, start
            yield start, stop

    def _is_gap(self, before: float | None, after: float | None) -> bool:
        return self.max_gap is not None and before is not None and after is not None and after - before > self.max_gap


def whole_segments(batches: Iterable[ThreadColumns], size: int) -> Iterator[ThreadColumns]:
    """Yield batches whose last thread, if it goes on, ends with a segment of `size` messages that stays what it is.

    What follows is held back for the next batch, one whole segment at least, which a short rest may join.
    """
    held: ThreadColumns | None = None
    for batch in batches:
        if held is not None:
            batch = _joined(held, batch)
            held = None
        if batch.goes_on:
            batch, held = _held_back(batch, size)
        if batch.thread_ids:
            yield batch


def _held_back(batch: ThreadColumns, size: int) -> tuple[ThreadColumns, ThreadColumns]:
    length = batch.lengths[-1]
    n_ready = max(length // size - 1, 0) * size
    first = len(batch.codes) - length + n_ready
    held = replace(
        batch,
        thread_ids=batch.thread_ids[-1:],
        lengths=[length - n_ready],
        authors=batch.authors[-1:],
        codes=batch.codes[first:],
        text=batch.text[batch.offsets[first] : batch.offsets[-1]],
        offsets=batch.offsets[first:] - batch.offsets[first],
        is_rest=n_ready > 0 or (batch.is_rest and len(batch.thread_ids) == 1),
    )
    n_threads = len(batch.thread_ids) - (n_ready == 0)
    ready = replace(
        batch,
        thread_ids=batch.thread_ids[:n_threads],
        lengths=[*batch.lengths[:-1], n_ready][:n_threads],
        authors=batch.authors[:n_threads],
        codes=batch.codes[:first],
        offsets=batch.offsets[: first + 1],
        goes_on=n_ready > 0,
    )
    return ready, held


def _joined(held: ThreadColumns, batch: ThreadColumns) -> ThreadColumns:
    start, stop = batch.offsets[[0, -1]]
    return replace(
        batch,
        lengths=[held.lengths[0] + batch.lengths[0], *batch.lengths[1:]],
        codes=np.concatenate([held.codes, batch.codes]),
        text=held.text + batch.text[start:stop],
        offsets=np.concatenate([held.offsets, batch.offsets[1:] - start + held.offsets[-1]]),
        is_rest=held.is_rest,
    )
