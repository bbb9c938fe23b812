"""`grooming-flag monitor`: what changed between two times of scores by more than is tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from grooming_flag.artifact import load_model
from grooming_flag.cli.options import ModelFolder, err
from grooming_flag.io.streams import check_not_input, input_files, whole_file

ALARM = 3
"""Exit status if anything changed by more than is tolerated."""


def monitor(
    window: Annotated[
        list[str], typer.Argument(metavar="WINDOW...", help="Scores of now: .jsonl, .parquet, folders, 'patterns*'.")
    ],
    reference: Annotated[list[str], typer.Option(metavar="FILE...", help="Scores of before, to compare with.")],
    verdicts: Annotated[
        list[Path] | None, typer.Option(metavar="FILE...", help="What moderators said of the window's flagged threads.")
    ] = None,
    reference_verdicts: Annotated[
        list[Path] | None, typer.Option(metavar="FILE...", help="Of those before; else probabilities are the measure.")
    ] = None,
    threads: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE...", help="Threads of the window, for their unknown n-grams."),
    ] = None,
    reference_threads: Annotated[list[str] | None, typer.Option(metavar="FILE...", help="Threads of before.")] = None,
    model: ModelFolder = None,
    tolerance: Annotated[
        str,
        typer.Option(
            metavar="NAME=VALUE,...",
            help="What may change: scores (PSI), alerts (times), abstained, confirmed, unknown (plus or minus).",
        ),
    ] = "",
    output: Annotated[str, typer.Option("--output", "-o", help="JSON file, or a folder for drift.json.")] = "-",
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw the changes.")] = None,
) -> None:
    """Compare a window of scores with a reference. Exit status 3 if anything changed by more than is tolerated."""
    if bool(threads) != bool(reference_threads):
        raise typer.BadParameter("give --threads and --reference-threads, or neither")
    if reference_verdicts and not verdicts:
        raise typer.BadParameter("needs --verdicts to compare with", param_hint="--reference-verdicts")
    if plot is not None and plot.suffix != ".svg":
        raise typer.BadParameter("name a .svg file", param_hint="--plot")
    from grooming_flag.evaluation.drift import drift
    from grooming_flag.evaluation.periods import read_period
    from grooming_flag.evaluation.report.drift import drift_plot

    tolerances = _tolerances(tolerance)
    target = str(Path(output, "drift.json")) if output.endswith("/") or Path(output).is_dir() else output
    read = input_files([*window, *reference])  # which refuses a file that is in both
    read += input_files([*(threads or ()), *(reference_threads or ())])
    check_not_input((target, plot), [*read, *(verdicts or ()), *(reference_verdicts or ())])
    loaded = load_model(model) if threads else None

    with err.status("reading"):
        before = read_period(reference, reference_verdicts or (), reference_threads or (), loaded)
        found = drift(before, read_period(window, verdicts or (), threads or (), loaded), tolerances)
    if plot is not None:
        with whole_file(plot) as file:
            file.write(drift_plot(found).encode())
    if target != "-":
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as file:
        file.write(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    _show(found)
    if found["alarms"]:
        raise typer.Exit(ALARM)


def _tolerances(option: str) -> dict[str, float]:
    from grooming_flag.evaluation.drift import QUANTITIES

    found = {}
    for pair in filter(None, option.split(",")):
        name, _, value = pair.partition("=")
        least = 1.0 if name in QUANTITIES and QUANTITIES[name].measure == "ratio" else 0.0
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = least
        if name not in QUANTITIES or not least < found[name] < float("inf"):
            raise typer.BadParameter(
                f"write NAME=VALUE, with a name of {', '.join(QUANTITIES)}; alerts above 1, others above 0",
                param_hint="--tolerance",
            )
    return found


def _show(found: Mapping[str, Any]) -> None:
    from grooming_flag.evaluation.report.reading import plural

    table = Table("", "reference", "window", "change", "interval", "tolerated", "", box=None)
    for row in found["changes"]:
        sign, tolerated = {"PSI": ("PSI ", ""), "ratio": ("x ", "x/"), "difference": ("", "+-")}[row["measure"]]
        table.add_row(
            row["quantity"],
            _number(row["reference"]["value"]),
            _number(row["window"]["value"]),
            f"{sign}{_number(row['change'])}",
            f"{_number(row['low'])} to {_number(row['high'])}",
            f"{tolerated}{row['tolerance']:g}",
            "ALARM" * row["alarm"],
        )
    err.print(table)
    for row in found["changes"]:
        if row["alarm"]:
            err.print(f"{row['quantity']}: {row['look']}", markup=False)
    for note in found["notes"]:
        err.print(f"note: {note}", markup=False)
    counts = found["threads"]
    alarms = plural(len(found["alarms"]), "alarm")
    err.print(f"{counts['window']:,} threads against {counts['reference']:,}: {alarms}")


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
