"""Family files: the scripts of a kind of talk.

A file is TOML. Its scripts are lines `role: text`; exchanges of lines are parted by blank lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal, NamedTuple

import msgspec

from grooming_flag.errors import DataError
from grooming_flag.evaluation.templates.files import read_toml
from grooming_flag.evaluation.templates.grammar import Text, parse, slots_of
from grooming_flag.evaluation.templates.styles import load_styles

KINDS = ("judging", "training")
SMALL_TALK_ROLES = ("a", "b")  # whoever they are in a thread
DEEPEST = 20
COMMON = "_common"


class Line(NamedTuple):
    """What one role says, before anything is chosen."""

    role: str
    text: Text


Exchange = tuple[Line, ...]


@dataclass(frozen=True)
class Family:
    """A kind of talk that threads are drawn from.

    Attributes
    ----------
    name, kind : str
        The file's name and folder.
    what : str
        The kind of talk in a few words.
    label : {0, 1}
        1 for risk-patterned talk.
    roles : tuple of str
        Who takes part.
    suspect : str or None
        The role that drives the pattern, of risk-patterned talk.
    small_talk_share : float
        Share of the topics that are small talk common to all families, 0..1.
    laughs : bool
        Whether authors laugh, use emoji and other particles.
    styles : mapping of str to tuple of str
        Styles that a role may write in; all of them if it is not named.
    slots : mapping of str to tuple of Text
        Values of each slot.
    fixed : frozenset of str
        Slots that keep one value all through a thread.
    openers, topics, closers, small_talk : tuple of Exchange
        What they say.
    """

    name: str
    kind: str
    what: str
    label: int
    roles: tuple[str, ...]
    suspect: str | None
    small_talk_share: float
    laughs: bool
    styles: Mapping[str, tuple[str, ...]] = field(repr=False)
    slots: Mapping[str, tuple[Text, ...]] = field(repr=False)
    fixed: frozenset[str] = field(repr=False)
    openers: tuple[Exchange, ...] = field(repr=False)
    topics: tuple[Exchange, ...] = field(repr=False)
    closers: tuple[Exchange, ...] = field(repr=False)
    small_talk: tuple[Exchange, ...] = field(repr=False)


class _FamilyFile(msgspec.Struct, forbid_unknown_fields=True):
    what: str
    label: Literal[0, 1]
    roles: list[str]
    openers: str
    topics: str
    closers: str
    suspect: str | None = None
    small_talk: float = 0.2
    laughs: bool = True
    styles: dict[str, list[str]] = {}
    slots: dict[str, list[str]] = {}
    fixed: dict[str, list[str]] = {}


class _CommonFile(msgspec.Struct, forbid_unknown_fields=True):
    small_talk: str
    slots: dict[str, list[str]]


def read_family(name: str, kind: str, text: str, common: str) -> Family:
    """Return the family that a file's text describes.

    Parameters
    ----------
    name, kind : str
        The file's name without its end, and its folder.
    text, common : str
        The file, and the file of slots and small talk common to its kind; both TOML.

    Raises
    ------
    DataError
        If a file is not what it should be. The message names file and key.
    """
    place, common_place = f"{kind}/{name}.toml", f"{kind}/{COMMON}.toml"
    file, shared = read_toml(text, place, _FamilyFile), read_toml(common, common_place, _CommonFile)
    if len(set(file.roles)) < 2 or len(set(file.roles)) < len(file.roles):
        raise DataError(f"{place}: roles: name two different roles or more")
    if (file.suspect in file.roles) != file.label or (file.suspect is None) == file.label:
        raise DataError(f"{place}: suspect: name one of the roles if the label is 1, and leave it out if it is 0")
    if not 0.0 <= file.small_talk < 1.0:
        raise DataError(f"{place}: small_talk: give a share from 0 up to, not including, 1")
    if set(file.styles) - set(file.roles):
        raise DataError(f"{place}: styles: gives styles to what is not a role")
    if set().union(*file.styles.values()) - set(load_styles()) or not all(file.styles.values()):
        raise DataError(f"{place}: styles: give each role one or more of {', '.join(load_styles())}")
    if set(file.slots) & set(file.fixed):
        raise DataError(f"{place}: fixed: names a slot that [slots] names too")
    slots = {
        **_values(shared.slots, f"{common_place}: slots"),
        **_values(file.slots, f"{place}: slots"),
        **_values(file.fixed, f"{place}: fixed"),
    }
    _check_nesting(slots, place)
    roles = tuple(file.roles)
    return Family(
        name=name,
        kind=kind,
        what=file.what,
        label=file.label,
        roles=roles,
        suspect=file.suspect,
        small_talk_share=file.small_talk,
        laughs=file.laughs,
        styles={role: tuple(styles) for role, styles in file.styles.items()},
        slots=slots,
        fixed=frozenset(file.fixed),
        openers=_exchanges(file.openers, roles, slots, f"{place}: openers"),
        topics=_exchanges(file.topics, roles, slots, f"{place}: topics"),
        closers=_exchanges(file.closers, roles, slots, f"{place}: closers"),
        small_talk=_exchanges(shared.small_talk, SMALL_TALK_ROLES, slots, f"{common_place}: small_talk"),
    )


@cache
def load_family(name: str, kind: str = "judging") -> Family:
    """Return a family that ships with the package.

    Parameters
    ----------
    name : str
    kind : {"judging", "training"}

    Raises
    ------
    DataError
        If there is no such kind or family, or its file is not what it should be.
    """
    folder, names = _folder(kind)
    if name not in names:
        raise DataError(f"there are no {kind} templates {name!r}; use some of {', '.join(names)}")
    return read_family(name, kind, *((folder / f"{file}.toml").read_text(encoding="utf-8") for file in (name, COMMON)))


def families(kind: str = "judging") -> dict[str, Family]:
    """Return the families of a kind that ship with the package, by name, in alphabetical order.

    Parameters
    ----------
    kind : {"judging", "training"}

    Raises
    ------
    DataError
        If there is no such kind, or a file is not what it should be.
    """
    return {name: load_family(name, kind) for name in _folder(kind)[1]}


def _folder(kind: str) -> tuple[Traversable, list[str]]:
    if kind not in KINDS:
        raise DataError(f"there are no templates of kind {kind!r}; use {' or '.join(KINDS)}")
    folder = resources.files(__package__) / kind
    files = sorted(entry.name for entry in folder.iterdir())
    return folder, [file.removesuffix(".toml") for file in files if file.endswith(".toml") and file[0] != "_"]


def _values(slots: Mapping[str, Sequence[str]], place: str) -> dict[str, tuple[Text, ...]]:
    parsed = {}
    for name, values in slots.items():
        if not values:
            raise DataError(f"{place}.{name}: give at least one value")
        parsed[name] = tuple(_parse(value, f"{place}.{name}[{i}]") for i, value in enumerate(values))
    return parsed


def _exchanges(
    script: str, roles: Sequence[str], slots: Mapping[str, Sequence[Text]], place: str
) -> tuple[Exchange, ...]:
    exchanges: list[list[Line]] = [[]]
    for number, row in enumerate(script.splitlines(), 1):
        where = f"{place}, line {number}"
        role, colon, words = (part.strip() for part in row.partition(":"))
        if not row.strip():
            exchanges.append([])
            continue
        if not colon or role not in roles or not words:
            raise DataError(f"{where}: write `role: text`, where role is one of {', '.join(roles)}")
        text = _parse(words, where)
        missing = sorted(set(slots_of(text)) - set(slots))
        if missing:
            raise DataError(f"{where}: there is no slot {missing[0]}; add it to [slots] or [fixed]")
        exchanges[-1].append(Line(role, text))
    found = tuple(tuple(lines) for lines in exchanges if lines)
    if not found:
        raise DataError(f"{place}: give at least one exchange")
    return found


def _parse(text: str, place: str) -> Text:
    try:
        return parse(text)
    except ValueError as error:
        raise DataError(f"{place}: the text {error}") from error


def _check_nesting(slots: Mapping[str, Sequence[Text]], place: str) -> None:
    """Raise if a value names a slot that is not there, or slots hold one another without end."""
    inner = {name: {slot for value in values for slot in slots_of(value)} for name, values in slots.items()}
    for name, names in inner.items():
        missing = sorted(names - set(slots))
        if missing:
            raise DataError(f"{place}: slot {name}: there is no slot {missing[0]}; add it to [slots] or [fixed]")
    for name in slots:
        reached, rounds = {name}, 0
        while reached and rounds <= DEEPEST:
            reached = set().union(*(inner[one] for one in reached))
            rounds += 1
        if reached:
            raise DataError(f"{place}: slot {name} holds itself, or slots nest more than {DEEPEST} deep")
