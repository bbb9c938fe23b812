"""The PAN-2012 corpus of labelled conversations (Inches and Crestani 2012): its XML, its lists of authors and lines."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Collection, Iterator
from html.entities import html5
from itertools import chain
from xml.parsers import expat

from grooming_flag.errors import DataError
from grooming_flag.io.streams import check_readable, read_chunks, read_lines
from grooming_flag.records import Message, Thread

Line = tuple[str, int]
"""A line of the corpus: id of the conversation, number of the line in it."""

HOUR, DAY = 3_600.0, 86_400.0
FIELDS = ("author", "time", "text")
PARENTS = {"conversations": "", "conversation": "conversations", "message": "conversation"} | dict.fromkeys(
    FIELDS, "message"
)
REFERENCE = re.compile(r"&(?:amp;)*(#?[0-9A-Za-z]{1,32};)")
CLOCK = re.compile(r"\s*([01]?\d|2[0-3]):([0-5]\d)\s*")


def read_pan12(
    path: str | os.PathLike[str], suspects: Collection[str] | str | os.PathLike[str] | None = None
) -> Iterator[Thread]:
    """Yield the conversations of a corpus file, in order, one in memory at a time but for a hash of each id.

    A message keeps its line number as `message_id`, and its line even if it has no text. The corpus has clock times
    alone; `sent_at` is seconds since the midnight before the first message, and never falls: a clock that goes back
    has passed midnight, unless it goes back by less than an hour, when it is held. A time that is no HH:MM is None.
    Markup that the corpus escaped more than once is unescaped. Conversations without messages are left out.

    Parameters
    ----------
    path : path
        ``-`` for standard input; decompressed if the name ends in .gz or .zst.
    suspects : collection of str or path, optional
        The listed authors, or the file that lists them. A thread in which one of them wrote is labelled 1, names those
        who did as its `suspects`, and these, joined by ``+``, as its `person`; all others are labelled 0. Without a
        list nothing is labelled.

    Raises
    ------
    DataError
        If a file cannot be read, is not XML, ends too soon, declares a document type (and with it entities), or is not
        in the format of the corpus. The message names file and line, never text.
    """
    listed = read_author_ids(suspects) if isinstance(suspects, str | os.PathLike) else suspects
    check_readable(path)
    corpus = _Corpus(path, None if listed is None else frozenset(listed))
    for chunk in chain(read_chunks(path), [b""]):
        error = corpus.parse(chunk)
        yield from corpus.finished
        corpus.finished.clear()
        if error is not None:
            raise error


def read_author_ids(path: str | os.PathLike[str]) -> frozenset[str]:
    """Return the ids of a list of authors, one a line.

    Raises
    ------
    DataError
        If the file cannot be read, or a line is not one id.
    """
    return frozenset(fields[0] for _, fields in _rows(path, 1, "write one author id a line"))


def read_line_ids(path: str | os.PathLike[str]) -> list[Line]:
    """Return the lines that a list names, in its order: conversation id, white space, line number.

    Raises
    ------
    DataError
        If the file cannot be read, or a line is not an id and a number.
    """
    mend = "write a conversation id, a tab and a line number a line"
    lines = []
    for place, (conversation, number) in _rows(path, 2, mend):
        if not _is_number(number):
            raise DataError(f"{place}: the line number is not one; {mend}")
        lines.append((conversation, int(number)))
    return lines


def _rows(path: str | os.PathLike[str], n_fields: int, mend: str) -> Iterator[tuple[str, list[str]]]:
    check_readable(path)
    for number, line in read_lines(path):
        place = f"{path}, line {number}"
        fields = line.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").split()
        if len(fields) != n_fields:
            raise DataError(f"{place}: has {len(fields)} fields where {n_fields} belong; {mend}")
        yield place, fields


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < 10


class _Corpus:
    """A parser that keeps no more of the document than the conversation that it is in.

    Entities can only be declared in a document type, which is refused as soon as it begins. Elements have their fixed
    places, which bounds the depth.
    """

    def __init__(self, path: str | os.PathLike[str], suspects: frozenset[str] | None) -> None:
        self.finished: list[Thread] = []
        self._path = path
        self._suspects = suspects
        self._seen: set[int] = set()
        self._open: list[str] = [""]
        self._thread_id = ""
        self._messages: list[Message] = []
        self._line = 0
        self._clock: float | None = None
        self._fields: dict[str, str] = {}
        self._parts: list[str] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def parse(self, chunk: bytes) -> DataError | None:
        """Read on, to the end of the document if there is nothing more; return what is wrong with it."""
        try:
            self._parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            problem = f"line {error.lineno}: cannot be read as XML ({expat.ErrorString(error.code)})"
            return DataError(f"{self._path}, {problem}; is the file whole, and unchanged?")
        except DataError as error:
            return error
        except (LookupError, ValueError):
            return self._error("is in an encoding that cannot be read; write UTF-8")
        return None

    def _error(self, problem: str) -> DataError:
        return DataError(f"{self._path}, line {self._parser.CurrentLineNumber}: {problem}")

    def _refuse(self, *_: object) -> None:
        raise self._error("declares a document type, in which entities may hide; the corpus has none, so remove it")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if PARENTS.get(name) != self._open[-1]:
            raise self._error("an element that does not belong there; the corpus nests conversations and messages")
        self._open.append(name)
        if name == "conversation":
            self._thread_id = attributes.get("id", "").strip()
            self._messages, self._clock = [], None
            if not self._thread_id or hash(self._thread_id) in self._seen:
                raise self._error("the conversation has no id, or that of an earlier one; give each its own")
            self._seen.add(hash(self._thread_id))
        elif name == "message":
            number = attributes.get("line", "").strip()
            if not _is_number(number):
                raise self._error("the message has no line number; number all lines")
            self._line, self._fields = int(number), {}

    def _characters(self, data: str) -> None:
        if self._open[-1] in FIELDS:
            self._parts.append(data)

    def _end(self, name: str) -> None:
        self._open.pop()
        if name in FIELDS:
            self._fields[name] = "".join(self._parts)
            self._parts.clear()
        elif name == "message":
            self._messages.append(self._message())
        elif name == "conversation" and self._messages:
            self.finished.append(self._thread())

    def _message(self) -> Message:
        author = self._fields.get("author", "").strip()
        if not author:
            raise self._error("the message has no author; every message needs one")
        sent_at = _sent_at(self._fields.get("time", ""), self._clock)
        self._clock = self._clock if sent_at is None else sent_at
        return Message(author, _unescaped(self._fields.get("text", "")), sent_at, self._line)

    def _thread(self) -> Thread:
        if self._suspects is None:
            return Thread(self._thread_id, self._messages)
        suspects = sorted(self._suspects.intersection(message.author for message in self._messages))
        return Thread(self._thread_id, self._messages, int(bool(suspects)), suspects, "+".join(suspects) or None)


def _sent_at(clock: str, latest: float | None) -> float | None:
    found = CLOCK.fullmatch(clock)
    if found is None:
        return None
    seconds = int(found[1]) * HOUR + int(found[2]) * 60.0
    if latest is None:
        return seconds
    back = latest % DAY - seconds
    return latest if 0.0 < back < HOUR else latest + -back % DAY


def _unescaped(text: str) -> str:
    return REFERENCE.sub(_character, text)


def _character(found: re.Match[str]) -> str:
    # html.unescape takes &notation; for the sign of "not" with "ation;" after it
    reference = found[1]
    return html.unescape(f"&{reference}") if reference[0] == "#" else html5.get(reference, f"&{reference}")
