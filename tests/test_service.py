"""The example service: what it answers is kept, what it refuses is not, and no text gets out by any door."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from importlib import import_module, util
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import CANARY, PYTHON, ROOT, environment, labelled_threads, small_model
from servers import without_service

from grooming_flag import Message, save_model
from grooming_flag.io.messages import Arrival
from grooming_flag.io.redis_states import RedisStore
from grooming_flag.io.states import SqliteStore, StateStore
from grooming_flag.policy import Policy, Rule
from grooming_flag.watcher import Watcher

EXAMPLE = ROOT / "examples" / "moderation_service.py"
if without_service:
    pytest.skip(without_service, allow_module_level=True)
httpx: Any = import_module("httpx")
AT = 0.02
Row = dict[str, Any]
SAID: list[Row] = [
    {"thread_id": thread.thread_id, "author": message.author, "text": message.text}
    for thread in labelled_threads(12, seed=3)
    for message in thread.messages
]


@pytest.fixture(scope="module")
def service() -> Iterator[Any]:
    spec = util.spec_from_file_location("moderation_service", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    found = util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    yield found
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_model(small_model(), folder)
    return str(folder)


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("policies") / "policy.toml"
    dm = '[[rule]]\nname = "dm"\nthreshold = 0.0\nwhen = { surface = "dm" }\n'
    shadow = '[[shadow]]\nname = "trial"\nthreshold = 0.0\n'
    path.write_text(f"format = 1\n[default]\nthreshold = {AT}\n{dm}{shadow}")
    return str(path)


@pytest.fixture
def settings(model_folder: str, policy_file: str, tmp_path: Path) -> Row:
    return {"state": str(tmp_path / "states.db"), "policy": policy_file, "model": model_folder}


@asynccontextmanager
async def serving(service: Any, settings: Row, **more: Any) -> AsyncIterator[Any]:
    """Run the service in this process; give a client of it."""
    app = service.create_app(**settings, **more)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://test") as one:
        yield one


def ran(scenario: Callable[[], Coroutine[Any, Any, None]], debug: bool = False) -> None:
    asyncio.run(scenario(), debug=debug)


@contextmanager
def held(path: str) -> Iterator[None]:
    """Keep everybody else from writing to a database meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def n_messages(store: StateStore, thread_id: str) -> int:
    """Return how many messages the state of a thread has."""
    found = store.get(thread_id)
    if found is None:
        return 0
    _, states, _ = msgspec.msgpack.decode(found.state)
    return small_model().resume(states[small_model().scoring_digest]).assessment.n_messages


def kept_in(path: object, thread_ids: Any) -> dict[str, int]:
    store = SqliteStore(str(path))
    try:
        return {thread_id: n_messages(store, thread_id) for thread_id in thread_ids}
    finally:
        store.close()


def counts(rows: list[Row]) -> dict[str, int]:
    return dict(Counter(row["thread_id"] for row in rows))


def expected_changes() -> list[tuple[str, int, bool]]:
    watcher = Watcher(small_model(), SqliteStore(":memory:"), Policy((Rule("default", AT),)))
    changes = [change for row in SAID for change in watcher.add(row["thread_id"], Message(row["author"], row["text"]))]
    return [(one.assessment.thread_id, one.assessment.n_messages, one.is_up) for one in changes]


def real(changes: list[Row]) -> list[tuple[str, int, bool]]:
    return [(row["thread_id"], row["n_messages"], row["is_up"]) for row in changes if not row["shadow"]]


# --- what it answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 50])
def test_flags_change_as_those_of_a_watcher_do(service: Any, settings: Row, size: int) -> None:
    async def scenario() -> None:
        changes = []
        async with serving(service, settings) as client:
            for first in range(0, len(SAID), size):
                posted = SAID[first : first + size]
                answer = await client.post("/messages", json=posted if size > 1 else posted[0])
                assert answer.status_code == 200
                changes += answer.json()["changes"]
        assert real(changes) == expected_changes()
        assert len(real(changes)) > 10
        assert not any(row["flagged"] for row in changes if row["shadow"])

    ran(scenario)
    assert kept_in(settings["state"], counts(SAID)) == counts(SAID)


def test_requests_that_come_together_share_a_transaction_and_get_their_own_answers(service: Any, settings: Row) -> None:
    async def scenario() -> None:
        async with serving(service, settings) as client:
            posted = [{**row, "thread_id": f"t{i}", "surface": "dm"} for i, row in enumerate(SAID[:40])]
            with held(settings["state"]):
                waiting = [asyncio.create_task(client.post("/messages", json=row)) for row in posted]
                await asyncio.sleep(0.2)
            answers = [(await one).json()["changes"] for one in waiting]
        for i, changes in enumerate(answers):
            assert {row["thread_id"] for row in changes} == {f"t{i}"}

    ran(scenario)


