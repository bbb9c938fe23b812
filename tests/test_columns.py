"""Threads as columns: the same threads, errors and answers as message by message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import ROOT, bare, error_of, lines_of, model_of_words, thread, threads_of
from conftest import interpreted_module
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import any_characters, conversations
from test_threads_io import batches

from grooming_flag import DataError, Message, Thread, read_threads
from grooming_flag import batch as scoring
from grooming_flag.batch import score_files
from grooming_flag.errors import ModelError
from grooming_flag.features import pack_by_author, pack_columns
from grooming_flag.io import _messages, columns
from grooming_flag.io.flat import columns_of_rows
from grooming_flag.io.threads import read_columns
from grooming_flag.records import ThreadColumns
from grooming_flag.segments import SegmentRule

settings.register_profile(
    "columns", settings.get_profile("ci"), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
with_files = settings.get_profile("columns")

USUAL = [
    '"hi"',
    '"\\"hi\\" \\\\ \\/ \\b\\f\\n\\r\\t"',
    '"caf\\u00e9 \\u2615 \\ud83d\\ude02 \\u00E9"',
    '"[{]},:"',
    '""',
]
TIMES = ["null", "0", "-1", "1701293240", "1701293240.123456789", "-0.5"]
MOMENTS = [
    "2030-12-31T23:59:59",
    "2030-12-31 00:00:00Z",
    "2024-02-28T12:30:00.123Z",
    "2024-06-30T12:30:00.123456+05:30",
    "1970-01-01T00:00:00-23:59",
]
ODD_VALUES = [
    "true",
    "1e3",
    "1e999",
    "{}",
    "[1, [2]]",
    '"soon"',
    '"2030-13-01T00:00:00"',
    "12.5",
    "123456789012345678901",
]


@pytest.fixture(params=["compiled", "interpreted"], autouse=True)
def _reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the reader as compiled, or its source as Python runs it."""
    if request.param == "interpreted":
        monkeypatch.setattr(columns, "Unpacker", interpreted_module("io/_messages").Unpacker)
    elif not _messages.compiled:
        pytest.skip("the reader is not compiled here")
    monkeypatch.setattr(scoring, "compiled", True)


def check_same(path: Path) -> list[Thread]:
    """Check that both readers find the same threads and errors; return the threads."""
    errors: list[list[str]] = [[], []]
    expected = [bare(one) for one in read_threads(path, on_bad=lambda error: errors[0].append(str(error)))]
    batches = list(read_columns(path, on_bad=lambda error: errors[1].append(str(error))))
    found = [one for batch in batches for one in threads_of(batch)]
    assert found == expected
    assert errors[0] == errors[1]
    return found


def line_of(**fields: str) -> str:
    """Return a thread of one message with these fields, as they stand."""
    message = {"author": '"a"', "text": '"hi"', **fields}
    return '{"thread_id": "t", "messages": [{' + ", ".join(f'"{k}": {v}' for k, v in message.items()) + "}]}"


def is_taken(line: str) -> bool:
    """Return whether the quick reader takes a thread, rather than leave it to the other one."""
    raw = line.encode("utf-8", "surrogatepass") + b"\n"
    unpacker = columns.Unpacker()
    unpacker.use(bytearray(len(raw)), np.zeros(99, np.int64), np.zeros(99, np.int32))
    return unpacker.read(raw) is not None


# --- reading -----------------------------------------------------------------------------------------------------


@with_files
@given(batches, st.booleans(), st.sampled_from([None, 1, " "]))
def test_columns_hold_what_threads_hold(tmp_path: Path, batch: list[Thread], escaped: bool, indent: Any) -> None:
    rows = [json.loads(line) for line in lines_of(batch).splitlines()]
    separators = (",", ":") if indent == 1 else (" , ", " :\t")
    lines = [json.dumps(row, ensure_ascii=escaped, separators=separators) for row in rows]
    path = tmp_path / "log.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    check_same(path)


fields = st.sampled_from(["author", "text", "sent_at", "message_id", "te\\u0078t", "codes", "extra", ""])
values = st.one_of(
    st.sampled_from(
        [*USUAL, *TIMES, *ODD_VALUES, *(f'"{moment}"' for moment in MOMENTS), '{"text": "no", "author": 1}']
    ),
    any_characters().map(json.dumps),
)
message_rows = st.lists(st.tuples(fields, values), max_size=6).map(
    lambda items: "{" + ",".join(f'"{name}": {value}' for name, value in items) + "}"
)
rows = st.lists(st.one_of(message_rows, st.just('{"author": "a", "text": "hi"}'), st.sampled_from(["null", "[]", "1"])))


