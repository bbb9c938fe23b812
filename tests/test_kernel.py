"""The kernel, compiled and interpreted, against the oracle: every message, any settings, exactly."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import hypothesis
import numpy as np
import oracle
import pytest
import strategies
from conftest import interpreted_kernel
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracle import Settings
from scipy.sparse import csr_matrix

from grooming_flag import FeatureExtractor, Message, Thread, features
from grooming_flag.features import OWN, POOLED, Packed, Scanner, Sums, pack_by_author, pack_by_message

pytestmark = pytest.mark.usefixtures("backend")

DEFAULT = Settings()
SMALL = Settings(n_features=2**8)
WORDS_ONLY = Settings(word_ngrams=1, char_ngrams=None)
BITTEN = "kettle \u2615 tea\u0301 @lantern www.garden.example \U0001f1eb\U0001f1f7 don\u2019t"

Emitted = tuple[Sums, NDArray[np.int32], NDArray[np.int32]]


def extractor(settings: Settings) -> FeatureExtractor:
    return FeatureExtractor(
        settings.n_features, settings.word_ngrams, settings.char_ngrams, seed=settings.seed, key=settings.key
    )


def pairs(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.author, message.text) for message in messages]


@cache
def random_weights(n_features: int) -> NDArray[np.int16]:
    """Return weights for risk and attribution, no bucket without any."""
    chance = np.random.default_rng(n_features)
    weights = chance.integers(-(2**15), 2**15, size=(n_features, 2), dtype=np.int16)
    weights[~weights.any(axis=1)] = 1
    return weights


@cache
def sparse_weights(n_features: int) -> NDArray[np.int16]:
    """Return weights of which half are zero: a bucket in four has none."""
    chance = np.random.default_rng(n_features)
    return random_weights(n_features) * chance.integers(0, 2, size=(n_features, 2), dtype=np.int16)


def scanner_with_weights(settings: Settings) -> Scanner:
    return extractor(settings).scanner(random_weights(settings.n_features))


def row_sets(rows: csr_matrix) -> list[set[int]]:
    """Return the columns of each sparse row, having checked that each occurs once, in order, and holds 1.0."""
    assert rows.dtype == np.float64
    assert (rows.data == 1).all()
    found = [rows.indices[a:b].tolist() for a, b in pairwise(rows.indptr)]
    assert len(found) == rows.shape[0]
    assert all(row == sorted(set(row)) for row in found)
    return [set(row) for row in found]


def pooled_row(messages: Sequence[Message], settings: Settings) -> set[int]:
    return row_sets(extractor(settings).transform([Thread("t", messages)]))[0]


def own_rows(messages: Sequence[Message], settings: Settings) -> dict[str, set[int]]:
    packed = pack_by_author([messages])
    return dict(zip(packed.authors, row_sets(extractor(settings).rows(packed, by=OWN)), strict=True))


def buckets_of_text(text: str, settings: Settings = DEFAULT) -> set[int]:
    return pooled_row([Message("a", text)], settings)


def buckets_of_words(*words: str) -> set[int]:
    return {oracle.bucket("word", (word,), WORDS_ONLY) for word in words}


def pack_bytes(*messages: bytes) -> Packed:
    """Pack bytes that need not be UTF-8, each message a slot of the one segment."""
    return pack_slices(b"".join(messages), [len(message) for message in messages])


def pack_slices(text: bytes | memoryview, lengths: Sequence[int]) -> Packed:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    slots = np.arange(len(lengths), dtype=np.int32)
    return Packed(text, offsets, slots, np.zeros_like(slots), [str(slot) for slot in slots], 1)  # type: ignore[arg-type]


def slices(emitted: Emitted, by: int = OWN) -> list[list[tuple[int, int, int]]]:
    """Return (bucket, start, stop) of what each slot emitted, in the order of the kernel."""
    sums, indices, spans = emitted
    ends = np.cumsum(sums.distinct if by == OWN else sums.new).tolist()
    rows = np.column_stack([indices, spans]).tolist()
    return [[tuple(row) for row in rows[a:b]] for a, b in pairwise([0, *ends])]


def same(a: Emitted, b: Emitted) -> bool:
    (sums_a, *arrays_a), (sums_b, *arrays_b) = a, b
    every: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (sums_a.pooled, sums_b.pooled),
        (sums_a.own, sums_b.own),
        (sums_a.new, sums_b.new),
    ]
    every += [(sums_a.distinct, sums_b.distinct), *zip(arrays_a, arrays_b, strict=True)]
    return all(np.array_equal(x, y) for x, y in every)


# --- the definition, in readable form ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t\u00a0\u3000", []),
        ("Hello, world", ["helo", "world"]),
        ("snake_case-and.dots", ["snake", "case", "and", "dots"]),
        ("don't don\u2019t DON`T", ["dont", "dont", "dont"]),
        ("heyyyyyy goood soo too", ["hey", "god", "so", "to"]),
        ("he\u200byy\u0301y", ["hey"]),
        ("aAaa\u0430", ["a"]),
        ("7 42 2024", ["0", "00", "00"]),
        ("1-1-1...!!!", ["0", "0", "0"]),
        ("\u00bd", ["0", "0"]),
        ("caf\u00e9 cafe\u0301 \uff23\uff21\uff26\uff25", ["cafe", "cafe", "cafe"]),
        ("\ufb01sh stra\u00dfe", ["fish", "strase"]),
        ("\u0441\u0430t", ["cat"]),
        ("\U0001f468\u200d\U0001f469 hi \U0001f44b\U0001f3fd", ["hi"]),
        ("a\ud800b", ["a", "b"]),
        ("abcdefgh" * 5, [("abcdefgh" * 4), "abcdefgh"]),
        ("see http://tea.example/kettle now", ["se", "U", "now"]),
        ("(see:https://tea.example)", ["U"]),
        ("www.tea WwWw.tea ww.tea w.tea (www.tea)", ["U", "U", "w", "tea", "w", "tea", "w", "tea"]),
        ("www. ww. www w\u200bww.tea \uff57ww.tea www\u2026", ["U", "w", "w", "w", "tea", "w", "tea", "U"]),
        ("aww tomorrow, will we?", ["aw", "tomorow", "wil", "we"]),
        ("kettle@tea.example, (kettle@tea.example)", ["E", "E"]),
        ("kettle@tea kettle@tea. kettle.tea@a", ["ketle", "tea", "ketle", "tea", "ketle", "tea", "a"]),
        ("kettle@.tea @@tea.example", ["E", "E"]),
        ("@lantern @7! @@lantern @-a @", ["H", "H", "lantern", "a"]),
        ("@kettle.example @kettle://tea www.tea://a a@b.c://", ["H", "H", "U", "U"]),
        ("ab-" * 85 + "a b", ["ab"] * 85 + ["a", "b"]),  # 256 in the chunk
        ("ab-" * 85 + "abc", ["ab"] * 85 + ["a", "bc"]),  # two more, in a chunk of their own
        ("ab-" * 85 + "abbbb", ["ab"] * 85 + ["a", "b"]),
        ("ab-" * 85 + "aaaab", ["ab"] * 85 + ["a", "ab"]),
        ("ab-" * 84 + "xyzaaaab", ["ab"] * 84 + ["xyza", "ab"]),  # a chunk knows nothing of the one before
        ("a@b.c" + "/kettle" * 200 + " tea", ["E", "tea"]),
        ("http://" + "kettle/" * 200 + " tea", ["U", "tea"]),
        ("ab-" * 85 + "a@lantern @lantern", ["ab"] * 85 + ["a", "H", "H"]),
        ("ab-" * 85 + "a://tea :// tea", ["ab"] * 85 + ["a", "U", "U", "tea"]),
        ("h*llo, s**n *tea* tea**", ["h*lo", "s**n", "tea", "tea"]),  # an asterisk between letters stands for one
        ("2*3 a*-*b *", ["0*0", "a", "b"]),
        ("ab*" * 20, ["ab*" * 10 + "ab", "*" + "ab*" * 8 + "ab"]),
        ("@h*llo me@h*llo.tea http://h*llo", ["H", "E", "U"]),
        ("h e l l o there", ["helo", "there"]),
        ("i m so h a p p y", ["i", "m", "so", "hapy"]),
        ("i u, u u", ["i", "u", "u", "u"]),  # less than three
        ("u u u", ["u"]),
        ("a b 7 c d", ["a", "b", "0", "c", "d"]),
        ("a b c @tea d e", ["abc", "H", "d", "e"]),
        ("\uff33 \uff25 \uff25 u", ["seu"]),
        ("a b " * 17, ["ab" * 16, "a", "b"]),
        ("a b " * 20, ["ab" * 16, "ab" * 4]),
        ("ab-" * 90 + "http://tea" + "-kettle" * 99 + " tea", ["ab"] * 85 + ["a", "U", "tea"]),
    ],
)
def test_a_message_splits_into_these_words(text: str, words: list[str]) -> None:
    assert [word.text for word in oracle.words(text)] == words
    meant = [word.text for word, *_ in oracle.meant(text)]
    assert buckets_of_text(text, WORDS_ONLY) == buckets_of_words(*words, *meant)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("he.llo, th/ere! ok...then h*llo", ["helo", "there", "okthen"]),
        ("h-e_l.l,o (well) well. ...well", ["helo"]),
        ("h3ll0 t3st 5-4-y", ["helo", "test"]),
        ("gr8 b4 2day u2 16m 7357", ["gr", "ba", "day"]),  # as many letters as digits, or more; a letter alone is none
        ("10:30 1,000 1st 22nd", ["ist", "nd"]),
        ("http://h3llo.example @h3llo h3llo@tea.example", []),
        ("a.b" * 16, ["ab" * 16]),
        ("a.b" * 16 + "c", []),
        ("ab-" * 85 + "a7a", ["ta"]),  # in a chunk of its own
    ],
)
def test_what_is_spelt_to_pass_unnoticed_is_also_the_word_that_is_meant(text: str, words: list[str]) -> None:
    assert [word.text for word, *_ in oracle.meant(text)] == words
    plain = [word.text for word in oracle.words(text)]
    assert buckets_of_text(text, WORDS_ONLY) == buckets_of_words(*plain, *words)


def test_a_word_as_it_is_meant_has_the_features_of_the_word() -> None:
    plain = buckets_of_text("my kettle sings", DEFAULT)
    for text in ("my ket.tle sings", "my k3ttl3 sings"):
        assert plain < buckets_of_text(text, DEFAULT)
    assert buckets_of_text("my k e t t l e sings", DEFAULT) == plain


def test_features_are_words_pairs_and_the_character_ngrams_within_a_padded_word() -> None:
    found = oracle.features("My tea, my TEA", Settings(char_ngrams=(3, 4)))
    assert {(family, *texts) for family, texts, _ in found} == {
        ("word", "my"),
        ("word", "tea"),
        ("pair", "my", "tea"),
        ("pair", "tea", "my"),
        ("character", " my"),
        ("character", "my "),
        ("character", " te"),
        ("character", "tea"),
        ("character", "ea "),
        ("character", " tea"),
        ("character", "tea "),
    }
    settings = Settings(char_ngrams=(3, 4))
    assert buckets_of_text("My tea, my TEA", settings) == {oracle.bucket(*feature[:2], settings) for feature in found}


def test_pairs_do_not_reach_into_the_next_message() -> None:
    settings = Settings(char_ngrams=None)
    apart = pooled_row([Message("a", "tea"), Message("a", "kettle")], settings)
    assert apart == {oracle.bucket("word", (word,), settings) for word in ("tea", "ketle")}
    assert buckets_of_text("tea kettle", settings) - apart == {oracle.bucket("pair", ("tea", "ketle"), settings)}


@pytest.mark.parametrize(("pair", "other"), [("of got", "op get"), ("of got", "st cat"), ("to bit", "is met")])
def test_different_pairs_of_words_fall_in_different_buckets(pair: str, other: str) -> None:
    settings = Settings(n_features=2**24, char_ngrams=None)
    assert len(buckets_of_text(pair, settings)) == len(buckets_of_text(other, settings)) == 3
    assert len(pooled_row([Message("a", pair), Message("a", other)], settings)) == 6


# --- rows --------------------------------------------------------------------------------------------------------


@given(strategies.conversations(), strategies.settings())
def test_the_row_of_a_thread_has_the_pooled_buckets_of_the_oracle(messages: list[Message], settings: Settings) -> None:
    assert pooled_row(messages, settings) == oracle.pooled_buckets(pairs(messages), settings)


@given(strategies.conversations(), strategies.settings())
def test_the_row_of_an_author_has_the_own_buckets_of_the_oracle(messages: list[Message], settings: Settings) -> None:
    expected = oracle.own_buckets(pairs(messages), settings)
    found = own_rows(messages, settings)
    assert found == expected
    assert list(found) == list(expected)


@given(strategies.conversations(), strategies.settings())
def test_the_own_buckets_of_all_authors_make_up_the_pooled_ones(messages: list[Message], settings: Settings) -> None:
    assert pooled_row(messages, settings) == set().union(*own_rows(messages, settings).values())


def test_threads_without_messages_have_empty_rows() -> None:
    assert FeatureExtractor().transform([]).shape == (0, 2**17)
    assert row_sets(FeatureExtractor().transform([Thread("t", [])])) == [set()]
    rows = FeatureExtractor().transform([Thread("t", []), Thread("t", [Message("a", "tea")]), Thread("t", [])])
    assert row_sets(rows) == [set(), buckets_of_text("tea"), set()]


@pytest.mark.parametrize("n_features", [2**8, 2**16, 2**24])
def test_the_fewest_and_the_most_buckets_agree_with_the_oracle(n_features: int) -> None:
    settings = Settings(n_features=n_features)
    assert buckets_of_text(BITTEN, settings) == oracle.buckets([BITTEN], settings)


# --- sums and counts ---------------------------------------------------------------------------------------------


@given(strategies.conversations(), strategies.settings(), st.sampled_from([random_weights, sparse_weights]))
def test_sums_of_weights_are_exactly_those_of_the_oracle(
    messages: list[Message], settings: Settings, weigh: Callable[[int], NDArray[np.int16]]
) -> None:
    weights = weigh(settings.n_features)
    sums = extractor(settings).scanner(weights).sums(pack_by_author([messages]))
    assert sums.pooled.tolist() == [oracle.pooled_sum(pairs(messages), settings, weights)]
    assert sums.own.tolist() == oracle.own_sums(pairs(messages), settings, weights)


def check_new(sums: Sums, own: list[set[int]]) -> None:
    assert sums.new.tolist() == [len(buckets.difference(*own[:slot])) for slot, buckets in enumerate(own)]


@given(strategies.conversations(), strategies.settings())
def test_counts_say_what_is_distinct_and_what_is_new_to_the_segment(
    messages: list[Message], settings: Settings
) -> None:
    own = list(oracle.own_buckets(pairs(messages), settings).values())
    counts = extractor(settings).scanner().counts(pack_by_author([messages]))
    check_new(counts, own)
    assert counts.distinct.tolist() == [len(buckets) for buckets in own]


@given(strategies.conversations(), strategies.settings())
def test_buckets_without_weight_do_not_count(messages: list[Message], settings: Settings) -> None:
    weights = sparse_weights(settings.n_features)
    own = oracle.own_buckets(pairs(messages), settings).values()
    sums = extractor(settings).scanner(weights).sums(pack_by_author([messages]))
    check_new(sums, [oracle.with_weight(buckets, weights) for buckets in own])


@given(strategies.conversations(), strategies.settings(), st.sampled_from([random_weights, sparse_weights]))
def test_emitted_buckets_add_up_to_the_sums(
    messages: list[Message], settings: Settings, weigh: Callable[[int], NDArray[np.int16]]
) -> None:
    weights = weigh(settings.n_features)
    scanner = extractor(settings).scanner(weights)
    packed = pack_by_author([messages])
    sums = scanner.sums(packed)
    _, pooled, _ = scanner.emit(packed, POOLED)
    assert sums.pooled.tolist() == [weights[pooled, 0].sum(dtype=np.int64)]
    own = [[bucket for bucket, *_ in slot] for slot in slices(scanner.emit(packed, OWN))]
    assert sums.own.tolist() == [weights[buckets, 1].sum(dtype=np.int64) for buckets in own]


@pytest.mark.parametrize("by", [POOLED, OWN])
def test_buckets_without_weight_are_emitted_like_all_others(by: int) -> None:
    packed = pack_by_author([[Message("a", BITTEN), Message("b", "tea and kettle")]])
    without = FeatureExtractor().scanner().emit(packed, by)
    for weights in (sparse_weights(2**17), np.zeros((2**17, 2), np.int16)):
        assert same(FeatureExtractor().scanner(weights).emit(packed, by), without)


def test_the_largest_weights_do_not_overflow_a_sum() -> None:
    weights = np.full((2**17, 2), [2**15 - 1, -(2**15)], dtype=np.int16)
    text = " ".join(a + b + c + d for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwx" for d in "abcdefghijkl")
    packed = pack_by_message([[Message("a", text)]])
    sums = FeatureExtractor().scanner(weights).sums(packed)
    (n,) = FeatureExtractor().scanner().emit(packed, OWN)[0].distinct.tolist()
    assert n * 2**15 > 2**28
    assert (sums.pooled.tolist(), sums.own.tolist()) == ([n * (2**15 - 1)], [n * -(2**15)])


# --- spans -------------------------------------------------------------------------------------------------------


@given(st.lists(strategies.texts(), max_size=4), strategies.settings())
def test_every_span_is_that_of_a_feature_of_its_bucket(said: list[str], settings: Settings) -> None:
    packed = pack_by_message([[Message("a", text) for text in said]])
    for text, emitted in zip(said, slices(extractor(settings).scanner().emit(packed, OWN)), strict=True):
        expected = {(oracle.bucket(f.family, f.texts, settings), *f.span) for f in oracle.features(text, settings)}
        assert set(emitted) <= expected
        assert {bucket for bucket, *_ in emitted} == {bucket for bucket, *_ in expected}
        assert all(0 <= start < stop <= len(text) for _, start, stop in emitted)


@given(strategies.texts())
def test_the_text_in_the_span_of_a_word_is_that_word(text: str) -> None:
    packed = pack_by_message([[Message("a", text)]])
    (emitted,) = slices(extractor(WORDS_ONLY).scanner().emit(packed, OWN))
    whole = {(w.start, w.stop): w.text for w in oracle.words(text) if w.text not in "UEH"}
    meant = buckets_of_words(*[word.text for word, *_ in oracle.meant(text)])
    for bucket, start, stop in emitted:
        if (
            bucket not in meant
            and (start, stop) in whole
            and all(len(oracle.fold(char)) < 2 for char in text[start:stop])
        ):
            assert {bucket} == buckets_of_words(*[word.text for word in oracle.words(text[start:stop])])


@pytest.mark.parametrize(
    ("text", "texts", "quoted"),
    [
        ("so, KETTLE!", ("ketle",), "KETTLE"),
        ("tea \U0001f44b\U0001f3fd kettle", ("ketle",), "kettle"),
        ("\u05e9\u05dc tea", ("tea",), "tea"),
        ("a te\u0301a b", ("tea",), "te\u0301a"),
        ("my \u200btea", ("tea",), "tea"),
        ("heyyyyy you", ("hey",), "hey"),
        ("tea tea", ("tea",), "tea"),
        ("see http://tea.example?q=1 now", ("U",), "http://tea.example?q=1"),
        ("mail (kettle@tea.example)!", ("E",), "(kettle@tea.example)!"),
        ("hi @lantern, hi", ("H",), "@lantern,"),
        ("so, my kettle: sings", ("ketle", "sings"), "kettle: sings"),
        ("see http://tea.example now", ("se", "U"), "see http://tea.example"),
        ("\ufb01sh", ("fish",), "\ufb01sh"),
        ("\ud800 tea", ("tea",), "tea"),
    ],
)
def test_a_span_quotes_the_words_of_its_feature(text: str, texts: tuple[str, ...], quoted: str) -> None:
    settings = Settings(char_ngrams=None)
    (emitted,) = slices(extractor(settings).scanner().emit(pack_by_message([[Message("a", text)]]), OWN))
    bucket = oracle.bucket("word" if len(texts) == 1 else "pair", texts, settings)
    ((start, stop),) = [span for found, *span in emitted if found == bucket]
    assert text[start:stop] == quoted
    assert start == text.index(quoted)


def test_character_ngrams_have_the_span_of_the_first_word_that_has_them() -> None:
    settings = Settings(word_ngrams=1, char_ngrams=(3, 3))
    text = "kettle nettle"
    (emitted,) = slices(extractor(settings).scanner().emit(pack_by_message([[Message("a", text)]]), OWN))
    quoted = {bucket: text[start:stop] for bucket, start, stop in emitted}
    assert quoted[oracle.bucket("character", ("etl",), settings)] == "kettle"
    assert quoted[oracle.bucket("character", ("net",), settings)] == "nettle"


# --- what makes no difference ------------------------------------------------------------------------------------


@given(strategies.conversations(), strategies.settings(), st.randoms(use_true_random=False))
def test_a_repeated_message_adds_nothing(messages: list[Message], settings: Settings, chance: random.Random) -> None:
    repeated = messages + chance.choices(messages, k=3) if messages else []
    scanner = scanner_with_weights(settings)
    once, again = (scanner.sums(pack_by_author([said])) for said in (messages, repeated))
    assert np.array_equal(once.pooled, again.pooled)
    assert np.array_equal(once.own, again.own)
    assert np.array_equal(once.distinct, again.distinct)
    assert pooled_row(messages, settings) == pooled_row(repeated, settings)


@given(strategies.conversations(), strategies.settings(), st.randoms(use_true_random=False))
def test_the_order_of_messages_makes_no_difference(
    messages: list[Message], settings: Settings, chance: random.Random
) -> None:
    shuffled = chance.sample(messages, len(messages))
    assert pooled_row(messages, settings) == pooled_row(shuffled, settings)
    assert own_rows(messages, settings) == own_rows(shuffled, settings)
    scanner = scanner_with_weights(settings)
    packs = [pack_by_author([said]) for said in (messages, shuffled)]
    sums = [scanner.sums(packed) for packed in packs]
    assert np.array_equal(sums[0].pooled, sums[1].pooled)
    assert [dict(zip(p.authors, s.own.tolist(), strict=True)) for p, s in zip(packs, sums, strict=True)] == [
        dict(zip(packs[0].authors, sums[0].own.tolist(), strict=True))
    ] * 2


@given(st.lists(strategies.conversations(max_size=6), max_size=6), strategies.settings())
def test_a_packed_batch_gives_what_each_thread_gives_by_itself(batch: list[list[Message]], settings: Settings) -> None:
    scanner = scanner_with_weights(settings)
    together = scanner.sums(pack_by_author(batch))
    alone = [scanner.sums(pack_by_author([messages])) for messages in batch]
    for name in ("pooled", "own", "new"):
        parts = [getattr(sums, name) for sums in alone]
        assert getattr(together, name).tolist() == [row for part in parts for row in part.tolist()]
    rows = extractor(settings).transform([Thread("t", messages) for messages in batch])
    assert row_sets(rows) == [pooled_row(messages, settings) for messages in batch]


@given(st.lists(strategies.threads(), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_a_batch_orders_the_rows_and_changes_nothing_else(
    batch: list[Thread], chance: random.Random
) -> None:
    order = chance.sample(range(len(batch)), len(batch))
    rows = row_sets(FeatureExtractor().transform(batch))
    assert row_sets(FeatureExtractor().transform([batch[i] for i in order])) == [rows[i] for i in order]


@given(st.lists(strategies.conversations(max_size=4), max_size=6))
def test_a_scanner_that_is_used_again_remembers_nothing(batch: list[list[Message]]) -> None:
    used = scanner_with_weights(SMALL)
    for messages in batch:
        packed = pack_by_author([messages])
        for by in (POOLED, OWN, POOLED):
            fresh = scanner_with_weights(SMALL)
            assert same(used.emit(packed, by), fresh.emit(packed, by))


@given(strategies.messages(), strategies.settings())
def test_a_message_has_the_same_buckets_by_author_and_by_message(message: Message, settings: Settings) -> None:
    scanner = scanner_with_weights(settings)
    for by in (POOLED, OWN):
        assert same(scanner.emit(pack_by_author([[message]]), by), scanner.emit(pack_by_message([[message]]), by))


def test_another_seed_or_key_gives_other_buckets_and_an_empty_key_is_none() -> None:
    plain = buckets_of_text(BITTEN)
    assert buckets_of_text(BITTEN, Settings(key="")) == plain
    for other in (Settings(seed=1), Settings(seed=2**64 - 1), Settings(key="a"), Settings(key="b")):
        assert buckets_of_text(BITTEN, other) == oracle.buckets([BITTEN], other)
        assert len(buckets_of_text(BITTEN, other) & plain) < len(plain) // 10


# --- long and many -----------------------------------------------------------------------------------------------


def size_for(backend: str, size: int) -> int:
    """Return how much to ask of a kernel: the interpreted one is some hundred times slower."""
    return size if backend == "compiled" else size // 50


def babble(n_words: int) -> str:
    """Return words of a vocabulary of two thousand, links, emoji and other scripts among them."""
    chance = random.Random(7)
    vocabulary = [*strategies.WORDS, *strategies.LINKS, *strategies.CLUSTERS, "\u200b", "!!!", "soooo"]
    vocabulary += ["".join(chance.choices("abcdefgh", k=chance.randint(1, 9))) for _ in range(2000)]
    return " ".join(chance.choices(vocabulary, k=n_words))


def test_a_message_of_one_megabyte_agrees_with_the_oracle(backend: str) -> None:
    part = babble(10_000)
    text = (part + "\n") * (2 + size_for(backend, 10**6) // len(part))
    assert len(text) > size_for(backend, 10**6)
    assert buckets_of_text(text) == oracle.buckets([f"{part} {part}"], Settings())  # more copies add nothing


@pytest.mark.parametrize("unit", ["a", "ab", "ab.", "@", "tea-", "\u0301", "\U0001f44b", "\ufdfa", "http://", "a@b.c"])
def test_one_unbroken_line_of_thirty_thousand_characters_agrees_with_the_oracle(backend: str, unit: str) -> None:
    text = (unit * 30_000)[: size_for(backend, 30_000)] + " tea"
    assert buckets_of_text(text) == oracle.buckets([text], Settings())


def test_ten_thousand_messages_agree_with_the_oracle(backend: str) -> None:
    said = babble(30_000).split()
    chance = random.Random(1)
    messages = [
        Message(f"author {chance.randrange(5)}", " ".join(said[chance.randrange(20_000) :][: chance.randrange(6)]))
        for _ in range(size_for(backend, 10_000))
    ]
    assert pooled_row(messages, Settings()) == oracle.pooled_buckets(pairs(messages), Settings())
    assert own_rows(messages, Settings()) == oracle.own_buckets(pairs(messages), Settings())


def test_fifty_authors_agree_with_the_oracle() -> None:
    said = babble(3000).split()
    messages = [Message(f"author {i % 50}", " ".join(said[7 * i : 7 * i + 7])) for i in range(200)]
    weights = random_weights(2**17)
    sums = scanner_with_weights(Settings()).sums(pack_by_author([messages]))
    own = oracle.own_buckets(pairs(messages), Settings())
    assert len(own) == 50
    assert own_rows(messages, Settings()) == own
    assert sums.own.tolist() == oracle.own_sums(pairs(messages), Settings(), weights)
    assert sums.pooled.tolist() == [oracle.pooled_sum(pairs(messages), Settings(), weights)]


# --- bytes that are not UTF-8 ------------------------------------------------------------------------------------


def raw_messages() -> st.SearchStrategy[bytes]:
    """Bytes of any sort: text that was bitten off, lead bytes without what they lead, noise."""
    odd = st.sampled_from([b"\x80", b"\xbf", b"\xc3", b"\xe2\x98", b"\xf0\x9f\x91", b"\xff", b"\xf8\x88", b"\xc0"])
    part = st.one_of(st.sampled_from([b"tea ", b"@kettle", b"a" * 40, BITTEN.encode()]), odd, st.binary(max_size=6))
    bitten = st.builds(lambda cut: BITTEN.encode()[cut:], st.integers(0, 60))
    return st.one_of(st.lists(part, max_size=6).map(b"".join), bitten, st.binary(max_size=80))


def emit_bytes(*messages: bytes, settings: Settings = SMALL) -> list[list[tuple[int, int, int]]]:
    return slices(extractor(settings).scanner().emit(pack_bytes(*messages), OWN))


@given(st.lists(raw_messages(), max_size=5))
@example([bytes(range(256)), bytes(range(255, -1, -1))])
def test_any_bytes_give_buckets_in_range_and_spans_within_the_message(raw: list[bytes]) -> None:
    for message, emitted in zip(raw, emit_bytes(*raw), strict=True):
        assert all(0 <= bucket < SMALL.n_features for bucket, *_ in emitted)
        assert all(0 <= start < stop <= len(message) for _, start, stop in emitted)


@given(st.lists(raw_messages(), max_size=5))
@example([b"tea \xf0\x9f", b"\x91\x8b tea"])
@example([b"tea\xc3", b"\xa9", b"\x80"])
def test_a_message_is_never_read_beyond_its_end(raw: list[bytes]) -> None:
    assert emit_bytes(*raw) == [emit_bytes(message)[0] for message in raw]


@given(raw_messages(), st.binary(min_size=4, max_size=4), st.sampled_from([b"\x80\x80\x80\x80", b"\xbf" * 4, b"aaaa"]))
def test_bytes_around_the_buffer_make_no_difference(message: bytes, before: bytes, after: bytes) -> None:
    window = memoryview(before + message + after)[4 : 4 + len(message)]
    around = extractor(SMALL).scanner().emit(pack_slices(window, [len(message)]), OWN)
    assert slices(around) == emit_bytes(message)


@pytest.mark.parametrize("invalid", [b"\xff", b"\xfe\xff", b"\xf4\x90\x80\x80", b"\xe2\x98", b"\xc3"], ids=bytes.hex)
def test_words_next_to_bytes_that_are_not_utf8_are_still_found(invalid: bytes) -> None:
    (emitted,) = emit_bytes(b"tea " + invalid + b" kettle", settings=WORDS_ONLY)
    assert {bucket for bucket, *_ in emitted} >= buckets_of_words("tea", "ketle")


# --- compiled and interpreted ------------------------------------------------------------------------------------


def emit_twice(monkeypatch: pytest.MonkeyPatch, settings: Settings, packed: Packed, by: int) -> list[Emitted]:
    """Return what each of the two kernels emits."""
    found = [scanner_with_weights(settings).emit(packed, by)]
    with monkeypatch.context() as patch:
        patch.setattr(features, "_kernel", interpreted_kernel())
        return [*found, scanner_with_weights(settings).emit(packed, by)]


@pytest.mark.parametrize("backend", ["compiled"], indirect=True)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(batch=st.lists(strategies.conversations(max_size=6), max_size=3), settings=strategies.settings())
def test_both_kernels_emit_the_same_in_the_same_order(
    backend: str, monkeypatch: pytest.MonkeyPatch, batch: list[list[Message]], settings: Settings
) -> None:
    for by in (POOLED, OWN):
        assert same(*emit_twice(monkeypatch, settings, pack_by_author(batch), by))


@pytest.mark.parametrize("backend", ["compiled"], indirect=True)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(raw=st.lists(raw_messages(), max_size=5))
def test_both_kernels_make_the_same_of_bytes_that_are_not_utf8(
    backend: str, monkeypatch: pytest.MonkeyPatch, raw: list[bytes]
) -> None:
    assert same(*emit_twice(monkeypatch, SMALL, pack_bytes(*raw), OWN))


# --- scratch memory ----------------------------------------------------------------------------------------------


def use_up_stamps(scanner: Scanner, n: int) -> None:
    """Scan a segment of so many slots, each of one message without text: one stamp each."""
    offsets, slots = np.zeros(n + 1, dtype=np.int64), np.arange(n, dtype=np.int32)
    scanner.sums(Packed(b"", offsets, slots, np.zeros(n, dtype=np.int32), [""] * n, 1))


@pytest.mark.parametrize("left", range(12))
def test_running_out_of_slot_stamps_goes_unnoticed(left: int) -> None:
    said = [Message("a", "tea kettle"), Message("b", "tea garden"), Message("a", "tea"), Message("c", "pebble tea")]
    packs = [pack_by_author([said]), pack_by_message([said, said[1:]])]
    nothing = np.zeros(0, dtype=np.int32)
    scanner = scanner_with_weights(SMALL)

    def scan_all() -> list[Emitted]:
        sums = [(scanner.sums(packed), nothing, nothing) for packed in packs]
        return [*sums, *(scanner.emit(packed, by) for packed in packs for by in (POOLED, OWN))]

    expected = scan_all()
    used = (1 + 2 * 2) * sum(len(packed.segments) for packed in packs)
    use_up_stamps(scanner, 2**16 - 1 - used - left)
    for _ in range(2):
        assert all(map(same, expected, scan_all()))


def test_a_segment_may_have_more_slots_than_there_are_stamps() -> None:
    n = 2**16 + 5
    packed = pack_by_message([[Message("a", "tea"), *[Message("a", "")] * n, Message("a", "tea kettle")]])
    counts = extractor(WORDS_ONLY).scanner().counts(packed)
    assert counts.new[[0, -1]].tolist() == [1, 1]
    assert counts.distinct[[0, -1]].tolist() == [1, 2]


def test_four_threads_with_one_scanner_get_the_sums_of_one(backend: str) -> None:
    said = babble(20_000).split()

    def conversation(start: int) -> list[Message]:
        return [Message(f"author {i % 3}", " ".join(said[start + i : start + i + 9])) for i in range(30)]

    batches = [
        pack_by_author([conversation(start), conversation(2 * start)])
        for start in range(0, size_for(backend, 4000), 20)
    ]
    expected_scanner = scanner_with_weights(Settings())
    expected = [expected_scanner.sums(packed) for packed in batches]
    shared = scanner_with_weights(Settings())
    together = threading.Barrier(4)

    def scan_all(start: int) -> list[Sums]:
        together.wait()
        order = [*range(start, len(batches)), *range(start)]
        found = {i: shared.sums(batches[i]) for i in order}
        return [found[i] for i in range(len(batches))]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(scan_all, range(4)):
            for one, other in zip(found, expected, strict=True):
                assert np.array_equal(one.pooled, other.pooled)
                assert np.array_equal(one.own, other.own)
                assert np.array_equal(one.new, other.new)
