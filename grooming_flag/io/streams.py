"""Lines of a file, whatever it is compressed with, and files that appear only when they are complete."""

from __future__ import annotations

import glob
import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from grooming_flag.errors import DataError

CHUNK = 1 << 20
PIECE = 1 << 12  # of compressed bytes, which may become 30,000 times as many
LONGEST = 1 << 28
"""Bytes of a line beyond which it is passed over without being held. A thread that is longer fits a flat log."""
DATABASES = ("duckdb:", "postgres:")
UNREADABLE = (EOFError, OSError, zlib.error)


@dataclass(slots=True)
class Reach:
    """How far reading has come, in bytes of files or rows of a log; `total` is 0 where it cannot be known."""

    done: int = 0
    total: int = 0

    @property
    def share(self) -> float:
        """The part that has been read, 0..1."""
        return min(self.done / self.total, 1.0) if self.total else 0.0


class _ZstdReader(io.RawIOBase):
    """Decompressed bytes of a .zst file of any number of frames; an unfinished frame is an EOFError."""

    def __init__(self, source: IO[bytes]) -> None:
        import zstandard  # kept out of the cold start

        self._zstandard = zstandard
        self._source = source
        self._frame: Any = None
        self._compressed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            self._compressed = self._compressed or self._source.read(PIECE)
            if not self._compressed:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._frame = self._frame or self._zstandard.ZstdDecompressor().decompressobj()
            try:
                self._ready = memoryview(self._frame.decompress(self._compressed))
            except self._zstandard.ZstdError as error:
                raise zlib.error(str(error)) from error
            self._compressed = b""
            if self._frame.eof:
                self._compressed, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def input_files(inputs: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the files that inputs name, in order: those below a folder and those that fit a pattern by name.

    Parameters
    ----------
    inputs : iterable of path
        Files, folders, and patterns with ``*``, ``**``, ``?`` and ``[...]``; ``-`` and databases stay as they are.
        Files below a folder whose names, or those of folders between, begin with a dot or an underscore are left out,
        as programs that write logs in parts mean them to be.

    Raises
    ------
    DataError
        If a folder or a pattern has no files, or a file is named twice.
    """
    files: list[str] = []
    for name in map(str, inputs):
        found = [name]
        if is_database(name):
            pass
        elif os.path.isdir(name):
            found = sorted(_below(name))
        elif glob.has_magic(name) and not os.path.exists(name):
            found = sorted(file for file in glob.glob(name, recursive=True) if os.path.isfile(file))
        if not found or not name:
            raise DataError(f"{name}: cannot be read: there are no files")
        files += found
    seen: set[str] = set()
    for file in files:
        if os.path.realpath(file) in seen:
            raise DataError(f"{file}: the file is given twice; name each once")
        seen.add(os.path.realpath(file))
    return files


def _below(folder: str) -> Iterator[str]:
    """Yield the files below a folder and below links to folders in it, each folder once."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error

    seen = set()
    for path, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if name[0] not in "._"]
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (os.path.join(path, name) for name in files if name[0] not in "._")


def is_database(name: str | os.PathLike[str]) -> bool:
    """Return whether an input is a database rather than a file of messages."""
    return str(name).startswith(DATABASES)


def check_readable(path: str | os.PathLike[str]) -> None:
    """Raise a DataError if there is no such file; ``-`` is standard input."""
    if str(path) != "-" and Path(path).is_dir():
        raise DataError(f"{path}: cannot be read: it is a folder; name the files in it")
    if str(path) != "-" and not Path(path).exists():
        raise DataError(f"{path}: cannot be read: there is no such file")


def check_not_input(
    targets: Iterable[str | os.PathLike[str] | None], inputs: Iterable[str | os.PathLike[str] | None]
) -> None:
    """Raise a DataError if a file that is to be written, or any that holds it, is read; None and ``-`` are no files."""
    files = (str(path).removeprefix(DATABASES[0]) for path in inputs if path is not None)
    existing = [Path(file) for file in files if file and Path(file).exists()]
    resolved = {path.resolve() for path in existing}
    folders = {path for path in resolved if path.is_dir()}
    for target in targets:
        if target is None or str(target) == "-":
            continue
        path = Path(target).resolve()
        is_input = path in resolved or (path.exists() and any(map(path.samefile, existing)))
        if is_input or not folders.isdisjoint(path.parents):
            raise DataError(f"{target}: is an input too; write the output elsewhere")


