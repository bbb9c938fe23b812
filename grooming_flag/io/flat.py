"""Flat logs, one message a row, in Parquet, CSV, JSON lines or Arrow files: DuckDB sorts them into threads."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from grooming_flag.errors import DataError, MissingExtraError
from grooming_flag.io.columns import Columns
from grooming_flag.io.scores import require_pyarrow
from grooming_flag.io.streams import check_readable, read_lines
from grooming_flag.records import Message, Thread, ThreadColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

Read = TypeVar("Read")

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
ABSENT, BAD_TIME = 1, 2  # what is wrong with a row
MEMORY = "1200MB"
SETTINGS = {
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
    memory: str = MEMORY,
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
    memory : str
        What sorting may take of it, such as ``4GB``; the rest is sorted on disk.
    on_bad : callable, optional
        Gets the error of each row without thread, author or text, which is then left out. By default it is raised.

    Raises
    ------
    MissingExtraError
        If DuckDB (or, for .arrow, pyarrow) is not installed.
    DataError
        If a file cannot be read, a column is missing, or a row has no thread, author or text.
    """

    def threads(log: str, connection: Any, query: str, parameters: Mapping[str, Any]) -> Iterator[Thread]:
        result = connection.execute(f"SELECT * {query}", parameters)
        rows = _complete(_fetch(result), log, on_bad)
        for thread_id, group in groupby(rows, key=lambda row: row[0]):
            yield Thread(thread_id, [Message(author, text, at, m_id) for _, author, at, text, m_id, *_ in group])

    return _read(paths, columns, memory, threads)


def read_flat_columns(
    *paths: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    memory: str = MEMORY,
    on_bad: Callable[[DataError], None] | None = None,
) -> Iterator[ThreadColumns]:
    """Yield what `read_flat` does as columns, some hundred threads at a time and several times faster.

    Raises
    ------
    MissingExtraError
        If DuckDB or pyarrow is not installed.
    DataError
        As `read_flat`.
    """

    def batches(log: str, connection: Any, query: str, parameters: Mapping[str, Any]) -> Iterator[ThreadColumns]:
        require_pyarrow("flat logs need")
        connection.execute("SET arrow_large_buffer_size = true")
        relation = connection.sql(f"SELECT thread_id, author, text, problem, place {query}", params=parameters)
        return _columns(map(partial(_complete_rows, log, on_bad), relation.to_arrow_reader(ROWS)))

    return _read(paths, columns, memory, batches)


def _read(
    paths: Sequence[str | os.PathLike[str]],
    columns: Mapping[str, str] | None,
    memory: str,
    rows_of: Callable[[str, Any, str, Mapping[str, Any]], Iterator[Read]],
) -> Iterator[Read]:
    """Yield what is made of the sorted rows of a log, given its name, a connection, and a query and its parameters."""
    duckdb = _duckdb()
    problem = ""
    log = ", ".join(map(str, paths))
    if len({_suffix(path) for path in paths}) != 1:
        raise DataError(f"{log}: the files of a log must have one format; score each format by itself")
    for path in paths:
        check_readable(path)
    names = {**dict(zip(COLUMNS, COLUMNS, strict=True)), **(columns or {})}
    with tempfile.TemporaryDirectory(prefix="grooming_flag-") as scratch:
        connection = duckdb.connect(config={"temp_directory": scratch, "memory_limit": memory, **SETTINGS})
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield from rows_of(log, connection, *_sorted_rows(connection, log, paths, names))
        except duckdb.Error as error:
            is_full = isinstance(error, duckdb.OutOfMemoryException)
            mend = (
                "give it more memory, or split the log by thread" if is_full else "is it whole, and what its name says?"
            )
            problem = f"{log}: DuckDB cannot read it ({type(error).__name__}); {mend}"
        finally:
            connection.close()
    if problem:  # outside of the handler: DuckDB's errors quote rows, and must not be chained
        raise DataError(problem)


def _sorted_rows(
    connection: Any, log: str, paths: Sequence[str | os.PathLike[str]], names: Mapping[str, str]
) -> tuple[str, Mapping[str, Any]]:
    """Return what follows SELECT in a query for the rows by thread, time and place, and its parameters."""
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
    absent = " OR ".join(f"({values[column]}) IS NULL" for column in REQUIRED)
    problem = f"CASE WHEN {bad_time} THEN {BAD_TIME} WHEN {absent} THEN {ABSENT} ELSE 0 END"
    rows = f"SELECT {columns}, {problem} AS problem, row_number() OVER () AS place FROM {reader}"  # noqa: S608
    return f"FROM ({rows}) ORDER BY thread_id, sent_at, place", parameters


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
        *_, problem, place = row
        if problem:
            _report(log, on_bad, problem, place)
        else:
            yield row


def _complete_rows(log: str, on_bad: Callable[[DataError], None] | None, batch: Any) -> Any:
    """Return the rows of a batch that are complete, having reported the others."""
    problems = np.asarray(batch.column("problem"))
    if not problems.any():
        return batch
    places = batch.column("place")
    for i in np.flatnonzero(problems).tolist():
        _report(log, on_bad, problems[i], places[i])
    return batch.filter(problems == 0)


def _report(log: str, on_bad: Callable[[DataError], None] | None, problem: int, place: object) -> None:
    what = "thread_id, author or text is missing; every message needs all three"
    if problem == BAD_TIME:
        what = "sent_at is not a time; use seconds or ISO 8601"
    error = DataError(f"{log}, row {place}: {what}")
    if on_bad is None:
        raise error
    on_bad(error)


def _columns(batches: Iterable[Any]) -> Iterator[ThreadColumns]:
    """Yield the threads of sorted rows, which may go on from one batch to the next."""
    from pyarrow.compute import run_end_encode

    columns = Columns()
    last: str | None = None
    for batch in batches:
        texts, text_offsets = _strings(batch.column("text"))
        names, name_offsets = _strings(batch.column("author"))
        runs = run_end_encode(batch.column("thread_id"))
        start = 0
        for thread_id, stop in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            if thread_id != last:
                if last is not None:
                    columns.keep(last)
                    if columns.is_full:
                        yield columns.take()
                columns.unpacker.begin()
                last = thread_id
            columns.make_room(stop - start, int(text_offsets[stop] - text_offsets[start]))
            columns.unpacker.add_rows(names, name_offsets, texts, text_offsets, start, stop)
            start = stop
    if last is not None:
        columns.keep(last)
        yield columns.take()


def _strings(array: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of an array of large strings end to end, and where each begins and the last one ends."""
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(data or b"", dtype=np.uint8), bounds


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
    require_pyarrow("flat logs need")
    import pyarrow.dataset

    try:
        return pyarrow.dataset.dataset([str(path) for path in paths], format="ipc")
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{log}: cannot be read as Arrow files ({type(error).__name__})") from error
