"""`grooming-flag watch`: messages in as they come, a line out whenever the flag of a thread changes."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from grooming_flag.artifact import load_model
from grooming_flag.cli.options import ModelFolder, chosen_point, err, load_policy, printable, shadow_models
from grooming_flag.errors import DataError
from grooming_flag.io.redis_states import RedisStore, RedisStream
from grooming_flag.io.states import IDLE, SqliteStore
from grooming_flag.policy import DEFAULT, Policy, Rule
from grooming_flag.watcher import Watcher, watch_lines, watch_stream

HOUR, DAY = 3600.0, 86_400.0


def watch(
    input: Annotated[
        str, typer.Argument(metavar="[INPUT]", help="Messages, JSON lines (.gz, .zst); - is standard input.")
    ] = "-",
    model: ModelFolder = None,
    state: Annotated[
        str,
        typer.Option(
            metavar="FILE|URL",
            envvar="GROOMING_FLAG_STATE",
            help="Where states are kept: a file, or redis://HOST. By default in memory, for this run.",
        ),
    ] = ":memory:",
    policy: Annotated[
        Path | None, typer.Option(metavar="TOML", help="What is flagged where; see docs/operations.md.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Operating point of the model. [default: balanced]")] = None,
    threshold: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Flag at this probability instead.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="INPUT begins where it began last time: pass over what was read then.")
    ] = False,
    stream: Annotated[
        str | None, typer.Option(metavar="NAME", help="Read this stream of the Redis server instead of INPUT.")
    ] = None,
    group: Annotated[str, typer.Option(help="Workers of one group share a stream.")] = "grooming-flag",
    worker: Annotated[str, typer.Option(help="Name of this worker; no two at a time have the same.")] = "worker",
    idle: Annotated[float, typer.Option(min=0.0, metavar="DAYS", help="Forget threads without a message.")] = IDLE
    / DAY,
) -> None:
    """Watch threads while they go on. Writes the row of a thread whenever its flag goes up or comes down.

    Killed at any moment and started again, it goes on with the states that it kept.
    """
    is_redis = state.lower().startswith(("redis://", "rediss://", "unix://"))
    if "://" in state and not is_redis:
        raise typer.BadParameter("name a file, or redis://HOST", param_hint="--state")
    if stream is not None and input != "-":
        raise typer.BadParameter("goes without INPUT", param_hint="--stream")
    if policy is not None and (at is not None or threshold is not None):
        raise typer.BadParameter("use --policy or a single point, not both", param_hint="--policy")
    if stream is not None and not is_redis:
        raise typer.BadParameter("needs --state redis://HOST, where the stream is", param_hint="--stream")
    if again and (is_redis or state == ":memory:"):
        raise typer.BadParameter("needs a file as --state, which keeps how far INPUT was read", param_hint="--again")
    loaded = load_model(model)
    rules = load_policy(policy) if policy else Policy((Rule(DEFAULT, chosen_point(at, threshold)),))
    shadows = shadow_models(rules, policy) if policy else {}
    bad: list[DataError] = []

    def refuse(error: DataError) -> None:
        bad[:] = [error]
        err.print(f"set aside: {printable(error)}", markup=False)

    asked: list[int] = []  # by signals to end; a lock could be taken already where one arrives
    store = RedisStore(state, idle * DAY, worker) if is_redis else SqliteStore(state, idle * DAY, worker)
    watcher = Watcher(loaded, store, rules, shadows, hands_on=True)
    if isinstance(store, RedisStore) and stream is not None:
        counts = watch_stream(watcher, RedisStream(store, stream, group), lambda: bool(asked), refuse)
    else:
        counts = watch_lines(watcher, input, lambda: bool(asked), refuse, again)
    n_messages, due = 0, 0.0
    with _stopping(asked):
        for n_added in counts:
            n_messages += n_added
            store.deliver(_write)
            if time.monotonic() >= due:
                store.expire()
                due = time.monotonic() + HOUR
    err.print(f"{n_messages:,} messages added to states in {_place(state)}", markup=False)
    if watcher.n_damaged:
        err.print(f"{watcher.n_damaged:,} states were damaged; their threads were begun anew")
    if bad:
        raise typer.Exit(1)


@contextmanager
def _stopping(asked: list[int]) -> Iterator[None]:
    """End in good order when the process is asked to."""
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, _: asked.append(number)) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _write(row: bytes) -> None:
    sys.stdout.buffer.write(row)
    sys.stdout.buffer.flush()


def _place(state: str) -> str:
    """Return where states are kept, without a password that the address may hold."""
    return {":memory:": "memory"}.get(state, state if "://" not in state else "Redis")
