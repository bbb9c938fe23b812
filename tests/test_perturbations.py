"""Perturbations: what each does, what it leaves alone, and which of them a model does not notice."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

import pytest
from builders import PYTHON, ROOT, bundled, environment, error_of, lines_of, needs_bundled_model, row_of, thread
from hypothesis import given
from hypothesis import strategies as st
from strategies import authors, threads

from grooming_flag import DataError, Message, Thread, read_threads
from grooming_flag.evaluation.perturbations import (
    PERTURBATIONS,
    Perturbation,
    by_hand,
    describe,
    perturb,
    perturbation,
    random_pairs,
    rewrite,
)

NAMES = sorted(PERTURBATIONS)
WITHOUT_CHANCE = {
    "abbreviations",
    "alternating-case",
    "bare-text",
    "full-width",
    "leet-throughout",
    "letters-spaced-throughout",
    "messages-merged",
    "upper-case",
    "vowels-dropped-throughout",
}
BY_HAND = [
    "leet",
    "letters-masked",
    "letters-repeated",
    "letters-spaced",
    "vowels-dropped",
    "words-separated",
]
EXAMPLES = ROOT / "examples" / "threads.jsonl"
PLAIN = [
    "Hello there, are you coming to the football practice tomorrow?",
    "I am, and my sister too",
    "Great! Please bring the lantern and some marmalade",
    "Do you know when the library opens?",
    "At nine; the garden is shut, though",
    "Thanks, see you later",
]


@st.composite
def labelled(draw: st.DrawFn) -> Thread:
    """Return a thread that may have ids, times, a label and suspects, one of whom may not write."""
    messages = draw(threads()).messages
    n = len(messages)
    id_of = draw(st.sampled_from([lambda _: None, lambda i: i, lambda i: 7 * i, lambda i: f"m{i}"]))
    steps = draw(st.lists(st.integers(0, 100), min_size=n, max_size=n))
    times = [float(sum(steps[: i + 1])) for i in range(n)] if draw(st.booleans()) else [None] * n
    suspects = sorted(draw(st.sets(st.one_of(authors(), *(st.just(m.author) for m in messages)), max_size=3)))
    return Thread(
        draw(st.sampled_from(["t", "t\ud800", "\n"])),
        [Message(m.author, m.text, times[i], id_of(i)) for i, m in enumerate(messages)],
        draw(st.sampled_from([None, 0, 1])),
        suspects,
        draw(st.sampled_from([None, "somebody"])),
    )


def plain(label: int | None = 1, suspects: Sequence[str] = ("a",), thread_id: str = "plain") -> Thread:
    """Return a thread of three authors in which two of them write several messages in a row."""
    names = "aabbbcaabbba"
    messages = [Message(author, PLAIN[i % len(PLAIN)], 60.0 * i, f"m{i}") for i, author in enumerate(names)]
    return Thread(thread_id, messages, label, suspects, "somebody")


def texts(found: Thread) -> list[str]:
    return [message.text for message in found.messages]


def words(found: Thread) -> list[str]:
    return " ".join(texts(found)).split()


def turns(names: Sequence[str]) -> list[str]:
    return [name for name, _ in groupby(names)]


def numbered(names: Sequence[str]) -> list[int]:
    """Return the names as numbers, in order of appearance."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


# --- the registry ------------------------------------------------------------------------------------------------


