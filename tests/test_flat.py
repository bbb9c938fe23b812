"""Flat logs: the same threads and scores whatever the format and the order of rows; errors name places, not text."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import struct
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import bare, threads_of, write_threads
from cli import run

import grooming_flag as gf
from grooming_flag.batch import score_files
from grooming_flag.io import columns, flat
from grooming_flag.io.logs import is_flat
from grooming_flag.records import ThreadColumns

pa = pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
duckdb = pytest.importorskip("duckdb", reason="the extra 'batch' is not installed")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

FORMATS = ["parquet", "arrow", "stream.arrow", "csv", "csv.gz", "tsv", "jsonl", "jsonl.gz"]
CANARY = "marmalade-canary"
TEXT = 'hello, how is the garden\n{} "{}"? it\'s fine, t\u00e9a'

THREADS = [
    gf.Thread(f"t{i}", [gf.Message(f"u{j % 3}", TEXT.format(i, j), 1.7e9 + 60 * j, f"m{j}") for j in range(i + 1)])
    for i in range(30)
]


def rows_of(threads: list[gf.Thread]) -> list[dict[str, Any]]:
    rows = [
        {"channel": t.thread_id, "who": m.author, "at": m.sent_at, "body": m.text, "id": m.message_id}
        for t in threads
        for m in t.messages
    ]
    random.Random(0).shuffle(rows)
    return rows


NAMES = {"thread_id": "channel", "author": "who", "sent_at": "at", "text": "body", "message_id": "id"}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    name = path.name
    if name.endswith(".parquet"):
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".stream.arrow"):
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(path, table.schema) as out:
            out.write_table(table, max_chunksize=100)
    elif name.endswith(".arrow"):
        feather.write_feather(pa.Table.from_pylist(rows), str(path), compression="uncompressed")
    else:
        with gzip.open(path, "wt", newline="") if name.endswith(".gz") else path.open("w", newline="") as out:
            if "jsonl" in name:
                out.writelines(json.dumps(row) + "\n" for row in rows)
            else:
                writer = csv.DictWriter(out, list(rows[0]), delimiter="\t" if "tsv" in name else ",")
                writer.writeheader()
                writer.writerows(rows)
    return path


def threads_of_all(batches: Iterable[ThreadColumns]) -> list[gf.Thread]:
    """Return the threads of batches, those in parts put together."""
    found: list[gf.Thread] = []
    for batch in batches:
        first, *others = threads_of(batch)
        if batch.is_rest:
            begun = found.pop()
            assert begun.thread_id == first.thread_id
            first = gf.Thread(first.thread_id, [*begun.messages, *first.messages])
        found += [first, *others]
    return found


def read_flat(
    *paths: Path | str, on_bad: Callable[[gf.DataError], None] | None = None, **options: Any
) -> Iterator[gf.Thread]:
    """Read a log, and check that its columns hold the same threads and that the same is wrong with it."""
    errors: list[list[str]] = [[], []]

    def note(error: gf.DataError) -> None:
        errors[0].append(str(error))
        if on_bad:
            on_bad(error)

    batches = flat.read_flat_columns(*paths, on_bad=on_bad and (lambda error: errors[1].append(str(error))), **options)
    try:
        found = list(flat.read_flat(*paths, on_bad=on_bad and note, **options))
    except gf.DataError as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            list(batches)
        raise
    assert threads_of_all(batches) == [bare(one) for one in found]
    assert errors[0] == errors[1]
    return iter(found)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_threads_go_on_from_one_batch_of_rows_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(flat, "ROWS", size)
    monkeypatch.setattr(columns, "BATCH_BYTES", 100 * size)
    path = write(tmp_path / "log.parquet", rows_of(THREADS))
    assert len(list(read_flat(path, columns=NAMES))) == len(THREADS)
    assert (len(list(flat.read_flat_columns(path, columns=NAMES))) > 1) == (size < 10_000)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_threads_back_whatever_the_order_of_rows(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"log.{suffix}", rows_of(THREADS))
    assert list(read_flat(path, columns=NAMES)) == sorted(THREADS, key=lambda thread: thread.thread_id)


@pytest.mark.parametrize("suffix", FORMATS)
def test_several_files_are_one_log(tmp_path: Path, suffix: str) -> None:
    rows = rows_of(THREADS)
    parts = [write(tmp_path / f"{name}.{suffix}", part) for name, part in (("b", rows[:200]), ("a", rows[200:]))]
    for n_jobs in (1, 4):
        found = list(read_flat(*parts, columns=NAMES, n_jobs=n_jobs))
        assert found == sorted(THREADS, key=lambda thread: thread.thread_id)
    for part in parts:  # and without times their order is that of the messages
        write(part, [{"channel": "t", "who": "a", "body": f"{part} {i}"} for i in range(50)])
    (one,) = read_flat(*parts, columns=NAMES)
    assert [message.text for message in one.messages] == [f"{part} {i}" for part in parts for i in range(50)]


@pytest.mark.parametrize(
    "convert",
    [
        lambda seconds: datetime.fromtimestamp(seconds, UTC),
        lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat(),
        lambda seconds: str(seconds),
        lambda seconds: int(seconds),
    ],
    ids=["timestamp", "ISO 8601", "number as text", "integer"],
)
def test_time_columns_of_any_usual_type_order_a_thread(tmp_path: Path, convert: Any) -> None:
    rows = [{**row, "at": convert(row["at"])} for row in rows_of(THREADS)]
    found = list(read_flat(write(tmp_path / "log.parquet", rows), columns=NAMES))
    assert found == sorted(THREADS, key=lambda thread: thread.thread_id)


def test_without_times_and_ids_the_place_in_the_log_orders_a_thread(tmp_path: Path) -> None:
    rows = [{"thread_id": "t", "author": "a", "text": f"tea {i}"} for i in range(50)]
    (thread,) = read_flat(write(tmp_path / "log.csv", rows))
    assert [message.text for message in thread.messages] == [f"tea {i}" for i in range(50)]
    assert {message.message_id for message in thread.messages} == {None}


@pytest.mark.parametrize("suffix", FORMATS)
def test_flat_logs_are_known_by_name_or_first_line(tmp_path: Path, suffix: str) -> None:
    assert is_flat(write(tmp_path / f"log.{suffix}", [{"thread_id": "t", "author": "a", "text": "tea"}]))


def test_threads_files_are_not_taken_for_flat_logs(tmp_path: Path) -> None:
    path = tmp_path / "threads.jsonl"
    path.write_text('{"thread_id": "t", "messages": [{"author": "a", "text": "tea"}]}\n')
    assert not is_flat(path)
    assert not is_flat("-")


def test_a_missing_column_is_named_with_the_mend(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", rows_of(THREADS))
    with pytest.raises(gf.DataError, match=r"log\.csv: has no column thread_id, author, text; .*--columns"):
        list(read_flat(path))


def test_rows_without_author_or_text_are_errors_or_set_aside(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"thread_id": "t", "author": "a", "text": CANARY} for _ in range(4)]
    rows[1]["author"] = None
    rows[2]["text"] = None
    path = write(tmp_path / "log.parquet", rows)
    with pytest.raises(gf.DataError, match="row 2: thread_id, author or text is missing") as caught:
        list(read_flat(path))
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    bad: list[gf.DataError] = []
    (thread,) = read_flat(path, on_bad=bad.append)
    assert (len(thread.messages), len(bad)) == (2, 2)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_is_not_what_its_name_says_is_an_error_without_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log.{suffix}"
    path.write_bytes(f'"{CANARY}" {{"text": "{CANARY}\n'.encode() * 20)
    with pytest.raises(gf.GroomingFlagError) as caught:
        list(read_flat(path))
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert "log." in str(caught.value)


def test_files_of_different_formats_are_no_log(tmp_path: Path) -> None:
    rows = rows_of(THREADS)
    with pytest.raises(gf.DataError, match="one format"):
        list(read_flat(write(tmp_path / "a.csv", rows), write(tmp_path / "b.parquet", rows), columns=NAMES))


def test_parquet_scores_hold_what_json_scores_hold(tmp_path: Path) -> None:
    log = write(tmp_path / "log.parquet", rows_of(THREADS))
    model = gf.load_model()
    for name in ("scores.jsonl", "scores.parquet"):
        summary = score_files([log], tmp_path / name, model, 0.001, columns=NAMES, evidence=2)
        assert (summary.threads, summary.messages) == (30, 465)
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert parquet.read_table(tmp_path / "scores.parquet").to_pylist() == rows
    assert {row["thread_id"]: row["score"] for row in rows} == {
        a.thread_id: a.score for a in model.assess_many(THREADS, at=0.001)
    }


def test_a_name_with_wildcards_is_the_name_of_one_file(tmp_path: Path) -> None:
    rows = [{"thread_id": "right", "author": "a", "text": "tea"}]
    write(tmp_path / "x1.csv", [{**rows[0], "thread_id": "wrong"}])
    assert [thread.thread_id for thread in read_flat(write(tmp_path / "x[1].csv", rows))] == ["right"]
    with pytest.raises(gf.DataError, match="no such file"):
        list(read_flat(tmp_path / "x*.csv"))
    with pytest.raises(gf.DataError, match="no such file"):
        list(read_flat("https://tea.example/x.csv"))


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_ids_and_text_that_look_like_times_or_numbers_stay_as_they_are(tmp_path: Path, suffix: str) -> None:
    looks = [
        "2024-01-01T00:00:00Z",
        "07-08-2024",
        "18446744073709551617",
        "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
        "1e5",
    ]
    rows = [{"thread_id": look, "author": look, "text": look, "message_id": look} for look in looks]
    threads = list(read_flat(write(tmp_path / f"log.{suffix}", rows)))
    assert [thread.thread_id for thread in threads] == sorted(looks)
    assert all({m.author, m.text, m.message_id} == {t.thread_id} for t in threads for m in t.messages)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_empty_text_is_a_text(tmp_path: Path, suffix: str) -> None:
    rows = [{"thread_id": "t", "author": "a", "text": text} for text in ("tea", "", "cake")]
    (thread,) = read_flat(write(tmp_path / f"log.{suffix}", rows))
    assert [message.text for message in thread.messages] == ["tea", "", "cake"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_time_without_a_zone_is_utc_and_what_is_no_time_is_an_error(tmp_path: Path, suffix: str) -> None:
    row = {"thread_id": "t", "author": "a", "text": CANARY, "sent_at": "2024-01-01T10:00:00"}
    (thread,) = read_flat(write(tmp_path / f"log.{suffix}", [row]))
    assert thread.messages[0].sent_at == 1704103200.0
    with pytest.raises(gf.DataError, match="row 2: sent_at is not a time") as caught:
        list(read_flat(write(tmp_path / f"bad.{suffix}", [row, {**row, "sent_at": "teatime"}])))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("memory", ["", "0MB", "2", "2TB", "lots", "-1GB", "1.5GB"])
def test_a_size_of_memory_that_makes_no_sense_is_wrong_usage(tmp_path: Path, memory: str) -> None:
    path = write(tmp_path / "log.csv", rows_of(THREADS))
    ran = run("score", path, "-o", tmp_path / "scores.jsonl", "--memory", memory)
    assert ran.status == 2
    assert "--memory" in ran.err
    assert not (tmp_path / "scores.jsonl").exists()


def test_a_log_larger_than_the_memory_for_it_gives_the_same_threads(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    rows = """SELECT 't' || (i * 7919 % 5003) AS thread_id, 'a' || (i % 3) AS author, i AS sent_at,
              repeat(md5(i::VARCHAR), 6) AS text FROM range(1000000) r(i)"""  # 200 MB and more
    duckdb.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    found = {}
    for memory in ("160MB", "2GB"):
        batches = flat.read_flat_columns(path, memory=memory)
        found[memory] = [(b.thread_ids, b.lengths, zlib.crc32(b.text[: b.offsets[-1]])) for b in batches]
    assert found["160MB"] == found["2GB"]
    assert sum(sum(lengths) for _, lengths, _ in found["2GB"]) == 1_000_000


# --- folders, patterns, databases and queries --------------------------------------------------------------------


def scores_of(*inputs: object, **options: Any) -> list[dict[str, Any]]:
    """Return the rows that the command line writes for inputs."""
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    names = ",".join(f"{column}={name}" for column, name in NAMES.items())
    ran = run("score", *inputs, "-o", "-", "--columns", names, *given)
    assert ran.status == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Return a folder with a log in parts, some of them in folders, as other programs write them."""
    rows = rows_of(THREADS)
    for i, name in enumerate(["day=1/a.csv", "day=1/b.csv", "day=2/a.csv"]):
        (tmp_path / "log" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "log" / name, rows[i::3])
    for name in ("_SUCCESS", ".a.csv.crc", "day=2/_temporary.csv"):
        (tmp_path / "log" / name).write_text("not a log")
    return tmp_path / "log"


