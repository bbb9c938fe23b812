"""The watcher: flags of many threads that go on, whatever becomes of the worker, and no text anywhere."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from builders import CANARY, PYTHON, environment, error_of, labelled_threads, small_model, write_threads
from cli import run

from grooming_flag import Message, Model, PolicyError, Thread, save_model
from grooming_flag.decisions import Change
from grooming_flag.io.messages import read_fields, read_message
from grooming_flag.io.redis_states import RedisStore, RedisStream
from grooming_flag.io.states import SqliteStore, StateStore
from grooming_flag.policy import Policy, Rule, Shadow
from grooming_flag.segments import SegmentRule
from grooming_flag.watcher import Watcher, watch_lines, watch_stream

SAID = labelled_threads(12, seed=3)
AT = 0.02  # where some of these threads are flagged at times and not at others


def mixed(threads: Sequence[Thread] = SAID, seed: int = 0) -> list[tuple[str, Message]]:
    """Return all messages of threads, each thread in its order and the threads by chance."""
    chance = random.Random(seed)
    waiting = [(thread.thread_id, list(thread.messages)) for thread in threads]
    found = []
    while waiting:
        thread_id, messages = chance.choice(waiting)
        found.append((thread_id, messages.pop(0)))
        waiting = [(name, rest) for name, rest in waiting if rest]
    return found


def expected_changes(model: Model, threads: Sequence[Thread] = SAID) -> set[tuple[str, int, bool]]:
    """Return where assessments of the messages so far are flagged and those before were not, or the other way round."""
    found = set()
    for thread in threads:
        before = False
        for k in range(1, len(thread.messages) + 1):
            flagged = model.assess(Thread(thread.thread_id, thread.messages[:k]), at=AT).flagged
            if flagged != before:
                found.add((thread.thread_id, k, flagged))
            before = flagged
    return found


def changes_of(changes: Sequence[Change]) -> list[tuple[str, int, bool]]:
    return [(one.assessment.thread_id, one.assessment.n_messages, one.is_up) for one in changes]


def rows_in(out: bytes) -> list[tuple[str, int, bool]]:
    rows = [json.loads(line) for line in out.splitlines()]
    return [(row["thread_id"], row["n_messages"], row["flagged"]) for row in rows]


def line(thread_id: str, message: Message, **more: Any) -> bytes:
    return json.dumps({"thread_id": thread_id, "author": message.author, "text": message.text, **more}).encode() + b"\n"


def policy(**settings: Any) -> Policy:
    return Policy((Rule("default", AT, **settings),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "states.db")
    yield opened
    opened.close()


# --- what it says ------------------------------------------------------------------------------------------------


def test_flags_change_where_assessments_of_the_messages_so_far_do(store: SqliteStore) -> None:
    model = small_model()
    watcher = Watcher(model, store, policy())
    found = [change for said in mixed() for change in watcher.add(*said)]
    assert len(found) > 10
    assert sorted(changes_of(found)) == sorted(expected_changes(model))
    for change in found:
        messages = next(thread.messages for thread in SAID if thread.thread_id == change.assessment.thread_id)
        n = change.assessment.n_messages
        assert change.assessment == model.assess(Thread(change.assessment.thread_id, messages[:n]), at=AT)


def test_the_context_of_a_thread_chooses_its_rule_and_stays_known(store: SqliteStore) -> None:
    rules = (Rule("dm", 0.0, {"surface": ("dm",)}), Rule("default", 1.0))
    watcher = Watcher(small_model(), store, Policy(rules))
    said = SAID[0].messages
    assert watcher.add("quiet", said[0]) == []
    assert watcher.add("t", said[0], {"surface": "dm", "weather": "rain"})[0].rule == "dm"
    assert watcher.add("t", said[1]) == []  # still up
    assert [change.is_up for change in watcher.add("t", said[2], {"surface": "channel"})] == [False]


def test_a_shadow_says_what_it_would_do_and_flags_nothing(store: SqliteStore) -> None:
    other = small_model(seed=1)
    shadows = (Shadow(Rule("all", 0.0)), Shadow(Rule("next", 0.0), "next"))
    watcher = Watcher(small_model(), store, Policy((Rule("default", 1.0),), shadows), {"next": other})
    message = SAID[0].messages[0]
    changes = watcher.add("t", message)
    assert [(change.rule, change.is_shadow, change.is_up) for change in changes] == [
        ("all", True, True),
        ("next", True, True),
    ]
    assert [change.row()["flagged"] for change in changes] == [False, False]
    thread = Thread("t", [message])
    assert [change.assessment for change in changes] == [
        small_model().assess(thread, at=0.0),
        other.assess(thread, at=0.0),
    ]
    assert watcher.add("t", SAID[0].messages[1]) == []


def test_hysteresis_and_cooldown_spare_moderators(store: SqliteStore, tmp_path: Path) -> None:
    now = [0.0]
    model = small_model()
    plain = Watcher(model, store, policy())
    patient_store = SqliteStore(tmp_path / "patient.db")
    patient = Watcher(model, patient_store, policy(hysteresis=2.0, cooldown=50.0), clock=lambda: now[0])
    raised = {"plain": 0, "patient": 0}
    for thread_id, message in mixed():
        now[0] += 1.0
        raised["plain"] += sum(change.is_up for change in plain.add(thread_id, message))
        raised["patient"] += sum(change.is_up for change in patient.add(thread_id, message))
    flagged = {thread_id for thread_id, _, is_up in expected_changes(model) if is_up}
    assert len(flagged) <= raised["patient"] < raised["plain"]
    patient_store.close()


def test_a_rule_whose_operating_point_is_not_there_is_refused_by_name(store: SqliteStore) -> None:
    error = error_of(lambda: Watcher(small_model(), store, Policy((Rule("evenings", "nowhere"),))), PolicyError)
    assert "rule evenings" in str(error)


def test_a_new_model_begins_threads_anew_and_damaged_states_are_counted(store: SqliteStore) -> None:
    first, second = Watcher(small_model(), store, policy()), Watcher(small_model(seed=1), store, policy())
    first.add("t", SAID[0].messages[0])
    second.add("t", SAID[0].messages[1])
    kept = store.get("t")
    assert kept is not None
    assert second.n_damaged == 0
    assert store.put("t", kept.state[:-3], kept.version)
    second.add("t", SAID[0].messages[2])
    assert second.n_damaged == 1


def test_what_the_store_keeps_holds_no_text(store: SqliteStore, tmp_path: Path) -> None:
    watcher = Watcher(small_model(), store, Policy((Rule("default", 0.0),)), hands_on=True)
    watcher.add("t", Message("a", f"tea {CANARY} kettle", message_id="m"))
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"default" in found
    assert CANARY.encode() not in found


def test_threads_of_execution_on_one_thread_lose_no_message(tmp_path: Path) -> None:
    model = small_model(rule=SegmentRule(5000, 1))
    store = SqliteStore(tmp_path / "states.db")
    watchers = [Watcher(model, store, policy()), Watcher(model, SqliteStore(tmp_path / "states.db"), policy())]
    said = [Message(f"author {i % 3}", f"kettle {i}") for i in range(120)]

    def add(i: int) -> None:
        watchers[i % 2].add("t", said[i])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(len(said))))
    assert_is_of(store, model, {"t": said})


def assert_is_of(store: StateStore, model: Model, threads: dict[str, Sequence[Message]]) -> None:
    """Check that the next message finds states of just these messages, in whatever order they came."""
    last = Message("author 0", "garden")
    asking = Watcher(model, store, Policy((Rule("default", 1.0),), (Shadow(Rule("asked by a test", 0.0)),)))
    for thread_id, messages in threads.items():
        (found,) = (change.assessment for change in asking.add(thread_id, last) if change.is_shadow)
        expected = model.assess(Thread(thread_id, [*messages, last]), at=0.0)
        assert (found.n_messages, found.n_authors) == (expected.n_messages, expected.n_authors)
        assert found.score == expected.score


# --- messages ----------------------------------------------------------------------------------------------------


def test_a_message_is_read_from_a_line_and_from_the_fields_of_an_entry() -> None:
    row = {"thread_id": "t", "author": "a", "text": "tea", "sent_at": 7.5, "message_id": "m", "surface": "dm", "x": 1}
    arrival = read_message(json.dumps(row).encode())
    assert arrival == ("t", Message("a", "tea", 7.5, "m"), {"surface": "dm"})
    assert read_fields({name.encode(): str(value).encode() for name, value in row.items()}) == arrival
    assert read_message(b'{"thread_id":"t","author":"a","text":"\\ud800"}').message.text == "\ud800"
    assert (
        read_message(b'{"thread_id":"t","author":"a","text":"","sent_at":"2030-01-01"}').message.sent_at == 1893456000
    )


@pytest.mark.parametrize(
    "changes",
    [{"text": None}, {"author": 7}, {"sent_at": CANARY}, {"thread_id": []}, {"surface": 3}, {"sent_at": "nan"}],
)
def test_what_is_no_message_is_refused_without_text(changes: dict[str, Any]) -> None:
    row = {"thread_id": "t", "author": "a", "text": CANARY, **changes}
    assert CANARY not in repr(error_of(lambda: read_message(json.dumps(row).encode())))
    fields = {name.encode(): str(value).encode() + b"\xff" for name, value in row.items()}
    assert CANARY not in repr(error_of(lambda: read_fields(fields)))


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_model(small_model(), folder)
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "log.jsonl"
    path.write_bytes(b"".join(line(*said) for said in mixed()))
    return path


def test_the_command_writes_the_changes_of_messages_on_standard_input(model_folder: Path, log: Path) -> None:
    ran = run("watch", "--model", model_folder, "--threshold", AT, stdin=log.read_bytes())
    assert ran.status == 0, ran.err
    assert sorted(rows_in(ran.out)) == sorted(expected_changes(small_model()))
    assert f"{len(mixed())} messages" in ran.err.replace(",", "")


def test_the_command_goes_on_with_its_states(model_folder: Path, log: Path, tmp_path: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    fixed = ["watch", "--model", model_folder, "--threshold", AT, "--state", tmp_path / "s.db"]
    first, second = (run(*fixed, stdin=b"".join(part)).out for part in (lines[:70], lines[70:]))
    assert sorted(rows_in(first + second)) == sorted(expected_changes(small_model()))


def test_lines_that_are_no_message_are_set_aside_told_and_counted(model_folder: Path, log: Path) -> None:
    hostile = b'{"thread_id": "t", "text": "' + CANARY.encode() + b'"}\n[\n\xff\n'
    ran = run("watch", "--model", model_folder, "--threshold", AT, stdin=hostile + log.read_bytes())
    assert ran.status == 1
    assert CANARY not in ran.err
    assert [text.split(":")[1] for text in ran.error_lines if "set aside" in text] == [
        f" -, line {i}" for i in (1, 2, 3)
    ]
    assert sorted(rows_in(ran.out)) == sorted(expected_changes(small_model()))


def test_context_that_is_no_unicode_is_kept_like_other(model_folder: Path, log: Path) -> None:
    odd = b'{"thread_id": "t", "author": "a", "text": "tea", "surface": "\\ud800"}\n'
    ran = run("watch", "--model", model_folder, "--threshold", AT, stdin=odd + log.read_bytes())
    assert ran.status == 0, ran.err
    assert sorted(row for row in rows_in(ran.out) if row[0] != "t") == sorted(expected_changes(small_model()))


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(tmp_path: Path, store: SqliteStore) -> None:
    said = [Message("a", f"kettle {i}") for i in range(3)]
    lines = b"".join(line("t", message) for message in said)
    path = tmp_path / "log.jsonl"
    watcher = Watcher(small_model(), store, policy())

    def n_read(content: bytes) -> int:
        path.write_bytes(content)
        return sum(watch_lines(watcher, str(path), lambda: False, pytest.fail, again=True))

    assert n_read(lines[:-20]) == 2
    assert n_read(lines) == 1
    assert_is_of(store, small_model(), {"t": said})


def test_workers_on_one_file_add_each_line_once(tmp_path: Path, log: Path) -> None:
    def work(_: int) -> int:
        store = SqliteStore(tmp_path / "states.db")
        watcher = Watcher(small_model(), store, policy())
        return sum(watch_lines(watcher, str(log), lambda: False, pytest.fail, again=True))

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(3) as pool:
        patch.setattr("grooming_flag.watcher.BATCH", 7)
        assert sum(pool.map(work, range(3))) == len(mixed())


@pytest.mark.skipif(os.name != "posix", reason="is written for a POSIX shell")
@pytest.mark.parametrize("shell", ["COMMAND <&-", "(cat LOG; sleep 3) | COMMAND > /dev/full"])
def test_no_end_of_a_pipe_leaves_it_hanging_or_aborted(shell: str, model_folder: Path, log: Path) -> None:
    command = f"{PYTHON} -m grooming_flag watch --threshold {AT} --model {model_folder}"
    script = shell.replace("LOG", str(log)).replace("COMMAND", command)
    ran = subprocess.run(["sh", "-c", script], env=environment(), capture_output=True, timeout=60, check=False)
    assert ran.returncode == 1, ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"Fatal" not in ran.stderr


def test_ids_of_strangers_steer_no_terminal(model_folder: Path, tmp_path: Path) -> None:
    thread_id = "evil\x1b[2J\u202e\nerror: all is well"
    path = write_threads(tmp_path / "t.jsonl", [Thread(thread_id, [Message("a\x1b[31m", "tea")] * 5)])
    ran = run("explain", path, "--thread", thread_id, "--model", model_folder)
    assert ran.status == 0
    assert b"a\\x1b[31m" in ran.out
    for told in (ran.out.decode(), run("explain", path, "--thread", thread_id + "?", "--model", tmp_path).err):
        assert "\x1b" not in told
        assert "\u202e" not in told
        assert "error: all" not in told.splitlines()


def test_the_command_follows_a_policy_with_a_shadow_model(model_folder: Path, log: Path, tmp_path: Path) -> None:
    save_model(small_model(seed=1).replace(name="next"), tmp_path / "next")
    file = tmp_path / "policy.toml"
    file.write_text(f'format = 1\n[default]\nthreshold = {AT}\n[[shadow]]\nname = "trial"\nmodel = "next"\n')
    ran = run("watch", log, "--model", model_folder, "--policy", file)
    assert ran.status == 0, ran.err
    rows = [json.loads(text) for text in ran.out.splitlines()]
    real = [(row["thread_id"], row["n_messages"], row["flagged"]) for row in rows if not row["shadow"]]
    assert sorted(real) == sorted(expected_changes(small_model()))
    trial = [(row["thread_id"], row["n_messages"], row["is_up"]) for row in rows if row["shadow"]]
    assert sorted(trial) == sorted(expected_changes(small_model(seed=1)))
    assert {row["model"] for row in rows if row["shadow"]} == {"next"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--policy", "p.toml", "--at", "balanced"],
        ["--stream", "chat"],
        ["--again"],
        ["--at", "balanced", "--threshold", "0.5"],
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], model_folder: Path) -> None:
    assert run("watch", "--model", model_folder, *arguments).status == 2


# --- killed ------------------------------------------------------------------------------------------------------

LIFE = """
import os, signal, sys
from grooming_flag import watcher
from grooming_flag.cli import main

