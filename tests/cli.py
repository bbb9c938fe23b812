"""Run the command `grooming-flag` in this process, for the tests of several modules."""

from __future__ import annotations

import io
import sys
from typing import NamedTuple

import pytest

from grooming_flag.cli import main


class Ran(NamedTuple):
    """What a command left behind: exit status, standard output as bytes, standard error."""

    status: int
    out: bytes
    err: str

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line]


def run(*args: object, stdin: bytes = b"") -> Ran:
    """Run the command as the console script does; an exception that comes out of it is a traceback for the user."""
    out, err = io.BytesIO(), io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        patch.setattr(sys, "argv", ["grooming-flag", *map(str, args)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8", write_through=True))
        patch.setattr(
            sys, "stderr", io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace", write_through=True)
        )
        try:
            main()
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        found = Ran(status, out.getvalue(), err.getvalue().decode())
        sys.stdout.detach()  # type: ignore[attr-defined]
        sys.stderr.detach()  # type: ignore[attr-defined]
        return found