@with_files
@given(st.lists(rows, max_size=3), st.sampled_from(["", "x", "\xff", "]", " ,"]))
def test_whatever_a_line_says_both_readers_make_the_same_of_it(
    tmp_path: Path, found: list[list[str]], after: str
) -> None:
    lines = [f'{{"thread_id": "t{i}", "messages": [{", ".join(row)}]{after}}}' for i, row in enumerate(found)]
    path = tmp_path / "log.jsonl"
    path.write_bytes("\n".join(lines).encode("latin-1", "backslashreplace"))
    check_same(path)


@pytest.mark.parametrize(
    "line",
    [
        *(line_of(text=text) for text in USUAL),
        *(line_of(sent_at=time) for time in TIMES),
        *(line_of(sent_at=f'"{moment}"') for moment in MOMENTS),
        *(line_of(message_id=value) for value in ["null", "7", "-7", '"m\\u00e9"']),
        line_of(extra='{"text": [1, "}"], "author": null}', codes="[200, 600]"),
    ],
)
def test_usual_messages_are_read_quickly_and_alike(tmp_path: Path, line: str) -> None:
    assert is_taken(line)
    (tmp_path / "log.jsonl").write_text(line, encoding="utf-8")
    assert len(check_same(tmp_path / "log.jsonl")) == 1


@pytest.mark.parametrize("value", ODD_VALUES)
@pytest.mark.parametrize("name", ["author", "text", "sent_at", "message_id"])
def test_other_values_are_left_to_the_reader_that_says_what_is_wrong(tmp_path: Path, name: str, value: str) -> None:
    line = line_of(**{name: value})
    is_usual = (name, value) == ("sent_at", "12.5") or (name, value) == ("sent_at", "123456789012345678901")
    is_usual |= value.startswith('"') and name != "sent_at"
    assert is_taken(line) == is_usual
    (tmp_path / "log.jsonl").write_text(line, encoding="utf-8")
    check_same(tmp_path / "log.jsonl")


@pytest.mark.parametrize("moment", ["2023-02-29", "2024-02-29", "2024-04-31", "2024-00-10", "2024-01-00", "1969-01-01"])
@pytest.mark.parametrize(
    "clock", ["T24:00:00", "T23:60:00", "T23:00:60", "T2:00:00", "T12:00", "T12:00:00.1234", "x00:00:00"]
)
def test_dates_that_need_a_second_look_get_it(tmp_path: Path, moment: str, clock: str) -> None:
    for text in (moment + "T00:00:00", "2024-01-01" + clock, moment + clock, "2024-01-01T00:00:00+24:00"):
        assert not is_taken(line_of(sent_at=f'"{text}"'))
        (tmp_path / "log.jsonl").write_text(line_of(sent_at=f'"{text}"'))
        check_same(tmp_path / "log.jsonl")


def test_the_last_of_several_fields_of_one_name_counts(tmp_path: Path) -> None:
    line = '{"thread_id": "t", "messages": [{"text": "no", "author": "x", "author": "a", "text": "h\\u00e9"}]}'
    (tmp_path / "log.jsonl").write_text(line)
    assert check_same(tmp_path / "log.jsonl") == [thread("h\u00e9", authors=["a"])]


