#!/usr/bin/env python
"""Fuzz the target that the environment names; `run` calls it: ``TARGET=kernel fuzz.py FOLDER [flags of libFuzzer]``.

Without arguments it names the targets. What libFuzzer is told stays as it is, since it starts itself again to merge.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from zlib import crc32

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))

with atheris.instrument_imports(include=["grooming_flag"]):
    from targets import TARGETS

from grooming_flag import _kernel

THOROUGH = 256  # one input in so many is checked thoroughly; tests/test_fuzz.py checks all of the corpus so


def main() -> None:
    if len(sys.argv) == 1:
        print(*TARGETS, sep="\n")
        return
    assert _kernel.compiled, f"{_kernel.__file__} is not compiled; see build"
    sys.unraisablehook = lambda _: os.abort()  # an index out of bounds where compiled code cannot raise
    target = TARGETS[os.environ["TARGET"]]
    if not any(argument.startswith("-merge") for argument in sys.argv):
        for place, seed in enumerate(target.seeds()):
            Path(sys.argv[1], f"seed-{place}").write_bytes(seed)

    def check(data: bytes) -> None:
        target.check(data, crc32(data) % THOROUGH == 0)

    atheris.Setup([*sys.argv, f"-max_len={target.longest}"], check)
    atheris.Fuzz()


main()
