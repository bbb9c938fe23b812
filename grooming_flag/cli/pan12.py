"""`grooming-flag pan12`: answer the tasks of PAN-2012, and judge the answers."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from grooming_flag.artifact import load_model
from grooming_flag.cli.options import ModelFolder, check_point, chosen_point, err, out
from grooming_flag.io.pan12 import Line, read_author_ids, read_line_ids, read_pan12
from grooming_flag.io.streams import check_not_input, whole_file
from grooming_flag.io.threads import thread_writer
from grooming_flag.policy import resolve
from grooming_flag.records import Thread


def pan12(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS.xml", help="Conversations, XML (.gz, .zst).")],
    authors: Annotated[Path, typer.Option(help="The listed authors, one id a line.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for authors.txt, lines.txt, metrics.json.")],
    lines: Annotated[Path | None, typer.Option(help="The listed lines: conversation id, tab, line number.")] = None,
    model: ModelFolder = None,
    at: Annotated[str | None, typer.Option(help="Operating point of the model. [default: balanced]")] = None,
    threshold: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Flag at this probability instead.")] = None,
    threads: Annotated[
        Path | None, typer.Option(help="Write the labelled conversations here too (.jsonl, .gz, .zst).")
    ] = None,
) -> None:
    """Answer the author and the line task of PAN-2012 in their official format, and measure the answers."""
    from grooming_flag.evaluation.figures import format_figure
    from grooming_flag.evaluation.pan12 import author_figures, author_task, judge, line_figures, line_task

    chosen = chosen_point(at, threshold)
    if threads is not None and not threads.name.endswith((".jsonl", ".jsonl.gz", ".jsonl.zst")):
        raise typer.BadParameter("name a .jsonl, .jsonl.gz or .jsonl.zst file", param_hint="--threads")
    loaded = load_model(model)
    check_point(loaded, at)
    point = resolve(chosen, loaded.operating_points)
    submission, line_submission, metrics = (output / name for name in ("authors.txt", "lines.txt", "metrics.json"))
    check_not_input((submission, line_submission, metrics, threads), (corpus, authors, lines))
    output.mkdir(parents=True, exist_ok=True)

    listed = read_author_ids(authors)
    listed_lines = frozenset(read_line_ids(lines)) if lines else frozenset()
    with err.status("reading and judging"), _copied(read_pan12(corpus, listed), threads, listed_lines) as conversations:
        answers = judge(loaded, conversations, point.name or point.threshold, listed_lines)

    name = point.name or f"threshold {point.threshold:g}"
    n_authors = len(answers.seen | listed)
    found = {"authors": author_task(answers.authors, listed)}
    figures = author_figures(answers.authors, listed, n_authors, name)
    if lines:
        found["lines"] = line_task(frozenset(answers.lines), listed_lines)
        figures += line_figures(answers.lines, listed_lines, answers.writers, n_authors, name)

    _write(submission, "".join(f"{author}\n" for author in sorted(answers.authors)))
    _write(line_submission, "".join(f"{conversation}\t{number}\n" for conversation, number in answers.lines))
    measured = {
        "model": loaded.name,
        "at": name,
        "threshold": point.threshold,
        "conversations": answers.n_threads,
        "flagged": answers.n_flagged,
        "abstained": answers.n_abstained,
        "authors": n_authors,
        "tasks": {task: result._asdict() for task, result in found.items()},
        "figures": [figure._asdict() for figure in figures],
    }
    _write(metrics, msgspec.json.format(msgspec.json.encode(measured), indent=2).decode() + "\n")

    table = Table("task", "measure", "unit", "value [95 %] (count)", box=None)
    for figure in figures:
        table.add_row(figure.section, figure.measure, figure.unit, format_figure(figure))
    out.print(table)
    for task, result in found.items():
        err.print(f"{task}: {result.returned:,} returned, {result.correct:,} of them among {result.relevant:,} listed")
    for task, missing in (("authors", listed - answers.seen), ("lines", listed_lines - answers.writers.keys())):
        if missing:
            err.print(f"warning: {len(missing):,} listed {task} are not in the corpus, and count as missed")
    err.print(
        f"{answers.n_threads:,} conversations, {answers.n_flagged:,} flagged at {name}, {answers.n_abstained:,} with "
        f"too little text; answers in {output}",
        markup=False,
    )


@contextmanager
def _copied(threads: Iterator[Thread], path: Path | None, marked: Set[Line]) -> Iterator[Iterator[Thread]]:
    """Give the threads, each written to the file as it passes, with its listed lines marked."""
    if path is None:
        yield threads
        return
    with thread_writer(path) as write:

        def written() -> Iterator[Thread]:
            for thread in threads:
                lines = [(thread.thread_id, message.message_id) for message in thread.messages]
                write(thread, [place for place, line in enumerate(lines) if line in marked])
                yield thread

        yield written()


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())
