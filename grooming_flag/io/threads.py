"""Threads as JSON lines, one thread a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from grooming_flag.errors import DataError
from grooming_flag.io.columns import Columns
from grooming_flag.io.streams import LONGEST, Reach, check_readable, compressed, read_lines, whole_file
from grooming_flag.records import CONTEXT, Identifier, Message, Thread, ThreadColumns

LEAST_MESSAGE = 24  # bytes of the shortest message and what divides it from the next


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


class _CodedMessage(msgspec.Struct):
    codes: list[str | int] | None = None


class _KnownThread(msgspec.Struct):
    thread_id: str
    surface: str | None = None
    locale: str | None = None
    age_band: str | None = None


class _CodedThread(msgspec.Struct):
    thread_id: str
    messages: list[_CodedMessage]


Row = TypeVar("Row")
Parsed = TypeVar("Parsed", Thread, str)
_decoder = msgspec.json.Decoder(_ThreadRow)
_known_decoder = msgspec.json.Decoder(_KnownThread)
_coded_decoder = msgspec.json.Decoder(_CodedThread)


def read_threads(
    *paths: str | os.PathLike[str],
    on_bad: Callable[[DataError], None] | None = None,
    reach: Reach | None = None,
) -> Iterator[Thread]:
    """Yield the threads of JSON-lines files, in order and in constant memory but for a hash of each thread id.

    Parameters
    ----------
    *paths : path
        ``-`` for standard input; decompressed if the name ends in .gz or .zst.
    on_bad : callable, optional
        Gets the error of each line that cannot be used, which is then left out; also that of a compressed file that
        is cut short. By default it is raised.
    reach : Reach, optional
        Gets how many bytes of all files have been read.

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
    return _each(paths, _parse, on_bad, reach)


def read_columns(
    *paths: str | os.PathLike[str],
    on_bad: Callable[[DataError], None] | None = None,
    reach: Reach | None = None,
) -> Iterator[ThreadColumns]:
    """Yield what `read_threads` does as columns, some hundred threads at a time and several times faster.

    Raises
    ------
    DataError
        As `read_threads`.
    """
    columns = Columns()
    for thread_id in _each(paths, partial(_read_into, columns), on_bad, reach):
        columns.keep(thread_id)
        if columns.is_full:
            yield columns.take()
    if len(columns):
        yield columns.take()


def _each(
    paths: Sequence[str | os.PathLike[str]],
    parse: Callable[[bytes, str | os.PathLike[str], int], Parsed],
    on_bad: Callable[[DataError], None] | None,
    reach: Reach | None,
) -> Iterator[Parsed]:
    """Yield what lines are parsed to, threads or their ids, but for those that cannot be used or repeat an id."""
    seen: set[int] = set()
    if reach:
        reach.total = sum(os.path.getsize(path) for path in paths if os.path.isfile(path))
    for path in paths:
        check_readable(path)
        lines = read_lines(path, reach)
        while True:
            try:
                number, line = next(lines)
                parsed = parse(line, path, number)
                key = hash(parsed if isinstance(parsed, str) else parsed.thread_id)
                if key in seen:
                    raise DataError(f"{path}, line {number}: repeats an earlier thread_id; give each thread its own")
            except StopIteration:
                break
            except DataError as error:
                if on_bad is None:
                    raise
                on_bad(error)
                continue
            seen.add(key)
            yield parsed


