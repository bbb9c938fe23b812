"""Options that several subcommands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

ModelFolder = Annotated[
    Path | None, typer.Option("--model", help="Model folder; by default the one that ships with the package.")
]

err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 9999)  # else cells are cut
