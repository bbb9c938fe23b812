"""Score files: one row a thread, as JSON lines or Parquet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from grooming_flag.errors import MissingExtraError
from grooming_flag.io.streams import whole_file
from grooming_flag.records import Assessment, Evidence

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


@contextmanager
def score_writer(path: str | os.PathLike[str]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give a function that writes one row; the file takes its name when all are written.

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

            def write(row: Mapping[str, Any]) -> None:
                out.write(encode_row(row))

            yield write


@contextmanager
def _parquet_writer(path: str | os.PathLike[str]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtraError("Parquet needs pyarrow; pip install 'grooming-flag[batch]'") from error
    text, number, whole, flag = pyarrow.string(), pyarrow.float64(), pyarrow.int64(), pyarrow.bool_()
    types = (text, number, number, flag, text, text, number, flag, whole, whole, text)
    evidence = {"message_id": text, "author": text, "contribution": number, "tactics": pyarrow.list_(text)}
    schema = pyarrow.schema(
        [*zip(COLUMNS, types, strict=True), ("evidence", pyarrow.list_(pyarrow.struct(list(evidence.items()))))]
    )
    rows: list[Any] = []
    with whole_file(path) as out, pyarrow.parquet.ParquetWriter(out, schema) as file:

        def write(row: Mapping[str, Any]) -> None:
            messages = [{**item, "message_id": str(item["message_id"])} for item in row.get("evidence", ())]
            rows.append(_encodable({**row, "evidence": messages}))
            if len(rows) >= ROWS:
                file.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows.clear()

        yield write
        file.write_table(pyarrow.Table.from_pylist(rows, schema))


def score_row(assessment: Assessment) -> dict[str, Any]:
    """Return the row of an assessment, by column."""
    return {column: getattr(assessment, column) for column in COLUMNS}


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


def encode_row(row: Mapping[str, Any]) -> bytes:
    """Return a row as a line of JSON; lone surrogates of ids are replaced."""
    try:
        return msgspec.json.encode(row) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable(row)) + b"\n"


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {key: _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value
