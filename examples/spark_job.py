"""Score logs, or watch a stream, on a Spark cluster.

Run with::

    spark-submit examples/spark_job.py assess logs/ scores/
    spark-submit examples/spark_job.py watch incoming/ changes/ --checkpoint states/

Both read Parquet with one message a row. `assess` writes a row for each thread, `watch` one whenever a flag goes up or
comes down. Rows that are no messages are counted and left out. No text is written.
"""

from __future__ import annotations

import argparse

from pyspark.sql import Observation, SparkSession
from pyspark.sql import functions as F

from grooming_flag.spark import SETTINGS, assess, problem, watch


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="Score logs, or watch a stream, on a Spark cluster.")
    parser.add_argument("what", choices=["assess", "watch"])
    parser.add_argument("messages", help="folder of Parquet, one message a row")
    parser.add_argument("output", help="folder for Parquet, which must not be there yet")
    parser.add_argument("--model", help="folder, on the machine of the driver; by default the bundled model")
    parser.add_argument("--at", default="balanced", help="operating point")
    parser.add_argument("--columns", default="", help="names that the log uses: thread_id=channel,author=user,...")
    parser.add_argument("--checkpoint", help="folder where `watch` keeps states, the same after every restart")
    parser.add_argument("--until-done", action="store_true", help="end when all that is there has been watched")
    parsed = parser.parse_args()
    if parsed.what == "watch" and parsed.checkpoint is None:
        parser.error("watch needs --checkpoint")
    return parsed


def main() -> None:
    """Run the job."""
    args = arguments()
    columns = dict(pair.split("=", 1) for pair in filter(None, args.columns.split(",")))
    spark = SparkSession.builder.appName("grooming_flag").config(map=SETTINGS).getOrCreate()
    log = spark.read.parquet(args.messages)
    what = problem(log, columns)
    left_out = F.count_if(what.isNotNull()).alias("left_out")
    if args.what == "assess":
        seen = Observation()
        messages = log.observe(seen, left_out).where(what.isNull())
        assess(messages, args.model, columns, args.at).write.parquet(args.output)
        flagged = spark.read.parquet(args.output).agg(F.count("*"), F.sum("n_messages"), F.count_if("flagged"))
        n_threads, n_messages, n_flagged = flagged.first()
        print(f"{n_threads:,} threads, {n_messages or 0:,} messages, {n_flagged:,} flagged for review")
        print(f"{seen.get['left_out']:,} rows are no messages and were left out")
    else:
        stream = spark.readStream.schema(log.schema).option("maxFilesPerTrigger", 10).parquet(args.messages)
        messages = stream.observe("rows", left_out).where(what.isNull())
        writer = watch(messages, args.model, columns, args.at).writeStream.format("parquet")
        when = {"availableNow": True} if args.until_done else {"processingTime": "10 seconds"}
        query = writer.option("checkpointLocation", args.checkpoint).trigger(**when).start(args.output)
        n_left_out: dict[int, int] = {}
        is_over = False
        while not is_over:
            is_over = query.awaitTermination(5)
            done = {
                one.batchId: one.observedMetrics["rows"].left_out for one in query.recentProgress if one.observedMetrics
            }
            if done.keys() - n_left_out.keys() or is_over:
                n_left_out |= done
                print(f"{sum(n_left_out.values()):,} rows are no messages and were left out", flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
