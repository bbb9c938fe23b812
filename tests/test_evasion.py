"""The attacker who holds the weights: what it may do, what it does not do, and what gains it nothing."""

from __future__ import annotations

import pytest
from builders import error_of, labelled_threads, model_of_words, small_model, thread
from hypothesis import given
from hypothesis import strategies as st
from strategies import threads

from grooming_flag import Model, Thread
from grooming_flag.evaluation.evasion import EDITS, evade, harmless_messages, n_characters
from grooming_flag.segments import SegmentRule

AT = 1e-6  # so low that the random weights flag nearly everything, and the attack goes on for long
MODEL = small_model()
RISKY = [one for one in labelled_threads(12) if one.label]
HARMLESS = ["the bus was late", "we had soup", "nice weather today"]
FEW = ["swapped", "masked", "cut"]
ATTACKS = {
    "edits": {"kinds": FEW},
    "splits": {"splits": True, "edits": 0.0},
    "padding": {"padding": 0.3, "edits": 0.0, "harmless": HARMLESS},
    "all": {"kinds": FEW, "edits": 0.03, "splits": True, "padding": 0.3, "harmless": HARMLESS},
}

attacks = pytest.mark.parametrize("attack", [pytest.param(attack, id=name) for name, attack in ATTACKS.items()])


def probability(one: Thread, model: Model = MODEL) -> float:
    return model.assess(one, at=AT).probability or 0.0


def texts(one: Thread, by_suspects: bool) -> list[str]:
    return [message.text for message in one.messages if (message.author in one.suspects) == by_suspects]


def distance(a: str, b: str) -> int:
    """Return how many characters are added, dropped, replaced or swapped with the next (optimal string alignment)."""
    d = [[i + j if not i or not j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i][j] = min(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i][j] = min(d[i][j], d[i - 2][j - 2] + 1)
    return d[-1][-1]


@attacks
def test_the_probability_falls(attack: dict[str, object]) -> None:
    before = [probability(one) for one in RISKY]
    after = [probability(evade(MODEL, one, AT, **attack).thread) for one in RISKY]
    assert all(b <= a for a, b in zip(before, after, strict=True))
    assert sum(after) < sum(before)


@attacks
@given(one=threads(), n_suspects=st.integers(0, 2))
def test_the_probability_never_rises_whatever_the_thread(
    one: Thread, n_suspects: int, attack: dict[str, object]
) -> None:
    authors = sorted({message.author for message in one.messages})
    one = Thread(one.thread_id, one.messages, suspects=authors[:n_suspects])
    left = evade(MODEL, one, AT, **attack)
    assert probability(left.thread) <= probability(one)
    assert left.evaded is not MODEL.assess(left.thread, AT).flagged
    assert texts(left.thread, by_suspects=False) == texts(one, by_suspects=False)
    assert left.n_edits <= 0.1 * n_characters(one)


@attacks
def test_the_same_thread_is_attacked_in_the_same_way(attack: dict[str, object]) -> None:
    assert [evade(MODEL, one, AT, **attack) for one in RISKY] == [evade(MODEL, one, AT, **attack) for one in RISKY]


@attacks
def test_only_what_suspects_write_changes_and_all_else_of_a_thread_stays(attack: dict[str, object]) -> None:
    for one in RISKY:
        left = evade(MODEL, one, AT, **attack).thread
        assert texts(left, by_suspects=False) == texts(one, by_suspects=False)
        assert (left.thread_id, left.label, left.suspects, left.person) == (
            one.thread_id,
            one.label,
            one.suspects,
            one.person,
        )


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05])
def test_no_more_characters_are_edited_than_the_attacker_may(share: float) -> None:
    for one in RISKY:
        left = evade(MODEL, one, AT, edits=share, kinds=FEW)
        pairs = zip(one.messages, left.thread.messages, strict=True)
        assert sum(distance(a.text, b.text) for a, b in pairs) <= left.n_edits <= share * n_characters(one)
        assert left.n_edits > 0 or share == 0.0


