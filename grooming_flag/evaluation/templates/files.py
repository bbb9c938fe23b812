"""Records out of TOML."""

from __future__ import annotations

import tomllib
from typing import TypeVar

import msgspec

from grooming_flag.errors import DataError

Record = TypeVar("Record", bound=msgspec.Struct)


def read_toml(text: str, place: str, type_: type[Record]) -> Record:
    """Return the record that a TOML text holds.

    Parameters
    ----------
    text, place : str
        The text, and the file that errors name.
    type_ : type
        A msgspec record.

    Raises
    ------
    DataError
        If the text is not TOML, or a key is missing, unknown or of another type.
    """
    try:
        return msgspec.convert(tomllib.loads(text), type_)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{place}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise DataError(f"{place}: {error}; see an existing family") from error
