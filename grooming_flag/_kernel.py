# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The hot loop: packed UTF-8 text in, sums of weights (or feature indices) out, without the GIL.

One source runs compiled (Cython, pure-Python mode) and interpreted. It is THE definition of the features:

* Each code point of a message is folded by the table of `grooming_flag.text`. White space ends a chunk. Of three or
  more equal letters or digits in a row two remain in a chunk, and what follows its `MAX_CHUNK`-th remaining code
  point is a chunk of its own.
* A chunk is masked, that is, becomes one word: `H` (handle) if it starts with ``@`` and a letter or digit; else `U`
  (URL) if it starts with ``ww.`` (what remains of ``www.``) or contains ``://``; else `E` (e-mail address) if it has
  an ``@`` that is not its first code point and later a ``.`` before a letter or digit. Further chunks up to white
  space are then ignored.
* Other chunks split into words at whatever is neither letter nor digit, and a longer word every `MAX_WORD`.
* The features of a message are its words, its pairs of neighbouring words, and the character n-grams of each
  word with a space at both ends (the whole of it aside, which the word itself already says).
* The code points ``c`` of an n-gram hash to the polynomial ``sum(c[i] * P**(n - 1 - i))`` modulo 2**64, a pair of
  words to ``hash(first) * P**(MAX_WORD + 1) + hash(second)``. A feature falls in the bucket
  ``(g ^ g >> 32) * FINISHER % 2**64 >> 64 - bits`` with ``g = hash ^ seed of the family``.
* A bucket counts once for a slot (`own`) and once for a segment (`pooled`), however often it occurs.

A slot is one author in one segment, or one message where evidence is wanted. Slots are scanned in ascending order, so
one array with the last slot that saw each bucket answers both questions at once: new to this slot? new to this
segment? Weights are integers, so sums are exact in any order.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from grooming_flag import _cython as cython  # type: ignore[no-redef]

# the least entry of the folding table of each kind (those of deleted code points are less)
SPACE = cython.declare(cython.uint, 1 << 24)
PUNCTUATION = cython.declare(cython.uint, 2 << 24)
LETTER = cython.declare(cython.uint, 3 << 24)  # and digits
EXPAND = cython.declare(cython.uint, 5 << 24)
CODEPOINT = cython.declare(cython.uint, 0xFFFFFF)

MAX_CHUNK = cython.declare(cython.int, 256)
MAX_WORD = cython.declare(cython.int, 32)
CACHE_BITS = cython.declare(cython.int, 11)
CACHE = cython.declare(cython.int, 2048)

SEPARATOR = cython.declare(cython.uint, 0x80000000)  # marks what is no part of a word
AT = cython.declare(cython.uint, 0x80000040)
COLON = cython.declare(cython.uint, 0x8000003A)
SLASH = cython.declare(cython.uint, 0x8000002F)
DOT = cython.declare(cython.uint, 0x8000002E)
# what a scan writes
SUMS = cython.declare(cython.int, 0)
POOLED = cython.declare(cython.int, 1)
OWN = cython.declare(cython.int, 2)
COUNTS = cython.declare(cython.int, 3)

LETTER_W = cython.declare(cython.uint, 0x77)

M64 = cython.declare(cython.ulonglong, 0xFFFFFFFFFFFFFFFF)
FINISHER = cython.declare(cython.ulonglong, 0xD6E8FEB86659FD93)

compiled = cython.compiled