def test_there_are_perturbations_of_letters_words_messages_and_authors() -> None:
    assert len(NAMES) >= 18
    assert {"leet", "typing-errors", "padding", "messages-split", "authors-renamed"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_says_in_one_line_what_it_does(name: str) -> None:
    assert describe(name)[-1] == "."
    assert "\n" not in describe(name)
    assert len({describe(other) for other in NAMES}) == len(NAMES)


@pytest.fixture
def backwards() -> Iterator[str]:
    @perturbation("backwards")
    def write_backwards(found: Thread, rng: random.Random) -> Thread:
        """Write every message backwards.

        And nothing else.
        """
        return rewrite(found, lambda text: text[::-1])

    yield "backwards"
    del PERTURBATIONS["backwards"]


def test_an_own_perturbation_is_used_like_the_others(backwards: str) -> None:
    assert describe(backwards) == "Write every message backwards."
    assert texts(perturb(thread("tea", "kettle"), [backwards, "upper-case"])) == ["AET", "ELTTEK"]
    assert any(backwards in pair for pair in random_pairs(len(NAMES) * (len(NAMES) + 1)))


def test_an_own_perturbation_is_still_a_function_of_its_own() -> None:
    def nothing(found: Thread, rng: random.Random) -> Thread:
        return found

    registered: Perturbation = perturbation("nothing")(nothing)
    del PERTURBATIONS["nothing"]
    assert registered is nothing


def test_a_name_used_twice_is_refused() -> None:
    before = PERTURBATIONS["leet"]
    with pytest.raises(ValueError, match="already is a perturbation 'leet'"):
        perturbation("leet")(PERTURBATIONS["padding"])
    assert PERTURBATIONS["leet"] is before


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    for error in (
        error_of(lambda: perturb(plain(), ["leet", "no such"]), DataError),
        error_of(lambda: describe("no such"), DataError),
    ):
        assert "no such" in str(error)
        assert "zero-width" in str(error)


@given(st.integers(0, 60), st.integers(0, 5))
def test_random_pairs_are_different_pairs_of_different_names(k: int, seed: int) -> None:
    pairs = random_pairs(k, seed)
    assert len(set(pairs)) == len(pairs) == k
    assert all(first != second and {first, second} <= set(NAMES) for first, second in pairs)
    assert pairs == random_pairs(k, seed)


def test_random_pairs_depend_on_the_seed_and_are_not_more_than_there_are() -> None:
    assert random_pairs(10, 1) != random_pairs(10, 2)
    assert len(random_pairs(len(NAMES) * (len(NAMES) - 1))) == len(NAMES) * (len(NAMES) - 1)
    for k in (-1, 10_000):
        error_of(lambda k=k: random_pairs(k), DataError)  # type: ignore[misc]


# --- what holds for all ------------------------------------------------------------------------------------------


@given(found=labelled())
def test_any_thread_stays_valid(found: Thread) -> None:
    before = row_of(found)
    for name in NAMES:
        perturbed = perturb(found, [name])
        assert row_of(found) == before, name
        assert (perturbed.thread_id, perturbed.label, perturbed.person) == (found.thread_id, found.label, found.person)
        assert bool(perturbed.messages) == bool(found.messages), name
        times = [message.sent_at for message in perturbed.messages]
        assert set(times) <= {message.sent_at for message in found.messages}, name
        assert None in times or times == sorted(times), name  # type: ignore[type-var]
        assert perturb(found, [name]) == perturbed, name


@given(found=labelled())
def test_authors_and_suspects_stay_who_they_are(found: Thread) -> None:
    before = [message.author for message in found.messages]
    for name in NAMES:
        perturbed = perturb(found, [name])
        after = [message.author for message in perturbed.messages]
        if name == "authors-renamed":
            assert numbered([*before, *found.suspects]) == numbered([*after, *perturbed.suspects])
            continue
        assert perturbed.suspects == found.suspects, name
        if name == "order-shuffled":
            assert Counter(after) == Counter(before)
        elif name in ("messages-split", "messages-merged", "padding"):
            assert turns(after) == turns(before), name
        else:
            assert after == before, name


@given(found=labelled())
def test_a_message_keeps_its_id_and_new_ones_get_ids_that_nobody_had(found: Thread) -> None:
    had = {i if m.message_id is None else m.message_id: m.author for i, m in enumerate(found.messages)}
    for name in NAMES:
        messages = perturb(found, [name]).messages
        ids = [message.message_id for message in messages]
        assert None not in ids, name
        assert len(set(ids)) == len(ids), name
        kept = {message.message_id: message.author for message in messages if message.message_id in had}
        assert set(kept) == set(had) or name == "messages-merged", name
        assert len(messages) == len(kept) or name in ("messages-split", "padding"), name
        assert kept.items() <= had.items() or name == "authors-renamed", name


@given(found=labelled(), names=st.lists(st.sampled_from(NAMES), min_size=2, max_size=3))
def test_several_perturbations_are_each_applied_in_turn(found: Thread, names: list[str]) -> None:
    perturbed = perturb(found, names)
    one_by_one = found
    for name in names:
        one_by_one = perturb(one_by_one, [name])
    without_ids = [(m.author, m.text, m.sent_at) for m in perturbed.messages]
    assert without_ids == [(m.author, m.text, m.sent_at) for m in one_by_one.messages]
    ids = [message.message_id for message in perturbed.messages]
    assert len(set(ids)) == len(ids)


def test_an_id_is_not_given_to_a_new_message_after_its_own_is_merged_away() -> None:
    found = Thread("t", [Message("a", "tea") for _ in range(9)])
    perturbed = perturb(found, ["messages-merged", "padding"])
    assert [message.message_id for message in perturbed.messages] == [0, 9]


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_thread_is_changed_and_keeps_its_label(name: str) -> None:
    perturbed = perturb(plain(), [name])
    assert perturbed != plain()
    assert perturbed.label == 1
    assert perturb(plain(label=0), [name]).label == 0


@pytest.mark.parametrize("name", NAMES)
def test_chance_depends_on_seed_and_thread_id_where_there_is_any(name: str) -> None:
    results = {
        lines_of([Thread("t", found.messages, 1, found.suspects)])
        for found in (
            perturb(plain(), [name]),
            perturb(plain(), [name], seed=1),
            perturb(plain(thread_id="other"), [name]),
        )
    }
    assert len(results) == (1 if name in WITHOUT_CHANCE else 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["", " ", "\ud800", "\udc00\ud83d tea \ud800kettle", "a", "7", "\u2764\ufe0f", "\n\n"])
def test_one_message_with_little_or_odd_text_stays_one_thread(name: str, text: str) -> None:
    perturbed = perturb(thread(text), [name])
    assert perturbed.messages
    assert all(isinstance(one, str) for one in texts(perturbed))


def test_results_do_not_depend_on_the_hash_seed_of_python() -> None:
    code = (
        "import hashlib, sys; sys.path.insert(0, 'tests')\n"
        "from builders import lines_of\n"
        "from test_perturbations import NAMES, perturb, plain\n"
        "print(hashlib.sha256(lines_of([perturb(plain(), [name]) for name in NAMES])).hexdigest())"
    )
    here = hashlib.sha256(lines_of([perturb(plain(), [name]) for name in NAMES])).hexdigest()
    there = subprocess.run(
        [PYTHON, "-c", code],
        cwd=ROOT,
        env={**environment(), "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert there.stdout.strip() == here


# --- what each does ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["upper-case", "alternating-case"])
def test_a_change_of_case_leaves_the_letters(name: str) -> None:
    perturbed = perturb(plain(), [name])
    assert [text.casefold() for text in texts(perturbed)] == [text.casefold() for text in texts(plain())]


@pytest.mark.parametrize("name", ["messages-split", "messages-merged"])
@given(found=labelled())
def test_splitting_and_merging_leave_the_words(name: str, found: Thread) -> None:
    assert words(perturb(found, [name])) == words(found)


def test_split_messages_have_two_to_four_words_and_the_time_of_the_whole() -> None:
    perturbed = perturb(plain(), ["messages-split"])
    lengths = [len(message.text.split()) for message in perturbed.messages]
    assert max(lengths) <= 4
    assert len(perturbed.messages) > 2 * len(plain().messages)
    time_of = {message.message_id: message.sent_at for message in plain().messages}
    for before, after in pairwise(perturbed.messages):
        assert after.sent_at == time_of.get(after.message_id, before.sent_at)


def test_merged_messages_have_the_id_and_time_of_the_first() -> None:
    perturbed = perturb(plain(), ["messages-merged"])
    assert [(m.author, m.message_id, m.sent_at) for m in perturbed.messages] == [
        ("a", "m0", 0.0),
        ("b", "m2", 120.0),
        ("c", "m5", 300.0),
        ("a", "m6", 360.0),
        ("b", "m8", 480.0),
        ("a", "m11", 660.0),
    ]


@given(found=labelled())
def test_padding_adds_half_as_many_messages_and_leaves_the_others(found: Thread) -> None:
    perturbed = perturb(found, ["padding"])
    n = len(found.messages)
    assert len(perturbed.messages) == n + (max(1, round(n / 2)) if n else 0)
    rest = iter(texts(perturbed))
    assert all(text in rest for text in texts(found))


def test_padding_is_varied() -> None:
    found = thread(*PLAIN * 40)
    added = Counter(texts(perturb(found, ["padding"]))) - Counter(texts(found))
    assert added.total() == 120
    assert len(added) > 80


def test_a_message_moves_by_less_than_five_places_when_shuffled() -> None:
    found = thread(*map(str, range(103)))
    shuffled = [int(text) for text in texts(perturb(found, ["order-shuffled"]))]
    assert sorted(shuffled) == list(range(103))
    assert {place // 5 - number // 5 for place, number in enumerate(shuffled)} == {0}


def test_times_stay_in_place_when_messages_are_shuffled() -> None:
    perturbed = perturb(plain(), ["order-shuffled"])
    assert [m.sent_at for m in perturbed.messages] == [m.sent_at for m in plain().messages]
    assert {(m.message_id, m.text) for m in perturbed.messages} == {(m.message_id, m.text) for m in plain().messages}


@given(found=labelled())
def test_renaming_leaves_what_is_written_and_when(found: Thread) -> None:
    perturbed = perturb(found, ["authors-renamed"])
    assert [(m.text, m.sent_at) for m in perturbed.messages] == [(m.text, m.sent_at) for m in found.messages]


def test_renamed_suspects_are_the_same_authors() -> None:
    perturbed = perturb(plain(suspects=["c", "a"]), ["authors-renamed"])
    assert perturbed.suspects == (perturbed.messages[5].author, perturbed.messages[0].author)
    assert not {m.author for m in perturbed.messages} & {"a", "b", "c"}


@pytest.mark.parametrize(
    ("name", "stated"),
    [*((name, 1 / 2) for name in BY_HAND), *((f"{name}-throughout", 1) for name in BY_HAND), ("typing-errors", 1 / 3)],
)
def test_the_share_of_changed_words_is_as_stated(name: str, stated: float) -> None:
    found = thread(*["garden tea"] * 2000)
    left = Counter(words(perturb(found, [name])))
    assert 1 - (left["garden"] + left["tea"]) / 4000 == pytest.approx(stated, abs=0.03 if stated < 1 else 0)


@pytest.mark.parametrize("name", BY_HAND)
def test_half_of_the_words_and_all_of_them_are_changed_alike(name: str) -> None:
    some, every = (
        {texts(perturb(thread("kettle"), [one], seed))[0] for seed in range(400)}
        for one in (name, f"{name}-throughout")
    )
    assert some - {"kettle"} == every
    assert describe(name).replace("half of the words", "all words") == describe(f"{name}-throughout") != describe(name)


def test_a_change_by_hand_whose_name_is_taken_registers_nothing() -> None:
    perturbation("other-throughout")(PERTURBATIONS["padding"])
    before = dict(PERTURBATIONS)
    for name, taken in (("leet", "leet-throughout"), ("other", "other-throughout")):
        with pytest.raises(ValueError, match=f"already is a perturbation '{taken}'"):
            by_hand(name)(lambda word, _: word)
    assert before == PERTURBATIONS
    del PERTURBATIONS["other-throughout"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("leet", "kettle", "k377l3"),
        ("letters-spaced", "kettle", "k e t t l e"),
        ("vowels-dropped", "orange", "orng"),
        ("abbreviations", "You are GREAT", "u r gr8"),
        ("upper-case", "Tea, now?", "TEA, NOW?"),
        ("alternating-case", "tea time", "TeA TiMe"),
        ("bare-text", "Don't, stop! :) tea 2day \u2764\ufe0f", "dont stop  tea 2day "),
        ("full-width", "aZ 7!", "\uff41\uff3a 7!"),
    ],
)
def test_a_text_becomes_what_the_description_says(name: str, text: str, expected: str) -> None:
    assert expected in {texts(perturb(thread(text), [name], seed))[0] for seed in range(20)}


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("letters-repeated", r"(k+e+t+t+l+e+)"),
        ("letters-masked", r"k[*]ttle|ke[*]tle|ket[*]le|kett[*]e"),
        ("words-separated", r"(?=.{7}$)k[.,_-]?e[.,_-]?t[.,_-]?t[.,_-]?l[.,_-]?e"),
        ("typing-errors", r"(?=.{6}$)[kjl]?.*"),
        ("zero-width", r"k(\W)e\1t\1t\1l\1e"),
        ("combining-marks", r"k(\W)e\1t\1t\1l\1e"),
        ("homoglyphs", r"[^a-z]ettle|k[^a-z]ttl[^a-z]|kettle"),
        ("punctuation-flood", r"kettle[^\w\s]{1,3}"),
        ("emoji-flood", r"kettle[^\w\s]{1,2}"),
    ],
)
def test_a_word_takes_the_forms_that_the_description_says(name: str, pattern: str) -> None:
    forms = {texts(perturb(thread("kettle"), [name], seed))[0] for seed in range(60)}
    assert len(forms) > 1
    assert all(re.fullmatch(pattern, form) or form == "kettle" for form in forms)


def test_a_mistyped_word_has_a_neighbouring_key_or_two_letters_swapped() -> None:
    forms = {texts(perturb(thread("tea"), ["typing-errors"], seed))[0] for seed in range(200)}
    assert forms == {"tea", "eta", "tae", "rea", "yea", "twa", "tra"}


# --- what a model sees of it -------------------------------------------------------------------------------------


def scores(found: Iterable[Thread]) -> list[float]:
    return [assessment.score for assessment in bundled().assess_many(found)]


@needs_bundled_model
@pytest.mark.parametrize(
    "name", ["full-width", "zero-width", "combining-marks", "upper-case", "alternating-case", "authors-renamed"]
)
def test_what_normalization_undoes_leaves_the_score(name: str) -> None:
    found = list(read_threads(EXAMPLES))
    assert scores(perturb(one, [name]) for one in found) == scores(found)


@needs_bundled_model
def test_look_alikes_leave_the_score_but_for_greek_capitals_whose_small_letters_look_like_others() -> None:
    spared = str.maketrans("HNY", "hny")  # the small letters of these in Greek look like n, v and u
    found = [rewrite(one, lambda text: text.translate(spared)) for one in read_threads(EXAMPLES)]
    assert scores(perturb(one, ["homoglyphs"]) for one in found) == scores(found)


@needs_bundled_model
def test_perturbations_that_normalization_does_not_undo_change_the_score() -> None:
    found = list(read_threads(EXAMPLES))
    for name in ("leet", "letters-spaced", "typing-errors", "vowels-dropped", "words-separated", "padding"):
        assert scores(perturb(one, [name]) for one in found) != scores(found), name


@needs_bundled_model
def test_the_suspect_of_a_renamed_thread_is_the_same_author() -> None:
    for found in read_threads(EXAMPLES):
        renamed = perturb(found, ["authors-renamed"])
        names = {m.author: n.author for m, n in zip(found.messages, renamed.messages, strict=True)}
        before, after = bundled().assess(found), bundled().assess(renamed)
        assert before.suspect is not None
        assert after.suspect == names[before.suspect]
