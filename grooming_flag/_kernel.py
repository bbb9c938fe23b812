# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The hot loop: packed UTF-8 text in, sums of weights (or feature indices) out, without the GIL.

The functions at the end do for each message or answer what Python itself does several times slower.

One source runs compiled (Cython, pure-Python mode) and interpreted. It is THE definition of the features:

* Each code point of a message is folded by the table of `grooming_flag.text`. White space ends a chunk. Of equal
  letters in a row one remains in a chunk, of digits and of ``w`` two, and what follows its `MAX_CHUNK`-th remaining
  code point is a chunk of its own.
* A chunk is masked, that is, becomes one word: `H` (handle) if it starts with ``@`` and a letter or digit; else `U`
  (URL) if it starts with ``ww.`` (what remains of ``www.``) or contains ``://``; else `E` (e-mail address) if it has
  an ``@`` that is not its first code point and later a ``.`` before a letter or digit. Further chunks up to white
  space are then ignored.
* Other chunks split into words at whatever is neither letter nor digit, except asterisks between these ("h*llo"), and
  a longer word every `MAX_WORD`. But three or more chunks in a row of one letter each and nothing else ("h e l l o")
  are one word, a longer row every `MAX_WORD` chunks; of equal letters in a row one remains.
* A chunk without asterisk that has digits but no fewer letters ("h3llo"), or letters or digits on both sides of
  something else ("he.llo"), is also a word as it is meant, of 2 to `MAX_WORD` letters: its letters in a row, with the
  digits ``4 3 1 0 5 7`` as ``a e i o s t`` and nothing else, of equal ones in a row one.
* The features of a message are its words, its pairs of neighbouring words, and the character n-grams of each
  word with a space at both ends (the whole of it aside, which the word itself already says). A word as it is meant
  makes pairs with the word before and the word after what it is made of.
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

# `const`, so that the C compiler folds them in
# the least entry of the folding table of each kind (those of deleted code points are less)
SPACE = cython.declare(cython.const[cython.uint], 1 << 24)
PUNCTUATION = cython.declare(cython.const[cython.uint], 2 << 24)
LETTER = cython.declare(cython.const[cython.uint], 3 << 24)  # and digits
EXPAND = cython.declare(cython.const[cython.uint], 5 << 24)
CODEPOINT = cython.declare(cython.const[cython.uint], 0xFFFFFF)

MAX_CHUNK = cython.declare(cython.const[cython.int], 256)
MEANT = cython.declare(cython.const[cython.int], 257)  # where words as they are meant are, beside the chunk
SPELT = cython.declare(cython.const[cython.int], 514)  # where the letters are that are chunks of their own
PLACES = cython.declare(cython.const[cython.int], 548)  # of all these, each with a prefix more
MAX_WORD = cython.declare(cython.const[cython.int], 32)
MAX_STAMP = cython.declare(cython.const[cython.int], 0x7FFFFFFF)
BUFFER = cython.declare(cython.const[cython.int], 1024)  # few enough that a sum of so many weights fits 32 bits
MOST = cython.declare(cython.const[cython.int], 400)  # features of one word: at most 390 n-grams, itself and two pairs

SEPARATOR = cython.declare(cython.const[cython.uint], 0x80000000)  # marks what is no part of a word
AT = cython.declare(cython.const[cython.uint], 0x80000040)
COLON = cython.declare(cython.const[cython.uint], 0x8000003A)
SLASH = cython.declare(cython.const[cython.uint], 0x8000002F)
STAR = cython.declare(cython.const[cython.uint], 0x8000002A)
HIDDEN = cython.declare(cython.const[cython.uint], 0x2A)  # an asterisk in place of a letter
DOT = cython.declare(cython.const[cython.uint], 0x8000002E)
LETTER_W = cython.declare(cython.const[cython.uint], 0x77)
ZERO = cython.declare(cython.const[cython.uint], 0x30)
NINE = cython.declare(cython.const[cython.uint], 0x39)
# what a scan writes
SUMS = cython.declare(cython.const[cython.int], 0)
POOLED = cython.declare(cython.const[cython.int], 1)
OWN = cython.declare(cython.const[cython.int], 2)
COUNTS = cython.declare(cython.const[cython.int], 3)

BLANK = cython.declare(cython.const[cython.ulonglong], 32)
M64 = cython.declare(cython.const[cython.ulonglong], 0xFFFFFFFFFFFFFFFF)
FINISHER = cython.declare(cython.const[cython.ulonglong], 0xD6E8FEB86659FD93)

if cython.compiled:
    from cython.cimports.cpython.object import PyObject_GenericSetAttr as set_field
