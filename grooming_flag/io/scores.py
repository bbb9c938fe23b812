"""Score files: one row a thread, as JSON lines or Parquet."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import msgspec

from grooming_flag.errors import DataError, MissingExtraError
from grooming_flag.io.streams import check_readable, read_lines, whole_file
from grooming_flag.records import Assessment, Evidence, Identifier

COLUMNS = (
    "thread_id",
    "score",
    "probability",
    "flagged",
    "operating_point",
    "suspect",
    "suspect_probability",
    "abstained",
    "n_messages",
    "n_authors",
    "model",
)
ROWS = 10_000
Row = Assessment | Mapping[str, Any]
_values = attrgetter(*COLUMNS)
_Row = msgspec.defstruct("_Row", COLUMNS)  # several times faster than a dictionary


class ScoreRow(msgspec.Struct, frozen=True):
    """What a score file, of this library or of any other system, says of a thread or of its first messages.

    Attributes
    ----------
    thread_id : str
    score : float or None
        Any real, higher is riskier.
    probability : float or None
        In 0..1.
    suspect : str or None
    n_messages : int or None
        How many messages the system had seen.
    abstained : bool
    evidence : tuple of str or int
        Ids of messages, strongest evidence first.
    """

    thread_id: str
    score: float | None = None
    probability: float | None = None
    suspect: str | None = None
    n_messages: int | None = None
    abstained: bool = False
    evidence: tuple[Identifier, ...] = ()


@contextmanager
def score_writer(path: str | os.PathLike[str]) -> Iterator[Callable[[Row], None]]:
    """Give a function that writes one row, or that of an assessment; the file takes its name when all are written.

    Parameters
    ----------
    path : path
        Parquet if it ends in .parquet, else JSON lines; ``-`` for standard output.

    Raises
    ------
    MissingExtraError
        If Parquet is wanted and pyarrow is not installed.
    """
    if str(path).endswith(".parquet"):
        with _parquet_writer(path) as write:
            yield write
    else:
        with whole_file(path) as out:

            def write(row: Row) -> None:
                out.write(encode_row(row))

            yield write


@contextmanager
def _parquet_writer(path: str | os.PathLike[str]) -> Iterator[Callable[[Row], None]]:
    require_pyarrow("Parquet needs")
    import pyarrow.parquet

    text, number = pyarrow.string(), pyarrow.float64()
    evidence = {"message_id": text, "author": text, "contribution": number, "tactics": pyarrow.list_(text)}
    schema = score_schema().append(pyarrow.field("evidence", pyarrow.list_(pyarrow.struct(list(evidence.items())))))
    rows: list[Any] = []
    with whole_file(path) as out, pyarrow.parquet.ParquetWriter(out, schema) as file:

        def write(row: Row) -> None:
            row = score_row(row) if isinstance(row, Assessment) else row
            messages = [{**item, "message_id": str(item["message_id"])} for item in row.get("evidence", ())]
            rows.append(encodable({**row, "evidence": messages}))
            if len(rows) >= ROWS:
                file.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows.clear()

        yield write
        file.write_table(pyarrow.Table.from_pylist(rows, schema))


def score_schema() -> Any:
    """Return the types of `COLUMNS`, as Arrow has them."""
    import pyarrow

    text, number, whole, flag = pyarrow.string(), pyarrow.float64(), pyarrow.int64(), pyarrow.bool_()
    types = (text, number, number, flag, text, text, number, flag, whole, whole, text)
    return pyarrow.schema(list(zip(COLUMNS, types, strict=True)))


def score_batch(assessments: Iterable[Assessment]) -> Any:
    """Return the rows of assessments as an Arrow batch."""
    import pyarrow

    schema = score_schema()
    columns = zip(*map(_values, assessments), strict=True)
    return pyarrow.RecordBatch.from_arrays(list(map(pyarrow.array, columns, schema.types)), schema=schema)


class _EvidenceRow(msgspec.Struct):
    message_id: Identifier


class _Named(msgspec.Struct):
    evidence: list[_EvidenceRow] = []


def read_scores(path: str | os.PathLike[str]) -> Iterator[ScoreRow]:
    """Yield the rows of a score file of any system.

    Parameters
    ----------
    path : path
        .parquet, .csv (with a header), else JSON lines; the last two also as .gz or .zst. Columns: ``thread_id``,
        ``score`` or ``probability``, and if there are any ``suspect``, ``n_messages``, ``abstained``, ``evidence``;
        others are ignored.

    Raises
    ------
    DataError
        If the file cannot be read, or a row has no thread_id, neither score nor probability, or a number that is not
        finite or out of range. The message names file and row.
    """
    for place, row in _raw_rows(path):
        row = {name: value for name, value in row.items() if not _is_missing(value)}
        try:
            row["evidence"] = [item.message_id for item in msgspec.convert(row, _Named).evidence]
            found = msgspec.convert(row, ScoreRow, strict=False)
        except msgspec.ValidationError as error:
            raise DataError(f"{path}, {place}: {error}; see the format of scores in docs/evaluation.md") from error
        for name in ("score", "probability"):
            value = getattr(found, name)
            if value is not None and not math.isfinite(value):
                raise DataError(f"{path}, {place}: the {name} is {value!r}; leave it out where there is none")
        if found.n_messages is not None and found.n_messages < 1:
            raise DataError(f"{path}, {place}: n_messages is {found.n_messages}; it counts the messages seen, from 1")
        if found.score is None and found.probability is None and not found.abstained:
            raise DataError(f"{path}, {place}: has neither score nor probability; give one, or abstained true")
        if found.probability is not None and not 0.0 <= found.probability <= 1.0:
            raise DataError(f"{path}, {place}: the probability is {found.probability!r}; use 0 to 1, or name it score")
        yield found


class FlagRow(msgspec.Struct, frozen=True):
    """What a score file of this library says of a thread, for reviews and for counting.

    Attributes
    ----------
    thread_id : str
    score : float
        Log-odds, finite.
    flagged, abstained : bool
    model : str
    probability : float or None
        In 0..1; None where the model abstained.
    operating_point : str or None
        Name of the one that flags were set at; None for a bare threshold.
    suspect : str or None
    """

    thread_id: str
    score: float
    flagged: bool
    abstained: bool
    model: str
    probability: float | None = None
    operating_point: str | None = None
    suspect: str | None = None


def read_flags(path: str | os.PathLike[str]) -> Iterator[tuple[str, FlagRow]]:
    """Yield where each row of a score file that `grooming-flag score` wrote is, and the row.

    Parameters
    ----------
    path : path
        .parquet, else JSON lines, also as .gz or .zst.

    Raises
    ------
    DataError
        If the file cannot be read, or a row is not one of such a file. The message names file and row.
    """
    mend = "give what grooming-flag score wrote"
    for place, row in _raw_rows(path):
        try:
            found = msgspec.convert(row, FlagRow)
        except msgspec.ValidationError as error:
            raise DataError(f"{path}, {place}: {error}; {mend}") from error
        if not math.isfinite(found.score):
            raise DataError(f"{path}, {place}: the score is {found.score!r}; {mend}")
        yield place, found


def _raw_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    check_readable(path)
    name = str(path).removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        yield from _parquet_rows(path)
    elif name.endswith(".csv"):
        yield from _csv_rows(path)
    else:
        for number, line in read_lines(path):
            try:
                yield f"line {number}", msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise DataError(
                    f"{path}, line {number}: not a JSON object (NaN is none either); write one row a line"
                ) from error


def _csv_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    lines = (line.decode("utf-8", "replace").removeprefix("\ufeff") for _, line in read_lines(path))
    try:
        for row in csv.DictReader(lines):
            number += 1
            yield f"row {number}", row
    except csv.Error as error:
        raise DataError(f"{path}, row {number + 1}: not CSV ({error})") from error


def _parquet_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    require_pyarrow("Parquet needs")
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (OSError, ValueError, OverflowError, pyarrow.ArrowException) as error:  # text or times that are none
        raise DataError(f"{path}: cannot be read as Parquet ({type(error).__name__})") from error


def require_pyarrow(who_needs: str) -> None:
    """Raise an error that says what to install if pyarrow is not."""
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{who_needs} pyarrow; pip install 'grooming-flag[batch]'") from error


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def score_row(assessment: Assessment) -> dict[str, Any]:
    """Return the row of an assessment, by column."""
    return dict(zip(COLUMNS, _values(assessment), strict=True))


def evidence_rows(evidence: Iterable[Evidence], top: int | None = None) -> list[dict[str, Any]]:
    """Return what each message contributes, strongest first, at most `top` of them; no text."""
    messages: dict[tuple[Any, str], dict[str, Any]] = {}
    for item in evidence:
        key = (item.message_id, item.author)
        row = messages.setdefault(
            key,
            {
                "message_id": item.message_id,
                "author": item.author,
                "contribution": 0.0,
                "tactics": list(item.tactics),
            },
        )
        row["contribution"] += item.contribution
    return sorted(messages.values(), key=lambda row: -row["contribution"])[:top]


def encode_row(row: Row) -> bytes:
    """Return a row, or that of an assessment, as a line of JSON; lone surrogates of ids are replaced."""
    try:
        return msgspec.json.encode(_Row(*_values(row)) if isinstance(row, Assessment) else row) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(encodable(score_row(row) if isinstance(row, Assessment) else row)) + b"\n"


def encodable(value: Any) -> Any:
    """Return a row, or a part of one, as files can hold it: lone surrogates are replaced."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {key: encodable(item) for key, item in value.items()}
    return [encodable(item) for item in value] if isinstance(value, list) else value
