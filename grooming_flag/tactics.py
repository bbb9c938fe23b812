"""Tactic heads: which channels of luring a message shows, for a moderator to read. No score depends on them.

The channels are those of luring communication theory (Olson et al. 2007): unordered, never stages. Only `explain` asks
for them, so they are a small table of their own rather than columns beside the heads that every message is scored with,
where they would cost each look-up its cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from grooming_flag.errors import ModelError

if TYPE_CHECKING:  # kept out of the cold start
    from numpy.typing import NDArray

STEP = 2.0**-10
"""Log-odds of a weight of 1; whole numbers make sums exact in any order."""


@dataclass(frozen=True, slots=True, eq=False)
class Tactics:
    """Linear heads on the presence features of one message.

    Parameters
    ----------
    names : sequence of str, length n_tactics
    buckets : ndarray of int32, shape (n_buckets,)
        The buckets that have a weight, ascending.
    weights : ndarray of int16, shape (n_buckets, n_tactics)
        In steps of `STEP`.
    cuts : ndarray of int64, shape (n_tactics,)
        What the weights of a message must at least add up to, in steps.

    Raises
    ------
    ModelError
        If they do not fit together.
    """

    names: Sequence[str]
    buckets: NDArray[np.int32]
    weights: NDArray[np.int16]
    cuts: NDArray[np.int64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        n_tactics, n_buckets = len(self.names), self.buckets.size
        types = tuple(str(array.dtype) for array in (self.buckets, self.weights, self.cuts))
        if types != ("int32", "int16", "int64") or self.buckets.ndim != 1:
            raise ModelError(f"buckets, weights and cuts of tactics are {types}; need int32, int16 and int64")
        if self.weights.shape != (n_buckets, n_tactics) or self.cuts.shape != (n_tactics,):
            raise ModelError(f"weights of tactics are {self.weights.shape}; need ({n_buckets}, {n_tactics})")
        if len(set(self.names)) < n_tactics:
            raise ModelError("two tactics have the same name")
        if n_buckets and (self.buckets[0] < 0 or np.any(np.diff(self.buckets) <= 0)):
            raise ModelError("the buckets of tactics are not ascending numbers from 0")

    @classmethod
    def none(cls) -> Self:
        """Return no heads."""
        return cls((), np.empty(0, np.int32), np.empty((0, 0), np.int16), np.empty(0, np.int64))

    def scores(self, buckets: NDArray[np.int32], sizes: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the sums of weights of messages minus the cuts, in steps, shape (n_messages, n_tactics).

        Parameters
        ----------
        buckets : ndarray of int32
            The distinct buckets of the first message, of the second, ...
        sizes : ndarray of int32, shape (n_messages,)
            How many of them each message has.
        """
        known = np.isin(buckets, self.buckets)
        owners = np.repeat(np.arange(len(sizes)), sizes)[known]
        totals = np.zeros((len(sizes), len(self.names)), np.int64)
        np.add.at(totals, owners, self.weights[np.searchsorted(self.buckets, buckets[known])])
        return totals - self.cuts

    def shown(self, buckets: NDArray[np.int32], sizes: NDArray[np.int32]) -> list[tuple[str, ...]]:
        """Return the tactics that each message shows; see `scores`."""
        return [
            tuple(name for name, is_shown in zip(self.names, row, strict=True) if is_shown)
            for row in (self.scores(buckets, sizes) >= 0).tolist()
        ]
