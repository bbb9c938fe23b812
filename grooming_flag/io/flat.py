"""Flat logs, one message a row, in Parquet, CSV, JSON lines or Arrow files: DuckDB sorts them into threads."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from grooming_flag.errors import DataError, MissingExtraError
from grooming_flag.io.streams import check_readable, read_lines
from grooming_flag.records import Message, Thread

COLUMNS = ("thread_id", "author", "sent_at", "text", "message_id")
REQUIRED = ("thread_id", "author", "text")
READERS = {
    ".parquet": "read_parquet($path)",
    ".csv": "read_csv($path, header = true, all_varchar = true, strict_mode = true)",
    ".tsv": "read_csv($path, header = true, all_varchar = true, strict_mode = true, delim = '\t')",
    ".jsonl": "read_json($path, format = 'newline_delimited')",
    ".arrow": "log",
}
ROWS = 10_000
SETTINGS = {
    "memory_limit": "2GB",
    "threads": 2,
    "autoinstall_known_extensions": False,  # nothing is ever fetched
    "autoload_known_extensions": False,
}


def is_flat(path: str | os.PathLike[str]) -> bool:
    """Return whether the file holds a message a row, by its name or, if it is JSON lines, by its first line."""
    suffix = _suffix(path)
    if suffix != ".jsonl":
        return suffix in READERS
    first = next(read_lines(path), (0, b""))[1]
    try:
        row = msgspec.json.decode(first)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(row, dict) and "messages" not in row and "text" in row


def read_flat(
    *paths: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    on_bad: Callable[[DataError], None] | None = None,
) -> Iterator[Thread]:
    """Yield the threads of a flat log, ordered by id; the rows of a thread may lie anywhere in its files.

    Messages are ordered by time, then by their place in the log. What does not fit in memory is sorted on disk.

    Parameters
    ----------
    *paths : path
        The files of one log, in one format: .parquet, .csv, .tsv, .jsonl or .arrow; CSV and JSON lines also as .gz or
        .zst.
    columns : mapping of str to str, optional
        Names that the log uses for `thread_id`, `author`, `sent_at`, `text` and `message_id`.
    on_bad : callable, optional
        Gets the error of each row without thread, author or text, which is then left out. By default it is raised.

    Raises
    ------
    MissingExtraError
        If DuckDB (or, for .arrow, pyarrow) is not installed.
    DataError
        If a file cannot be read, a column is missing, or a row has no thread, author or text.
    """
    duckdb = _duckdb()
    problem = ""
    log = ", ".join(map(str, paths))
    if len({_suffix(path) for path in paths}) != 1:
        raise DataError(f"{log}: the files of a log must have one format; score each format by itself")
    for path in paths:
        check_readable(path)
    names = {**dict(zip(COLUMNS, COLUMNS, strict=True)), **(columns or {})}
    with tempfile.TemporaryDirectory(prefix="grooming_flag-") as scratch:
        connection = duckdb.connect(config={"temp_directory": scratch, **SETTINGS})
        try:
            connection.execute("SET TimeZone = 'UTC'")
            rows = _complete(_fetch(_sorted_rows(connection, log, paths, names)), log, on_bad)
            for thread_id, group in groupby(rows, key=lambda row: row[0]):
                messages = [Message(author, text, sent_at, m_id) for _, author, sent_at, text, m_id, *_ in group]
                yield Thread(thread_id, messages)
        except duckdb.Error as error:
            is_full = isinstance(error, duckdb.OutOfMemoryException)
            mend = "split the log by thread" if is_full else "is it whole, and what its name says?"
            problem = f"{log}: DuckDB cannot read it ({type(error).__name__}); {mend}"
        finally:
            connection.close()
    if problem:  # outside of the handler: DuckDB's errors quote rows, and must not be chained
        raise DataError(problem)


def _sorted_rows(connection: Any, log: str, paths: Sequence[str | os.PathLike[str]], names: Mapping[str, str]) -> Any:
    reader = READERS[_suffix(paths[0])]
    parameters = {"path": [glob.escape(str(path)) for path in paths]}
    if reader == "log":
        connection.register("log", _arrow(log, paths))
        parameters = {}
    described = connection.execute(f"DESCRIBE SELECT * FROM {reader}", parameters).fetchall()  # noqa: S608
    types = {row[0]: row[1] for row in described}
    missing = [names[column] for column in REQUIRED if names[column] not in types]
    if missing:
        raise DataError(f"{log}: has no column {', '.join(missing)}; map the names with --columns thread_id=NAME,...")
    if "read_json" in reader:  # else DuckDB guesses types and rewrites ids and text that look like times or numbers
        known = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in names.values() if name in types)
        reader = reader.removesuffix(")") + f", columns = {{{known}}})"
        types = dict.fromkeys(types, "VARCHAR")
    empty = "''" if "read_csv" in reader else "NULL"  # where nothing between two commas is an empty text
    values = {column: _expression(column, names[column], types, empty) for column in COLUMNS}
    columns = ", ".join(f"{value} AS {column}" for column, value in values.items())
    bad_time = "false"
    if names["sent_at"] in types:
        bad_time = f"{_quoted(names['sent_at'])} IS NOT NULL AND ({values['sent_at']}) IS NULL"
    query = (
        f"SELECT {columns}, {bad_time} AS bad_time, row_number() OVER () AS place "  # noqa: S608
        f"FROM {reader} ORDER BY thread_id, sent_at, place"
    )
    return connection.execute(query, parameters)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _expression(column: str, name: str, types: Mapping[str, str], empty: str) -> str:
    quoted = _quoted(name)
    if name not in types:
        return "NULL"
    if column == "text":
        return f"coalesce({quoted}::VARCHAR, {empty})"
    if column != "sent_at":
        return f"{quoted}::VARCHAR"
    if types[name].startswith(("TIMESTAMP", "DATE")):
        return f"epoch({quoted})"
    if types[name] == "VARCHAR":
        return f"coalesce(try_cast({quoted} AS DOUBLE), epoch(try_cast({quoted} AS TIMESTAMPTZ)))"
    return f"{quoted}::DOUBLE"


def _fetch(rows: Any) -> Iterator[tuple[Any, ...]]:
    while batch := rows.fetchmany(ROWS):
        yield from batch


def _complete(
    rows: Iterator[tuple[Any, ...]], log: str, on_bad: Callable[[DataError], None] | None
) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        thread_id, author, _, text, _, bad_time, place = row
        if thread_id is not None and author is not None and text is not None and not bad_time:
            yield row
            continue
        what = "sent_at is not a time; use seconds or ISO 8601"
        if not bad_time:
            what = "thread_id, author or text is missing; every message needs all three"
        error = DataError(f"{log}, row {place}: {what}")
        if on_bad is None:
            raise error
        on_bad(error)


def _suffix(path: str | os.PathLike[str]) -> str:
    name = Path(path)
    suffix = Path(name.stem).suffix if name.suffix in (".gz", ".zst") else name.suffix
    return {".ndjson": ".jsonl", ".feather": ".arrow", ".pq": ".parquet"}.get(suffix, suffix)


def _duckdb() -> Any:
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise MissingExtraError("flat logs need DuckDB; pip install 'grooming-flag[batch]'") from error
    return duckdb


def _arrow(log: str, paths: Sequence[str | os.PathLike[str]]) -> Any:
    try:
        import pyarrow.dataset
    except ModuleNotFoundError as error:
        raise MissingExtraError("Arrow files need pyarrow; pip install 'grooming-flag[batch]'") from error
    try:
        return pyarrow.dataset.dataset([str(path) for path in paths], format="ipc")
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{log}: cannot be read as Arrow files ({type(error).__name__})") from error
