"""Where the rows of a flat log are and what DuckDB is asked for them: files, databases, queries."""

from __future__ import annotations

import glob
import importlib.util
import os
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import msgspec

from grooming_flag.errors import DataError, MissingExtraError
from grooming_flag.io.csv_files import LONGEST, common_header, csv_rows
from grooming_flag.io.scores import require_pyarrow
from grooming_flag.io.streams import DATABASES, Reach, check_readable, is_database, read_lines

COLUMNS = ("thread_id", "author", "sent_at", "text", "message_id")
REQUIRED = ("thread_id", "author", "text")
FILES = "hive_partitioning = false"  # what folders are called is no column
QUOTES = "quote = '\"', escape = '\"', comment = ''"
CSV = f"{FILES}, header = true, auto_detect = false, strict_mode = true, max_line_size = {LONGEST}, {QUOTES}"
READERS = {  # braces for a list of files; nothing is guessed from the first rows, which may be unlike the others
    ".parquet": f"read_parquet({{}}, {FILES}, union_by_name = true)",
    ".csv": f"read_csv({{}}, {CSV}, delim = ',')",
    ".tsv": f"read_csv({{}}, {CSV}, delim = '\t')",
    ".jsonl": f"read_json({{}}, {FILES}, format = 'newline_delimited', ignore_errors = true)",  # a bad line: NULL
    ".arrow": "arrow_files",
}
ARROW = b"ARROW1"  # what a file begins with, and a stream does not
ROWS = 10_000
FIRST_LINES = 1000
ABSENT, BAD_TIME = 1, 2  # what is wrong with a row
QUERY = "query"
DATABASE, POSTGRES = DATABASES
COUNTED = (".parquet", ".arrow", DATABASE)  # rows are told by what stands beside them
PLACES = ("file_index", "file_row_number")  # what DuckDB knows of each row of Parquet
IN_TURN = "row_number() OVER ()"  # for which DuckDB reads with one thread of execution
PLACE_BITS = 40  # of the latter
FILE, PLACE = "grooming_flag: file", "grooming_flag: place"  # columns that no log has
EVERYTHING = f"max(hash({', '.join(COLUMNS)}))"  # for which all columns must be parsed


def is_flat(path: str | os.PathLike[str]) -> bool | None:
    """Return whether the file holds a message a row, by its name or, if it is JSON lines, by its first good line.

    None if JSON lines have none.
    """
    if is_database(path):
        return True
    suffix = _suffix(path)
    if suffix != ".jsonl":
        return suffix in READERS
    for _, line in islice(read_lines(path), FIRST_LINES):
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(row, dict) and ("messages" in row or "text" in row):
            return "messages" not in row
    return None


