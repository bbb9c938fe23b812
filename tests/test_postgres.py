"""A log in a PostgreSQL database: a real server, the same scores, and no word of how to connect to it."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import labelled_threads, write_threads
from cli import run

import grooming_flag as gf
from grooming_flag.io import flat, logs

REQUIRED = os.environ.get("GROOMING_FLAG_REQUIRE_POSTGRES") == "1"
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "").parent]
PASSWORD = "marmalade-canary"  # noqa: S105

missing = [
    name
    for name, is_there in [
        ("the extra 'postgres'", importlib.util.find_spec("duckdb_extension_postgres_scanner")),
        ("initdb", (PROGRAMS[-1] / "initdb").exists()),
    ]
    if not is_there
]
if missing and not REQUIRED:
    pytest.skip(f"there is no {' and no '.join(missing)} here", allow_module_level=True)


def test_nothing_that_these_tests_need_is_missing() -> None:
    assert not missing


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start a server of its own and return how to connect to it; as another user, since it will not run as root."""
    user: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="grooming_flag-", dir="/tmp"))
    if os.geteuid() == 0:
        entry = next((e for e in pwd.getpwall() if e.pw_name == "postgres"), pwd.getpwnam("nobody"))
        user = {"user": entry.pw_uid, "group": entry.pw_gid}
        os.chown(folder, entry.pw_uid, entry.pw_gid)

    def command(name: str, *arguments: str) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"}
        program = str(PROGRAMS[-1] / name)
        subprocess.run(
            [program, *arguments], check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL, **user
        )

    data = str(folder / "data")
    try:
        command("initdb", "-D", data, "-U", "reader", "--auth=trust", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        command("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"host={folder} user=reader dbname=postgres password={PASSWORD}"
        command("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def threads(server: str) -> list[gf.Thread]:
    """Put messages into a table and return their threads."""
    import duckdb

    found = labelled_threads(60)
    rows = [(t.thread_id, m.author, 1.7e9 + i, m.text) for t in found for i, m in enumerate(t.messages)]
    with duckdb.connect() as connection:
        connection.execute(f"LOAD '{logs._postgres_extension()}'")
        connection.execute(f"ATTACH '{server}' AS db (TYPE postgres)")
        connection.execute("CREATE TABLE db.messages (thread_id VARCHAR, who VARCHAR, sent_at DOUBLE, text VARCHAR)")
        connection.executemany("INSERT INTO db.messages VALUES (?, ?, ?, ?)", rows)
    return found


NAMES = {"author": "who"}


def score(server: str, *more: object) -> list[dict[str, Any]]:
    ran = run("score", f"postgres:{server}", "-o", "-", "--columns", "author=who", *more)
    assert ran.status == 0, ran.err
    assert PASSWORD not in ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def test_a_table_is_a_log(server: str, threads: list[gf.Thread], tmp_path: Path) -> None:
    write_threads(tmp_path / "log.jsonl", sorted(threads, key=lambda thread: thread.thread_id))
    expected = [json.loads(line) for line in run("score", tmp_path / "log.jsonl", "-o", "-").out.splitlines()]
    assert score(server) == expected
    query = f"SELECT * FROM messages WHERE thread_id = '{threads[3].thread_id}'"  # noqa: S608
    assert score(server, "--sql", query) == [row for row in expected if row["thread_id"] == threads[3].thread_id]


def test_the_password_is_neither_in_errors_nor_in_a_manifest(
    server: str, threads: list[gf.Thread], tmp_path: Path
) -> None:
    for dsn in (server.replace("dbname=postgres", "dbname=nothing"), f"host=/nowhere password={PASSWORD}"):
        ran = run("score", f"postgres:{dsn}", "-o", "-")
        assert ran.status == 1
        assert "PostgreSQL: DuckDB cannot read it" in ran.err
        assert "does psql connect" in ran.err
        assert PASSWORD not in ran.err
    assert len(threads) == 60
    folder = tmp_path / "scores"
    columns = ["--columns", "author=who"]
    for _ in range(2):
        assert run("score", f"postgres:{server}", "-o", f"{folder}/", *columns).status == 0
    assert PASSWORD.encode() not in b"".join(path.read_bytes() for path in folder.iterdir())
    other = server.replace("reader", "other")
    assert "another input" in run("score", f"postgres:{other}", "-o", f"{folder}/", *columns).err


def test_the_database_is_only_read(server: str, threads: list[gf.Thread]) -> None:
    ran = run("score", f"postgres:{server}", "-o", "-", "--sql", "DELETE FROM messages")
    assert "give one SELECT" in ran.err
    assert len(list(flat.read_flat(f"postgres:{server}", columns=NAMES))) == len(threads)