def _read_into(columns: Columns, line: bytes, path: str | os.PathLike[str], number: int) -> str:
    """Read a thread into the columns, to be kept or not; its messages one by one only where they are not as usual."""
    unpacker = columns.unpacker
    unpacker.begin()
    columns.make_room(len(line) // LEAST_MESSAGE + 1, len(line))
    thread_id: str | None = unpacker.read(line if line.endswith(b"\n") else line + b"\n")
    if thread_id is not None:
        return thread_id
    unpacker.begin()
    thread = _parse(line, path, number)
    texts = [message.text.encode("utf-8", "surrogatepass") for message in thread.messages]
    columns.make_room(len(texts), sum(map(len, texts)))
    for message, text in zip(thread.messages, texts, strict=True):
        unpacker.add(message.author.encode("utf-8", "surrogatepass"), text)
    return thread.thread_id


def read_sources(paths: Sequence[str | os.PathLike[str]]) -> dict[str, list[Thread]]:
    """Return the threads of files by source: the name of the file up to its first dot, or its path if names repeat.

    Raises
    ------
    DataError
        As `read_threads`; also if a file is given twice, or two files have a thread id in common.
    """
    names = [Path(path).name.split(".")[0] for path in paths]
    if len(set(map(str, paths))) < len(paths):
        raise DataError("a file is given twice; name each once")
    sources = {}
    found: dict[str, str] = {}
    for path, name in zip(paths, names, strict=True):
        sources[name if names.count(name) == 1 else str(path)] = threads = list(read_threads(path))
        for thread in threads:
            if thread.thread_id in found:
                where = found[thread.thread_id]
                raise DataError(f"{path}: thread {thread.thread_id} is in {where} too; give each thread its own id")
            found[thread.thread_id] = str(path)
    return sources


def read_codes(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield the id of each thread and the codes of each of its messages, by which annotators marked what they show.

    Parameters
    ----------
    path : path
        Threads, JSON lines, whose messages may have a field `codes`: a list, or null where there are none.
    """
    for number, line in read_lines(path):
        row = decode_row(line, _coded_decoder)
        if isinstance(row, str):
            raise DataError(f"{path}, line {number}: {row}")
        yield row.thread_id, [tuple(map(str, message.codes or ())) for message in row.messages]


def read_contexts(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the id of each thread and what is known of it for policies; see `records.CONTEXT`.

    Parameters
    ----------
    path : path
        Threads, JSON lines, which may have fields of these names.
    """
    for number, line in read_lines(path):
        row = decode_row(line, _known_decoder)
        if isinstance(row, str):
            raise DataError(f"{path}, line {number}: {row}")
        known = {name: getattr(row, name) for name in CONTEXT}
        yield row.thread_id, {name: value for name, value in known.items() if value is not None}


def read_coded_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[bool]]]:
    """Yield the id of each thread and which of its messages have any code; see `read_codes`."""
    for thread_id, codes in read_codes(path):
        yield thread_id, [bool(of_message) for of_message in codes]


@contextmanager
def thread_writer(path: str | os.PathLike[str]) -> Iterator[Callable[..., None]]:
    """Give a function that writes one thread as `encode_thread` does; the file takes its name when all are written.

    Parameters
    ----------
    path : path
        Compressed if the name ends in .gz or .zst; ``-`` for standard output. The same threads give the same bytes.
    """
    with whole_file(path) as raw, compressed(raw, path) as out:

        def write(thread: Thread, marked: Collection[int] = ()) -> None:
            out.write(encode_thread(thread, marked))

        yield write


def encode_thread(thread: Thread, marked: Collection[int] = ()) -> bytes:
    """Return a thread as a line of JSON, which `read_threads` takes back.

    Parameters
    ----------
    thread : Thread
    marked : collection of int
        Places of messages that annotators marked, which `read_coded_lines` takes back.
    """
    row: Any = msgspec.to_builtins(thread) if marked else thread
    for place in marked:
        row["messages"][place]["codes"] = ["marked"]
    try:
        return msgspec.json.encode(row) + b"\n"
    except UnicodeEncodeError:  # lone surrogates, which the standard library escapes
        return json.dumps(msgspec.to_builtins(row)).encode() + b"\n"


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


def _parse(line: bytes, path: str | os.PathLike[str], number: int) -> Thread:
    place = f"{path}, line {number}"
    row = decode_row(line, _decoder)
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


def decode_row(line: bytes, decoder: msgspec.json.Decoder[Row], what: str = "thread") -> Row | str:
    """Return the row, or what is wrong with it. Errors of parsers hold text and must not get out, chained or not."""
    if len(line) > LONGEST:
        return f"longer than {LONGEST:,} bytes; put it into a flat log"
    try:
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        return f"{error}; see the format of {what}s in the README"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:  # the standard library reads lone surrogates, which msgspec does not
        return msgspec.convert(json.loads(line), decoder.type)
    except msgspec.ValidationError as error:
        return f"{error}; see the format of {what}s in the README"
    except json.JSONDecodeError as error:
        return f"not JSON at character {error.pos + 1}; write one {what} a line"
    except (ValueError, RecursionError) as error:
        return f"not JSON ({type(error).__name__}); write one {what} a line in UTF-8"
