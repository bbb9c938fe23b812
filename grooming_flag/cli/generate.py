"""`grooming-flag generate`: invented threads from templates."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from grooming_flag.cli.options import err
from grooming_flag.io.threads import thread_writer


def generate(
    output: Annotated[
        str, typer.Option("--output", "-o", help="Threads, JSON lines (.jsonl, .gz, .zst); - is stdout.")
    ],
    family: Annotated[list[str] | None, typer.Option(help="Kind of talk; may be repeated. [default: all]")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each family.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same threads.")] = 0,
    kind: Annotated[
        Literal["judging", "training"], typer.Option(help="The two share no line; never train on what is to judge.")
    ] = "judging",
) -> None:
    """Write invented, labelled threads: ordinary talk that is easily taken for the pattern, and some that shows it.

    Scores on them test a mechanism; they are never detection quality.
    """
    from grooming_flag.evaluation.templates import families, load_family
    from grooming_flag.evaluation.templates import generate as generate_threads

    chosen = [load_family(name, kind) for name in dict.fromkeys(family)] if family else families(kind).values()
    n_messages = 0
    with thread_writer(output) as write:
        for one in chosen:
            for thread in generate_threads(one.name, threads, seed, kind):
                write(thread)
                n_messages += len(thread.messages)
    for one in chosen:
        err.print(f"{one.name}: {one.what} (label {one.label})", markup=False)
    err.print(f"{threads * len(chosen):,} threads with {n_messages:,} messages in {output}", markup=False)
