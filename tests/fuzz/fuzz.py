#!/usr/bin/env python
"""Fuzz one target with libFuzzer; `run` calls it: ``python fuzz.py TARGET FOLDER [flags and folders of libFuzzer]``.

Without arguments it names the targets. Inputs that reach something new are put in the folder; with ``-merge=1`` those
of the folder that reach something new, or the same in fewer bytes, are put in the corpus here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from zlib import crc32

import atheris

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

with atheris.instrument_imports(include=["grooming_flag"]):
    from targets import TARGETS

from grooming_flag import _kernel  # noqa: E402

THOROUGH = 256  # one input in so many is checked thoroughly; tests/test_fuzz.py checks all of the corpus so


def main() -> None:
    if len(sys.argv) == 1:
        print(*TARGETS, sep="\n")
        return
    _, name, folder, *flags = sys.argv
    assert _kernel.compiled, f"{_kernel.__file__} is not compiled; see build"
    sys.unraisablehook = lambda _: os.abort()  # an index out of bounds where compiled code cannot raise
    target = TARGETS[name]
    for place, seed in enumerate(target.seeds()):
        Path(folder, f"seed-{place}").write_bytes(seed)
    kept = HERE / "corpus" / name
    kept.mkdir(parents=True, exist_ok=True)
    folders = [str(kept), folder] if "-merge=1" in flags else [folder, str(kept)]

    def check(data: bytes) -> None:
        target.check(data, crc32(data) % THOROUGH == 0)

    atheris.Setup([sys.argv[0], *folders, f"-max_len={target.longest}", *flags], check)
    atheris.Fuzz()


main()
