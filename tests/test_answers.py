"""What systems say, and of which threads: pools, score files of any system, evidence against marked messages."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import error_of, labelled_threads, model_of_words, small_model, thread, write_threads
from hypothesis import given
from hypothesis import strategies as st
from pools import NEVER, answers_with, one, pool_of

from grooming_flag import DataError, Thread
from grooming_flag.evaluation.answers import Answers, answers_of, answers_of_rows
from grooming_flag.evaluation.evidence import evidence_figures, evidence_places, with_evidence
from grooming_flag.evaluation.pool import Pool
from grooming_flag.io.scores import ScoreRow, encode_row, read_scores, score_row, score_writer
from grooming_flag.io.threads import read_coded_lines, read_sources

pa = pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
parquet = pytest.importorskip("pyarrow.parquet")

# --- pools -------------------------------------------------------------------------------------------------------


def said(thread_id: str, label: int | None = 0, author: str = "", person: str | None = None) -> Thread:
    return thread("tea", authors=[author or thread_id], thread_id=thread_id, label=label, person=person)


def together(pool: Pool) -> list[list[str]]:
    """Return the ids of threads of one cluster, by cluster."""
    clusters: dict[str, list[str]] = {}
    for of_one, cluster in zip(pool.threads, pool.clusters, strict=True):
        clusters.setdefault(cluster, []).append(of_one.thread_id)
    return list(clusters.values())


def test_a_pool_keeps_threads_with_their_source_label_and_length() -> None:
    pool = Pool.of({"one": [thread("tea", "tea", label=1, thread_id="x")], "two": [said("y"), said("z", 1)]})
    assert [t.thread_id for t in pool.threads] == ["x", "y", "z"]
    assert pool.sources.tolist() == ["one", "two", "two"]
    assert pool.risky.tolist() == [True, False, True]
    assert pool.lengths.tolist() == [2, 1, 1]


def test_threads_of_a_person_or_of_an_author_are_one_cluster() -> None:
    threads = [
        said("a", person="p"),
        said("b", person="p"),
        said("c", author="x"),
        said("d", author="x"),
        said("e"),
    ]
    assert together(Pool.of({"one": threads}, "global")) == [["a", "b"], ["c", "d"], ["e"]]
    assert together(Pool.of({"one": threads}, "thread")) == [["a", "b"], ["c"], ["d"], ["e"]]


def test_clusters_do_not_depend_on_the_order_of_threads() -> None:
    threads = [said(f"t{i}", author=f"a{i // 2}", person=f"p{i // 3}" if i % 2 else None) for i in range(12)]
    found = dict(zip((t.thread_id for t in threads), Pool.of({"one": threads}, "global").clusters, strict=True))
    pool = Pool.of({"one": threads[::-1]}, "global")
    assert dict(zip((t.thread_id for t in pool.threads), pool.clusters, strict=True)) == found


def test_a_person_and_a_thread_may_have_the_same_id() -> None:
    threads = [said("x", 1, person="7"), said("7", 0), said("8", 0)]
    assert together(Pool.of({"one": threads}, "thread")) == [["x"], ["7"], ["8"]]


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({"one": [said("x"), said("y", None)]}, ["one", "y", "no label"]),
        ({"one": [said("x")], "two": [said("x")]}, ["thread_id"]),
        ({"one": [said("x"), said("x")]}, ["thread_id"]),
    ],
)
def test_threads_without_labels_and_repeated_ids_are_refused(
    sources: dict[str, list[Thread]], words: list[str]
) -> None:
    error = str(error_of(lambda: Pool.of(sources), DataError))
    assert all(word in error for word in words)


def test_a_pool_of_some_threads_has_all_that_belongs_to_them() -> None:
    pool = pool_of([1, 0, 1], clusters=["p", "q", "r"], lengths=[3, 4, 5], sources=["a", "b", "b"])
    part = pool.only(np.array([True, False, True]))
    assert [t.thread_id for t in part.threads] == ["t0", "t2"]
    assert (part.sources.tolist(), part.clusters.tolist()) == (["a", "b"], ["p", "r"])
    assert (part.risky.tolist(), part.lengths.tolist()) == ([True, True], [3, 5])


def test_sources_are_named_by_their_files_or_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    paths = [
        write_threads(tmp_path / "one.test.jsonl", [said("x")]),
        write_threads(tmp_path / "two.jsonl", [said("y")]),
        write_threads(tmp_path / "sub" / "two.jsonl", [said("z")]),
    ]
    found = read_sources(paths)
    assert {name: [t.thread_id for t in of] for name, of in found.items()} == {
        "one": ["x"],
        str(paths[1]): ["y"],
        str(paths[2]): ["z"],
    }


def test_files_given_twice_and_threads_in_two_files_are_refused(tmp_path: Path) -> None:
    one = write_threads(tmp_path / "one.jsonl", [said("x"), said("y")])
    two = write_threads(tmp_path / "two.jsonl", [said("z"), said("y")])
    assert "twice" in str(error_of(lambda: read_sources([one, one]), DataError))
    error = str(error_of(lambda: read_sources([one, two]), DataError))
    assert all(word in error for word in ("one.jsonl", "two.jsonl", "thread y"))


# --- a model -----------------------------------------------------------------------------------------------------


def test_a_model_ranks_by_its_probability_and_where_it_abstains_not_at_all() -> None:
    model = small_model(min_amount=40)
    threads = [*labelled_threads(6), thread("tea", thread_id="short", label=0)]
    found = answers_of(model, threads)
    assessed = [model.assess(t) for t in threads]
    assert assessed[-1].abstained
    assert found.values.tolist() == [NEVER if a.probability is None else a.probability for a in assessed]
    assert np.isnan(found.probabilities).tolist() == [a.abstained for a in assessed]
    assert list(found.suspects) == [a.suspect for a in assessed]
    assert found.points == {"balanced": 0.4, "sensitive": 0.05}
    assert (found.system, found.prior) == ("small", 0.1)
    assert len(answers_of(model, []).values) == 0


# --- score files -------------------------------------------------------------------------------------------------


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz", "s.csv", "s.csv.gz", "s.parquet"])
def test_rows_are_the_same_in_every_format(name: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"thread_id": "x", "score": 1.5, "probability": 0.25, "suspect": "left", "n_messages": 7, "abstained": False},
        {"thread_id": "y", "score": -2.0, "other": "ignored"},
        {"thread_id": "z", "abstained": True},
    ]
    path = tmp_path / name
    if ".parquet" in name:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([{**dict.fromkeys(rows[1]), **row} for row in rows]), path)
    else:
        text = io.StringIO()
        if ".csv" in name:
            table = csv.DictWriter(text, [*rows[0], "other"])
            table.writeheader()
            table.writerows(rows)
        else:
            text.writelines(json.dumps(row) + "\n" for row in rows)
        content = text.getvalue().encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    found = list(read_scores(path))
    assert found[0] == ScoreRow("x", 1.5, 0.25, "left", 7)
    assert (found[1].thread_id, found[1].score, found[1].probability) == ("y", -2.0, None)
    assert found[2].abstained


@pytest.mark.parametrize("name", ["s.jsonl", "s.parquet"])
def test_what_this_library_writes_is_read(name: str, tmp_path: Path) -> None:
    model = small_model(min_amount=40)
    threads = [*labelled_threads(5), thread("tea", thread_id="short")]
    assessed = [model.assess(t) for t in threads]
    evidence = [{"message_id": "m1", "author": "left", "contribution": 0.5, "tactics": []}]
    with score_writer(tmp_path / name) as write:
        for a in assessed:
            write({**score_row(a), "evidence": evidence})
    expected = [
        ScoreRow(a.thread_id, a.score, a.probability, a.suspect, a.n_messages, a.abstained, ("m1",)) for a in assessed
    ]
    assert list(read_scores(tmp_path / name)) == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("s.jsonl", '{"thread_id": "x", "score": 1}\n{"score": 1}', ["line 2", "thread_id"]),
        ("s.jsonl", '{"thread_id": "x"}', ["line 1", "neither score nor probability"]),
        ("s.jsonl", '{"thread_id": "x", "probability": 1.5}', ["line 1", "1.5", "0 to 1"]),
        ("s.jsonl", '{"thread_id": "x", "probability": -0.1}', ["line 1", "0 to 1"]),
        ("s.jsonl", '{"thread_id": "x", "score": NaN}', ["line 1"]),
        ("s.jsonl", '{"thread_id": "x", "score": "high"}', ["line 1", "score"]),
        ("s.jsonl", '{"thread_id": "x", "score": "NaN"}', ["line 1", "score"]),
        ("s.jsonl", '{"thread_id": "x", "score": 1, "n_messages": -3}', ["line 1", "n_messages"]),
        ("s.jsonl", '{"thread_id": "x", "score": 1, "n_messages": 2.5}', ["line 1", "n_messages"]),
        ("s.jsonl", '{"thread_id": "x", "score": 1, "evidence": ["m1"]}', ["line 1", "evidence"]),
        ("s.jsonl", '{"thread_id": "x", "score": 1, "evidence": [{"id": 1}]}', ["line 1", "message_id"]),
        ("s.jsonl", "[1, 2]", ["line 1", "not a JSON object"]),
        ("s.jsonl", '{"thread_id": "x", "score": 1', ["line 1", "not a JSON object"]),
        ("s.jsonl", '{"thread_id": "x", "score": 1, "more": ' + "[" * 100_000, ["line 1", "not a JSON object"]),
        ("s.csv", "thread_id,score\nx,1\ny,nan", ["row 2", "score"]),
        ("s.csv", "thread_id,score\nx,inf", ["row 1", "score"]),
        ("s.csv", "thread_id,probability\nx,1.5", ["row 1", "0 to 1"]),
        ("s.csv", "thread_id;score\nx;1", ["row 1", "thread_id"]),
        ("s.csv", "thread_id,score\nx," + "y" * 200_000, ["row 1"]),
        ("s.parquet", "PAR1 and no more", ["cannot be read as Parquet"]),
    ],
)
def test_bad_rows_are_refused_with_their_place(name: str, content: str, words: list[str], tmp_path: Path) -> None:
    path = written(tmp_path / name, content)
    error = str(error_of(lambda: list(read_scores(path)), DataError))
    assert str(path) in error
    assert all(word in error for word in words)
    assert "yyy" not in error


@pytest.mark.parametrize(
    "values",
    [
        pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")),
        pa.array([2**62], pa.timestamp("us")),
        pa.array([2**30], pa.date32()),
    ],
)
def test_parquet_with_text_or_times_that_are_none_is_refused(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "s.parquet"
    parquet.write_table(pa.table({"thread_id": ["x"], "score": [1.0], "suspect": values}), path)
    assert str(path) in str(error_of(lambda: list(read_scores(path)), DataError))


def test_parquet_with_a_damaged_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    parquet.write_table(pa.table({"thread_id": ["x"], "score": [1.0]}), path)
    raw = path.read_bytes()
    size = int.from_bytes(raw[-8:-4], "little")
    path.write_bytes(raw[: -8 - size] + b"\xff" * size + raw[-8:])
    assert str(path) in str(error_of(lambda: list(read_scores(path)), DataError))


def test_a_spreadsheet_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    path = written(tmp_path / "s.csv", "thread_id,score\nx,1\n".encode("utf-8-sig"))
    assert list(read_scores(path)) == [ScoreRow("x", 1.0)]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("none.jsonl", "none.csv", "none.parquet"):
        assert name in str(error_of(lambda name=name: list(read_scores(tmp_path / name)), DataError))  # type: ignore[misc]


# --- what rows say of threads ------------------------------------------------------------------------------------

THREADS = [thread(*["tea"] * 6, thread_id=name, label=i % 2) for i, name in enumerate("wxyz")]


def said_of(*rows: ScoreRow) -> Answers:
    return answers_of_rows("toy", rows, THREADS)


def test_scores_rank_where_there_are_no_probabilities_and_what_is_left_out_ranks_last() -> None:
    found = said_of(ScoreRow("y", 2.0, suspect="a"), ScoreRow("w", -3.0), ScoreRow("other", 9.0))
    assert found.values.tolist() == [-3.0, NEVER, 2.0, NEVER]
    assert np.isnan(found.probabilities).all()
    assert list(found.suspects) == [None, None, "a", None]
    assert (found.points, found.prior, found.replays, found.evidence) == ({}, None, None, None)


def test_probabilities_rank_where_there_are_any() -> None:
    found = said_of(ScoreRow("w", 5.0, 0.25), ScoreRow("x", 1.0, 0.75), ScoreRow("y", 9.0, None, abstained=True))
    assert found.values.tolist() == [0.25, 0.75, NEVER, NEVER]
    assert found.probabilities.tolist() == pytest.approx([0.25, 0.75, math.nan, math.nan], nan_ok=True)


def test_where_a_system_abstained_it_gives_no_probability() -> None:
    found = said_of(ScoreRow("w", 5.0, 0.25), ScoreRow("x", 1.0, 0.75, abstained=True))
    assert found.values.tolist() == [0.25, NEVER, NEVER, NEVER]
    assert np.isnan(found.probabilities[1])


def test_several_rows_of_a_thread_are_its_beginnings_and_the_longest_is_the_answer() -> None:
    found = said_of(
        ScoreRow("x", 3.0, n_messages=5, suspect="late"),
        ScoreRow("x", 1.0, n_messages=2, suspect="early"),
        ScoreRow("w", 7.0),
        ScoreRow("z", 4.0, n_messages=3),
    )
    assert found.values.tolist() == [7.0, 3.0, NEVER, 4.0]
    assert found.suspects[1] == "late"
    assert found.replays is not None
    assert [(r.messages.tolist(), r.values.tolist()) for r in found.replays] == [
        ([6], [7.0]),
        ([2, 5], [1.0, 3.0]),
        ([], []),
        ([3], [4.0]),
    ]


@pytest.mark.parametrize("counts", [(None, None), (None, 3), (3, 3)])
def test_rows_that_do_not_say_which_is_which_are_refused(counts: tuple[int | None, int | None]) -> None:
    error = str(error_of(lambda: said_of(*(ScoreRow("x", 1.0, n_messages=k) for k in counts)), DataError))
    assert "toy" in error
    assert "x" in error
    assert "n_messages" in error


@pytest.mark.parametrize("counts", [(2, 7), (7, 9)])
def test_beginnings_that_a_thread_cannot_have_are_refused(counts: tuple[int, int]) -> None:
    error = str(error_of(lambda: said_of(*(ScoreRow("x", 1.0, n_messages=k) for k in counts)), DataError))
    assert "x" in error
    assert "n_messages" in error


def test_scores_of_other_threads_are_refused() -> None:
    error = str(error_of(lambda: said_of(ScoreRow("W", 1.0), ScoreRow("t/x", 1.0)), DataError))
    assert "toy" in error
    assert "thread ids" in error


# --- evidence ----------------------------------------------------------------------------------------------------


def test_evidence_is_found_by_the_ids_or_the_places_of_messages() -> None:
    named = thread("tea", "kettle", "garden", thread_id="x")
    rows = [ScoreRow("x", 1.0, evidence=(2, "0", "no such", 7))]
    assert answers_of_rows("toy", rows, [named]).evidence == {0: [2, 0]}


def test_a_model_names_the_messages_that_speak_for_the_pattern_strongest_first() -> None:
    model = model_of_words({"clockwork": 900, "harbour": 2000, "tea": -500})
    found = thread("tea", "clockwork clockwork", "garden", "harbour", "clockwork harbour")
    assert evidence_places(model, found) == [3, 1]


def coded_lines(*marks: str) -> dict[str, list[bool]]:
    return {f"t{i}": [mark == "+" for mark in row] for i, row in enumerate(marks)}


def test_the_precision_of_evidence_is_that_counted_by_hand() -> None:
    pool = pool_of([1, 1, 1, 1, 0], lengths=[5] * 5)
    answers = answers_with(
        [0.9, 0.8, 0.1, 0.7, 0.9],
        {"point": 0.5},
        evidence={0: [1, 0, 2, 4, 3], 1: [4], 2: [0], 3: [0, 1], 4: [0]},
    )
    coded = coded_lines("-+---", "----+", "+++++", "-----", "+++++")  # 2 not flagged, 3 not marked, 4 not risky
    found = evidence_figures(pool, answers, coded, "point")
    where = "flagged, with marked lines"
    assert [(one(found, f"precision of the strongest {k}", where).hits) for k in (1, 3, 5)] == [2, 2, 2]
    assert [(one(found, f"precision of the strongest {k}", where).n) for k in (1, 3, 5)] == [2, 4, 6]
    assert (one(found, "marked lines", where).hits, one(found, "marked lines", where).n) == (2, 10)
    assert {figure.unit for figure in found} == {"line"}
    assert evidence_figures(pool, answers, {}, "point") == []
    assert evidence_figures(pool, answers_with(answers.values, answers.points), coded, "point") == []


def test_a_model_is_asked_for_the_evidence_of_flagged_risky_threads_with_marked_messages() -> None:
    model = model_of_words({"clockwork": 30_000, "tea": -1})
    threads = [thread("tea", "clockwork", thread_id=f"t{i}", label=int(i < 3)) for i in range(4)]
    pool = Pool.of({"one": [*threads, thread("tea", thread_id="t4", label=1)]}, "thread")
    answers = answers_of(model, pool.threads)
    coded = coded_lines("-+", "--", "+-", "-+", "+")
    assert with_evidence(model, pool, answers, coded, "balanced").evidence == {0: [1], 2: [1]}


@given(st.lists(st.lists(st.sampled_from([None, [], ["x"], [3, "y"]]), min_size=1, max_size=6), max_size=5))
def test_marked_messages_are_those_with_codes(rows: Sequence[Sequence[list[str | int] | None]]) -> None:
    lines = [
        {"thread_id": f"t{i}", "messages": [{"author": "a", "text": "tea", "codes": codes} for codes in row]}
        for i, row in enumerate(rows)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coded.jsonl"
        path.write_bytes(b"".join(encode_row(line) for line in lines))
        assert list(read_coded_lines(path)) == [(f"t{i}", [bool(codes) for codes in row]) for i, row in enumerate(rows)]


def test_threads_without_codes_have_no_marked_message(tmp_path: Path) -> None:
    path = write_threads(tmp_path / "plain.jsonl", [thread("tea", "kettle", thread_id="x")])
    assert list(read_coded_lines(path)) == [("x", [False, False])]


def test_codes_that_are_no_list_are_refused_with_their_place_and_without_text(tmp_path: Path) -> None:
    line = '{"thread_id": "x", "messages": [{"author": "a", "text": "marmalade", "codes": "marmalade"}]}'
    error = str(error_of(lambda: list(read_coded_lines(written(tmp_path / "x.jsonl", line))), DataError))
    assert "line 1" in error
    assert "codes" in error
    assert "marmalade" not in error
