"""The table that folds code points, and the encoding of texts: every code point there is."""

from __future__ import annotations

import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import entry, fold, fold_codepoint, table
from strategies import bold, composed, cyrillic, full_width, spaced_out, texts

from grooming_flag.text import encode, fold_table

CODEPOINTS = range(sys.maxunicode + 1)
SURROGATES = range(0xD800, 0xE000)
YPOGEGRAMMENI = 0x345  # a mark, so nothing remains of it; yet its upper case is the letter iota
NO_LONGER_MARKS = {0x1171E}  # what older Pythons take for marks and the table's Unicode version does not
INVISIBLE = [0x00AD, 0x034F, 0x061C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), 0xFEFF]
INVISIBLE += [*range(0x2060, 0x2065), *range(0x2066, 0x2070), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE0200)]
INVISIBLE += [0x115F, 0x1160, 0x3164, 0xFFA0]  # Hangul fillers
SPACES = [0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


def folded(text: str) -> str:
    return "".join(f.char for f in fold(text))


def kinds(text: str) -> list[str]:
    return [f.kind for f in fold(text)]


def test_the_package_reads_the_arrays_that_are_in_the_file() -> None:
    for name, array in fold_table()._asdict().items():
        assert array.tolist() == table()[name]
    assert [array.dtype for array in fold_table()] == [np.uint16, np.uint32, np.uint32]


def test_every_page_is_a_block() -> None:
    pages, blocks = table()["pages"], table()["blocks"]
    assert len(pages) * 128 == len(CODEPOINTS)
    assert len(blocks) % 128 == 0
    assert max(pages) < len(blocks) // 128


def test_ascii_is_the_first_block_and_spells_its_folded_code_points_out_as_the_kernel_takes_for_granted() -> None:
    assert table()["pages"][0] == 0
    for codepoint in range(128):
        kind, value = divmod(entry(codepoint), 2**24)
        assert kind < 5
        assert kind == 0 or value == fold_codepoint(codepoint)[0][1] < 128
        assert value != 0 or codepoint == 0


def test_every_code_point_has_an_entry_of_a_known_kind_and_a_value_in_range() -> None:
    codes = np.array([entry(codepoint) for codepoint in CODEPOINTS])
    kind, value = codes >> 24, codes & 0xFFFFFF
    assert kind.max() <= 5
    assert value[kind < 5].max() <= sys.maxunicode


def test_every_expansion_lies_in_the_pool_and_holds_two_to_four_plain_entries() -> None:
    pool = table()["pool"]
    for codepoint in CODEPOINTS:
        code = entry(codepoint)
        if code >> 24 == 5:
            at = code & 0xFFFFFF
            assert at < len(pool)
            assert 2 <= pool[at] <= 4
            assert at + pool[at] < len(pool)
            for one in pool[at + 1 : at + 1 + pool[at]]:
                assert 1 <= one >> 24 <= 4
                assert 0 < one & 0xFFFFFF <= sys.maxunicode


def test_folding_is_idempotent() -> None:
    reached = {pair for codepoint in CODEPOINTS for pair in fold_codepoint(codepoint)}
    assert [pair for pair in reached if fold_codepoint(pair[1]) != (pair,)] == []


def test_every_digit_becomes_zero_and_no_letter_becomes_a_digit() -> None:
    reached = {pair for codepoint in CODEPOINTS for pair in fold_codepoint(codepoint)}
    assert {codepoint for kind, codepoint in reached if kind == "digit"} == {ord("0")}
    for codepoint in CODEPOINTS:
        if unicodedata.category(chr(codepoint)) == "Nd":
            assert fold_codepoint(codepoint) == (("digit", ord("0")),)


def test_folding_ignores_case_wherever_casefold_is_one_to_one() -> None:
    differ = [
        codepoint
        for codepoint in CODEPOINTS
        for relative in {chr(codepoint).casefold(), chr(codepoint).lower(), chr(codepoint).upper()}
        if len(relative) == 1 and fold_codepoint(codepoint) != fold_codepoint(ord(relative))
    ]
    assert set(differ) == {YPOGEGRAMMENI}


def test_folding_ignores_case_where_casefold_gives_several_letters() -> None:
    for codepoint in CODEPOINTS:
        relative = chr(codepoint).casefold()
        if len(relative) > 1:
            assert folded(chr(codepoint)) == folded(relative)


def test_no_folded_text_holds_the_letters_that_stand_for_links() -> None:
    reached = {to for codepoint in CODEPOINTS for _, to in fold_codepoint(codepoint)}
    assert not reached & set(range(ord("A"), ord("Z") + 1))


def test_ascii_letters_become_lower_case_and_digits_zero() -> None:
    assert folded("AZaz") == "azaz"
    assert kinds("AZaz") == ["letter"] * 4
    assert folded("0123456789") == "0" * 10
    assert kinds("0123456789") == ["digit"] * 10


def test_ascii_apostrophes_and_control_characters_vanish() -> None:
    gone = [chr(c) for c in range(128) if not fold(chr(c))]
    controls = [chr(c) for c in [*range(0x09), *range(0x0E, 0x20), 0x7F]]
    assert gone == sorted([*controls, "'", "`"])


def test_ascii_white_space_and_punctuation_stay_as_they_are() -> None:
    for char in "\t\n\x0b\x0c\r ":
        assert kinds(char) == ["space"]
    for char in '!"#$%&()*+,-./:;<=>?@[\\]^_{|}~':
        assert kinds(char) == ["punctuation"]
        assert folded(char) == char


@pytest.mark.parametrize("codepoint", SPACES)
def test_white_space_of_every_sort_is_white_space(codepoint: int) -> None:
    assert kinds(chr(codepoint)) == ["space"]


def test_combining_marks_and_format_characters_vanish() -> None:
    marks = [c for c in CODEPOINTS if unicodedata.category(chr(c)) in ("Mn", "Me", "Cf")]
    assert {c for c in marks if fold_codepoint(c)} <= NO_LONGER_MARKS
    assert len(marks) > 1500


def test_invisible_characters_vanish() -> None:
    assert [hex(c) for c in INVISIBLE if fold_codepoint(c)] == []
    assert folded(spaced_out("marmalade")) == "marmalade"


@pytest.mark.parametrize("apostrophe", "'`\u00b4\u2018\u2019\u201b\u02b9\u02bb\u02bc\u02bd\u02c8\uff07")
def test_apostrophes_vanish(apostrophe: str) -> None:
    assert folded(f"don{apostrophe}t") == "dont"


def test_a_letter_and_its_marks_fold_alike_composed_or_not() -> None:
    for codepoint in CODEPOINTS:
        apart = unicodedata.normalize("NFD", chr(codepoint))
        marks = apart[1:]
        if marks and chr(YPOGEGRAMMENI) not in marks and {unicodedata.category(mark) for mark in marks} == {"Mn"}:
            assert folded(chr(codepoint)) == folded(apart), hex(codepoint)
    assert folded(composed("marmalade")) == "marmalade"


def test_full_width_ascii_folds_like_ascii() -> None:
    for codepoint in range(0x21, 0x7F):
        assert [f[:3] for f in fold(full_width(chr(codepoint)))] == [
            f[:3] for f in fold(chr(codepoint))
        ]  # but for which digit it is


def test_mathematical_letters_become_latin() -> None:
    assert folded(bold("marmalade")) == "marmalade"
    for codepoint in range(0x1D400, 0x1D6A4):
        if unicodedata.category(chr(codepoint)) == "Ll":
            plain = unicodedata.normalize("NFKC", chr(codepoint))
            assert folded(chr(codepoint)) == plain


@pytest.mark.parametrize(
    ("latin", "lookalikes"),
    [
        ("aceopxyi", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456"),  # Cyrillic, lower case
        ("aceopxysij", "\u0410\u0421\u0415\u041e\u0420\u0425\u0423\u0405\u0406\u0408"),  # Cyrillic, upper case
        ("bhkmt", "\u0412\u041d\u041a\u041c\u0422"),
        ("aeikopt", "\u0391\u0395\u0399\u039a\u039f\u03a1\u03a4"),  # Greek
        ("hello", "\u24d7\u24d4\u24db\u24db\u24de"),  # circled
        ("hi", "\U0001f177\U0001f178"),  # negative squared
        ("fr", "\U0001f1eb\U0001f1f7"),  # regional indicators
        ("gni", "\u0262\u0274\u026a"),  # small capitals
        ("fi", "\ufb01"),  # a ligature
    ],
)
def test_lookalikes_become_latin(latin: str, lookalikes: str) -> None:
    assert folded(lookalikes) == latin
    assert folded(lookalikes.lower()) == folded(lookalikes.upper()) == latin


def test_words_in_cyrillic_lookalikes_fold_like_the_word() -> None:
    for word in ("apocope", "yippie", "tea"):
        assert folded(cyrillic(word)) == word


def test_right_to_left_letters_stay_letters_of_their_own() -> None:
    for codepoint in [*range(0x5D0, 0x5EB), *range(0x628, 0x63B), *range(0x641, 0x649)]:
        assert fold_codepoint(codepoint) == (("letter", codepoint),)


def test_lone_surrogates_and_private_and_unassigned_code_points_separate_words() -> None:
    for codepoint in [*SURROGATES, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0x10FFFF]:
        assert fold_codepoint(codepoint) == (("punctuation", codepoint),)


@given(texts())
def test_folding_a_folded_text_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@given(st.lists(texts(), max_size=6))
@example([])
@example([""])
@example(["\ud83d", "\ude00"])  # two halves of one character do not become one
def test_each_encoded_text_decodes_to_itself(said: list[str]) -> None:
    data, offsets = encode(said)
    assert offsets.dtype == np.int64
    assert offsets[0] == 0
    assert offsets[-1] == len(data)
    assert len(offsets) == len(said) + 1
    assert [data[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(offsets)] == said
