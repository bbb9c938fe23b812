"""`grooming-flag evaluate`: judge a model, or any system by its scores, on labelled threads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from grooming_flag.artifact import load_model
from grooming_flag.cli.options import (
    AuthorIds,
    ModelFolder,
    check_files,
    check_packages,
    chosen_point,
    err,
    progress_bar,
)
from grooming_flag.errors import DataError
from grooming_flag.io.scores import read_scores
from grooming_flag.io.streams import whole_file
from grooming_flag.io.threads import read_sources

if TYPE_CHECKING:
    from grooming_flag.evaluation.protocol import System


def evaluate(
    labelled: Annotated[list[Path], typer.Argument(metavar="LABELLED...", help="Labelled threads, JSON lines.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report.html, metrics.json, summary.txt.")],
    model: ModelFolder = None,
    scores: Annotated[
        Path | None, typer.Option(help="Judge the system that gave these scores (.jsonl, .csv, .parquet) instead.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE|DIR", help="Compare with another system's scores, or another model.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Operating point of the model. [default: balanced]")] = None,
    threshold: Annotated[float | None, typer.Option(help="Flag at this value instead.")] = None,
    authors: AuthorIds = "auto",
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Judge a model even on threads or persons that it was trained on.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="The same input and seed give the same figures.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")] = None,
) -> None:
    """Measure detection, calibration, earliness, robustness and shortcuts, each number with its interval."""
    check_packages("evaluate", "jinja2", "matplotlib", "py3langid")
    if scores is not None and at is not None:
        raise typer.BadParameter("scores have no operating points; use --threshold", param_hint="--at")
    chosen = chosen_point(at, threshold)
    if model is not None and scores is not None:
        raise typer.BadParameter("use --model or --scores, not both")
    check_files(labelled)
    from grooming_flag.evaluation.files import evaluate_files
    from grooming_flag.evaluation.protocol import Scored
    from grooming_flag.evaluation.report import render_html, render_summary

    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: is a file; name a folder")
    system = _system(scores) if scores else load_model(model)
    other = _system(against) if against else None
    if isinstance(other, Scored) and other.name == system.name:
        other = Scored(str(against), other.rows)
    sources = read_sources(labelled)
    with progress_bar("reading") as progress:
        metrics = evaluate_files(
            sources,
            dict(zip(sources, labelled, strict=True)),
            system,
            other,
            at=chosen,
            authors=authors,
            allow_seen=allow_seen,
            seed=seed,
            n_jobs=jobs or -1,
            progress=progress,
        )
    output.mkdir(parents=True, exist_ok=True)
    summary = render_summary(metrics)
    for name, content in {
        "metrics.json": msgspec.json.format(msgspec.json.encode(metrics), indent=1).decode() + "\n",
        "report.html": render_html(metrics),
        "summary.txt": summary,
    }.items():
        with whole_file(output / name) as file:
            file.write(content.encode())
    typer.echo(summary)
    err.print(f"report.html, metrics.json and summary.txt are in {output}", markup=False)


def _system(path: Path) -> System:
    from grooming_flag.evaluation.protocol import Scored

    return load_model(path) if path.is_dir() else Scored(path.name.split(".")[0], list(read_scores(path)))
