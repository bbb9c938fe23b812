"""Pools and answers made of bare numbers, and the figures of an evaluation by what they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from grooming_flag import FeatureExtractor, Message, Thread
from grooming_flag.evaluation import audits, protocol, resampling
from grooming_flag.evaluation.answers import Answers, Replay
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.robustness import template_figures

NEVER = float("-inf")


def few_samples(patch: pytest.MonkeyPatch, n: int = 60) -> None:
    """Let intervals come of fewer samples than in earnest."""
    patch.setattr(resampling, "RESAMPLES", n)


def small_evaluations(patch: pytest.MonkeyPatch, n: int) -> None:
    """Let whole evaluations take few samples, few generated threads, one shortcut and a small table."""
    few_samples(patch, n)
    patch.setattr(protocol, "template_figures", partial(template_figures, n=5))
    patch.setattr(audits, "SHORTCUTS", {"length": ("messages", "characters")})
    patch.setattr(audits, "FeatureExtractor", partial(FeatureExtractor, 2**10))


def pool_of(
    risky: Sequence[int],
    *,
    clusters: Sequence[str] | None = None,
    lengths: Sequence[int] | None = None,
    sources: Sequence[str] | None = None,
    suspects: Sequence[Sequence[str]] | None = None,
    times: Sequence[Sequence[float | None]] | None = None,
) -> Pool:
    """Return a pool of threads t0, t1, ... that say "tea": if not told, each its own cluster in the source "one"."""
    n = len(risky)
    lengths = lengths or ([len(of) for of in times] if times else [5] * n)
    times = times or [[None] * length for length in lengths]
    threads = [
        Thread(
            f"t{i}", [Message("a", "tea", time) for time in times[i]], int(risky[i]), suspects[i] if suspects else ()
        )
        for i in range(n)
    ]
    names = np.array(sources or ["one"] * n, dtype=object)
    groups = np.array(clusters or [f"t{i}" for i in range(n)], dtype=object)
    return Pool(threads, names, groups, np.array(risky, dtype=bool), np.array(lengths, dtype=np.int64))


def answers_with(
    values: Sequence[float] | np.ndarray[Any, Any],
    points: Mapping[str, float] | None = None,
    *,
    probabilities: Sequence[float] | np.ndarray[Any, Any] | None = None,
    prior: float | None = None,
    suspects: Sequence[str | None] | None = None,
    replays: Sequence[Replay] | None = None,
    evidence: Mapping[int, Sequence[int]] | None = None,
    system: str = "toy",
) -> Answers:
    """Return answers with these values, and NaN for probabilities that are not given."""
    array = np.array(values, dtype=np.float64)
    given = np.full(len(array), np.nan) if probabilities is None else np.array(probabilities, dtype=np.float64)
    return Answers(system, array, given, prior, suspects or [None] * len(array), points or {}, replays, evidence)


def one(figures: Iterable[Figure], measure: str, slice_: str = "all", at: str | None = None) -> Figure:
    """Return the one figure of that measure, slice and point."""
    (found,) = [f for f in figures if (f.measure, f.slice) == (measure, slice_) and at in (None, f.at)]
    return found
