"""What examples/moderation_service.py takes on loopback, and how long an answer takes. README.md says how to read it.

The service is a process of its own with one uvicorn worker, and so is what posts to it. In the end all states are read:
every thread must have as many messages as were acknowledged.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import importlib.util
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import msgspec
from generate import threads
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from run import describe_machine

import grooming_flag as gf
from grooming_flag.io.redis_states import RedisStore
from grooming_flag.io.states import SqliteStore, StateStore

SEED = 0
N_MESSAGES = 100_000  # posted again if they are not enough
EXAMPLES = Path(__file__).parent.parent / "examples"
NOTHING = "nothing: answered at once"
REDIS = "Redis, appendfsync "
STEADY = 0.02  # seconds between two questions whether the service is alive


class Case(NamedTuple):
    """One row of the table."""

    kept_in: str
    size: int  # messages a request
    connections: int


CASES = [
    Case(kept_in, size, connections)
    for kept_in in (NOTHING, "SQLite", REDIS + "everysec", REDIS + "always")
    for size, connections in ((1, 1), (1, 64), (100, 1), (100, 16))
]


@dataclass(frozen=True)
class Result:
    """What was measured: answers of the status 200, and the others; shares are of one core."""

    case: Case
    request_rate: float
    message_rate: float
    p50_ms: float
    p99_ms: float
    health_p99_ms: float
    n_failed: int
    generator_share: float
    server_share: float
    acknowledged: dict[str, int] = field(repr=False)


COLUMNS: dict[str, Callable[[Result], str]] = {
    "kept in": lambda result: result.case.kept_in,
    "messages a request": lambda result: str(result.case.size),
    "connections": lambda result: str(result.case.connections),
    "requests/s": lambda result: f"{result.request_rate:,.0f}",
    "messages/s": lambda result: f"{result.message_rate:,.0f}",
    "p50, ms": lambda result: f"{result.p50_ms:.1f}",
    "p99, ms": lambda result: f"{result.p99_ms:.1f}",
    "/health p99, ms": lambda result: f"{result.health_p99_ms:.1f}",
    "errors": lambda result: str(result.n_failed),
    "cores: service": lambda result: f"{result.server_share:.2f}",
    "generator": lambda result: f"{result.generator_share:.2f}",
}


# --- what posts --------------------------------------------------------------------------------------------------


def bodies(size: int) -> list[tuple[bytes, Counter[str]]]:
    """Return bodies of requests, in order of time over all threads, and how many messages of which thread each has."""
    rows = [
        {"thread_id": thread["thread_id"], **message}
        for thread in threads(N_MESSAGES, SEED)
        for message in thread["messages"]
    ]
    rows.sort(key=lambda row: row["sent_at"])
    batches = [rows[first : first + size] for first in range(0, len(rows), size)]
    return [
        (json.dumps(batch if size > 1 else batch[0]).encode(), Counter(row["thread_id"] for row in batch))
        for batch in batches
    ]


async def load(address: str, case: Case, seconds: float) -> dict[str, Any]:
    """Post on all connections, on each as soon as the answer before is there; return what `Result` wants of it."""
    import aiohttp

    posts = itertools.cycle(bodies(case.size))
    latencies: list[float] = []
    health: list[float] = []
    acknowledged: Counter[str] = Counter()
    n_failed = 0

    async def post(session: aiohttp.ClientSession) -> None:
        nonlocal n_failed
        while time.perf_counter() < end:
            body, of_threads = next(posts)
            began = time.perf_counter()
            async with session.post(f"{address}/messages", data=body) as answer:
                await answer.read()
                if answer.status != 200:
                    n_failed += 1
                    continue
            latencies.append(time.perf_counter() - began)
            acknowledged.update(of_threads)

    async def ask(session: aiohttp.ClientSession) -> None:
        while time.perf_counter() < end:
            began = time.perf_counter()
            async with session.get(f"{address}/health") as answer:
                await answer.read()
            health.append(time.perf_counter() - began)
            await asyncio.sleep(STEADY)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        start, cpu = time.perf_counter(), time.process_time()
        end = start + seconds
        await asyncio.gather(ask(session), *(post(session) for _ in range(case.connections)))
        wall = time.perf_counter() - start
        share = (time.process_time() - cpu) / wall
    latencies.sort()
    health.sort()
    return {
        "request_rate": len(latencies) / wall,
        "message_rate": acknowledged.total() / wall,
        "p50_ms": 1e3 * latencies[len(latencies) // 2],
        "p99_ms": 1e3 * latencies[len(latencies) * 99 // 100],
        "health_p99_ms": 1e3 * health[len(health) * 99 // 100],
        "n_failed": n_failed,
        "generator_share": share,
        "acknowledged": acknowledged,
    }


class Nothing(asyncio.Protocol):
    """Answers each request at once, so that one sees how many the generator can post."""

    ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"changes":[]}'

    def connection_made(self, transport: Any) -> None:
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if found and len(body) >= int(length or 0):
            self.received = b""
            self.transport.write(self.ANSWER)


async def answer_at_once(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Nothing, "127.0.0.1", port)
    await server.serve_forever()


# --- what is measured --------------------------------------------------------------------------------------------


def measure(case: Case, seconds: float) -> Result:
    """Start what the case needs, load it, stop it, and check that it lost nothing."""
    with tempfile.TemporaryDirectory() as folder, state_in(case, folder) as state:
        with service(case, state) as (server, address):
            before = cpu_seconds(server.pid)
            job = json.dumps([address, case, seconds])
            command = [sys.executable, __file__, "load", job]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            busy = cpu_seconds(server.pid) - before
        result = Result(case, server_share=busy / seconds, **found)
        if case.kept_in != NOTHING:
            check(RedisStore(state) if is_redis(case) else SqliteStore(state), result.acknowledged)
        return result


@contextmanager
def service(case: Case, state: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    options = ["--port", port, "--no-access-log", "--log-level", "warning"]
    command = ["-m", "uvicorn", "--app-dir", str(EXAMPLES), "--factory", "moderation_service:create_app", *options]
    if case.kept_in == NOTHING:
        command = [__file__, "nothing", port]
    with subprocess.Popen([sys.executable, *command], env={**os.environ, "GROOMING_FLAG_STATE": state}) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(f"{address}/ready", server)
            yield server, address
        finally:
            server.terminate()


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            with urlopen(address):
                return
        except OSError:
            time.sleep(0.05)
    sys.exit("the service did not start")


@contextmanager
def state_in(case: Case, folder: str) -> Iterator[str]:
    """Give the name of a fresh store."""
    if not is_redis(case):
        yield f"{folder}/states.db"
        return
    path = f"{folder}/socket"
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--dir", folder, "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", case.kept_in.removeprefix(REDIS)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            while not os.path.exists(path):
                time.sleep(0.05)
            yield f"unix://{path}"
        finally:
            server.terminate()


def is_redis(case: Case) -> bool:
    return case.kept_in.startswith(REDIS)


def check(store: StateStore, acknowledged: dict[str, int]) -> None:
    """End with an error unless each thread has as many messages as were acknowledged."""
    model = gf.load_model()
    for thread_id, n_messages in acknowledged.items():
        kept = store.get(thread_id)
        states = msgspec.msgpack.decode(kept.state)[1] if kept else {}
        found = model.resume(states[model.scoring_digest]).assessment.n_messages if states else 0
        if found != n_messages:
            sys.exit(f"{thread_id}: {n_messages} messages were acknowledged and {found} are there")


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far; 0 where there is no /proc."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description="Load the example service.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each row and round")
    parser.add_argument("--rounds", type=int, default=3, help="of which the one with most messages is shown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    arguments = parser.parse_args()
    say = Console(stderr=True).print
    cases = [case for case in CASES if not is_redis(case) or shutil.which("redis-server")]
    machine = describe_machine()
    for name in ("fastapi", "uvicorn", "httptools", "uvloop", "aiohttp"):
        machine[name] = importlib.metadata.version(name) if importlib.util.find_spec(name) else "not there"
    results: dict[Case, list[Result]] = {case: [] for case in cases}
    for number, case in itertools.product(range(arguments.rounds), cases):
        say(f"round {number + 1} of {arguments.rounds}: {case}")
        results[case].append(measure(case, arguments.seconds))
    best = [max(of_case, key=lambda result: result.message_rate) for of_case in results.values()]
    table = Table(*COLUMNS, box=MARKDOWN)
    for result in best:
        table.add_row(*(cell(result) for cell in COLUMNS.values()))
    console = Console(width=320, highlight=False)
    console.print(*(f"{name}: {value}" for name, value in machine.items()), sep="; ")
    console.print(
        f"Best of {arguments.rounds} rounds of {arguments.seconds:g} s; every acknowledged message was there."
    )
    console.print(table)
    if arguments.json:
        rows = [{**asdict(result), "acknowledged": sum(result.acknowledged.values())} for result in best]
        arguments.json.write_text(json.dumps({"machine": machine, "results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        where, what, how_long = json.loads(sys.argv[2])
        print(json.dumps(asyncio.run(load(where, Case(*what), how_long))))
    elif sys.argv[1:2] == ["nothing"]:
        asyncio.run(answer_at_once(int(sys.argv[2])))
    else:
        main()
