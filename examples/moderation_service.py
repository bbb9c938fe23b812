"""A moderation hook as a service: a platform posts messages and is told which flags changed.

export GROOMING_FLAG_STATE=states.db
uvicorn --app-dir examples --factory moderation_service:create_app --timeout-graceful-shutdown 10
python examples/moderation_service.py    # starts it, posts invented threads, shows the answers and stops

`POST /messages` takes a message or a list of messages, as JSON: thread_id, author, text and, where they are known,
sent_at, message_id, surface, locale and age_band. It answers when they are kept, with the flags that went up or came
down and no text: {"changes": [{"thread_id": ..., "is_up": true, "rule": ..., "probability": ..., ...}]}. Or it refuses:
422 names the message and the field that is wrong, 413 is too much at once, 503 asks to try again after `Retry-After`
seconds, 500 is a defect here. Then nothing of the request is kept (with Redis, where each message is kept by itself,
perhaps the first ones). Who gets no answer posts again: none is lost, and some may count twice. Wait for the answer
before you post the next messages of the same thread. Asked to stop (SIGTERM) it first keeps what it has taken; without
the time limit above, uvicorn would serve a client that goes on posting for as long as it does.

A flag that went up while its answer was lost must still reach a person: give `hand_to`, or in GROOMING_FLAG_CHANGES a
file for changes. They are kept with the messages until they are handed on, at least once each.

It asks nobody who they are. Let it listen on loopback or a network of its own, behind a proxy that ends TLS, lets in
the platform's servers alone (by client certificate or token), limits time and rate, and logs no bodies.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

import grooming_flag as gf
from grooming_flag.decisions import BALANCED, Change
from grooming_flag.io.messages import Arrival, read_message
from grooming_flag.io.redis_states import RedisStore
from grooming_flag.io.scores import encode_row
from grooming_flag.io.states import SqliteStore
from grooming_flag.policy import read_policy
from grooming_flag.watcher import Watcher

MAX_BODY = 1 << 18  # bytes; to parse more would keep other requests waiting
STEP = 256  # messages added at once; with more, each waits longer and none is faster
PATIENCE, HOUR = 2.0, 3600.0
STATUS = {"large": 413, "bad": 422, "full": 503, "store": 503, "defect": 500}
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
THREADS = Path(__file__).with_name("threads.jsonl")
log = logging.getLogger("moderation_service")


class RequestError(Exception):
    """Why a request is not taken, one of `STATUS`, and what to tell who posted it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Job(NamedTuple):
    """The messages of a request, and where it waits for their changes."""

    arrivals: list[Arrival]
    answer: asyncio.Future[list[Change] | RequestError]


