"""`grooming-flag policy`: what a policy file would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from grooming_flag.artifact import load_model
from grooming_flag.cli.options import (
    AuthorIds,
    GreedyLists,
    ModelFolder,
    check_files,
    err,
    load_policy,
    out,
    shadow_models,
)
from grooming_flag.io.streams import whole_file
from grooming_flag.io.threads import read_contexts, read_sources

if TYPE_CHECKING:
    from grooming_flag.evaluation.figures import Figure
    from grooming_flag.policy import Rule

policy = typer.Typer(help="Policy files: what is flagged where while threads go on.", no_args_is_help=True)


@policy.command(cls=GreedyLists)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The policy, TOML; see docs/operations.md.")],
    on: Annotated[
        list[Path] | None,
        typer.Option("--on", metavar="LABELLED...", help="Labelled threads, JSON lines, to try it on."),
    ] = None,
    model: ModelFolder = None,
    authors: AuthorIds = "auto",
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Even on threads or persons that the model was trained on.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON lines: each thread that would have been flagged, and when."),
    ] = None,
) -> None:
    """Check a policy file, and print what it would have flagged of labelled threads, looked at after every message."""
    rules = load_policy(file)
    loaded, others = load_model(model), shadow_models(rules, file)
    check_files(on or [])
    from grooming_flag.evaluation.leaks import check_unseen
    from grooming_flag.evaluation.policies import courses, policy_figures
    from grooming_flag.evaluation.pool import Pool

    sources = read_sources(on or [])
    pool = Pool.of(sources, authors)
    if not allow_seen:
        check_unseen(loaded, sources)
    contexts = dict(known for path in on or [] for known in read_contexts(path))
    found = courses(pool.threads, contexts, rules, loaded, others)
    counts = f"rules: {len(rules.rules)}, shadows: {len(rules.shadows)}"
    err.print(f"{file}: can be used with {loaded.name}; {counts}", markup=False)
    if on:
        out.print(_table(policy_figures(pool, found)))
        used = {course.rule for of_thread in found for course in of_thread}
        for rule in (*rules.rules, *(shadow.rule for shadow in rules.shadows)):
            if rule.name not in used:
                err.print(f"{rule.name}: is for none of these threads; it is {_conditions(rule)}", markup=False)
    if output is not None:
        with whole_file(output) as lines:
            for course in (course for of_thread in found for course in of_thread if course.raised):
                lines.write(msgspec.json.encode(course) + b"\n")


def _conditions(rule: Rule) -> str:
    """Return in words for which threads a rule is."""
    if not rule.when:
        return "for those that no rule before it is for"
    return "where " + " and ".join(f"{name} is {' or '.join(values)}" for name, values in rule.when.items())


MEASURES = ("flagged at any message", "flagged at the end", "flags of a thread", "messages at the first flag")


def _table(figures: Sequence[Figure]) -> Table:
    cells = {(figure.at, figure.slice, figure.measure): figure for figure in figures}
    table = Table("rule", "threads", *MEASURES, box=None)
    for at, kind in dict.fromkeys((figure.at, figure.slice) for figure in figures):
        first = cells[at, kind, MEASURES[0]]
        found = [cells.get((at, kind, measure)) for measure in MEASURES]
        table.add_row(Text(at), f"{first.n} {kind}", *map(_cell, found))
    return table


def _cell(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "-"
    if figure.hits is None:
        return f"{figure.value:.3g}"
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}], {figure.hits}"
