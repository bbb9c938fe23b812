"""Labelled threads that systems are judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from grooming_flag.errors import DataError
from grooming_flag.evaluation.splits import AuthorIds, author_kinds, components, labels_of
from grooming_flag.records import Thread


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Labelled threads of one or more sources.

    Attributes
    ----------
    threads : sequence of Thread, length n_threads
    sources : ndarray of str, shape (n_threads,)
        The file that each is from.
    clusters : ndarray of str, shape (n_threads,)
        The person, or the connected authors, that each belongs to: what intervals take as independent.
    risky : ndarray of bool, shape (n_threads,)
    lengths : ndarray of int, shape (n_threads,)
        Numbers of messages.
    """

    threads: Sequence[Thread]
    sources: NDArray[np.object_]
    clusters: NDArray[np.object_]
    risky: NDArray[np.bool_]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, sources: Mapping[str, Sequence[Thread]], authors: AuthorIds = "auto") -> Self:
        """Pool labelled threads by source.

        Parameters
        ----------
        sources : mapping of str to sequence of Thread
        authors : {"auto", "global", "thread"}
            Whether an author id means one person in all threads of its source; see `components`.

        Raises
        ------
        DataError
            If a thread has no label, or two have the same thread_id.
        """
        threads = [thread for of_source in sources.values() for thread in of_source]
        names = np.array([name for name, of_source in sources.items() for _ in of_source], dtype=object)
        if len({thread.thread_id for thread in threads}) < len(threads):
            raise DataError("some threads have the same thread_id; give each its own")
        labels = [labels_of(of_source, name) for name, of_source in sources.items()]
        return cls(
            threads,
            names,
            _clusters(sources, authors),
            np.concatenate([*labels, np.empty(0, np.int64)]) == 1,
            np.array([len(thread.messages) for thread in threads], dtype=np.int64),
        )

    def only(self, chosen: NDArray[np.bool_]) -> Pool:
        """Return the chosen threads as a pool of their own."""
        threads = [thread for thread, is_chosen in zip(self.threads, chosen, strict=True) if is_chosen]
        return Pool(threads, self.sources[chosen], self.clusters[chosen], self.risky[chosen], self.lengths[chosen])


def _clusters(sources: Mapping[str, Sequence[Thread]], authors: AuthorIds) -> NDArray[np.object_]:
    """Name each thread's component by the least person, or else thread, in it."""
    threads = [thread for of_source in sources.values() for thread in of_source]
    names: dict[int, str] = {}
    groups = components(threads, author_kinds(sources.values(), authors)).tolist()
    for group, thread in zip(groups, threads, strict=True):
        name = f"person {thread.person}" if thread.person else f"thread {thread.thread_id}"
        names[group] = min(names.get(group, name), name)
    return np.array([names[group] for group in groups], dtype=object)
