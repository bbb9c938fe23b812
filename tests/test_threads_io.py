"""Reading threads: whatever was written comes back, and what is wrong is one error that never quotes a chat."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard
from builders import CANARY, PYTHON, environment, error_of, lines_of, row_of, thread, write_threads
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import any_characters, conversations

from grooming_flag import DataError, Message, Thread, read_threads
from grooming_flag.io import streams
from grooming_flag.io import threads as io_threads
from grooming_flag.io.streams import CHUNK, read_lines, whole_file

settings.register_profile(
    "files", settings.get_profile("ci"), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
with_files = settings.get_profile("files")

GOOD = thread("tea", "kettle", label=1, suspects=["a"], person="somebody")
names = st.one_of(st.sampled_from(["a", "b", "\ud800", ""]), any_characters())
times = st.one_of(st.none(), st.floats(-1e12, 1e12), st.integers(-(2**40), 2**40))
ids = st.one_of(st.none(), names, st.integers(-(2**70), 2**70))
said = st.builds(Message, author=names, text=any_characters(40), sent_at=times, message_id=ids)
labels = st.sampled_from([None, 0, 1])
suspects = st.lists(names, max_size=2)
messages = st.one_of(st.lists(said, min_size=1, max_size=4), conversations(4).filter(bool))
threads = st.builds(Thread, names, messages, labels, suspects, st.one_of(st.none(), names))
batches = st.lists(threads, max_size=5, unique_by=lambda one: one.thread_id)

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".jsonl": bytes,
    ".jsonl.gz": gzip.compress,
    ".jsonl.zst": zstandard.compress,
}


def compress_in_parts(ending: str, parts: list[bytes]) -> bytes:
    return b"".join(map(COMPRESS[ending], parts))


def all_of(*paths: Path) -> list[Thread]:
    return list(read_threads(*paths))


def exposed(error: BaseException) -> str:
    """Return everything that a log of an error could show, causes and contexts included."""
    shown = [*traceback.format_exception(error), repr(error), str(error)]
    seen: list[BaseException | None] = [error]
    for one in seen:
        if one is not None:
            shown += [repr(one), str(one), repr(vars(one)), repr(one.args)]
            seen += [another for another in (one.__cause__, one.__context__) if another not in seen]
    return "\n".join(shown)


# --- round trips -------------------------------------------------------------------------------------------------


@with_files
@given(batches, st.booleans(), st.sampled_from(list(COMPRESS)))
def test_threads_come_back_as_they_were(tmp_path: Path, batch: list[Thread], ascii_only: bool, ending: str) -> None:
    lines = [json.dumps(row_of(one), ensure_ascii=ascii_only) + "\n" for one in batch]
    path = tmp_path / f"threads{ending}"
    path.write_bytes(compress_in_parts(ending, ["".join(lines).encode("utf-8", "surrogatepass")]))
    assert all_of(path) == batch


@with_files
@given(batches, st.sampled_from([".jsonl.gz", ".jsonl.zst"]), st.integers(1, 200))
def test_files_compressed_in_several_frames_are_read_to_the_end(
    tmp_path: Path, batch: list[Thread], ending: str, size: int
) -> None:
    raw = lines_of(batch)
    parts = [raw[i : i + size] for i in range(0, len(raw), size)]
    parts.insert(len(parts) // 2, b"")
    path = tmp_path / f"threads{ending}"
    path.write_bytes(compress_in_parts(ending, parts))
    assert all_of(path) == batch


@pytest.mark.parametrize("ending", list(COMPRESS))
def test_a_line_longer_than_what_is_read_at_once_is_read(tmp_path: Path, ending: str) -> None:
    long = thread("tea " * (CHUNK // 3), "kettle")
    path = tmp_path / f"threads{ending}"
    path.write_bytes(compress_in_parts(ending, [lines_of([long]), lines_of([replace(GOOD, thread_id="u")])]))
    assert all_of(path) == [long, replace(GOOD, thread_id="u")]


@pytest.mark.parametrize("ending", list(COMPRESS))
@pytest.mark.parametrize("raw", [b"", b"\n", b" \n\t\r\n\n"])
def test_files_without_lines_have_no_threads(tmp_path: Path, ending: str, raw: bytes) -> None:
    path = tmp_path / f"threads{ending}"
    path.write_bytes(COMPRESS[ending](raw))
    assert all_of(path) == []


def test_no_files_have_no_threads() -> None:
    assert all_of() == []


def test_a_last_line_without_an_end_and_lines_that_end_as_on_windows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "threads.jsonl"
    first, second = lines_of([GOOD]).strip(), lines_of([replace(GOOD, thread_id="u")]).strip()
    path.write_bytes(first + b"\r\n\r\n" + second)
    assert [one.thread_id for one in all_of(path)] == ["t", "u"]


def test_files_are_read_in_order_and_lazily(tmp_path: Path) -> None:
    first = write_threads(tmp_path / "one.jsonl", [GOOD])
    found = read_threads(first, tmp_path / "missing.jsonl")
    assert next(found) == GOOD
    with pytest.raises(DataError):
        next(found)


def test_nothing_is_opened_before_a_thread_is_wanted(tmp_path: Path) -> None:
    read_threads(tmp_path / "missing.jsonl")


def test_fields_that_are_not_known_are_ignored(tmp_path: Path) -> None:
    row = {**row_of(GOOD), "extra": {"deep": [1, None, CANARY]}, "score": 1.5}
    row["messages"] = [{**message, "extra": [[]], "Author": 3} for message in row["messages"]]
    path = tmp_path / "threads.jsonl"
    path.write_text(json.dumps(row))
    assert all_of(path) == [GOOD]


def test_fields_that_are_null_are_as_good_as_missing(tmp_path: Path) -> None:
    row = row_of(thread("tea"))
    row |= {"label": None, "suspects": None, "person": None}
    row["messages"][0] |= {"sent_at": None, "message_id": None}
    path = tmp_path / "threads.jsonl"
    path.write_text(json.dumps(row))
    assert all_of(path) == [thread("tea")]


@with_files
@given(batches)
def test_standard_input_is_a_file_named_with_a_dash(tmp_path: Path, batch: list[Thread]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines_of(batch))))
        assert list(read_threads("-")) == batch


# --- times -------------------------------------------------------------------------------------------------------


def first_time(tmp_path: Path, raw: str) -> float | None:
    path = tmp_path / "threads.jsonl"
    row = json.dumps(row_of(Thread("t", [Message("a", "tea", sent_at=7)])))
    path.write_text(row.replace("7", raw))
    return all_of(path)[0].messages[0].sent_at


@with_files
@given(st.datetimes(), st.sampled_from(["", "Z", "+00:00", "-11:30", "+05"]), st.sampled_from(["T", " "]))
def test_iso_times_are_seconds_and_count_as_utc_without_an_offset(
    tmp_path: Path, moment: datetime, offset: str, separator: str
) -> None:
    text = moment.isoformat(separator) + offset
    expected = datetime.fromisoformat(text)
    expected = expected if expected.tzinfo else expected.replace(tzinfo=UTC)
    assert first_time(tmp_path, json.dumps(text)) == expected.timestamp()


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        ("null", None),
        ("0", 0),
        ("-1.5", -1.5),
        ("1e3", 1000),
        ("1700000000", 1.7e9),
        ('"1970-01-01"', 0),
        ('"1970-01-01T00:01"', 60),
        ('"1970-01-01T01:00:00+01:00"', 0),
        ('"1970-01-01T00:00:00.250Z"', 0.25),
        ('"19700101T000001"', 1),
    ],
)
def test_times_are_numbers_iso_8601_or_null(tmp_path: Path, raw: str, seconds: float | None) -> None:
    assert first_time(tmp_path, raw) == seconds


@pytest.mark.parametrize(
    "raw", ['""', '"yesterday"', '"1700000000"', '"2024-13-01"', '"2024-02-30T00:00"', '"24:00"', '"\\ud800"', '"٢"']
)
def test_a_time_that_is_none_is_an_error(tmp_path: Path, raw: str) -> None:
    with pytest.raises(DataError, match="line 1: a sent_at is not a time; use seconds, ISO 8601 or null"):
        first_time(tmp_path, raw)


@pytest.mark.parametrize("raw", ["NaN", "Infinity", "-Infinity"])
def test_a_time_that_is_not_a_number_of_json_is_an_error(tmp_path: Path, raw: str) -> None:
    with pytest.raises(DataError, match="line 1"):
        first_time(tmp_path, raw)


# --- bad lines ---------------------------------------------------------------------------------------------------


def with_field(name: str, value: object) -> str:
    return json.dumps({**row_of(thread(CANARY, CANARY)), name: value})


def with_message_field(name: str, value: object) -> str:
    row = row_of(thread("tea", CANARY))
    row["messages"][1][name] = value
    return json.dumps(row)


def without(name: str) -> str:
    row = row_of(thread(CANARY))
    row.pop(name, None)
    row["messages"] = [{k: v for k, v in m.items() if k != name} for m in row.get("messages", [])] or None
    return json.dumps({key: value for key, value in row.items() if key != name and value is not None})


BAD_LINES: dict[str, tuple[str | bytes, str]] = {
    "cut short": (f'{{"thread_id": "{CANARY}', "not JSON at character"),
    "no JSON": (CANARY, "not JSON at character 1"),
    "two on a line": (json.dumps(row_of(thread(CANARY))) + " {}", "not JSON at character"),
    "an array": (f'["{CANARY}"]', "object"),
    "a string": (f'"{CANARY}"', "object"),
    "null": ("null", "object"),
    "thread_id a number": (with_field("thread_id", 3), "$.thread_id"),
    "thread_id null": (with_field("thread_id", None), "$.thread_id"),
    "messages a string": (with_field("messages", CANARY), "$.messages"),
    "messages an object": (with_field("messages", {CANARY: CANARY}), "$.messages"),
    "messages null": (with_field("messages", None), "$.messages"),
    "message a string": (with_field("messages", [CANARY]), "$.messages[0]"),
    "no messages": (with_field("messages", []), "no messages"),
    "label a string": (with_field("label", CANARY), "$.label"),
    "label 2": (with_field("label", 2), "$.label"),
    "label true": (with_field("label", True), "$.label"),
    "suspects a string": (with_field("suspects", CANARY), "$.suspects"),
    "suspect a number": (with_field("suspects", [CANARY, 1]), "$.suspects[1]"),
    "person a number": (with_field("person", 3), "$.person"),
    "author null": (with_message_field("author", None), "$.messages[1].author"),
    "author a number": (with_message_field("author", 3), "$.messages[1].author"),
    "text null": (with_message_field("text", None), "$.messages[1].text"),
    "text an array": (with_message_field("text", [CANARY]), "$.messages[1].text"),
    "sent_at true": (with_message_field("sent_at", True), "$.messages[1].sent_at"),
    "sent_at an array": (with_message_field("sent_at", [CANARY]), "$.messages[1].sent_at"),
    "sent_at a word": (with_message_field("sent_at", CANARY), "sent_at is not a time"),
    "sent_at too large": (with_message_field("sent_at", 7).replace(": 7}", ": 1e999}"), "sent_at"),
    "message_id a fraction": (with_message_field("message_id", 1.5), "$.messages[1].message_id"),
    "message_id an object": (with_message_field("message_id", {CANARY: 1}), "$.messages[1].message_id"),
    "without thread_id": (without("thread_id"), "thread_id"),
    "without messages": (without("messages"), "messages"),
    "without author": (without("author"), "author"),
    "without text": (without("text"), "text"),
    "Latin-1": (f'{{"thread_id": "caf\u00e9 {CANARY}"}}'.encode("latin-1"), "UTF-8"),
    "bytes": (b"\xff\xfe\x00" + CANARY.encode(), "not JSON"),
    "zeros": (b"\x00\x00\x00\x00", "not JSON"),
    "deep": ('{"messages": ' + "[" * 200_000 + CANARY, "line 3"),
    "a long number": (with_field("label", 7).replace("7", "7" * 5000), "line 3"),
    "a control character": (lines_of([thread(CANARY)]).strip().replace(b"zq", b"\x01zq"), "not JSON at character"),
    "a lone surrogate and a wrong type": (with_message_field("text", ["\ud800", CANARY]), "$.messages[1].text"),
}


def bad_file(path: Path, line: str | bytes) -> Path:
    """Return a file whose third line is bad; the second is blank."""
    raw = line if isinstance(line, bytes) else line.encode()
    good = [lines_of([replace(GOOD, thread_id=name)]) for name in ("before", "after")]
    path.write_bytes(good[0] + b"\n" + raw + b"\n" + good[1])
    return path


@pytest.mark.parametrize("what", list(BAD_LINES))
def test_a_bad_line_is_one_error_that_names_file_line_and_field_and_quotes_nothing(tmp_path: Path, what: str) -> None:
    line, named = BAD_LINES[what]
    path = bad_file(tmp_path / "threads.jsonl", line)
    error = error_of(lambda: all_of(path), DataError)
    assert f"{path}, line 3: " in str(error)
    assert named in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 400
    assert CANARY not in exposed(error)


@pytest.mark.parametrize("what", list(BAD_LINES))
def test_on_bad_gets_what_would_be_raised_and_the_rest_is_read(tmp_path: Path, what: str) -> None:
    path = bad_file(tmp_path / "threads.jsonl", BAD_LINES[what][0])
    errors: list[DataError] = []
    found = list(read_threads(path, on_bad=errors.append))
    assert [one.thread_id for one in found] == ["before", "after"]
    assert [str(error) for error in errors] == [str(error_of(lambda: all_of(path), DataError))]
    assert all(CANARY not in exposed(error) for error in errors)


@with_files
@given(st.lists(st.one_of(st.sampled_from([line for line, _ in BAD_LINES.values()]), st.binary(max_size=30))))
def test_any_bytes_are_threads_or_data_errors(tmp_path: Path, lines: list[str | bytes]) -> None:
    raw = [line if isinstance(line, bytes) else line.encode() for line in lines]
    path = tmp_path / "threads.jsonl"
    path.write_bytes(b"\n".join(raw))
    errors: list[DataError] = []
    assert list(read_threads(path, on_bad=errors.append)) == []
    physical = [line for line in b"\n".join(raw).split(b"\n") if line and not line.isspace()]
    assert len(errors) == len(physical)
    assert not any(CANARY in exposed(error) for error in errors)


@pytest.mark.parametrize("n_files", [1, 2])
def test_a_thread_id_that_comes_again_is_an_error_in_the_same_or_another_file(tmp_path: Path, n_files: int) -> None:
    batch = [replace(thread(CANARY), thread_id=name) for name in (CANARY, "other", CANARY)]
    write_threads(tmp_path / "one.jsonl", batch[:2])
    write_threads(tmp_path / "two.jsonl", batch[2:])
    write_threads(tmp_path / "all.jsonl", batch)
    paths = [tmp_path / "all.jsonl"] if n_files == 1 else [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    error = error_of(lambda: all_of(*paths), DataError)
    assert f"{paths[-1]}, line {3 if n_files == 1 else 1}: repeats an earlier thread_id" in str(error)
    assert CANARY not in exposed(error)
    errors: list[DataError] = []
    assert list(read_threads(*paths, on_bad=errors.append)) == batch[:2]
    assert [str(one) for one in errors] == [str(error)]


def test_a_thread_id_may_come_again_after_a_line_that_could_not_be_used(tmp_path: Path) -> None:
    path = tmp_path / "threads.jsonl"
    path.write_bytes(b'{"thread_id": "t", "messages": []}\n' + lines_of([GOOD]))
    assert list(read_threads(path, on_bad=lambda error: None)) == [GOOD]


def test_an_error_that_on_bad_raises_comes_out(tmp_path: Path) -> None:
    def refuse(error: DataError) -> None:
        raise KeyError from error

    with pytest.raises(KeyError):
        list(read_threads(bad_file(tmp_path / "threads.jsonl", "tea"), on_bad=refuse))


# --- bad files ---------------------------------------------------------------------------------------------------

MANY = [replace(thread(CANARY * 5, f"tea {number}"), thread_id=str(number)) for number in range(200)]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.9, 0.999])
def test_a_compressed_file_that_is_cut_short_is_an_error_after_what_can_be_read(
    tmp_path: Path, ending: str, share: float
) -> None:
    whole = compress_in_parts(ending, [lines_of(MANY[:100]), lines_of(MANY[100:])])
    path = tmp_path / f"threads{ending}"
    path.write_bytes(whole[: int(len(whole) * share)])
    found: list[Thread] = []
    error = error_of(lambda: found.extend(read_threads(path)), DataError)
    assert str(error).startswith(f"{path}: the compressed file is cut short after line ")
    assert CANARY not in exposed(error)
    assert found == MANY[: len(found)]
    assert (len(found) >= 100) == (share > 0.5)


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize("how", ["not compressed", "garbage after", "flipped", "header only"])
def test_a_damaged_compressed_file_is_an_error(tmp_path: Path, ending: str, how: str) -> None:
    raw = lines_of(MANY)
    whole = COMPRESS[ending](raw)
    middle = len(whole) // 2
    path = tmp_path / f"threads{ending}"
    path.write_bytes(
        {
            "not compressed": raw,
            "garbage after": whole + raw,
            "flipped": whole[:middle] + bytes([whole[middle] ^ 0xFF, whole[middle + 1] ^ 0x55]) + whole[middle + 2 :],
            "header only": whole[:3],
        }[how]
    )
    error = error_of(lambda: all_of(path), DataError)
    assert str(path) in str(error)
    assert CANARY not in exposed(error)


@pytest.mark.parametrize("ending", list(COMPRESS))
@pytest.mark.parametrize("how", ["missing", "a folder", "no such folder"])
def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path, ending: str, how: str) -> None:
    path = {"missing": tmp_path, "a folder": tmp_path, "no such folder": tmp_path / "none"}[how] / f"threads{ending}"
    if how == "a folder":
        path.mkdir()
    error = error_of(lambda: all_of(path), DataError)
    assert str(error).startswith(f"{path}: cannot be read: ")
    good = write_threads(tmp_path / "good.jsonl", [GOOD])
    with pytest.raises(DataError, match="cannot be read"):  # a whole log must not drop out as one bad line
        list(read_threads(good, path, on_bad=lambda error: None))


def test_line_numbers_count_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"\n\none\n \ntwo")
    assert list(read_lines(path)) == [(3, b"one\n"), (5, b"two")]


# --- files that appear when they are complete --------------------------------------------------------------------


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with whole_file(target) as out:
        out.write(b"new")
        out.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(TypeError), whole_file(target) as out:
        out.write("no bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_run_left_behind_blocks_no_later_one(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from grooming_flag.io.streams import whole_file\n"
        "os.getpid = lambda: 1\n"
        "with whole_file(sys.argv[1]) as out:\n"
        "    if sys.argv[2] == 'killed': os._exit(9)\n"
    )
    for how in ("killed", "well"):
        args = [PYTHON, "-c", code, str(tmp_path / "out"), how]
        ran = subprocess.run(args, env=environment(), capture_output=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out").exists()


def test_a_new_file_has_the_rights_that_any_new_file_has(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with whole_file(tmp_path / "out"):
        pass
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_in_no_folder_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"), whole_file(tmp_path / "none" / "out"):
        pass


# --- what is made to be large ------------------------------------------------------------------------------------


def test_a_line_that_is_too_long_is_passed_over_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (streams, io_threads):
        monkeypatch.setattr(module, "LONGEST", 1000)
    said = [thread("tea", thread_id=f"t{i}") for i in range(3)]
    long = lines_of([thread(CANARY * 2000, thread_id="long")])
    path = tmp_path / "threads.jsonl"
    path.write_bytes(lines_of(said[:2]) + long + lines_of(said[2:]) + long[:-1])
    errors: list[DataError] = []
    assert [one.thread_id for one in read_threads(path, on_bad=errors.append)] == ["t0", "t1", "t2"]
    assert [str(error).partition(": ")[2] for error in errors] == [
        "longer than 1,000 bytes; put it into a flat log"
    ] * 2
    assert "line 3" in str(errors[0])
    assert "line 5" in str(errors[1])


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path, ending: str) -> None:
    """Some kB become 400 MB of one line, which has to fit nowhere."""
    resource = pytest.importorskip("resource")
    path = tmp_path / f"threads.jsonl{ending}"
    zeros = bytes(1 << 24)
    with path.open("wb") as raw, streams.compressed(raw, path) as out:
        for _ in range(24):
            out.write(zeros)
        out.write(b"\n" + lines_of([thread("tea", "kettle", thread_id="good")]))
    assert path.stat().st_size < 2_000_000
    output = tmp_path / "scores.jsonl"
    ran = subprocess.run(
        [PYTHON, "-m", "grooming_flag", "score", path, "-o", output, "--skip-bad"],
        env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert [json.loads(line)["thread_id"] for line in output.read_text().splitlines()] == ["good"]
    assert "line 1: longer than 268,435,456 bytes" in output.with_name("scores.jsonl.bad.jsonl").read_text()
