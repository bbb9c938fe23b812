"""Where the states of threads are kept between messages; here: in a SQLite file."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from grooming_flag.errors import DataError

IDLE = 30 * 86_400.0
"""After so many seconds without a message a thread is forgotten, unless it is said otherwise."""


PATIENCE = 10.0  # seconds that several workers may take to open a file at once
FORSAKEN = 60.0
"""Seconds after which another worker takes what one took and did not finish."""


class Kept(NamedTuple):
    """A state and its version, a number that no other state of the thread has."""

    state: bytes
    version: int


class StateStore(Protocol):
    """Keeps one state a thread, of which it knows nothing but its bytes.

    Several workers may share a store. Whoever puts a state says which version it saw; if another was faster, nothing
    is changed and it begins again. So no message is lost, and none counts twice.
    """

    def get(self, thread_id: str) -> Kept | None:
        """Return the state of a thread, if there is one."""

    def put(self, thread_id: str, state: bytes, version: int, rows: Sequence[bytes] = ()) -> int:
        """Keep a state in place of the one of a version, 0 for none, and add rows to those that `deliver` gives.

        Returns its own version, or 0 if that of the place was another; then nothing is changed. Below 0 nothing is
        changed either, since the message has been added before.
        """

    def expire(self) -> int:
        """Forget threads that had no message for long; return how many."""

    def deliver(self, write: Callable[[bytes], object]) -> None:
        """Give rows to a function, oldest first, and forget them once it has taken them.

        A row goes to one worker at a time, and to another, or twice, only if a worker was killed meanwhile.
        """


class SqliteStore:
    """States in a SQLite file, for the processes of one machine. Thread-safe.

    What `put` took is on the disk when it returns or, inside of `transaction`, when this ends.

    Parameters
    ----------
    path : path
        Made if it is not there, readable for its owner alone; ``:memory:`` for none.
    idle : float
        Seconds without a message after which a thread is forgotten.
    worker : str
        Name of who uses it, which no other worker has at the same time. Rows that one took and did not get rid of it is
        given again; after a minute others are.

    Raises
    ------
    DataError
        If the file cannot be used, or is something else.

    Examples
    --------
    >>> from grooming_flag.io.states import SqliteStore
    >>> store = SqliteStore(":memory:")
    >>> store.put("t1", b"state", version=0) > 0, store.put("t1", b"other", version=0)
    (True, 0)
    >>> store.get("t1").state
    b'state'
    """

    def __init__(self, path: str | os.PathLike[str], idle: float = IDLE, worker: str = "worker") -> None:
        self._path = os.fspath(path)
        self._idle = idle
        self._worker = worker
        self._lock, self._delivering = threading.RLock(), threading.Lock()
        try:
            if self._path != ":memory:" and not os.path.exists(self._path):
                os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(self._path, timeout=60.0, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error
        self._prepare()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all that is done inside in one step, or nothing of it if it raises; other workers wait meanwhile."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._run("ROLLBACK")

    def get(self, thread_id: str) -> Kept | None:
        """Return the state of a thread, if there is one."""
        found = self._run(
            "SELECT state, version FROM states WHERE thread_id = ? AND touched >= ?",
            _key(thread_id),
            time.time() - self._idle,
        )
        return Kept(*found[0]) if found else None

    def put(self, thread_id: str, state: bytes, version: int, rows: Sequence[bytes] = ()) -> int:
        """Keep a state; see `StateStore.put`."""
        key, now, new = _key(thread_id), time.time(), new_version()
        with self.transaction():
            found = self._run("SELECT version FROM states WHERE thread_id = ? AND touched >= ?", key, now - self._idle)
            if (found[0][0] if found else 0) != version:
                return 0
            self._run("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", key, state, new, now)
            for row in rows:
                self._run("INSERT INTO rows (row, taken) VALUES (?, 0)", row)
        return new

    def expire(self) -> int:
        """Forget threads that had no message for longer than `idle`; return how many."""
        return len(self._run("DELETE FROM states WHERE touched < ? RETURNING 1", time.time() - self._idle))

    def deliver(self, write: Callable[[bytes], object]) -> None:
        """Give rows to a function; see `StateStore.deliver`."""
        now = time.time()
        mine = now - FORSAKEN, self._worker
        with self._delivering:
            if not self._run("SELECT 1 FROM rows WHERE taken < ? OR worker = ? LIMIT 1", *mine):
                return
            with self.transaction():  # nobody has to wait while they are written
                found = self._run("SELECT number, row FROM rows WHERE taken < ? OR worker = ? ORDER BY number", *mine)
                self._run(
                    "UPDATE rows SET taken = ?, worker = ? WHERE taken < ? OR worker = ?", now, self._worker, *mine
                )
            for number, row in found:
                write(row)
                self._run("DELETE FROM rows WHERE number = ?", number)

    def position(self, source: str) -> int:
        """Return what `set_position` was last told of a source; 0 at first."""
        found = self._run("SELECT position FROM sources WHERE source = ?", _key(source))
        return found[0][0] if found else 0

    def set_position(self, source: str, position: int) -> None:
        """Keep how far a source has been read."""
        self._run("INSERT OR REPLACE INTO sources VALUES (?, ?)", _key(source), position)

    def _prepare(self) -> None:
        with self.transaction():
            ((kind,),) = self._run("PRAGMA application_id")
            if kind != KIND and self._run("SELECT 1 FROM sqlite_schema LIMIT 1"):
                raise DataError(f"{self._path}: is a database of something else; name another file")
            for statement in SCHEMA:
                self._run(statement)
        self._set_wal()
        self._run("PRAGMA synchronous = FULL")

    def _set_wal(self) -> None:
        """Switch to a write-ahead log, for which SQLite itself does not wait while another worker does the same."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._run("PRAGMA journal_mode = WAL")
                return
            except DataError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _run(self, statement: str, *values: object) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise self._error(error) from error

    def _error(self, error: Exception) -> DataError:
        return DataError(f"{self._path}: cannot be used as a store of states: {error}")


KIND = 0x67666C73  # by which the file is known, and not taken for another
SCHEMA = (
    f"PRAGMA application_id = {KIND}",
    "CREATE TABLE IF NOT EXISTS states (thread_id BLOB PRIMARY KEY, state BLOB, version INTEGER, touched REAL)",
    "CREATE INDEX IF NOT EXISTS touched ON states (touched)",
    "CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY AUTOINCREMENT, row BLOB, taken REAL, worker TEXT)",
    "CREATE TABLE IF NOT EXISTS sources (source BLOB PRIMARY KEY, position INTEGER)",
)


def new_version() -> int:
    """Return a number that nobody else comes upon."""
    return int.from_bytes(os.urandom(7), "little") + 1


def _key(thread_id: str) -> bytes:
    return thread_id.encode("utf-8", "surrogatepass")
