"""`grooming-flag tune`: an operating point for a target, chosen on labelled threads and kept in the model folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from grooming_flag.artifact import load_card, load_model, save_model
from grooming_flag.cli.options import AuthorIds, check_files, err
from grooming_flag.io.threads import read_sources


def tune(
    labelled: Annotated[list[Path], typer.Argument(metavar="LABELLED...", help="Labelled threads, JSON lines.")],
    model: Annotated[Path, typer.Option(help="Model folder, which gets the operating point.")],
    name: Annotated[str, typer.Option(help="Of the operating point.")],
    max_fpr: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Flag at most this share of the threads that are not risky.")
    ] = None,
    min_precision: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="At least this share of flags is to be right, at the prior.")
    ] = None,
    capacity: Annotated[
        float | None, typer.Option(min=0.0, metavar="N", help="Flag at most N of 10,000 threads, at the prior.")
    ] = None,
    prior: Annotated[
        float | None, typer.Option(help="Share of risky threads on the platform. [default: that of the model]")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="For watching: a thread counts as flagged if it is after any message.")
    ] = False,
    min_messages: Annotated[int, typer.Option(min=0, help="With --stream: no flag before so many messages.")] = 0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Even if there is an operating point of that name, which then is no more.")
    ] = False,
    authors: AuthorIds = "auto",
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Even on threads or persons that the model was trained on.")
    ] = False,
) -> None:
    """Choose an operating point on labelled threads: the lowest threshold that keeps to a target."""
    if sum(target is not None for target in (max_fpr, min_precision, capacity)) != 1:
        raise typer.BadParameter("give one of --max-fpr, --min-precision and --capacity")
    if prior is not None and (max_fpr is not None or not 0.0 < prior < 1.0):
        raise typer.BadParameter("goes with --min-precision or --capacity, above 0 and below 1", param_hint="--prior")
    if min_messages and not stream:
        raise typer.BadParameter("goes with --stream", param_hint="--min-messages")
    if capacity is not None and not math.isfinite(capacity):
        raise typer.BadParameter("give a number", param_hint="--capacity")
    if not name.strip() or not name.isprintable():
        raise typer.BadParameter("give a name", param_hint="--name")
    check_files(labelled)
    from grooming_flag.evaluation.answers import answers_of
    from grooming_flag.evaluation.early import replay
    from grooming_flag.evaluation.leaks import check_unseen
    from grooming_flag.evaluation.points import (
        at_capacity,
        at_fpr,
        at_precision,
        check_values,
        doubts,
        highest_values,
        last_values,
    )
    from grooming_flag.evaluation.pool import Pool
    from grooming_flag.training.card import tuned_card

    loaded = load_model(model)
    if name in loaded.operating_points and not replace:
        raise typer.BadParameter("there is one of that name; give another, or --replace", param_hint="--name")
    card, metrics = load_card(model)
    sources = read_sources(labelled)
    pool = Pool.of(sources, authors)
    if not allow_seen:
        check_unseen(loaded, sources)
    record: dict[str, object] = {"on": ", ".join(sources), "looks": "whole thread"}
    if stream:
        values = highest_values(replay(loaded, pool.threads), min_messages)
        record |= {"looks": "after every message", "min_messages": min_messages}
    else:
        values = last_values(answers_of(loaded, pool.threads))
    check_values(pool, values)
    rate = loaded.calibration.prior if prior is None else prior
    if max_fpr is not None:
        point = at_fpr(name, pool, values, max_fpr, record)
    elif min_precision is not None:
        point = at_precision(name, pool, values, min_precision, rate, record)
    else:
        point = at_capacity(name, pool, values, capacity or 0.0, rate, record)
    points = {**loaded.operating_points, name: point}
    save_model(loaded.replace(operating_points=points), model, tuned_card(card, point), metrics)
    typer.echo(msgspec.json.encode({"name": name, "threshold": point.threshold, **point.measured}).decode())
    for doubt in doubts(point):
        err.print(f"warning: {doubt}", markup=False)
    err.print(f"{name} is an operating point of {loaded.name} in {model}", markup=False)