def test_folders_and_patterns_name_the_files_in_them(parts: Path, tmp_path: Path) -> None:
    whole = write(tmp_path / "log.parquet", rows_of(THREADS))
    expected = scores_of(whole)
    assert len(expected) == len(THREADS)
    assert scores_of(parts) == expected
    assert scores_of(f"{parts}/**/?.csv") == expected
    assert scores_of(parts / "day=1", parts / "day=2" / "a.csv") == expected
    assert len(scores_of(f"{parts}/*/b.csv")) < len(THREADS)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["{}/*.txt"], "there are no files"),
        (["{}/empty"], "there are no files"),
        (["{}/day=1", "{}/*/a.csv"], "the file is given twice"),
        (["{}/day=3.csv"], "there is no such file"),
    ],
)
def test_inputs_without_files_or_with_one_twice_are_errors(parts: Path, inputs: list[str], said: str) -> None:
    (parts / "empty").mkdir()
    ran = run("score", *[name.format(parts) for name in inputs], "-o", parts.parent / "scores.jsonl")
    assert ran.status == 1
    assert said in ran.err


def test_scores_do_not_go_into_a_folder_that_is_read(parts: Path) -> None:
    for output in (parts / "scores.jsonl", parts / "day=1" / "scores.jsonl", f"{parts}/scores/", f"{parts}/"):
        ran = run("score", parts, "-o", output)
        assert ran.status == 1
        assert "is an input too; write the output elsewhere" in ran.err
    assert not list(parts.rglob("scores*"))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    rows = pa.Table.from_pylist(rows_of(THREADS))
    path = tmp_path / "chat.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.register("given", rows)
        connection.execute("CREATE TABLE messages AS FROM given")
    return path