def test_no_more_messages_are_added_than_the_attacker_may_and_all_of_them_by_suspects() -> None:
    for one in RISKY:
        left = evade(MODEL, one, AT, edits=0.0, padding=0.2, harmless=HARMLESS)
        assert len(left.thread.messages) == len(one.messages) + left.n_added
        assert 0 < left.n_added <= 0.2 * len(one.messages)
        added = texts(left.thread, by_suspects=True)
        for text in texts(one, by_suspects=True):
            added.remove(text)
        assert set(added) <= set(HARMLESS)


def test_messages_are_divided_at_spaces_alone() -> None:
    for one in RISKY:
        left = evade(MODEL, one, AT, edits=0.0, splits=True)
        assert len(left.thread.messages) == len(one.messages) + left.n_splits
        assert left.n_splits > 0
        assert " ".join(texts(left.thread, by_suspects=True)) == " ".join(texts(one, by_suspects=True))


def test_whoever_may_edit_more_evades_no_less() -> None:
    threshold = sorted(map(probability, RISKY))[len(RISKY) // 2] / 10
    evaded = [
        sum(evade(MODEL, one, threshold, edits=share, kinds=FEW).evaded for one in RISKY) for share in (0.0, 0.02, 0.2)
    ]
    assert evaded == sorted(evaded)
    assert evaded[0] < evaded[-1]


def test_one_edit_less_does_not_evade() -> None:
    for one in RISKY:
        threshold = probability(one) / 20
        left = evade(MODEL, one, threshold, edits=1.0, kinds=FEW)
        assert left.evaded
        assert not evade(MODEL, one, threshold, edits=(left.n_edits - 0.5) / n_characters(one), kinds=FEW).evaded


def test_an_attack_ends_with_the_first_edit_that_evades() -> None:
    model = model_of_words({"lantern": 9000, "kettle": 100, "pebble": -50})
    one = thread("bring the lantern and a kettle", "a pebble", suspects=["a"])
    assert probability(one, model) > 0.2
    left = evade(model, one, 0.2)
    assert (left.evaded, left.n_edits) == (True, 1)
    assert distance(one.messages[0].text, left.thread.messages[0].text) == 1


def test_a_word_that_stands_twice_pays_only_when_both_are_changed() -> None:
    model = model_of_words({"lantern": 9000})
    one = thread("lantern", "no", "lantern", suspects=["a"])
    assert evade(model, one, 0.2).n_edits == 0


def test_what_normalization_undoes_gains_nothing() -> None:
    assert [evade(MODEL, one, AT, edits=1.0, kinds=["disguised"]).n_edits for one in RISKY] == [0] * len(RISKY)


def test_a_thread_that_is_not_flagged_stays_as_it_is() -> None:
    one = RISKY[0]
    left = evade(MODEL, one, at=1.0, splits=True, padding=0.5)
    assert left.evaded
    assert left.thread is one


def test_each_segment_of_a_long_thread_is_attacked() -> None:
    model = model_of_words({"lantern": 9000, "compass": 8000}, segment_rule=SegmentRule(4, 2))
    one = thread("lantern", "no", "tea", "no", "compass", "no", "tea", "no", suspects=["a"])
    left = evade(model, one, 0.2, edits=0.3)
    assert (left.evaded, left.n_edits) == (True, 2)


@pytest.mark.parametrize("kind", EDITS)
def test_each_kind_of_edit_changes_one_character(kind: str) -> None:
    text = "Bring the lantern, please"
    found = list(EDITS[kind](text))
    assert found
    assert {distance(text.lower(), one.lower()) for one in found} <= {0, 1}


def test_harmless_messages_are_many_and_different() -> None:
    found = harmless_messages()
    assert len(found) > 1000
    assert len(set(found)) == len(found)


def test_an_unknown_operating_point_is_named() -> None:
    assert "nowhere" in str(error_of(lambda: evade(MODEL, RISKY[0], "nowhere")))
