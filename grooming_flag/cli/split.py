"""`grooming-flag split`: labelled threads in, folds out that have no person, author or near-duplicate in common."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from grooming_flag.cli.options import AuthorIds, err, out
from grooming_flag.errors import DataError
from grooming_flag.io.streams import check_not_input, compressed, read_lines, whole_file
from grooming_flag.io.threads import read_sources
from grooming_flag.records import Thread

if TYPE_CHECKING:
    from grooming_flag.evaluation.splits import Pair

LISTED = 1000  # near-duplicates that split.json names


def split(
    labelled: Annotated[list[Path], typer.Argument(metavar="LABELLED...", help="Labelled threads, JSON lines.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for fold-1.jsonl.gz, ... and split.json.")],
    folds: Annotated[int, typer.Option(min=2, help="How many.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="The same files and seed give the same bytes.")] = 0,
    authors: AuthorIds = "auto",
) -> None:
    """Deal threads out to folds such that no person, author or near-duplicate is in two of them."""
    from grooming_flag.evaluation import splits

    targets = [output / f"fold-{number}.jsonl.gz" for number in range(1, folds + 1)]
    _check_folder(output, targets, labelled)
    with err.status("linking threads"):
        sources = read_sources(labelled)
        threads = [thread for of_source in sources.values() for thread in of_source]
        names = [name for name, of_source in sources.items() for _ in of_source]
        kinds = splits.author_kinds(sources.values(), authors)
        pairs = splits.near_duplicates(threads)
        groups = splits.components(threads, kinds, pairs)
        fold = splits.folds(threads, folds, seed, groups=groups, sources=names)
    summary = {
        "seed": seed,
        "authors": dict(zip(names, kinds, strict=True)),
        **_linked(threads, groups.tolist()),
        "near_duplicates": _near(threads, names, pairs),
        "folds": [
            {"file": target.name, **_dealt(threads, names, groups.tolist(), (fold == number).nonzero()[0].tolist())}
            for number, target in enumerate(targets)
        ],
    }
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        files.enter_context(whole_file(output / "split.json")).write(json.dumps(summary, indent=2).encode() + b"\n")
        raw = [files.enter_context(whole_file(target)) for target in targets]
        packed = [files.enter_context(compressed(file, target)) for file, target in zip(raw, targets, strict=True)]
        lines = (line for path in labelled for _, line in read_lines(path))
        for line, number in zip(lines, fold.tolist(), strict=True):
            packed[number].write(line if line.endswith(b"\n") else line + b"\n")
    _show(summary, output)


def _check_folder(folder: Path, targets: Sequence[Path], labelled: Sequence[Path]) -> None:
    left = [path for path in sorted(folder.glob("fold-*.jsonl.gz")) if path not in targets]
    if left:
        raise DataError(f"{left[0]}: is left from a split into more folds; remove it, or choose another folder")
    for path in labelled:
        if str(path) == "-":
            raise DataError("-: standard input cannot be read twice; write the threads to a file first")
    check_not_input(targets, labelled)


def _linked(threads: Sequence[Thread], groups: Sequence[int]) -> dict[str, Any]:
    group, size = Counter(groups).most_common(1)[0]
    risky = sum(thread.label == 1 for thread, of_thread in zip(threads, groups, strict=True) if of_thread == group)
    return {
        "threads": len(threads),
        "components": len(set(groups)),
        "persons": len({thread.person for thread in threads if thread.person}),
        "largest_component": {"threads": size, "risky": risky},
    }


def _near(threads: Sequence[Thread], names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, Any]:
    counts = Counter(tuple(sorted((names[pair.i], names[pair.j]))) for pair in pairs)
    return {
        "pairs": len(pairs),
        "within_files": sum(n for (one, other), n in counts.items() if one == other),
        "across_files": sum(n for (one, other), n in counts.items() if one != other),
        "by_files": [{"files": list(files), "pairs": n} for files, n in sorted(counts.items())],
        "listed": [
            {
                "threads": [threads[pair.i].thread_id, threads[pair.j].thread_id],
                "files": [names[pair.i], names[pair.j]],
                "similarity": round(pair.similarity, 4),
            }
            for pair in pairs[:LISTED]
        ],
    }


def _dealt(
    threads: Sequence[Thread], names: Sequence[str], groups: Sequence[int], places: Sequence[int]
) -> dict[str, Any]:
    counts = Counter((names[i], "risky" if threads[i].label == 1 else "other") for i in places)
    return {
        "threads": len(places),
        "risky": sum(n for (_, label), n in counts.items() if label == "risky"),
        "components": len({groups[i] for i in places}),
        "by_source": {
            name: {label: counts[name, label] for label in ("risky", "other")}
            for name in sorted({n for n, _ in counts})
        },
    }


def _show(summary: dict[str, Any], output: Path) -> None:
    table = Table("fold", "threads", "risky", "components", box=None)
    for fold in summary["folds"]:
        table.add_row(fold["file"], *(f"{fold[name]:,}" for name in ("threads", "risky", "components")))
    out.print(table)
    largest, near, n = summary["largest_component"]["threads"], summary["near_duplicates"], summary["threads"]
    shared = [name for name, kind in summary["authors"].items() if kind == "global"]
    err.print(
        f"{n:,} threads, {summary['persons']:,} persons; {summary['components']:,} components, the largest of "
        f"{largest:,} threads\n"
        f"near-duplicates: {near['within_files']:,} pairs within files, {near['across_files']:,} across\n"
        f"author ids link threads of: {', '.join(shared) or 'no file (each thread has its own)'}\n"
        f"folds and split.json in {output}",
        markup=False,
    )
    if largest * len(summary["folds"]) > n:
        err.print(
            f"warning: one component has {largest / n:.0%} of the threads, and so has its fold; if author ids mean "
            "nothing beyond their thread, say so with --authors thread"
        )
