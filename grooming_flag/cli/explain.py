"""`grooming-flag explain`: what a score is made of, message by message, without text."""

from __future__ import annotations

from math import fsum
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from grooming_flag.artifact import load_model
from grooming_flag.cli.options import ModelFolder, out, printable
from grooming_flag.errors import DataError
from grooming_flag.io.scores import evidence_rows
from grooming_flag.io.threads import read_threads
from grooming_flag.records import Thread


def explain(
    input: Annotated[str, typer.Argument(metavar="INPUT", help="Threads, JSON lines (.gz, .zst); - is stdin.")],
    thread: Annotated[str, typer.Option(help="Id of the thread.")],
    model: ModelFolder = None,
    top: Annotated[int, typer.Option(min=0, help="Messages to list.")] = 10,
) -> None:
    """Show what the score of one thread is made of. Not for end users: it teaches evasion."""
    loaded = load_model(model)
    found = _find(input, thread)
    a = loaded.assess(found, at=1.0)
    rows = evidence_rows(loaded.explain(found))
    listed = rows[:top]
    probability = "abstains: too little text" if a.probability is None else f"{a.probability:.6f}"
    head = Table.grid(padding=(0, 2))
    head.add_row("thread", _text(f"{a.thread_id}: {a.n_messages} messages, {a.n_authors} authors"))
    head.add_row("segment", f"messages {a.segment[0]} to {a.segment[1] - 1}, the strongest")
    head.add_row("probability", f"{probability} (prior {loaded.calibration.prior:g})")
    for risk in a.authors:
        head.add_row("author", _text(f"{risk.author}: {risk.probability:.3f} that this one drives it"))
    ids = (Column(name, overflow="fold") for name in ("message", "author"))
    table = Table(*ids, "contribution", "tactics", box=None)
    for row in listed:
        contribution, tactics = f"{row['contribution']:+.4f}", _text(", ".join(row["tactics"]))
        table.add_row(_text(row["message_id"]), _text(row["author"]), contribution, tactics)
    rest = fsum(row["contribution"] for row in rows[top:])
    table.add_row(f"{len(rows) - len(listed)} more", "", f"{rest:+.4f}")
    table.add_row("intercept", "", f"{loaded.intercept:+.4f}")
    table.add_row("score", "", f"{a.score:+.4f}", style="bold")
    out.print(head)
    out.print(table)


def _find(path: str, thread_id: str) -> Thread:
    bad: list[DataError] = []
    for thread in read_threads(path, on_bad=bad.append):
        if thread.thread_id == thread_id:
            return thread
    lines = f"; {len(bad)} lines cannot be used, the first: {bad[0]}" if bad else ""
    raise DataError(f"{path}: has no thread with that id{lines}")


def _text(value: object) -> Text:
    """Return an id as it is, not as markup."""
    return Text(printable(value))
