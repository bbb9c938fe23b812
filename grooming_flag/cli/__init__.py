"""The command `grooming-flag`: one module a subcommand. Results go to files or stdout, all else to stderr."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from typing import Annotated

import typer

from grooming_flag._version import __version__
from grooming_flag.cli.baseline import baseline
from grooming_flag.cli.evaluate import evaluate
from grooming_flag.cli.explain import explain
from grooming_flag.cli.generate import generate
from grooming_flag.cli.info import info
from grooming_flag.cli.learn_from import learn_from
from grooming_flag.cli.monitor import monitor
from grooming_flag.cli.options import GreedyLists, printable
from grooming_flag.cli.pan12 import pan12
from grooming_flag.cli.policy import policy
from grooming_flag.cli.review import review
from grooming_flag.cli.score import score
from grooming_flag.cli.split import split
from grooming_flag.cli.train import train
from grooming_flag.cli.tune import tune
from grooming_flag.cli.watch import watch
from grooming_flag.errors import GroomingFlagError

app = typer.Typer(
    help="Score message threads for grooming-risk patterns. A flag asks a person to look; nothing here acts on anyone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...


for command in (
    score,
    explain,
    watch,
    review,
    evaluate,
    train,
    tune,
    learn_from,
    monitor,
    split,
    baseline,
    generate,
    pan12,
    info,
):
    app.command(cls=GreedyLists)(command)
app.add_typer(policy, name="policy")


def main() -> None:
    """Run the command: exit status 0 if all went well, 1 for bad data or a bad model, 2 for wrong usage.

    `monitor` also has one of its own, for alarms.
    """
    signal.signal(signal.SIGTERM, _stop)
    _leave_no_core()
    try:
        app()
    except GroomingFlagError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def _leave_no_core() -> None:
    """Let no crash write what is in memory, text included, to the disk; where there are such limits."""
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _stop(signum: int, _frame: object) -> None:
    """End as an exception does, so that no unfinished file is left."""
    sys.exit(128 + signum)
