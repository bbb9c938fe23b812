"""Threads as JSON lines, one thread a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal

import msgspec

from grooming_flag.errors import DataError
from grooming_flag.io.streams import check_readable, read_lines
from grooming_flag.records import Identifier, Message, Thread


class _MessageRow(msgspec.Struct, gc=False):
    author: str
    text: str
    sent_at: float | str | None = None
    message_id: Identifier | None = None


class _ThreadRow(msgspec.Struct):
    thread_id: str
    messages: list[_MessageRow]
    label: Literal[0, 1] | None = None
    suspects: list[str] | None = None
    person: str | None = None


_decoder = msgspec.json.Decoder(_ThreadRow)


def read_threads(*paths: str | os.PathLike[str], on_bad: Callable[[DataError], None] | None = None) -> Iterator[Thread]:
    """Yield the threads of JSON-lines files, in order and in constant memory but for a hash of each thread id.

    Parameters
    ----------
    *paths : path
        ``-`` for standard input; decompressed if the name ends in .gz or .zst.
    on_bad : callable, optional
        Gets the error of each line that cannot be used, which is then left out; also that of a compressed file that
        is cut short. By default it is raised.

    Raises
    ------
    DataError
        If a line is not a thread, has no messages, or repeats a thread id. The message names file, line and field,
        never text.

    Examples
    --------
    >>> from grooming_flag import read_threads
    >>> sum(thread.label for thread in read_threads("examples/threads.jsonl"))
    10
    """
    seen: set[int] = set()
    for path in paths:
        check_readable(path)
        lines = read_lines(path)
        while True:
            try:
                number, line = next(lines)
                thread = _parse(line, f"{path}, line {number}")
                if hash(thread.thread_id) in seen:
                    raise DataError(f"{path}, line {number}: repeats an earlier thread_id; give each thread its own")
            except StopIteration:
                break
            except DataError as error:
                if on_bad is None:
                    raise
                on_bad(error)
                continue
            seen.add(hash(thread.thread_id))
            yield thread


def parse_time(value: float | str | None) -> float | None:
    """Return seconds; an ISO 8601 string without an offset counts as UTC.

    Raises
    ------
    ValueError
        If a string is not ISO 8601, or a number is not finite.
    """
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if value is not None and not math.isfinite(value):
        raise ValueError("not finite")
    return value


def _parse(line: bytes, place: str) -> Thread:
    row = _decode(line)
    if isinstance(row, str):
        raise DataError(f"{place}: {row}")
    if not row.messages:
        raise DataError(f"{place}: the thread has no messages; leave it out")
    try:
        messages = [Message(m.author, m.text, parse_time(m.sent_at), m.message_id) for m in row.messages]
    except (ValueError, OverflowError):  # which may quote the time
        messages = []
    if not messages:
        raise DataError(f"{place}: a sent_at is not a time; use seconds, ISO 8601 or null")
    return Thread(row.thread_id, messages, row.label, row.suspects or (), row.person)


def _decode(line: bytes) -> _ThreadRow | str:
    """Return the row, or what is wrong with it. Errors of parsers hold text and must not get out, chained or not."""
    try:
        return _decoder.decode(line)
    except msgspec.ValidationError as error:
        return f"{error}; see the format of threads in the README"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:  # the standard library reads lone surrogates, which msgspec does not
        return msgspec.convert(json.loads(line), _ThreadRow)
    except msgspec.ValidationError as error:
        return f"{error}; see the format of threads in the README"
    except json.JSONDecodeError as error:
        return f"not JSON at character {error.pos + 1}; write one thread a line"
    except (ValueError, RecursionError) as error:
        return f"not JSON ({type(error).__name__}); write one thread a line in UTF-8"