@cython.final
@cython.cclass
class Scanner:
    """The feature definition with one set of tables, weights and scratch memory. Not thread-safe: one per thread.

    Parameters
    ----------
    pages, blocks, pool : buffers of uint16, uint32, uint32
        The folding table of `grooming_flag.text`.
    bits : int
        The number of buckets is ``2**bits``.
    word_ngrams : int
        1 for words, 2 for words and pairs.
    char_low, char_high : int
        Shortest (at least 2) and longest character n-gram; a `char_high` of 0 means none.
    base, word_seed, pair_seed, char_seed : int
        P, odd, and the seeds of the three feature families, 64 bits each.
    weights : buffer of int16, length ``2 * 2**bits`` or 0
        Weights for risk and attribution, the two of a bucket side by side. Without weights every bucket counts, and
        there are no sums.
    """

    _pages: cython.ushort[::1]
    _blocks: cython.uint[::1]
    _ascii: cython.uint[::1]  # entries of bytes that are whole code points; 0 for other bytes
    _pool: cython.uint[::1]
    _weights: cython.short[::1]
    _shift: cython.int
    _word_ngrams: cython.int
    _char_low: cython.int
    _char_high: cython.int
    _word_seed: cython.ulonglong
    _pair_seed: cython.ulonglong
    _char_seed: cython.ulonglong
    _powers: cython.ulonglong[::1]
    # scratch: the last stamp of each bucket, the words that the slot has seen, the chunk so far, a word's hashes
    _seen: cython.uint[::1]
    _cached: cython.ulonglong[::1]
    _chunk: cython.uint[::1]
    _at: cython.int[::1]
    _prefix: cython.ulonglong[::1]
    # the state of one scan
    _text: cython.const[cython.uchar][::1]
    _base: cython.uint
    _stamp: cython.uint
    _first_stamp: cython.uint
    _risk: cython.longlong
    _attribution: cython.longlong
    _n_new: cython.int
    _n_distinct: cython.int
    _masked: cython.bint
    _has_previous: cython.bint
    _previous_word: cython.ulonglong
    _previous_start: cython.int
    _span_start: cython.int
    _span_stop: cython.int
    _emits: cython.int
    _n_emitted: cython.Py_ssize_t
    _indices: cython.int[::1]
    _spans: cython.int[::1]

    def __init__(self, pages, blocks, pool, bits, word_ngrams, char_low, char_high, base, seeds, weights):
        i: cython.Py_ssize_t
        self._pages = pages
        self._blocks = blocks
        self._ascii = memoryview(bytearray(4 * 256)).cast("I")
        for i in range(128):
            self._ascii[i] = self._blocks[i]
        self._pool = pool
        self._weights = weights
        self._shift = 64 - bits
        self._word_ngrams = word_ngrams
        self._char_low = char_low
        self._char_high = char_high
        self._word_seed, self._pair_seed, self._char_seed = seeds
        self._powers = memoryview(bytearray(8 * (MAX_WORD + 3))).cast("Q")
        self._powers[0] = 1
        for i in range(MAX_WORD + 2):
            self._powers[i + 1] = (self._powers[i] * base) & M64
        self._seen = memoryview(bytearray(4 << bits)).cast("I")
        self._cached = memoryview(bytearray(8 * CACHE)).cast("Q")
        self._chunk = memoryview(bytearray(4 * MAX_CHUNK)).cast("I")
        self._at = memoryview(bytearray(4 * MAX_CHUNK)).cast("i")
        self._prefix = memoryview(bytearray(8 * (MAX_WORD + 3))).cast("Q")
        self._base = 0

    def scan(self, text, offsets, order, slots, segments, pooled, own, new, distinct, emits, indices, spans):
        """Scan packed messages; fill the sums and counts and, if asked, the feature indices.

        Parameters
        ----------
        text : buffer of uint8
            UTF-8 text of all messages, end to end; lone surrogates may be encoded like other code points. What is
            not UTF-8 at all is read without fault, as some text.
        offsets : buffer of int64, length n_messages + 1
            Message ``m`` is ``text[offsets[m]:offsets[m + 1]]``.
        order : buffer of int32, length n_messages
            Scratch, for the messages in the order of their slots.
        slots : buffer of int32, length n_messages
            Slot of each message, in any order; every slot has a message.
        segments : buffer of int32, length n_slots
            Segment of each slot, ascending.
        pooled : buffer of int64, length n_segments, of zeros
            Out: the sum of risk weights over the distinct buckets of each segment.
        own : buffer of int64, length n_slots
            Out: the sum of attribution weights over the distinct buckets of each slot.
        new, distinct : buffers of int32, length n_slots, of zeros
            Out: buckets of the slot that are new to its segment; distinct buckets of the slot. With sums
            only buckets that have a weight are counted.
        emits : {0, 1, 2, 3}
            0 writes sums and counts. Others write counts and to `indices` the buckets new to the segment (1), the
            distinct buckets of each slot (2) or nothing (3).
        indices : buffer of int32
            Out: as many as the counts of an earlier call say.
        spans : buffer of int32, length 2 * len(indices) or 0
            Out: where the words of each feature lie in their message, in code points; of several places the first.
        """
        n_slots: cython.Py_ssize_t = len(segments)
        n_messages: cython.Py_ssize_t = len(slots)
        i: cython.Py_ssize_t
        offsets_view: cython.longlong[::1] = offsets
        order_view: cython.int[::1] = order
        slots_view: cython.int[::1] = slots
        segments_view: cython.int[::1] = segments
        pooled_view: cython.longlong[::1] = pooled
        own_view: cython.longlong[::1] = own
        new_view: cython.int[::1] = new
        distinct_view: cython.int[::1] = distinct
        self._text = text
        self._indices = indices
        self._spans = spans
        self._emits = emits
        self._n_emitted = 0
        if n_slots + 1 >= 0xFFFFFFFF - self._base:
            for i in range(len(self._seen)):
                self._seen[i] = 0
            for i in range(CACHE):
                self._cached[i] = 0
            self._base = 0
        with cython.nogil:
            _sort(slots_view, order_view, distinct_view, n_messages, n_slots)
            i = 0
            while i < n_messages:
                i = self._scan_slot(
                    i, offsets_view, order_view, slots_view, segments_view, n_messages,
                    pooled_view, own_view, new_view, distinct_view,
                )  # fmt: skip
        self._base += n_slots

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _scan_slot(
        self,
        i: cython.Py_ssize_t,
        offsets: cython.longlong[::1],
        order: cython.int[::1],
        slots: cython.int[::1],
        segments: cython.int[::1],
        n_messages: cython.Py_ssize_t,
        pooled: cython.longlong[::1],
        own: cython.longlong[::1],
        new: cython.int[::1],
        distinct: cython.int[::1],
    ) -> cython.Py_ssize_t:
        """Scan the messages of the slot whose first message is the `i`-th in order; return where the next begins."""
        slot: cython.Py_ssize_t = slots[order[i]]
        m: cython.Py_ssize_t
        self._stamp = self._base + slots[order[i]] + 1
        if slot == 0 or segments[slot] != segments[slot - 1]:
            self._first_stamp = self._stamp
        self._risk = 0
        self._attribution = 0
        self._n_new = 0
        self._n_distinct = 0
        while i < n_messages and slots[order[i]] == slot:
            m = order[i]
            self._message(offsets[m], offsets[m + 1])
            i += 1
        pooled[segments[slot]] += self._risk
        own[slot] = self._attribution
        new[slot] = self._n_new
        distinct[slot] = self._n_distinct
        return i

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _message(self, i: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.void:
        """Fold the message and hand on its chunks."""
        codepoint: cython.uint
        code: cython.uint
        size: cython.int
        entry: cython.Py_ssize_t = 0  # next entry of the pool, while one code point folds to several
        end_entry: cython.Py_ssize_t = 0
        n: cython.int = 0
        last: cython.uint = 0
        last_but_one: cython.uint = 0
        separators: cython.int = 0
        position: cython.int = -1
        word: cython.ulonglong = 0
        base: cython.ulonglong = self._powers[1]
        self._masked = False
        self._has_previous = False
        while True:
            if entry < end_entry:
                code = self._pool[entry]
                codepoint = code & CODEPOINT
                entry += 1
            elif i < stop:
                code = self._ascii[self._text[i]]
                while code >= LETTER and n < MAX_CHUNK:  # letters and digits of ASCII, in short
                    codepoint = code & CODEPOINT
                    i += 1
                    position += 1
                    if codepoint != last or codepoint != last_but_one:
                        self._chunk[n] = codepoint
                        self._at[n] = position
                        n += 1
                        word = (word * base + codepoint) & M64
                        last_but_one = last
                        last = codepoint
                    if i == stop:
                        break
                    code = self._ascii[self._text[i]]
                if i == stop:
                    continue
                codepoint = self._text[i]
                i += 1
                position += 1
                if codepoint < 0x80:
                    codepoint = code & CODEPOINT
                else:
                    size = 1 if codepoint < 0xE0 else 2 if codepoint < 0xF0 else 3
                    codepoint &= 0x3F >> size
                    while size > 0 and i < stop and (self._text[i] & 0xC0) == 0x80:
                        codepoint = (codepoint << 6) | (self._text[i] & 0x3F)
                        i += 1
                        size -= 1
                    if size > 0 or codepoint > 0x10FFFF:
                        codepoint = 0xFFFD
                    code = self._blocks[self._pages[codepoint >> 7] * 128 + (codepoint & 127)]
                    if code >= EXPAND:
                        entry = (code & CODEPOINT) + 1
                        end_entry = entry + self._pool[entry - 1]
                        continue
                    if code & CODEPOINT:
                        codepoint = code & CODEPOINT
            else:
                break
            if code < SPACE:
                continue
            if code < PUNCTUATION or n == MAX_CHUNK:
                if n > 0:
                    self._end_chunk(n, word, separators)
                n = 0
                word = 0
                last = 0
                separators = 0
                if code < PUNCTUATION:
                    self._masked = False
                    continue
            if code < LETTER:
                codepoint |= SEPARATOR
                separators |= 2 if codepoint == AT or codepoint == COLON or (codepoint == DOT and n == 2) else 1
            elif codepoint == last and codepoint == last_but_one:
                continue
            self._chunk[n] = codepoint
            self._at[n] = position
            n += 1
            word = (word * base + codepoint) & M64
            last_but_one = last
            last = codepoint
        if n > 0:
            self._end_chunk(n, word, separators)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _end_chunk(self, n: cython.int, word: cython.ulonglong, separators: cython.int) -> cython.void:
        """Split the chunk into words, unless it is masked or is a word, hashed already.

        `separators` is 0 if there are none, and at least 2 if there are any by which a mask is known.
        """
        start: cython.int = 0
        i: cython.int
        mask: cython.uint
        if self._masked:
            return
        if separators == 0 and n <= MAX_WORD:
            self._word(0, n, word, self._at[n - 1] + 1)
            return
        mask = self._mask(n) if separators >= 2 else 0
        if mask != 0:
            self._masked = True
            self._chunk[0] = mask
            self._word(0, 1, mask, self._at[n - 1] + 1)
            return
        word = 0
        for i in range(n + 1):
            if i == n or self._chunk[i] >= SEPARATOR or i - start == MAX_WORD:
                if i > start:
                    self._word(start, i, word, self._at[i - 1] + 1)
                word = 0
                start = i
                if i < n and self._chunk[i] >= SEPARATOR:
                    start = i + 1
                    continue
            if i < n:
                word = (word * self._powers[1] + self._chunk[i]) & M64

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _mask(self, n: cython.int) -> cython.uint:
        """Return the letter that stands for the chunk: U for a URL, E for an e-mail address, H for a handle, or 0."""
        i: cython.int
        at_sign: cython.int = n
        if self._chunk[0] == AT and n > 1 and self._chunk[1] < SEPARATOR:
            return 72
        if n > 2 and self._chunk[0] == LETTER_W and self._chunk[1] == LETTER_W and self._chunk[2] == DOT:
            return 85  # of the three letters in "www." two remain
        for i in range(n - 2):
            if self._chunk[i] == COLON and self._chunk[i + 1] == SLASH and self._chunk[i + 2] == SLASH:
                return 85
        for i in range(1, n - 1):
            if self._chunk[i] == AT and at_sign == n:
                at_sign = i
            if self._chunk[i] == DOT and i > at_sign and self._chunk[i + 1] < SEPARATOR:
                return 69
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _word(self, start: cython.int, stop: cython.int, word: cython.ulonglong, span_stop: cython.int) -> cython.void:
        """Add the features of the word in ``_chunk[start:stop]``, whose hash is `word`."""
        key: cython.ulonglong = word ^ ((self._stamp * FINISHER) & M64)
        line: cython.Py_ssize_t = word >> (64 - CACHE_BITS)
        span_start: cython.int = self._at[start]
        self._span_start = span_start
        self._span_stop = span_stop
        if self._cached[line] != key:
            self._cached[line] = key
            self._add(word ^ self._word_seed)
            if self._char_high > 0:
                self._characters(start, stop)
        if self._word_ngrams > 1:
            if self._has_previous:
                self._span_start = self._previous_start
                self._add(((self._previous_word * self._powers[MAX_WORD + 1] + word) & M64) ^ self._pair_seed)
            self._has_previous = True
            self._previous_word = word
            self._previous_start = span_start

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _characters(self, start: cython.int, stop: cython.int) -> cython.void:
        """Add the character n-grams of a word with a space at both ends, except the whole of it."""
        base: cython.ulonglong = self._powers[1]
        power: cython.ulonglong
        h: cython.ulonglong = 32
        length: cython.int = stop - start + 2
        n: cython.int
        i: cython.int
        self._prefix[1] = 32
        for i in range(start, stop):
            h = (h * base + self._chunk[i]) & M64
            self._prefix[i - start + 2] = h
        self._prefix[length] = (h * base + 32) & M64
        for n in range(self._char_low, min(self._char_high, length - 1) + 1):
            power = self._powers[n]
            for i in range(n, length + 1):
                self._add(((self._prefix[i] - self._prefix[i - n] * power) & M64) ^ self._char_seed)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _add(self, h: cython.ulonglong) -> cython.void:
        """Count the bucket of a hashed feature, unless this slot has seen it."""
        bucket: cython.Py_ssize_t = (((h ^ (h >> 32)) * FINISHER) & M64) >> self._shift
        last: cython.uint = self._seen[bucket]
        risk: cython.int
        attribution: cython.int
        known: cython.int
        distinct: cython.int = last != self._stamp
        new: cython.int = last < self._first_stamp
        if self._emits == SUMS:  # without a branch, which would often be mispredicted
            risk = self._weights[2 * bucket]
            attribution = self._weights[2 * bucket + 1]
            self._risk += risk * new
            self._attribution += attribution * distinct
            known = (risk | attribution) != 0
            distinct &= known
            new &= known
        elif (new if self._emits == POOLED else distinct) and self._emits != COUNTS:
            self._emit(bucket)
        self._seen[bucket] = self._stamp
        self._n_distinct += distinct
        self._n_new += new

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _emit(self, bucket: cython.Py_ssize_t) -> cython.void:
        n: cython.Py_ssize_t = self._n_emitted
        self._indices[n] = bucket
        if self._spans.shape[0] > 0:
            self._spans[2 * n] = self._span_start
            self._spans[2 * n + 1] = self._span_stop
        self._n_emitted = n + 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sort(
    slots: cython.int[::1],
    order: cython.int[::1],
    starts: cython.int[::1],
    n_messages: cython.Py_ssize_t,
    n_slots: cython.Py_ssize_t,
) -> cython.void:
    """Write to `order` the messages sorted by slot, stably; `starts` is zeros and scratch."""
    m: cython.Py_ssize_t
    slot: cython.Py_ssize_t
    start: cython.int = 0
    size: cython.int
    for m in range(n_messages):
        starts[slots[m]] += 1
    for slot in range(n_slots):
        size = starts[slot]
        starts[slot] = start
        start += size
    for m in range(n_messages):
        slot = slots[m]
        order[starts[slot]] = m
        starts[slot] += 1
