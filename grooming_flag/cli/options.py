"""Options that several subcommands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperCommand

from grooming_flag.artifact import load_model
from grooming_flag.errors import MissingExtraError, ModelError, PolicyError
from grooming_flag.model import Model
from grooming_flag.policy import Policy, read_policy

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


def chosen_point(at: str | None, threshold: float | None) -> str | float:
    """Return the operating point or the threshold, of which only one may be given; by default `balanced`."""
    if at is not None and threshold is not None:
        raise typer.BadParameter("use --at or --threshold, not both")
    return threshold if threshold is not None else at or "balanced"


def check_point(model: Model, at: str | None) -> None:
    """Refuse the name of an operating point that the model has not."""
    if at is not None and at not in model.operating_points:
        raise typer.BadParameter(f"the model has {', '.join(sorted(model.operating_points))}", param_hint="--at")


def load_policy(path: Path) -> Policy:
    """Return the policy in a file."""
    try:
        return read_policy(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8") from error


def shadow_models(policy: Policy, path: Path) -> dict[str, Model]:
    """Return the models that shadows of the policy in a file name, by these names; folders are beside the file."""
    found: dict[str, Model] = {}
    for shadow in policy.shadows:
        if shadow.model and shadow.model not in found:
            try:
                found[shadow.model] = load_model(path.parent / shadow.model)
            except ModelError as error:
                raise PolicyError(f"{path}: shadow {shadow.rule.name}: {error}") from error
    return found


def printable(text: object) -> str:
    """Return text that may hold ids of strangers so that it neither steers a terminal nor forges a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(
    highlight=False, soft_wrap=True, width=None if sys.stdout and sys.stdout.isatty() else 9999
)  # else cells are cut


def check_packages(command: str, *packages: str) -> None:
    """Raise an error that says what to install if packages of the extra `report` are not, before any work is done."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"{command} needs {', '.join(missing)}; pip install 'grooming-flag[report]'")


def check_files(paths: Iterable[Path]) -> None:
    """Raise a usage error if one is standard input or a pipe, which can be read only once."""
    for path in paths:
        if str(path) == "-" or path.is_fifo():
            name = "standard input" if str(path) == "-" else "a pipe"
            raise typer.BadParameter(f"{name} cannot be read twice; write the threads to a file first")


@contextmanager
def progress_bar(first: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show on a terminal how far the work is; give what takes the name of a step, how much is done, and of how much."""
    shown = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*shown, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(first, total=1)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)


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
