"""The feature definition once more: slow, obvious, and sharing nothing with the package but its data file.

Read it from top to bottom: characters are folded (`fold`), folded characters make chunks (`chunks`), chunks make
words (`words`, and `meant` for those that are spelt to pass unnoticed), words make features (`features`). Up to there
everything is readable text, so that

    >>> [f.texts for f in features("Hi @bob", Settings(char_ngrams=None))]
    [('hi',), ('H',), ('hi', 'H')]

shows which features a message has. Hashing comes last (`bucket`), and then the buckets of several messages
(`pooled_buckets`, `own_buckets`) and sums of weights over them (`pooled_sum`, `own_sums`).
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby, pairwise
from typing import Any, NamedTuple

MAX_CHUNK = 256  # folded characters
MAX_WORD = 32  # characters

KINDS = {0: "nothing", 1: "space", 2: "punctuation", 3: "letter", 4: "digit", 5: "several"}

Span = tuple[int, int]
Weights = Any  # weights[bucket][column], nested lists or an array


# --- folding -----------------------------------------------------------------------------------------------------


class Folded(NamedTuple):
    """One folded character and the place in the text of the character that it comes from."""

    kind: str
    codepoint: int
    position: int
    digit: str = "0"
    """Of digits, which one it is, where it is one of ASCII."""

    @property
    def char(self) -> str:
        return chr(self.codepoint)

    @property
    def in_word(self) -> bool:
        return self.kind in ("letter", "digit")


@cache
def table() -> dict[str, list[int]]:
    """Return the arrays of the shipped safetensors file: a length, a JSON header, the numbers."""
    raw = files("grooming_flag").joinpath("fold-1.safetensors").read_bytes()
    (header_length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + header_length])
    numbers = raw[8 + header_length :]
    arrays = {}
    for name, letter in (("pages", "H"), ("blocks", "I"), ("pool", "I")):
        begin, end = header[name]["data_offsets"]
        count = (end - begin) // struct.calcsize("<" + letter)
        arrays[name] = list(struct.unpack(f"<{count}{letter}", numbers[begin:end]))
    return arrays


def entry(codepoint: int) -> int:
    arrays = table()
    page = arrays["pages"][codepoint // 128]
    return arrays["blocks"][page * 128 + codepoint % 128]


@cache
def fold_codepoint(codepoint: int) -> tuple[tuple[str, int], ...]:
    """Return what one code point folds to: (kind, code point) pairs."""
    code = entry(codepoint)
    if KINDS[code // 2**24] == "several":
        at = code % 2**24
        how_many = table()["pool"][at]
        codes = table()["pool"][at + 1 : at + 1 + how_many]
    else:
        codes = [code]
    folded = [(KINDS[code // 2**24], code % 2**24 or codepoint) for code in codes]
    return tuple((kind, to) for kind, to in folded if kind != "nothing")


def fold(text: str) -> list[Folded]:
    """Return the folded characters of a text; those of which nothing remains are left out."""
    return [
        Folded(kind, codepoint, position, char if char in "0123456789" else "0")
        for position, char in enumerate(text)
        for kind, codepoint in fold_codepoint(ord(char))
    ]


# --- chunks and words --------------------------------------------------------------------------------------------


def squeeze_into_chunks(run: Sequence[Folded]) -> list[list[Folded]]:
    """Cut a run without white space into chunks of at most `MAX_CHUNK`, of equal letters leaving one.

    Of equal digits two remain. A letter that is dropped does not count towards the length of the chunk, and
    a chunk knows nothing of the one before it: a run of equal letters that the cut divides leaves some on either side.
    """
    chunks: list[list[Folded]] = [[]]
    for folded in run:
        if len(chunks[-1]) == MAX_CHUNK:
            chunks.append([])
        how_many = 2 if folded.char == "0" else 1
        before = [f.codepoint for f in chunks[-1][-how_many:]]
        if not (folded.in_word and before == [folded.codepoint] * how_many):
            chunks[-1].append(folded)
    return chunks


def mask(chunk: Sequence[Folded], message: str) -> str | None:
    """Return U for a URL, E for an e-mail address, H for a handle, or None."""
    text = "".join(f.char for f in chunk)
    is_www = text.startswith("w.") and re.search(r"[wW]{3}$", message[: chunk[1].position]) is not None
    shape = "".join("a" if f.in_word else f.char if f.char in "@:/." else "-" for f in chunk)
    if shape.startswith("@a"):
        return "H"
    if "://" in text or is_www:
        return "U"
    if re.search(r".@.*\.a", shape):
        return "E"
    return None


class Word(NamedTuple):
    text: str
    start: int
    stop: int


def chunks(text: str) -> list[list[list[Folded]]]:
    """Return the chunks of each run of characters without white space."""
    runs = [list(run) for is_space, run in groupby(fold(text), lambda f: f.kind == "space") if not is_space]
    return [squeeze_into_chunks(run) for run in runs]


def words_of_chunk(chunk: Sequence[Folded]) -> list[Word]:
    """Return the words between whatever is neither letter nor digit nor hides one, long ones cut into pieces."""
    shape = "".join("a" if f.in_word else "*" if f.char == "*" else "." for f in chunk)
    words = []
    for run in re.finditer(r"a+(\*+a+)*", shape):
        letters = chunk[run.start() : run.end()]
        for i in range(0, len(letters), MAX_WORD):
            piece = letters[i : i + MAX_WORD]
            words.append(Word("".join(f.char for f in piece), piece[0].position, piece[-1].position + 1))
    return words


def unmasked_chunks(text: str) -> list[list[Folded] | Word]:
    """Return the chunks of a message in order, with a word U, E or H for one that is masked."""
    found: list[list[Folded] | Word] = []
    for run in chunks(text):
        for chunk in run:
            letter = mask(chunk, text)
            if letter:
                found.append(Word(letter, chunk[0].position, chunk[-1].position + 1))
                break  # and what remains of a URL, an address or a handle that is too long for one chunk is dropped
            found.append(chunk)
    return found


def words_by_chunk(text: str) -> list[tuple[list[Folded], list[Word]]]:
    """Return the chunks of a message with the words they make; a masked chunk, and a row of letters, as no chunk."""
    found: list[tuple[list[Folded], list[Word]]] = []
    for is_letter, group in groupby(unmasked_chunks(text), lambda c: not isinstance(c, Word) and is_one_letter(c)):
        if is_letter:
            letters = [(f.char, f.position) for chunk in group for f in chunk if isinstance(f, Folded)]
            found += [([], spelt(letters[i : i + MAX_WORD])) for i in range(0, len(letters), MAX_WORD)]
        else:
            found += [([], [c]) if isinstance(c, Word) else (c, words_of_chunk(c)) for c in group]
    return found


def is_one_letter(chunk: Sequence[Folded]) -> bool:
    return [f.kind for f in chunk] == ["letter"]


def spelt(letters: Sequence[tuple[str, int]]) -> list[Word]:
    """Return the word that three or more chunks of one letter spell, or fewer as a word each."""
    if len(letters) >= 3:
        return [written_together(letters)]
    return [Word(letter, position, position + 1) for letter, position in letters]


def words(text: str) -> list[Word]:
    """Return the words of a message in order, with U, E and H where they stand for a chunk."""
    return [word for _, of_chunk in words_by_chunk(text) for word in of_chunk]


LETTERS_OF_DIGITS = dict(zip("431057", "aeiost", strict=True))


class Meant(NamedTuple):
    """A word as it is meant, and the words before and after what it is made of."""

    word: Word
    before: Word | None
    after: Word | None


def meant(text: str) -> list[Meant]:
    """Return the words that are meant by what is spelt to pass unnoticed."""
    found: list[Meant] = []
    every: list[Word | None] = [None, *words(text), None]
    n_before = 0
    for chunk, of_chunk in words_by_chunk(text):
        word = respelt(chunk)
        if word:
            found.append(Meant(word, every[n_before], every[n_before + len(of_chunk) + 1]))
        n_before += len(of_chunk)
    return found


def respelt(chunk: Sequence[Folded]) -> Word | None:
    """Return the word that is meant by a chunk such as "he.llo" or "h3llo", if it is such a one."""
    kinds = "".join("l" if f.kind == "letter" else "d" if f.kind == "digit" else "." for f in chunk)
    is_divided = re.search(r"[ld]\.+[ld]", kinds)
    has_asterisk = any(f.char == "*" for f in chunk)  # which stands for a letter
    if has_asterisk or kinds.count("l") < kinds.count("d") or not (is_divided or "d" in kinds):
        return None
    letters = [
        (LETTERS_OF_DIGITS.get(f.digit, "") if f.kind == "digit" else f.char, f.position) for f in chunk if f.in_word
    ]
    word = written_together([(letter, position) for letter, position in letters if letter])
    return word if 2 <= len(word.text) <= MAX_WORD else None


def written_together(letters: Sequence[tuple[str, int]]) -> Word:
    """Return the word of these letters; of equal ones in a row the first remains."""
    squeezed = [next(group) for _, group in groupby(letters, lambda one: one[0])]
    return Word("".join(letter for letter, _ in squeezed), squeezed[0][1], squeezed[-1][1] + 1)


# --- features ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The parameters of `FeatureExtractor`."""

    n_features: int = 2**17
    word_ngrams: int = 2
    char_ngrams: tuple[int, int] | None = (4, 4)
    seed: int = 0
    key: str | None = None


