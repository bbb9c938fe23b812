"""Threads read into columns, some hundred at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from grooming_flag.io._messages import Unpacker
from grooming_flag.records import ThreadColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_BYTES = 1 << 17  # of text


def without_first(batches: Iterable[ThreadColumns], n: int) -> Iterator[ThreadColumns]:
    """Yield the batches without their first `n` threads."""
    for batch in batches:
        if n >= len(batch.thread_ids):
            n -= len(batch.thread_ids) - batch.goes_on
            continue
        if n:
            first = sum(batch.lengths[:n])
            batch = replace(
                batch,
                thread_ids=batch.thread_ids[n:],
                lengths=batch.lengths[n:],
                authors=batch.authors[n:],
                codes=batch.codes[first:],
                offsets=batch.offsets[first:],
                is_rest=False,
            )
            n = 0
        yield batch


class Columns:
    """Buffers that threads are read into, one after the other; see `Unpacker`.

    Attributes
    ----------
    unpacker : Unpacker
        Reads a thread. Ask for room first.
    """

    _thread_ids: list[str]
    _lengths: list[int]
    _authors: list[list[str]]
    _text: bytearray
    _offsets: NDArray[np.int64]
    _codes: NDArray[np.int32]

    def __init__(self) -> None:
        self.unpacker = Unpacker()
        self._is_rest = False
        self._clear()

    def __len__(self) -> int:
        """Return how many threads there are."""
        return len(self._thread_ids)

    @property
    def is_full(self) -> bool:
        """Whether there is enough for a batch."""
        return self.unpacker.used()[1] >= BATCH_BYTES or len(self) >= BATCH_BYTES >> 8

    @property
    def is_long(self) -> bool:
        """Whether there is enough for several batches, since a thread does not end."""
        n, end = self.unpacker.used()
        return bool(max(n, end) >= 4 * BATCH_BYTES)

    def make_room(self, n_messages: int, n_bytes: int) -> None:
        """Make room for so many more messages with so much text, in UTF-8, in all."""
        if not self.unpacker.has_room(n_messages, n_bytes):
            self._grow(n_messages, n_bytes)

    def _grow(self, n_messages: int, n_bytes: int) -> None:
        n, end = self.unpacker.used()
        text = bytearray(max(2 * BATCH_BYTES, end + 2 * n_bytes))
        offsets = np.zeros(max(BATCH_BYTES >> 3, n + 2 * n_messages + 1) + 1, dtype=np.int64)
        codes = np.empty(len(offsets), dtype=np.int32)
        text[:end] = self._text[:end]
        offsets[: n + 1], codes[:n] = self._offsets[: n + 1], self._codes[:n]
        self._text, self._offsets, self._codes = text, offsets, codes
        self.unpacker.use(text, offsets, codes)

    def keep(self, thread_id: str) -> None:
        """Keep the thread that was read last."""
        length, authors = self.unpacker.keep()
        self._thread_ids.append(thread_id)
        self._lengths.append(length)
        self._authors.append(authors)

    def take(self, goes_on: bool = False) -> ThreadColumns:
        """Return the threads that were kept, and begin anew."""
        n = sum(self._lengths)
        columns = ThreadColumns(
            self._thread_ids,
            self._lengths,
            self._authors,
            self._codes[:n],
            self._text,
            self._offsets[: n + 1],
            goes_on,
            self._is_rest,
        )
        self._clear()
        self._is_rest = goes_on
        return columns

    def _clear(self) -> None:
        self._thread_ids, self._lengths, self._authors = [], [], []
        self._text = bytearray()
        self._offsets = np.zeros(1, dtype=np.int64)
        self._codes = np.empty(0, dtype=np.int32)
        self.unpacker.forget()
        self._grow(0, 0)
