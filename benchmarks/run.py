"""Speed of grooming_flag and of what else one would use, on one machine, in one table. README.md says how to read it.

Every system runs in processes of its own, on the same generated threads, on one thread of execution.
"""

# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import itertools
import json
import os
import pickle
import platform
import random
import re
import resource
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from growth import Cost, costs, fastest_reading, plot, write_files
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

SEED = 0
BUCKETS = 2**18
BATCH_THREADS = 256  # scikit-learn's documents a call
SINGLE_MESSAGES = 5_000  # at most, one at a time
FIT_MESSAGES = 20_000
COUNTED_MESSAGES = 10_000
SIZES = [10_000, 100_000, 1_000_000, 10_000_000]
IMPORTS = 7
HEAVY = ("sklearn", "scipy", "pandas", "pyarrow")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class System(NamedTuple):
    """One column of the table; the slow ones get a share of the messages. `needs` is a module or a program."""

    title: str
    share: float
    imports: str | None
    distribution: str | None = None
    needs: str | None = None


SYSTEMS = {
    "compiled": System("ours, compiled", 1, "import grooming_flag", "grooming-flag"),
    "interpreted": System("ours, interpreted", 0.02, None),
    "words": System(
        "scikit-learn, words 1-2",
        1,
        "from sklearn.feature_extraction.text import HashingVectorizer; from sklearn.linear_model import SGDClassifier",
        "scikit-learn",
    ),
    "characters": System("scikit-learn, characters 3-5", 0.2, None),
    "vowpal": System("Vowpal Wabbit, words 1-2", 1, "import vowpalwabbit", "vowpalwabbit", "vowpalwabbit"),
    "fasttext": System("fastText, words 1-2", 1, "import fasttext", "fasttext-numpy2-wheel", "fasttext"),
    "loop": System("bare C loop, words 1-2", 1, None, needs="cc"),
}


@dataclass(frozen=True)
class Job:
    """What a worker is to do; `started` is the clock of the parent as it started the worker."""

    system: str
    folder: str
    n_messages: int
    repeats: int
    started: float


@dataclass(frozen=True)
class Result:
    """What was measured for one system, as far as it does it. Rates are messages a second."""

    system: str
    n_messages: int
    thread_rate: float
    message_p50_us: float | None = None
    message_p99_us: float | None = None
    message_rate: float | None = None
    file_rate: float | None = None
    log_rate: float | None = None
    kernel_rate: float | None = None
    two_kernels_rate: float | None = None
    instructions: float | None = None
    ready_ms: float | None = None
    peak_mb: float | None = None
    heavy: list[str] = field(default_factory=list)
    import_median_ms: float | None = None
    import_best_ms: float | None = None
    installed_mb: float | None = None


class Row(NamedTuple):
    """One row of the table; its values get a ratio against scikit-learn's words."""

    field: str
    title: str
    more_is_better: bool


ROWS = (
    Row("thread_rate", "whole threads, messages/s", True),
    Row("message_p50_us", "one message, p50, µs", False),
    Row("message_p99_us", "one message, p99, µs", False),
    Row("message_rate", "one message at a time, messages/s", True),
    Row("file_rate", "file to file, messages/s", True),
    Row("log_rate", "file to file, Parquet, messages/s", True),
    Row("kernel_rate", "kernel alone, messages/s", True),
    Row("two_kernels_rate", "kernel alone, two threads, messages/s", True),
    Row("instructions", "kernel alone, instructions a message", False),
    Row("import_median_ms", f"import, median of {IMPORTS}, ms", False),
    Row("import_best_ms", f"import, best of {IMPORTS}, ms", False),
    Row("ready_ms", "process start to first score, ms", False),
    Row("peak_mb", "peak RSS, file to file, MB", False),
    Row("installed_mb", "installed with what it needs, MB", False),
)


@dataclass(frozen=True)
class Scorer:
    """The tasks as one system does them; what `read` returns is what `score_threads` takes."""

    score_threads: Callable[[list[Any]], None]
    score_message: Callable[[str], None]
    score_file: Callable[[Path, Path], None]
    read: Callable[[Path], list[Any]]
    kernel: Callable[[list[Any]], Callable[..., None]] | None


