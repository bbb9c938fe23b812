"""Files to files: score logs of any number of threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nlargest
from itertools import chain, islice
from time import perf_counter
from typing import Any

from grooming_flag.artifact import digest
from grooming_flag.errors import DataError
from grooming_flag.io._messages import compiled
from grooming_flag.io.columns import without_first
from grooming_flag.io.flat import MEMORY, read_flat, read_flat_columns
from grooming_flag.io.logs import DATABASE, POSTGRES, is_flat
from grooming_flag.io.scores import Row, encode_row, evidence_rows, score_row, score_writer
from grooming_flag.io.shards import Shard, shard_folder
from grooming_flag.io.streams import Reach, check_not_input, check_readable, input_files, whole_file
from grooming_flag.io.threads import read_columns, read_threads
from grooming_flag.model import Model
from grooming_flag.policy import resolve
from grooming_flag.records import Assessment, Thread

Answer = tuple[Thread | None, Assessment]
SHARD_THREADS = 50_000


@dataclass(slots=True)
class Summary:
    """Counts of a run so far; `seconds` is wall time, `bad` the lines that were set aside.

    Of all messages `scored_before` were scored by a run that was interrupted, whose counts are in these. `share` is how
    much of the input has been read, 0..1; it stays 0 where that cannot be known before the end.
    """

    threads: int = 0
    messages: int = 0
    flagged: int = 0
    abstained: int = 0
    bad: int = 0
    scored_before: int = 0
    seconds: float = 0.0
    share: float = 0.0

    def add(self, shard: Shard) -> None:
        """Count what a shard holds."""
        self.threads += shard.threads
        self.messages += shard.messages
        self.flagged += shard.flagged
        self.abstained += shard.abstained


def assessed(
    model: Model, threads: Iterable[Thread], at: str | float = "balanced", n_jobs: int = 1
) -> Iterator[tuple[Thread, Assessment]]:
    """Yield each thread with what `Model.assess_many` says of it."""
    in_flight: deque[Thread] = deque()

    def remembered() -> Iterator[Thread]:
        for thread in threads:
            in_flight.append(thread)
            yield thread

    for assessment in model.assess_many(remembered(), at, n_jobs):
        yield in_flight.popleft(), assessment


def score_files(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    model: Model,
    at: str | float = "balanced",
    *,
    evidence: int = 0,
    n_jobs: int = 1,
    columns: Mapping[str, str] | None = None,
    sql: str | None = None,
    memory: str = MEMORY,
    only_flagged: bool = False,
    limit: int | None = None,
    capacity: int | None = None,
    bad_lines: str | os.PathLike[str] | None = None,
    progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Score the threads of files in constant memory; write one row a thread, in order.

    A file takes its name only when it is complete. A folder fills with shards, and a run that was interrupted, however
    that happened, goes on after the last whole one: the same call again ends with the same bytes.

    Parameters
    ----------
    inputs : sequence of path
        Threads, or the files of one flat log, or a database as in `read_flat`; folders and patterns of names stand for
        all files in them.
    output : path
        A file, ``-`` for standard output, or a folder, whose name ends in a slash. JSON lines, or Parquet if the name
        ends in .parquet.
    model : Model
    at : str or float
        Operating point or threshold.
    evidence : int
        How many messages to name for each thread, strongest first; 0 for none.
    n_jobs : int
        Threads of execution.
    columns : mapping of str to str, optional
        Names that flat logs use for the columns of messages.
    sql : str, optional
        A query whose rows are the flat log, as in `read_flat`.
    memory : str
        What sorting a flat log may take of it, such as ``4GB``.
    only_flagged : bool
        Write the rows of flagged threads alone.
    limit : int, optional
        Score so many threads at most, the first ones.
    capacity : int, optional
        Write so many rows at most, those of the highest probabilities, highest first. Not into a folder.
    bad_lines : path, optional
        Where to write what is wrong with lines that cannot be used, which are left out. By default the first such
        line is an error.
    progress : callable, optional
        Called now and then with the counts so far.

    Raises
    ------
    DataError
        If an input cannot be used, the output is one of the inputs or cannot be written, or the folder holds other
        files or scores.
    """
    check_not_input((output, bad_lines), inputs)
    paths = input_files(inputs)
    if str(output).endswith("/"):  # whose files a pattern may fit as soon as they are there
        parts = os.path.realpath(output) + os.sep
        paths = [path for path in paths if not os.path.realpath(path).startswith(parts)]
    check_not_input((output, bad_lines), paths)
    of_rows = _are_flat(paths, columns, sql)
    start = perf_counter()
    summary = Summary()
    reach = Reach()

    def counted(answers: Iterable[Answer], *counts: Summary | Shard) -> Iterator[Answer]:
        for answer in answers:
            for count in (summary, *counts):
                count.threads += 1
                count.messages += answer[1].n_messages
                count.flagged += answer[1].flagged
                count.abstained += answer[1].abstained
            if progress is not None and summary.threads % 1000 == 0:
                summary.seconds = perf_counter() - start
                summary.share = max(reach.share, summary.threads / limit if limit else 0.0)
                progress(summary)
            yield answer

    def write_all(answers: Iterable[Answer], write: Callable[[Row], None]) -> None:
        for thread, assessment in answers:
            if only_flagged and not assessment.flagged:
                continue
            row: Row = assessment
            if evidence and thread:
                row = {**score_row(assessment), "evidence": evidence_rows(model.explain(thread), evidence)}
            write(row)

    with ExitStack() as files:
        folder = None
        if str(output).endswith("/"):
            if capacity is not None:
                raise DataError(f"{output}: the highest of all threads are few; write them to a file, not to a folder")
            bad_are = "no bad lines" if bad_lines is None else "without bad lines"
            settings = {
                **_settings(paths, model, at, columns, sql),
                "evidence": evidence,
                "limit": limit,
                "choice of rows": ["flagged" if only_flagged else "all", bad_are],
            }
            folder = files.enter_context(shard_folder(output, settings))
            for shard in folder.manifest.shards:
                summary.add(shard)
            summary.scored_before = summary.messages
            if folder.manifest.complete:
                summary.bad = folder.manifest.bad
                return summary
        on_bad = None
        if bad_lines is not None:
            bad = files.enter_context(whole_file(bad_lines))

            def on_bad(error: DataError) -> None:
                summary.bad += 1
                bad.write(encode_row({"error": str(error)}))

        options: dict[str, Any] = {"on_bad": on_bad, "reach": reach}
        if of_rows:
            options |= {"columns": columns, "sql": sql, "memory": memory, "n_jobs": n_jobs}
        answers = _answers(paths, model, at, n_jobs, options, summary.threads, of_rows, bool(evidence))
        if limit is not None:
            answers = islice(answers, max(limit - summary.threads, 0))
        if folder is None:
            write = files.enter_context(score_writer(output))
            write_all(counted(answers) if capacity is None else _highest(counted(answers), capacity), write)
        else:
            for first in answers:
                with folder.shard() as (shard, write):
                    write_all(counted(chain([first], islice(answers, SHARD_THREADS - 1)), shard), write)
            folder.finish(summary.bad)
    summary.seconds = perf_counter() - start
    return summary