def test_a_table_of_a_database_is_a_log(database: Path, tmp_path: Path) -> None:
    before = database.read_bytes()
    expected = scores_of(write(tmp_path / "log.parquet", rows_of(THREADS)))
    assert scores_of(f"duckdb:{database}") == expected
    assert scores_of(f"duckdb:{database}", sql="FROM messages") == expected
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE TABLE others AS SELECT 1 AS x")
    ran = run("score", f"duckdb:{database}", "-o", "-")
    assert "need one table, and it has messages, others; say which with --sql" in ran.err
    first = scores_of(f"duckdb:{database}", sql="SELECT * FROM messages WHERE channel < 't2'; -- half of it\n")
    assert first == [row for row in expected if row["thread_id"] < "t2"]
    assert list(tmp_path.glob("chat.duckdb*")) == [database]
    assert len(before) <= len(database.read_bytes())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_query_chooses_from_files(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"log.{suffix}", rows_of(THREADS))
    expected = [row for row in scores_of(path) if row["n_messages"] > 20]
    query = "SELECT * FROM log WHERE channel IN (SELECT channel FROM log GROUP BY channel HAVING count(*) > 20)"
    assert scores_of(path, sql=query) == expected != []


def test_a_query_names_files_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", rows_of(THREADS))
    assert scores_of(sql=f"SELECT * FROM '{path}'") == scores_of(path)  # noqa: S608


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DROP TABLE messages", "give one SELECT as the query"),
        ("FROM messages; DROP TABLE messages", "give one SELECT as the query"),
        ("FROM messages) ; (SELECT 1", "ParserException"),
        ("FROM nothing", "CatalogException"),
        ("SELECT 1 AS thread_id", "has no column"),
        ("FROM 'https://tea.example/x.parquet'", "without extensions"),
        ("", "give one SELECT as the query"),
    ],
)
def test_a_query_that_is_none_is_an_error_without_its_words(database: Path, sql: str, said: str) -> None:
    before = database.read_bytes()
    ran = run("score", f"duckdb:{database}", "-o", "-", "--sql", sql)
    assert ran.status == 1
    assert said in ran.err
    assert "DROP" not in ran.err
    assert database.read_bytes() == before


