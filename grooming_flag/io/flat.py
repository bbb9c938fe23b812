"""Rows of flat logs, one message a row, to threads: DuckDB sorts them, on disk if it must."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from grooming_flag.errors import DataError
from grooming_flag.io.columns import Columns
from grooming_flag.io.logs import BAD_TIME, ROWS, Log, require_duckdb
from grooming_flag.io.scores import require_pyarrow
from grooming_flag.io.streams import Reach
from grooming_flag.records import Message, Thread, ThreadColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

Read = TypeVar("Read")

MEMORY = "1200MB"
SETTINGS = {
    "autoinstall_known_extensions": False,  # nothing is ever fetched
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # nor is a variable of this program taken for a table
}


def read_flat(
    *paths: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    sql: str | None = None,
    memory: str = MEMORY,
    n_jobs: int = 1,
    on_bad: Callable[[DataError], None] | None = None,
    reach: Reach | None = None,
) -> Iterator[Thread]:
    """Yield the threads of a flat log, ordered by id; the rows of a thread may lie anywhere in its files.

    Messages are ordered by time, then by their place in the log. What does not fit in memory is sorted on disk.

    Parameters
    ----------
    *paths : path
        The files of one log, in one format: .parquet, .csv, .tsv, .jsonl or .arrow; CSV and JSON lines also as .gz or
        .zst. Or a database, which is only read, and whose one table is the log: ``duckdb:`` and a file, or
        ``postgres:`` and what libpq takes to connect.
    columns : mapping of str to str, optional
        Names that the log uses for `thread_id`, `author`, `sent_at`, `text` and `message_id`.
    sql : str, optional
        A query in DuckDB's SQL whose rows are the log, of the tables of a database, of files that it names itself, or
        of `log`: the files of `paths`, in which all columns are text if they are CSV or JSON lines.
    memory : str
        What sorting may take of it, such as ``4GB``; the rest is sorted on disk.
    n_jobs : int
        Threads of execution that read and sort, two at least; what comes does not depend on it.
    on_bad : callable, optional
        Gets the error of each row without thread, author or text, which is then left out. By default it is raised.
    reach : Reach, optional
        Gets how many rows have come, sorted, and how many there are where that is known without reading all.

    Raises
    ------
    MissingExtraError
        If DuckDB (or, for .arrow, pyarrow) is not installed.
    DataError
        If a file cannot be read, a column is missing, or a row has no thread, author or text.
    """

    def threads(log: Log) -> Iterator[Thread]:
        result = log.connection.execute(log.sorted_rows("*"))
        rows = _complete(chain.from_iterable(iter(partial(result.fetchmany, ROWS), [])), log, on_bad)
        for thread_id, group in groupby(rows, key=lambda row: row[0]):
            yield Thread(thread_id, [Message(author, text, at, m_id) for _, author, at, text, m_id, *_ in group])

    return _read(paths, columns, sql, memory, n_jobs, on_bad, reach, threads)


def read_flat_columns(
    *paths: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    sql: str | None = None,
    memory: str = MEMORY,
    n_jobs: int = 1,
    on_bad: Callable[[DataError], None] | None = None,
    reach: Reach | None = None,
) -> Iterator[ThreadColumns]:
    """Yield what `read_flat` does as columns, some hundred threads or a part of a long one at a time, and much faster.

    Raises
    ------
    MissingExtraError
        If DuckDB or pyarrow is not installed.
    DataError
        As `read_flat`.
    """

    def batches(log: Log) -> Iterator[ThreadColumns]:
        require_pyarrow("flat logs need")
        rows = log.connection.sql(log.sorted_rows("thread_id, author, text, problem, place"))
        return columns_of_rows(map(partial(_complete_rows, log, on_bad), rows.to_arrow_reader(ROWS)))

    return _read(paths, columns, sql, memory, n_jobs, on_bad, reach, batches)


def _read(
    paths: Sequence[str | os.PathLike[str]],
    columns: Mapping[str, str] | None,
    sql: str | None,
    memory: str,
    n_jobs: int,
    on_bad: Callable[[DataError], None] | None,
    reach: Reach | None,
    rows_of: Callable[[Log], Iterator[Read]],
) -> Iterator[Read]:
    """Yield what is made of the sorted rows of a log."""
    duckdb = require_duckdb()
    problem = ""
    with tempfile.TemporaryDirectory(prefix="grooming_flag-") as scratch, ExitStack() as closing:
        try:
            settings = {"temp_directory": scratch, "memory_limit": memory, "threads": max(n_jobs, 2), **SETTINGS}
            connection = closing.enter_context(duckdb.connect(config=settings))
        except duckdb.Error:
            connection = None
        if connection is None:
            raise DataError(f"the memory {memory!r} is no size that DuckDB takes; write one such as 1200MB")
        log = Log(connection, list(map(str, paths)), columns or {}, reach or Reach())
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET arrow_large_buffer_size = true")
            log.open(sql)
            first: list[Read] | None = None
            try:  # all is read before the first row comes
                found = rows_of(log)
                first = list(islice(found, 1))
            except duckdb.OutOfMemoryException:
                if log.reach.done:  # rows have come
                    raise
                log.read_in_turn()
            except duckdb.InvalidInputException:
                if not log.is_csv:
                    raise
                log.read_slowly(on_bad)
            if first is None:
                found = rows_of(log)
                first = list(islice(found, 1))
            if log.error is None:
                yield from chain(first, found)
        except duckdb.Error as error:
            problem = f"{log.name}: DuckDB cannot read it ({type(error).__name__}); {log.mend(error)}"
    if problem:  # outside of the handler: DuckDB's errors quote rows, and must not be chained
        raise DataError(problem)
    if log.error is not None:
        raise log.error


def _complete(
    rows: Iterable[tuple[Any, ...]], log: Log, on_bad: Callable[[DataError], None] | None
) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        log.reach.done += 1
        *_, problem, place = row
        if problem:
            _report(on_bad, _error(log, problem, place))
        else:
            yield row


def _complete_rows(log: Log, on_bad: Callable[[DataError], None] | None, batch: Any) -> Any:
    """Return the rows of a batch that are complete, having reported the others."""
    log.reach.done += len(batch)
    problems = np.asarray(batch.column("problem"))
    if not problems.any():
        return batch
    places = batch.column("place")
    for i in np.flatnonzero(problems).tolist():
        _report(on_bad, _error(log, problems[i], places[i].as_py()))
    return batch.filter(problems == 0)


def _error(log: Log, problem: int, place: int) -> DataError:
    what = "thread_id, author or text is missing; every message needs all three"
    if problem == BAD_TIME:
        what = "sent_at is not a time; use seconds or ISO 8601"
    return DataError(f"{log.where(place)}: {what}")


def _report(on_bad: Callable[[DataError], None] | None, error: DataError) -> None:
    if on_bad is None:
        raise error
    on_bad(error)


def columns_of_rows(batches: Iterable[Any]) -> Iterator[ThreadColumns]:
    """Yield the threads of Arrow batches of rows by thread, where a thread may go on from one batch to the next.

    They have the columns `thread_id`, `author` and `text`, all of them strings and none of them null.
    """
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
            if columns.is_long:
                columns.keep(thread_id)
                yield columns.take(goes_on=True)
    if last is not None:
        columns.keep(last)
        yield columns.take()


def _strings(array: Any) -> tuple[memoryview, NDArray[np.int64]]:
    """Return the bytes of an array of strings end to end, and where each begins and the last one ends."""
    array = array.cast("large_string")
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return memoryview(data or b"").cast("B"), bounds
