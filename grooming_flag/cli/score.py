"""`grooming-flag score`: threads in, scores out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from grooming_flag.artifact import load_model
from grooming_flag.batch import Summary, score_files
from grooming_flag.cli.options import ModelFolder, check_point, chosen_point, err
from grooming_flag.io.flat import MEMORY
from grooming_flag.io.logs import COLUMNS


def score(
    output: Annotated[
        str, typer.Option("--output", "-o", help="Score file: JSON lines (- is stdout) or .parquet; or a FOLDER/.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Threads (.jsonl, .gz, .zst, -) or a flat log; files, folders, 'patterns*', duckdb:FILE, postgres:DSN",
        ),
    ] = None,
    model: ModelFolder = None,
    at: Annotated[str | None, typer.Option(help="Operating point of the model. [default: balanced]")] = None,
    threshold: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Flag at this probability instead.")] = None,
    evidence: Annotated[int, typer.Option(min=0, metavar="K", help="Name the K strongest messages, without text.")] = 0,
    columns: Annotated[
        str,
        typer.Option(
            metavar="COLUMN=NAME,...", help="Names of thread_id, author, sent_at, text, message_id in a flat log."
        ),
    ] = "",
    sql: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY", help="Score the rows of a query, FROM log (the INPUT) or tables of its database."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Threads of execution.")] = 1,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="What sorting a flat log may take of it; the rest is on disk.")
    ] = MEMORY,
    only_flagged: Annotated[bool, typer.Option("--only-flagged", help="Write flagged threads alone.")] = False,
    capacity: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Write the N highest alone, highest first.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Score the first N threads alone.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave unusable lines out; list them in OUTPUT.bad.jsonl.")
    ] = False,
) -> None:
    """Score threads. A flag asks a person to look; it is no finding about anyone.

    Into a FOLDER/ scores go in parts: a run that was interrupted goes on where it stopped when it is started again.
    """
    if not inputs and sql is None:
        raise typer.BadParameter("name what to score", param_hint="INPUT")
    if not output:
        raise typer.BadParameter("name a file, or - for stdout", param_hint="--output")
    if skip_bad and output == "-":
        raise typer.BadParameter(
            "needs a file as --output, beside which it lists the bad lines", param_hint="--skip-bad"
        )
    if not re.fullmatch(r"[1-9][0-9]{0,6}(MB|GB|MiB|GiB)", memory):
        raise typer.BadParameter("write a size such as 1200MB or 4GiB", param_hint="--memory")
    chosen = chosen_point(at, threshold)
    mapping = _mapping(columns)
    loaded = load_model(model)
    check_point(loaded, at)
    bad_lines = Path(f"{output.rstrip('/')}.bad.jsonl") if skip_bad else None
    shown = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*shown, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("reading", total=None)

        def show(so_far: Summary) -> None:
            rate = (so_far.messages - so_far.scored_before) / max(so_far.seconds, 1e-9)
            counts = f"{so_far.threads:,} threads, {so_far.flagged:,} flagged, {rate:,.0f} messages a second"
            bar.update(task, description=counts, completed=so_far.share, total=1 if so_far.share else None)

        summary = score_files(
            inputs or [],
            output,
            loaded,
            chosen,
            evidence=evidence,
            n_jobs=jobs,
            columns=mapping,
            sql=sql,
            memory=memory,
            only_flagged=only_flagged,
            limit=limit,
            capacity=capacity,
            bad_lines=bad_lines,
            progress=show,
        )
    point = f"threshold {threshold:g}" if threshold is not None else f"operating point {at or 'balanced'}"
    rate = (summary.messages - summary.scored_before) / max(summary.seconds, 1e-9)
    lines = [
        f"{summary.threads:,} threads with {summary.messages:,} messages in {summary.seconds:.1f} s, "
        f"{rate:,.0f} messages a second",
        f"{summary.flagged:,} flagged for review at {point}; "
        f"{summary.abstained:,} with too little text for a probability",
        f"scores by {loaded.name} in {output}",
    ]
    if summary.scored_before:
        lines.insert(1, f"of these {summary.scored_before:,} messages scored by a run before this one")
    if bad_lines is not None:
        lines.insert(-1, f"{summary.bad:,} lines set aside, listed in {bad_lines}")
    err.print("\n".join(lines), markup=False)


def _mapping(columns: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in columns.split(",") if pair]
    for column, equals, name in pairs:
        if column not in COLUMNS or not equals or not name:
            raise typer.BadParameter(
                f"write COLUMN=NAME, where COLUMN is one of {', '.join(COLUMNS)}", param_hint="--columns"
            )
    return {column: name for column, _, name in pairs}
