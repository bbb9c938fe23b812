"""No test reaches the network, and no Python that a test starts: only what runs on this machine may be spoken to."""

from __future__ import annotations

import sys
from typing import Any

HERE = {"", "127.0.0.1", "::1", "localhost", "0.0.0.0", "::", b"localhost", b"127.0.0.1", None}  # noqa: S104
WITH_ADDRESS = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
WITH_HOST = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def stay_here(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise an error where a socket is about to reach another machine, or asks where one is."""
    if event in WITH_ADDRESS and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event in WITH_HOST:
        host = arguments[0]
    else:
        return
    if host not in HERE:
        raise PermissionError(f"{event}: tests may speak to nothing but this machine")


sys.addaudithook(stay_here)
