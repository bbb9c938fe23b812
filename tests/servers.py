"""A Redis server of our own for the tests that need one, and whether the example service can run."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

_missing = [name for name in ("fastapi", "uvicorn", "prometheus_client", "httpx") if find_spec(name) is None]
without_service = ""
"""Why the example service is not tested here, unless it must be."""
if _missing and not os.environ.get("GROOMING_FLAG_REQUIRE_SERVICE"):
    without_service = f"needs {', '.join(_missing)} (pip install 'grooming-flag[test]')"


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server that listens on a socket in a folder and on no port; give its address."""
    program = shutil.which("redis-server")
    if program is None or find_spec("redis") is None:
        absent = pytest.fail if os.environ.get("GROOMING_FLAG_REQUIRE_REDIS") else pytest.skip
        absent("needs redis-server and its client (apt-get install redis-server; pip install 'grooming-flag[live]')")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "socket"
    command = [
        program,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--dir",
        str(folder),
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20.0
        while not path.exists():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.wait(20)
