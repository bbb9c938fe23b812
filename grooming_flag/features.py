"""Threads to features: packed buffers for scoring, sparse rows for training, both through one kernel."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from grooming_flag import _kernel
from grooming_flag.errors import DataError
from grooming_flag.records import Message, Thread, ThreadColumns
from grooming_flag.text import FOLD_VERSION, encode, fold_table

if TYPE_CHECKING:  # kept out of the cold start
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

SUMS, POOLED, OWN, COUNTS = range(4)  # what the kernel is to write
_NOTHING = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Packed:
    """Segments as the kernel wants them; a slot is one author (or one message) in one segment.

    Attributes
    ----------
    text : buffer of uint8
        All messages end to end, UTF-8.
    offsets : ndarray of int64, shape (n_messages + 1,)
    slots : ndarray of int32, shape (n_messages,)
        Slot of each message.
    segments : ndarray of int32, shape (n_slots,)
        Segment of each slot, ascending.
    authors : list of str, length n_slots
    n_segments : int
    """

    text: bytes | bytearray
    offsets: NDArray[np.int64]
    slots: NDArray[np.int32]
    segments: NDArray[np.int32]
    authors: list[str]
    n_segments: int


def pack_by_author(segments: Iterable[Sequence[Message]]) -> Packed:
    """Pack segments with a slot for each author of each segment, in order of first appearance."""
    runs = list(map(tuple, segments))  # whose lengths stay what they are
    slots = np.empty(sum(map(len, runs)), dtype=np.int32)
    texts: list[str] = []
    owners: list[int] = []
    authors = _kernel.number_authors(runs, slots, texts, owners)
    data, offsets = encode(texts)
    return Packed(data, offsets, slots, np.array(owners, np.int32), authors, len(runs))


def pack_columns(columns: ThreadColumns, segments: Iterable[Sequence[tuple[int, int]]]) -> Packed:
    """Pack as `pack_by_author` does, given first and one-past-last message of the segments of each thread."""
    slots = columns.codes.copy()
    last = len(columns.thread_ids) - 1
    authors: list[str] = []
    sizes: list[int] = []  # slots of each segment
    bases: list[int] = []  # what makes places among the authors of a thread slots
    first = 0
    for i, (names, length, of_thread) in enumerate(zip(columns.authors, columns.lengths, segments, strict=True)):
        is_part = (i == 0 and columns.is_rest) or (i == last and columns.goes_on)
        if len(of_thread) == 1 and not is_part:
            bases.append(len(authors))
            authors += names
            sizes.append(len(names))
        else:  # in a segment authors may appear in another order, or not at all
            bases.append(0)
            for start, stop in of_thread:
                own = slots[first + start : first + stop]
                order = list(dict.fromkeys(own.tolist()))
                place = np.empty(len(names), dtype=np.int32)
                place[order] = np.arange(len(authors), len(authors) + len(order))
                own[:] = place[own]
                authors += [names[code] for code in order]
                sizes.append(len(order))
        first += length
    slots += np.repeat(np.array(bases, dtype=np.int32), columns.lengths)
    owners = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return Packed(columns.text, columns.offsets, slots, owners, authors, len(sizes))


def pack_by_message(segments: Iterable[Sequence[Message]]) -> Packed:
    """Pack segments with a slot for each message, in order."""
    runs = list(map(tuple, segments))
    messages = [message for run in runs for message in run]
    data, offsets = encode([message.text for message in messages])
    slots = np.arange(len(messages), dtype=np.int32)
    owners = np.repeat(np.arange(len(runs), dtype=np.int32), [len(run) for run in runs])
    return Packed(data, offsets, slots, owners, [message.author for message in messages], len(runs))


@dataclass(frozen=True, slots=True)
class Sums:
    """What a scan found, in units of a weight's last bit.

    Attributes
    ----------
    pooled : ndarray of int64, shape (n_segments,)
        Risk weights, over the distinct buckets of each segment.
    own : ndarray of int64, shape (n_slots,)
        Attribution weights, over the distinct buckets of each slot.
    new : ndarray of int32, shape (n_slots,)
        Buckets of a slot that no earlier slot of its segment has.
    distinct : ndarray of int32, shape (n_slots,)
        Distinct buckets of a slot; not counted where weights are summed.
    """

    pooled: NDArray[np.int64]
    own: NDArray[np.int64]
    new: NDArray[np.int32]
    distinct: NDArray[np.int32]


class FeatureExtractor:
    """Presence of hashed words, word pairs and character n-grams; a stateless scikit-learn transformer.

    Parameters
    ----------
    n_features : int, default=2**17
        Number of buckets; a power of two from 2**8 to 2**24.
    word_ngrams : {1, 2}, default=2
        Words, or words and pairs of neighbouring words.
    char_ngrams : tuple of two ints or None, default=(4, 4)
        Shortest and longest run of characters within a word and the spaces around it.
    seed : int, default=0
        Any number from 0 to 2**64 - 1; another seed folds features to other buckets.
    key : str or None, default=None
        A secret of up to 64 bytes. Without it the buckets of a keyed model cannot be computed.

    Examples
    --------
    >>> from grooming_flag import FeatureExtractor, Message, Thread
    >>> rows = FeatureExtractor().transform([Thread("t1", [Message("a", "hi hi"), Message("b", "Hi!")])])
    >>> rows.shape, rows.nnz
    ((1, 131072), 2)
    """

    def __init__(
        self,
        n_features: int = 2**17,
        word_ngrams: int = 2,
        char_ngrams: tuple[int, int] | None = (4, 4),
        seed: int = 0,
        key: str | None = None,
    ) -> None:
        self.n_features = n_features
        self.word_ngrams = word_ngrams
        self.char_ngrams = char_ngrams
        self.seed = seed
        self.key = key

    def scanner(self, weights: NDArray[np.int16] | None = None) -> Scanner:
        """Return a scanner for these settings and weights, shape (n_features, 2): risk and attribution."""
        bits = int(self.n_features).bit_length() - 1
        low, high = self.char_ngrams or (0, 0)
        if self.n_features != 1 << bits or not 8 <= bits <= 24:
            raise DataError(f"n_features is {self.n_features!r}; use a power of two from 2**8 to 2**24")
        if not 0 <= self.seed < 2**64:
            raise DataError(f"the seed is {self.seed!r}; use a number from 0 to 2**64 - 1")
        if self.word_ngrams not in (1, 2):
            raise DataError(f"word_ngrams is {self.word_ngrams!r}; use 1 or 2")
        if self.char_ngrams and not 2 <= low <= high <= 16:
            raise DataError(f"char_ngrams is {self.char_ngrams!r}; use two numbers from 2 to 16, the smaller first")
        if weights is not None and (weights.shape != (self.n_features, 2) or weights.dtype != np.int16):
            raise DataError(f"weights are {weights.dtype} {weights.shape}; need int16 ({self.n_features}, 2)")
        seeds = [self._seed_of(family) for family in ("word", "pair", "character")]
        return Scanner(bits, self.word_ngrams, low, high, self._seed_of("base") | 1, seeds, weights)

    def digest(self) -> bytes:
        """Return sixteen bytes that tell by what features, and by which of their hashes, text is read."""
        seeds = [self._seed_of(family) for family in ("word", "pair", "character", "base")]
        settings = (FOLD_VERSION, self.n_features, self.word_ngrams, self.char_ngrams, seeds)
        return hashlib.blake2b(repr(settings).encode(), digest_size=16).digest()

    def _seed_of(self, family: str) -> int:
        key = (self.key or "").encode()
        digest = hashlib.blake2b(family.encode(), digest_size=8, key=key, salt=self.seed.to_bytes(16, "little"))
        return int.from_bytes(digest.digest(), "little")

    def rows(self, packed: Packed, by: int = POOLED) -> csr_matrix:
        """Return the distinct buckets of each segment (`POOLED`) or of each slot (`OWN`) as sparse rows of ones."""
        return self.scanner().rows(packed, by)

    def fit(self, X: Sequence[Thread], y: object = None) -> Self:
        """Do nothing but check the parameters: the extractor learns nothing."""
        self.scanner()
        return self

    def transform(self, X: Sequence[Thread]) -> csr_matrix:
        """Return one row a thread, its text pooled over all messages.

        Parameters
        ----------
        X : sequence of Thread, length n_threads

        Returns
        -------
        csr_matrix of float64, shape (n_threads, n_features)
            1.0 where a feature of the bucket occurs in the thread.
        """
        return self.rows(pack_by_author(thread.messages for thread in X))

    def fit_transform(self, X: Sequence[Thread], y: object = None) -> csr_matrix:
        """Return `transform(X)`."""
        return self.fit(X).transform(X)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of all buckets, shape (n_features,)."""
        return np.array([self.feature_name(bucket) for bucket in range(self.n_features)], dtype=object)

    def feature_name(self, bucket: int) -> str:
        """Return the name of a bucket: its number, in hexadecimal."""
        return f"b{bucket:05x}"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name."""
        return {name: getattr(self, name) for name in ("n_features", "word_ngrams", "char_ngrams", "seed", "key")}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name and return self."""
        for name, value in params.items():
            if name not in self.get_params():
                raise DataError(f"FeatureExtractor has no parameter {name!r}; it has {', '.join(self.get_params())}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Describe the extractor to scikit-learn, the only caller, which is therefore loaded."""
        utils = sys.modules["sklearn.utils"]
        return utils.Tags(
            estimator_type=None,
            target_tags=utils.TargetTags(required=False),
            transformer_tags=utils.TransformerTags(),
            input_tags=utils.InputTags(two_d_array=False),
            requires_fit=False,
        )

    def __repr__(self) -> str:
        params = {**self.get_params(), "key": "..." if self.key else None}
        return f"FeatureExtractor({', '.join(f'{name}={value!r}' for name, value in params.items())})"


class Scanner:
    """A kernel for every thread of execution that asks, since a kernel has scratch memory of its own.

    Attributes
    ----------
    packed_weights : buffer of int32, length n_features
        For each bucket ``attribution << 16 | risk & 0xFFFF``; empty without weights.
    """

    def __init__(
        self,
        bits: int,
        word_ngrams: int,
        low: int,
        high: int,
        base: int,
        seeds: list[int],
        weights: NDArray[np.int16] | None,
    ) -> None:
        self.n_features = 1 << bits
        self._has_weights = weights is not None
        flat = np.empty(0, dtype=np.int32)
        if weights is not None:
            flat = weights[:, 1].astype(np.int32) << 16 | weights[:, 0].view(np.uint16)
        (self.packed_weights,) = _views(flat)
        self._arguments = (*_views(*fold_table()), bits, word_ngrams, low, high, base, seeds, self.packed_weights)
        self._local = threading.local()

    def find(self, text: str) -> tuple[memoryview, int]:
        """Return the distinct weighted buckets of one message and how many there are.

        Each is followed by its packed weight. They are there until this thread of execution asks again.
        """
        try:
            kernel, found = self._local.kernel, self._local.found
        except AttributeError:
            kernel = self._kernel()
            found = self._local.found = memoryview(bytearray(8 * self.n_features)).cast("i")
        return found, kernel.find(text.encode("utf-8", "surrogatepass"), found)

    def sums(self, packed: Packed) -> Sums:
        """Return the sums and counts of packed segments; the scanner must have weights."""
        if not self._has_weights:
            raise DataError("the scanner has no weights to sum")
        return self._scan(packed, SUMS, _NOTHING, _NOTHING)

    def counts(self, packed: Packed) -> Sums:
        """Return the counts of all buckets, with a weight or without; the sums are 0."""
        return self._scan(packed, COUNTS, _NOTHING, _NOTHING)

    def emit(
        self, packed: Packed, by: int, with_spans: bool = True
    ) -> tuple[Sums, NDArray[np.int32], NDArray[np.int32]]:
        """Return counts, the buckets (`POOLED`: new to their segment, `OWN`: distinct in their slot) and spans."""
        sums = self.counts(packed)
        total = int((sums.new if by == POOLED else sums.distinct).sum())
        indices, spans = np.empty(total, np.int32), np.empty(2 * total if with_spans else 0, np.int32)
        self._scan(packed, by, indices, spans)
        return sums, indices, spans.reshape(-1, 2)

    def rows(self, packed: Packed, by: int) -> csr_matrix:
        """See `FeatureExtractor.rows`."""
        from scipy.sparse import csr_matrix

        sums, indices, _ = self.emit(packed, by, with_spans=False)
        ends = np.cumsum(sums.new if by == POOLED else sums.distinct, dtype=np.int64)
        if by == POOLED:
            ends = np.append(0, ends)[np.searchsorted(packed.segments, np.arange(packed.n_segments), side="right")]
        indptr = np.append(0, ends)
        shape = (len(ends), self.n_features)
        rows = csr_matrix((np.ones(len(indices)), indices, indptr), shape=shape)
        rows.sort_indices()
        return rows

    def _kernel(self) -> Any:
        try:
            return self._local.kernel
        except AttributeError:
            self._local.kernel = _kernel.Scanner(*self._arguments)  # type: ignore[no-untyped-call]
            return self._local.kernel

    def _scan(self, packed: Packed, by: int, indices: NDArray[np.int32], spans: NDArray[np.int32]) -> Sums:
        kernel = self._kernel()
        n_slots = len(packed.segments)
        order = np.empty(len(packed.slots), dtype=np.int32)
        pooled, own = np.zeros(packed.n_segments, dtype=np.int64), np.zeros(n_slots, dtype=np.int64)
        new, distinct = np.zeros(n_slots, dtype=np.int32), np.zeros(n_slots, dtype=np.int32)
        arrays = (packed.offsets, order, packed.slots, packed.segments, pooled, own, new, distinct)
        kernel.scan(packed.text, *_views(*arrays), by, *_views(indices, spans))
        return Sums(pooled, own, new, distinct)


def _views(*arrays: NDArray[Any]) -> Sequence[NDArray[Any] | memoryview]:
    """Return what the interpreted kernel reads Python numbers from, rather than NumPy's, which overflow."""
    return arrays if _kernel.compiled else [memoryview(array) for array in arrays]  # type: ignore[arg-type]