def _highest(answers: Iterable[Answer], n: int) -> Iterator[Answer]:
    """Yield those with the highest probabilities, highest first, of equal ones the first; none without probability."""
    highest = nlargest(n, answers, key=lambda answer: -1.0 if answer[1].probability is None else answer[1].probability)
    return (answer for answer in highest if answer[1].probability is not None)


def _answers(
    inputs: Sequence[str | os.PathLike[str]],
    model: Model,
    at: str | float,
    n_jobs: int,
    options: Mapping[str, Any],
    n_skipped: int,
    of_rows: bool,
    with_threads: bool,
) -> Iterator[Answer]:
    """Yield the answers after the first ones, with the threads where evidence is wanted."""
    if with_threads or model.segment_rule.max_gap is not None or not compiled:
        threads = (read_flat if of_rows else read_threads)(*inputs, **options)
        yield from assessed(model, islice(threads, n_skipped, None), at, n_jobs)
    else:
        batches = (read_flat_columns if of_rows else read_columns)(*inputs, **options)
        for assessment in model.assess_columns(without_first(batches, n_skipped), at, n_jobs):
            yield None, assessment


def _settings(
    inputs: Sequence[str], model: Model, at: str | float, columns: Mapping[str, str] | None, sql: str | None
) -> dict[str, Any]:
    """Return all that the scores depend on, without which a run must not go on where another one stopped.

    Of files it is size and time, of a query its words as a hash: that it gives the same rows is up to who runs it.
    """
    files: list[Any] = []
    for path in inputs:
        if path.startswith(POSTGRES):
            files.append(_hash(path))  # which may hold a password
            continue
        name = path.removeprefix(DATABASE)
        check_readable(name)
        if path == "-":
            raise DataError("standard input cannot be read again after an interruption; score it into a file")
        found = os.stat(name)
        files.append([os.fsencode(path).decode("utf-8", "replace"), found.st_size, found.st_mtime_ns])
    point = resolve(at, model.operating_points)
    return {
        "input": files,
        "query": sql and _hash(sql),
        "columns": dict(columns or {}),
        "model": [model.name, digest(model)],
        "operating point": [point.name, point.threshold],
    }


def _hash(words: str) -> str:
    return blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _are_flat(inputs: Sequence[str], columns: Mapping[str, str] | None, sql: str | None) -> bool:
    kinds = [bool(columns) or is_flat(path) for path in inputs]
    flat = [kind for kind in kinds if kind is not None]  # files without any good line are whatever the others are
    if sql is not None and not all(flat):
        raise DataError("a query needs a flat log, and some inputs are threads; score them by themselves")
    if any(flat) and not all(flat):
        raise DataError("some inputs are threads and some are flat logs; score each kind by itself")
    return any(flat) or sql is not None