def test_neither_variables_nor_threads_are_what_a_query_reads(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist(rows_of(THREADS))
    with pytest.raises(gf.DataError, match="CatalogException"):
        list(flat.read_flat_columns(sql="FROM rows", columns=NAMES))
    assert len(rows) > 0
    (tmp_path / "threads.jsonl").write_text('{"thread_id": "t", "messages": []}\n')
    ran = run("score", tmp_path / "threads.jsonl", "-o", "-", "--sql", "FROM log")
    assert "a query needs a flat log" in ran.err


@pytest.mark.parametrize("content", [None, b"", b"not a database" * 1000])
def test_what_is_no_database_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "chat.duckdb").write_bytes(content)
    ran = run("score", f"duckdb:{tmp_path}/chat.duckdb", "-o", "-")
    assert ran.status == 1
    assert "chat.duckdb" in ran.err


def test_nothing_to_score_is_wrong_usage() -> None:
    ran = run("score", "-o", "-")
    assert ran.status == 2
    assert "name what to score" in ran.err


# --- bad rows ----------------------------------------------------------------------------------------------------


def bad_rows(*paths: Path) -> tuple[list[int], list[str]]:
    """Return how many messages a log has without its bad rows, and where these are."""
    bad: list[gf.DataError] = []
    found = [len(thread.messages) for thread in read_flat(*paths, on_bad=bad.append)]
    assert CANARY not in " ".join(map(str, bad))
    return found, sorted(str(error).split(":")[0] for error in bad)


