"""Baselines: they find what they can see and nothing else, keep persons apart, and say the same whatever the batch."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import CANARY, COMMON, error_of, labelled_threads, sentence, write_threads
from cli import run
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from strategies import conversations

from grooming_flag import DataError, Message, Thread
from grooming_flag.evaluation import baselines
from grooming_flag.evaluation.baselines import (
    BASELINES,
    PHRASES,
    PREFIXES,
    count_phrases,
    cross_scores,
    fit_baseline,
    fitted_folds,
    labels_of,
    score_threads,
)
from grooming_flag.evaluation.form import MEASURES, form

NAMES = list(BASELINES)
CHANCE = pytest.approx(0.5, abs=0.15)  # the standard error of an area from 80 threads of each label is 0.046

Writer = Callable[[random.Random, bool], Sequence[Message]]


def threads_of(write: Writer, n: int = 160, seed: int = 0) -> list[Thread]:
    """Return labelled threads, every second one risky, each of a person of its own."""
    chance = random.Random(seed)
    return [Thread(f"t{i}", write(chance, i % 2 == 0), int(i % 2 == 0), person=f"p{i}") for i in range(n)]


def ordinary(chance: random.Random, risky: bool = False) -> list[Message]:
    """Return messages that the label has no part in."""
    return [
        Message(chance.choice("ab"), sentence(chance, COMMON) + chance.choice(["", "?"]))
        for _ in range(chance.randint(8, 24))
    ]


def with_phrases(chance: random.Random, risky: bool) -> list[Message]:
    said = chance.sample(PHRASES, chance.randint(2, 5) if risky else chance.choice([0, 0, 1]))
    return [*ordinary(chance), *(Message("a", f"{chance.choice(COMMON)} {phrase}") for phrase in said)]


def one_sided(chance: random.Random, risky: bool) -> list[Message]:
    """Return messages of the same kind, of which one author writes most if risky."""
    return [
        replace(message, author="aaaab"[chance.randrange(5)] if risky else "ab"[i % 2])
        for i, message in enumerate(ordinary(chance))
    ]


def area(threads: Sequence[Thread], scores: Any) -> float:
    return float(roc_auc_score(labels_of(threads), scores))


# --- what they find ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["words", "characters"])
def test_a_text_baseline_finds_the_pattern_in_threads_of_persons_it_has_not_seen(name: str) -> None:
    threads = labelled_threads(100, n_messages=5)
    assert area(threads, cross_scores(name, threads)) > 0.9


def test_keywords_find_threads_that_have_phrases_of_the_list() -> None:
    threads = threads_of(with_phrases)
    assert area(threads, cross_scores("keywords", threads)) > 0.95


def test_behavior_finds_one_sided_threads_though_the_words_are_the_same() -> None:
    threads = threads_of(one_sided)
    assert area(threads, cross_scores("behavior", threads)) > 0.95
    assert area(threads, cross_scores("words", threads)) == CHANCE


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_is_at_chance_where_there_is_nothing_to_find(name: str) -> None:
    threads = threads_of(ordinary)
    assert area(threads, cross_scores(name, threads)) == CHANCE


def test_behavior_does_not_see_the_words() -> None:
    threads = threads_of(with_phrases, n=20)
    masked = [
        replace(t, messages=[replace(m, text="".join(c if c == "?" else "x" for c in m.text)) for m in t.messages])
        for t in threads
    ]
    assert np.array_equal(form(threads), form(masked))


def test_each_phrase_counts_once_in_any_case_spacing_and_punctuation() -> None:
    said = [f"So, {phrase.upper().replace(' ', '   ')}?!" for phrase in PHRASES]
    everything = Thread("t", [Message("a", text) for text in said * 2])
    assert len(set(PHRASES)) == len(PHRASES)
    assert count_phrases([everything]).tolist() == [[len(PHRASES)]]
    assert count_phrases([Thread("t", [Message("a", text)]) for text in ["Don't tell", "don\u2019t TELL", "tell"]])[
        :, 0
    ].tolist() == [1, 1, 0]


def test_a_phrase_within_longer_words_does_not_count() -> None:
    threads = [Thread("t", [Message("a", text)]) for text in ("bold enough", "meet upstairs", "your address")]
    assert count_phrases(threads)[:, 0].tolist() == [0, 0, 1]


def test_more_phrases_never_make_a_thread_less_probable() -> None:
    threads = threads_of(with_phrases)
    said = [Thread(str(n), [Message("a", phrase) for phrase in PHRASES[:n]] or [Message("a", "tea")]) for n in range(9)]
    found = fit_baseline("keywords", threads, 0).predict_proba(said)[:, 1]
    assert (np.diff(found) > 0).all()


# --- the form of a thread ----------------------------------------------------------------------------------------


def test_the_form_of_a_small_thread_is_as_counted_by_hand() -> None:
    said = [("b", 0.0, "hi"), ("a", 10.0, "tea?"), ("a", 20.0, "and a kettle"), ("b", 80.0, "gladly")]
    measured = dict(zip(MEASURES, form([Thread("t", [Message(a, x, s) for a, s, x in said])])[0], strict=True))
    expected = {
        "messages": np.log(5),
        "characters": np.log(25),
        "authors": np.log(3),
        "messages an author": np.log(3),
        "characters a message": np.log(6),
        "long message": np.log(1 + 6 + 0.7 * 6),
        "first author's share": 0.5,
        "second author's share": 0.5,
        "first author's characters": 8 / 24,
        "opener's share": 0.5,
        "questions": 0.25,
        "first author's questions": 0.0,
        "others' questions": 0.5,
        "turns": 2 / 3,
        "longest run": np.log(3),
        "timed": 1.0,
        "span": np.log(81),
        "gap": np.log(11),
        "long gap": np.log(11) + 0.8 * (np.log(61) - np.log(11)),
        "reply": (np.log(11) + np.log(61)) / 2,
    }
    assert measured == pytest.approx(expected)


@given(conversations().filter(bool), st.integers(-(10**6), 10**6))
def test_names_of_authors_and_the_zero_of_the_clock_leave_the_form_as_it_is(said: list[Message], shift: int) -> None:
    moved = [
        replace(m, author=f"other {m.author}", sent_at=None if m.sent_at is None else m.sent_at + shift) for m in said
    ]
    before, after = form([Thread("t", said), Thread("t", moved)])
    assert after == pytest.approx(before, abs=1e-6)


def test_times_that_are_missing_are_not_taken_for_no_time() -> None:
    untimed = Thread("t", [Message("a", "tea"), Message("b", "tea")])
    partly = Thread("t", [Message("a", "tea", 3.0), Message("b", "tea"), Message("a", "tea", 9.0)])
    for one, share in ((untimed, 0.0), (partly, 2 / 3)):
        measured = dict(zip(MEASURES, form([one])[0], strict=True))
        assert measured["timed"] == pytest.approx(share)
        assert [measured[name] for name in ("span", "gap", "long gap", "reply")] == [-1.0] * 4


# --- folds -------------------------------------------------------------------------------------------------------


def of_few_persons(n_persons: int = 24, each: int = 5) -> list[Thread]:
    """Return threads whose words tell the person, and whose label goes with the person and with nothing else."""
    chance = random.Random(3)
    threads = []
    for i in range(n_persons * each):
        person = i % n_persons
        text = f"{' '.join(chance.sample(COMMON, 3))} habit{person:03d}x"
        threads.append(Thread(f"t{i}", [Message(f"a{i}", text)], person % 2, person=f"p{person}"))
    return threads


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_person_is_in_two_folds_and_every_thread_is_in_one(seed: int) -> None:
    threads = of_few_persons()
    tests = [test.tolist() for test, _ in fitted_folds("keywords", threads, n_folds=4, seed=seed)]
    assert sorted(i for test in tests for i in test) == list(range(len(threads)))
    persons = [{threads[i].person for i in test} for test in tests]
    assert sum(map(len, persons)) == len(set().union(*persons))


def test_what_a_baseline_knows_of_a_person_does_not_help_it_out_of_fold() -> None:
    threads = of_few_persons()
    assert area(threads, fit_baseline("words", threads, 0).predict_proba(threads)[:, 1]) == 1.0
    assert area(threads, cross_scores("words", threads)) < 0.65


def test_groups_of_the_caller_stay_together() -> None:
    threads = labelled_threads(40, n_messages=3)
    groups = np.arange(40) // 8
    for test, _ in fitted_folds("keywords", threads, groups, n_folds=5):
        assert len(set(groups[test])) == 1


# --- the same every time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_same_threads_and_seed_give_the_same_bits(name: str) -> None:
    threads = labelled_threads(40, n_messages=4)
    first, second = (cross_scores(name, threads, n_folds=2, seed=5) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.shape == (40,)
    assert ((first > 0) & (first < 1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_is_an_estimator_that_can_be_cloned_and_pickled(name: str) -> None:
    threads = labelled_threads(40, n_messages=4)
    one = BASELINES[name](1)
    fitted = clone(one).fit(threads, [t.label for t in threads])
    probabilities = fitted.predict_proba(threads)
    assert probabilities.shape == (40, 2)
    assert np.allclose(probabilities.sum(axis=1), 1.0)
    assert set(fitted.predict(threads)) <= {0, 1}
    assert (pickle.loads(pickle.dumps(fitted)).predict_proba(threads) == probabilities).all()  # noqa: S301
    assert not hasattr(one, "classes_")


@pytest.mark.parametrize("batch", [1, 2_000, 10**9])
@pytest.mark.parametrize("name", NAMES)
def test_each_prefix_scores_as_the_thread_cut_there_in_any_batch(
    name: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "BATCH", batch)
    fitted = fit_baseline(name, labelled_threads(20, n_messages=4), 0)
    threads = labelled_threads(6, prefix="y", n_messages=6)
    found = list(score_threads(fitted, iter(threads), prefixes=True))
    assert [one for one, _ in found] == threads
    for one, scores in found:
        cut = [Thread("any", one.messages[:n]) for n in range(1, len(one.messages) + 1)]
        assert scores.tolist() == [fitted.decision_function([part])[0] for part in cut]
    whole = [(one, scores[-1:].tolist()) for one, scores in found]
    assert [(one, scores.tolist()) for one, scores in score_threads(fitted, threads)] == whole


def test_prefixes_end_at_two_hundred_messages_and_whole_threads_do_not() -> None:
    fitted = fit_baseline("keywords", threads_of(with_phrases, n=40), 0)
    long = Thread("t", [Message("a", "tea")] * (PREFIXES + 30) + [Message("a", PHRASES[0])])
    assert [len(scores) for _, scores in score_threads(fitted, [long, long], prefixes=True)] == [PREFIXES] * 2
    ((_, prefixes),), ((_, whole),) = score_threads(fitted, [long], prefixes=True), score_threads(fitted, [long])
    assert whole[0] > prefixes.max()


def test_no_threads_have_no_scores() -> None:
    fitted = fit_baseline("words", labelled_threads(20, n_messages=2), 0)
    assert list(score_threads(fitted, [])) == []


@settings(max_examples=15)
@given(conversations().filter(bool))
def test_any_thread_has_a_finite_score(said: list[Message]) -> None:
    for name in NAMES:
        for _, scores in score_threads(small(name), [Thread("t", said)], prefixes=True):
            assert np.isfinite(scores).all()


def small(name: str, fitted: dict[str, Any] = {}) -> Any:  # noqa: B006
    if name not in fitted:
        fitted[name] = fit_baseline(name, labelled_threads(20, n_messages=3), 0)
    return fitted[name]


# --- errors ------------------------------------------------------------------------------------------------------


def test_a_thread_without_a_label_is_named_and_its_text_is_not() -> None:
    threads = [*labelled_threads(20), Thread("nameless", [Message("a", CANARY)])]
    for call in (lambda: fit_baseline("words", threads, 0), lambda: cross_scores("words", threads)):
        error = str(error_of(call, DataError))
        assert "nameless" in error
        assert CANARY not in error


@pytest.mark.parametrize("label", [0, 1])
def test_threads_of_one_label_are_refused(label: int) -> None:
    threads = [replace(one, label=label) for one in labelled_threads(20)]
    for call in (lambda: fit_baseline("words", threads, 0), lambda: cross_scores("words", threads)):
        assert "both 0 and 1" in str(error_of(call, DataError))


def test_as_many_labels_as_threads_are_needed() -> None:
    error = error_of(lambda: BASELINES["words"](0).fit(labelled_threads(4), [0, 1, 0]), DataError)
    assert "4 threads but 3 labels" in str(error)


# --- the command -------------------------------------------------------------------------------------------------


def rows_of(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("files")
    return (
        write_threads(folder / "train-a.jsonl", labelled_threads(24, prefix="x", n_messages=4)),
        write_threads(folder / "train-b.jsonl", labelled_threads(16, prefix="y", n_messages=4)),
        write_threads(folder / "dev.jsonl", labelled_threads(20, prefix="z", n_messages=4)),
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_command_scores_threads_in_their_order(files: tuple[Path, Path, Path], name: str) -> None:
    ran = run("baseline", name, files[2], "--train", files[0], files[1], "-o", "-")
    assert ran.status == 0, ran.err
    dev = labelled_threads(20, prefix="z", n_messages=4)
    train = labelled_threads(24, prefix="x", n_messages=4) + labelled_threads(16, prefix="y", n_messages=4)
    expected = fit_baseline(name, train, 0).decision_function(dev)
    rows = rows_of(ran.out)
    assert [row["thread_id"] for row in rows] == [one.thread_id for one in dev]
    assert [row["score"] for row in rows] == expected.tolist()
    assert [row["probability"] for row in rows] == pytest.approx(1 / (1 + np.exp(-expected)))
    assert [row["n_messages"] for row in rows] == [len(one.messages) for one in dev]
    assert {row["model"] for row in rows} == {f"baseline-{name}"}
    assert "20 threads, 20 rows" in ran.err
    assert "--train" in ran.err


def test_without_training_files_the_command_scores_out_of_fold(files: tuple[Path, Path, Path]) -> None:
    ran = run("baseline", "words", files[2], files[0], "-o", "-", "--seed", 3)
    threads = labelled_threads(20, prefix="z", n_messages=4) + labelled_threads(24, prefix="x", n_messages=4)
    rows = rows_of(ran.out)
    assert [row["thread_id"] for row in rows] == [one.thread_id for one in threads]
    assert [row["probability"] for row in rows] == pytest.approx(cross_scores("words", threads, seed=3))
    assert "folds" in ran.err


@pytest.mark.parametrize("train", [True, False])
def test_the_last_prefix_of_a_thread_scores_as_the_whole(files: tuple[Path, Path, Path], train: bool) -> None:
    given_ = ["baseline", "characters", files[2], *(["--train", files[0]] if train else []), "-o", "-"]
    whole, prefixes = rows_of(run(*given_).out), rows_of(run(*given_, "--prefixes").out)
    counts = [(row["thread_id"], n) for row in whole for n in range(1, row["n_messages"] + 1)]
    assert [(row["thread_id"], row["n_messages"]) for row in prefixes] == counts
    last = {row["thread_id"]: row for row in prefixes}
    assert [last[row["thread_id"]] for row in whole] == whole


def test_the_command_writes_the_same_bytes_again(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    for out in ("first.jsonl", "second.jsonl"):
        assert run("baseline", "behavior", files[2], "-o", tmp_path / out).status == 0
    assert (tmp_path / "first.jsonl").read_bytes() == (tmp_path / "second.jsonl").read_bytes()


def test_the_command_knows_every_baseline_and_no_other(files: tuple[Path, Path, Path]) -> None:
    assert all(name in run("baseline", "--help").out.decode() for name in NAMES)
    ran = run("baseline", "guess", files[2], "-o", "-")
    assert ran.status == 2
    assert all(name in ran.err for name in NAMES)


def test_every_baseline_says_in_a_line_what_it_is() -> None:
    for make in BASELINES.values():
        assert make.__doc__
        assert "\n" not in make.__doc__
        assert make.__doc__.endswith(".")


@pytest.mark.parametrize("field", ["thread_id", "person"])
def test_threads_that_training_has_seen_are_not_scored(field: str, tmp_path: Path) -> None:
    train, dev = labelled_threads(20, prefix="x", n_messages=2), labelled_threads(8, prefix="y", n_messages=2)
    dev[3] = replace(dev[3], **{field: getattr(train[4], field)})
    paths = [write_threads(tmp_path / "dev.jsonl", dev), write_threads(tmp_path / "train.jsonl", train)]
    ran = run("baseline", "words", paths[0], "--train", paths[1], "-o", tmp_path / "scores.jsonl")
    assert ran.status == 1
    assert len(ran.error_lines) == 1
    assert dev[3].thread_id in ran.err
    assert "--train" in ran.err
    assert not (tmp_path / "scores.jsonl").exists()


def test_scoring_with_training_files_needs_no_labels(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    path = write_threads(tmp_path / "log.jsonl", [Thread("new", [Message("a", f"tea {CANARY}")])])
    ran = run("baseline", "words", path, "--train", files[0], "-o", "-")
    assert ran.status == 0, ran.err
    assert [row["thread_id"] for row in rows_of(ran.out)] == ["new"]
    assert CANARY.encode() not in ran.out
    assert CANARY not in ran.err
    ran = run("baseline", "words", path, "-o", "-")
    assert ran.status == 1
    assert "new has no label" in ran.err
    assert CANARY not in ran.err