@pytest.mark.parametrize(
    "line",
    [
        '{"thread_id":"t","messages":7,"messages":[{"author":"a","text":"hello"}]}',
        '{"thread_id":"t","messages":[1],"messages":[{"author":"a","text":"hello"}]}',
        '{"thread_id":"t","m\\u0065ssages":7,"messages":[{"author":"a","text":"hello"}]}',
        '{"thread_id":"t","messages":[{"author":"a","text":"hello"}],"messages":[{"author":"b","text":"hi"}]}',
        '{"thread_id":"messages","messages":[{"author":"a","text":"messages"}]}',
    ],
)
def test_messages_that_come_twice_are_read_alike(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(line)
    check_same(tmp_path / "log.jsonl")


FIELDS = [
    *('"label": ' + value for value in ("0", "1", "null", "2", "-0", "1.0", "01", "true", '"1"')),
    *('"person": ' + value for value in ('"p\\u00e9"', "null", "7", "[]")),
    *('"suspects": ' + value for value in ('["a", "b"]', "[]", "null", '["a", 1]', '[["a"]]', '{"a": "b"}', '"a"')),
    *(f'"other": {value}' for value in ('[1, [2, {}], {"a": [true, false, null]}]', "-0.5E+10", "{}", "[[]]", '""')),
    *(
        f'"other": {value}'
        for value in ("[1,]", "[,1]", "{1: 2}", '{"a"}', "+1", ".5", "1.", "1e", "nul", "NaN", "-", "[")
    ),
    *('"other": ' + n * "[" + n * "]" for n in (16, 17, 2000)),
    '"\\u006fther": 1',
    '"": 1',
]


@pytest.mark.parametrize("field", FIELDS)
def test_other_fields_of_a_thread_are_read_alike(tmp_path: Path, field: str) -> None:
    lines = [
        f'{{{field}, "thread_id": "t", "messages": [{{"author": "a", "text": "tea"}}]}}',
        f' {{ "messages" :[ {{"author": "a", "text": "tea"}} ] , "thread_id":"u","x":{{ }}, {field} }}\r',
        f'{{"thread_id": 7, "thread_id": "v", "messages": [{{"author": "a", "text": "tea", {field}}}]}}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    check_same(tmp_path / "log.jsonl")


INTERESTING = [
    bytes([i]) for i in (0, 9, 10, 13, 31, 32, 34, 44, 45, 46, 48, 58, 92, 93, 101, 123, 125, 127, 128, 194, 224)
]
INTERESTING += [
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x98\x95",
    b"\\u12g4",
    b"\\ud83d\\ude02",
    b"\\x",
    b"null",
]
WHOLE = (
    '{"thread_id": "tea", "label": 1, "suspects": ["a"], "person": null, "extra": [1.5e-3, {"k": "v"}, true], '
    '"messages": [{"author": "a", "sent_at": 1701293240.5, "text": "caf\u00e9 \\"tea\\" \u2615\U0001f602", '
    '"message_id": 7}, '
    '{"author": "bo", "sent_at": "2024-02-28T12:30:00Z", "text": "and\\ncake", "message_id": "m\\u00e9", "x": {}}]}'
).encode()


@with_files
@given(st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 3), st.sampled_from(INTERESTING)), max_size=3))
def test_a_damaged_line_is_read_alike(tmp_path: Path, changes: list[tuple[int, int, bytes]]) -> None:
    line = WHOLE
    for place, n_lost, more in changes:
        line = line[:place] + more + line[place + n_lost :]
    (tmp_path / "log.jsonl").write_bytes(line)
    check_same(tmp_path / "log.jsonl")


def test_a_line_without_its_end_is_not_read_beyond_it() -> None:
    unpacker = columns.Unpacker()
    unpacker.use(bytearray(999), np.zeros(99, np.int64), np.zeros(99, np.int32))
    assert unpacker.read(WHOLE + b"\n") == "tea"
    for n in range(len(WHOLE)):
        unpacker.begin()
        assert unpacker.read(WHOLE[:n] + b"\n") is None
        assert unpacker.read(WHOLE[: n + 1]) is None


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16", "utf-32"])
def test_text_may_take_more_room_than_its_line(tmp_path: Path, encoding: str) -> None:
    row = {"thread_id": "t", "messages": [{"author": "a", "text": "\u4f60" * 200_000}]}
    (tmp_path / "log.jsonl").write_bytes(json.dumps(row, ensure_ascii=False).encode(encoding))
    check_same(tmp_path / "log.jsonl")


def test_a_message_without_room_is_refused_and_not_written() -> None:
    unpacker = columns.Unpacker()
    text = bytearray(8)
    unpacker.use(text, np.zeros(4, np.int64), np.zeros(3, np.int32))
    unpacker.begin()
    unpacker.add(b"a", b"kettle")
    offsets = np.array([0, 1], dtype=np.int64), np.array([0, 3], dtype=np.int64)
    for call in (
        lambda: unpacker.add(b"a", b"tea"),
        lambda: unpacker.add_rows(b"a", offsets[0], b"tea", offsets[1], 0, 1),
    ):
        with pytest.raises(ValueError, match="make room"):
            call()
    assert unpacker.read(line_of(text='"tea"').encode() + b"\n") is None
    assert unpacker.used() == (1, 6)
    assert text == b"kettle\0\0"


def test_rows_of_tables_are_read_as_they_are() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
    rows = [("t1", "a", "tea"), ("t1", "b", ""), ("t2", "b", "caf\u00e9 \u2615")]
    names = ["thread_id", "author", "text"]
    batches = [pyarrow.RecordBatch.from_arrays(list(map(pyarrow.array, zip(*rows, strict=True))), names)]
    found = [one for batch in columns_of_rows(batches) for one in threads_of(batch)]
    assert [(one.thread_id, said.author, said.text) for one in found for said in one.messages] == rows