@pytest.mark.parametrize("extra", [{}, {"file_index": 7}])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_bad_row_is_named_by_its_file_and_its_place_there(tmp_path: Path, suffix: str, extra: dict[str, int]) -> None:
    paths = []
    for k, places in enumerate([(), (0, 3), (4,)]):
        rows: list[dict[str, Any]] = [{"thread_id": "t", "author": "a", "text": CANARY, **extra} for _ in range(5)]
        for i in places:
            rows[i]["author"] = None
        paths.append(write(tmp_path / f"{k}.{suffix}", rows))
    expected = [f"{paths[1]}, row 1", f"{paths[1]}, row 4", f"{paths[2]}, row 5"]
    assert bad_rows(*paths) == ([12], expected)
    with pytest.raises(gf.DataError, match=re.escape(expected[0])):
        list(read_flat(*paths))


def test_lines_that_are_not_json_are_bad_rows(tmp_path: Path) -> None:
    good = json.dumps({"thread_id": "t", "author": "a", "text": CANARY})
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([good, good[:-5], good, f'"{CANARY}"', "[1]", "\u00ff", good]) + "\n")
    assert bad_rows(path) == ([3], [f"{path}, row {i}" for i in (2, 4, 5, 6)])


def test_lines_that_are_not_csv_are_bad_rows(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    head = b"thread_id,author,text\r\n"
    first.write_bytes(
        b"\xef\xbb\xbf"
        + head
        + b't,a,"two\r\nlines"\r\nt,a\r\nt,,marmalade-canary\r\nt,"a"b,c\r\nt,a,b,c\r\n#t,a,"a ""b"""\r\n,a,b\r\n'
    )
    second.write_bytes(head + b"t,a,b\r\nt,a,\xff\xfe marmalade-canary\r\nt,a,b\r\n,a,b\r\nt,a,b,marmalade-canary\r\n")
    places = [f"{first}, row {i}" for i in (2, 3, 4, 5, 7)] + [f"{second}, row {i}" for i in (2, 4, 5)]
    assert bad_rows(first, second) == ([1, 3], places)
    with pytest.raises(gf.DataError, match=re.escape(f"{first}, row 2: has 2 values where the header has 3")) as caught:
        list(read_flat(first, second))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("content", "n_good", "bad"),
    [
        ("t,a,hi\nt,b,foo\rbar\nt,c,ok\n", 3, {3: "has 1 values where the header has 3"}),
        ("t,a,hi\r\nt,b,foo\nt,c,ok\r\n", 3, {}),
        ("t,a,hi\n\n\n,b,x\n\nt,b\n,c,z\nt,d,ok\n", 2, {2: "missing", 3: "has 2 values", 4: "missing"}),
        ('t,a,hi\nt,b,"open\nt,c,ok\n', 1, {2: "quotes amiss"}),
        (f"t,a,hi\nt,b,{'x' * 20_000_000}\nt,c,{'y' * 3_000_000}\n", 2, {2: "has a value of more than"}),
        ('t,a,\nt,a\nt,a,""\n', 2, {2: "has 2 values"}),
    ],
    ids=["stray CR", "mixed ends", "blank lines", "open quotes", "huge", "empty text"],
)
@pytest.mark.parametrize("sql", [None, "FROM log"])
def test_csv_that_duckdb_refuses_is_read_all_the_same(
    tmp_path: Path, content: str, n_good: int, bad: dict[int, str], sql: str | None
) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"thread_id,author,text\n" + content.encode())
    errors: list[gf.DataError] = []
    found = list(read_flat(path, on_bad=errors.append, sql=sql))
    assert sum(len(thread.messages) for thread in found) == n_good
    assert len(errors) == len(bad)
    for number, what in bad.items():
        if sql is None or "missing" not in what:  # else it is a row of the query
            assert any(f"log.csv, row {number}: " in str(error) and what in str(error) for error in errors)


