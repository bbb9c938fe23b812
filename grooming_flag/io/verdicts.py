"""Verdicts: what moderators said of the threads that they looked at, as JSON lines. No text and no free words."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from grooming_flag.errors import DataError
from grooming_flag.io.streams import check_readable, read_lines

REASONS = {
    "confirmed": ("age", "secrecy", "personal information", "rapport", "pictures", "gifts", "other app", "meeting"),
    "dismissed": (
        "family",
        "peers",
        "teaching or coaching",
        "adults",
        "helping or reporting",
        "role-play or fiction",
        "games or trade",
        "joke",
    ),
    "unsure": ("too little context", "other language", "second opinion"),
}
"""What a moderator may give as reasons, by verdict: words from a list, since free notes would quote the chat."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a moderator said of one thread.

    Attributes
    ----------
    thread_id : str
    verdict : {"confirmed", "dismissed", "unsure"}
        About the thread, never about a person.
    reasons : tuple of str
        Of those in `REASONS` for the verdict.
    suspect : str or None
        Whom the model named.
    probability : float or None
        What the model said, 0..1; None where it abstained.
    model : str or None
        Name of the model.
    selection : {"flagged", "sample"}
        Why the thread was reviewed: as one of the flagged, or as one drawn at random from the others.
    selection_probability : float
        How likely a thread like this was to be reviewed, above 0 and at most 1.
    reviewed_at : float or None
        Seconds since 1970.
    """

    thread_id: str
    verdict: Literal["confirmed", "dismissed", "unsure"]
    reasons: tuple[str, ...] = ()
    suspect: str | None = None
    probability: float | None = None
    model: str | None = None
    selection: Literal["flagged", "sample"] = "flagged"
    selection_probability: float = 1.0
    reviewed_at: float | None = None


_decoder = msgspec.json.Decoder(Verdict)


def read_verdicts(*paths: str | os.PathLike[str]) -> Iterator[Verdict]:
    """Yield the verdicts of JSON-lines files that count; see `latest`.

    Parameters
    ----------
    *paths : path
        ``-`` for standard input; decompressed if the name ends in .gz or .zst.

    Raises
    ------
    DataError
        If a line is no verdict. The message names file, line and field.
    """
    yield from latest(read_all_verdicts(*paths))[0]


def read_all_verdicts(*paths: str | os.PathLike[str]) -> Iterator[Verdict]:
    """Yield all verdicts of JSON-lines files, in their order; else as `read_verdicts`."""
    for path in paths:
        check_readable(path)
        for number, line in read_lines(path):
            yield _parse(line, f"{path}, line {number}")


def latest(verdicts: Iterable[Verdict]) -> tuple[list[Verdict], int]:
    """Return the verdicts that count, and on how many threads there were verdicts of different kinds.

    Of several verdicts on one thread and one model the latest counts, by `reviewed_at`; of the same time the one that
    comes later. Those without a time are taken as earlier than all with one. Each stands in place of the first.
    """
    found: dict[tuple[str, str], Verdict] = {}
    disagreeing = set()
    for one in verdicts:
        key = one.thread_id, one.model or ""
        before = found.setdefault(key, one)
        if one.verdict != before.verdict:
            disagreeing.add(key)
        if _time(one) >= _time(before):
            found[key] = one
    return list(found.values()), len(disagreeing)


def _time(verdict: Verdict) -> float:
    return -math.inf if verdict.reviewed_at is None else verdict.reviewed_at


def _parse(line: bytes, place: str) -> Verdict:
    try:
        verdict = _decoder.decode(line)
    except msgspec.ValidationError as error:
        problem = re.sub("(?s)^Invalid enum value .* - at", "Invalid enum value at", str(error))  # it may be a note
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = "not a JSON object"
    else:
        known = REASONS[verdict.verdict]
        if not set(verdict.reasons) <= set(known):
            problem = f"a reason is not one of those for {verdict.verdict}: {', '.join(known)}"
        elif verdict.probability is not None and not 0.0 <= verdict.probability <= 1.0:
            problem = f"the probability is {verdict.probability!r}; use 0 to 1, or null"
        elif not 0.0 < verdict.selection_probability <= 1.0:
            problem = f"selection_probability is {verdict.selection_probability!r}; use above 0, at most 1"
        else:
            return verdict
    raise DataError(f"{place}: {problem}; write one verdict a line, as the review page does")
