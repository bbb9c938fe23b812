"""Cost of one message more in a thread that goes on, and of keeping its state. README.md says how to read it.

Every system runs in a process of its own, on the same generated talk, on one thread of execution.
"""

# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import generate
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from run import BUCKETS, SEED, describe_machine, peak_rss, run_python

import grooming_flag as gf

LENGTHS = (100, 200, 1000)  # of the threads, each of which grows from its first message to its last
N_MESSAGES = {"watch": 100_000, "assess": 20_000, "words": 4_000, "same": 2_000}
TITLES = {
    "watch": "`watch`",
    "assess": "`assess` of all so far",
    "words": "scikit-learn, words, of all so far",
    "same": "scikit-learn, the same features, of all so far",
}
N_STATES = 20_000
Add = Callable[[gf.Message], object]


def talk(length: int) -> Iterator[list[gf.Message]]:
    """Yield threads of just this length and two authors, cut from generated talk."""
    messages = (
        gf.Message("ab"[i % 2], message["text"])
        for thread in generate.threads(10**9, SEED)
        for i, message in enumerate(thread["messages"])
    )
    while True:
        yield list(itertools.islice(messages, length))


def begin(system: str) -> Callable[[], Add]:
    """Return a function that begins a thread, and gives what takes its messages and says what they are now."""
    model = gf.load_model()
    if system == "watch":
        return lambda: model.watch("t").add
    if system == "assess":

        def begin_again() -> Add:
            said: list[gf.Message] = []

            def add(message: gf.Message) -> object:
                said.append(message)
                return model.assess(gf.Thread("t", said))

            return add

        return begin_again
    return begin_scikit_learn(system)


def begin_scikit_learn(system: str) -> Callable[[], Add]:
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline, make_union

    words = HashingVectorizer(ngram_range=(1, 2), n_features=BUCKETS, binary=True)
    characters = HashingVectorizer(analyzer="char_wb", ngram_range=(4, 4), n_features=BUCKETS, binary=True)
    vectorizer = words if system == "words" else make_union(words, characters)
    documents = ["\n".join(message.text for message in thread) for thread in itertools.islice(talk(50), 200)]
    pipeline = make_pipeline(vectorizer, SGDClassifier(loss="log_loss", random_state=SEED))
    pipeline.fit(documents, [i % 2 for i in range(len(documents))])

    def begin_again() -> Add:
        said: list[str] = []

        def add(message: gf.Message) -> object:
            said.append(message.text)
            return pipeline.predict_proba(["\n".join(said)])[0, 1]

        return add

    return begin_again


def costs(begin_thread: Callable[[], Add], threads: Iterable[list[gf.Message]]) -> dict[str, float]:
    """Return what a message costs, in microseconds."""
    clock, found = time.perf_counter_ns, []
    for thread in threads:
        add = begin_thread()
        for message in thread:
            start = clock()
            add(message)
            found.append(clock() - start)
    cuts = statistics.quantiles(found, n=100)
    return {"mean": statistics.fmean(found) / 1e3, "p50": cuts[49] / 1e3, "p99": cuts[98] / 1e3}


