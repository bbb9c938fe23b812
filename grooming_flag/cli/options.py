"""Options that several subcommands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from typer.core import TyperCommand

ModelFolder = Annotated[
    Path | None, typer.Option("--model", help="Model folder; by default the one that ships with the package.")
]
AuthorIds = Annotated[
    Literal["auto", "global", "thread"],
    typer.Option(
        "--authors",
        help="Whether author ids mean persons all through a file, or nothing beyond a thread.",
    ),
]

err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 9999)  # else cells are cut


class GreedyLists(TyperCommand):
    """Lets an option that may be repeated take all names up to the next option, as the shell's patterns give them.

    Else the second name would be taken for an argument, in silence.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat such an option before each of its names."""
        lists = {name for param in self.params if getattr(param, "multiple", False) for name in param.opts}
        repeated: list[str] = []
        greedy = ""
        for arg in args:
            is_name = not arg.startswith("-")
            if greedy and is_name and repeated[-1] != greedy:
                repeated.append(greedy)
            repeated.append(arg)
            if not is_name:
                greedy = arg.split("=")[0] if arg.split("=")[0] in lists else ""
        return super().parse_args(ctx, repeated)
