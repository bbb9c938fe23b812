"""The form of a thread: all that can be said of it without its words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from grooming_flag.records import Message, Thread

MEASURES = (
    "messages",
    "characters",
    "authors",
    "messages an author",
    "characters a message",  # median
    "long message",  # 90th percentile of characters
    "first author's share",  # of messages; the first author is the one with the most messages
    "second author's share",
    "first author's characters",  # share
    "opener's share",  # of messages
    "questions",  # share of messages with a question mark
    "first author's questions",  # share of the author's own messages
    "others' questions",
    "turns",  # share of messages by another author than the one before
    "longest run",  # messages of one author in a row
    "timed",  # share of messages with a time
    "span",  # from the first time to the last
    "gap",  # median
    "long gap",  # 90th percentile
    "reply",  # median gap where the author changes
)
NOTHING = -1.0  # below all that can be measured


def form(threads: Sequence[Thread]) -> NDArray[np.float64]:
    """Return the measures of each thread, shape (n_threads, n_measures), in the order of `MEASURES`.

    Amounts and times are natural logarithms of one plus the amount or the seconds, shares are 0..1. Where there is
    nothing to measure, such as a gap without times, it is -1.

    Parameters
    ----------
    threads : sequence of Thread, length n_threads
        With a message each, at least.

    Examples
    --------
    >>> from grooming_flag import Message, Thread
    >>> row = form([Thread("t", [Message("a", "hi"), Message("b", "hello?"), Message("a", "yes")])])[0]
    >>> measured = dict(zip(MEASURES, row.tolist(), strict=True))
    >>> measured["turns"], measured["others' questions"], round(measured["first author's share"], 3)
    (1.0, 1.0, 0.667)
    """
    rows = [[*_amounts(thread.messages), *_times(thread.messages)] for thread in threads]
    return np.array(rows, dtype=np.float64).reshape(-1, len(MEASURES))


def _amounts(messages: Sequence[Message]) -> list[float]:
    lengths = np.array([len(message.text) for message in messages])
    asks = np.array(["?" in message.text for message in messages])
    ids: dict[str, int] = {}
    authors = np.array([ids.setdefault(message.author, len(ids)) for message in messages])
    counts = np.bincount(authors)
    most = np.argsort(-counts, kind="stable")
    by_first = authors == most[0]
    turns = authors[1:] != authors[:-1]
    starts = np.flatnonzero(np.concatenate([[True], turns, [True]]))
    n, total = len(messages), int(lengths.sum())
    return [
        np.log1p(n),
        np.log1p(total),
        np.log1p(len(counts)),
        np.log1p(n / len(counts)),
        np.log1p(np.median(lengths)),
        np.log1p(np.quantile(lengths, 0.9)),
        counts[most[0]] / n,
        counts[most[1]] / n if len(counts) > 1 else 0.0,
        lengths[by_first].sum() / max(total, 1),
        counts[0] / n,
        asks.mean(),
        asks[by_first].mean(),
        asks[~by_first].mean() if len(counts) > 1 else NOTHING,
        turns.mean() if n > 1 else NOTHING,
        np.log1p(np.diff(starts).max()),
    ]


def _times(messages: Sequence[Message]) -> list[float]:
    times = np.array([np.nan if message.sent_at is None else message.sent_at for message in messages])
    known = times[~np.isnan(times)]
    gaps = np.diff(times)
    is_gap = ~np.isnan(gaps)
    if not is_gap.any():
        return [len(known) / len(times), NOTHING, NOTHING, NOTHING, NOTHING]
    gaps = np.log1p(np.abs(gaps))
    turns = [a.author != b.author for a, b in pairwise(messages)]
    replies = gaps[is_gap & turns]
    return [
        len(known) / len(times),
        np.log1p(known.max() - known.min()),
        np.median(gaps[is_gap]),
        np.quantile(gaps[is_gap], 0.9),
        np.median(replies) if len(replies) else NOTHING,
    ]