else:
    set_field = object.__setattr__

compiled = cython.compiled

LETTER_OF = (111, 105, 0, 101, 97, 115, 0, 116, 0, 0)  # o, i, none, e, a, s, none, t, none, none for 0 to 9


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
    weights : buffer of int32, length ``2**bits`` or 0
        For each bucket ``attribution << 16 | risk & 0xFFFF``, of two weights of 16 bits. Without weights every bucket
        counts, and there are no sums.
    """

    _pages: cython.ushort[::1]
    _blocks: cython.uint[::1]
    _pool: cython.uint[::1]
    _shift: cython.int
    _word_ngrams: cython.int
    _char_low: cython.Py_ssize_t
    _char_high: cython.Py_ssize_t
    _word_seed: cython.ulonglong
    _pair_seed: cython.ulonglong
    _char_seed: cython.ulonglong
    # tables and scratch of the scanner itself, so that no pointer has to be fetched
    _ascii: cython.uint[256]  # entries of the folding table; 0 for bytes that are not ASCII
    _plain: cython.uint[256]  # what these fold to, except that a digit stays itself
    _letter_of: cython.uint[10]  # the letter that a digit looks like, or 0
    _powers: cython.ulonglong[34]
    _chunk: cython.uint[548]  # the code points of the chunk so far, digits as they are
    _at: cython.int[548]  # where they lie in the message
    _prefix: cython.ulonglong[548]  # the hashes of the first 0, 1, ... of them, all digits as 0
    _n_spelt: cython.Py_ssize_t
    _has_before: cython.bint  # the word before what a word as it is meant is made of
    _before: cython.ulonglong
    _before_start: cython.int
    _has_meant: cython.bint  # the word as it is meant that the next word follows
    _meant_word: cython.ulonglong
    _meant_start: cython.int
    _buckets: cython.uint[1024]  # of features not counted yet: a loop over many fetches them side by side
    _n_buckets: cython.Py_ssize_t
    _touched: cython.int  # of no meaning, but kept, lest the C compiler leave out what fetches it
    _table: cython.int[::1]  # of each bucket the last stamp and the weights, side by side: one cache miss, not two
    # the state of one scan
    _text: cython.const[cython.uchar][::1]
    _base: cython.longlong
    _stamp: cython.int
    _first_stamp: cython.int
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
        weights_view: cython.int[::1] = weights
        if not cython.compiled:
            self._ascii, self._powers = [0] * 256, [0] * (MAX_WORD + 2)
            self._plain, self._letter_of = [0] * 256, [0] * 10
            self._chunk, self._at, self._prefix = [0] * PLACES, [0] * PLACES, [0] * PLACES
            self._buckets = [0] * BUFFER
            self._n_buckets = self._previous_word = self._previous_start = 0
        self._pages = pages
        self._blocks = blocks
        for i in range(128):
            self._ascii[i] = self._blocks[i]
            self._plain[i] = i if ZERO <= i and i <= NINE else self._blocks[i] & CODEPOINT
        for i in range(10):
            self._letter_of[i] = LETTER_OF[i]
        self._pool = pool
        self._shift = 64 - bits
        self._word_ngrams = word_ngrams
        self._char_low = char_low
        self._char_high = char_high
        self._word_seed, self._pair_seed, self._char_seed = seeds
        self._powers[0] = 1
        self._powers[1] = base
        for i in range(2, MAX_WORD + 2):
            self._powers[i] = (self._powers[i - 1] * self._powers[1]) & M64
        self._table = memoryview(bytearray(8 << bits)).cast("i")
        for i in range(len(weights)):
            self._table[2 * i + 1] = weights_view[i]
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
        if self._base + n_slots > MAX_STAMP:
            for i in range(0, len(self._table), 2):
                self._table[i] = 0
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
        self._count()
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
        byte: cython.uint = 0x80
        code: cython.uint
        size: cython.int
        entry: cython.Py_ssize_t = 0  # next entry of the pool, while one code point folds to several
        end_entry: cython.Py_ssize_t = 0
        n: cython.Py_ssize_t = 0
        last: cython.uint = 0
        last_but_one: cython.uint = 0
        separators: cython.int = 0
        is_zero: cython.int
        digits: cython.int = 0
        position: cython.int = 0
        first: cython.Py_ssize_t = i  # plus the bytes that continue a code point: code point `i - first` begins at `i`
        limit: cython.Py_ssize_t
        prefix: cython.ulonglong = 0
        base: cython.ulonglong = self._powers[1]
        self._masked = False
        self._has_previous = False
        self._has_meant = False
        self._n_spelt = 0
        while True:
            if entry < end_entry:
                code = self._pool[entry]
                codepoint = code & CODEPOINT
                entry += 1
            elif i < stop:
                limit = min(stop, i + MAX_CHUNK - n)
                while i < limit:  # letters and digits of ASCII, in short
                    code = self._ascii[self._text[i]]
                    if code < LETTER:
                        break
                    codepoint = code & CODEPOINT
                    is_zero = codepoint == ZERO
                    digits |= is_zero
                    if (codepoint ^ last) | ((is_zero | (codepoint == LETTER_W)) & (codepoint != last_but_one)):
                        self._chunk[n] = self._plain[self._text[i]]
                        self._at[n] = i - first
                        n += 1
                        prefix = (prefix * base + codepoint) & M64
                        self._prefix[n] = prefix
                        last_but_one = last
                        last = codepoint
                    i += 1
                if i == stop:
                    continue
                position = i - first
                byte = codepoint = self._text[i]
                i += 1
                code = self._ascii[codepoint]
                if codepoint >= 0x80:
                    size = 1 if codepoint < 0xE0 else 2 if codepoint < 0xF0 else 3
                    codepoint &= 0x3F >> size
                    while size > 0 and i < stop and (self._text[i] & 0xC0) == 0x80:
                        codepoint = (codepoint << 6) | (self._text[i] & 0x3F)
                        i += 1
                        first += 1
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
            elif n > 0:
                code = SPACE
            else:
                break
            if code < SPACE:
                continue
            if code < PUNCTUATION or n == MAX_CHUNK:
                if n > 0:
                    self._end_chunk(n, separators, digits)
                n = 0
                prefix = 0
                last = 0
                separators = 0
                digits = 0
                if code < PUNCTUATION:
                    self._masked = False
                    continue
            if code < LETTER:
                codepoint |= SEPARATOR
                separators |= 2 if codepoint == AT or codepoint == COLON or (codepoint == DOT and n == 2) else 1
                separators |= 4 if codepoint == STAR else 0
            else:
                is_zero = codepoint == ZERO
                digits |= is_zero
                if codepoint == last and (codepoint == last_but_one or not (is_zero or codepoint == LETTER_W)):
                    continue
            self._chunk[n] = byte if codepoint == ZERO and byte < 0x80 else codepoint
            self._at[n] = position
            n += 1
            prefix = (prefix * base + (codepoint & CODEPOINT)) & M64
            self._prefix[n] = prefix
            last_but_one = last
            last = codepoint
        if self._n_spelt > 0:
            self._end_spelt()

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _end_chunk(self, n: cython.Py_ssize_t, separators: cython.int, digits: cython.int) -> cython.void:
        """Split the chunk into words, unless it is masked or is a word.

        `separators` is 0 if there are none; 2 is in it if there are any by which a mask is known, 4 for an asterisk.
        """
        start: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t = n if separators == 0 and n <= MAX_WORD else 0
        end: cython.Py_ssize_t = n
        separates: cython.bint
        mask: cython.uint
        is_plain: cython.bint = separators == 0 and digits == 0
        if self._masked:
            return
        if n == 1 and is_plain:
            self._spell()
            return
        if self._n_spelt > 0:
            self._end_spelt()
        if not is_plain:
            self._has_before = self._has_previous
            self._before = self._previous_word
            self._before_start = self._previous_start
        if separators & 2:
            mask = self._mask(n)
            if mask != 0:
                self._masked = True
                self._prefix[1] = mask
                i = n = 1
        if separators & 4 and not self._masked:
            self._uncover(n)
        while i <= n:
            separates = i == n or self._chunk[i] >= SEPARATOR
            if separates or i - start == MAX_WORD:
                if i > start:
                    self._word(start, i, end if self._masked else i)
                start = i + separates
            i += 1
        if not is_plain and not self._masked:
            self._respell(n)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _uncover(self, n: cython.Py_ssize_t) -> cython.void:
        """Take asterisks between letters or digits as letters."""
        i: cython.Py_ssize_t
        k: cython.Py_ssize_t
        first: cython.Py_ssize_t = n  # of the asterisks right before, after a letter
        for i in range(n):
            if self._chunk[i] < SEPARATOR:
                for k in range(first, i):
                    self._chunk[k] = HIDDEN
                first = i + 1
            elif self._chunk[i] != STAR:
                first = n

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _respell(self, n: cython.Py_ssize_t) -> cython.void:
        """Add the word that a chunk with digits among letters, or with something between letters, is meant as."""
        i: cython.Py_ssize_t
        k: cython.Py_ssize_t = MEANT
        c: cython.uint
        n_letters: cython.int = 0
        n_digits: cython.int = 0
        gap: cython.bint = False
        inner: cython.bint = False
        for i in range(n):
            c = self._chunk[i]
            if c == STAR or c == HIDDEN:
                return
            if c >= SEPARATOR:
                gap = n_letters + n_digits > 0
                continue
            inner |= gap
            if ZERO <= c and c <= NINE:
                n_digits += 1
                c = self._letter_of[c - ZERO]
                if c == 0:
                    continue
            else:
                n_letters += 1
            if k > MEANT and c == self._chunk[k - 1]:
                continue
            if k == MEANT + MAX_WORD:
                return
            self._chunk[k] = c
            self._at[k] = self._at[i]
            k += 1
        if n_letters < n_digits or not (inner or n_digits > 0) or k < MEANT + 2:
            return
        self._hash(MEANT, k)
        self._meant_word = self._features(MEANT, k, k)
        self._meant_start = self._at[MEANT]
        self._has_meant = True
        if self._has_before and self._word_ngrams > 1:
            self._pair(self._before, self._meant_word, self._before_start, self._at[k - 1] + 1)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _spell(self) -> cython.void:
        """Keep the letter that is all of a chunk until it is known whether letters in a row spell a word."""
        if self._n_spelt == MAX_WORD:
            self._end_spelt()
        self._chunk[SPELT + self._n_spelt] = self._chunk[0]
        self._at[SPELT + self._n_spelt] = self._at[0]
        self._n_spelt += 1

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _end_spelt(self) -> cython.void:
        """Add the word of three letters or more, of equal ones in a row one; of fewer each is a word."""
        i: cython.Py_ssize_t
        k: cython.Py_ssize_t = SPELT
        is_word: cython.bint = self._n_spelt > 2
        for i in range(SPELT, SPELT + self._n_spelt):
            if is_word and k > SPELT and self._chunk[i] == self._chunk[k - 1]:
                continue
            self._chunk[k] = self._chunk[i]
            self._at[k] = self._at[i]
            k += 1
        self._hash(SPELT, k)
        if is_word:
            self._word(SPELT, k, k)
        else:
            for i in range(SPELT, k):
                self._word(i, i + 1, i + 1)
        self._n_spelt = 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _hash(self, start: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.void:
        """Hash the prefixes of what was put in ``_chunk[start:stop]``."""
        i: cython.Py_ssize_t
        self._prefix[start] = 0
        for i in range(start, stop):
            self._prefix[i + 1] = (self._prefix[i] * self._powers[1] + self._chunk[i]) & M64

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
            return 85  # of the three letters of "www." two remain
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
    def _word(self, start: cython.Py_ssize_t, stop: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.void:
        """Add the features of the word in ``_chunk[start:stop]``, which stands for ``_chunk[start:end]``, and pairs."""
        word: cython.ulonglong = self._features(start, stop, end)
        if self._word_ngrams > 1:
            if self._has_previous:
                self._pair(self._previous_word, word, self._previous_start, self._at[end - 1] + 1)
            if self._has_meant:
                self._pair(self._meant_word, word, self._meant_start, self._at[end - 1] + 1)
        self._has_meant = False
        self._has_previous = True
        self._previous_word = word
        self._previous_start = self._at[start]

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def _pair(
        self, first: cython.ulonglong, second: cython.ulonglong, start: cython.int, stop: cython.int
    ) -> cython.void:
        self._buckets[self._n_buckets] = self._bucket(
            ((first * self._powers[MAX_WORD + 1] + second) & M64) ^ self._pair_seed
        )
        self._n_buckets += 1
        if self._emits != SUMS:
            self._span_start = start
            self._span_stop = stop
            self._count()

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _features(self, start: cython.Py_ssize_t, stop: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.ulonglong:
        """Add a word and its character n-grams, and return its hash; the places are those of `_word`.

        The hash of any run of code points is a difference of two prefix hashes, so nothing is hashed again.
        """
        word: cython.ulonglong = (self._prefix[stop] - self._prefix[start] * self._powers[stop - start]) & M64
        if self._n_buckets > BUFFER - MOST:
            self._count()
        self._buckets[self._n_buckets] = self._bucket(word ^ self._word_seed)
        self._n_buckets += 1
        if self._char_high > 0:
            self._characters(start, stop)
        if self._emits != SUMS:
            self._span_start = self._at[start]
            self._span_stop = self._at[end - 1] + 1
            self._count()
        return word

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _characters(self, start: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.void:
        """Add the character n-grams of a word with a space at both ends, except the whole of it."""
        power: cython.ulonglong
        h: cython.ulonglong
        n: cython.Py_ssize_t
        i: cython.Py_ssize_t
        k: cython.Py_ssize_t = self._n_buckets
        for n in range(self._char_low, min(self._char_high, stop - start + 1) + 1):
            power = self._powers[n - 1]
            h = self._prefix[start + n - 1] + (BLANK - self._prefix[start]) * power
            self._buckets[k] = self._bucket((h & M64) ^ self._char_seed)
            k += 1
            for i in range(start, stop + 1 - n):
                h = self._prefix[i + n] - self._prefix[i] * self._powers[n]
                self._buckets[k] = self._bucket((h & M64) ^ self._char_seed)
                k += 1
            h = (self._prefix[stop] - self._prefix[stop - n + 1] * power) * self._powers[1] + BLANK
            self._buckets[k] = self._bucket((h & M64) ^ self._char_seed)
            k += 1
        self._n_buckets = k

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def _bucket(self, h: cython.ulonglong) -> cython.uint:
        """Return the bucket of a hashed feature."""
        return (((h ^ (h >> 32)) * FINISHER) & M64) >> self._shift

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _count(self) -> cython.void:
        """Count the buckets in the buffer that this slot has not seen."""
        i: cython.Py_ssize_t
        bucket: cython.Py_ssize_t
        last: cython.int
        weight: cython.int
        risk: cython.int = 0
        attribution: cython.int = 0
        n_new: cython.int = 0
        n_distinct: cython.int = 0
        touched: cython.int = 0
        stamp: cython.int = self._stamp
        first_stamp: cython.int = self._first_stamp
        if self._emits == SUMS:
            for i in range(self._n_buckets):  # nothing but fetch, so that the processor waits for many at once
                touched |= self._table[2 * self._buckets[i]]
            for i in range(self._n_buckets):  # without a branch, which would often be mispredicted
                bucket = self._buckets[i]
                last = self._table[2 * bucket]
                self._table[2 * bucket] = stamp
                weight = self._table[2 * bucket + 1] & -(last != stamp)
                n_distinct += weight != 0
                attribution += weight >> 16
                weight &= -(last < first_stamp)
                n_new += weight != 0
                risk += ((weight & 0xFFFF) ^ 0x8000) - 0x8000  # the lower half, with its sign
        else:
            for i in range(self._n_buckets):
                bucket = self._buckets[i]
                last = self._table[2 * bucket]
                self._table[2 * bucket] = stamp
                n_distinct += last != stamp
                n_new += last < first_stamp
                if (self._emits == POOLED and last < first_stamp) or (self._emits == OWN and last != stamp):
                    self._emit(bucket)
        self._n_buckets = 0
        self._touched = touched
        self._risk += risk
        self._attribution += attribution
        self._n_distinct += n_distinct
        self._n_new += n_new

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


def encode(texts: list, offsets):
    """Return the texts end to end as UTF-8, lone surrogates kept, and write where each begins and the last one ends.

    Changes the list: the units of joining are bytes as code points, so that one emoji does not widen all the text.
    """
    offsets_view: cython.longlong[::1] = offsets
    end: cython.longlong = 0
    i: cython.Py_ssize_t
    text: str
    offsets_view[0] = 0
    for i in range(len(texts)):
        item = texts[i]
        text = item if type(item) is str else "".join((item,))  # of what is a subclass of str, a copy that is none
        if not text.isascii():
            texts[i] = text = text.encode("utf-8", "surrogatepass").decode("latin-1")
        end += len(text)
        offsets_view[i + 1] = end
    return "".join(texts).encode("latin-1")


def number_authors(runs: list, slots, texts: list, owners: list):
    """Return the distinct authors of each run of messages, end to end.

    Write the place of each message's author among them to `slots`; append the texts of the messages to `texts`, and
    to `owners` the number of each author's run.
    """
    slots_view: cython.int[::1] = slots
    n_messages: cython.Py_ssize_t = 0
    run: cython.Py_ssize_t
    slot_of: dict
    authors: list = []
    for run in range(len(runs)):
        slot_of = {}
        for message in runs[run]:
            author = message.author
            slot = slot_of.get(author)
            if slot is None:
                slot_of[author] = slot = len(authors)
                authors.append(author)
                owners.append(run)
            slots_view[n_messages] = slot
            n_messages += 1
            texts.append(message.text)
    return authors


def record(kind: type, values: tuple):
    """Return a frozen record with these values in its slots, in a fraction of the time that its `__init__` takes."""
    made = kind.__new__(kind)
    names: tuple = kind.__slots__
    i: cython.Py_ssize_t
    for i in range(min(len(names), len(values))):
        set_field(made, names[i], values[i])
    return made