def ours(interpreted: bool) -> Scorer:
    """Return grooming_flag with its bundled model."""
    if interpreted:
        load_interpreted_kernel()
    import grooming_flag as gf
    from grooming_flag import _kernel

    if _kernel.compiled == interpreted:
        sys.exit("The compiled kernel is missing: build it with GROOMING_FLAG_REQUIRE_KERNEL=1 pip install -e .")
    model = gf.load_model()

    def score_threads(threads: list[gf.Thread]) -> None:
        deque(model.assess_many(threads, n_jobs=1), maxlen=0)

    def score_message(text: str) -> None:
        model.assess(gf.Thread("t", [gf.Message("a", text)]))

    def read(path: Path) -> list[gf.Thread]:
        return list(gf.read_threads(path))

    return Scorer(score_threads, score_message, run_command_line, read, kernel_alone)


def load_interpreted_kernel() -> None:
    """Put the source of the kernel, as it runs without Cython, where the package will look for the compiled one."""
    for name, file in (
        ("cython", "_cython.py"),
        ("grooming_flag._kernel", "_kernel.py"),
        ("grooming_flag.io._messages", "io/_messages.py"),
    ):
        spec = importlib.util.spec_from_file_location(name, package_folder() / file)
        if spec is None or spec.loader is None:
            sys.exit("the source of the kernel is not there")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def package_folder() -> Path:
    package = importlib.util.find_spec("grooming_flag")
    if package is None or not package.submodule_search_locations:
        sys.exit("grooming_flag is not installed: pip install -e .")
    return Path(package.submodule_search_locations[0])


def run_command_line(source: Path, target: Path) -> None:
    """Do what `python -m grooming_flag score` does, in this process."""
    sys.argv = ["grooming-flag", "score", str(source), "-o", str(target), "--jobs", "1"]
    try:
        runpy.run_module("grooming_flag", run_name="__main__")
    except SystemExit as done:
        if done.code:
            raise