class Feature(NamedTuple):
    family: str
    texts: tuple[str, ...]
    span: Span


def char_ngrams(word: str, shortest: int, longest: int) -> list[str]:
    """Return the n-grams of a word with a space at both ends, but for the whole of it."""
    padded = f" {word} "
    lengths = [n for n in range(shortest, longest + 1) if n < len(padded)]
    return [padded[i : i + n] for n in lengths for i in range(len(padded) - n + 1)]


def features(text: str, settings: Settings) -> list[Feature]:
    """Return the features of one message in readable form; those that occur twice are there twice."""
    message = words(text)
    others = meant(text)
    every = message + [one.word for one in others]
    found = [Feature("word", (w.text,), (w.start, w.stop)) for w in every]
    if settings.word_ngrams == 2:
        found += [Feature("pair", (a.text, b.text), (a.start, b.stop)) for a, b in pairwise(message)]
        neighbors = [pair for one in others for pair in ((one.before, one.word), (one.word, one.after))]
        found += [Feature("pair", (a.text, b.text), (a.start, b.stop)) for a, b in neighbors if a and b]
    if settings.char_ngrams:
        found += [
            Feature("character", (ngram,), (w.start, w.stop))
            for w in every
            for ngram in char_ngrams(w.text, *settings.char_ngrams)
        ]
    return found


