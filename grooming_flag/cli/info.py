"""`grooming-flag info`: what is installed and what the model is."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from grooming_flag import _kernel, _tally
from grooming_flag._version import __version__
from grooming_flag.artifact import bundled_model, load_model
from grooming_flag.cli.options import ModelFolder, out
from grooming_flag.io import _messages
from grooming_flag.policy import OperatingPoint

PublicKey = Annotated[
    Path | None, typer.Option("--public-key", help="PEM file of who must have signed the model; see SECURITY.md.")
]


def info(model: ModelFolder = None, public_key: PublicKey = None) -> None:
    """Show versions, whether kernel and reader are compiled, and the model with what was measured at its points."""
    folder = model or bundled_model()
    loaded = load_model(folder, public_key=public_key)
    settings = loaded.extractor
    table = Table.grid(padding=(0, 2))
    for name, value in {
        "grooming_flag": __version__,
        "Python": platform.python_version(),
        "kernel": _how_it_runs(_kernel.compiled),
        "live states": _how_it_runs(_tally.compiled),
        "reader": _how_it_runs(_messages.compiled),
        "model": f"{loaded.name} in {folder}",
        "trained with": f"grooming_flag {loaded.lineage.get('library', '?')}, seed {loaded.lineage.get('seed', '?')}",
        "features": f"{settings.n_features} buckets, words and pairs, characters {settings.char_ngrams}",
        "segment": f"at most {loaded.segment_rule.max_messages} messages",
        "prior": f"{loaded.calibration.prior:g} (share of risky threads that probabilities assume)",
        "abstains": f"below {loaded.min_amount} known features",
        "tactics": ", ".join(loaded.tactics.names) or "none",
    }.items():
        table.add_row(name, Text(value))
    for name, point in sorted(loaded.operating_points.items()):
        table.add_row(Text(f"point {name}"), Text(f"threshold {point.threshold:.6g}; {_measured(point)}"))
    out.print(table)


def _how_it_runs(compiled: bool) -> str:
    return "compiled" if compiled else "interpreted (slow; needs a C compiler when the package is installed)"


def _measured(point: OperatingPoint) -> str:
    m = point.measured
    if not {"fpr", "false_positives", "negatives", "recall", "true_positives", "positives", "on"} <= m.keys():
        return ", ".join(f"{name} {value}" for name, value in m.items()) or "nothing measured"
    return (
        f"false-positive rate {m['fpr']:.5f} ({m['false_positives']} of {m['negatives']}), "
        f"recall {m['recall']:.3f} ({m['true_positives']} of {m['positives']}), {m['on']}"
        + (f", {m['looks']}" if "looks" in m else "")
    )
