"""Flat logs: the same threads and scores whatever the format and the order of rows; errors name places, not text."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
import traceback
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import bare, threads_of
from cli import run

import grooming_flag as gf
from grooming_flag.batch import score_files
from grooming_flag.io import columns, flat
from grooming_flag.io.flat import is_flat

pa = pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
duckdb = pytest.importorskip("duckdb", reason="the extra 'batch' is not installed")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

FORMATS = ["parquet", "arrow", "csv", "csv.gz", "tsv", "jsonl", "jsonl.gz"]
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
    assert [one for batch in batches for one in threads_of(batch)] == [bare(one) for one in found]
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


def test_several_files_are_one_log(tmp_path: Path) -> None:
    rows = rows_of(THREADS)
    first, second = write(tmp_path / "a.parquet", rows[:200]), write(tmp_path / "b.parquet", rows[200:])
    assert list(read_flat(first, second, columns=NAMES)) == sorted(THREADS, key=lambda thread: thread.thread_id)


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
    for memory in ("120MB", "2GB"):
        batches = flat.read_flat_columns(path, memory=memory)
        found[memory] = [(b.thread_ids, b.lengths, zlib.crc32(b.text[: b.offsets[-1]])) for b in batches]
    assert found["120MB"] == found["2GB"]
    assert sum(sum(lengths) for _, lengths, _ in found["2GB"]) == 1_000_000