def read_lines(
    path: str | os.PathLike[str], reach: Reach | None = None, stdin: IO[bytes] | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield the number, from 1, and the bytes of each line that is not blank; of one that is too long, the first.

    Parameters
    ----------
    path : path
        ``-`` for standard input; decompressed if the name ends in .gz or .zst.
    reach : Reach, optional
        Gets the bytes of the file that have been read, compressed as they are.
    stdin : file, optional
        In place of standard input.

    Raises
    ------
    DataError
        If the file cannot be opened, or ends before it should.
    """
    number = 0
    before = reach.done if reach else 0
    try:
        with _open(path, stdin) as (lines, raw):
            while line := lines.readline(LONGEST + 1):
                number += 1
                if len(line) > LONGEST:
                    rest = line
                    while rest and not rest.endswith(b"\n"):
                        rest = lines.readline(CHUNK)
                if reach:
                    reach.done = before + raw.tell()
                if not line.isspace():
                    yield number, line
    except UNREADABLE as error:
        raise _data_error(path, error, f" after line {number}") from error


def read_chunks(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield the bytes of a file as `read_lines` does, whatever its lines are."""
    try:
        with _open(path) as (source, _):
            while chunk := source.read(CHUNK >> 4):
                yield chunk
    except UNREADABLE as error:
        raise _data_error(path, error) from error


def read_text(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the lines of a file with their ends as they are; what is not UTF-8 becomes lone surrogates."""
    try:
        with (
            _open(path) as (source, _),
            io.TextIOWrapper(source, "utf-8-sig", "surrogateescape", newline="") as lines,
        ):
            yield from lines
    except UNREADABLE as error:
        raise _data_error(path, error) from error


def _data_error(path: str | os.PathLike[str], error: Exception, place: str = "") -> DataError:
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return DataError(f"{path}: cannot be read: {error.strerror or type(error).__name__}")
    problem = "is cut short" if isinstance(error, EOFError) else "is damaged"
    return DataError(f"{path}: the compressed file {problem}{place}; get a whole copy of it")


@contextmanager
def _open(path: str | os.PathLike[str], stdin: IO[bytes] | None = None) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Give a file to read, decompressed, and the file as it is."""
    if str(path) == "-":
        yield stdin or sys.stdin.buffer, io.BytesIO()
        return
    with open(path, "rb", buffering=CHUNK >> 2) as raw:
        if str(path).endswith(".gz"):
            yield gzip.GzipFile(fileobj=raw), raw  # type: ignore[misc]
        elif str(path).endswith(".zst"):
            yield io.BufferedReader(_ZstdReader(raw), CHUNK), raw
        else:
            yield raw, raw


@contextmanager
def whole_file(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing beside its name; it takes the name when all went well, else it is deleted.

    Parameters
    ----------
    path : path
        ``-`` writes to standard output directly.
    private : bool
        Whether nobody else may read or write it, from its first byte on, whatever was there before.
    """
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(path).resolve()  # a link stays one
    if target.is_dir():
        raise DataError(f"{path}: is a folder; to fill it with parts, end its name with a slash")
    is_special = target.exists() and not target.is_file()  # a pipe or a device
    try:
        with target.open("wb") if is_special else _renamed_at_the_end(target, private) as out:
            yield out
    except OSError as error:  # the disk is full, say
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def _renamed_at_the_end(target: Path, private: bool) -> Iterator[IO[bytes]]:
    scratch = target.with_name(f".{target.name}.{os.urandom(4).hex()}.partial")
    scratch.touch(0o600 if private else 0o666, exist_ok=False)
    try:
        with scratch.open("wb") as out:
            yield out
        if target.exists() and not private:
            scratch.chmod(stat.S_IMODE(target.stat().st_mode))
        scratch.replace(target)
    except BaseException:
        scratch.unlink()
        raise


def compressed(raw: IO[bytes], path: str | os.PathLike[str]) -> AbstractContextManager[Any]:
    """Return a file that writes to `raw`, compressed if the name ends in .gz or .zst; the same always to the same."""
    if str(path).endswith(".gz"):
        return gzip.GzipFile("", "wb", 6, raw, mtime=0)
    if str(path).endswith(".zst"):
        import zstandard  # kept out of the cold start

        return zstandard.ZstdCompressor().stream_writer(raw, closefd=False)
    return nullcontext(raw)
