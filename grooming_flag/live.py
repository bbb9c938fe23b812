"""Live threads: an assessment that is kept up to date message by message, from a small state without text.

The open segment, and the one before it while the open one is so short that it may still join it, are kept as the
weighted buckets that each author has (`_tally.py`). Of settled segments only the sums of the strongest are kept.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Annotated, Self

import msgspec
import numpy as np

from grooming_flag._tally import Tally, pack
from grooming_flag.errors import DataError, ModelError
from grooming_flag.model import Model, SegmentSums
from grooming_flag.policy import OperatingPoint

if TYPE_CHECKING:  # kept out of the cold start
    from grooming_flag.records import Assessment, Message

VERSION = 1
"""Version of the bytes of a state. Raise it when they change; states of other versions are refused, and a platform that
meets one begins the thread anew."""

MAGIC = b"gfls"
CHECKSUM = 8
MAX_AUTHORS = 1 << 16
"""Authors of a thread beyond so many are not counted, so that the size of a state has a bound."""


class _Run:
    """A segment that may still grow."""

    __slots__ = ("authors", "numbers", "start", "tally")

    def __init__(self, start: int, tally: Tally) -> None:
        self.start = start
        self.tally = tally
        self.authors: list[str] = []
        self.numbers: dict[str, int] = {}

    def number(self, author: str) -> int:
        """Return the number of an author, who need not have written here before."""
        number = self.numbers.get(author)
        if number is None:
            number = self.numbers[author] = len(self.authors)
            self.authors.append(author)
        return number

    def sums(self, stop: int) -> SegmentSums:
        risk, amount, own = self.tally.sums()
        return SegmentSums(self.start, stop, risk, amount, own, self.authors[:])


class ThreadState:
    """What an assessment needs of the messages of a thread so far; made by `Model.watch` and `Model.resume`.

    It may be used from several threads of execution, which take turns: messages count in the order in which `add` is
    entered. It never waits for anything else, so asynchronous code calls it directly.

    What it keeps does not grow with the length of the thread. It holds ids of authors and hashes of features, no text.
    Still treat it as confidential: who can compute the hashes can test whether a word was said.

    Parameters
    ----------
    model : Model
    thread_id : str
    point : OperatingPoint

    Examples
    --------
    >>> from grooming_flag import Message, load_model
    >>> model = load_model()
    >>> watch = model.watch("t1")
    >>> watch.add(Message("a", "hi there")).abstained
    True
    >>> watch = model.resume(watch.to_bytes())
    >>> watch.add(Message("b", "hello")).n_messages
    2
    """

    def __init__(self, model: Model, thread_id: str, point: OperatingPoint) -> None:
        rule = model.segment_rule
        if model.extractor.n_features * (rule.max_messages + rule.min_messages + 1) > 1 << 32:
            raise ModelError(f"{model.name} has too many features, or too long segments, to watch a thread with")
        self.thread_id = thread_id
        self.model = model
        self._point = point
        self._lock = threading.Lock()
        self._is_whole = True
        self._n_messages = 0
        self._last_sent_at: float | None = None
        self._authors: set[int] = set()
        self._settled: SegmentSums | None = None  # the strongest of them
        self._before: _Run | None = None  # the segment before the open one together with it, while that is short
        self._held: SegmentSums | None = None  # the segment before the open one alone, in the meantime
        self._open = self._run(0)

    def __repr__(self) -> str:
        return f"ThreadState(thread_id={self.thread_id!r}, n_messages={self._n_messages})"

    @property
    def assessment(self) -> Assessment:
        """What `add` returned last: the assessment of all messages so far."""
        with self._lock:
            self._check_whole()
            return self._assess()

    def add(self, message: Message) -> Assessment:
        """Add a message; return what `Model.assess` gives for all messages so far.

        Parameters
        ----------
        message : Message
            Its `message_id` plays no part; a message that is delivered twice counts twice.

        Raises
        ------
        DataError
            If adding a message before was interrupted, by a signal or for want of memory. Resume an older state.
        """
        found, n = self.model.scanner.find(message.text)
        with self._lock:
            self._check_whole()
            self._is_whole = False
            self._close_if_due(message.sent_at)
            author, run = message.author, self._open
            if author not in run.numbers and len(self._authors) < MAX_AUTHORS:
                self._authors.add(_hash(author))
            run.tally.add(run.number(author), found, n)
            self._n_messages += 1
            if self.model.segment_rule.max_gap is not None:
                self._last_sent_at = message.sent_at
            if self._before is not None:
                if self._n_messages - run.start >= self.model.segment_rule.min_messages:
                    self._settle()
                else:
                    self._before.tally.add(self._before.number(author), found, n)
            self._is_whole = True
            return self._assess()

    def to_bytes(self) -> bytes:
        """Return the state, for `Model.resume` of this model or of one that differs in prior and operating points."""
        with self._lock:
            self._check_whole()
            body = _Body(
                _encoded(self.thread_id),
                self._n_messages,
                self._last_sent_at,
                np.array(sorted(self._authors), "<u8").tobytes(),
                None if self._settled is None else _stored_sums(self._settled),
                None if self._held is None else _stored_sums(self._held),
                None if self._before is None else _stored_run(self._before),
                _stored_run(self._open),
            )
        digested = self.model.scoring_digest + msgspec.msgpack.encode(body)
        return MAGIC + bytes([VERSION]) + hashlib.blake2b(digested, digest_size=CHECKSUM).digest() + digested

    @classmethod
    def from_bytes(cls, model: Model, state: bytes, point: OperatingPoint) -> Self:
        """Return the state that `to_bytes` gave; see `Model.resume`."""
        try:
            return cls._restored(model, _read(state, model), point)
        except (ValueError, OverflowError) as error:
            if isinstance(error, (DataError, ModelError)):
                raise
            raise _damaged() from error

    @classmethod
    def _restored(cls, model: Model, body: _Body, point: OperatingPoint) -> Self:
        made = cls(model, _decoded(body.thread_id), point)
        made._n_messages = body.n_messages
        made._last_sent_at = body.last_sent_at
        made._authors = set(np.frombuffer(body.authors, "<u8").tolist())
        made._settled = None if body.settled is None else _restored_sums(body.settled)
        made._held = None if body.held is None else _restored_sums(body.held)
        made._before = None if body.before is None else made._restored_run(body.before)
        made._open = made._restored_run(body.open)
        return made

    def _check_whole(self) -> None:
        if not self._is_whole:
            raise DataError("adding a message to the state of a thread was interrupted; resume an older state")

    def _run(self, start: int) -> _Run:
        return _Run(start, Tally(self.model.extractor.n_features.bit_length() - 1))

    def _close_if_due(self, sent_at: float | None) -> None:
        """Close the open segment if the next message begins another."""
        if self.model.segment_rule.closes(self._n_messages - self._open.start, self._last_sent_at, sent_at):
            self._before, self._held = self._open, self._open.sums(self._n_messages)
            self._open = self._run(self._n_messages)

    def _settle(self) -> None:
        """Part with the segment before the open one, which will not join it any more."""
        if self._settled is None or (self._held is not None and self._held.risk > self._settled.risk):
            self._settled = self._held
        self._before = self._held = None

    def _assess(self) -> Assessment:
        strongest = (self._before or self._open).sums(self._n_messages)
        if self._settled is not None and self._settled.risk >= strongest.risk:
            strongest = self._settled
        return self.model.answer(self.thread_id, strongest, self._n_messages, len(self._authors), self._point)

    def _restored_run(self, stored: _StoredRun) -> _Run:
        run = self._run(stored.start)
        for author in stored.authors:
            run.number(_decoded(author))
        n_authors = len(run.authors)
        is_known = run.tally.restore(stored.entries, n_authors, self.model.scanner.packed_weights)
        if not is_known or n_authors > self._n_messages - stored.start:
            raise _damaged()
        return run


Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Sum = Annotated[int, msgspec.Meta(gt=-(1 << 53), lt=1 << 53)]


class _StoredSums(msgspec.Struct, array_like=True):
    start: Count
    stop: Count
    risk: Sum
    amount: Count
    own: list[Sum]
    authors: list[bytes]


class _StoredRun(msgspec.Struct, array_like=True):
    start: Count
    authors: list[bytes]
    entries: bytes


class _Body(msgspec.Struct, array_like=True):
    thread_id: bytes
    n_messages: Count
    last_sent_at: float | None
    authors: bytes
    settled: _StoredSums | None
    held: _StoredSums | None
    before: _StoredRun | None
    open: _StoredRun


_decoder = msgspec.msgpack.Decoder(_Body)


def _read(state: bytes, model: Model) -> _Body:
    if state[: len(MAGIC)] != MAGIC:
        raise DataError("these bytes are not the state of a thread; give what to_bytes returned")
    head = len(MAGIC) + 1
    if state[len(MAGIC) : head] != bytes([VERSION]):
        raise DataError(f"the state of a thread is not of version {VERSION}; begin the thread anew")
    checksum, digested = state[head : head + CHECKSUM], state[head + CHECKSUM :]
    if hashlib.blake2b(digested, digest_size=CHECKSUM).digest() != checksum:
        raise _damaged()
    size = len(model.scoring_digest)
    if digested[:size] != model.scoring_digest:
        raise ModelError(f"the state of a thread is of another model than {model.name}; begin the thread anew")
    try:
        return _decoder.decode(digested[size:])
    except msgspec.MsgspecError as error:
        raise _damaged() from error


def _damaged() -> DataError:
    return DataError("the state of a thread is damaged; begin the thread anew")


def _stored_sums(sums: SegmentSums) -> _StoredSums:
    authors = [_encoded(author) for author in sums.authors]
    return _StoredSums(sums.start, sums.stop, sums.risk, sums.amount, sums.own, authors)


def _restored_sums(stored: _StoredSums) -> SegmentSums:
    if len(stored.own) != len(stored.authors):
        raise _damaged()
    authors = [_decoded(author) for author in stored.authors]
    return SegmentSums(stored.start, stored.stop, stored.risk, stored.amount, stored.own, authors)


def _stored_run(run: _Run) -> _StoredRun:
    entries = np.empty(len(run.tally), np.uint32)
    run.tally.copy_entries(entries.data)
    entries.sort()
    return _StoredRun(run.start, [_encoded(author) for author in run.authors], pack(entries.data))


def _hash(author: str) -> int:
    return int.from_bytes(hashlib.blake2b(_encoded(author), digest_size=8).digest(), "little")


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
