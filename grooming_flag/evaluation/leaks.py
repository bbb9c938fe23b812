"""Refuse to judge a model on what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from grooming_flag.errors import DataError
from grooming_flag.model import Model
from grooming_flag.records import Thread


def is_seen(model: Model, threads: Sequence[Thread]) -> NDArray[np.bool_]:
    """Return which threads the model was trained on, or on others of their person, shape (n_threads,).

    What the model's fingerprints can tell, and what not, see `grooming_flag.fingerprints.Fingerprints`; a model
    without any has seen nothing that it knows of.
    """
    known = model.fingerprints
    return np.array([known is not None and known.seen(thread) is not None for thread in threads], dtype=bool)


def check_unseen(model: Model, sources: Mapping[str, Sequence[Thread]]) -> None:
    """Raise a DataError if the model was trained on any of the threads, or on others of their persons.

    Parameters
    ----------
    model : Model
    sources : mapping of str to sequence of Thread
        The threads by the name of their file, which the error counts them by.
    """
    leaks = []
    for name, threads in sources.items():
        seen = is_seen(model, threads)
        if seen.any():
            first = threads[int(seen.argmax())].thread_id
            leaks.append(f"{name}: {seen.sum()} of {len(threads)}, the first {first}")
    if leaks:
        raise DataError(
            f"{model.name} was trained on these threads or on others of their persons: {'; '.join(leaks)}; "
            "leave them out or pass --allow-seen"
        )
