"""What a model remembers of the threads it was trained on: hashes, so that evaluation can refuse to judge on them.

The folding here is that of the standard library (compatibility forms and case), not that of the features: identity
wants digits kept and look-alikes apart. Unicode never changes either for a character once assigned, so that hashes do
not depend on the version of Python unless a thread has characters which that version does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, Self
from unicodedata import normalize

import numpy as np

from grooming_flag.errors import DataError
from grooming_flag.records import Thread

if TYPE_CHECKING:  # kept out of the cold start
    from numpy.typing import NDArray

HASH_BYTES = 5
MIN_WORDS = 8

_word = re.compile(r"[^\W_]+")
_apostrophes = str.maketrans("", "", "'\u2019")  # some editions of a text have them and some have not


def folded_words(thread: Thread) -> list[str]:
    """Return the words of a thread in order, whatever their case, punctuation and message.

    Examples
    --------
    >>> from grooming_flag import Message, Thread
    >>> folded_words(Thread("t1", [Message("a", "Don't  be LATE!"), Message("b", "ok -- 7pm")]))
    ['dont', 'be', 'late', 'ok', '7pm']
    """
    text = "\n".join(message.text for message in thread.messages)
    return _word.findall(normalize("NFKC", text).casefold().translate(_apostrophes))


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprints:
    """Hashes of threads and of the persons in them.

    A thread's fingerprint is a hash of its letters and digits from the first message to the last. It finds a thread
    again under another id, with other author names, case, punctuation, white space, times or message bounds. It does
    not find one that lost, gained or swapped a single word, a part of a thread, or a thread of fewer than `MIN_WORDS`
    words, which leaves none because ordinary short texts repeat; for those compare the files themselves
    (`grooming_flag.evaluation.splits.near_duplicates`). A person's fingerprint is a hash of the id, and finds the
    person only where the same id is used.

    A hash has 40 bits, so that a thread that was never seen passes for one of n with probability n / 2**40: about
    3e-8 for n = 36,000. From the hash of a whole thread nobody can tell what was said in it; whoever holds the thread
    can tell that it is among them, which is the purpose. The same goes for ids, so let them be pseudonyms: an id that
    can be guessed can be checked.

    Parameters
    ----------
    threads, persons : ndarray of uint64, shape (n,)
        Hashes, ascending, each once, below 2**40.

    Raises
    ------
    DataError
        If they are not that.

    Examples
    --------
    >>> from grooming_flag import Message, Thread
    >>> known = Fingerprints.of([Thread("t1", [Message("a", "see you at the match tomorrow at seven then")])])
    >>> known.seen(Thread("t2", [Message("x", "See you at the match"), Message("x", "tomorrow, at seven then!")]))
    'thread'
    """

    threads: NDArray[np.uint64]
    persons: NDArray[np.uint64]

    def __post_init__(self) -> None:
        for hashes in (self.threads, self.persons):
            if hashes.dtype != np.uint64 or hashes.ndim != 1 or (hashes[1:] <= hashes[:-1]).any():
                raise DataError("fingerprints are not ascending numbers of 64 bits; make them with Fingerprints.of")
            hashes.setflags(write=False)

    @classmethod
    def of(cls, threads: Iterable[Thread]) -> Self:
        """Return the fingerprints of threads; their order does not matter."""
        contents: set[int] = set()
        persons: set[int] = set()
        for thread in threads:
            if (content := _of_words(thread)) is not None:
                contents.add(content)
            if (person := _of_person(thread)) is not None:
                persons.add(person)
        return cls(*(np.array(sorted(hashes), dtype=np.uint64) for hashes in (contents, persons)))

    def seen(self, thread: Thread) -> Literal["thread", "person"] | None:
        """Say by what a thread is known: itself, else its person, else None."""
        if _is_among(self.threads, _of_words(thread)):
            return "thread"
        return "person" if _is_among(self.persons, _of_person(thread)) else None

    def __repr__(self) -> str:
        return f"Fingerprints({len(self.threads)} threads, {len(self.persons)} persons)"


def _of_words(thread: Thread) -> int | None:
    words = folded_words(thread)
    return _hash("".join(words)) if len(words) >= MIN_WORDS else None


def _of_person(thread: Thread) -> int | None:
    return _hash(thread.person) if thread.person else None


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest(), "little")


def _is_among(known: NDArray[np.uint64], value: int | None) -> bool:
    if value is None:
        return False
    place = int(np.searchsorted(known, np.uint64(value)))
    return place < len(known) and int(known[place]) == value