# --- hashing -----------------------------------------------------------------------------------------------------


@cache
def seed_of(family: str, settings: Settings) -> int:
    hashed = hashlib.blake2b(
        family.encode("ascii"),
        digest_size=8,
        key=(settings.key or "").encode("utf-8"),
        salt=struct.pack("<QQ", settings.seed, 0),
    )
    return struct.unpack("<Q", hashed.digest())[0]


def units(text: str) -> list[int]:
    """Return 16 bits for each code point."""
    return [ord(char) if ord(char) < 0xE000 else 0x8000 + ord(char) % 0x6000 for char in text]


def blocks(text: str) -> list[int]:
    """Return four units at a time as one number of 64 bits, the first one in the lowest bits."""
    found = [units(text)[i : i + 4] for i in range(0, len(text), 4)]
    return [sum(unit * 2 ** (16 * i) for i, unit in enumerate(block)) for block in found]


def mix(h: int, more: int, settings: Settings) -> int:
    return (h ^ h // 2**32 ^ more) * multiplier(settings) % 2**64


def multiplier(settings: Settings) -> int:
    return seed_of("base", settings) | 1


def hash_word(word: str, settings: Settings) -> int:
    h = seed_of("word", settings)
    for unit in units(word):
        h = (h ^ unit) * multiplier(settings) % 2**64
    return h


def hash_feature(family: str, texts: tuple[str, ...], settings: Settings) -> int:
    if family == "word":
        return hash_word(texts[0], settings)
    parts = [hash_word(word, settings) for word in texts] if family == "pair" else blocks(texts[0])
    h = seed_of(family, settings)
    for part in parts:
        h = mix(h, part, settings)
    return h


def bucket(family: str, texts: tuple[str, ...], settings: Settings) -> int:
    return hash_feature(family, texts, settings) * settings.n_features // 2**64  # its first bits


# --- several messages --------------------------------------------------------------------------------------------


def buckets(texts: Iterable[str], settings: Settings) -> set[int]:
    """Return the buckets of some messages; how often one occurs makes no difference."""
    distinct = {(f.family, f.texts) for text in set(texts) for f in features(text, settings)}
    return {bucket(family, parts, settings) for family, parts in distinct}


def pooled_buckets(messages: Iterable[tuple[str, str]], settings: Settings) -> set[int]:
    """Return the buckets of a segment, given as (author, text) pairs."""
    return buckets([text for _, text in messages], settings)


def own_buckets(messages: Iterable[tuple[str, str]], settings: Settings) -> dict[str, set[int]]:
    """Return the buckets of each author of a segment, in order of first appearance."""
    texts: dict[str, list[str]] = {}
    for author, text in messages:
        texts.setdefault(author, []).append(text)
    return {author: buckets(own, settings) for author, own in texts.items()}


def with_weight(found: Iterable[int], weights: Weights) -> set[int]:
    """Return those buckets that have any weight but zero."""
    return {one for one in found if any(weights[one])}


def total(found: Iterable[int], weights: Weights, column: int) -> int:
    """Return the sum of one column of the weights over some buckets."""
    return sum(int(weights[one][column]) for one in found)


RISK, ATTRIBUTION = 0, 1


def pooled_sum(messages: Iterable[tuple[str, str]], settings: Settings, weights: Weights) -> int:
    return total(pooled_buckets(messages, settings), weights, RISK)


def own_sums(messages: Iterable[tuple[str, str]], settings: Settings, weights: Weights) -> list[int]:
    return [total(found, weights, ATTRIBUTION) for found in own_buckets(messages, settings).values()]
