"""Messages one by one, of any threads in any order: lines of JSON, or fields of the entries of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from grooming_flag.errors import DataError
from grooming_flag.io.threads import decode_row, parse_time
from grooming_flag.records import CONTEXT, Identifier, Message


class Arrival(NamedTuple):
    """A message, the thread that it belongs to, and what is known of this besides; see `records.CONTEXT`."""

    thread_id: str
    message: Message
    context: dict[str, str]


class _Row(msgspec.Struct):
    thread_id: str
    author: str
    text: str
    sent_at: float | str | None = None
    message_id: Identifier | None = None
    surface: str | None = None
    locale: str | None = None
    age_band: str | None = None


_decoder = msgspec.json.Decoder(_Row)


def read_message(line: bytes) -> Arrival:
    """Return the message in a line of JSON.

    Raises
    ------
    DataError
        If it is none. The error names the field, never text.
    """
    row = decode_row(line, _decoder, "message")
    return _arrival(row)


def read_fields(fields: Mapping[bytes, bytes]) -> Arrival:
    """Return the message in the fields of an entry; `sent_at` may be seconds too.

    Raises
    ------
    DataError
        As `read_message`.
    """
    row: _Row | str
    try:
        found: dict[str, Any] = {name.decode(): value.decode() for name, value in fields.items()}
        with suppress(KeyError, ValueError):
            found["sent_at"] = float(found["sent_at"])
        row = msgspec.convert(found, _Row)
    except UnicodeDecodeError:
        row = "not UTF-8; see the format of messages in the README"
    except msgspec.ValidationError as error:
        row = f"{error}; see the format of messages in the README"
    return _arrival(row)


def _arrival(row: _Row | str) -> Arrival:
    if isinstance(row, str):
        raise DataError(row)
    try:
        message = Message(row.author, row.text, parse_time(row.sent_at), row.message_id)
    except (ValueError, OverflowError):  # which may quote the time
        message = None
    if message is None:
        raise DataError("sent_at is not a time; use seconds, ISO 8601 or null")
    known = {name: getattr(row, name) for name in CONTEXT if getattr(row, name) is not None}
    return Arrival(row.thread_id, message, known)
