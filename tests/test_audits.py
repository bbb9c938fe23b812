"""Audits: each finds the shortcut that was planted for it, and none where none was planted."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from builders import CANARY, COMMON, error_of, labelled_threads, sentence
from sklearn.metrics import roc_auc_score

from grooming_flag import DataError, Message, Thread
from grooming_flag.evaluation.audits import OTHER_SOURCES, SHORTCUTS, Audit, audit
from grooming_flag.evaluation.form import MEASURES

N = 200
NAMES = [*SHORTCUTS, "source", OTHER_SOURCES]
NOTHING = 0.65  # area that chance stays below: its standard error is 0.041 for 100 threads of each label

Change = Callable[[random.Random, list[Message]], Sequence[Message]]


def messages(chance: random.Random, n: int) -> list[Message]:
    """Return small talk of two authors, some two minutes apart."""
    return [Message(chance.choice("ab"), sentence(chance, COMMON), 120.0 * i + chance.uniform(0, 60)) for i in range(n)]


def threads_with(planted: Change | None = None) -> tuple[list[Thread], list[str]]:
    """Return labelled threads of four sources, every second one risky and changed, each of a person of its own."""
    chance = random.Random(1)
    threads = []
    for i in range(N):
        said: Sequence[Message] = messages(chance, chance.randint(8, 24))
        risky = i % 2 == 0
        if risky and planted:
            said = planted(chance, list(said))
        threads.append(Thread(f"t{i}", said, int(risky), person=f"p{i}"))
    return threads, [f"source {i // 2 % 4}" for i in range(N)]


def longer(chance: random.Random, said: list[Message]) -> list[Message]:
    return said + messages(chance, chance.randint(10, 20))


def slower(chance: random.Random, said: list[Message]) -> list[Message]:
    return [replace(one, sent_at=3.0 * (one.sent_at or 0.0)) for one in said]


def untimed(chance: random.Random, said: list[Message]) -> list[Message]:
    return [replace(one, sent_at=None) for one in said]


def of_four(chance: random.Random, said: list[Message]) -> list[Message]:
    return [replace(one, author=chance.choice("abcd")) for one in said]


def worded(chance: random.Random, said: list[Message]) -> list[Message]:
    return [replace(one, text=one.text.replace("kettle", "orchard")) for one in said]


@cache
def areas(planted: Change | None) -> dict[str, float]:
    """Return the area under the curve of each audit of threads with this planted."""
    threads, sources = threads_with(planted)
    return areas_of(threads, audit(threads, sources, seed=0))


def areas_of(threads: Sequence[Thread], found: Sequence[Audit]) -> dict[str, float]:
    labels = [one.label for one in threads]
    return {one.name: float(roc_auc_score(labels, one.scores)) for one in found}


# --- what they find ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        (longer, "length"),
        (slower, "timing"),
        (untimed, "timing"),
        (of_four, "parties"),
        (worded, "other sources"),
    ],
)
def test_an_audit_finds_what_is_planted_for_it_and_the_others_do_not(planted: Change, name: str) -> None:
    found = areas(planted)
    follows = {"timing", OTHER_SOURCES} if planted is longer else set()  # since more messages take longer and say more
    assert found[name] > 0.95
    assert {other for other, area in found.items() if area > NOTHING} - follows == {name}


def test_the_source_is_found_where_it_tells_the_label() -> None:
    threads, sources = threads_with()
    telling = [
        "risky" if one.label and i % 8 else source for i, (one, source) in enumerate(zip(threads, sources, strict=True))
    ]
    found = areas_of(threads, [one for one in audit(threads, telling, seed=0) if one.name != OTHER_SOURCES])
    assert found["source"] > 0.85
    assert {name for name, area in found.items() if area > NOTHING} == {"source"}


def test_no_audit_finds_anything_where_nothing_is_planted() -> None:
    assert list(areas(None)) == NAMES
    assert max(areas(None).values()) < NOTHING


def test_text_that_tells_in_one_source_alone_does_not_carry_over() -> None:
    threads, sources = threads_with()
    chance = random.Random(2)
    own = [
        replace(one, messages=worded(chance, list(one.messages))) if one.label and source == "source 0" else one
        for one, source in zip(threads, sources, strict=True)
    ]
    (scores,) = (found.scores for found in audit(own, sources, seed=0) if found.name == OTHER_SOURCES)
    chosen = np.array([source == "source 0" for source in sources])
    assert roc_auc_score(np.array([one.label for one in own])[chosen], scores[chosen]) < 0.7


# --- what they give ----------------------------------------------------------------------------------------------


def test_every_audit_has_a_description_and_a_score_for_every_thread() -> None:
    threads, sources = threads_with()
    found = audit(threads, sources, seed=0)
    assert [one.name for one in found] == NAMES
    for one in found:
        assert one.description
        assert one.scores.shape == (N,)
        assert np.isfinite(one.scores).all()
    for name, measures in SHORTCUTS.items():
        assert set(measures) <= set(MEASURES), name


def test_a_second_run_on_more_jobs_gives_the_same_bits() -> None:
    threads, sources = threads_with(longer)
    found = [audit(threads, sources, seed=3, n_jobs=n_jobs) for n_jobs in (1, 2)]
    bits = [[one.scores.tobytes() for one in audits] for audits in found]
    assert bits[0] == bits[1]


def test_progress_counts_up_to_all() -> None:
    threads, sources = threads_with()
    seen: list[tuple[int, int]] = []
    audit(threads, sources, seed=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 24) for i in range(1, 25)]  # four shortcuts on five folds each, and four sources


def test_a_source_without_which_one_class_is_left_has_no_score() -> None:
    threads, _ = threads_with()
    sources = ["risky" if one.label else f"ordinary {i % 4}" for i, one in enumerate(threads)]
    (scores,) = (one.scores for one in audit(threads, sources, seed=0) if one.name == OTHER_SOURCES)
    assert np.isnan(scores).tolist() == [source == "risky" for source in sources]


def test_of_a_single_source_no_other_source_is_asked() -> None:
    threads, sources = threads_with()
    found = audit(threads, ["all"] * len(sources), seed=0)
    assert [one.name for one in found] == ["length", "timing", "parties"]


def of_ten_persons() -> list[Thread]:
    """Return threads of a length that tells the person, and with it the label, which nothing else does."""
    chance = random.Random(4)
    said = [messages(chance, 4 + 4 * (i % 10)) for i in range(N)]
    return [
        Thread(f"t{i}", [replace(one, author=f"{one.author}{i}") for one in said[i]], i % 2, person=f"p{i % 10}")
        for i in range(N)
    ]


def test_what_a_model_knows_of_a_person_does_not_help_it() -> None:
    threads = of_ten_persons()
    apart = [replace(one, person=None) for one in threads]
    assert areas_of(apart, audit(apart, ["all"] * N, seed=0))["length"] > 0.95
    assert areas_of(threads, audit(threads, ["all"] * N, seed=0))["length"] < NOTHING


def test_groups_of_the_caller_stay_together() -> None:
    apart = [replace(one, person=None) for one in of_ten_persons()]
    assert areas_of(apart, audit(apart, ["all"] * N, seed=0, groups=np.arange(N) % 10))["length"] < NOTHING


# --- errors ------------------------------------------------------------------------------------------------------


def test_a_thread_without_a_label_is_named_and_its_text_is_not() -> None:
    threads = [*labelled_threads(20), Thread("nameless", [Message("a", CANARY)])]
    error = str(error_of(lambda: audit(threads, ["all"] * 21, seed=0), DataError))
    assert "nameless" in error
    assert CANARY not in error


@pytest.mark.parametrize("label", [0, 1])
def test_threads_of_one_label_are_refused(label: int) -> None:
    threads = [replace(one, label=label) for one in labelled_threads(20)]
    assert "both 0 and 1" in str(error_of(lambda: audit(threads, ["all"] * 20, seed=0), DataError))


def test_risky_threads_of_too_few_persons_are_refused() -> None:
    threads = [replace(one, person="one" if one.label else None) for one in labelled_threads(40)]
    assert "fold" in str(error_of(lambda: audit(threads, ["all"] * 40, seed=0), DataError))


def test_as_many_sources_as_threads_are_needed() -> None:
    error = error_of(lambda: audit(labelled_threads(4), ["all"], seed=0), DataError)
    assert "4 threads but 1 sources" in str(error)