def test_what_is_known_of_a_thread_reaches_the_policy(service: Any, settings: Row) -> None:
    async def scenario() -> None:
        async with serving(service, settings) as client:
            for surface, rule in (("channel", "default"), ("dm", "dm")):
                answer = await client.post("/messages", json={**SAID[0], "thread_id": surface, "surface": surface})
                assert [row["rule"] for row in answer.json()["changes"]] == [rule, "trial"]

    ran(scenario)


def test_lone_surrogates_are_messages_too(service: Any, settings: Row) -> None:
    row = {"thread_id": "t\ud800", "author": "a\udfff", "text": "tea kettle garden \ud83d", "surface": "dm"}

    async def scenario() -> None:
        async with serving(service, settings) as client:
            for posted in (row, [row]):
                answer = await client.post("/messages", content=json.dumps(posted))
                assert answer.status_code == 200

    ran(scenario)
    assert kept_in(settings["state"], ["t\ud800"]) == {"t\ud800": 2}


# --- what it refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ([SAID[0], {**SAID[0], "author": 7}], ("message 1", "$.author")),
        ([SAID[0], {"thread_id": "t", "text": CANARY}], ("message 1", "author")),
        ({**SAID[0], "text": [CANARY]}, ("message 0", "$.text")),
        ({**SAID[0], "sent_at": CANARY}, ("message 0", "sent_at")),
        ([[CANARY]], ("message 0", "object")),
        (f'{{"text": "{CANARY}', ("message 0", "JSON")),
        (f'["{CANARY}"', ("JSON",)),
        ("[" * 200_000, ("JSON",)),
        (b'["\xff' + CANARY.encode(), ("JSON",)),
    ],
)
def test_what_is_no_message_is_told_by_field_without_text_and_nothing_of_it_is_kept(
    service: Any, settings: Row, body: Any, told: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        content = body if isinstance(body, (str, bytes)) else json.dumps(body)
        async with serving(service, settings) as client:
            answer = await client.post("/messages", content=content)
            assert answer.status_code == 422
            assert [word for word in told if word not in answer.json()["error"]] == []
            assert CANARY not in answer.text
            assert 'refused_requests_total{reason="bad"} 1.0' in (await client.get("/metrics")).text

    ran(scenario)
    assert kept_in(settings["state"], [SAID[0]["thread_id"]]) == {SAID[0]["thread_id"]: 0}


def test_a_body_that_is_too_large_is_refused(service: Any, settings: Row) -> None:
    async def scenario() -> None:
        async with serving(service, settings) as client:
            answer = await client.post("/messages", json={**SAID[0], "text": CANARY * service.MAX_BODY})
            assert answer.status_code == 413
            assert CANARY not in answer.text

    ran(scenario)


def test_it_asks_to_come_back_when_too_much_is_waiting_and_goes_on_answering(
    service: Any, settings: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PATIENCE", 0.05)

    async def scenario() -> None:
        async with serving(service, settings, max_waiting=6) as client:
            assert (await client.get("/ready")).status_code == 200
            with held(settings["state"]):
                waiting = []
                for first in (0, 3):
                    waiting.append(asyncio.create_task(client.post("/messages", json=SAID[first : first + 3])))
                    await asyncio.sleep(0.1)
                refused = await client.post("/messages", json=SAID[6])
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                assert (await client.get("/health")).status_code == 200
                assert (await client.get("/ready")).status_code == 503
                assert "waiting_messages 6.0" in (await client.get("/metrics")).text
            assert [(await one).status_code for one in waiting] == [200, 200]
            metrics = (await client.get("/metrics")).text
            assert 'refused_requests_total{reason="full"} 1.0' in metrics
            assert "waiting_messages 0.0" in metrics
            assert (await client.post("/messages", json=SAID[6])).status_code == 200

    ran(scenario)
    assert kept_in(settings["state"], counts(SAID[:7])) == counts(SAID[:7])


def test_while_the_store_fails_nothing_is_acknowledged_and_what_was_is_there(service: Any, settings: Row) -> None:
    def rename(before: str, after: str) -> None:
        with closing(sqlite3.connect(settings["state"])) as other:
            other.execute(f"ALTER TABLE {before} RENAME TO {after}")

    async def scenario() -> None:
        async with serving(service, settings) as client:
            assert (await client.post("/messages", json=SAID[:5])).status_code == 200
            rename("states", "away")
            answers = await asyncio.gather(*(client.post("/messages", json=row) for row in SAID[5:9]))
            assert {(one.status_code, one.headers["retry-after"]) for one in answers} == {(503, "1")}
            assert (await client.get("/ready")).status_code == 503
            rename("away", "states")
            assert (await client.get("/ready")).status_code == 200
            assert (await client.post("/messages", json=SAID[5:7])).status_code == 200

    ran(scenario)
    assert kept_in(settings["state"], counts(SAID[:7])) == counts(SAID[:7])


def test_a_defect_harms_the_request_that_meets_it_alone_and_is_logged_without_its_words(
    service: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = iter(range(100))

    def clock() -> float:
        if next(calls) in (1, 4):  # the second of three, together with the others and then by itself
            raise ZeroDivisionError(CANARY)
        return 0.0

    store = SqliteStore(tmp_path / "states.db")
    intake = service.Intake(Watcher(small_model(), store, Policy((Rule("default", AT),)), clock=clock), None, 100)

    async def scenario() -> None:
        arrivals = [Arrival(f"t{i}", Message("a", "tea"), {}) for i in range(3)]
        waiting = [asyncio.create_task(intake.add([one])) for one in arrivals]
        await asyncio.sleep(0)
        async with intake.running(None):
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [getattr(one, "reason", "kept") for one in answers] == ["kept", "defect", "kept"]

    ran(scenario)
    assert kept_in(tmp_path / "states.db", ["t0", "t1", "t2"]) == {"t0": 1, "t1": 0, "t2": 1}
    assert "ZeroDivisionError" in caplog.text
    assert CANARY not in caplog.text


# --- what operators see ------------------------------------------------------------------------------------------


def test_metrics_count_messages_flags_refusals_and_damage_and_name_nobody(service: Any, settings: Row) -> None:
    async def scenario() -> None:
        async with serving(service, settings) as client:
            await client.post("/messages", json=SAID)
            await client.post("/messages", json={"thread_id": "t"})
            with closing(sqlite3.connect(settings["state"])) as other, other:
                other.execute("UPDATE states SET state = x'00', version = version + 1")
            await client.post("/messages", json={**SAID[0], "text": ""})
            answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        n_up = sum(is_up for _, _, is_up in expected_changes())
        for line in (
            f"messages_total {len(SAID) + 1}.0",
            f'changes_total{{direction="up",rule="default",shadow="False"}} {n_up}.0',
            'refused_requests_total{reason="bad"} 1.0',
            "keeping_seconds_count 2.0",
            "waiting_messages 0.0",
            "damaged_states 1.0",
        ):
            assert f"grooming_flag_{line}\n" in answer.text
        for row in SAID:
            assert f'"{row["thread_id"]}"' not in answer.text
            assert f'"{row["author"]}"' not in answer.text

    ran(scenario)


def test_changes_are_handed_on_although_nobody_got_the_answer(service: Any, settings: Row) -> None:
    rows: list[bytes] = []

    def broken(row: bytes) -> None:
        raise OSError(CANARY)

    async def scenario(hand_to: Callable[[bytes], object], posted: list[Row]) -> None:
        async with serving(service, settings, hand_to=hand_to) as client:
            assert (await client.post("/messages", json=posted)).status_code == 200

    ran(lambda: scenario(broken, SAID[:60]))
    assert rows == []
    ran(lambda: scenario(rows.append, SAID[60:]))
    assert real([json.loads(row) for row in rows]) == expected_changes()


def test_the_end_waits_for_the_queue_and_nothing_comes_after_it(service: Any, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "states.db")
    intake = service.Intake(Watcher(small_model(), store), None, 1000)

    async def scenario() -> None:
        arrivals = [Arrival(f"t{i % 9}", Message("a", "tea"), {}) for i in range(700)]
        async with intake.running(None):
            waiting = [asyncio.create_task(intake.add([one])) for one in arrivals]
            await asyncio.sleep(0)
            assert not any(one.done() for one in waiting)
        assert await asyncio.gather(*waiting) == [[]] * 700
        with pytest.raises(service.RequestError):
            await intake.add(arrivals[:1])

    ran(scenario)
    assert sum(kept_in(tmp_path / "states.db", [f"t{i}" for i in range(9)]).values()) == 700


def test_no_text_is_in_answers_logs_metrics_or_files(
    service: Any, settings: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    row = {"thread_id": "t", "author": "a", "text": f"tea {CANARY} kettle", "surface": "dm", "message_id": "m"}
    seen: list[str] = []
    rows: list[bytes] = []

    async def scenario() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.0  # then its debug mode logs every call
        async with serving(service, settings, hand_to=rows.append) as client:
            posted = (row, [row, row], [row, {**row, "author": None}], {**row, "sent_at": CANARY})
            seen.extend([(await client.post("/messages", json=one)).text for one in posted])
            with closing(sqlite3.connect(settings["state"])) as other:
                other.execute("DROP TABLE states")
            seen.append((await client.post("/messages", json=row)).text)
            seen.append((await client.get("/metrics")).text)
            seen.append((await client.get(f"/messages?text={CANARY}")).text)

    ran(scenario, debug=True)
    assert '"rule":"dm"' in seen[0]
    assert len(caplog.text) > 1000
    assert "not kept" in caplog.text
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for found in (*seen, caplog.text, *capfd.readouterr(), b"".join(rows).decode()):
        assert CANARY not in found.replace(f"text={CANARY}", "")  # where the client logs its own request
    assert CANARY.encode() not in files


def test_states_may_be_in_redis(service: Any, settings: Row, redis_url: str) -> None:
    async def scenario() -> None:
        async with serving(service, {**settings, "state": redis_url}) as client:
            assert (await client.get("/ready")).status_code == 200
            answers = await asyncio.gather(*(client.post("/messages", json=SAID[i::4]) for i in range(4)))
            assert {one.status_code for one in answers} == {200}

    ran(scenario)
    store = RedisStore(redis_url)
    assert {thread_id: n_messages(store, thread_id) for thread_id in counts(SAID)} == counts(SAID)
    store.server.close()


# --- a process ---------------------------------------------------------------------------------------------------


@contextmanager
def process(settings: Row, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start the service as its docstring says, on a free port, with all that uvicorn can log; give its address."""
    names = {"state": "STATE", "policy": "POLICY", "model": "MODEL"}
    env = environment() | {f"GROOMING_FLAG_{name}": settings[key] for key, name in names.items()}
    env["GROOMING_FLAG_CHANGES"] = str(log.with_name("changes.jsonl"))
    command = [PYTHON, "-m", "uvicorn", "--app-dir", str(EXAMPLE.parent), "--factory", "moderation_service:create_app"]
    command += ["--timeout-graceful-shutdown", "1", "--port", "0", "--log-level", "trace"]
    with log.open("wb") as out, subprocess.Popen(command, env=env, stdout=out, stderr=out) as started:
        try:
            deadline = time.monotonic() + 60.0
            while not (address := re.search(rb"running on (http://\S+)", log.read_bytes())):
                assert started.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield started, address[1].decode()
        finally:
            started.kill()


def post_until_it_ends(address: str, name: str, n_acknowledged: Counter[str]) -> None:
    """Post messages of one thread, each when the one before is acknowledged, and count them."""
    with httpx.Client(base_url=address, timeout=60.0, trust_env=False) as client:
        for _ in range(100_000):
            row = {"thread_id": name, "author": "a", "text": f"tea {CANARY} kettle", "surface": "dm"}
            try:
                answer = client.post("/messages", json=row)
            except httpx.TransportError:
                return
            if answer.status_code == 503:  # it is about to end
                return
            assert answer.status_code == 200
            n_acknowledged[name] += 1
    raise AssertionError("it did not end")


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_whenever_it_is_stopped_what_it_acknowledged_is_there(settings: Row, tmp_path: Path, number: str) -> None:
    n_acknowledged: Counter[str] = Counter()
    names = [f"t{i}" for i in range(6)]
    for life in range(2):
        with process(settings, tmp_path / f"{life}.log") as (started, address), ThreadPoolExecutor(len(names)) as pool:
            posting = [pool.submit(post_until_it_ends, address, name, n_acknowledged) for name in names]
            deadline = time.monotonic() + 60.0
            while min(n_acknowledged[name] for name in names) < 10 * (life + 1):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            started.send_signal(getattr(signal, number))
            started.wait(60)
            for one in posting:
                one.result()
        assert (b"Finished server process" in (tmp_path / f"{life}.log").read_bytes()) == (number == "SIGTERM")
    kept = kept_in(settings["state"], names)
    for name in names:  # a message may have been kept whose answer the death of the process cut off, once a life
        assert n_acknowledged[name] <= kept[name] <= n_acknowledged[name] + 2
    found = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert CANARY.encode() not in found
    raised = [json.loads(line) for line in (tmp_path / "changes.jsonl").read_bytes().splitlines()]
    assert {row["thread_id"] for row in raised if row["flagged"]} == {*names}
