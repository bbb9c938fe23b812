"""Spark: the same scores as on one machine, and flags of a stream that goes on whatever becomes of the driver."""

from __future__ import annotations

import doctest
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from builders import (
    CANARY,
    PATTERN,
    PYTHON,
    ROOT,
    bundled,
    environment,
    labelled_threads,
    needs_bundled_model,
    small_model,
)

from grooming_flag import DataError, Message, Model, ModelIntegrityError, PolicyError, Thread, save_model
from grooming_flag.batch import score_files
from grooming_flag.errors import MissingExtraError
from grooming_flag.io.states import SqliteStore
from grooming_flag.policy import Policy, Rule, Shadow
from grooming_flag.segments import SegmentRule
from grooming_flag.watcher import Watcher

needs_spark = "needs pyspark and Java (pip install 'grooming-flag[spark]'; apt-get install default-jre-headless)"
if find_spec("pyspark") is None or shutil.which("java") is None:
    if os.environ.get("GROOMING_FLAG_REQUIRE_SPARK"):
        pytest.fail(needs_spark)
    pytest.skip(needs_spark, allow_module_level=True)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = [
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

from pyspark.errors import PySparkException  # noqa: E402
from pyspark.sql import DataFrame, SparkSession  # noqa: E402
from pyspark.sql import functions as F  # noqa: E402

from grooming_flag import spark as on_spark  # noqa: E402
from grooming_flag.spark import SETTINGS, assess, problem, watch  # noqa: E402

N_THREADS = 100_000
SAID = labelled_threads(12, seed=3)
AT = 0.02  # where some of these threads are flagged at times and not at others
RARE = 1e-5  # where some of invented threads are flagged by the bundled model
TABLE = "thread_id string, author string, sent_at double, text string"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Start a cluster of two processes with one core each, whose workers' memory has a limit."""
    folder = tmp_path_factory.mktemp("spark")
    settings = {
        **SETTINGS,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.executor.memory": "1g",
        "spark.executor.pyspark.memory": "1500m",
        "spark.executorEnv.PYTHONPATH": environment()["PYTHONPATH"],
        "spark.local.dir": f"{folder}/local",
        "spark.sql.warehouse.dir": f"{folder}/warehouse",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.session.timeZone": "Asia/Kathmandu",  # which no answer may depend on
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", PYTHON)
        patch.setenv("SPARK_WORKER_DIR", f"{folder}/work")
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        started = SparkSession.builder.master("local-cluster[2,1,1024]").config(map=settings).getOrCreate()
        started.sparkContext.setLogLevel("ERROR")
        yield started
        started.stop()


def rows_of(table: DataFrame) -> list[dict[str, Any]]:
    return sorted((row.asDict() for row in table.collect()), key=lambda row: row["thread_id"])


def on_one_machine(log: Path, model: Model, **options: Any) -> list[dict[str, Any]]:
    out = log.with_name(f"{log.name}.scores.jsonl")
    score_files([log], out, model, **options)
    return sorted(map(json.loads, out.read_text().splitlines()), key=lambda row: row["thread_id"])


def log_of(threads: list[Thread]) -> list[tuple[str, str, float, str]]:
    return [(t.thread_id, m.author, float(i), m.text) for t in threads for i, m in enumerate(t.messages)]


# --- the same as on one machine ----------------------------------------------------------------------------------


def write_log(folder: Path) -> int:
    """Write the messages of many threads into three files, in no order; some at the same time, some at none."""
    chance = random.Random(7)
    said = [message.text for one in labelled_threads(60) for message in one.messages]
    said += [
        "how old are you",
        "don't tell your mum",
        "can you come alone",
        "r u home alone",
        "send me a pic",
        "",
        "ok",
    ]
    lengths = [chance.choice((1, 2, 3, 5, 9)) for _ in range(N_THREADS - 20)] + [190 + 30 * k for k in range(20)]
    rows = []
    for i, length in enumerate(lengths):
        for k in range(length):
            sent_at = chance.choice((None, float(k // 3), float(k), float(chance.randrange(length))))
            rows.append((f"thread {i}", f"user {chance.randrange(4)}", sent_at, chance.choice(said)))
    chance.shuffle(rows)
    for name, part in (("a", rows[::2]), ("b", rows[1::4]), ("c", rows[3::4])):
        columns = dict(zip(("thread_id", "author", "sent_at", "text"), map(list, zip(*part, strict=True)), strict=True))
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=50_000)
    return len(rows)


@needs_bundled_model
def test_scores_of_many_threads_are_to_the_bit_those_of_one_machine(session: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    n_messages = write_log(folder)
    one = tmp_path / "one.parquet"
    summary = score_files([folder], one, bundled(), at=RARE)
    assert (summary.threads, summary.messages) == (N_THREADS, n_messages)
    assert summary.flagged > 100
    assert summary.threads - summary.abstained > 10_000
    expected = pq.read_table(one).drop_columns(["evidence"]).sort_by("thread_id")
    table = session.read.parquet(str(folder))
    for n_parts, n_shuffled in ((None, 4), (7, 1), (13, 31)):
        session.conf.set("spark.sql.shuffle.partitions", n_shuffled)
        found = assess(table if n_parts is None else table.repartition(n_parts), at=RARE).toArrow()
        assert found.sort_by("thread_id").cast(expected.schema).equals(expected)
    session.conf.set("spark.sql.shuffle.partitions", 4)


@needs_bundled_model
def test_a_thread_of_a_million_messages_breaks_no_worker(session: SparkSession, tmp_path: Path) -> None:
    said = F.array(
        *(F.lit(text) for text in ("hi there", "how old are you", "ok", "can you come alone", "maths is fun"))
    )
    table = session.range(1_000_000).select(
        F.lit("long").alias("thread_id"),
        F.concat(F.lit("user "), F.col("id") % 3).alias("author"),
        F.col("id").alias("sent_at"),
        F.concat(F.element_at(said, (F.hash("id") % 5 + 5) % 5 + 1), F.lit(" "), F.col("id").cast("string")).alias(
            "text"
        ),
    )
    small = session.createDataFrame(log_of(SAID), TABLE)
    log = tmp_path / "log.parquet"
    table.withColumn("sent_at", F.col("sent_at").cast("double")).union(small).coalesce(1).write.parquet(str(log))
    (part,) = log.glob("*.parquet")
    expected = on_one_machine(part, bundled())
    assert max(row["n_messages"] for row in expected) == 1_000_000
    assert rows_of(assess(session.read.parquet(str(part)))) == expected


def test_a_model_that_closes_on_gaps_gets_the_times(session: SparkSession) -> None:
    model = small_model(rule=SegmentRule(12, 3, max_gap=100.0))
    chance = random.Random(1)
    threads = []
    for one in SAID:
        moments = sorted(chance.uniform(0, 2000) for _ in one.messages)
        messages = [Message(m.author, m.text, at) for m, at in zip(one.messages, moments, strict=True)]
        threads.append(Thread(one.thread_id, messages))
    rows = [(t.thread_id, m.author, m.sent_at, m.text) for t in threads for m in t.messages]
    chance.shuffle(rows)
    found = rows_of(assess(session.createDataFrame(rows, TABLE), model, at=AT))
    expected = {one.thread_id: model.assess(one, at=AT) for one in threads}
    assert {row["thread_id"]: (row["score"], row["suspect"], row["n_messages"]) for row in found} == {
        name: (answer.score, answer.suspect, answer.n_messages) for name, answer in expected.items()
    }
    assert len({answer.segment for answer in expected.values()}) > 3


@pytest.mark.parametrize("form", ["csv", "json"])
def test_rows_of_one_time_stay_in_their_order(form: str, session: SparkSession, tmp_path: Path) -> None:
    rows = [(name, author, "", text) for name, author, _, text in log_of(labelled_threads(40, n_messages=40))]
    model = small_model(rule=SegmentRule(7, 2))
    log = tmp_path / f"log.{form}l" if form == "json" else tmp_path / "log.csv"
    names = ("thread_id", "author", "sent_at", "text")
    if form == "csv":
        log.write_text("\n".join(",".join(row) for row in [names, *rows]) + "\n")
        table = session.read.csv(str(log), header=True)
    else:
        log.write_text(
            "".join(json.dumps({**dict(zip(names, row, strict=True)), "sent_at": None}) + "\n" for row in rows)
        )
        table = session.read.json(str(log), schema=TABLE)
    assert rows_of(assess(table, model, at=AT)) == on_one_machine(log, model, at=AT)


def test_a_column_may_say_the_order(session: SparkSession) -> None:
    rows = [(t.thread_id, m.author, i, m.text) for t in SAID for i, m in enumerate(t.messages)]
    random.Random(2).shuffle(rows)
    model = small_model(rule=SegmentRule(5, 2))
    table = session.createDataFrame(rows, "channel string, from string, `the offset` int, body string")
    columns = {"thread_id": "channel", "author": "from", "text": "body", "place": "the offset"}
    found = rows_of(assess(table.repartition(9), model, columns, at=AT))
    expected = sorted((model.assess(one, at=AT) for one in SAID), key=lambda answer: answer.thread_id)
    assert [(row["thread_id"], row["score"]) for row in found] == [(one.thread_id, one.score) for one in expected]


TIMES: dict[str, tuple[str, list[Any], list[float | None]]] = {
    "timestamp": ("timestamp", [datetime(2026, 3, 1, 10, tzinfo=UTC)], [1772359200.0]),
    "timestamp_ntz": (
        "timestamp_ntz",
        [datetime(2026, 3, 8, 2, 30), datetime(2026, 3, 8, 3, 10, 0, 500_000)],
        [1772937000.0, 1772939400.5],
    ),
    "date": ("date", [date(2026, 3, 1), date(1969, 12, 31)], [1772323200.0, -86400.0]),
    "whole": ("long", [10, -11], [10.0, -11.0]),
    "decimal": ("decimal(20, 3)", [Decimal("1.5")], [1.5]),
    "real": ("double", [1.5, float("nan"), float("inf")], [1.5, None, None]),
    "text": (
        "string",
        [
            "2026-03-01T10:00:00Z",
            "2026-03-01 10:00:00.25",
            "2026-03-08 02:30",  # which is no time in some zones
            "2026-03-01T10:00:00-05:30",
            "2026-03-01 10:00:00+02",
            "2026-03-01",
        ],
        [
            1772359200.0,
            1772359200.25,
            1772937000.0,
            1772379000.0,
            1772352000.0,
            1772323200.0,
        ],
    ),
    "without seconds": (
        "string",
        ["2026-03-01T10:00Z", "2026-03-01T10:00+02:00", "2026-03-01T10:00:00-0530"],  # which DuckDB takes from 2.0 on
        [1772359200.0, 1772352000.0, 1772379000.0],
    ),
    "numbers": ("string", ["9.5", "1e1", "-3", ".5"], [9.5, 10.0, -3.0, 0.5]),
    "no times": (
        "string",
        ["10:00:00Z", "1d", "0x1p3", "NaN", "soon", "2026-13-01", "2026-03-01 10:00:00 EST", "2026-03-01 10 UTC+2", ""],
        [None] * 9,
    ),
}


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York"])
@pytest.mark.parametrize("kind", list(TIMES))
def test_times_are_the_same_whatever_the_zone_of_the_session(kind: str, zone: str, session: SparkSession) -> None:
    type_, given, expected = TIMES[kind]
    session.conf.set("spark.sql.session.timeZone", zone)
    table = session.createDataFrame([("t", "a", at, "tea") for at in given], TABLE.replace("double", type_))
    found = table.select(on_spark._seconds(table, F.col("sent_at")).alias("at"), problem(table))
    assert [row["at"] for row in found.collect()] == expected
    assert [row.problem is None for row in found.collect()] == [at is not None for at in expected]


@pytest.mark.parametrize("kind", ["timestamp_ntz", "text", "numbers"])
def test_times_order_messages_as_on_one_machine(kind: str, session: SparkSession, tmp_path: Path) -> None:
    _, given, _ = TIMES[kind]
    chance = random.Random(3)
    rows = [(f"t{i % 9}", f"u{i % 2}", chance.choice(given), chance.choice(PATTERN)) for i in range(400)]
    names = ("thread_id", "author", "sent_at", "text")
    pq.write_table(
        pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), tmp_path / "log.parquet"
    )
    model = small_model(rule=SegmentRule(5, 2))
    found = rows_of(assess(session.read.parquet(str(tmp_path / "log.parquet")), model, at=AT))
    assert found == on_one_machine(tmp_path / "log.parquet", model, at=AT)


def test_an_empty_table_has_no_threads(session: SparkSession) -> None:
    found = assess(session.createDataFrame([], TABLE), small_model())
    assert found.collect() == []
    assert found.columns == list(on_spark.score_schema().names)


def test_a_model_may_be_a_folder_keyed_or_of_another_prior(session: SparkSession, tmp_path: Path) -> None:
    table = session.createDataFrame(log_of(SAID), TABLE)
    keyed = small_model().replace(
        extractor=small_model().extractor.__class__(2**12, char_ngrams=(4, 4), key="a secret")
    )
    save_model(small_model(), tmp_path / "model")
    for model, given in (
        (small_model(), tmp_path / "model"),
        (keyed, keyed),
        (small_model().with_prior(0.01), small_model().with_prior(0.01)),
    ):
        found = {row["thread_id"]: (row["score"], row["probability"]) for row in rows_of(assess(table, given, at=AT))}
        assert found == {one.thread_id: (one.score, one.probability) for one in model.assess_many(SAID, at=AT)}
    assert "a secret" not in repr(on_spark._sent(session, keyed))


def test_a_model_goes_to_the_executors_once(session: SparkSession) -> None:
    table = session.createDataFrame(log_of(SAID), TABLE)
    model = small_model(seed=5)
    before = len(session.sparkContext.listArchives)
    for _ in range(3):
        assess(table, model, at=AT).collect()
    assert len(session.sparkContext.listArchives) == before + 1


def test_a_new_session_has_the_same_models(session: SparkSession) -> None:
    """As in `foreachBatch`, which has one for each micro-batch."""
    before = len(session.sparkContext.listArchives)
    model = small_model(seed=7)
    for _ in range(3):
        other = session.newSession()
        assert assess(other.createDataFrame(log_of(SAID), TABLE), model, at=AT).count() == len(SAID)
    assert len(session.sparkContext.listArchives) == before + 1


def test_a_column_is_taken_for_one_thing_and_ties_of_place_are_told_apart(session: SparkSession) -> None:
    rows = [(one.thread_id, m.author, m.text, 0) for one in SAID for m in one.messages]
    model = small_model(rule=SegmentRule(5, 2))
    expected = {one.thread_id: one.score for one in model.assess_many(SAID, at=AT)}
    for author, text, place in (("place", "text", "x"), ("author", "text", "place"), ("author", "place", "x")):
        table = session.createDataFrame(rows, f"thread_id string, `{author}` string, `{text}` string, `{place}` int")
        found = assess(table.coalesce(1), model, {"author": author, "text": text}, at=AT)
        assert {row["thread_id"]: row["score"] for row in found.collect()} == expected


def test_a_model_that_is_not_the_one_sent_is_refused(session: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    table = session.createDataFrame(log_of(SAID), TABLE)
    monkeypatch.setattr(on_spark, "digest", lambda model: "0" * 64)
    with pytest.raises(PySparkException, match=ModelIntegrityError.__name__):
        assess(table, small_model(seed=6), at=AT).collect()


# --- what cannot be used -----------------------------------------------------------------------------------------


def test_what_is_wrong_with_the_question_is_said_at_once(session: SparkSession, tmp_path: Path) -> None:
    table = session.createDataFrame(log_of(SAID), TABLE)
    model = small_model()
    with pytest.raises(DataError, match="no column channel"):
        assess(table, model, {"thread_id": "channel"})
    with pytest.raises(DataError, match="no column text"):
        assess(table.drop("text"), model)
    with pytest.raises(DataError, match="messages have no column body"):
        problem(table, {"body": "text"})
    with pytest.raises(PolicyError):
        assess(table, model, at="nowhere")
    with pytest.raises(DataError, match="no stream"):
        watch(table, model)
    stream = session.readStream.schema(TABLE).parquet(str(tmp_path))
    with pytest.raises(PolicyError):
        watch(stream, model, at="nowhere")
    with pytest.raises(PolicyError):
        watch(stream, model, at=Policy((Rule("default", "nowhere"),)))
    with pytest.raises(DataError, match="is a stream"):
        assess(stream, model)
    for idle in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(DataError, match="idle"):
            watch(stream, model, idle=idle)
    for name in SETTINGS:
        session.conf.unset(name)
        with pytest.raises(DataError, match=name):
            watch(stream, model)
        session.conf.set(name, SETTINGS[name])


BAD = [
    ("t1", "a", "1", "tea", None),
    ("t1", None, "2", CANARY, "author is missing"),
    (None, "a", "2", CANARY, "thread_id is missing"),
    ("t1", "a", "2", None, "text is missing"),
    ("t1", "a", f"{CANARY} o'clock", "tea", "sent_at is not a time; use seconds or ISO 8601"),
    ("t1", "a", "NaN", "tea", "sent_at is not a time; use seconds or ISO 8601"),
    ("t1", "a", "-Infinity", "tea", "sent_at is not a time; use seconds or ISO 8601"),
    ("t2", "b", None, "tea", None),
]


def test_rows_that_are_no_messages_are_told(session: SparkSession) -> None:
    table = session.createDataFrame([row[:4] for row in BAD], TABLE.replace("double", "string"))
    what = problem(table)
    assert [row.problem for row in table.select(what).collect()] == [row[4] for row in BAD]
    assert [row["thread_id"] for row in rows_of(assess(table.where(what.isNull()), small_model(), at=AT))] == [
        "t1",
        "t2",
    ]
    not_text = session.createDataFrame(
        [(b"t", b"a\xff", b"tea"), (b"t", b"a", b"\xc3("), (b"t", b"a", b"ok")],
        "thread_id binary, author binary, text binary",
    )
    told = [row.problem for row in not_text.select(problem(not_text)).collect()]
    assert told == ["author is not UTF-8", "text is not UTF-8", None]


@pytest.mark.parametrize("bad", [row for row in BAD if row[4]])
def test_a_row_that_is_no_message_stops_the_job_and_is_not_quoted(bad: Any, session: SparkSession) -> None:
    table = session.createDataFrame([BAD[0][:4], bad[:4]], TABLE.replace("double", "string"))
    with pytest.raises(PySparkException) as caught:
        assess(table, small_model(), at=AT).collect()
    said = str(caught.value)
    assert f"a row of thread {bad[0] or '?'}: {bad[4]}; set such rows aside" in said
    assert CANARY not in said


def test_spark_is_asked_for_when_it_is_not_there() -> None:
    code = "import sys; sys.modules['pyspark'] = None\nimport grooming_flag.spark"
    ran = subprocess.run(
        [PYTHON, "-c", code], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert f"{MissingExtraError.__name__}: Spark needs pyspark; pip install 'grooming-flag[spark]'" in ran.stderr


@needs_bundled_model
def test_the_examples_of_the_module_run(session: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ran = doctest.testmod(on_spark)
    assert ran.failed == 0
    assert ran.attempted > 3


# --- streams -----------------------------------------------------------------------------------------------------


def write_stream(folder: Path, threads: list[Thread], n_files: int, **context: str) -> None:
    """Write the messages of threads as so many files, each thread in its order, and the newest file last."""
    folder.mkdir()
    for k in range(n_files):
        rows = []
        for one in threads:
            n = len(one.messages)
            part = range(n * k // n_files, n * (k + 1) // n_files)
            rows += [
                {"thread_id": one.thread_id, "author": m.author, "sent_at": float(i), "text": m.text, **context}
                for i, m in ((i, one.messages[i]) for i in part)
            ]
        random.Random(k).shuffle(rows)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{k:03}.parquet")
        os.utime(folder / f"{k:03}.parquet", (1_700_000_000 + k, 1_700_000_000 + k))  # Spark takes the oldest first


def expected_changes(
    model: Model, policy: Policy, threads: list[Thread], context: dict[str, str]
) -> list[dict[str, Any]]:
    watcher = Watcher(model, SqliteStore(":memory:"), policy)
    changes = [
        change.row() for one in threads for m in one.messages for change in watcher.add(one.thread_id, m, context)
    ]
    return sorted(changes, key=_identity)


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["thread_id"], row["n_messages"], row["rule"]


def test_a_stream_has_the_changes_that_one_machine_has(session: SparkSession, tmp_path: Path) -> None:
    model = small_model()
    rules = (Rule("dm", AT, {"surface": ("dm",)}, min_messages=3), Rule("default", 0.5))
    policy = Policy(rules, (Shadow(Rule("loud", 0.001), None),))
    write_stream(tmp_path / "in", SAID, 5, surface="dm")
    table = (
        session.readStream.schema(f"{TABLE}, surface string")
        .option("maxFilesPerTrigger", 1)
        .parquet(str(tmp_path / "in"))
    )
    query = (
        watch(table, model, at=policy)
        .writeStream.format("parquet")
        .option("checkpointLocation", str(tmp_path / "states"))
        .trigger(availableNow=True)
        .start(str(tmp_path / "out"))
    )
    assert query.awaitTermination(120)
    found = [row.asDict() for row in session.read.parquet(str(tmp_path / "out")).collect()]
    expected = expected_changes(model, policy, SAID, {"surface": "dm"})
    assert sorted(found, key=_identity) == expected
    assert {row["shadow"] for row in expected} == {False, True}
    assert {row["is_up"] for row in expected} == {False, True}


@pytest.mark.parametrize("form", ["parquet", "json"])
def test_messages_of_one_time_in_a_micro_batch_are_in_order(form: str, session: SparkSession, tmp_path: Path) -> None:
    model = small_model(rule=SegmentRule(5, 2))
    rows = [{"thread_id": one.thread_id, "author": m.author, "text": m.text} for one in SAID for m in one.messages]
    (tmp_path / "in").mkdir()
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in/1.parquet")
    else:
        (tmp_path / "in/1.json").write_text(
            "".join(json.dumps({**row, "place": i}) + "\n" for i, row in enumerate(rows))
        )
    fields = "thread_id string, author string, text string"
    fields += ", place int" if form == "json" else ""
    stream = session.readStream.schema(fields).format(form).load(str(tmp_path / "in"))
    writer = watch(stream, model, at=AT).writeStream.format("parquet").trigger(availableNow=True)
    query = writer.option("checkpointLocation", str(tmp_path / "states")).start(str(tmp_path / "out"))
    assert query.awaitTermination(120)
    found = [row.asDict() for row in session.read.parquet(str(tmp_path / "out")).collect()]
    assert sorted(found, key=_identity) == expected_changes(model, Policy((Rule("default", AT),)), SAID, {})


LIFE = """
import sys
from pyspark.sql import SparkSession
from grooming_flag import load_model
from grooming_flag.spark import SETTINGS, watch

source, states, out, model = sys.argv[1:]
more = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2", "spark.driver.host": "127.0.0.1"}
spark = SparkSession.builder.master("local[2]").config(map={**SETTINGS, **more}).getOrCreate()
table = spark.readStream.schema("thread_id string, author string, sent_at double, text string")
changes = watch(table.option("maxFilesPerTrigger", 1).parquet(source), model, at=%r)
changes.writeStream.format("parquet").option("checkpointLocation", states).trigger(availableNow=True).start(
    out
).awaitTermination()
"""


def test_a_stream_that_is_killed_and_started_again_loses_nothing_and_doubles_nothing(
    session: SparkSession, tmp_path: Path
) -> None:
    threads = labelled_threads(150, seed=9)
    save_model(small_model(), tmp_path / "model")
    write_stream(tmp_path / "in", threads, 12)
    command = [
        PYTHON,
        "-W",
        "ignore",
        "-c",
        LIFE % AT,
        *(str(tmp_path / name) for name in ("in", "states", "out", "model")),
    ]
    env = {**environment(), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(tmp_path), "PYSPARK_PYTHON": PYTHON}
    n_killed = 0
    chance = random.Random(4)

    def n_done() -> int:
        return len(list((tmp_path / "states" / "commits").glob("[0-9]*")))

    while True:
        with (tmp_path / "log").open("wb") as log:
            life = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
            last = n_done() + 3
            while life.poll() is None and (n_killed == 2 or n_done() < last):
                time.sleep(0.02)
            time.sleep(chance.uniform(0.0, 0.4) if n_killed < 2 else 0.0)
            if life.poll() is not None:
                break
            os.killpg(life.pid, signal.SIGKILL)
            life.wait()
            n_killed += 1
    assert life.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    assert n_killed == 2
    found = [row.asDict() for row in session.read.parquet(str(tmp_path / "out")).collect()]
    policy = Policy((Rule("default", AT),))
    assert sorted(found, key=_identity) == expected_changes(small_model(), policy, threads, {})
    assert len(found) > 60
    kept = b"".join(path.read_bytes() for path in (tmp_path / "states").rglob("*") if path.is_file())
    assert not [word for word in ("clockwork", "tangerine", "homework") if word.encode() in kept]


# --- as a job ----------------------------------------------------------------------------------------------------


@needs_bundled_model
def test_the_example_runs_with_spark_submit(tmp_path: Path) -> None:
    rows = [(f"t{i % 50}", f"u{i % 3}", float(i), f"hello {i}" if i % 7 else None) for i in range(700)]
    columns = zip(*rows, strict=True)
    (tmp_path / "log").mkdir()
    pq.write_table(
        pa.table(dict(zip(("channel", "user", "sent_at", "text"), map(list, columns), strict=True))),
        tmp_path / "log/1.parquet",
    )
    submit = Path(find_spec("pyspark").submodule_search_locations[0], "bin/spark-submit")  # type: ignore[union-attr, index]
    command = [
        str(submit),
        "--master",
        "local[2]",
        "--conf",
        "spark.ui.enabled=false",
        "--conf",
        "spark.sql.shuffle.partitions=2",
        str(ROOT / "examples/spark_job.py"),
    ]
    names = ["--columns", "thread_id=channel,author=user"]
    env = {**environment(), "PYSPARK_PYTHON": PYTHON, "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONWARNINGS": "ignore"}

    def run(*arguments: str) -> str:
        ran = subprocess.run(
            [*command, *arguments, *names],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout

    assert (
        run("assess", "log", "scores")
        == "50 threads, 600 messages, 0 flagged for review\n100 rows are no messages and were left out\n"
    )
    assert (
        run("watch", "log", "changes", "--checkpoint", "states", "--until-done")
        == "100 rows are no messages and were left out\n"
    )
    assert len(list((tmp_path / "scores").glob("*.parquet"))) >= 1
