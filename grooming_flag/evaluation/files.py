"""The evaluation of files: what `evaluate` does with their threads, and what else they say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grooming_flag.evaluation.protocol import System, evaluate
from grooming_flag.io.threads import read_coded_lines
from grooming_flag.records import Thread


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def evaluate_files(
    sources: Mapping[str, Sequence[Thread]],
    paths: Mapping[str, Path],
    system: System,
    against: System | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Judge a system on threads of files; return all that metrics.json holds.

    Beside what `evaluate` returns that is which files were judged, whether the evidence is what their annotators
    marked, and a note if the operating points of the system were chosen on them.

    Parameters
    ----------
    sources : mapping of str to sequence of Thread
        By the name of the file.
    paths : mapping of str to path
        The files, by the same names.
    system, against, **settings
        As `evaluate` takes them.
    """
    coded = {thread_id: lines for path in paths.values() for thread_id, lines in read_coded_lines(path) if any(lines)}
    metrics = evaluate(sources, system, against, coded=coded, **settings)
    digests = {name: digest(path) for name, path in paths.items()}
    metrics["data"]["files"] = digests
    chosen_on = getattr(system, "lineage", {}).get("development", {}).values()
    known = {source["sha256"] for source in chosen_on}.intersection(digests.values())
    if known:
        metrics["notes"].append(
            f"The operating points and the calibration of {metrics['system']} were chosen on {len(known)} of these "
            f"{len(digests)} files: expect a little less elsewhere."
        )
    return metrics