class Log:
    """A log in a connection to DuckDB, which is asked for its rows.

    Attributes
    ----------
    name : str
        For errors.
    connection : duckdb.DuckDBPyConnection
    reach : Reach
        In rows.
    error : DataError or None
        What stopped the reading of CSV.
    """

    def __init__(self, connection: Any, paths: list[str], columns: Mapping[str, str], reach: Reach) -> None:
        self.name = ", ".join("PostgreSQL" if path.startswith(POSTGRES) else path for path in paths) or "the query"
        self.connection = connection
        self.reach = reach
        self._paths = paths
        self._columns = {**dict(zip(COLUMNS, COLUMNS, strict=True)), **columns}
        self.error: DataError | None = None
        self._kind = QUERY
        self._files = ""  # their format, where the log is files or a query of files
        self._from = ""
        self._place = IN_TURN
        self._types: dict[str, str] = {}
        self._header: list[str] = []
        self._arrow_lengths: Callable[[], list[int]] = list
        self._ends: list[int] = []  # places of the last rows of the files

    def open(self, sql: str | None) -> None:
        """Find out where the rows are and of what types; raise a DataError if a column is not there."""
        if any(map(is_database, self._paths)):
            self._open_database(has_query=sql is not None)
        elif self._paths:
            self._open_files(has_query=sql is not None)
        elif sql is None:
            raise DataError("there is nothing to read; name files, or give a query")
        if sql is not None:
            self._open_query(sql)
        if self._kind in COUNTED:
            (self.reach.total,) = self.connection.execute(f"SELECT count(*) FROM {self._from}").fetchone()  # noqa: S608
        self._types = self._described(self._from)
        if self._kind == ".parquet" and self._types.keys().isdisjoint(PLACES):
            self._place = f"(({PLACES[0]} + 1)::BIGINT << {PLACE_BITS}) + {PLACES[1]} + 1"
        missing = [self._columns[column] for column in REQUIRED if self._columns[column] not in self._types]
        if missing:
            mend = "map the names with --columns thread_id=NAME,..."
            raise DataError(f"{self.name}: has no column {', '.join(missing)}; {mend}")

    def _open_database(self, has_query: bool) -> None:
        """Attach the database; without a query its one table or view is the log."""
        self._kind = DATABASE
        if len(self._paths) > 1:
            raise DataError(f"{self.name}: a database is a log by itself; score it alone")
        (path,) = self._paths
        if path.startswith(POSTGRES):  # whose name may hold a password
            self._kind = POSTGRES
            self.connection.execute(f"LOAD {_literal(_postgres_extension())}")
            self.connection.execute("SET pg_use_ctid_scan = false")  # rows in their order
            options = "TYPE postgres, READ_ONLY"
        else:
            if not os.path.isfile(path.removeprefix(DATABASE)):
                raise DataError(f"{path}: there is no such database; give its whole name")
            options = "READ_ONLY"
        name = path.removeprefix(self._kind)
        self.connection.execute(f"ATTACH {_literal(name)} AS log_database ({options})")
        self.connection.execute("USE log_database")
        tables = [row[0] for row in self.connection.execute("SHOW TABLES").fetchall()]
        if len(tables) != 1 and not has_query:
            names = ", ".join(tables) or "none"
            raise DataError(f"{self.name}: need one table, and it has {names}; say which with --sql 'FROM TABLE'")
        self._from = _quoted(tables[0]) if tables else ""

    def _open_files(self, has_query: bool) -> None:
        kinds = {_suffix(path) for path in self._paths}
        if len(kinds) != 1:
            raise DataError(f"{self.name}: the files of a log must have one format; score each format by itself")
        (self._kind,) = kinds
        self._files = self._kind
        if self._files not in READERS:
            raise DataError(f"{self.name}: no flat log has such a name; see the formats in the README")
        for path in self._paths:
            check_readable(path)
            if not _is_utf8(path):
                raise DataError(f"{path!r}: DuckDB takes names in UTF-8 only; rename it")
        files = ", ".join(_literal(glob.escape(path)) for path in self._paths)
        self._from = READERS[self._kind].format(f"[{files}]")
        if self._kind == ".arrow":
            rows, self._arrow_lengths = _arrow(self.name, self._paths)
            self.connection.register(self._from, rows)
        elif self._kind == ".jsonl":
            names = [name for name in _keys(self._paths) if has_query or name in self._columns.values()]
            rare = [self._columns[column] for column in COLUMNS if column not in REQUIRED]
            self._all_text(dict.fromkeys([*names, *rare]))
        elif self.is_csv:
            self._paths = [path for path in self._paths if os.path.getsize(path)] or self._paths
            self._header = common_header(self._paths, self._delimiter)
            self._all_text(self._header)

    def _all_text(self, names: Iterable[str]) -> None:
        """Read columns as text: DuckDB would guess types, and rewrite ids and text that look like times or numbers."""
        columns = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in names)
        self._from = _with(self._from, f"columns = {{{columns}}}") if columns else self._from

    def _open_query(self, sql: str) -> None:
        if self._files:
            self.connection.execute(f"CREATE TEMP VIEW log AS {self._all_columns()}")
        self._kind = QUERY
        statements = self.connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type.name != "SELECT":
            raise DataError(f"{self.name}: give one SELECT as the query; a log is only read")
        self._from = "log_rows"
        self.connection.execute(f"CREATE TEMP VIEW {self._from} AS {sql}")

    def _all_columns(self) -> str:
        """Return a query for the rows of the files as they are, but that a text of CSV is never NULL."""
        text = self._columns["text"]
        if self.is_csv and text in self._header:
            return f"SELECT * REPLACE (coalesce({_quoted(text)}, '') AS {_quoted(text)}) FROM {self._from}"  # noqa: S608
        return f"SELECT * FROM {self._from}"  # noqa: S608

    def _described(self, source: str) -> dict[str, str]:
        """Return the types of the columns, by name."""
        rows = self.connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608
        return {row[0]: row[1] for row in rows}

    def sorted_rows(self, columns: str) -> str:
        """Return a query for the rows by thread, time and place in the log.

        There are the columns `COLUMNS`, `place`, and `problem`: 0 if the row is complete.
        """
        return f"SELECT {columns} FROM ({self._rows()}) ORDER BY thread_id, sent_at, place"  # noqa: S608

    def _rows(self, more: str = "", *options: str) -> str:
        """Return a query for all rows in their order, with more columns, from files read with these options."""
        values = {column: self._expression(column) for column in COLUMNS}
        found = ", ".join(f"{value} AS {column}" for column, value in values.items())
        bad_time = "false"
        if self._columns["sent_at"] in self._types:
            bad_time = f"{_quoted(self._columns['sent_at'])} IS NOT NULL AND ({values['sent_at']}) IS NULL"
        absent = " OR ".join(f"({values[column]}) IS NULL" for column in REQUIRED)
        problem = f"CASE WHEN {bad_time} THEN {BAD_TIME} WHEN {absent} THEN {ABSENT} ELSE 0 END"
        chosen = f"{more}{found}, {problem} AS problem, {self._place} AS place"
        return f"SELECT {chosen} FROM {_with(self._from, *options)}"  # noqa: S608

    def _expression(self, column: str) -> str:
        """Return the SQL for a column as threads have it."""
        name = self._columns[column]
        kind = self._types.get(name)
        value = _quoted(name)
        if kind is None:
            return "NULL"
        if column == "text" and self._kind in (".csv", ".tsv"):  # nothing between two commas is an empty one
            return f"coalesce({value}::VARCHAR, '')"
        if column != "sent_at":
            return f"{value}::VARCHAR"
        seconds = f"{value}::DOUBLE"
        if kind.startswith(("TIMESTAMP", "DATE")):
            seconds = f"epoch({value})"
        elif kind == "VARCHAR":
            seconds = f"coalesce(try_cast({value} AS DOUBLE), epoch(try_cast({value} AS TIMESTAMPTZ)))"
        return f"CASE WHEN isfinite({seconds}) THEN {seconds} END"

    def read_in_turn(self) -> None:
        """Let rows be numbered as they come, which takes more time and less memory."""
        self._place = IN_TURN

    @property
    def is_csv(self) -> bool:
        """Whether the rows are lines of CSV or TSV files, or chosen from these."""
        return self._files in (".csv", ".tsv")

    def read_slowly(self, on_bad: Callable[[DataError], None] | None) -> None:
        """Read files of CSV that DuckDB refuses as Python does; bad rows are reported, or the first is the error."""
        require_pyarrow("flat logs need")
        import pyarrow

        schema = pyarrow.schema([*((name, pyarrow.large_string()) for name in self._header), (PLACE, pyarrow.int64())])
        batches = (
            pyarrow.RecordBatch.from_arrays(list(map(pyarrow.array, columns, schema.types)), schema=schema)
            for columns in self._csv_columns(on_bad)
        )
        self.connection.register("csv_rows", pyarrow.RecordBatchReader.from_batches(schema, batches))
        self._from, self._place = "csv_rows", _quoted(PLACE)
        if self._kind == QUERY:  # which may read them more than once
            self.connection.execute(f"CREATE TEMP TABLE csv_log AS {self._all_columns()}")
            self.connection.execute("CREATE OR REPLACE TEMP VIEW log AS SELECT * FROM csv_log")
            self._from, self._place = "log_rows", IN_TURN

    def _csv_columns(self, on_bad: Callable[[DataError], None] | None) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the columns of the good rows of files of CSV, and their places, some rows at a time."""

        def go_on(error: DataError) -> bool:
            if on_bad is None:
                self.error = error
            else:
                on_bad(error)
            return on_bad is not None

        rows = (
            (*(value or None for value in row), k << PLACE_BITS | number)
            for k, path in enumerate(self._paths, 1)
            if self.error is None
            for number, row in csv_rows(path, self._delimiter, go_on)
        )
        while some := list(islice(rows, ROWS)):
            yield list(zip(*some, strict=True))

    @property
    def _delimiter(self) -> str:
        return "\t" if self._files == ".tsv" else ","

    def where(self, place: int) -> str:
        """Return file and number of a row, counted from 1 without a header, for its place among all."""
        if self._kind not in READERS:
            return f"{self.name}, row {place} of the {'query' if self._kind == QUERY else 'table'}"
        if place >> PLACE_BITS:
            return f"{self._paths[(place >> PLACE_BITS) - 1]}, row {place & ((1 << PLACE_BITS) - 1)}"
        if not self._ends:
            self._ends = list(accumulate(self._lengths()))
        k = bisect_left(self._ends, place)
        return f"{self._paths[k]}, row {place - (self._ends[k - 1] if k else 0)}"

    def _lengths(self) -> list[int]:
        """Return how many rows are read of each file."""
        if len(self._paths) == 1:
            return [sys.maxsize]
        if self._kind == ".arrow":
            return self._arrow_lengths()
        rows = self._rows(f"{_quoted(FILE)} AS file, ", f"filename = {_literal(FILE)}")
        query = f"SELECT file, count(*), {EVERYTHING} FROM ({rows}) GROUP BY file"  # noqa: S608
        found = {row[0]: row[1] for row in self.connection.cursor().execute(query).fetchall()}
        return [found.get(path, 0) for path in self._paths]

    def mend(self, error: Exception) -> str:
        """Return what may help against an error of DuckDB's."""
        if type(error).__name__ == "OutOfMemoryException":
            return "give it more memory, give TMPDIR more disk, or split the log by thread"
        if self._kind == QUERY:
            return "does the query run in DuckDB by itself, without extensions?"
        if self._kind == POSTGRES:
            return "does psql connect with the same words, and may it read the table?"
        if self._kind == DATABASE:
            return "is it a database of DuckDB's, whole, and not open for writing elsewhere?"
        return "is it whole, what its name says, and are its columns of usual types and names?"