def test_many_authors_are_told_apart(tmp_path: Path) -> None:
    names = [f"{'user' * (i % 3)}{i % 30}" for i in range(200)]
    (tmp_path / "log.jsonl").write_bytes(lines_of([Thread("t", [Message(name, "hi") for name in names])]))
    (found,) = check_same(tmp_path / "log.jsonl")
    assert len({message.author for message in found.messages}) == 30


@pytest.mark.parametrize("size", [1, 100, 3000])
def test_batches_of_any_size_hold_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(columns, "BATCH_BYTES", size)
    written = [thread(*["tea? \u2615"] * (1 + 7 * i % 40), thread_id=f"t{i}") for i in range(30)]
    written.append(Thread("odd", [Message("a", "\ud800 tea")]))
    (tmp_path / "log.jsonl").write_bytes(lines_of(written))
    assert [one.thread_id for one in check_same(tmp_path / "log.jsonl")] == [one.thread_id for one in written]
    assert len(list(read_columns(tmp_path / "log.jsonl"))) > (1 if size < 3000 else 0)


def test_a_thread_that_comes_twice_leaves_nothing_behind(tmp_path: Path) -> None:
    lines = lines_of([thread("tea"), thread("kettle", "pot"), thread("garden", thread_id="u")])
    (tmp_path / "log.jsonl").write_bytes(lines)
    assert [one.thread_id for one in check_same(tmp_path / "log.jsonl")] == ["t", "u"]
    with pytest.raises(DataError, match="line 2: repeats an earlier thread_id"):
        list(read_columns(tmp_path / "log.jsonl"))


def test_no_text_is_shown() -> None:
    found = ThreadColumns(["t"], [1], [["a"]], np.zeros(1, np.int32), b"kettle", np.array([0, 6]))
    assert "kettle" not in repr(found)


# --- packing and answers -----------------------------------------------------------------------------------------


@with_files
@given(st.lists(conversations(8).filter(bool), max_size=4), st.integers(1, 4), st.integers(0, 2))
def test_packed_columns_are_packed_threads(tmp_path: Path, said: list[list[Message]], most: int, least: int) -> None:
    rule = SegmentRule(max(most, least), least)
    batch = [Thread(f"t{i}", messages) for i, messages in enumerate(said)]
    (tmp_path / "log.jsonl").write_bytes(lines_of(batch))
    bounds = [list(rule.split(one.messages)) for one in batch]
    expected = pack_by_author(
        one.messages[start:stop] for one, cuts in zip(batch, bounds, strict=True) for start, stop in cuts
    )
    for found in read_columns(tmp_path / "log.jsonl"):
        packed = pack_columns(found, bounds)
        assert bytes(packed.text[: packed.offsets[-1]]) == expected.text
        for name in ("offsets", "slots", "segments"):
            assert getattr(packed, name).tolist() == getattr(expected, name).tolist()
        assert packed.authors == expected.authors
        assert packed.n_segments == expected.n_segments


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_the_answers_are_those_for_threads(monkeypatch: pytest.MonkeyPatch, n_jobs: int) -> None:
    monkeypatch.setattr(columns, "BATCH_BYTES", 2000)
    path = ROOT / "examples" / "threads.jsonl"
    model = model_of_words({"you": 5, "how": -3, "the": 2}, segment_rule=SegmentRule(7, 2))
    answers = list(model.assess_columns(read_columns(path), 0.3, n_jobs))
    assert answers == list(model.assess_many(read_threads(path), 0.3))
    assert len({answer.probability for answer in answers}) > 3


def test_a_model_that_needs_times_says_so_and_still_scores_files(tmp_path: Path) -> None:
    model = model_of_words({"tea": 5}, segment_rule=SegmentRule(9, 1, max_gap=60.0))
    assert "use assess_many" in str(error_of(lambda: model.assess_columns([]), ModelError))
    messages = [Message("a", "tea", 0.0), Message("a", "pot", 999.0), Message("b", "tea", 1000.0)]
    (tmp_path / "log.jsonl").write_bytes(lines_of([Thread("t", messages)]))
    score_files([tmp_path / "log.jsonl"], tmp_path / "scores.jsonl", model, 0.5)
    (row,) = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_bytes().splitlines()]
    assert row["score"] == model.assess(Thread("t", messages), 0.5).score
