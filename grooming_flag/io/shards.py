"""A folder of score files: shards that are whole or not there, and a manifest that says which of them are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

try:
    import fcntl
except ModuleNotFoundError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

from grooming_flag.errors import DataError
from grooming_flag.io.scores import Row, score_writer
from grooming_flag.io.streams import input_files, whole_file

MANIFEST = "manifest.json"
FORMAT = 1


class Shard(msgspec.Struct):
    """A score file of the folder and what was counted as it was written."""

    file: str
    size: int
    threads: int
    messages: int
    flagged: int
    abstained: int


class Manifest(msgspec.Struct):
    """What a folder is to hold, and what it does.

    Attributes
    ----------
    settings : dict
        Whatever the scores depend on: the same settings give the same shards.
    complete : bool
        Whether all threads are in the shards.
    bad : int
        How many lines were set aside, when it is complete.
    """

    format: int
    settings: dict[str, Any]
    shards: list[Shard] = []
    complete: bool = False
    bad: int = 0


def whole_runs(inputs: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the score files that inputs name, as `input_files` does, without the manifests of folders.

    Raises
    ------
    DataError
        If a folder's manifest says that not all threads are scored yet, or a file is not as it was written.
    """
    files = []
    for name in input_files(inputs):
        if os.path.basename(name) != MANIFEST:
            files.append(name)
            continue
        folder = Path(name).parent
        manifest = _manifest(folder)
        if not manifest.complete:
            raise DataError(f"{folder}: not all threads are scored yet; run the same score command again, it goes on")
        _check_shards(folder, manifest)
    return files


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise DataError(f"{path}: is not a manifest of scores; name a new folder") from None


def _check_shards(folder: Path, manifest: Manifest) -> None:
    for shard in manifest.shards:
        file = folder / shard.file
        if not file.is_file() or file.stat().st_size != shard.size:
            raise DataError(f"{file}: is not as it was written; delete {folder} and score again")


@contextmanager
def shard_folder(folder: str | os.PathLike[str], settings: Mapping[str, Any]) -> Iterator[ShardFolder]:
    """Give a folder, made if it is not there, that no other run writes to at the same time; see `ShardFolder`.

    Raises
    ------
    DataError
        If another run does, as far as the system can tell, or the folder cannot be written.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}") from error
    with _locked(folder):
        yield ShardFolder(folder, settings)


@contextmanager
def _locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_free = True
    except OSError as error:  # else a file system without locks
        is_free = not isinstance(error, BlockingIOError)
    try:
        if not is_free:
            raise DataError(f"{folder}: another run is writing here; wait for it, or name a new folder")
        yield
    finally:
        os.close(handle)


class ShardFolder:
    """The score files of one run, which goes on where it was interrupted.

    Parameters
    ----------
    folder : path
        Its files are Parquet if its name ends in .parquet, else JSON lines.
    settings : mapping
        Plain values; see `Manifest`.

    Raises
    ------
    DataError
        If the folder holds scores of other settings, or anything else.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self._suffix = ".parquet" if self.folder.suffix == ".parquet" else ".jsonl"
        try:
            for scratch in self.folder.glob(".*.partial"):  # of a run that was killed
                scratch.unlink()
            self.manifest = self._read(msgspec.to_builtins(dict(settings)))
        except OSError as error:
            raise DataError(f"{folder}: cannot be written: {error.strerror}") from error

    def _read(self, settings: dict[str, Any]) -> Manifest:
        if not (self.folder / MANIFEST).exists():
            if any(path.suffix != self._suffix for path in self.folder.iterdir()):
                raise DataError(f"{self.folder}: holds other files; name a new folder for the scores")
            return Manifest(FORMAT, settings)
        manifest = _manifest(self.folder)
        found = {"format": manifest.format, **manifest.settings}
        other = sorted(key for key, value in {"format": FORMAT, **settings}.items() if found.get(key) != value)
        if other:
            raise DataError(
                f"{self.folder}: holds scores of another {', '.join(other)}; name a new folder, or delete it"
            )
        _check_shards(self.folder, manifest)
        return manifest

    @contextmanager
    def shard(self) -> Iterator[tuple[Shard, Callable[[Row], None]]]:
        """Give the next shard, to count in, and a function that writes one row; when all is written, it is noted."""
        shard = Shard(f"part-{len(self.manifest.shards):05}{self._suffix}", 0, 0, 0, 0, 0)
        path = self.folder / shard.file
        with score_writer(path) as write:
            yield shard, write
        shard.size = path.stat().st_size
        self.manifest.shards.append(shard)
        self._write()

    def finish(self, bad: int) -> None:
        """Note that all is there, and how many lines were set aside."""
        self.manifest.complete = True
        self.manifest.bad = bad
        self._write()

    def _write(self) -> None:
        with whole_file(self.folder / MANIFEST) as out:
            out.write(msgspec.json.format(msgspec.json.encode(self.manifest), indent=1) + b"\n")
