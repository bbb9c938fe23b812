"""Texts that can come out in many ways, and the choosing.

`[a|b|c]` is one of these, `[word|]` is there or not, `{slot}` is a value of a list, the same wherever it comes in one
exchange, and `{slot+}` is another value of that list. All of them nest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

_SYNTAX = re.compile(r"([\[\]|]|\{\w+\+?\})")
_SLOT = re.compile(r"\{(\w+)(\+?)\}")
_SPACE_BEFORE = re.compile(r" +(?=[,.?!])")


class Slot(NamedTuple):
    """A place that a value of a list fills: that of the exchange, or another."""

    name: str
    other: bool = False


class Choice(NamedTuple):
    """Texts of which one is taken."""

    options: tuple[Text, ...]


Text = tuple["str | Slot | Choice", ...]


class Filler:
    """Fills the texts of one thread.

    A slot keeps its value for an exchange, or if it is fixed for the whole thread; the next value is a different one.

    Parameters
    ----------
    slots : mapping of str to sequence of Text
    fixed : set of str
        Slots that keep their value for the whole thread.
    draw : callable
        Gives the next random number in 0..1, 1 excluded.

    Examples
    --------
    >>> slots = {"place": (parse("the [old|new] library"), parse("home"))}
    >>> filler = Filler(slots, frozenset(), iter([0.9, 0.2, 0.0, 0.3, 0.1]).__next__)
    >>> filler.fill(parse("[Hi|Hello], I went from {place} to {place+}. Now I am at {place} again[!|.]"))
    'Hello, I went from the old library to home. Now I am at the old library again!'
    """

    def __init__(self, slots: Mapping[str, Sequence[Text]], fixed: frozenset[str], draw: Callable[[], float]) -> None:
        self._slots = slots
        self._fixed = fixed
        self._draw = draw
        self._last: dict[str, int] = {}
        self._held: dict[str, str] = {}

    def next_exchange(self) -> None:
        """Let go of the values that are not fixed."""
        self._held = {name: value for name, value in self._held.items() if name in self._fixed}

    def fill(self, text: Text) -> str:
        """Return the text with every choice made."""
        words = " ".join(self._fill(text).split())
        return _SPACE_BEFORE.sub("", words).lstrip(",. ")

    def _fill(self, text: Text) -> str:
        parts = []
        for part in text:
            if isinstance(part, str):
                parts.append(part)
            elif isinstance(part, Choice):
                parts.append(self._fill(part.options[int(self._draw() * len(part.options))]))
            elif part.other:
                parts.append(self._value(part.name))
            else:
                if part.name not in self._held:
                    self._held[part.name] = self._value(part.name)
                parts.append(self._held[part.name])
        return "".join(parts)

    def _value(self, name: str) -> str:
        values = self._slots[name]
        at = int(self._draw() * len(values))
        if at == self._last.get(name):
            at = (at + 1) % len(values)
        self._last[name] = at
        return self._fill(values[at])


def parse(text: str) -> Text:
    """Return a text with its choices and slots.

    Parameters
    ----------
    text : str

    Raises
    ------
    ValueError
        If a bracket or a brace has no partner, or a `|` stands outside of brackets.

    Examples
    --------
    >>> parse("[ok|fine], {name}")
    (Choice(options=(('ok',), ('fine',))), ', ', Slot(name='name', other=False))
    """
    open_choices: list[list[list[str | Slot | Choice]]] = [[[]]]  # of each bracket that is open: its options so far
    for sign in filter(None, _SYNTAX.split(text)):
        if sign == "[":
            open_choices.append([[]])
        elif sign == "|" or sign == "]":
            if len(open_choices) == 1:
                raise ValueError(f"has a {sign} outside of [ ]")
            if sign == "|":
                open_choices[-1].append([])
            else:
                done = Choice(tuple(tuple(option) for option in open_choices.pop()))
                open_choices[-1][-1].append(done)
        elif slot := _SLOT.fullmatch(sign):
            open_choices[-1][-1].append(Slot(slot[1], bool(slot[2])))
        elif "{" in sign or "}" in sign:
            raise ValueError("has a brace that is not part of a {slot}")
        else:
            open_choices[-1][-1].append(sign)
    if len(open_choices) > 1:
        raise ValueError("has a [ that is not closed")
    return tuple(open_choices[0][0])


def slots_of(text: Text) -> Iterator[str]:
    """Yield the names of the slots in a text."""
    for part in text:
        if isinstance(part, Slot):
            yield part.name
        elif isinstance(part, Choice):
            for option in part.options:
                yield from slots_of(option)
