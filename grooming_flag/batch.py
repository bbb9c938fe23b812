"""Files to files: score logs of any number of threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from grooming_flag.errors import DataError
from grooming_flag.io.flat import is_flat, read_flat, read_flat_columns
from grooming_flag.io.scores import encode_row, evidence_rows, score_row, score_writer
from grooming_flag.io.streams import check_not_input, whole_file
from grooming_flag.io.threads import read_columns, read_threads
from grooming_flag.model import Model
from grooming_flag.records import Assessment, Thread


@dataclass(slots=True)
class Summary:
    """Counts of a run so far; `seconds` is wall time, `bad` the lines that were set aside."""

    threads: int = 0
    messages: int = 0
    flagged: int = 0
    abstained: int = 0
    bad: int = 0
    seconds: float = 0.0


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
    bad_lines: str | os.PathLike[str] | None = None,
    progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Score the threads of files in constant memory; write one row a thread, in order.

    The output takes its name only when it is complete.

    Parameters
    ----------
    inputs : sequence of path
        Threads, or the files of one flat log.
    output : path
        ``-`` for standard output.
    model : Model
    at : str or float
        Operating point or threshold.
    evidence : int
        How many messages to name for each thread, strongest first; 0 for none.
    n_jobs : int
        Threads of execution.
    columns : mapping of str to str, optional
        Names that flat logs use for the columns of messages.
    bad_lines : path, optional
        Where to write what is wrong with lines that cannot be used, which are left out. By default the first such
        line is an error.
    progress : callable, optional
        Called now and then with the counts so far.

    Raises
    ------
    DataError
        If an input cannot be used, or the output is one of the inputs.
    """
    check_not_input((output, bad_lines), inputs)
    start = perf_counter()
    summary = Summary()
    with ExitStack() as files:
        write = files.enter_context(score_writer(output))
        on_bad = None
        if bad_lines is not None:
            bad = files.enter_context(whole_file(bad_lines))

            def on_bad(error: DataError) -> None:
                summary.bad += 1
                bad.write(encode_row({"error": str(error)}))

        flat = _are_flat(inputs, columns)
        answers: Iterable[tuple[Thread | None, Assessment]]
        if evidence or model.segment_rule.max_gap is not None:
            read = partial(read_flat, columns=columns) if flat else read_threads
            answers = assessed(model, read(*inputs, on_bad=on_bad), at, n_jobs)
        else:
            read_batches = partial(read_flat_columns, columns=columns) if flat else read_columns
            answers = ((None, a) for a in model.assess_columns(read_batches(*inputs, on_bad=on_bad), at, n_jobs))
        for thread, assessment in answers:
            row = score_row(assessment)
            if evidence and thread:
                row["evidence"] = evidence_rows(model.explain(thread), evidence)
            write(row)
            summary.threads += 1
            summary.messages += assessment.n_messages
            summary.flagged += assessment.flagged
            summary.abstained += assessment.abstained
            if progress is not None and summary.threads % 1000 == 0:
                summary.seconds = perf_counter() - start
                progress(summary)
    summary.seconds = perf_counter() - start
    return summary


def _are_flat(inputs: Sequence[str | os.PathLike[str]], columns: Mapping[str, str] | None) -> bool:
    flat = [bool(columns) or is_flat(path) for path in inputs]
    if any(flat) and not all(flat):
        raise DataError("some inputs are threads and some are flat logs; score each kind by itself")
    return any(flat)
