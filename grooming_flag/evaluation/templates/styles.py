"""How people type: a sentence in plain English -> the messages that one author makes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from random import Random
from typing import NamedTuple

import msgspec

from grooming_flag.evaluation.templates.files import read_toml

TYPO_RATE = 0.012  # of the words of an author who makes the most
_SENTENCE_END = re.compile(r"(?<=[.?!])(?<!Mr\.)(?<!Ms\.)(?<!Dr\.)(?<!Mrs\.) +")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[a-z]")


class Style(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way of typing. Shares are of authors for `lower`, `apostrophes` and `stops`, else of occasions; all 0..1.

    Attributes
    ----------
    weight : float
        How common the style is.
    lower : float
        Share of its authors who use no capitals.
    apostrophes, stops : float
        Share of its authors who write apostrophes, and who end a message with a full stop.
    split : float
        How often a sentence is sent as a message of its own, at most.
    swap : float
        How often a word or phrase that has a short or dialect form takes it, at most.
    words : dict of str to list of str
        Those forms, by the plain word or phrase; a `^` before it stands for the start of a message.
    particle : float
        How often a message begins with one of `starts` or ends with one of `ends`, at most.
    starts, ends, asks : list of str
        Those particles; `asks` stand before a question mark in the place of `ends`, if there are any.
    """

    weight: float
    lower: float = 0.3
    apostrophes: float = 0.8
    stops: float = 0.4
    split: float = 0.5
    swap: float = 0.8
    particle: float = 0.1
    words: dict[str, list[str]] = {}
    starts: list[str] = []
    ends: list[str] = []
    asks: list[str] = []


class _StylesFile(msgspec.Struct, forbid_unknown_fields=True):
    style: dict[str, Style]


class _Table(NamedTuple):
    """The substitutions of a style, ready to be searched for."""

    pattern: re.Pattern[str]
    forms: Mapping[str, list[str]]


@cache
def load_styles() -> dict[str, Style]:
    """Return the styles that ship with the package, by name.

    Raises
    ------
    DataError
        If the file of styles is not what it should be.
    """
    text = (resources.files(__package__) / "_styles.toml").read_text(encoding="utf-8")
    return read_toml(text, "_styles.toml", _StylesFile).style


class Writer:
    """One author with the habits of a style.

    Parameters
    ----------
    style : str
        Name of the style.
    chance : random.Random
        Decides the habits now, and each message later.
    laughs : bool
        Whether the author uses the particles of the style at all.
    """

    def __init__(self, style: str, chance: Random, laughs: bool = True) -> None:
        habits = load_styles()[style]
        draw = chance.random
        self._chance = chance
        self._table = _table(style)
        self._lower = draw() < habits.lower
        self._apostrophes = draw() < habits.apostrophes
        self._stops = draw() < habits.stops
        self._split = draw() * habits.split
        self._swap = (0.3 + 0.7 * draw()) * habits.swap
        self._particle = draw() * habits.particle if laughs else 0.0
        self._starts = _few(habits.starts, draw())
        self._ends = _few(habits.ends, draw())
        self._asks = _few(habits.asks or habits.ends, draw())
        self._typos = draw() ** 2 * TYPO_RATE

    def messages(self, text: str) -> list[str]:
        """Return the messages, one or more, that the author makes of some sentences."""
        sent = [""]
        for sentence in _SENTENCE_END.split(text):
            if sent[-1] and self._chance.random() < self._split:
                sent.append(sentence)
            else:
                sent[-1] = f"{sent[-1]} {sentence}".lstrip()
        return [self._type(one) for one in sent]

    def _type(self, text: str) -> str:
        draw = self._chance.random
        if self._table:
            text = self._table.pattern.sub(self._form, text)
        text = _SENTENCE_START.sub(_upper, text)
        if self._lower:
            text = text.lower()
        if not self._apostrophes:
            text = text.replace("'", "")
        if not self._stops and text[-1:] == "." and text[-2:] != "..":
            text = text[:-1]
        if draw() < self._particle:
            text = self._with_particle(text)
        if draw() < self._typos * (text.count(" ") + 1):
            text = self._mistyped(text)
        return text

    def _form(self, found: re.Match[str]) -> str:
        draw = self._chance.random
        plain = found[0]
        if draw() >= self._swap or self._table is None:
            return plain
        forms = self._table.forms.get(f"^{plain.lower()}", []) if found.start() == 0 else []
        forms = forms or self._table.forms[plain.lower()]
        form = forms[int(draw() * len(forms))]
        return form[:1].upper() + form[1:] if plain[0].isupper() and plain != "I" else form

    def _with_particle(self, text: str) -> str:
        draw = self._chance.random
        if self._starts and draw() < 0.3:
            start = self._starts[int(draw() * len(self._starts))]
            is_i = text[:2] in ("I ", "I'")
            return f"{start} {text if is_i else text[:1].lower() + text[1:]}"
        ends = self._asks if text[-1:] == "?" else self._ends
        if not ends:
            return text
        particle = ends[int(draw() * len(ends))]
        if text[-1:] in ".?!" and particle[0].isalpha():
            return f"{text[:-1]} {particle}{text[-1]}"
        return f"{text} {particle}"

    def _mistyped(self, text: str) -> str:
        """Return the text with two letters swapped, or one left out or doubled, in a word of four letters or more."""
        draw = self._chance.random
        words = text.split(" ")
        at = int(draw() * len(words))
        word = words[at]
        if len(word) < 4 or not word.isalpha():
            return text
        i = 1 + int(draw() * (len(word) - 2))
        which = int(draw() * 3)
        words[at] = word[:i] + (word[i + 1] + word[i], "", word[i] * 2)[which] + word[i + (2, 1, 1)[which] :]
        return " ".join(words)


@cache
def _table(name: str) -> _Table | None:
    words = load_styles()[name].words
    if not words:
        return None
    longest_first = sorted(words, key=len, reverse=True)
    phrases = "|".join(re.escape(phrase).replace(r"\^", r"\A") for phrase in longest_first)
    pattern = re.compile(rf"(?<![\w'])(?:{phrases})(?![\w'])", re.IGNORECASE)
    return _Table(pattern, {phrase.lower(): forms for phrase, forms in words.items()})


def _few(particles: list[str], at: float) -> list[str]:
    """Return the three particles that an author is fond of."""
    first = int(at * len(particles))
    return (particles + particles)[first : first + 3]


def _upper(found: re.Match[str]) -> str:
    return found[0].upper()
