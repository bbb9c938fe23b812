"""Cost of scoring files against their size, and against reading them with the fastest reader there is."""

# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPEATS = 3
MEMORY_MB = 1200  # what `score` lets DuckDB take, by default


@dataclass(frozen=True)
class Cost:
    """What it took to score one file, file to file, in a process of its own."""

    form: str
    n_messages: int
    seconds: float
    peak_mb: float


def write_files(folder: Path, sizes: list[int], seed: int) -> None:
    """Write logs of each size, the smaller ones the beginnings of the larger: threads, and rows in order of time."""
    import duckdb
    from generate import write

    for size in sizes:
        write(folder / f"{size}.jsonl", size, seed)
        rows = "FROM (SELECT thread_id, unnest(messages, recursive := true) FROM read_json($1)) ORDER BY sent_at"
        connection = duckdb.connect(config={"temp_directory": str(folder / "scratch")})
        connection.execute(f"COPY ({rows}) TO '{folder}/{size}.parquet'", [str(folder / f"{size}.jsonl")])
        connection.close()


def costs(folder: Path, sizes: list[int], score: Callable[[Path, Path], tuple[float, float]]) -> Iterator[Cost]:
    """Yield the least of some runs for each file; `score` scores a file and returns seconds and megabytes."""
    for size in sizes:
        for form in ("jsonl", "parquet"):
            runs = [score(folder / f"{size}.{form}", folder / "growth.out") for _ in range(REPEATS)]
            yield Cost(form, size, min(seconds for seconds, _ in runs), max(peak for _, peak in runs))


def fastest_reading(folder: Path, size: int) -> dict[str, tuple[str, float]]:
    """Return, by form, which reader needs the least time for a file, with one thread of execution, and its seconds."""
    fastest = {}
    for form, readers in (("jsonl", json_readers()), ("parquet", parquet_readers())):
        path = folder / f"{size}.{form}"
        times = {name: min(_seconds(read, path) for _ in range(REPEATS)) for name, read in readers.items()}
        name = min(times, key=lambda name: times[name])
        fastest[form] = (name, times[name])
    return fastest


def _seconds(read: Callable[[Path], None], path: Path) -> float:
    start = time.perf_counter()
    read(path)
    return time.perf_counter() - start


def json_readers() -> dict[str, Callable[[Path], None]]:
    """Return functions that parse each line of a file and throw the result away."""
    import msgspec

    parsers: dict[str, Callable[[bytes], Any]] = {"json": json.loads, "msgspec": msgspec.json.Decoder().decode}
    try:
        import orjson

        parsers["orjson"] = orjson.loads
    except ModuleNotFoundError:
        pass
    try:
        import simdjson

        parser = simdjson.Parser()

        def parse_lazily(line: bytes) -> None:
            parser.parse(line)

        parsers["simdjson"] = parse_lazily
    except ModuleNotFoundError:
        pass

    def reader(parse: Callable[[bytes], Any]) -> Callable[[Path], None]:
        def read(path: Path) -> None:
            with path.open("rb") as lines:
                for line in lines:
                    parse(line)

        return read

    return {name: reader(parse) for name, parse in parsers.items()}


def parquet_readers() -> dict[str, Callable[[Path], None]]:
    """Return functions that read what scoring needs of a file into Arrow."""
    columns = ["thread_id", "author", "sent_at", "text"]

    def pyarrow(path: Path) -> None:
        import pyarrow.parquet

        for _ in pyarrow.parquet.ParquetFile(path).iter_batches(columns=columns, use_threads=False):
            pass

    def duckdb(path: Path) -> None:
        import duckdb

        connection = duckdb.connect(config={"threads": 1})
        for _ in connection.sql(f"SELECT {', '.join(columns)} FROM '{path}'").to_arrow_reader(100_000):
            pass

    return {"pyarrow": pyarrow, "DuckDB": duckdb}


def plot(found: list[Cost], path: Path) -> None:
    """Draw seconds and memory against the number of messages, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "grooming_flag", "svg.fonttype": "none", "font.family": "sans-serif"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for form, name in (("jsonl", "threads, JSON lines"), ("parquet", "flat log, Parquet, sorted on the way")):
        first, *_, last = of_form = [cost for cost in found if cost.form == form]
        sizes = [cost.n_messages for cost in of_form]
        (line,) = left.loglog(sizes, [cost.seconds for cost in of_form], "o", label=name)
        slope = (last.seconds - first.seconds) / max(last.n_messages - first.n_messages, 1)
        grid = [first.n_messages * (last.n_messages / first.n_messages) ** (k / 99) for k in range(100)]
        straight = [first.seconds + slope * (n - first.n_messages) for n in grid]
        left.loglog(grid, straight, color=line.get_color(), linewidth=0.8)
        right.semilogx(sizes, [cost.peak_mb for cost in of_form], marker="o", label=name)
    left.plot([], [], color="0.5", linewidth=0.8, label="start-up and so much a message")
    right.axhline(MEMORY_MB, color="0.5", linewidth=0.8)
    right.annotate("what sorting may take", (min(sizes), MEMORY_MB + 20), color="0.3", fontsize="small")
    left.set(xlabel="messages", ylabel="seconds, start of the process included")
    right.set(xlabel="messages", ylabel="peak memory, MB", ylim=(0, None))
    left.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