watcher.BATCH = 16
last = int(sys.argv.pop(1))
steps = 0

def count(frame, event, argument):
    global steps
    names = ("states.py", "decisions.py", "watcher.py", "cli/watch.py")
    if event == "call" and frame.f_code.co_filename.endswith(names):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(count)
try:
    main()
finally:
    sys.stderr.write(f"steps {steps}\\n")
"""


def lived(last: int, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process that is killed at the start of the so many-th of its steps."""
    command = [PYTHON, "-c", LIFE, str(last), "watch", *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, timeout=120, check=False)


def assert_tells_all(outs: Sequence[bytes]) -> None:
    """Check that nothing is missing, and that only the last delivery before a death may come twice."""
    found = [row for out in outs for row in rows_in(out)]
    assert set(found) == expected_changes(small_model())
    assert len(found) - len(set(found)) <= 8 * (len(outs) - 1)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_at_any_moment_and_started_again_it_tells_the_same(
    tmp_path: Path, model_folder: Path, log: Path
) -> None:
    fixed = [log, "--model", model_folder, "--threshold", AT, "--again"]
    whole = lived(0, *fixed, "--state", tmp_path / "whole.db")
    assert_tells_all([whole.stdout])
    n_steps = int(whole.stderr.split(b"steps ")[1])
    chance = random.Random(5)
    n_killed = 0
    for round_ in range(8):
        state = tmp_path / f"{round_}.db"
        outs = []
        for _ in range(3):
            ran = lived(chance.randrange(1, n_steps // 2), *fixed, "--state", state)
            assert ran.returncode in (0, -signal.SIGKILL)
            n_killed += ran.returncode != 0
            outs.append(ran.stdout)
        last = lived(0, *fixed, "--state", state)
        assert last.returncode == 0, last.stderr
        assert_tells_all([*outs, last.stdout])
        store = SqliteStore(state)
        assert_is_of(store, small_model(), {thread.thread_id: thread.messages for thread in SAID[:3]})
        store.close()
    assert n_killed >= 12


# --- a stream ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(redis_url: str) -> Iterator[RedisStore]:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    opened = RedisStore(redis_url, worker="test")
    yield opened
    opened.server.close()


def fill(server: RedisStore, said: Sequence[tuple[str, Message]]) -> None:
    for thread_id, message in said:
        server.server.xadd("chat", {"thread_id": thread_id, "author": message.author, "text": message.text})


def test_workers_of_a_group_share_a_stream_and_lose_nothing(server: RedisStore, redis_url: str) -> None:
    model = small_model(rule=SegmentRule(5000, 1))
    fill(server, [("t", Message(f"author {i % 3}", f"kettle {i}")) for i in range(200)])
    server.server.xadd("chat", {"thread_id": "t", "text": CANARY})
    bad: list[Exception] = []
    stop: list[int] = []

    def work(name: str) -> int:
        store = RedisStore(redis_url, worker=name)
        watcher = Watcher(model, store, policy())
        n_added = 0
        for n_new in watch_stream(watcher, RedisStream(store, "chat", "group"), lambda: bool(stop), bad.append):
            n_added += n_new
            if server.server.xpending("chat", "group")["pending"] == 0 and n_new == 0:
                stop.append(1)
        return n_added

    server.add_group("chat", "group")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grooming_flag.watcher.BATCH", 7)
        patch.setattr("grooming_flag.watcher.PATIENCE", 0.05)
        with ThreadPoolExecutor(3) as pool:
            assert sum(pool.map(work, ["one", "two", "three"])) == 200
    assert_is_of(server, model, {"t": [Message(f"author {i % 3}", f"kettle {i}") for i in range(200)]})
    assert len(bad) == 1
    assert CANARY not in str(bad[0])


def test_what_the_server_keeps_holds_no_text(server: RedisStore) -> None:
    watcher = Watcher(small_model(), server, Policy((Rule("default", 0.0),)), hands_on=True)
    watcher.add("t", Message("a", f"tea {CANARY} kettle", message_id="m"))
    keys = server.server.keys("*")
    assert len(keys) == 2
    assert CANARY.encode() not in b"".join([*keys, *map(server.server.dump, keys)])


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_at_any_moment_a_worker_goes_on_with_its_stream(
    server: RedisStore, redis_url: str, model_folder: Path
) -> None:
    fixed = ["--state", redis_url, "--stream", "chat", "--model", model_folder, "--threshold", AT]
    fill(server, mixed())
    chance = random.Random(5)
    outs = []
    for _ in range(8):
        ran = lived(chance.randrange(1, 400), *fixed)
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        outs.append(ran.stdout)
    with subprocess.Popen(
        [PYTHON, "-m", "grooming_flag", "watch", *map(str, fixed)], env=environment(), stdout=subprocess.PIPE
    ) as last:
        while (
            server.server.xinfo_groups("chat")[0]["lag"] or server.server.xpending("chat", "grooming-flag")["pending"]
        ):
            assert last.poll() is None
        last.send_signal(signal.SIGTERM)
        out, _ = last.communicate(timeout=60)
    assert last.returncode == 0
    assert_tells_all([*outs, out])
    assert_is_of(server, small_model(), {thread.thread_id: thread.messages for thread in SAID[:3]})


def test_a_pipe_that_stays_open_is_answered_at_once_and_ends_in_good_order(model_folder: Path, tmp_path: Path) -> None:
    command = [PYTHON, "-m", "grooming_flag", "watch", "--threshold", "0", "--model", str(model_folder)]
    with subprocess.Popen(
        [*command, "--state", str(tmp_path / "s.db")],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line("t", Message("a", "tea and a kettle and a garden")))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["thread_id"] == "t"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    store = SqliteStore(tmp_path / "s.db")
    assert store.get("t") is not None
    store.close()


def test_a_file_that_grew_is_read_on_and_another_in_its_place_from_its_start(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line(*said) for said in mixed()]
    path = tmp_path / "log.jsonl"
    watcher = Watcher(small_model(), store, policy())

    def n_read(content: list[bytes], name: Path = path) -> int:
        path.write_bytes(b"".join(content))
        return sum(watch_lines(watcher, str(name), lambda: False, pytest.fail, again=True))

    assert n_read(lines[:10]) == 10
    assert n_read(lines[:15]) == 5
    monkeypatch.chdir(tmp_path)
    assert n_read(lines[:15], Path("log.jsonl")) == 0
    assert n_read(lines[20:24]) == 4
    assert n_read([]) == 0
    assert "fewer lines" in str(error_of(lambda: n_read(lines[:12])))
    path.write_bytes(b"".join(lines))
    assert "15 lines were read before" in str(
        error_of(lambda: list(watch_lines(watcher, str(path), lambda: False, pytest.fail)))
    )


def test_lines_may_be_watched_without_the_command(store: SqliteStore, log: Path) -> None:
    watcher = Watcher(small_model(), store, policy(), hands_on=True)
    bad: list[Exception] = []
    assert sum(watch_lines(watcher, str(log), lambda: False, bad.append)) == len(mixed())
    assert sum(watch_lines(watcher, str(log), lambda: False, bad.append, again=True)) == 0
    rows: list[bytes] = []
    store.deliver(rows.append)
    assert sorted(rows_in(b"".join(rows))) == sorted(expected_changes(small_model()))
    assert bad == []