def _with(source: str, *options: str) -> str:
    """Return a reader of files with more options."""
    return source.removesuffix(")") + "".join(f", {option}" for option in options) + ")" if options else source


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _keys(paths: Sequence[str]) -> list[str]:
    """Return the keys of the first objects of flat JSON-lines files."""
    lines = (line for path in paths for _, line in islice(read_lines(path), FIRST_LINES))
    found: dict[str, None] = {}
    for line in lines:
        try:
            found |= dict.fromkeys(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # DuckDB will find it too
    return list(found)


def _suffix(path: str | os.PathLike[str]) -> str:
    name = Path(str(path).lower())
    suffix = Path(name.stem).suffix if name.suffix in (".gz", ".zst") else name.suffix
    return {".ndjson": ".jsonl", ".feather": ".arrow", ".pq": ".parquet"}.get(suffix, suffix)


def require_duckdb() -> Any:
    """Return DuckDB, or raise an error that says what to install."""
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise MissingExtraError("flat logs need DuckDB; pip install 'grooming-flag[batch]'") from error
    return duckdb


def _postgres_extension() -> str:
    """Return the file with DuckDB's own extension for PostgreSQL, from the package that brings it."""
    package = importlib.util.find_spec("duckdb_extension_postgres_scanner")
    folders = list(package.submodule_search_locations or ()) if package else []
    files = sorted(
        file for folder in folders for file in Path(folder).rglob(f"v{require_duckdb().__version__}/*.duckdb_extension")
    )
    if not files:
        raise MissingExtraError("PostgreSQL needs an extension of DuckDB; pip install 'grooming-flag[postgres]'")
    return str(files[0])


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _arrow(log: str, paths: Sequence[str]) -> tuple[Any, Callable[[], list[int]]]:
    """Return the rows of Arrow IPC files, as DuckDB takes them, and what tells how many are in each.

    All are read once before, since DuckDB follows the offsets of strings wherever damaged ones lead.
    """
    require_pyarrow("flat logs need")
    import pyarrow.dataset

    try:
        tables = [_arrow_stream(path) for path in paths]
        if None not in tables:
            return pyarrow.concat_tables(tables, promote_options="permissive"), lambda: list(map(len, tables))
        files = pyarrow.dataset.dataset(paths, format="ipc")
        for batch in files.to_batches():
            batch.validate(full=True)
        fragments = list(files.get_fragments())
        schema = pyarrow.unify_schemas([one.physical_schema for one in fragments], promote_options="permissive")
        return files.replace_schema(schema), lambda: [one.count_rows() for one in fragments]
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{log}: cannot be read as Arrow files ({type(error).__name__}), nor all as streams") from error


def _arrow_stream(path: str) -> Any:
    """Return the rows of an Arrow stream, which stay in the file; None if it is no stream."""
    import pyarrow.ipc

    with open(path, "rb") as file:
        if file.read(len(ARROW)) == ARROW:
            return None
    table = pyarrow.ipc.open_stream(pyarrow.memory_map(path)).read_all()
    table.validate(full=True)
    return table
