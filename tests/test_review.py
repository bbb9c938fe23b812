"""What is reviewed: the queue, its cases, the random sample, what the page is given of a thread, and the command."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import (
    CANARY,
    PATTERN,
    error_of,
    labelled_threads,
    lines_of,
    model_of_words,
    small_model,
    thread,
    write_threads,
)
from cli import run
from hypothesis import given
from hypothesis import strategies as st

import grooming_flag.batch as scoring
from grooming_flag import Assessment, DataError, Message, MissingExtraError, Model, Thread, save_model
from grooming_flag.evaluation.early import replay
from grooming_flag.io.scores import FlagRow, read_flags, score_writer
from grooming_flag.review import Queue, build_queue, render_page
from grooming_flag.review.content import N_AGAINST, N_FOR, content_of, ranks, trend_of
from grooming_flag.segments import SegmentRule

MODEL = model_of_words(dict.fromkeys(PATTERN, 3000))
HOSTILE = "</script><!--<script>\"'&amp;{{7*7}}{% raw %}\u2028\x00\u202eab\ud800"


def rows_of(threads: list[Thread], model: Model = MODEL, at: float = 0.3) -> list[Assessment]:
    return list(model.assess_many(threads, at=at))


def queue_of(threads: list[Thread], at: float = 0.3, **settings: Any) -> Queue:
    return build_queue(rows_of(threads, at=at), threads, MODEL, **settings)


def ids(queue: Queue) -> list[list[str]]:
    return [[review.thread_id for review in case.reviews] for case in queue.cases]


def of_strength(n: int, author: str, thread_id: str, partner: str = "") -> Thread:
    """Return a thread whose suspect uses n words of the pattern."""
    said = [Message(author, word) for word in PATTERN[:n]]
    return Thread(thread_id, [*said, Message(partner or f"other {thread_id}", "tea and a kettle")])


# --- the queue ---------------------------------------------------------------------------------------------------


def test_flagged_threads_come_by_probability_and_no_others() -> None:
    threads = labelled_threads(60)
    queue = queue_of(threads, authors="thread")
    flagged = [row for row in rows_of(threads) if row.flagged]
    probabilities = [review.assessment.probability or 0.0 for review in queue.reviews]
    assert 5 < len(flagged) < 60
    assert {row.thread_id for row in flagged} == {review.thread_id for review in queue.reviews}
    assert probabilities == sorted(probabilities, reverse=True)
    assert queue.n_flagged == len(flagged)
    assert queue.n_unflagged == 60 - len(flagged)
    assert queue.expected == pytest.approx(sum(probabilities))
    assert not queue.is_blind


@given(st.integers(1, 40), st.permutations(range(30)))
def test_capacity_keeps_the_most_probable_whatever_the_order_of_rows(capacity: int, order: list[int]) -> None:
    threads = labelled_threads(30)
    rows = rows_of(threads)
    queue = build_queue([rows[i] for i in order], threads, MODEL, capacity=capacity, authors="thread")
    ranked = sorted((row for row in rows if row.flagged), key=lambda row: (-(row.probability or 0.0), row.thread_id))
    assert [review.thread_id for review in queue.reviews] == [row.thread_id for row in ranked[:capacity]]
    assert {review.selection_probability for review in queue.reviews} == {1.0}


def test_threads_of_one_suspect_are_one_case_that_costs_a_review_each() -> None:
    threads = [
        of_strength(3, "ann", "t3"),
        of_strength(9, "ann", "t9"),
        of_strength(6, "ben", "t6"),
        of_strength(5, "ann", "t5"),
    ]
    assert ids(queue_of(threads, at=0.1)) == [["t9", "t5", "t3"], ["t6"]]
    cut = queue_of(threads, at=0.1, capacity=2)
    assert ids(cut) == [["t9"], ["t6"]]  # the third review would be of ann again
    assert [case.n_more for case in cut.cases] == [2, 0]


def test_ids_that_mean_nothing_beyond_a_thread_are_not_merged() -> None:
    threads = [of_strength(3 + i % 9, "a0", f"t{i}", "a1") for i in range(25)]
    assert all(len(case.reviews) == 1 for case in queue_of(threads).cases)
    assert queue_of(threads).authors == "thread"
    assert [case.n_more for case in queue_of(threads, capacity=3).cases] == [0, 0, 0]
    assert len(queue_of(threads, authors="global").cases) == 1


def test_whether_ids_mean_persons_is_judged_on_all_threads_not_on_the_queue() -> None:
    ordinary = [thread("tea", "kettle", authors=("a0", "a1"), thread_id=f"o{i}") for i in range(30)]
    flagged = [of_strength(9, "a0", "t1", "a1"), of_strength(9, "a0", "t2", "a1")]
    assert len(queue_of([*ordinary, *flagged]).cases) == 2
    apart = [replace(one, messages=[Message(one.thread_id, "tea")]) for one in ordinary]
    assert len(queue_of([*apart, *flagged]).cases) == 1


# --- the sample --------------------------------------------------------------------------------------------------


def test_a_sample_is_of_threads_that_were_not_flagged_each_as_likely() -> None:
    threads = labelled_threads(60)
    unflagged = {row.thread_id for row in rows_of(threads) if not row.flagged}
    queue = queue_of(threads, n_sampled=7, authors="thread")
    sampled = [review for review in queue.reviews if review.selection == "sample"]
    assert len(sampled) == 7
    assert {review.thread_id for review in sampled} < unflagged
    assert {review.selection_probability for review in sampled} == {7 / len(unflagged)}
    assert queue.is_blind
    drawn = {
        review.thread_id
        for seed in range(40)
        for review in queue_of(threads, n_sampled=7, seed=seed).reviews
        if review.selection == "sample"
    }
    assert drawn == unflagged


def test_the_seed_alone_decides_what_is_drawn() -> None:
    threads = labelled_threads(60)
    rows = rows_of(threads)
    first = build_queue(rows, threads, MODEL, n_sampled=5)
    again = build_queue(reversed(rows), reversed(threads), MODEL, n_sampled=5)
    assert ids(first) == ids(again)
    assert ids(first) != ids(build_queue(rows, threads, MODEL, n_sampled=5, seed=1))


def test_sampled_threads_lie_anywhere_between_the_flagged_ones() -> None:
    threads = labelled_threads(40)
    places = [
        place
        for seed in range(60)
        for place, review in enumerate(queue_of(threads, n_sampled=1, capacity=4, seed=seed, authors="thread").reviews)
        if review.selection == "sample"
    ]
    assert set(places) == {0, 1, 2, 3, 4}
    flagged = [
        r.thread_id for r in queue_of(threads, n_sampled=9, authors="thread").reviews if r.selection == "flagged"
    ]
    assert flagged == [review.thread_id for review in queue_of(threads, authors="thread").reviews]


def test_abstained_threads_can_be_drawn_and_a_sample_of_all_is_certain() -> None:
    threads = [of_strength(9, "ann", "t1"), thread("tea", thread_id="short"), thread("kettle", thread_id="other")]
    queue = queue_of(threads, n_sampled=99)
    sampled = [review for review in queue.reviews if review.selection == "sample"]
    assert {review.thread_id for review in sampled} == {"short", "other"}
    assert {review.selection_probability for review in sampled} == {1.0}
    assert {review.assessment.probability for review in sampled} == {None}


def test_a_sampled_thread_is_a_case_of_its_own() -> None:
    threads = [of_strength(9, "ann", "t9"), of_strength(0, "ann", "t0", "ann")]
    assert sorted(ids(queue_of(threads, n_sampled=1))) == [["t0"], ["t9"]]


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_thread_that_is_missing_is_named() -> None:
    threads = [of_strength(9, "ann", "t9"), of_strength(8, "ben", "t8")]
    error = error_of(lambda: build_queue(rows_of(threads), threads[1:], MODEL), DataError)
    assert "thread t9 has a score and is not among the threads" in str(error)


@pytest.mark.parametrize("changed", ["text", "model", "prior", "abstained"])
def test_scores_that_are_not_those_of_model_and_text_are_refused_without_text(changed: str) -> None:
    threads = [of_strength(9, "ann", "t9"), of_strength(8, "ben", "t8")]
    rows, model = rows_of(threads), MODEL
    if changed == "text":
        threads[1] = replace(threads[1], messages=[*threads[1].messages, Message("ann", f"{CANARY} {PATTERN[10]}")])
    elif changed == "model":
        model = model_of_words(dict.fromkeys(PATTERN, 2999))
    elif changed == "prior":
        model = MODEL.with_prior(0.01)
    else:
        rows = [replace(row, probability=None) for row in rows]
    error = error_of(lambda: build_queue(rows, threads, model), DataError)
    assert "scored by another model or text changed" in str(error)
    assert "thread t8" in str(error) or changed != "text"
    assert CANARY not in str(error)


def test_a_thread_with_several_scores_is_refused() -> None:
    threads = [of_strength(9, "ann", "t9")]
    error = error_of(lambda: build_queue(rows_of(threads) * 2, threads, MODEL), DataError)
    assert "t9 has several scores" in str(error)


def test_ids_that_score_files_write_alike_are_told_apart_from_scores_of_two_runs() -> None:
    threads = [replace(of_strength(9, "ann", "t"), thread_id=name) for name in ("lone\ud800", "lone\ud801")]
    error = error_of(lambda: queue_of(threads), DataError)
    assert "several threads have the id lone?" in str(error)
    assert "give each an id of its own" in str(error)


@pytest.mark.parametrize("part", ["only flagged", "capacity", "one file of two"])
def test_a_sample_of_a_part_of_the_scores_is_refused(part: str) -> None:
    threads = labelled_threads(40)
    rows = rows_of(threads)
    if part == "only flagged":
        rows = [row for row in rows if row.flagged]
    elif part == "capacity":
        rows = sorted(rows, key=lambda row: -row.score)[:30]
    else:
        rows = rows[:20]
    error = error_of(lambda: build_queue(rows, threads, MODEL, n_sampled=3), DataError)
    assert "has no score, and a random sample has to be of all threads" in str(error)
    assert "without --capacity or --only-flagged" in str(error)
    if part != "one file of two":
        assert build_queue(rows, threads, MODEL).reviews


def test_threads_of_other_scores_are_refused_though_nothing_is_flagged() -> None:
    scored, others = labelled_threads(9), labelled_threads(9, prefix="other ")
    error = error_of(lambda: build_queue(rows_of(scored, at=1.0), others, MODEL), DataError)
    assert "thread t0 has a score and is not among the threads" in str(error)


@pytest.mark.parametrize("changed", [{"model": "other"}, {"operating_point": "balanced"}])
def test_scores_of_two_runs_are_refused(changed: dict[str, str]) -> None:
    threads = labelled_threads(9)
    rows = rows_of(threads)
    rows[3] = replace(rows[3], **changed)
    error = error_of(lambda: build_queue(rows, threads, MODEL), DataError)
    assert "thread t3 was scored by" in str(error)
    assert "give the scores of one run" in str(error)


def test_few_expected_are_said_in_words() -> None:
    threads = [thread("tea", "kettle", thread_id="t")]
    queue = build_queue(MODEL.with_prior(1e-6).assess_many(threads, at=0.0), threads, MODEL.with_prior(1e-6))
    assert queue.expected_in_words == "less than 0.1"


def test_an_empty_queue_is_a_queue() -> None:
    queue = queue_of([thread("tea", "kettle")])
    assert queue.reviews == []
    page = render_page(queue, MODEL)
    assert "0 reviews in 0 cases" in page
    assert "expected to be confirmed if" not in page


# --- score files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scores.jsonl", "scores.parquet"])
def test_flags_are_read_as_they_were_written(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    threads = [*labelled_threads(9), thread("tea", thread_id="short")]
    with score_writer(tmp_path / name) as write:
        for row in rows_of(threads):
            write(row)
    found = [row for _, row in read_flags(tmp_path / name)]
    assert found == [FlagRow(**{f: getattr(row, f) for f in FlagRow.__struct_fields__}) for row in rows_of(threads)]
    assert ids(build_queue(found, threads, MODEL)) == ids(queue_of(threads))


@pytest.mark.parametrize("row", [{"thread_id": "t"}, {"thread_id": "t", "score": 1.0}, {"score": 1.0, "flagged": True}])
def test_a_row_that_score_did_not_write_is_refused_with_its_place(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps(row) + "\n")
    error = error_of(lambda: list(read_flags(path)), DataError)
    assert "other.jsonl, line 1: " in str(error)
    assert "grooming-flag score" in str(error)


# --- what the page is given --------------------------------------------------------------------------------------


def test_contributions_of_messages_add_up_to_the_score() -> None:
    found = labelled_threads(2)[0]
    (review,) = queue_of([found], at=0.0).reviews
    content = content_of(review, MODEL)
    contributions = [message["contribution"] for message in content["messages"]]
    assert sum(contributions) + MODEL.intercept == pytest.approx(review.assessment.score)
    assert [message["text"] for message in content["messages"]] == [message.text for message in found.messages]
    ranked = sorted(range(len(contributions)), key=lambda place: -contributions[place])
    assert [contributions[i] for i in content["evidence"]] == [contributions[i] for i in ranked[:N_FOR]]
    assert {m["author"] for m in content["messages"] if m["by_suspect"]} == {review.suspect}


def test_messages_that_speak_against_are_named_strongest_first() -> None:
    model = model_of_words({"clockwork": 3000, "garden": -500, "kettle": -900, "soup": -100, "tea": -200})
    found = thread("clockwork", "garden", "kettle", "soup", "tea", "puzzle")
    (review,) = build_queue(rows_of([found], model, 0.0), [found], model).reviews
    content = content_of(review, model)
    assert content["evidence"] == [0]
    assert content["against"] == [2, 1, 4]
    assert len(content["against"]) == N_AGAINST


@given(st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5]), max_size=30), st.floats(-9, 9))
def test_how_many_messages_are_ranked_depends_on_the_length_alone(contributions: list[float], shift: float) -> None:
    highest, lowest = ranks(dict(enumerate(contributions)), "t")
    assert len(highest) == min(N_FOR, len(contributions) - len(lowest))
    assert len(lowest) == min(N_AGAINST, len(contributions) // 2)
    assert not set(highest) & set(lowest)
    others = set(range(len(contributions))) - {*highest, *lowest}
    worth = [contributions[place] for place in highest] + [contributions[place] for place in reversed(lowest)]
    assert worth == sorted(worth, reverse=True)
    assert all(worth[0] >= contributions[place] >= worth[-1] for place in others)
    assert ranks({i: one + shift for i, one in enumerate(contributions)}, "t") == (highest, lowest)


def test_equal_messages_are_ranked_in_no_order() -> None:
    first = {ranks(dict.fromkeys(range(9), 0.0), f"t{i}")[0][0] for i in range(99)}
    assert first == set(range(9))


def test_repeated_message_ids_do_not_mix_messages_up() -> None:
    found = Thread("t", [Message("a", "clockwork", message_id="m"), Message("a", "tea", message_id="m")])
    (review,) = queue_of([found], at=0.0).reviews
    assert content_of(review, MODEL)["evidence"] == [0]


def test_messages_outside_the_strongest_segment_have_no_contribution() -> None:
    model = MODEL.replace(segment_rule=SegmentRule(4, 2))
    found = thread(*["tea"] * 4, *PATTERN[:4], *["kettle"] * 4)
    (review,) = build_queue(rows_of([found], model, 0.0), [found], model).reviews
    content = content_of(review, model)
    assert content["segment"] == [4, 8]
    assert [message["contribution"] is None for message in content["messages"]] == [True] * 4 + [False] * 4 + [True] * 4
    assert set(content["evidence"]) == {4, 5, 6, 7}


@given(st.integers(0, 20), st.sampled_from([3, 30]))
def test_the_trend_is_what_assessing_the_messages_so_far_gives(seed: int, min_amount: int) -> None:
    model = small_model(min_amount=min_amount)
    found = labelled_threads(1, seed)[0]
    trend = trend_of(found, (0, len(found.messages)), model)
    (replayed,) = replay(model, [found])
    assert [-float("inf") if p is None else p for p in trend] == pytest.approx(replayed.values.tolist())
    assert trend[-1] == model.assess(found).probability


def test_times_are_since_the_first_message() -> None:
    found = Thread("t", [Message("a", "tea"), Message("b", "kettle", 1e9), Message("a", "clockwork", 1e9 + 90)])
    (review,) = queue_of([found], at=0.0).reviews
    assert [message["after"] for message in content_of(review, MODEL)["messages"]] == [None, 0.0, 90.0]


# --- the page ----------------------------------------------------------------------------------------------------


def data_of(page: str) -> dict[str, Any]:
    (raw,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    found: dict[str, Any] = json.loads(raw)
    return found


def test_hostile_text_and_ids_stay_data() -> None:
    found = Thread(HOSTILE, [Message(HOSTILE, f"{HOSTILE} {' '.join(PATTERN)}", message_id=HOSTILE)])
    written = HOSTILE.replace("\ud800", "?")
    page = render_page(queue_of([found], at=0.0), MODEL)
    page.encode()  # nothing is left that no file takes
    assert page.count("<script") == page.count("</script") == 2
    assert "<!--" not in page
    assert not {"\u2028", "\x00", "\u202e"} & set(page)
    (shown,) = data_of(page)["cases"][0]["reviews"]
    assert shown["thread_id"] == shown["suspect"] == written  # as score files have it, so that verdicts can be read
    assert shown["messages"][0]["author"] == HOSTILE
    assert shown["messages"][0]["text"].startswith(HOSTILE)
    assert shown["messages"][0]["by_suspect"]


@given(st.text(max_size=40), st.text(max_size=9))
def test_any_text_comes_out_of_the_page_as_it_went_in(text: str, author: str) -> None:
    found = Thread("t", [Message(author, text), Message("b", "clockwork")])
    page = render_page(queue_of([found], at=0.0), MODEL)
    assert [m["text"] for m in data_of(page)["cases"][0]["reviews"][0]["messages"]] == [text, "clockwork"]
    assert page.count("<script") == page.count("</script") == 2


def test_the_page_states_reviews_prior_and_operating_point() -> None:
    threads = labelled_threads(40)
    model = MODEL.replace(calibration=MODEL.calibration.with_prior(0.01))
    rows = model.assess_many(threads, at="sensitive")
    queue = build_queue(rows, threads, model, capacity=3, n_sampled=2, authors="thread")
    text = " ".join(re.sub("<[^>]+>", "", render_page(queue, model)).split())
    assert (
        f"5 reviews in 5 cases: 3 of {queue.n_flagged} threads flagged at sensitive (probability 0.05 or more)" in text
    )
    assert f"about {queue.expected:.1f} are expected to be confirmed if 1 in 100 threads" in text
    assert f"2 drawn at random from {queue.n_unflagged} not flagged" in text
    assert "nothing here acts on a user" in text


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    message = str(error_of(lambda: render_page(queue_of([]), MODEL), MissingExtraError))
    assert "pip install 'grooming-flag[report]'" in message


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def scored(tmp_path: Path) -> dict[str, Path]:
    """Return a model folder, threads and the scores that the command gives them."""
    files = {name: tmp_path / name for name in ("model", "threads.jsonl", "scores.jsonl", "page.html")}
    save_model(MODEL, files["model"])
    write_threads(files["threads.jsonl"], labelled_threads(40))
    ran = run("score", files["threads.jsonl"], "-o", files["scores.jsonl"], "--model", files["model"])
    assert ran.status == 0
    return files


def review(files: dict[str, Path], *args: object) -> Any:
    where = (files["threads.jsonl"], files["scores.jsonl"], "-o", files["page.html"], "--model", files["model"])
    return run("review", *where, *args)


def test_the_command_writes_a_page_that_only_its_owner_reads(scored: dict[str, Path]) -> None:
    scored["page.html"].write_text("an older one that all may read")
    scored["page.html"].chmod(0o644)
    ran = review(scored, "--capacity", 4, "--sample-unflagged", 3, "--authors", "thread", "--seed", 1)
    assert ran.status == 0, ran.err
    assert "4 of" in ran.err
    assert "\n3 of" in ran.err
    assert "7 cases, one per thread, in" in ran.err
    assert "confidential" in ran.err
    data = data_of(scored["page.html"].read_text(encoding="utf-8"))
    assert len(data["cases"]) == 7
    assert data["blind"] is True
    if os.name == "posix":
        assert stat.S_IMODE(scored["page.html"].stat().st_mode) == 0o600
    assert sorted(path.name for path in scored["page.html"].parent.iterdir()) == sorted(scored)


def test_the_same_input_gives_the_same_page(scored: dict[str, Path]) -> None:
    pages = []
    for _ in range(2):
        assert review(scored, "--sample-unflagged", 3).status == 0
        pages.append(scored["page.html"].read_bytes())
    assert pages[0] == pages[1]


def test_scores_in_parts_are_those_of_one_file(
    scored: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SHARD_THREADS", 10)
    assert review(scored, "--sample-unflagged", 3).status == 0
    whole = scored["page.html"].read_bytes()
    folder = tmp_path / "parts"
    assert run("score", scored["threads.jsonl"], "-o", f"{folder}/", "--model", scored["model"]).status == 0
    parts = sorted(folder.glob("part-*"))
    assert len(parts) > 2
    where = ("-o", scored["page.html"], "--model", scored["model"], "--sample-unflagged", 3)
    for scores in ([folder], parts, [f"{folder}/part-*"]):
        scored["page.html"].unlink()
        assert run("review", scored["threads.jsonl"], *scores, *where).status == 0
        assert scored["page.html"].read_bytes() == whole
    ran = run("review", scored["threads.jsonl"], *parts[1:], *where)
    assert ran.status == 1
    assert "of all files of the run" in ran.err
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    ran = run("review", scored["threads.jsonl"], folder, *where)
    assert ran.status == 1
    assert "not all threads are scored yet" in ran.err
    manifest.write_text(manifest.read_text().replace('"complete": false', '"complete": true'))
    parts[0].unlink()
    ran = run("review", scored["threads.jsonl"], folder, *where)
    assert ran.status == 1
    assert "part-00000.jsonl: is not as it was written" in ran.err


def test_the_command_refuses_what_would_lose_an_input(scored: dict[str, Path]) -> None:
    for name in ("threads.jsonl", "scores.jsonl"):
        before = scored[name].read_bytes()
        ran = review({**scored, "page.html": scored[name]})
        assert ran.status == 1
        assert "is an input too" in ran.err
        assert scored[name].read_bytes() == before


def test_lines_that_cannot_be_used_are_told_with_the_thread_that_is_missing(scored: dict[str, Path]) -> None:
    rows = [row for _, row in read_flags(scored["scores.jsonl"])]
    flagged = next(row.thread_id for row in rows if row.flagged)
    lines = lines_of(one for one in labelled_threads(40) if one.thread_id != flagged)
    scored["threads.jsonl"].write_bytes(lines + CANARY.encode() + b"\n")
    ran = review(scored)
    assert ran.status == 1
    assert f"thread {flagged} has a score" in ran.err
    assert "lines left out: 1" in ran.err
    assert CANARY not in ran.err
    assert not scored["page.html"].exists()
