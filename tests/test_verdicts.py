"""Verdict files: what is read, and what is refused."""

from __future__ import annotations

import json
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from builders import CANARY, error_of
from hypothesis import given
from hypothesis import strategies as st

from grooming_flag import DataError
from grooming_flag.io.verdicts import REASONS, Verdict, latest, read_verdicts

GIVEN: dict[str, Any] = {"thread_id": "t1", "verdict": "confirmed", "reasons": ["secrecy"], "probability": 0.25}


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_verdict_is_read_as_it_was_written(tmp_path: Path) -> None:
    row = {**GIVEN, "selection": "sample", "selection_probability": 0.01, "reviewed_at": 3.5, "queue": "ignored"}
    found = list(read_verdicts(written(tmp_path / "v.jsonl", row)))
    assert found == [
        Verdict(
            thread_id="t1",
            verdict="confirmed",
            reasons=("secrecy",),
            probability=0.25,
            selection="sample",
            selection_probability=0.01,
            reviewed_at=3.5,
        )
    ]


@given(
    st.lists(st.tuples(st.sampled_from(["t1", "t2"]), st.sampled_from(sorted(REASONS)), st.integers(0, 99)), max_size=9)
)
def test_the_order_of_verdicts_does_not_matter_where_times_are_there(rows: list[tuple[str, Any, int]]) -> None:
    at = {when: (thread, kind) for thread, kind, when in rows}  # each time once
    verdicts = [Verdict(thread_id=thread, verdict=kind, reviewed_at=when) for when, (thread, kind) in at.items()]
    found = latest(verdicts)
    backwards = latest(verdicts[::-1])
    assert (sorted(backwards[0], key=attrgetter("thread_id")), backwards[1]) == (
        sorted(found[0], key=attrgetter("thread_id")),
        found[1],
    )
    for thread in {one.thread_id for one in verdicts}:
        of_thread = [one for one in verdicts if one.thread_id == thread]
        (kept,) = [one for one in found[0] if one.thread_id == thread]
        assert kept.reviewed_at == max(one.reviewed_at or 0.0 for one in of_thread)
    kinds = {thread: {one.verdict for one in verdicts if one.thread_id == thread} for thread, _, _ in rows}
    assert found[1] == sum(len(of_thread) > 1 for of_thread in kinds.values())


def test_a_verdict_without_a_time_comes_before_those_with_one_and_of_equals_the_later_line_counts() -> None:
    timed, untimed, again = (
        Verdict(thread_id="t", verdict="confirmed", reviewed_at=1.0),
        Verdict(thread_id="t", verdict="dismissed"),
        Verdict(thread_id="t", verdict="unsure", reviewed_at=1.0),
    )
    assert latest([timed, untimed]) == latest([untimed, timed]) == ([timed], 1)
    assert latest([timed, again])[0] == [again]


def test_verdicts_on_one_thread_by_two_models_are_two() -> None:
    both = [Verdict(thread_id="t", verdict="confirmed", model=model) for model in ("a", "b")]
    assert latest(both) == (both, 0)


def test_of_several_verdicts_on_a_thread_the_last_counts(tmp_path: Path) -> None:
    first = written(tmp_path / "a.jsonl", GIVEN, {"thread_id": "t2", "verdict": "unsure"})
    second = written(tmp_path / "b.jsonl", {"thread_id": "t1", "verdict": "dismissed"})
    assert [(one.thread_id, one.verdict) for one in read_verdicts(first, second)] == [
        ("t1", "dismissed"),
        ("t2", "unsure"),
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"verdict": "guilty"}, "verdict"),
        ({"verdict": f"'{CANARY}'\n"}, "verdict"),
        ({"reasons": [CANARY]}, "not one of those for confirmed"),
        ({"verdict": "dismissed", "reasons": ["secrecy"]}, "not one of those for dismissed"),
        ({"probability": 1.5}, "probability is 1.5"),
        ({"selection_probability": 0.0}, "selection_probability is 0.0"),
        ({"selection": "chance"}, "selection"),
        ({"selection": CANARY}, "selection"),
        ({"thread_id": 7}, "thread_id"),
    ],
)
def test_what_is_no_verdict_is_refused_with_its_place_and_without_text(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    path = written(tmp_path / "v.jsonl", GIVEN, {**GIVEN, **changes})
    error = error_of(lambda: list(read_verdicts(path)), DataError)
    assert "v.jsonl, line 2: " in str(error)
    assert told in str(error)
    assert CANARY not in str(error)


@pytest.mark.parametrize("line", [b"{", b"[]", b"\xff", b'"' + CANARY.encode() + b'"', b"[" * 100_000])
def test_a_line_that_is_no_object_is_refused_without_text(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "v.jsonl"
    path.write_bytes(line + b"\n")
    error = error_of(lambda: list(read_verdicts(path)), DataError)
    assert "line 1" in str(error)
    assert CANARY not in str(error)


def test_no_reason_is_in_two_lists() -> None:
    reasons = [reason for of_verdict in REASONS.values() for reason in of_verdict]
    assert len(set(reasons)) == len(reasons)
