"""Splits that do not leak: threads that hang together stay in one fold.

Threads hang together if they have a person or an author in common, or are nearly the same text. A model that meets
one half of such a group in training has met what it is judged on in the other half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from grooming_flag.errors import DataError
from grooming_flag.fingerprints import folded_words
from grooming_flag.records import Thread

Authors = Literal["global", "thread"]
AuthorIds = Literal["auto"] | Authors

MIN_THREADS = 20  # fewer say nothing about how author ids are given
SHINGLE = 5  # words
MIN_SHINGLES = 20
CROWD = 20
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

_mend = "use fewer folds, or if author ids mean nothing beyond their thread, say so (--authors thread)"


class Pair(NamedTuple):
    """Two threads, by their places, with i < j, and the share of their shingles that both have, 0..1."""

    i: int
    j: int
    similarity: float


def authors_are(threads: Iterable[Thread]) -> Authors:
    """Tell whether author ids mean the same person in other threads: "global", or "thread" if they do not.

    If one id is in at least half of 20 or more threads, ids are taken to be given anew in each thread (a0, a1, ...).
    So are they, wrongly, where a bot or a clerk is in every thread; then state "global" and leave that author out.
    """
    n_threads, counts = 0, Counter[str]()
    for thread in threads:
        n_threads += 1
        counts.update({message.author for message in thread.messages})
    highest = max(counts.values(), default=0)
    return "thread" if n_threads >= MIN_THREADS and 2 * highest >= n_threads else "global"


def author_kinds(sources: Iterable[Sequence[Thread]], authors: AuthorIds) -> list[Authors]:
    """Return for each thread of some sources what its author ids are: as given, or judged source by source."""
    return [
        kind for threads in sources for kind in [authors_are(threads) if authors == "auto" else authors] * len(threads)
    ]


def components(
    threads: Sequence[Thread],
    authors: AuthorIds | Sequence[Authors] = "auto",
    near: Sequence[Pair] = (),
) -> NDArray[np.int64]:
    """Return the component of each thread in the graph of threads, persons and authors, shape (n_threads,).

    Parameters
    ----------
    threads : sequence of Thread
    authors : {"auto", "global", "thread"} or a sequence of the last two, length n_threads
        Whether threads with an author id in common are linked; "auto" asks `authors_are`.
    near : sequence of Pair
        Links between threads, as from `near_duplicates`.

    Examples
    --------
    >>> from grooming_flag import Message, Thread
    >>> said = [Message("left", "tea?"), Message("right", "gladly")]
    >>> components([Thread("t1", said[:1]), Thread("t2", said), Thread("t3", [Message("x", "hi")])]).tolist()
    [0, 0, 1]
    """
    if isinstance(authors, str):
        authors = [authors_are(threads) if authors == "auto" else authors] * len(threads)
    nodes: dict[tuple[str, str], int] = {}
    links = [(pair.i, pair.j) for pair in near]
    for i, (thread, ids) in enumerate(zip(threads, authors, strict=True)):
        shared = {("author", message.author) for message in thread.messages} if ids == "global" else set()
        if thread.person:
            shared.add(("person", thread.person))
        links += [(i, len(threads) + nodes.setdefault(node, len(nodes))) for node in shared]
    rows, columns = np.array(links, dtype=np.int64).reshape(-1, 2).T
    size = len(threads) + len(nodes)
    graph = coo_array((np.ones(len(links), dtype=bool), (rows, columns)), shape=(size, size))
    _, found = connected_components(graph, directed=False)
    groups: NDArray[np.int64] = found[: len(threads)].astype(np.int64)
    return groups


def folds(
    threads: Sequence[Thread],
    n_folds: int,
    seed: int = 0,
    *,
    groups: NDArray[np.int64] | None = None,
    sources: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Return the fold of each thread, shape (n_threads,), 0 to n_folds - 1; no group is in two folds.

    Groups are dealt out largest first, each to the fold that has least of what is in it: the fold in which the sum of
    squares, over labels, of the shares that the folds have of a label grows least. On one huge group and many single
    threads that balances as well as scikit-learn's StratifiedGroupKFold, and unlike it depends neither on the order
    of the threads nor, if `sources` are given, on threads of other sources that are not linked to them.

    Parameters
    ----------
    threads : sequence of Thread
        With labels, and an id each.
    n_folds : int
        At least 2.
    seed : int
        Decides between folds that are equally good.
    groups : ndarray of int, shape (n_threads,), optional
        What must stay together; by default `components`, near-duplicates linked.
    sources : sequence of str, length n_threads, optional
        The file of each thread: balances the labels of each source by itself.

    Raises
    ------
    DataError
        If a thread has no label, or there would be a fold without threads of both labels.
    """
    labels = labels_of(threads).tolist()
    if set(labels) != {0, 1}:
        raise DataError(f"the threads have labels {sorted(set(labels))}; both 0 and 1 are needed")
    if groups is None:
        groups = components(threads, near=near_duplicates(threads))
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < n_folds:
        raise DataError(f"{n_folds} folds of {len(threads)} threads that form {len(names)} groups: {_mend}")
    strata = list(zip(sources or [""] * len(threads), labels, strict=True))
    numbers = {stratum: k for k, stratum in enumerate(sorted(set(strata)))}
    counts = np.zeros((len(names), len(numbers)))
    np.add.at(counts, (group, np.array([numbers[stratum] for stratum in strata])), 1.0)
    chance = np.full(len(names), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(chance, group, np.array([_digest(thread.thread_id, seed) for thread in threads], dtype=np.uint64))
    fold = _deal(counts / counts.sum(axis=0), chance, n_folds)[group]
    for label in (0, 1):
        has_label = np.array(labels) == label
        lacking = np.setdiff1d(np.arange(n_folds), fold[has_label])
        if len(lacking):
            where = f"{len(np.unique(group[has_label]))} groups"
            raise DataError(f"fold {lacking[0] + 1} has no thread of label {label}; those form {where}: {_mend}")
    return fold


def near_duplicates(threads: Sequence[Thread], min_similarity: float = 0.8) -> list[Pair]:
    """Return the pairs of threads that are nearly the same text, in order.

    The similarity of two threads is the Jaccard index of their sets of shingles (runs of five folded words, whoever
    wrote them: Broder 1997). Threads of fewer than 20 distinct shingles are left out, since short ones repeat in
    ordinary life. A thread that is a small part of another is not similar to it.

    The search is exact: sort the shingles of a thread rarest first; if n of them are in the set, two sets with an
    index of t or more have a shingle in common among the first n - ceil(t n) + 1 (the prefix filter of Chaudhuri,
    Ganti and Kaushik 2006). Conversations hardly share runs of five words, so that few threads have such a shingle at
    all, and the search is as quick as MinHash with banding, which may miss pairs. Where more than 21 threads share
    one of these shingles, each is compared with the 20 next in an order by content. So time stays linear and a crowd
    of copies hangs together, but not every pair of it is listed.

    Parameters
    ----------
    threads : sequence of Thread
    min_similarity : float
        Above 0, at most 1.
    """
    if not 0.0 < min_similarity <= 1.0:
        raise DataError(f"min_similarity is {min_similarity!r}; use a number above 0 and at most 1")
    hash_of = _WordHashes()
    shingles = [_shingles(thread, hash_of) for thread in threads]
    places = [i for i, found in enumerate(shingles) if len(found) >= MIN_SHINGLES]
    sets = [shingles[i] for i in places]
    pairs = []
    for a, b in _candidates(sets, min_similarity):
        common = len(np.intersect1d(sets[a], sets[b], assume_unique=True))
        similarity = common / (len(sets[a]) + len(sets[b]) - common)
        if similarity >= min_similarity:
            pairs.append(Pair(places[a], places[b], similarity))
    return pairs


def labels_of(threads: Sequence[Thread], source: str = "") -> NDArray[np.int64]:
    """Return the label of each thread, shape (n_threads,).

    Parameters
    ----------
    threads : sequence of Thread
    source : str
        Where they are from, for the error.

    Raises
    ------
    DataError
        If a thread has none.
    """
    for thread in threads:
        if thread.label is None:
            place = f"{source}: " if source else ""
            raise DataError(f"{place}thread {thread.thread_id} has no label; give it 0 or 1, or leave it out")
    return np.array([thread.label for thread in threads], dtype=np.int64)


def _deal(shares: NDArray[np.float64], chance: NDArray[np.uint64], n_folds: int) -> NDArray[np.int64]:
    """Return the fold of each group, given its share of each stratum, shape (n_groups, n_strata)."""
    held = np.zeros((n_folds, shares.shape[1]))
    fold = np.empty(len(shares), dtype=np.int64)
    for g in np.lexsort((chance, -(shares**2).sum(axis=1))):
        growth = held @ shares[g]  # half that of the sum of squares, but for what is the same in every fold
        best = np.flatnonzero(growth <= growth.min() + 1e-12)
        fold[g] = best[int(chance[g]) % len(best)]
        held[fold[g]] += shares[g]
    return fold


def _digest(text: str, seed: int = 0) -> int:
    salt = seed.to_bytes(16, "little")
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, salt=salt).digest(), "little")