class Intake:
    """Adds messages in one thread of execution, the only one that waits for the store.

    What comes while it adds some is the next transaction. So a lone request waits for one commit and for no clock, and
    the busier it is the more requests share a commit.
    """

    def __init__(self, watcher: Watcher, hand_to: Callable[[bytes], object] | None, max_waiting: int) -> None:
        self._watcher, self._hand_to, self._max_waiting = watcher, hand_to, max_waiting
        store = watcher.store
        self._transaction: Any = store.transaction if isinstance(store, SqliteStore) else nullcontext
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)
        self._n_waiting, self._clean_at = 0, 0.0

        self.metrics = of = CollectorRegistry()  # no thread or author is a label: they would be kept for years
        labels = ("rule", "direction", "shadow")
        self._messages = Counter("grooming_flag_messages", "Messages kept", registry=of)
        self._changes = Counter("grooming_flag_changes", "Flags that changed", labels, registry=of)
        self.refused = Counter("grooming_flag_refused_requests", "Requests refused", ["reason"], registry=of)
        self._seconds = Histogram("grooming_flag_keeping_seconds", "Until kept", registry=of, buckets=BUCKETS)
        waiting = Gauge("grooming_flag_waiting_messages", "Messages not kept yet", registry=of)
        waiting.set_function(lambda: self._n_waiting)
        damaged = Gauge("grooming_flag_damaged_states", "States that could not be read", registry=of)
        damaged.set_function(lambda: watcher.n_damaged)

    async def add(self, arrivals: list[Arrival]) -> list[Change]:
        """Return the changes when the messages are kept; raise `RequestError` if they are not."""
        if self._n_waiting >= self._max_waiting:
            raise RequestError("full", "too many messages are waiting; try again later")
        self._n_waiting += len(arrivals)
        job = Job(arrivals, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(job)
        with self._seconds.time():
            answer = await job.answer
        if isinstance(answer, RequestError):
            raise answer
        return answer

    async def is_ready(self) -> bool:
        """Return whether the store can be used, and soon."""
        try:
            await asyncio.wait_for(self._in_thread(self._touch), PATIENCE)
        except (gf.DataError, TimeoutError):
            return False
        return True

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Work, and at the end finish what is in the queue and take no more."""
        work = asyncio.create_task(self._work())
        yield
        self._max_waiting = 0
        await self._queue.join()
        work.cancel()
        self._thread.shutdown()
        if isinstance(self._watcher.store, SqliteStore):
            self._watcher.store.close()

    async def _work(self) -> None:
        while True:
            jobs = [await self._queue.get()]
            n_messages = len(jobs[0].arrivals)
            while n_messages < STEP and not self._queue.empty():
                jobs.append(self._queue.get_nowait())
                n_messages += len(jobs[-1].arrivals)
            answers = await self._in_thread(self._add, jobs)
            for job, answer in zip(jobs, answers, strict=True):
                self._n_waiting -= len(job.arrivals)
                if not job.answer.cancelled():
                    job.answer.set_result(answer)
            if self._hand_to or time.monotonic() > self._clean_at:
                await self._in_thread(self._look_after)
            for _ in jobs:
                self._queue.task_done()

    def _in_thread(self, call: Callable[..., Any], *arguments: object) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    def _touch(self) -> None:
        with self._transaction():
            self._watcher.store.get("")

    def _add(self, jobs: list[Job]) -> Sequence[list[Change] | RequestError]:
        """Add the messages of all jobs or of none, or with Redis of each job as far as the server takes them."""
        if len(jobs) > 1 and self._transaction is nullcontext:
            return [self._add([job])[0] for job in jobs]
        try:
            with self._transaction():
                answers = [[change for one in job.arrivals for change in self._watcher.add(*one)] for job in jobs]
        except gf.DataError as error:
            log.error("%d requests are not kept: %s", len(jobs), error)
            return [RequestError("store", "the store cannot be used now; try again later") for _ in jobs]
        except Exception as error:  # a defect, whose words may quote text, and which is not to harm other requests
            if len(jobs) > 1:
                return [self._add([job])[0] for job in jobs]
            log.error("a request is not kept: %s", type(error).__name__)
            return [RequestError("defect", "these messages cannot be added")]
        self._messages.inc(sum(len(job.arrivals) for job in jobs))
        for change in (change for changes in answers for change in changes):
            self._changes.labels(change.rule, "up" if change.is_up else "down", change.is_shadow).inc()
        return answers

    def _look_after(self) -> None:
        """Hand on changes, and every hour forget threads that are long over; what fails is done next time."""
        try:
            if self._hand_to:
                self._watcher.store.deliver(self._hand_to)
            if time.monotonic() > self._clean_at:
                self._watcher.store.expire()
                self._clean_at = time.monotonic() + HOUR
        except Exception as error:
            log.error("changes could not be handed on, or threads forgotten: %s", type(error).__name__)


async def read_body(request: Request) -> bytes:
    """Return the body, unless it is too large."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise RequestError("large", f"more than {MAX_BODY:,} bytes; post fewer messages at a time")
    except ClientDisconnect:
        raise RequestError("bad", "the request ended too soon") from None
    return bytes(body)


def read_messages(body: bytes) -> list[Arrival]:
    """Return the messages in a body. The errors of FastAPI's own reader would quote them."""
    rows = [body]
    if body.lstrip().startswith(b"["):
        try:
            rows = [json.dumps(row).encode() for row in json.loads(body)]
        except (ValueError, RecursionError):
            raise RequestError("bad", "not JSON; post a message or a list of messages") from None
    arrivals = []
    for number, row in enumerate(rows):
        try:
            arrivals.append(read_message(row))
        except gf.DataError as error:
            raise RequestError("bad", f"message {number}: {error}") from None
    return arrivals


def open_watcher(state: str, policy: str | None, model: str | None, hands_on: bool) -> Watcher:
    """Return a watcher on a SQLite file or a Redis server, which several processes may share."""
    store = RedisStore(state, worker=f"{socket.gethostname()}-{os.getpid()}") if "://" in state else SqliteStore(state)
    rules = read_policy(Path(policy).read_text(encoding="utf-8"), policy) if policy else BALANCED
    folders = {shadow.model for shadow in rules.shadows if shadow.model}
    shadow_models = {folder: gf.load_model(Path(policy or "").parent / folder) for folder in folders}
    return Watcher(gf.load_model(model), store, rules, shadow_models, hands_on)


def create_app(
    state: str | None = None,
    policy: str | None = None,
    model: str | None = None,
    hand_to: Callable[[bytes], object] | None = None,
    max_waiting: int = 2000,
) -> FastAPI:
    """Return the service; what is not given is taken from the environment.

    Parameters
    ----------
    state : str, optional
        SQLite file, or address of a Redis server (GROOMING_FLAG_STATE; else states.db).
    policy, model : str, optional
        TOML file (GROOMING_FLAG_POLICY; else `balanced`), and folder (GROOMING_FLAG_MODEL; else the bundled model).
    hand_to : callable, optional
        Gets each change as a line of JSON, while all else waits (GROOMING_FLAG_CHANGES, a file; else none).
    max_waiting : int
        So many messages wait, about a second's work, before requests are refused.
    """
    known = os.environ.get
    if hand_to is None and (changes := known("GROOMING_FLAG_CHANGES")):
        hand_to = partial(os.write, os.open(changes, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    state = state or known("GROOMING_FLAG_STATE") or "states.db"
    watcher = open_watcher(
        state, policy or known("GROOMING_FLAG_POLICY"), model or known("GROOMING_FLAG_MODEL"), bool(hand_to)
    )
    intake = Intake(watcher, hand_to, max_waiting)
    app = FastAPI(lifespan=intake.running, openapi_url=None)

    @app.exception_handler(RequestError)
    async def refuse(_: Request, refused: RequestError) -> Response:
        intake.refused.labels(refused.reason).inc()
        status = STATUS[refused.reason]
        return JSONResponse({"error": str(refused)}, status, {"Retry-After": "1"} if status == 503 else None)

    @app.post("/messages")
    async def add_messages(request: Request) -> Response:
        changes = await intake.add(read_messages(await read_body(request)))
        rows = b",".join(encode_row(change.row()) for change in changes)
        return Response(b'{"changes":[' + rows + b"]}", media_type="application/json")

    @app.get("/health")
    async def health() -> Response:
        return PlainTextResponse("alive")

    @app.get("/ready")
    async def ready() -> Response:
        is_ready = await intake.is_ready()
        return PlainTextResponse("ready" if is_ready else "the store cannot be used", 200 if is_ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(intake.metrics), media_type=CONTENT_TYPE_LATEST)

    return app


def show() -> None:
    """Start the service, post the threads of the examples, print what changed and stop."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(create_app(f"{folder}/states.db"), log_level="warning"))
        serving = threading.Thread(target=server.run, args=([listening],), daemon=True)
        serving.start()
        for thread in gf.read_threads(THREADS):
            posted = [{"thread_id": thread.thread_id, "author": m.author, "text": m.text} for m in thread.messages]
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/messages"
            with urlopen(address, json.dumps(posted).encode(), timeout=60) as answer:
                for change in json.load(answer)["changes"]:
                    print(change)
        server.should_exit = True
        serving.join()


if __name__ == "__main__":
    show()
