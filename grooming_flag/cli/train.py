"""`grooming-flag train`: labelled threads in, a model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grooming_flag.cli.options import check_files, err, progress_bar


def train(
    labelled: Annotated[list[Path], typer.Argument(metavar="LABELLED...", help="Labelled threads, JSON lines.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder; its name becomes the model's.")],
    dev: Annotated[
        list[Path] | None,
        typer.Option(metavar="LABELLED...", help="Labelled threads of other persons, to choose and calibrate on."),
    ] = None,
    terms: Annotated[Path | None, typer.Option(help="TOML: what each file is, its terms, tactics by code.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same files and seed give the same bytes.")] = 0,
    prior: Annotated[float, typer.Option(help="Share of risky threads that probabilities assume.")] = 1e-3,
) -> None:
    """Train a model, write its folder with a card, and print its evaluation on the development threads."""
    check_files([*labelled, *(dev or ())])
    from grooming_flag.evaluation.report import render_summary
    from grooming_flag.training.train import train_files

    with progress_bar("reading") as progress:
        model, metrics = train_files(
            labelled, output, dev or (), terms=terms, seed=seed, prior=prior, n_jobs=-1, progress=progress
        )
    typer.echo(render_summary(metrics))
    for name, point in model.operating_points.items():
        if point.measured["negatives"] * point.measured["target_fpr"] < 1.0:
            err.print(f"warning: too few negatives ({point.measured['negatives']}) to place {name}; it lets none pass")
    err.print(f"model {model.name} in {output}", markup=False)
