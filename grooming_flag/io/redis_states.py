"""States of threads in a Redis server, for workers on several machines, and messages from a stream of that server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from grooming_flag.errors import DataError, MissingExtraError
from grooming_flag.io.states import FORSAKEN, IDLE, Kept, StateStore, new_version

PREFIX = "grooming-flag"
ROWS = 100  # delivered at a time
TIMEOUT = 20.0  # seconds that the server may take to answer, which is more than it is asked to wait

# KEYS: state, rows, stream. ARGV: version seen, version and state to keep, milliseconds until it is forgotten,
# group and entry of the stream (or nothing), rows. Returns the version that is kept, 0 if that seen is not there any
# more, -1 if the entry was finished before.
PUT = """
local of_entry = ARGV[6] ~= ''
if of_entry and #redis.call('XPENDING', KEYS[3], ARGV[5], ARGV[6], ARGV[6], 1) == 0 then return '-1' end
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return '0' end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'state', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
for i = 7, #ARGV do redis.call('XADD', KEYS[2], '*', 'row', ARGV[i]) end
if of_entry then redis.call('XACK', KEYS[3], ARGV[5], ARGV[6]) end
return ARGV[2]
"""


class Entry(NamedTuple):
    """An entry of a stream: its id, and its fields."""

    name: bytes
    fields: dict[bytes, bytes]


class RedisStore:
    """States in a Redis server. Thread-safe.

    What `put` took is as safe as the server keeps what it is told (see its setting `appendfsync`). A server that is
    asked to evict keys (`maxmemory-policy`) must not evict these.

    Parameters
    ----------
    url : str
        ``redis://HOST:PORT/DATABASE``, ``rediss://...`` with TLS or ``unix://PATH``; ``USER:PASSWORD@`` before it.
        It is never shown.
    idle : float
        Seconds without a message after which a thread is forgotten.
    worker : str
        Name of who uses it, which no other worker has at the same time. What one took and did not finish it is given
        again when it comes back under its name; after a minute others are.
    prefix : str
        What all keys begin with.

    Raises
    ------
    DataError
        If the server cannot be reached, refuses, or may throw states away.
    MissingExtraError
        If the package redis is not installed.
    """

    def __init__(self, url: str, idle: float = IDLE, worker: str = PREFIX, prefix: str = PREFIX) -> None:
        try:
            import redis
        except ModuleNotFoundError as error:
            raise MissingExtraError("states in Redis need redis; pip install 'grooming-flag[live]'") from error
        self._failures = redis.RedisError
        self._idle = idle
        self._worker = worker
        self._prefix = prefix
        try:
            self.server: Any = redis.Redis.from_url(
                url, protocol=2, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
            )
        except ValueError:  # which may quote the password
            raise DataError("the address of the Redis server is not one; write redis://HOST:PORT/DATABASE") from None
        self._put = self.server.register_script(PUT)
        self._check_that_it_keeps()
        self.add_group(self._rows, PREFIX)

    def _check_that_it_keeps(self) -> None:
        """Refuse a server that says that it throws keys away when memory is short."""
        with self._errors():
            self.server.ping()
        try:
            settings = self.server.config_get("maxmemory*")
        except self._failures:  # it need not say
            return
        policy = settings.get("maxmemory-policy", "noeviction")
        if policy != "noeviction" and settings.get("maxmemory", "0") != "0":
            raise DataError(f"the Redis server may throw states away ({policy}); set maxmemory-policy noeviction")

    def get(self, thread_id: str) -> Kept | None:
        """Return the state of a thread, if there is one."""
        with self._errors():
            state, version = self.server.hmget(self._key(thread_id), "state", "version")
        return None if version is None else Kept(state, int(version))

    def put(
        self,
        thread_id: str,
        state: bytes,
        version: int,
        rows: Sequence[bytes] = (),
        finished: tuple[str, str, bytes] = ("", "", b""),
    ) -> int:
        """Keep a state; see `StateStore.put`.

        Parameters
        ----------
        finished : tuple
            A stream, a group and an entry that this put finishes; if it was finished before, nothing is changed.
        """
        stream, group, entry = finished
        keys = (self._key(thread_id), self._rows, stream or self._rows)
        kept_for = max(1, int(1000 * self._idle))
        with self._errors():
            done = self._put(keys, (version, new_version(), state, kept_for, group, entry, *rows))
        return int(done)

    def expire(self) -> int:
        """Do nothing, since the server itself forgets threads that had no message for longer than `idle`."""
        return 0

    def deliver(self, write: Callable[[bytes], object]) -> None:
        """Give rows to a function; see `StateStore.deliver`."""
        while entries := self.take(self._rows, PREFIX, ROWS):
            for entry in entries:
                if b"row" in entry.fields:  # else somebody removed it
                    write(entry.fields[b"row"])
                self.finish(self._rows, PREFIX, entry)
                with self._errors():
                    self.server.xdel(self._rows, entry.name)

    def add_group(self, stream: str, group: str) -> None:
        """Make a group of consumers that begins with the first entry of a stream, unless there is one."""
        try:
            with self._errors():
                self.server.xgroup_create(stream, group, id="0", mkstream=True)
        except DataError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def take(self, stream: str, group: str, n: int, wait: float = 0.0) -> list[Entry]:
        """Return up to so many entries of a stream for this worker of a group.

        First what it took before and did not finish, then what others did not for a minute, then new ones, for which
        it waits so many seconds.
        """
        with self._errors():
            found = self.server.xreadgroup(group, self._worker, {stream: "0"}, count=n)
            entries = found[0][1] if found else []
            if not entries:
                entries = self.server.xautoclaim(stream, group, self._worker, int(1000 * FORSAKEN), "0-0", count=n)[1]
            if not entries:
                block = int(1000 * wait) or None
                found = self.server.xreadgroup(group, self._worker, {stream: ">"}, count=n, block=block)
                entries = found[0][1] if found else []
        return [Entry(name, fields or {}) for name, fields in entries]

    def finish(self, stream: str, group: str, entry: Entry) -> None:
        """Say that an entry need not be given to anyone again."""
        with self._errors():
            self.server.xack(stream, group, entry.name)

    @property
    def _rows(self) -> str:
        return f"{self._prefix}:rows"

    def _key(self, thread_id: str) -> bytes:
        return f"{self._prefix}:state:{thread_id}".encode("utf-8", "surrogatepass")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise DataError(f"the Redis server cannot be used: {error}") from None


class RedisStream:
    """Messages that the workers of a group take from a stream, each finished by the put that adds it.

    Parameters
    ----------
    store : RedisStore
    stream, group : str
        Made if they are not there.
    """

    def __init__(self, store: RedisStore, stream: str, group: str) -> None:
        self._store = store
        self._names = (stream, group)
        store.add_group(stream, group)

    def take(self, n: int, wait: float) -> list[Entry]:
        """Return up to so many entries; none if there are none within `wait` seconds."""
        return self._store.take(*self._names, n, wait)

    def finish(self, entry: Entry) -> None:
        """Pass over an entry that is no message."""
        self._store.finish(*self._names, entry)

    def store_for(self, entry: Entry) -> StateStore:
        """Return the store as one whose `put` finishes the entry in the same step."""
        return _StoreFor(self._store, (*self._names, entry.name))


class _StoreFor:
    def __init__(self, store: RedisStore, finished: tuple[str, str, bytes]) -> None:
        self._store = store
        self._finished = finished
        self.get, self.expire, self.deliver = store.get, store.expire, store.deliver

    def put(self, thread_id: str, state: bytes, version: int, rows: Sequence[bytes] = ()) -> int:
        return self._store.put(thread_id, state, version, rows, self._finished)
