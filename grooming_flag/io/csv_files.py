"""Rows of CSV files as Python reads them, which takes longer than DuckDB and says of each row what is wrong with it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence

from grooming_flag.errors import DataError
from grooming_flag.io.streams import read_text

LONGEST = 1 << 24  # characters of a value


def common_header(paths: Sequence[str], delimiter: str) -> list[str]:
    """Return the names of the columns of CSV files.

    Raises
    ------
    DataError
        If a file does not begin with a header, it is not that of the others, or it has a name twice.
    """
    common: list[str] = []
    for path in paths:
        try:
            header = next(csv.reader(read_text(path), delimiter=delimiter, strict=True), [])
            "".join(header).encode()
        except (csv.Error, UnicodeEncodeError):
            header = []
        if not header:
            raise DataError(f"{path}: does not begin with a header in UTF-8; name the columns in its first line")
        if header != (common := common or header):
            raise DataError(f"{path}: has not the columns of {paths[0]}; score it by itself")
    if len(set(map(str.lower, common))) < len(common):
        raise DataError(f"{paths[0]}: has two columns of one name; rename or leave out all but one")
    return common


def csv_rows(path: str, delimiter: str, go_on: Callable[[DataError], bool]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number, from 1, and the values of each row with as many of them as the header has.

    Parameters
    ----------
    path : str
    delimiter : str
    go_on : callable
        Gets the error of each other row, and says whether to read on. Blank lines are no rows.
    """
    csv.field_size_limit(max(LONGEST, csv.field_size_limit()))
    rows = csv.reader(read_text(path), delimiter=delimiter, strict=True)
    size = len(next(rows, []))
    number = 0
    while True:
        row: list[str] | None = None
        what = ""
        try:
            row = next(rows, None)
            if row is None:
                return
            if row and len(row) != size:
                what = f"has {len(row)} values where the header has {size}"
            for value in row:
                value.encode()
        except UnicodeEncodeError:
            what = "is not UTF-8"
        except csv.Error as error:
            what = "has quotes amiss; double those in quoted text"
            if "field limit" in str(error):
                what = f"has a value of more than {LONGEST:,} characters"
        if row == []:
            continue
        number += 1
        if not what and row:
            yield number, row
        elif not go_on(DataError(f"{path}, row {number}: {what}")):
            return
