# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What a run of messages has come to, for adding the next one; one source that runs compiled and interpreted."""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from grooming_flag import _cython as cython  # type: ignore[no-redef]

LEAST = cython.declare(cython.const[cython.int], 8)  # the least table has 2**8 places
SPREAD = cython.declare(cython.const[cython.uint], 0x9E3779B1)  # 2**32 over the golden ratio, odd
M32 = cython.declare(cython.const[cython.uint], 0xFFFFFFFF)

compiled = cython.compiled


@cython.final
@cython.cclass
class Tally:
    """Which weighted buckets each author of a run of messages has, and what these add up to. No text.

    An author's bucket is an entry of 32 bits, ``author << bits | bucket``, kept with 1 added in a hash table with open
    addressing. Its place depends on the bucket alone, so that one walk tells both whether the author has it and
    whether anyone has.

    Parameters
    ----------
    bits : int
        There are ``2**bits`` buckets, and at most ``2**(32 - bits) - 1`` authors.
    """

    _table: cython.uint[::1]
    _n_entries: cython.Py_ssize_t
    _bits: cython.int
    _size: cython.int  # the table has 2**_size places
    _risk: cython.longlong
    _amount: cython.Py_ssize_t
    _own: list

    def __init__(self, bits: cython.int):
        self._bits = bits
        self._size = LEAST
        self._table = memoryview(bytearray(4 << LEAST)).cast("I")
        self._n_entries = 0
        self._risk = 0
        self._amount = 0
        self._own = []

    def __len__(self):
        return self._n_entries

    def sums(self) -> tuple:
        """Return the sum of risk weights over distinct buckets, how many these are, and each author's attribution."""
        return self._risk, self._amount, self._own[:]

    def add(self, author: cython.Py_ssize_t, found, n: cython.Py_ssize_t) -> None:
        """Add what a message has.

        Parameters
        ----------
        author : int
            Number of the author in the run: one that is there, or the next.
        found : buffer of int32
            Bucket and weight (attribution << 16 | risk & 0xFFFF), one after the other, of distinct buckets.
        n : int
            How many buckets.
        """
        view: cython.int[::1] = found
        i: cython.Py_ssize_t
        own: cython.longlong = 0
        if author == len(self._own):
            self._own.append(0)
        if not 0 <= author < len(self._own):
            raise IndexError("there is no such author")
        while 4 * (self._n_entries + n) > 3 << self._size:
            self._grow()
        for i in range(n):
            own += self._add(author, view[2 * i], view[2 * i + 1])
        self._own[author] += own

    @cython.cfunc
    @cython.exceptval(check=False)
    def _add(self, author: cython.uint, bucket: cython.uint, weight: cython.int) -> cython.longlong:
        """Add a bucket of an author; return the attribution weight if it is new to him."""
        entry: cython.uint = (author << self._bits | bucket) + 1
        buckets: cython.uint = (1 << self._bits) - 1
        mask: cython.uint = (1 << self._size) - 1
        place: cython.uint = (bucket * SPREAD & M32) >> (32 - self._size)
        is_new: cython.bint = True
        while self._table[place] != 0:
            if self._table[place] == entry:
                return 0
            if ((self._table[place] - 1) & buckets) == bucket:
                is_new = False
            place = (place + 1) & mask
        self._table[place] = entry
        self._n_entries += 1
        if is_new:
            self._amount += 1
            self._risk += ((weight & 0xFFFF) ^ 0x8000) - 0x8000  # the lower half, with its sign
        return weight >> 16

    @cython.cfunc
    def _grow(self):
        old: cython.uint[::1] = self._table
        buckets: cython.uint = (1 << self._bits) - 1
        place: cython.uint
        i: cython.Py_ssize_t
        self._table = memoryview(bytearray(8 << self._size)).cast("I")  # may fail, and then nothing is changed
        self._size += 1
        for i in range(1 << (self._size - 1)):
            if old[i] != 0:
                place = (((old[i] - 1) & buckets) * SPREAD & M32) >> (32 - self._size)
                while self._table[place] != 0:
                    place = (place + 1) & ((1 << self._size) - 1)
                self._table[place] = old[i]

    def copy_entries(self, out) -> None:
        """Write all entries to a buffer of uint32, in no order."""
        view: cython.uint[::1] = out
        i: cython.Py_ssize_t
        k: cython.Py_ssize_t = 0
        for i in range(1 << self._size):
            if self._table[i] != 0:
                view[k] = self._table[i] - 1
                k += 1

    def restore(self, data: bytes, n_authors: cython.Py_ssize_t, weights) -> bool:
        """Add what `pack` made of the entries of as many authors; return whether it can be that.

        Parameters
        ----------
        data : bytes
        n_authors : int
        weights : buffer of int32, length ``2**bits``
        """
        weights_view: cython.int[::1] = weights
        bytes_view: cython.const[cython.uchar][::1] = data
        i: cython.Py_ssize_t
        part: cython.ulonglong
        shift: cython.int = 0
        step: cython.ulonglong = 0
        entry: cython.ulonglong = 0
        bucket: cython.uint
        author: cython.Py_ssize_t
        if n_authors >= 1 << (32 - self._bits):
            return False
        self._own = [0] * n_authors
        for i in range(len(data)):
            part = bytes_view[i]
            if shift > 28:
                return False
            step |= (part & 0x7F) << shift
            shift += 7
            if part >= 0x80:
                continue
            entry += step
            if step == 0 or (entry - 1) >> self._bits >= n_authors:
                return False
            author = (entry - 1) >> self._bits
            bucket = (entry - 1) & ((1 << self._bits) - 1)
            if weights_view[bucket] == 0:
                return False
            step = shift = 0
            if 4 * (self._n_entries + 1) > 3 << self._size:
                self._grow()
            self._own[author] += self._add(author, bucket, weights_view[bucket])
        return shift == 0


def pack(entries) -> bytes:
    """Return ascending entries, a buffer of uint32, as steps from one to the next: seven bits a byte, the lowest first.

    The first step is from -1.
    """
    view: cython.uint[::1] = entries
    n: cython.Py_ssize_t = len(entries)
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t = 0
    step: cython.ulonglong
    before: cython.ulonglong = 0
    out = bytearray(5 * n)
    out_view: cython.uchar[::1] = out
    for i in range(n):
        step = view[i]
        step += 1 - before
        before += step
        while step >= 0x80:
            out_view[k] = step & 0x7F | 0x80
            step >>= 7
            k += 1
        out_view[k] = step
        k += 1
    return bytes(out[:k])
