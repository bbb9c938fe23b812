"""Recall and false alarms by kind of thread, and whether the suspect is right, at fixed thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from grooming_flag.errors import MissingExtraError
from grooming_flag.evaluation.answers import Answers
from grooming_flag.evaluation.figures import Figure, share
from grooming_flag.evaluation.pool import Pool
from grooming_flag.model import Model
from grooming_flag.records import Message, Thread

Mask = NDArray[np.bool_]
LENGTHS = ((1, 9), (10, 19), (20, 39), (40, None))
AMOUNTS = ((0, 19), (20, 99), (100, 499), (500, None))
UNKNOWN = (0.01, 0.05)
GUESS_FROM = 10
"""Fewer words than this are too few to guess a language."""

RECALL, FPR = "recall", "false-positive rate"


def slice_figures(pool: Pool, answers: Answers) -> list[Figure]:
    """Return recall by source and length and false-positive rates by source, at each operating point."""
    figures = []
    for at, threshold in answers.points.items():
        flagged = answers.values >= threshold
        for source, chosen in by_source(pool, pool.risky):
            figures.append(found(pool, flagged, chosen, f"{source}, all lengths", at))
            for length, of_length in by_length(pool):
                if (chosen & of_length).any():
                    figures.append(found(pool, flagged, chosen & of_length, f"{source}, {length}", at))
        for source, chosen in [("all negatives", ~pool.risky), *by_source(pool, ~pool.risky)]:
            figures.append(share("slices", FPR, source, at, flagged[chosen]))
    return figures


def kind_figures(pool: Pool, answers: Answers, kinds: Mapping[str, Mask]) -> list[Figure]:
    """Return recall and false-positive rate of kinds of threads, all sources together, at each operating point."""
    figures = []
    for at, threshold in answers.points.items():
        flagged = answers.values >= threshold
        for name, of_kind in kinds.items():
            risky, benign = of_kind & pool.risky, of_kind & ~pool.risky
            figures.append(found(pool, flagged, risky, name, at))
            figures.append(share("slices", FPR, name, at, flagged[benign]))
    return figures


def kinds_of_text(pool: Pool) -> dict[str, Mask]:
    """Return the threads of each class of length and of amount of text, by name."""
    words = _words(pool)
    kinds = {f"length: {name}": mask for name, mask in by_length(pool)}
    for low, high in AMOUNTS:
        kinds[f"text: {_range(low, high)} words"] = (words >= low) & (words <= (high or np.inf))
    return kinds


def kinds_of_language(pool: Pool) -> dict[str, Mask]:
    """Return the threads of each class of guessed language, by name.

    Raises
    ------
    MissingExtraError
        If py3langid is not installed.
    """
    enough = _words(pool) >= GUESS_FROM
    english = np.array([guess_language(thread) == "en" for thread in pool.threads], dtype=bool)
    return {
        "language guess: English": enough & english,
        "language guess: other": enough & ~english,
        "language guess: too few words": ~enough,
    }


def kinds_of_unknown(model: Model, pool: Pool) -> dict[str, Mask]:
    """Return the threads by how many of their features have no weight in the model."""
    unknown = 1.0 - model.known_shares([thread.messages for thread in pool.threads])
    edges = (0.0, *UNKNOWN, np.inf)
    return {
        f"unknown features: {_percent(low, high)}": (unknown >= low) & (unknown < high) for low, high in pairwise(edges)
    }


def guess_language(thread: Thread) -> str:
    """Return a guess at the main language of a thread, by its code; a guess, since chat is short and misspelled."""
    try:
        from py3langid.langid import classify
    except ModuleNotFoundError as error:
        raise MissingExtraError("guessing languages needs py3langid; pip install 'grooming-flag[report]'") from error
    return str(classify(" ".join(m.text for m in thread.messages)[:500].encode("utf-8", "replace").decode())[0])


def suspect_figures(pool: Pool, answers: Answers) -> list[Figure]:
    """Return how often the suspect is one of those of the label: of flagged threads, and of all risky ones.

    There is nothing to return for a system that never names one.
    """
    if not any(answers.suspects):
        return []
    figures = []
    known = pool.risky & np.array([bool(thread.suspects) for thread in pool.threads])
    right = np.array(
        [who in thread.suspects for who, thread in zip(answers.suspects, pool.threads, strict=True)], dtype=bool
    )
    for at, threshold in answers.points.items():
        for source, chosen in by_source(pool, known & (answers.values >= threshold)):
            hits, clusters = right[chosen], pool.clusters[chosen]
            figures.append(share("suspects", "suspect named, of flagged", source, at, hits, clusters))
    for source, chosen in by_source(pool, known):
        hits, clusters = right[chosen], pool.clusters[chosen]
        figures.append(share("suspects", "suspect named, of all", source, "any", hits, clusters))
    return figures


def sides_of(thread: Thread) -> tuple[list[Message], list[Message]]:
    """Return the messages of the suspects of a labelled thread, and those of its other authors."""
    by_suspect = [message.author in thread.suspects for message in thread.messages]
    suspects, others = (
        [message for message, is_theirs in zip(thread.messages, by_suspect, strict=True) if is_theirs == wanted]
        for wanted in (True, False)
    )
    return suspects, others


def found(pool: Pool, flagged: Mask, chosen: Mask, name: str, at: str) -> Figure:
    """Return the share of the chosen risky threads that are flagged, with its interval over persons."""
    return share("slices", RECALL, name, at, flagged[chosen], pool.clusters[chosen])


def by_source(pool: Pool, chosen: Mask) -> Iterator[tuple[str, Mask]]:
    """Yield each source with its chosen threads, where it has any."""
    for source in dict.fromkeys(pool.sources):
        of_source = chosen & (pool.sources == source)
        if of_source.any():
            yield source, of_source


def by_length(pool: Pool) -> Iterator[tuple[str, Mask]]:
    """Yield the name and the threads of each class of length."""
    for low, high in LENGTHS:
        yield f"{_range(low, high)} messages", (pool.lengths >= low) & (pool.lengths <= (high or np.inf))


def _words(pool: Pool) -> NDArray[np.int64]:
    return np.array([sum(len(m.text.split()) for m in thread.messages) for thread in pool.threads], dtype=np.int64)


def _range(low: int, high: int | None) -> str:
    return f"{low}+" if high is None else f"{low}-{high}"


def _percent(low: float, high: float) -> str:
    return f"{low:.0%} and more" if high == np.inf else f"{low:.0%} to {high:.0%}"