def kernel_alone(threads: list[Any]) -> Callable[..., None]:
    """Pack the threads and return the scan of the packed buffers, with the features and weights of the model.

    It takes the number of threads of execution.
    """
    import grooming_flag as gf
    from grooming_flag.features import pack_by_author

    model = gf.load_model()
    rule = model.segment_rule
    packed = [
        pack_by_author(thread.messages[start:stop] for thread in batch for start, stop in rule.split(thread.messages))
        for batch in batches(threads, BATCH_THREADS // 8)
    ]
    scanner = model.extractor.scanner(model.weights)
    scanner.sums(pack_by_author([]))  # the first call sets the kernel up

    def scan(n_jobs: int = 1) -> None:
        shares = [packed[i::n_jobs] for i in range(n_jobs)]
        with ThreadPoolExecutor(n_jobs) as pool:
            deque(pool.map(lambda share: deque(map(scanner.sums, share), maxlen=0), shares), maxlen=0)

    return scan


def scikit_learn(path: Path) -> Scorer:
    """Return a fitted pipeline; a thread is the list of its texts, a document all of them."""
    pipeline = pickle.loads(path.read_bytes())

    def predict(documents: list[str]) -> list[float]:
        probabilities: list[float] = pipeline.predict_proba(documents)[:, 1].tolist()
        return probabilities

    return peer(predict)


def vowpal_wabbit(path: Path) -> Scorer:
    """Return Vowpal Wabbit's own Python interface."""
    from vowpalwabbit import Workspace

    workspace = Workspace(f"--quiet --testonly -i {path}")

    def predict(documents: list[str]) -> list[float]:
        return [workspace.predict(vowpal_line(document)) for document in documents]

    return peer(predict)


def vowpal_line(document: str) -> str:
    """Return a line of its format, whose signs become spaces in the text."""
    return f"| {document.replace('|', ' ').replace(':', ' ').replace(chr(10), ' ')}"


def fast_text(path: Path) -> Scorer:
    """Return fastText's own Python interface, which takes one line of text."""
    import fasttext

    model = fasttext.load_model(str(path))

    def predict(documents: list[str]) -> list[float]:
        return [model.predict(document.replace("\n", " "))[1][0] for document in documents]

    return peer(predict)


def peer(predict: Callable[[list[str]], list[float]]) -> Scorer:
    """Return the tasks as done with a function from documents to numbers."""

    def predict_threads(threads: list[list[str]]) -> list[float]:
        return predict(["\n".join(texts) for texts in threads])

    def score_threads(threads: list[list[str]]) -> None:
        for batch in batches(threads):
            predict_threads(batch)

    def score_message(text: str) -> None:
        predict([text])

    def score_file(source: Path, target: Path) -> None:
        with target.open("w", encoding="utf-8") as scores:
            for batch in batches(threads_in(source)):
                probabilities = predict_threads([texts for _, texts in batch])
                for (thread_id, _), probability in zip(batch, probabilities, strict=True):
                    scores.write(json.dumps({"thread_id": thread_id, "probability": probability}) + "\n")

    return Scorer(score_threads, score_message, score_file, read_texts, None)


def threads_in(source: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the id and the texts of each thread, read as one would who has only to read this file."""
    if source.suffix == ".jsonl":
        with source.open(encoding="utf-8") as lines:
            for line in lines:
                thread = json.loads(line)
                yield thread["thread_id"], texts_of(thread)
        return
    import pyarrow.parquet

    log = pyarrow.parquet.read_table(source, columns=["thread_id", "text"], use_threads=False)
    for batch in log.group_by("thread_id", use_threads=False).aggregate([("text", "list")]).to_batches(BATCH_THREADS):
        yield from zip(batch["thread_id"].to_pylist(), batch["text_list"].to_pylist(), strict=True)


def fit_peers(folder: Path, systems: list[str]) -> None:
    """Fit the peers to random labels, which cost as much to predict as any, and store them."""
    documents = ["\n".join(texts) for texts in read_texts(folder / "fit.jsonl")]
    labels = random.Random(SEED).choices((0, 1), k=len(documents))
    if {"words", "characters"} & {*systems}:
        fit_scikit_learn(folder, documents, labels)
    if "vowpal" in systems:
        from vowpalwabbit import Workspace

        workspace = Workspace(f"--quiet --ngram 2 --loss_function logistic -b {BUCKETS.bit_length() - 1}")
        for document, label in zip(documents, labels, strict=True):
            workspace.learn(f"{2 * label - 1} {vowpal_line(document)}")
        workspace.save(str(folder / "vowpal.model"))
    if "fasttext" in systems:
        import fasttext

        lines = (f"__label__{label} {' '.join(text.split())}" for text, label in zip(documents, labels, strict=True))
        (folder / "fasttext.txt").write_text("\n".join(lines), encoding="utf-8")
        options = {"wordNgrams": 2, "dim": 10, "bucket": BUCKETS, "epoch": 1, "thread": 1, "verbose": 0}
        fasttext.train_supervised(str(folder / "fasttext.txt"), **options).save_model(str(folder / "fasttext.model"))


def fit_scikit_learn(folder: Path, documents: list[str], labels: list[int]) -> None:
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    vectorizers = {
        "words": HashingVectorizer(ngram_range=(1, 2), n_features=BUCKETS, binary=True),
        "characters": HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=BUCKETS, binary=True),
    }
    for name, vectorizer in vectorizers.items():
        pipeline = make_pipeline(vectorizer, SGDClassifier(loss="log_loss", random_state=SEED))
        (folder / f"{name}.model").write_bytes(pickle.dumps(pipeline.fit(documents, labels)))


def bare_loop(job: Job) -> Result:
    """Compile loop.c and run it on the messages, one a line."""
    folder = Path(job.folder)
    program, lines = folder / "loop", folder / "loop.txt"
    subprocess.run(["cc", "-O3", "-o", program, Path(__file__).with_name("loop.c")], check=True)
    texts = itertools.chain.from_iterable(read_texts(folder / f"{job.n_messages}.jsonl"))
    lines.write_text("".join(" ".join(text.split()) + "\n" for text in texts), encoding="utf-8")
    bits = BUCKETS.bit_length() - 1
    done = subprocess.run([program, lines, str(bits), str(job.repeats)], check=True, capture_output=True, text=True)
    return Result(job.system, job.n_messages, job.n_messages / float(done.stdout.split()[0]))


def texts_of(thread: dict[str, Any]) -> list[str]:
    return [message["text"] for message in thread["messages"]]


def read_texts(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8") as lines:
        return [texts_of(json.loads(line)) for line in lines]


def batches(items: Iterable[Any], size: int = BATCH_THREADS) -> Iterator[list[Any]]:
    iterator = iter(items)
    return iter(lambda: list(itertools.islice(iterator, size)), [])


def measure(job: Job) -> Result:
    """Do all tasks; the file comes first, so that the peak memory is that of scoring and not of the other tasks."""
    if job.system == "loop":
        return bare_loop(job)
    folder = Path(job.folder)
    if job.system in ("compiled", "interpreted"):
        scorer = ours(interpreted=job.system == "interpreted")
    else:
        load = {"vowpal": vowpal_wabbit, "fasttext": fast_text}.get(job.system, scikit_learn)
        scorer = load(folder / f"{job.system}.model")
    scorer.score_message("hi there")
    ready_ms = (time.time() - job.started) * 1e3

    source = folder / f"{job.n_messages}.jsonl"
    targets = [folder / f"{job.system}-{os.getpid()}-{repeat}.jsonl" for repeat in range(job.repeats)]
    unwritten = iter(targets)
    file_seconds = best_seconds(job.repeats, lambda: scorer.score_file(source, next(unwritten)))
    peak_mb = peak_rss() / 1e6

    threads = scorer.read(source)
    if any(len(target.read_bytes().splitlines()) != len(threads) for target in targets):
        sys.exit(f"{job.system} did not write one score a thread")
    texts = list(itertools.chain.from_iterable(read_texts(source)))[:SINGLE_MESSAGES]
    scan = scorer.kernel(threads) if scorer.kernel else None
    gc.collect()
    gc.freeze()  # nobody pays for collecting the input again and again
    thread_seconds = best_seconds(job.repeats, lambda: scorer.score_threads(threads))
    latencies = min((message_latencies(scorer, texts) for _ in range(job.repeats)), key=sum)
    heavy = [name for name in HEAVY if name in sys.modules]
    kernel_seconds = best_seconds(job.repeats, scan) if scan else None
    two_kernels_seconds = best_seconds(job.repeats, lambda: scan(2)) if scan else None
    log_scores = folder / f"{job.system}-{os.getpid()}-log.jsonl"
    log_seconds = best_seconds(job.repeats, lambda: scorer.score_file(source.with_suffix(".parquet"), log_scores))
    return Result(
        system=job.system,
        n_messages=job.n_messages,
        thread_rate=job.n_messages / thread_seconds,
        message_p50_us=latencies[len(latencies) // 2] / 1e3,
        message_p99_us=latencies[len(latencies) * 99 // 100] / 1e3,
        message_rate=1e9 * len(latencies) / sum(latencies),
        file_rate=job.n_messages / file_seconds,
        log_rate=job.n_messages / log_seconds,
        kernel_rate=job.n_messages / kernel_seconds if kernel_seconds else None,
        two_kernels_rate=job.n_messages / two_kernels_seconds if two_kernels_seconds else None,
        ready_ms=ready_ms,
        peak_mb=peak_mb,
        heavy=heavy,
    )


def best_seconds(repeats: int, task: Callable[[], None]) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        task()
        return time.perf_counter() - start

    return min(seconds() for _ in range(repeats))


def message_latencies(scorer: Scorer, texts: list[str]) -> list[int]:
    """Return nanoseconds, ascending."""
    clock, score = time.perf_counter_ns, scorer.score_message
    latencies = []
    for text in texts:
        start = clock()
        score(text)
        latencies.append(clock() - start)
    return sorted(latencies)


def peak_rss() -> int:
    """Return bytes. On Linux `ru_maxrss` would count what the parent held when it started this process."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run_python(folder: Path, *arguments: str) -> str:
    """Run a fresh Python and return what it prints; compiled bytecode goes to the folder, whatever the settings."""
    environment = {**os.environ, **ONE_THREAD, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def import_times(folder: Path, system: str) -> tuple[float, float] | tuple[None, None]:
    """Return median and best of the import in fresh processes; one before them, not counted, warms the disk cache."""
    statement = SYSTEMS[system].imports
    if statement is None:
        return None, None
    program = f"from time import perf_counter as now; start = now(); {statement}; print(1e3 * (now() - start))"
    times = [float(run_python(folder, "-c", program)) for _ in range(IMPORTS + 1)][1:]
    return statistics.median(times), min(times)


def installed_mb(distribution: str | None) -> float | None:
    """Return the megabytes of the files of a distribution and all that it requires, bytecode aside."""
    if distribution is None:
        return None
    from packaging.requirements import Requirement

    wanted, found = [distribution], set()
    size = 0
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            sys.exit(f"{name} is not installed")
        files = [Path(str(installed.locate_file(file))) for file in installed.files or ()]
        if name == "grooming-flag":  # which may be installed to be edited
            files = list(package_folder().rglob("*"))
        size += sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")
        required = map(Requirement, installed.requires or ())
        wanted += [one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    return size / 1e6


def count_instructions(folder: Path) -> float | None:
    """Return the instructions of a scan, a message, as valgrind counts them: a figure without noise."""
    if not shutil.which("valgrind"):
        return None
    log, counts = folder / "counted.jsonl", folder / "callgrind.out"
    messages = sum(map(len, read_texts(log)))
    options = ["--tool=callgrind", f"--callgrind-out-file={counts}"]
    command = ["valgrind", "-q", *options, sys.executable, __file__, "scan", str(log)]
    subprocess.run(command, check=True, capture_output=True)
    table = subprocess.run(
        ["callgrind_annotate", "--auto=no", "--threshold=100", counts], check=True, capture_output=True, text=True
    )
    of_kernel = re.findall(r"^ *([\d,]+) .*Scanner.*$", table.stdout, re.MULTILINE)
    return sum(int(count.replace(",", "")) for count in of_kernel) / messages


def run_worker(folder: Path, system: str, n_messages: int, repeats: int) -> Result:
    job = Job(system, str(folder), n_messages, repeats, time.time())
    answer = run_python(folder, __file__, "worker", json.dumps(asdict(job)))
    return Result(**json.loads(answer.splitlines()[-1]))


def best_of(results: list[Result]) -> Result:
    """Return the best value of each row over the rounds of one system."""
    values: dict[str, Any] = {}
    for row in ROWS:
        measured = [getattr(result, row.field) for result in results if getattr(result, row.field) is not None]
        if measured:
            values[row.field] = max(measured) if row.more_is_better else min(measured)
    return replace(results[0], **values)


def score_alone(source: Path, target: Path) -> tuple[float, float]:
    """Return seconds and peak megabytes of the command line on one file, in a process of its own."""
    start = time.perf_counter()
    peak = run_python(target.parent, __file__, "score", str(source), str(target))
    return time.perf_counter() - start, float(peak.splitlines()[-1])


def run_all(systems: list[str], n_messages: int, rounds: int, repeats: int, say: Callable[[str], None]) -> list[Result]:
    """Measure the systems in turn, round by round, so that a busy spell of the machine meets all of them."""
    from generate import write

    results: dict[str, list[Result]] = {system: [] for system in systems}
    samples = {system: max(500, round(n_messages * SYSTEMS[system].share)) for system in systems}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("generating, fitting, importing")
        write_files(folder, sorted(set(samples.values())), SEED)
        write(folder / "fit.jsonl", FIT_MESSAGES, SEED + 1)
        run_python(folder, __file__, "fit", name, *systems)
        write(folder / "counted.jsonl", COUNTED_MESSAGES, SEED)
        instructions = {"compiled": count_instructions(folder)} if "compiled" in systems else {}
        imports = {system: import_times(folder, system) for system in systems}
        for number, system in itertools.product(range(rounds), systems):
            say(f"round {number + 1} of {rounds}: {SYSTEMS[system].title}")
            result = run_worker(folder, system, samples[system], repeats)
            median, best = imports[system]
            size = installed_mb(SYSTEMS[system].distribution)
            result = replace(result, import_median_ms=median, import_best_ms=best, installed_mb=size)
            results[system].append(replace(result, instructions=instructions.get(system)))
    return [best_of(results[system]) for system in systems]


def run_growth(sizes: list[int], say: Callable[[str], None]) -> tuple[list[Cost], dict[str, tuple[str, float]]]:
    """Score files of growing size, and read the largest with the fastest reader."""
    with tempfile.TemporaryDirectory() as name:
        say(f"files of {sizes[0]:,} to {sizes[-1]:,} messages: generating, scoring")
        write_files(Path(name), sizes, SEED)
        return list(costs(Path(name), sizes, score_alone)), fastest_reading(Path(name), sizes[-1])


def growth_table(found: list[Cost]) -> Table:
    forms = ("jsonl", "parquet")
    table = Table(
        "messages", *(f"{form}, {what}" for form in forms for what in ("s", "messages/s", "MB")), box=MARKDOWN
    )
    for size in sorted({cost.n_messages for cost in found}):
        of_size = {cost.form: cost for cost in found if cost.n_messages == size}
        cells = [
            (f"{c.seconds:.2f}", f"{size / c.seconds:,.0f}", f"{c.peak_mb:,.0f}") for c in map(of_size.get, forms) if c
        ]
        table.add_row(f"{size:,}", *itertools.chain.from_iterable(cells))
    return table


def bound_line(form: str, reader: str, seconds: float, size: int, found: list[Cost], ours: Result) -> str:
    """Return what a file costs beside what reading it and the kernel would cost alone."""
    cost = next(cost.seconds for cost in found if (cost.form, cost.n_messages) == (form, size))
    kernel = size / (ours.kernel_rate or 1.0)
    return (
        f"{form}, {size:,} messages, ns each: {1e9 * cost / size:.0f} file to file, {(cost / (seconds + kernel)):.2f} "
        f"times {1e9 * seconds / size:.0f} (read by {reader}) + {1e9 * kernel / size:.0f} (kernel alone)"
    )


def describe_machine() -> dict[str, str]:
    cpuinfo = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    return {
        "CPU": models[0] if models else platform.processor(),
        "cores": str(os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "system": platform.platform(),
        "Python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "scikit-learn": importlib.metadata.version("scikit-learn"),
    }


def is_there(needed: str | None) -> bool:
    return needed is None or bool(importlib.util.find_spec(needed) or shutil.which(needed))


def cell(row: Row, result: Result, baseline: Result | None) -> str:
    value = getattr(result, row.field)
    if value is None:
        return ""
    text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    base = getattr(baseline, row.field) if baseline else None
    if base is None or baseline is result:
        return text
    ratio = value / base if row.more_is_better else base / value
    return f"{text} ({ratio:.2g}x)" if ratio < 10 else f"{text} ({ratio:,.0f}x)"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure grooming_flag beside scikit-learn.")
    parser.add_argument("--messages", type=int, default=200_000, help="for the fast systems; the slow ones get a share")
    parser.add_argument(
        "--quick", action="store_true", help="10,000 messages, one round: whether it runs, not how fast"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=SIZES, metavar="N", help="messages in the files that are only scored"
    )
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    arguments = parser.parse_args()
    n_messages, rounds, repeats = (10_000, 1, 2) if arguments.quick else (arguments.messages, 3, 3)
    sizes = [10_000] if arguments.quick else sorted(arguments.sizes)

    machine = describe_machine()
    say = Console(stderr=True).print
    systems = [name for name in arguments.systems if is_there(SYSTEMS[name].needs)]
    for name in set(arguments.systems) - set(systems):
        say(f"left out: {SYSTEMS[name].title}, since there is no {SYSTEMS[name].needs}")
    results = run_all(systems, n_messages, rounds, repeats, say)
    baseline = next((result for result in results if result.system == "words"), None)
    table = Table(*("", *(SYSTEMS[result.system].title for result in results)), box=MARKDOWN)
    for row in ROWS:
        table.add_row(row.title, *(cell(row, result, baseline) for result in results))
    table.add_row(f"{', '.join(HEAVY)} loaded", *(", ".join(result.heavy) or "no" for result in results))
    table.add_row("messages in the sample", *(f"{result.n_messages:,}" for result in results))
    console = Console(width=320, highlight=False)
    console.print(*(f"{name}: {value}" for name, value in machine.items()), sep="; ")
    console.print(f"Best of {rounds} x {repeats}, one thread; (ratio): times better than scikit-learn, words")
    console.print(table)
    ours = next((result for result in results if result.system == "compiled"), None)
    growth = run_growth(sizes, say) if sizes and ours else None
    if growth and ours:
        found, reading = growth
        console.print(growth_table(found))
        for form, (reader, seconds) in reading.items():
            console.print(bound_line(form, reader, seconds, sizes[-1], found, ours))
        if not arguments.quick:
            plot(found, Path(__file__).with_name("growth.svg"))
    if arguments.json:
        report = {"machine": machine, "rounds": rounds, "repeats": repeats, "results": [asdict(r) for r in results]}
        if growth:
            report |= {"growth": [asdict(cost) for cost in growth[0]], "reading": growth[1]}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        sys.stdout.write(json.dumps(asdict(measure(Job(**json.loads(sys.argv[2]))))) + "\n")
    elif sys.argv[1:2] == ["scan"]:
        kernel_alone(ours(interpreted=False).read(Path(sys.argv[2])))()
    elif sys.argv[1:2] == ["score"]:
        run_command_line(Path(sys.argv[2]), Path(sys.argv[3]))
        sys.stdout.write(f"{peak_rss() / 1e6}\n")
    elif sys.argv[1:2] == ["fit"]:
        fit_peers(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
