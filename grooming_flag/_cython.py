"""What compiled modules need of Cython's module `cython`, for interpreters where Cython is not installed."""

from __future__ import annotations

from typing import Any

compiled = False
int = uint = ulonglong = ushort = uchar = None  # the names are Cython's
const = {None: None}


def declare(_type: None, value: Any) -> Any:
    return value


def cclass(decorated: Any) -> Any:
    return decorated


final = cfunc = ccall = inline = cclass


def exceptval(check: bool) -> Any:
    return cclass


class _Nogil:
    """Both `@cython.nogil` and `with cython.nogil:`."""

    __call__ = staticmethod(cclass)

    def __enter__(self) -> None: ...

    def __exit__(self, *_exception: object) -> None: ...


nogil = _Nogil()
