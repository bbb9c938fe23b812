"""`grooming-flag baseline`: scores of a simple system, to compare with."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grooming_flag.calibration import sigmoid
from grooming_flag.cli.options import AuthorIds, err
from grooming_flag.errors import DataError
from grooming_flag.io.scores import score_writer
from grooming_flag.io.threads import read_sources, read_threads
from grooming_flag.records import Thread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scored = Iterator[tuple[Thread, NDArray[np.float64]]]


def baseline(
    name: Annotated[str, typer.Argument(metavar="NAME", help="words, characters, keywords or behavior.")],
    labelled: Annotated[list[Path], typer.Argument(metavar="LABELLED...", help="Threads to score, JSON lines.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Score file: JSON lines (- is stdout) or .parquet.")],
    train: Annotated[
        list[Path] | None,
        typer.Option(metavar="LABELLED...", help="Labelled threads of other persons; without them, five folds."),
    ] = None,
    prefixes: Annotated[
        bool, typer.Option("--prefixes", help="A row for each of a thread's first 200 messages, to see how early.")
    ] = False,
    authors: AuthorIds = "auto",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same files and seed give the same scores.")] = 0,
) -> None:
    """Fit a simple system to labelled threads and score others with it: something to compare with, not to deploy."""
    from grooming_flag.evaluation.baselines import BASELINES

    if name not in BASELINES:
        raise typer.BadParameter(f"use one of {', '.join(BASELINES)}", param_hint="NAME")
    begin, n_threads, n_rows = time.perf_counter(), 0, 0
    with err.status(f"baseline {name}"), score_writer(output) as write:
        if train:
            scored = _trained(name, labelled, train, prefixes, seed)
        else:
            scored = _folded(name, labelled, authors, prefixes, seed)
        for thread, scores in scored:
            for seen, score in enumerate(scores.tolist(), 1):
                write(
                    {
                        "thread_id": thread.thread_id,
                        "score": score,
                        "probability": sigmoid(score),
                        "n_messages": seen if prefixes else len(thread.messages),
                        "model": f"baseline-{name}",
                    }
                )
            n_threads, n_rows = n_threads + 1, n_rows + len(scores)
    fitted = "on the threads of --train" if train else "on the other folds of each thread's person"
    err.print(
        f"{n_threads:,} threads, {n_rows:,} rows in {time.perf_counter() - begin:.1f} s\n"
        f"scores by baseline-{name}, fitted {fitted}, in {output}",
        markup=False,
    )


def _trained(name: str, labelled: Sequence[Path], train: Sequence[Path], prefixes: bool, seed: int) -> Scored:
    from grooming_flag.evaluation.baselines import fit_baseline, score_threads

    known = list(read_threads(*train))
    ids, persons = {thread.thread_id for thread in known}, {thread.person for thread in known if thread.person}
    estimator = fit_baseline(name, known, seed)
    del known
    return score_threads(estimator, _unseen(read_threads(*labelled), ids, persons), prefixes)


def _folded(name: str, labelled: Sequence[Path], authors: AuthorIds, prefixes: bool, seed: int) -> Scored:
    from grooming_flag.evaluation.baselines import fitted_folds, score_threads
    from grooming_flag.evaluation.splits import author_kinds, components, near_duplicates

    sources = read_sources(labelled).values()
    threads = [thread for found in sources for thread in found]
    groups = components(threads, author_kinds(sources, authors), near_duplicates(threads))
    scores: dict[int, NDArray[np.float64]] = {}
    for test, estimator in fitted_folds(name, threads, groups, seed=seed):
        scored = score_threads(estimator, (threads[i] for i in test), prefixes)
        scores.update(zip(test.tolist(), (values for _, values in scored), strict=True))
    return ((thread, scores[i]) for i, thread in enumerate(threads))


def _unseen(threads: Iterable[Thread], ids: set[str], persons: set[str]) -> Iterator[Thread]:
    for thread in threads:
        if thread.thread_id in ids:
            raise DataError(f"thread {thread.thread_id} is in --train too; measure on other threads")
        if thread.person in persons:
            raise DataError(f"thread {thread.thread_id} is of a person that --train has too; split by person")
        yield thread
