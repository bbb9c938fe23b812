"""Messages of many threads to changes of their flags: states in a store, decisions by a policy. It holds no text."""

from __future__ import annotations

import io
import os
import queue
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from typing import IO, NamedTuple

from grooming_flag.decisions import BALANCED, Change, Decider, Watched
from grooming_flag.errors import DataError
from grooming_flag.io.messages import read_fields, read_message
from grooming_flag.io.redis_states import RedisStream
from grooming_flag.io.scores import encode_row
from grooming_flag.io.states import SqliteStore, StateStore
from grooming_flag.io.streams import read_lines
from grooming_flag.model import Model
from grooming_flag.policy import Policy
from grooming_flag.records import Message

BATCH = 1000  # messages added in one step
PATIENCE = 1.0  # seconds to wait for messages before there may be something else to do
SOON = 0.05
WARM = 1000  # threads whose states are at hand, so that they need not be read again if no other worker wrote


class _Warm(NamedTuple):
    """A thread in memory, and the version of its state in the store."""

    thread: Watched
    version: int


class Watcher:
    """Watches all threads of a platform. Thread-safe if the store is.

    Parameters
    ----------
    model : Model
    store : StateStore
    policy : Policy
        By default a thread is flagged at `balanced`, and no longer below it.
    shadow_models : mapping of str to Model
        The models that shadows of the policy name.
    hands_on : bool
        Whether the store is to keep changes, as JSON lines, until they are delivered.
    clock : callable
        Seconds since 1970, for the cooldown of the policy.

    Attributes
    ----------
    n_damaged : int
        States that could not be read; their threads were begun anew.

    Raises
    ------
    PolicyError
        If the policy names an operating point that its model has not.

    Examples
    --------
    >>> from grooming_flag import Message, load_model, read_threads
    >>> from grooming_flag.io.states import SqliteStore
    >>> from grooming_flag.policy import Policy, Rule
    >>> from grooming_flag.watcher import Watcher
    >>> rule = Rule("all", "sensitive", min_messages=10, hysteresis=1.0)
    >>> watcher = Watcher(load_model(), SqliteStore(":memory:"), Policy((rule,)))
    >>> for thread in read_threads("examples/threads.jsonl"):
    ...     for message in thread.messages:
    ...         for change in watcher.add(thread.thread_id, message):
    ...             print(change.assessment.thread_id, change.assessment.n_messages, change.is_up)
    skatepark-videos 50 True
    block-server-friend 30 True
    bus-stop-chat 14 True
    drawing-club-mentor 81 True
    """

    def __init__(
        self,
        model: Model,
        store: StateStore,
        policy: Policy = BALANCED,
        shadow_models: Mapping[str, Model] | None = None,
        hands_on: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._hands_on = hands_on
        self._clock = clock
        self._decider = Decider(model, policy, shadow_models)
        self._warm: dict[str, _Warm] = {}

    @property
    def n_damaged(self) -> int:
        """States that could not be read; their threads were begun anew."""
        return self._decider.n_damaged

    def add(
        self,
        thread_id: str,
        message: Message,
        context: Mapping[str, str] | None = None,
        store: StateStore | None = None,
    ) -> list[Change]:
        """Add a message; return the flags that changed by it.

        Parameters
        ----------
        thread_id : str
        message : Message
        context : mapping of str to str, optional
            Of `records.CONTEXT` what is known; it stays known for later messages.
        store : StateStore, optional
            In place of the watcher's own, as the message came from it.
        """
        store = store or self.store
        warm = self._warm.pop(thread_id, None)  # so that it is in one place at a time
        while True:
            if warm is None:
                found = store.get(thread_id)
                state, version = found or (None, 0)
                warm = _Warm(self._decider.thaw(thread_id, state), version)
            changes = self._decider.add(warm.thread, message, self._clock(), context)
            rows = [encode_row(change.row()) for change in changes] if self._hands_on else ()
            version = store.put(thread_id, warm.thread.frozen(), warm.version, rows)
            if version > 0:
                self._keep_warm(thread_id, _Warm(warm.thread, version))
            if version != 0:
                return changes
            warm = None  # another worker was faster

    def _keep_warm(self, thread_id: str, warm: _Warm) -> None:
        self._warm[thread_id] = warm
        if len(self._warm) > WARM:
            with suppress(KeyError, RuntimeError):  # of several threads of execution another may do the same
                self._warm.pop(next(iter(self._warm)))


def watch_lines(
    watcher: Watcher,
    path: str,
    stop: Callable[[], bool],
    on_bad: Callable[[DataError], None],
    again: bool = False,
) -> Iterator[int]:
    """Add messages that come as lines of JSON; yield how many, whenever those that were there are kept.

    Parameters
    ----------
    watcher : Watcher
    path : str
        ``-`` for standard input; decompressed if the name ends in .gz or .zst.
    stop : callable
        Returns whether to end when those that were read are kept.
    on_bad : callable
        Gets the error of each line that is no message.
    again : bool
        Whether the lines that were kept last time come first, and are to be passed over; if the first line is another
        than then, none is. Needs a `SqliteStore`.

    Raises
    ------
    DataError
        If a file is read a second time but not `again`, or has become shorter.
    """
    places = watcher.store if isinstance(watcher.store, SqliteStore) else None
    in_one_step = places.transaction if places else nullcontext
    source, n_known, last = "", 0, 0
    for lines in _as_they_come(path, stop):
        n_added = 0
        if lines and not source and places:
            source = _source(path, lines[0][1])
            if not again and path != "-" and (n_before := places.position(source)):
                raise DataError(f"{path}: {n_before} lines were read before; go on after them (--again), not twice")
        with in_one_step():
            if places and (again or path != "-"):
                n_known = places.position(source)  # another worker may have read on
            for number, line in lines:
                if number <= n_known:
                    continue
                try:
                    arrival = read_message(line)
                except DataError as error:
                    if not line.endswith(b"\n") and path != "-":  # somebody is still writing it
                        lines.pop()
                        break
                    on_bad(DataError(f"{path}, line {number}: {error}"))
                    continue
                watcher.add(*arrival)
                n_added += 1
            last = lines[-1][0] if lines else last
            if lines and places:
                places.set_position(source, max(n_known, last))
        yield n_added
    if last < n_known and not stop():
        raise DataError(f"{path}: has fewer lines than the {n_known} that were read before; is it cut short?")


def _source(path: str, first: bytes) -> str:
    """Return a name for what is read, which another file in the same place has not."""
    return f"{path if path == '-' else os.path.abspath(path)} {zlib.crc32(first):08x}"


def watch_stream(
    watcher: Watcher, stream: RedisStream, stop: Callable[[], bool], on_bad: Callable[[DataError], None]
) -> Iterator[int]:
    """Add messages that a stream has, each in one step with finishing its entry; see `watch_lines`."""
    while not stop():
        n_added = 0
        for entry in stream.take(BATCH, PATIENCE):
            try:
                arrival = read_fields(entry.fields)
            except DataError as error:
                on_bad(DataError(f"entry {entry.name.decode()}: {error}"))
                stream.finish(entry)
                continue
            watcher.add(*arrival, store=stream.store_for(entry))
            n_added += 1
            if stop():
                break
        yield n_added


def _as_they_come(path: str, stop: Callable[[], bool]) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the numbers and lines that are there, of which a thread of execution reads a few ahead."""
    waiting: queue.Queue[tuple[int, bytes] | BaseException | None] = queue.Queue(2 * BATCH)

    def read() -> None:
        try:
            for numbered in read_lines(path, stdin=_standard_input() if path == "-" else None):
                waiting.put(numbered)
                if stop():
                    break
            waiting.put(None)
        except BaseException as error:  # whatever it is, nobody is to wait for more
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    found: tuple[int, bytes] | BaseException | None = (0, b"")
    while isinstance(found, tuple):
        lines: list[tuple[int, bytes]] = []
        with suppress(queue.Empty):
            found = waiting.get(timeout=SOON if stop() else PATIENCE)
            while isinstance(found, tuple):
                lines.append(found)
                if len(lines) == BATCH:
                    break
                found = waiting.get_nowait()
        yield lines
        if stop() and not lines:
            return
    if isinstance(found, MemoryError):
        raise DataError(f"{path}: a line does not fit into memory")
    if found is not None:
        raise found


def _standard_input() -> IO[bytes] | None:
    """Return standard input as a file of its own, for which Python does not wait when it ends."""
    if sys.stdin is None:
        raise DataError("standard input is closed; name a file")
    try:
        return open(os.dup(sys.stdin.fileno()), "rb")
    except io.UnsupportedOperation:
        return None
