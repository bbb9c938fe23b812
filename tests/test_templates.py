"""Invented threads: the same for the same seed, varied, mild, and with nothing in common between the two kinds."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from builders import error_of
from cli import run
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import threads

from grooming_flag import DataError, Thread, read_threads
from grooming_flag.evaluation.templates import KINDS, Family, families, generate
from grooming_flag.evaluation.templates.families import read_family
from grooming_flag.evaluation.templates.grammar import Choice, Filler, Text, parse, slots_of
from grooming_flag.evaluation.templates.styles import Writer, load_styles
from grooming_flag.io.threads import thread_writer

N = 500  # threads of each family
DISTINCT_MESSAGES = 3_000  # of N threads, but for case and punctuation; half of our thinnest family has 2,900
COMMONEST = 0.01  # share of one message, at most
SENTENCE = 5  # words of the shortest sentence that the two kinds may not both have; "see you then" is anybody's
FRAME = 6  # words in a row, which no template of the one kind shares with any of the other
COMMON_SHARE = 0.03  # of the runs of four words, most of them plain English such as "do you want to"
ANY = "_"  # stands for the value of a slot
NOT_MILD = re.compile(
    r"\b(?:sex\w*|nud(?:e|es|ity)|naked|kiss\w*|porn\w*|rap(?:e|ed|ist)|horny|virgin|undress\w*|underwear|bra|panties"
    r"|breasts?|boobs?|butt|bikini|shower\w*|massage|cuddl\w+|drunk|drugs|suicide|slut|whore|bitch"
    r"|fuck\w*|shit\w*|damn)\b",
    re.IGNORECASE,
)
ALL = [(kind, name) for kind in KINDS for name in families(kind)]
each_family = pytest.mark.parametrize(("kind", "name"), ALL)

SMALL = """
what = "a test"
label = 0
roles = ["one", "two"]
openers = "one: Hello {who}.\\n\\ntwo: Hi."
topics = "one: [Tea|Cocoa] in the {place}?\\ntwo: Yes, {who}."
closers = "two: Bye."
[slots]
place = ["garden", "{room}"]
room = ["kitchen"]
[fixed]
who = ["friend", "neighbor"]
"""
SMALL_COMMON = """
small_talk = "a: It is {weather}.\\nb: Is it?"
[slots]
weather = ["sunny", "windy"]
"""


@cache
def drawn(kind: str, name: str) -> list[Thread]:
    return list(generate(name, N, kind=kind))


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def runs(text: Text, length: int) -> set[tuple[str, ...]]:
    """Return all runs of so many words that a text can come out with; a slot counts as a word, and comes once."""
    found: set[tuple[str, ...]] = set()

    def follow(part: Text, tails: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
        for piece in part:
            if isinstance(piece, Choice):
                tails = set().union(*(follow(option, tails) for option in piece.options))
                continue
            for word in words(piece) if isinstance(piece, str) else [ANY]:
                whole = {(*tail, word) for tail in tails}
                found.update(one for one in whole if len(one) == length)
                tails = {one[-length + 1 :] for one in whole}
        return tails

    follow(text, {()})
    return {one for one in found if one.count(ANY) <= 1}


def texts_of(family: Family) -> Iterator[tuple[str, Text]]:
    """Yield where each text of a family is, and the text."""
    for group in ("openers", "topics", "closers", "small_talk"):
        for number, exchange in enumerate(getattr(family, group)):
            for line in exchange:
                yield f"{family.kind}/{family.name}, {group}, exchange {number}", line.text
    for slot, values in family.slots.items():
        for value in values:
            yield f"{family.kind}/{family.name}, slot {slot}", value


def runs_of(kind: str, length: int) -> dict[tuple[str, ...], str]:
    """Return the runs of words of all templates of a kind, and where each is."""
    texts = [found for family in families(kind).values() for found in texts_of(family)]
    return {one: place for place, text in texts for one in runs(text, length)}


def sentences_of(kind: str) -> dict[tuple[str, ...], str]:
    """Return the sentences that authors of a kind send, as words, and a thread of each."""
    sent = (
        (tuple(words(one)), thread.thread_id)
        for name in families(kind)
        for thread in drawn(kind, name)
        for message in thread.messages
        for one in re.split(r"[.?!]", message.text.replace("'", ""))
    )
    return {one: thread_id for one, thread_id in sent if len(one) >= SENTENCE}


def common(one: dict[tuple[str, ...], str], two: dict[tuple[str, ...], str]) -> list[str]:
    return [f"{' '.join(found)}: {one[found]}; {two[found]}" for found in sorted(one.keys() & two.keys())]


def small_family(old: str = "", new: str = "", common: str = SMALL_COMMON) -> Family:
    assert old in SMALL
    return read_family("small", "judging", SMALL.replace(old, new, 1), common)


# --- the two kinds ---------------------------------------------------------------------------------------------------


def test_both_kinds_have_the_same_families_ordinary_and_risk_patterned() -> None:
    one, two = (families(kind) for kind in KINDS)
    assert list(one) == list(two) == sorted(one)
    assert all(one[name].label == two[name].label for name in one)
    labels = Counter(family.label for family in one.values())
    assert labels[0] >= 12
    assert labels[1] >= 1


def test_the_kinds_share_no_frame() -> None:
    assert common(*(runs_of(kind, FRAME) for kind in KINDS)) == []
    one, two = (runs_of(kind, 4).keys() for kind in KINDS)
    assert len(one & two) <= COMMON_SHARE * min(len(one), len(two))


def test_the_kinds_share_no_sentence() -> None:
    one, two = (sentences_of(kind) for kind in KINDS)
    assert min(len(one), len(two)) > 10_000
    assert common(one, two) == []


def test_each_kind_has_threads_of_its_own() -> None:
    [one], [two] = (list(generate("parents_pickups", 1, kind=kind)) for kind in KINDS)
    assert one.thread_id == "template/judging/parents_pickups/0"
    assert two.thread_id == "template/training/parents_pickups/0"
    assert one.messages != two.messages


# --- each family -----------------------------------------------------------------------------------------------------


@each_family
def test_a_thread_depends_on_the_seed_and_its_number_alone(kind: str, name: str) -> None:
    first = list(generate(name, 3, kind=kind))
    assert first == drawn(kind, name)[:3]
    assert first == list(generate(name, 3, 0, kind))
    others = list(generate(name, 3, 1, kind))
    assert all(one.messages != two.messages for one, two in zip(first, others, strict=True))


@each_family
def test_threads_differ_and_say_many_things(kind: str, name: str) -> None:
    texts = [tuple(message.text for message in thread.messages) for thread in drawn(kind, name)]
    said = Counter(" ".join(words(text)) for thread in texts for text in thread)
    assert len(set(texts)) >= 0.99 * N
    assert len(said) >= DISTINCT_MESSAGES
    assert said.most_common(1)[0][1] <= COMMONEST * said.total()


@each_family
def test_threads_are_as_long_as_chats_are(kind: str, name: str) -> None:
    lengths = sorted(len(thread.messages) for thread in drawn(kind, name))
    assert 2 <= lengths[0] <= lengths[N // 20] <= 12
    assert 12 <= lengths[N // 2] <= 26
    assert 30 <= lengths[N * 9 // 10] <= 65
    assert 60 <= lengths[-1] <= 160


@each_family
def test_all_take_part_and_the_suspect_is_one_of_them(kind: str, name: str) -> None:
    family = families(kind)[name]
    for thread in drawn(kind, name):
        authors = {message.author for message in thread.messages}
        assert 2 <= len(authors) <= len(family.roles)
        assert all(re.fullmatch(r"u\d{4,6}", author) for author in authors)
        assert thread.label == family.label
        assert len(thread.suspects) == family.label
        assert authors >= set(thread.suspects)
    spoken = {line.role for exchange in family.openers + family.topics + family.closers for line in exchange}
    assert spoken == set(family.roles)


@each_family
def test_nothing_is_left_unfilled_and_time_goes_on(kind: str, name: str) -> None:
    for thread in drawn(kind, name):
        times = [message.sent_at for message in thread.messages if message.sent_at is not None]
        assert len(times) == len(thread.messages)
        assert times == sorted(times)
        for message in thread.messages:
            assert message.text == " ".join(message.text.split())
            assert re.search(r"\w|[^\x00-\x7f]", message.text)
            assert not re.search(r"[\[\]{}|]|^[,.]| [,.?!]", message.text)


@each_family
def test_every_slot_is_used_and_every_text_is_mild(kind: str, name: str) -> None:
    family = families(kind)[name]
    used = {slot for _, text in texts_of(family) for slot in slots_of(text)}
    assert set(family.slots) - used <= slots_of_all(kind)
    assert [place for place, text in texts_of(family) if any(map(NOT_MILD.search, pieces(text)))] == []


def slots_of_all(kind: str) -> frozenset[str]:
    """Return the slots that all families of a kind have."""
    return frozenset.intersection(*(frozenset(family.slots) for family in families(kind).values()))


def pieces(text: Text) -> Iterator[str]:
    for piece in text:
        if isinstance(piece, str):
            yield piece
        elif isinstance(piece, Choice):
            for option in piece.options:
                yield from pieces(option)


# --- grammar ---------------------------------------------------------------------------------------------------------


def test_a_slot_keeps_its_value_in_an_exchange_and_changes_it_in_the_next() -> None:
    slots = {"day": [parse(day) for day in ("Monday", "Tuesday", "Friday")]}
    filler = Filler(slots, frozenset(), Random(0).random)
    values = []
    for _ in range(20):
        filler.next_exchange()
        first, again, other = filler.fill(parse("{day} {day} {day+}")).split()
        assert first == again != other
        values += [first, other]
    assert all(one != two for one, two in pairwise(values))


def test_a_fixed_slot_keeps_its_value_in_a_thread() -> None:
    slots = {"who": [parse("a [b|c|d|e|f]"), parse("g")]}
    filler = Filler(slots, frozenset({"who"}), Random(3).random)
    values = set()
    for _ in range(20):
        filler.next_exchange()
        values.add(filler.fill(parse("{who}")))
    assert len(values) == 1


def test_choices_nest_and_leave_no_stray_spaces_or_commas() -> None:
    filler = Filler({}, frozenset(), Random(0).random)
    found = {filler.fill(parse("[[Yes|No], |]fine[ [then|so]|] .")) for _ in range(200)}
    assert found == {f"{a}fine{b}." for a in ("Yes, ", "No, ", "") for b in (" then", " so", "")}


@pytest.mark.parametrize("text", ["[a|b", "a]", "a|b", "{a b}", "a}", "{"])
def test_a_text_with_a_bracket_amiss_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^has a "):
        parse(text)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_small_family_is_read() -> None:
    family = small_family()
    assert family.roles == ("one", "two")
    assert [len(family.openers), len(family.topics), len(family.closers), len(family.small_talk)] == [2, 1, 1, 1]
    assert family.fixed == {"who"}
    assert set(family.slots) == {"place", "room", "who", "weather"}


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("label = 0", "label = 0\nlabel = 0", "not TOML"),
        ("label = 0", "", "label"),
        ("label = 0", "label = 2", "label"),
        ("label = 0", "label = 1", "suspect"),
        ("label = 0", 'label = 0\nsuspect = "one"', "suspect"),
        ("label = 0", 'label = 1\nsuspect = "three"', "suspect"),
        ("label = 0", "label = 0\nlength = 3", "length"),
        ("label = 0", "label = 0\nsmall_talk = 1.0", "small_talk"),
        ("label = 0", 'label = 0\nstyles = { three = ["plain"] }', "styles"),
        ("label = 0", 'label = 0\nstyles = { one = ["latin"] }', "styles"),
        ("label = 0", "label = 0\nstyles = { one = [] }", "styles"),
        ('["one", "two"]', '["one"]', "roles"),
        ('["one", "two"]', '["one", "two", "two"]', "roles"),
        ("two: Bye.", "", "closers"),
        ("two: Bye.", "three: Bye.", "closers, line 1"),
        ("two: Bye.", "two:", "closers, line 1"),
        ("two: Yes, {who}.", "two: Yes, {whom}.", "topics, line 2"),
        ("[Tea|Cocoa]", "[Tea|Cocoa", "topics, line 1"),
        ('"{room}"', '"{roof}"', "place"),
        ('["kitchen"]', "[]", "slots.room"),
        ('["kitchen"]', '["hall", "kitchen]"]', "slots.room[1]"),
        ('["kitchen"]', '["by the {place}"]', "slot place"),
        ("[fixed]", '[fixed]\nplace = ["hall"]', "fixed"),
    ],
)
def test_a_file_that_is_amiss_is_refused_with_its_name_and_the_key(old: str, new: str, place: str) -> None:
    message = str(error_of(lambda: small_family(old, new), DataError))
    assert message.startswith("judging/small.toml: ")
    assert place in message
    assert "Cocoa" not in message


def test_a_common_file_that_is_amiss_is_refused_with_its_name() -> None:
    for old, new in (("a: It", "c: It"), ("{weather}", "{rain}"), ("[slots]", "[slot]"), ('"windy"', '"]"')):
        bad = SMALL_COMMON.replace(old, new)
        assert str(error_of(lambda bad=bad: small_family(common=bad), DataError)).startswith("judging/_common.toml: ")


def test_an_unknown_kind_or_family_is_refused_before_anything_is_drawn() -> None:
    assert "judging or training" in str(error_of(lambda: families("test"), DataError))
    assert "parents_pickups" in str(error_of(lambda: generate("nobody", 1), DataError))


# --- styles ----------------------------------------------------------------------------------------------------------


def test_there_are_several_styles_and_they_are_mild() -> None:
    styles = load_styles()
    assert len(styles) >= 6
    for style in styles.values():
        forms = [*style.starts, *style.ends, *style.asks, *(form for forms in style.words.values() for form in forms)]
        assert all(forms)
        assert not any(map(NOT_MILD.search, forms))


@pytest.mark.parametrize("style", list(load_styles()))
def test_every_form_of_a_style_is_reached(style: str) -> None:
    table = load_styles()[style].words
    for phrase, forms in table.items():
        if f"^{phrase}" in table:
            continue  # which is at the start of a message
        typed = [Writer(style, Random(seed), laughs=False).messages(phrase.removeprefix("^")) for seed in range(99)]
        said = {one.lower().replace("'", "") for [one] in typed}
        assert {form.lower().replace("'", "") for form in forms} <= said, phrase


def test_a_form_for_the_start_of_a_message_stays_there() -> None:
    said = {
        one.lower() for seed in range(60) for one in Writer("us_teen", Random(seed), False).messages("Ok, is it ok")
    }
    assert any(one.startswith("bet, ") for one in said)
    assert not any(one.endswith("bet") for one in said)


def test_an_author_who_does_not_laugh_adds_no_word() -> None:
    for style in load_styles():
        for seed in range(30):
            assert "".join(Writer(style, Random(seed), False).messages("Kettle")).lower() in (
                "kettle",
                "kettel",
                "ketle",
            )


def test_sentences_may_be_sent_one_by_one_but_names_are_not_cut() -> None:
    said = [Writer("lowercase", Random(seed), False).messages("Ask Mr. Tan. Is it far? Ok.") for seed in range(60)]
    assert {len(messages) for messages in said} == {1, 2, 3}
    assert not any(message.endswith("mr.") for messages in said for message in messages)


# --- writing ---------------------------------------------------------------------------------------------------------


@given(threads(), st.sampled_from(["", ".gz", ".zst"]))
def test_a_thread_that_is_written_is_read_back(thread: Thread, end: str) -> None:
    assume(thread.messages)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"threads.jsonl{end}"
        with thread_writer(path) as write:
            write(thread)
        assert list(read_threads(path)) == [thread]


def test_a_file_of_threads_appears_when_it_is_complete(tmp_path: Path) -> None:
    def stop_half_way() -> None:
        with thread_writer(tmp_path / "threads.jsonl.gz") as write:
            write(drawn("judging", "teen_friends")[0])
            raise ValueError

    error_of(stop_half_way, ValueError)
    assert list(tmp_path.iterdir()) == []


# --- command ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", ".gz", ".zst"])
def test_the_command_writes_the_threads_of_a_family(tmp_path: Path, end: str) -> None:
    paths = [tmp_path / f"{name}.jsonl{end}" for name in ("one", "two")]
    for path in paths:
        options = ("--family", "teen_friends", "--family", "parents_pickups", "--threads", 4, "--seed", 5)
        ran = run("generate", "-o", path, *options, "--kind", "training")
        assert (ran.status, ran.out) == (0, b"")
    expected = [
        thread for name in ("teen_friends", "parents_pickups") for thread in generate(name, 4, seed=5, kind="training")
    ]
    assert list(read_threads(paths[0])) == expected
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert f"8 threads with {sum(len(thread.messages) for thread in expected)} messages" in ran.err


def test_the_command_takes_all_families_of_the_judging_kind_by_default() -> None:
    ran = run("generate", "-o", "-", "--threads", 1)
    assert ran.status == 0
    found = [json.loads(line) for line in ran.out.splitlines()]
    assert [thread["thread_id"] for thread in found] == [f"template/judging/{name}/0" for name in families()]
    assert [thread["label"] for thread in found] == [family.label for family in families().values()]


@pytest.mark.parametrize(
    ("options", "status"), [(("--family", "nobody"), 1), (("--kind", "test"), 2), (("--threads", 0), 2), ((), 0)]
)
def test_the_command_refuses_what_is_not_there(tmp_path: Path, options: tuple[object, ...], status: int) -> None:
    target = tmp_path / "out.jsonl"
    ran = run("generate", "-o", target, *(options or ("--family", "teen_friends", "--threads", 1)))
    assert ran.status == status
    assert target.exists() == (status == 0)
    assert "Traceback" not in ran.err