def worker(system: str, length: int) -> dict[str, float]:
    n_threads = -(-N_MESSAGES[system] // length)
    begin_thread = begin(system)
    costs(begin_thread, itertools.islice(talk(length), 2))
    return costs(begin_thread, itertools.islice(talk(length), n_threads))


def states(length: int) -> dict[str, float]:
    """Return the size of states in bytes, as `to_bytes` gives them and in memory, and what going to and fro costs."""
    model = gf.load_model()
    sample = list(itertools.islice(talk(length), 200))
    before, open_states = peak_rss(), []
    for i in range(N_STATES):
        watch = model.watch(f"thread {i}")
        for message in sample[i % len(sample)]:
            watch.add(message)
        open_states.append(watch)
    memory = peak_rss() - before
    start = time.perf_counter()
    kept = [watch.to_bytes() for watch in open_states]
    written = time.perf_counter() - start
    start = time.perf_counter()
    for state in kept[:2000]:
        model.resume(state)
    read = time.perf_counter() - start
    sizes = sorted(map(len, kept[: len(sample)]))
    return {
        "median": sizes[len(sizes) // 2],
        "most": sizes[-1],
        "in memory": memory / N_STATES,
        "to_bytes": written / N_STATES * 1e6,
        "resume": read / 2000 * 1e6,
    }


def stores(folder: Path, redis: str | None) -> dict[str, float]:
    """Return microseconds a message of a watcher, by where it keeps states, for threads of some 60 messages at once."""
    from grooming_flag.io.redis_states import RedisStore
    from grooming_flag.io.states import SqliteStore, StateStore
    from grooming_flag.watcher import Watcher

    model = gf.load_model()
    said = [
        (f"thread {i}", message)
        for of_round in zip(*itertools.islice(talk(60), 50), strict=True)
        for i, message in enumerate(of_round)
    ]

    def timed(store: StateStore, step: int) -> float:
        watcher = Watcher(model, store)
        start = time.perf_counter()
        for first in range(0, len(said), step):
            if isinstance(store, SqliteStore) and step > 1:
                with store.transaction():
                    for one in said[first : first + step]:
                        watcher.add(*one)
            else:
                for one in said[first : first + step]:
                    watcher.add(*one)
        return (time.perf_counter() - start) / len(said) * 1e6

    found = {
        "SQLite in memory": timed(SqliteStore(":memory:"), 1000),
        "SQLite file, 1,000 messages a transaction": timed(SqliteStore(folder / "a.db"), 1000),
        "SQLite file, each message on the disk": timed(SqliteStore(folder / "b.db"), 1),
    }
    if redis:
        found["Redis on this machine"] = timed(RedisStore(redis), 1)
    return found


def redis_server(folder: Path) -> tuple[subprocess.Popen[bytes], str] | None:
    program = shutil.which("redis-server")
    if program is None or importlib.util.find_spec("redis") is None:
        return None
    path = folder / "socket"
    server = subprocess.Popen([program, "--port", "0", "--unixsocket", path, "--save", ""], stdout=subprocess.DEVNULL)
    while not path.exists():
        time.sleep(0.05)
    return server, f"unix://{path}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of one message more.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    arguments = parser.parse_args()
    console = Console(width=200, highlight=False)
    console.print(*(f"{name}: {value}" for name, value in describe_machine().items()), sep="; ")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(*task: object) -> dict[str, float]:
            found: dict[str, float] = json.loads(run_python(folder, __file__, *map(str, task)))
            return found

        found = {(system, n): run("worker", system, n) for n in LENGTHS for system in TITLES}
        table = Table(
            "threads grow to", "", "p50 us", "p99 us", "mean us", "messages/s", "`watch` is faster", box=MARKDOWN
        )
        for (system, n), cost in found.items():
            ratio = cost["mean"] / found["watch", n]["mean"]
            numbers = (
                f"{cost['p50']:,.1f}",
                f"{cost['p99']:,.1f}",
                f"{cost['mean']:,.1f}",
                f"{1e6 / cost['mean']:,.0f}",
            )
            table.add_row(f"{n:,}", TITLES[system], *numbers, f"{ratio:,.0f}x" if system != "watch" else "")
        console.print(table)
        sizes = {n: run("states", n) for n in (20, 100)}
        table = Table(
            "messages",
            "state, median",
            "largest",
            "million open threads",
            "as bytes",
            "to_bytes",
            "resume",
            box=MARKDOWN,
        )
        for n, size in sizes.items():
            large = (f"{size['in memory'] / 1e3:.1f} GB", f"{size['median'] / 1e3:.1f} GB")
            times = (f"{size['to_bytes']:.0f} us", f"{size['resume']:.0f} us")
            table.add_row(f"{n}", f"{size['median']:,.0f} bytes", f"{size['most']:,.0f}", *large, *times)
        console.print(table)
        server = redis_server(folder)
        try:
            kept = run("stores", folder, *([server[1]] if server else []))
        finally:
            if server:
                server[0].terminate()
        table = Table("where states are kept", "us a message", "messages/s", box=MARKDOWN)
        for where, cost_of_one in kept.items():
            table.add_row(where, f"{cost_of_one:,.0f}", f"{1e6 / cost_of_one:,.0f}")
        console.print(table)
    if arguments.json:
        costs_found = [{"system": system, "length": n, **cost} for (system, n), cost in found.items()]
        arguments.json.write_text(json.dumps({"costs": costs_found, "states": sizes, "stores": kept}, indent=2) + "\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker", system, length]:
            print(json.dumps(worker(system, int(length))))
        case ["states", length]:
            print(json.dumps(states(int(length))))
        case ["stores", folder, *redis]:
            print(json.dumps(stores(Path(folder), redis[0] if redis else None)))
        case _:
            main()