@pytest.mark.parametrize(
    "content",
    [
        b"\n\nthread_id,author,text\nt1,a,hi\n",
        b'"thread_id,author,text\nt1,a,hi\n',
        b"thread_id,author,text,\xff\nt1,a,hi,\n",
        b"",
    ],
)
def test_csv_without_a_header_in_its_first_line_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(gf.DataError, match="does not begin with a header"):
        list(read_flat(tmp_path / "log.csv"))


@pytest.mark.parametrize("column", ["author", "text"])
def test_arrow_with_text_that_is_not_utf_8_is_an_error(tmp_path: Path, column: str) -> None:
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    table = pa.table({"thread_id": ["t"], "author": ["a"], "text": ["tea"], column: bad})
    with pa.ipc.new_stream(tmp_path / "log.arrow", table.schema) as out:
        out.write_table(table)
    with pytest.raises(gf.DataError, match=r"log\.arrow"):
        list(read_flat(tmp_path / "log.arrow"))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (struct.pack("<4i", 0, 6, 12, 18), struct.pack("<4i", 0, 6, 2**30, 18)),  # where texts begin and end
        (b"more", b"\xffore"),
    ],
)
@pytest.mark.parametrize("opens", [pa.ipc.new_stream, pa.ipc.new_file])
def test_arrow_with_damaged_offsets_or_names_is_an_error(tmp_path: Path, opens: Any, good: bytes, bad: bytes) -> None:
    rows = {"thread_id": ["t"] * 3, "author": ["a"] * 3, "text": ["kettle"] * 3, "more": [1] * 3}
    out = io.BytesIO()
    with opens(out, pa.table(rows).schema) as stream:
        stream.write_table(pa.table(rows))
    assert good in out.getvalue()
    (tmp_path / "log.arrow").write_bytes(out.getvalue().replace(good, bad))
    with pytest.raises(gf.DataError, match=r"log\.arrow"):
        list(read_flat(tmp_path / "log.arrow"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_empty_part_of_a_log_has_no_rows(tmp_path: Path, suffix: str) -> None:
    rows = [{"thread_id": "t", "author": "a", "text": "tea"}]
    (tmp_path / "log").mkdir()
    write(tmp_path / "log" / f"a.{suffix}", rows)
    if "parquet" in suffix or "arrow" in suffix or "gz" in suffix:
        write(tmp_path / "log" / f"b.{suffix}", rows)
    else:
        (tmp_path / "log" / f"b.{suffix}").touch()
    score_files([tmp_path / "log"], tmp_path / "scores.jsonl", gf.load_model())
    (row,) = map(json.loads, (tmp_path / "scores.jsonl").read_text().splitlines())
    assert row["n_messages"] == 1 + ("parquet" in suffix or "arrow" in suffix or "gz" in suffix)


def test_jsonl_is_known_as_flat_by_its_first_good_line(tmp_path: Path) -> None:
    good = json.dumps({"thread_id": "t", "author": "a", "text": CANARY})
    (tmp_path / "log.jsonl").write_text("{bad\n" + good + "\n")
    summary = score_files([tmp_path / "log.jsonl"], tmp_path / "s.jsonl", gf.load_model(), bad_lines=tmp_path / "bad")
    assert (summary.messages, summary.bad) == (1, 1)
    assert "log.jsonl, row 1" in (tmp_path / "bad").read_text()


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_of_folders_are_no_columns(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "author=all" / "thread_id=7"
    folder.mkdir(parents=True)
    rows = [{"thread_id": f"t{i}", "author": "a", "text": "tea"} for i in range(3)]
    found = list(read_flat(write(folder / f"log.{suffix}", rows)))
    assert [(thread.thread_id, thread.messages[0].author) for thread in found] == [(f"t{i}", "a") for i in range(3)]


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "stream.arrow", "jsonl"])
def test_a_column_may_be_in_some_files_alone(tmp_path: Path, suffix: str) -> None:
    row: dict[str, Any] = {"thread_id": "t", "author": "a", "text": "tea"}
    paths = [write(tmp_path / f"0.{suffix}", [row])]
    paths.append(write(tmp_path / f"1.{suffix}", [{**row, "text": f"{i}", "sent_at": 9.0 - i} for i in range(3)]))
    for order in (paths, paths[::-1]):
        (found,) = read_flat(*order)
        assert [message.text for message in found.messages] == ["2", "1", "0", "tea"]


def test_names_that_are_not_utf8_or_stand_twice_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "f\udcff.csv"
    try:
        path.write_text("thread_id,author,text\nt,a,tea\n")
    except OSError:
        pytest.skip("files have names in UTF-8 here")
    with pytest.raises(gf.DataError, match="names in UTF-8 only"):
        list(read_flat(path))
    threads = write_threads(tmp_path / "t\udcff.jsonl", THREADS)
    assert score_files([threads], f"{tmp_path}/scores/", gf.load_model()).threads == len(THREADS)
    (tmp_path / "two.csv").write_text("thread_id,author,text,Text\nt,a,tea,cake\n")
    with pytest.raises(gf.DataError, match="two columns of one name"):
        list(read_flat(tmp_path / "two.csv"))


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    rows = rows_of(THREADS)
    for name in ("in", "other"):
        (tmp_path / name).mkdir()
    write(tmp_path / "in" / "a.csv", rows[:200])
    write(tmp_path / "other" / "b.csv", rows[200:])
    (tmp_path / "in" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(tmp_path / "in")
    assert sum(row["n_messages"] for row in scores_of(tmp_path / "in")) == len(rows)


@pytest.mark.parametrize("output", ["chat.duckdb", "nowhere/../chat.duckdb", "link"])
def test_a_database_is_not_written_over(database: Path, tmp_path: Path, output: str) -> None:
    before = database.read_bytes()
    (tmp_path / "link").symlink_to(database)
    ran = run("score", f"duckdb:{database}", "-o", tmp_path / output)
    assert ran.status == 1
    assert "is an input too" in ran.err
    assert database.read_bytes() == before


def test_a_pattern_that_fits_the_parts_of_a_run_does_not_read_them(tmp_path: Path) -> None:
    write_threads(tmp_path / "log.jsonl", THREADS)
    for _ in range(2):
        ran = run("score", f"{tmp_path}/**/*.jsonl", "-o", f"{tmp_path}/scores/")
        assert ran.status == 0, ran.err
    assert "scored by a run before" in ran.err
    ran = run("score", tmp_path / "log.jsonl", "-o", tmp_path / "scores")
    assert "is a folder; to fill it with parts, end its name with a slash" in ran.err


@pytest.mark.parametrize("at", ["nan", "inf", "infinity", "1e400", "-inf"])
def test_a_time_that_is_not_finite_is_none(tmp_path: Path, at: str) -> None:
    row = {"thread_id": "t", "author": "a", "text": "tea", "sent_at": at}
    with pytest.raises(gf.DataError, match="sent_at is not a time"):
        list(read_flat(write(tmp_path / "log.csv", [row])))


@pytest.mark.parametrize("memory", ["lots", "99999999999999999999GB"])
def test_a_size_of_memory_that_duckdb_does_not_take_is_an_error(tmp_path: Path, memory: str) -> None:
    path = write(tmp_path / "log.csv", rows_of(THREADS))
    with pytest.raises(gf.DataError, match="is no size that DuckDB takes"):
        list(flat.read_flat(path, memory=memory))


def test_what_comes_first_in_a_file_of_csv_says_nothing_about_what_comes_later(tmp_path: Path) -> None:
    rows = [{"thread_id": "#t", "author": "a", "text": "tea"}] * 30_000
    rows += [
        {"thread_id": "#t", "author": "a", "text": "the \"best\";\t'tea',\n#1|2"},
        {**rows[0], "text": "x" * 3_000_000},
    ]
    (thread,) = read_flat(write(tmp_path / "log.csv", rows))
    assert [message.text for message in thread.messages] == [row["text"] for row in rows]


def test_files_of_csv_with_other_columns_are_no_log(tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", [{"thread_id": "t", "author": "a", "text": "tea"}])
    other = write(tmp_path / "b.csv", [{"author": "a", "thread_id": "t", "text": "tea"}])
    with pytest.raises(gf.DataError, match=r"b\.csv: has not the columns of .*a\.csv"):
        list(read_flat(one, other))
    (tmp_path / "c.csv").write_bytes(b"")
    with pytest.raises(gf.DataError, match=r"c\.csv"):
        list(read_flat(tmp_path / "c.csv"))


@pytest.mark.parametrize("suffix", [*FORMATS, "threads"])
def test_how_much_has_been_read_is_known_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(columns, "BATCH_BYTES", 10_000)
    monkeypatch.setattr(flat, "ROWS", 500)
    threads = [gf.Thread(f"t{i}", [gf.Message("a", TEXT)]) for i in range(5_000)]
    if suffix == "threads":
        path = write_threads(tmp_path / "log.jsonl", threads)
    else:
        path = write(tmp_path / f"log.{suffix}", rows_of(threads))
    shares: list[float] = []
    names = {} if suffix == "threads" else NAMES
    score_files(
        [path], tmp_path / "scores.jsonl", gf.load_model(), columns=names, progress=lambda s: shares.append(s.share)
    )
    if suffix in ("parquet", "arrow", "stream.arrow", "threads"):
        assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], abs=0.15)
    else:
        assert shares == [0.0] * 5


# --- long threads ------------------------------------------------------------------------------------------------


@pytest.fixture
def long_log(tmp_path: Path) -> Path:
    """Return a log of threads of very different lengths, the messages of some of them without text."""
    chance = random.Random(0)
    threads = []
    for i, n in enumerate([1, 700, 3, 199, 200, 201, 2000, 5, 419, 1, 4000]):
        names = [f"u{chance.randrange(1 + 40 * (n > 300))}" for _ in range(n)]
        texts = [" " * (j % 3) if i == 9 else lorem(chance) for j in range(n)]
        threads.append(
            gf.Thread(
                f"t{i:02}", [gf.Message(a, t, float(j)) for j, (a, t) in enumerate(zip(names, texts, strict=True))]
            )
        )
    return write(tmp_path / "log.parquet", rows_of(threads))


def lorem(chance: random.Random) -> str:
    return " ".join(
        chance.choices(["tea", "how old are you", "garden", "don't tell your mum", "bus", "homework", "ok"], k=4)
    )


@pytest.mark.parametrize("rows", [7, 150, 10_000])
@pytest.mark.parametrize("size", [1, 60, 800])
def test_long_threads_come_in_parts_and_have_the_same_answers(
    long_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, size: int
) -> None:
    model = gf.load_model()
    expected = list(model.assess_many(flat.read_flat(long_log, columns=NAMES), at=0.001))
    monkeypatch.setattr(flat, "ROWS", rows)
    monkeypatch.setattr(columns, "BATCH_BYTES", size)
    batches = list(flat.read_flat_columns(long_log, columns=NAMES))
    assert any(batch.goes_on for batch in batches)
    assert threads_of_all(batches) == [bare(one) for one in flat.read_flat(long_log, columns=NAMES)]
    for n_jobs in (1, 3):
        assert list(model.assess_columns(batches, 0.001, n_jobs)) == expected
    for n in range(len(expected) + 1):
        assert list(model.assess_columns(columns.without_first(batches, n), 0.001)) == expected[n:]