class _WordHashes(dict[str, int]):
    """The hash of each word, computed when it is first met."""

    def __missing__(self, word: str) -> int:
        self[word] = found = _digest(word)
        return found


def _shingles(thread: Thread, hash_of: _WordHashes) -> NDArray[np.uint64]:
    """Return the hashes of a thread's shingles, ascending and each once."""
    hashes = np.array([hash_of[word] for word in folded_words(thread)], dtype=np.uint64)
    n = max(len(hashes) - SHINGLE + 1, 0)
    sums = np.zeros(n, dtype=np.uint64)
    for k in range(SHINGLE):
        sums = sums * MULTIPLIER + hashes[k : k + n]
    return np.unique(sums)


def _candidates(sets: Sequence[NDArray[np.uint64]], min_similarity: float) -> NDArray[np.int64]:
    """Return the pairs of sets that have an element of their prefixes in common, shape (n_pairs, 2), sorted."""
    sizes = np.array([len(found) for found in sets], dtype=np.int64)
    prefix = sizes - np.ceil(min_similarity * sizes - 1e-9).astype(np.int64) + 1
    elements, owners = np.concatenate([*sets, np.empty(0, np.uint64)]), np.repeat(np.arange(len(sets)), sizes)
    order = np.argsort(elements)
    repeats = elements[order[1:]] == elements[order[:-1]]
    is_common = np.zeros(len(elements), dtype=bool)
    is_common[order[1:][repeats]] = is_common[order[:-1][repeats]] = True
    n_rare = sizes - np.bincount(owners[is_common], minlength=len(sets))  # elements that no other set has
    kept = is_common & (n_rare < prefix)[owners]
    elements, owners = elements[kept], owners[kept]
    _, element, counts = np.unique(elements, return_inverse=True, return_counts=True)
    order = np.lexsort((elements, counts[element], owners))
    element, owners = element[order], owners[order]
    rank = n_rare[owners] + np.arange(len(owners)) - np.searchsorted(owners, owners)
    element, owners = element[rank < prefix[owners]], owners[rank < prefix[owners]]
    content = np.array([np.bitwise_xor.reduce(found) for found in sets], dtype=np.uint64)
    order = np.lexsort((owners, content[owners], element))
    element, owners = element[order], owners[order]
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for gap in range(1, CROWD + 1):
        same = element[gap:] == element[:-gap]
        pairs.append(np.column_stack([owners[:-gap][same], owners[gap:][same]]))
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
