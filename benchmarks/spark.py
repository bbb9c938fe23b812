"""Cost of the same work on Spark and on one machine: python benchmarks/spark.py [--messages N] [--folder DIR]

Generated talk in Parquet files, its rows in order of time, is scored by `score_files` and by `assess` on one core and
on two, each in processes bound to these cores. Spark's work is then taken apart, each part with all
before it, and the last lines say what a cluster would need if its cores are like these.
"""

# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

REPEATS = 3
STREAM_FILES = 20
CLUSTERS = (10, 100, 1_000)
VOLUMES = (10**9, 10**11)


def write_log(folder: Path, n_messages: int) -> None:
    """Write the talk of `generate.py` as Parquet, some files of rows of all threads."""
    import duckdb
    from generate import write

    write(folder / "threads.jsonl", n_messages, 0)
    (folder / "log").mkdir(exist_ok=True)
    rows = "FROM (SELECT thread_id, unnest(messages, recursive := true) FROM read_json($1)) ORDER BY sent_at"
    with duckdb.connect(config={"temp_directory": str(folder / "scratch")}) as connection:
        connection.execute(f"CREATE TABLE log AS {rows}", [str(folder / "threads.jsonl")])
        for k in range(8):
            connection.execute(
                f"COPY (SELECT * FROM log WHERE rowid % 8 = {k} ORDER BY rowid) TO '{folder}/log/{k}.parquet'"
            )


def best(task: Callable[[], object]) -> float:
    """Return the least seconds of some runs after a first one."""
    seconds = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def one_machine(folder: Path, n_cores: int) -> dict[str, Any]:
    """Return what `score_files` takes."""
    from grooming_flag import load_model
    from grooming_flag.batch import score_files

    model = load_model()
    score = partial(score_files, [folder / "log"], folder / f"one-{n_cores}.parquet", model, n_jobs=n_cores)
    return {"one machine": best(score)}


def spark(folder: Path, n_cores: int) -> dict[str, Any]:
    """Return what Spark takes for each part of the work, with those before it."""
    started = time.perf_counter()
    from pyspark.sql import SparkSession

    from grooming_flag import load_model
    from grooming_flag import spark as on_spark

    model = load_model()
    session = (
        SparkSession.builder.master(f"local[{n_cores}]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.shuffle.partitions", 8)
        .config(map=on_spark.SETTINGS)
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    result: dict[str, Any] = {"start": time.perf_counter() - started}
    table = session.read.parquet(str(folder / "log"))
    messages = on_spark._messages(table, None)
    brought = messages.repartition("thread_id")
    in_order = brought.sortWithinPartitions("thread_id", "sent_at", "place").select("thread_id", "author", "text")

    def passed_on(batches: Any) -> Any:
        yield from (batch.select(["thread_id"]).slice(0, 1) for batch in batches)

    steps = {
        "read": messages,
        "shuffle": brought,
        "sort": in_order,
        "to Python": in_order.mapInArrow(passed_on, "thread_id string"),
        "assess": on_spark.assess(table, model),
    }
    for name, step in steps.items():
        result[name] = best(step.write.format("noop").mode("overwrite").save)
    write = on_spark.assess(table, model).write.mode("overwrite")
    result["write"] = best(partial(write.parquet, str(folder / f"spark-{n_cores}")))
    result["watch"] = watch(session, folder, n_cores)
    session.stop()
    return result


def watch(session: Any, folder: Path, n_cores: int) -> float:
    """Return how many messages a second a stream of files takes, each a micro-batch, without the first ones."""
    from grooming_flag import spark as on_spark

    stream = session.readStream.schema(session.read.parquet(str(folder / "stream")).schema)
    changes = on_spark.watch(stream.option("maxFilesPerTrigger", 1).parquet(str(folder / "stream")))
    writer = changes.writeStream.format("noop").option("checkpointLocation", str(folder / f"states-{n_cores}"))
    query = writer.trigger(availableNow=True).start()
    query.awaitTermination()
    done = [one for one in query.recentProgress if one["numInputRows"]][3:]
    return sum(one["numInputRows"] for one in done) / sum(one["batchDuration"] for one in done) * 1000


def write_stream(folder: Path, n_messages: int) -> None:
    """Write messages of many threads in the order in which they were sent, as some files."""
    import duckdb

    (folder / "stream").mkdir(exist_ok=True)
    size = n_messages // STREAM_FILES
    with duckdb.connect() as connection:
        for k in range(STREAM_FILES):
            path = folder / "stream" / f"{k:02}.parquet"
            rows = f"SELECT * FROM '{folder}/log/*.parquet' ORDER BY sent_at, thread_id LIMIT {size} OFFSET {k * size}"
            connection.execute(f"COPY ({rows}) TO '{path}'")
            os.utime(path, (1_700_000_000 + k, 1_700_000_000 + k))  # Spark takes the oldest first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=4_000_000)
    parser.add_argument("--stream", type=int, default=400_000, help="messages of the stream")
    parser.add_argument("--folder", type=Path, help="where to keep files; a temporary one by default")
    parser.add_argument("--worker", choices=["one_machine", "spark"], help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
        print(json.dumps({"one_machine": one_machine, "spark": spark}[args.worker](args.folder, args.cores)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        write_log(folder, args.messages)
        write_stream(folder, args.stream)
        rates = {n_cores: compare(folder, args.messages, n_cores) for n_cores in (1, 2)}
    clusters(rates[2] / 2)


def compare(folder: Path, n_messages: int, n_cores: int) -> float:
    """Print what both take on some cores; return the messages a second of Spark."""
    costs: dict[str, Any] = {}
    for worker in ("one_machine", "spark"):
        command = [sys.executable, __file__, "--worker", worker, "--folder", str(folder), "--cores", str(n_cores)]
        costs |= json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
    print(f"\n{n_cores} cores, {n_messages:,} messages\n")
    print("| | seconds | more than before | messages/s |\n|---|---|---|---|")
    before = 0.0
    for name in ("read", "shuffle", "sort", "to Python", "assess", "write"):
        seconds = costs[name]
        print(f"| Spark: {name} | {seconds:.2f} | {seconds - before:.2f} | {n_messages / seconds:,.0f} |")
        before = seconds
    alone = costs["one machine"]
    print(f"| one machine, files to files | {alone:.2f} | | {n_messages / alone:,.0f} |")
    print(f"\nOne machine is {before / alone:.1f}x as fast. Spark needs {costs['start']:.1f} s to start.")
    print(f"Stream: {costs['watch']:,.0f} messages/s.")
    return n_messages / float(before)


def clusters(rate: float) -> None:
    """Print what clusters need, if each core does as much as one of two here did."""
    print(f"\nDerived, not measured: {rate:,.0f} messages/s on each core.\n")
    print("| cores | " + " | ".join(f"{volume:.0e} messages" for volume in VOLUMES) + " |\n|---|---|---|")
    for cores in CLUSTERS:
        minutes = [volume / (rate * cores) / 60 for volume in VOLUMES]
        print(f"| {cores:,} | " + " | ".join(f"{one:,.1f} min" for one in minutes) + " |")


if __name__ == "__main__":
    main()
