"""Text to bytes, and the table that folds code points: THE definition of normalisation.

The table maps each code point to a few folded ones (compatibility forms, case, look-alikes, marks, invisible
characters, digits; `scripts/build_fold_table.py` states the rules and builds it from the Unicode data). It ships as
a versioned file, so that a score never depends on the Python that runs it. `_kernel.py` applies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from safetensors.numpy import load

from grooming_flag import _kernel

if TYPE_CHECKING:  # kept out of the cold start
    from numpy.typing import NDArray

FOLD_VERSION = 1


class FoldTable(NamedTuple):
    """Code point ``c`` has the entry ``blocks[128 * pages[c >> 7] + (c & 127)]``, which is ``kind << 24 | value``.

    Kinds: 0 nothing remains, 1 white space, 2 punctuation, 3 letter, 4 digit, 5 several: then ``pool[value]`` says
    how many entries follow it in the pool. Any other value is the folded code point, or 0 for the same one.
    """

    pages: NDArray[np.uint16]
    blocks: NDArray[np.uint32]
    pool: NDArray[np.uint32]


@cache
def fold_table() -> FoldTable:
    """Return the table shipped with the package."""
    tensors = load(Path(__file__).with_name(f"fold-{FOLD_VERSION}.safetensors").read_bytes())
    return FoldTable(tensors["pages"], tensors["blocks"], tensors["pool"])


def encode(texts: Sequence[str]) -> tuple[bytes, NDArray[np.int64]]:
    """Return the texts end to end as UTF-8 (lone surrogates kept) and their offsets, shape (len(texts) + 1,)."""
    offsets = np.empty(len(texts) + 1, dtype=np.int64)
    return _kernel.encode(list(texts), offsets), offsets
