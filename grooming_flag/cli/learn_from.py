"""`grooming-flag learn-from`: verdicts in, a model folder with recalibrated probabilities out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from grooming_flag.artifact import bundled_model
from grooming_flag.cli.options import ModelFolder, check_files, err
from grooming_flag.io.streams import check_not_input


def learn_from(
    verdicts: Annotated[list[Path], typer.Argument(metavar="VERDICTS...", help="Files that the review page wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New model folder; its name becomes the model's.")],
    model: ModelFolder = None,
) -> None:
    """Recalibrate a model on what moderators said. No weight changes, and each point flags the same threads."""
    check_files(verdicts)
    folder = model or bundled_model()
    check_not_input((output,), (folder, *verdicts))
    from grooming_flag.training.card import learnt
    from grooming_flag.training.learn import learn_from_files

    found, report = learn_from_files(verdicts, output, folder)
    typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    table = Table("", "confirmed", "dismissed", "unsure", box=None)
    for selection, counts in report["verdicts"].items():
        table.add_row(selection, *(f"{n:,}" for n in counts.values()))
    err.print(table)
    table = Table("measure", "value [95 %] (count)", box=None)
    for row in learnt(report):
        table.add_row(*map(Text, row))
    err.print(table)
    for note in report["notes"]:
        err.print(f"note: {note}", markup=False)
    err.print(f"model {found.name} in {output}", markup=False)
