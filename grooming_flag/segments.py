"""Threads to segments: the runs of messages that are scored together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grooming_flag.errors import ModelError
from grooming_flag.records import Message


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
            length = i - start
            if length and (length >= self.max_messages or (length >= self.min_messages and self._gap(messages, i))):
                closed, start = start, i
            yield closed, start

    def ends(self, closed: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the last segments of a thread of `stop` messages, given where `walk` arrived."""
        if stop - start < self.min_messages:
            yield closed, stop
        else:
            if start > closed:
                yield closed, start
            yield start, stop

    def _gap(self, messages: Sequence[Message], i: int) -> bool:
        if self.max_gap is None:
            return False
        before, after = messages[i - 1].sent_at, messages[i].sent_at
        return before is not None and after is not None and after - before > self.max_gap
