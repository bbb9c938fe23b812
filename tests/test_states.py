"""Stores of states: nothing that was put is lost, nothing is put over what another worker put."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from builders import CANARY, error_of

from grooming_flag import DataError
from grooming_flag.io.redis_states import RedisStore, RedisStream
from grooming_flag.io.states import Kept, SqliteStore, StateStore

Opens = Callable[..., StateStore]


@pytest.fixture(params=["sqlite", "redis"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opens]:
    """Give a function that opens the same empty store again, as another worker does."""
    if request.param == "sqlite":
        opened: list[SqliteStore] = []

        def open_file(idle: float = 60.0, worker: str = "worker") -> SqliteStore:
            opened.append(SqliteStore(tmp_path / "states.db", idle, worker))
            return opened[-1]

        yield open_file
        for store in opened:
            store.close()
        return
    url = request.getfixturevalue("redis_url")
    stores: list[RedisStore] = []

    def open_server(idle: float = 60.0, worker: str = "worker") -> RedisStore:
        stores.append(RedisStore(url, idle, worker))
        return stores[-1]

    open_server().server.flushall()
    yield open_server
    for one in stores:
        one.server.close()


def version_of(store: StateStore, thread_id: str) -> int:
    found = store.get(thread_id)
    return found.version if found else 0


def rows_of(store: StateStore) -> list[bytes]:
    rows: list[bytes] = []
    store.deliver(rows.append)
    return rows


def test_what_is_put_is_there_for_every_worker(opens: Opens) -> None:
    store = opens()
    assert store.get("t") is None
    assert store.put("t", b"first", 0)
    other = opens()
    found = other.get("t")
    assert found is not None
    assert found.state == b"first"
    assert other.put("t", b"second", found.version)
    assert (store.get("t") or Kept(b"", 0)).state == b"second"
    assert store.get("another") is None


@pytest.mark.parametrize("thread_id", ["", "t'; DROP TABLE states", "\ud800", "\0", "ключ", "k" * 10_000])
def test_any_thread_id_is_a_thread_of_its_own(opens: Opens, thread_id: str) -> None:
    store = opens()
    assert store.put(thread_id, b"\0state\xff", 0)
    assert store.put(thread_id + "x", b"other", 0)
    assert (store.get(thread_id) or Kept(b"", 0)).state == b"\0state\xff"


def test_who_saw_an_older_version_changes_nothing(opens: Opens) -> None:
    store = opens()
    assert store.put("t", b"first", 0)
    seen = version_of(store, "t")
    assert store.put("t", b"second", seen)
    for version in (0, seen, seen - 1):
        assert not store.put("t", b"late", version, [b"row"])
    assert (store.get("t") or Kept(b"", 0)).state == b"second"
    assert rows_of(store) == []


def test_a_version_does_not_come_again_when_a_thread_was_forgotten(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "states.db", idle=-1.0)
    versions = set()
    for _ in range(5):
        versions.add(store.put("t", b"state", 0))
        assert store.get("t") is None  # forgotten at once, whether or not it was cleared away
        store.expire()
    assert len(versions - {0}) == 5
    store.close()


def test_workers_that_add_to_one_thread_at_once_lose_nothing(opens: Opens) -> None:
    def add(number: int) -> None:
        store = opens(worker=f"worker {number}")
        for i in range(25):
            while True:
                found = store.get("t")
                state = (found.state if found else b"") + f"{number}:{i} ".encode()
                if store.put("t", state, found.version if found else 0, [f"{number}:{i}".encode()]):
                    break

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    store = opens()
    expected = sorted(f"{number}:{i}".encode() for number in range(4) for i in range(25))
    assert sorted((store.get("t") or Kept(b"", 0)).state.split()) == expected
    assert sorted(rows_of(store)) == expected


def test_rows_are_delivered_once_in_their_order(opens: Opens) -> None:
    store = opens()
    assert store.put("t", b"first", 0, [b"1", b"2"])
    assert store.put("u", b"first", 0, [b"3"])
    assert rows_of(opens()) == [b"1", b"2", b"3"]
    assert rows_of(store) == []


def test_a_worker_that_waits_for_its_reader_keeps_no_other_waiting(opens: Opens) -> None:
    store, other = opens(worker="one"), opens(worker="two")
    assert store.put("t", b"first", 0, [b"1"])

    def write(row: bytes) -> None:
        assert other.put(f"while {row.decode()}", b"state", 0, [b"2"])
        assert rows_of(other) == [b"2"]

    store.deliver(write)
    assert rows_of(store) == []


def test_a_row_whose_delivery_fails_is_delivered_again(opens: Opens) -> None:
    store = opens()
    assert store.put("t", b"first", 0, [b"1", b"2"])

    def refuse(row: bytes) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        store.deliver(refuse)
    assert rows_of(store) == [b"1", b"2"]


def test_idle_threads_are_forgotten_and_others_are_not(tmp_path: Path) -> None:
    with_idle = SqliteStore(tmp_path / "a.db", idle=-1.0)
    assert with_idle.put("t", b"state", 0)
    assert with_idle.expire() == 1
    assert with_idle.get("t") is None
    store = SqliteStore(tmp_path / "b.db", idle=60.0)
    assert store.put("t", b"state", 0)
    assert store.expire() == 0
    assert store.get("t") is not None
    for one in (store, with_idle):
        one.close()


def test_the_server_is_told_when_to_forget_a_thread(redis_url: str) -> None:
    store = RedisStore(redis_url, idle=1000.0)
    store.server.flushall()
    assert store.put("t", b"state", 0)
    assert 990_000 < store.server.pttl("grooming-flag:state:t") <= 1_000_000
    assert store.expire() == 0
    assert store.get("t") is not None


def test_workers_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for i in range(30):
            list(pool.map(lambda _, i=i: SqliteStore(tmp_path / f"{i}.db").close(), range(4)))  # type: ignore[misc]


def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "states.db")

    def fail() -> None:
        with store.transaction():
            assert store.put("t", b"state", 0, [b"row"])
            store.set_position("log", 7)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert store.get("t") is None
    assert store.position("log") == 0
    assert rows_of(store) == []
    with store.transaction():
        store.set_position("log", 7)
    assert store.position("log") == 7
    store.close()


@pytest.mark.skipif(os.name != "posix", reason="file modes are of POSIX")
def test_the_file_is_readable_for_its_owner_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "states.db")
    assert store.put("t", b"state", 0)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    store.close()


def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are notes\n" * 100)
    assert "notes.txt: cannot be used as a store" in str(error_of(lambda: SqliteStore(text), DataError))
    assert text.read_text() == "these are notes\n" * 100
    database = tmp_path / "other.db"
    other = sqlite3.connect(database)
    other.execute("CREATE TABLE chats (x)")
    other.commit()
    other.close()
    before = database.read_bytes()
    assert "something else" in str(error_of(lambda: SqliteStore(database), DataError))
    assert database.read_bytes() == before
    assert "nowhere" in str(error_of(lambda: SqliteStore(tmp_path / "nowhere" / "states.db"), DataError))


def test_a_server_that_is_not_there_is_an_error_without_its_password(redis_url: str) -> None:
    for url in (f"redis://:{CANARY}@127.0.0.1:1", f"redis://:{CANARY}@[", f"http://{CANARY}"):
        error = error_of(lambda url=url: RedisStore(url), DataError)  # type: ignore[misc]
        assert CANARY not in repr(error)
        assert error.__cause__ is None


def test_a_server_that_throws_keys_away_is_refused(redis_url: str) -> None:
    store = RedisStore(redis_url)
    store.server.config_set("maxmemory", "100mb")
    store.server.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "allkeys-lru" in str(error_of(lambda: RedisStore(redis_url), DataError))
    finally:
        store.server.config_set("maxmemory", "0")
        store.server.config_set("maxmemory-policy", "noeviction")
    store.server.close()


# --- streams -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    opened = RedisStore(redis_url, worker="first")
    opened.server.flushall()
    opened = RedisStore(redis_url, worker="first")
    yield opened
    opened.server.close()


def test_an_entry_is_given_to_one_worker_until_a_put_finishes_it(store: RedisStore, redis_url: str) -> None:
    store.server.xadd("chat", {"text": "tea"})
    first = RedisStream(store, "chat", "group")
    second = RedisStream(RedisStore(redis_url, worker="second"), "chat", "group")
    (entry,) = first.take(10, 0.01)
    assert entry.fields == {b"text": b"tea"}
    assert second.take(10, 0.01) == []
    assert first.take(10, 0.01) == [entry]  # as after a crash
    assert first.store_for(entry).put("t", b"state", 0)
    assert first.take(10, 0.01) == []


def test_an_entry_counts_once_however_many_workers_have_it(store: RedisStore) -> None:
    store.server.xadd("chat", {"text": "tea"})
    stream = RedisStream(store, "chat", "group")
    (entry,) = stream.take(1, 0.01)
    assert stream.store_for(entry).put("t", b"state", 0, [b"row"])
    assert stream.store_for(entry).put("t", b"twice", version_of(store, "t"), [b"row"])
    assert (store.get("t") or Kept(b"", 0)).state == b"state"
    assert rows_of(store) == [b"row"]


def test_a_put_that_comes_late_does_not_finish_its_entry(store: RedisStore) -> None:
    store.server.xadd("chat", {"text": "tea"})
    stream = RedisStream(store, "chat", "group")
    (entry,) = stream.take(1, 0.01)
    assert store.put("t", b"faster", 0)
    assert not stream.store_for(entry).put("t", b"late", 0)
    assert stream.take(1, 0.01) == [entry]
    stream.finish(entry)
    assert stream.take(1, 0.01) == []
