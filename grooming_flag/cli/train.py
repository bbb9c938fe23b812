"""`grooming-flag train`: labelled threads in, a model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from grooming_flag.cli.options import err, out


def train(
    labelled: Annotated[list[Path], typer.Argument(metavar="LABELLED...", help="Labelled threads, JSON lines.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder; its name becomes the model's.")],
    dev: Annotated[
        list[Path] | None,
        typer.Option(metavar="LABELLED...", help="Labelled threads of other persons, to choose and calibrate on."),
    ] = None,
    terms: Annotated[Path | None, typer.Option(help="TOML: what each file is, and its terms.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same files and seed give the same bytes.")] = 0,
    prior: Annotated[float, typer.Option(help="Share of risky threads that probabilities assume.")] = 1e-3,
) -> None:
    """Train a model, write its folder with a card, and print what was measured on the development threads."""
    from grooming_flag.evaluation.figures import format_figure
    from grooming_flag.training.train import train_files

    with err.status("training"):
        model, measured = train_files(labelled, output, dev or (), terms=terms, seed=seed, prior=prior)
    table = Table("measure", "threads", "at", "share [95 %] (count)", box=None)
    for figure in measured:
        table.add_row(figure.measure, Text(figure.slice), figure.at, format_figure(figure))
    out.print(table)
    for name, point in model.operating_points.items():
        if point.measured["negatives"] * point.measured["target_fpr"] < 1.0:
            err.print(f"warning: too few negatives ({point.measured['negatives']}) to place {name}; it lets none pass")
    err.print(f"model {model.name} in {output}", markup=False)
