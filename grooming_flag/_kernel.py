# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The hot loop: packed UTF-8 text in, sums of weights (or feature indices) out, without the GIL.

The functions at the end do for each message what Python itself does several times slower.

One source runs compiled (Cython, pure-Python mode) and interpreted. It is THE definition of the features:

* Each code point of a message is folded by the table of `grooming_flag.text`. White space ends a chunk. Of equal
  letters in a row one remains in a chunk, of digits two, and what follows its `MAX_CHUNK`-th remaining code point is a
  chunk of its own.
* A chunk is masked, that is, becomes one word: `H` (handle) if it starts with ``@`` and a letter or digit; else `U`
  (URL) if it starts with ``www.`` or contains ``://``; else `E` (e-mail address) if it has an ``@`` that is not its
  first code point and later a ``.`` before a letter or digit. Further chunks up to white space are then ignored.
* Other chunks split into words at whatever is neither letter nor digit, except asterisks between these ("h*llo"), and
  a longer word every `MAX_WORD`. But three or more chunks in a row of one letter each and nothing else ("h e l l o")
  are one word, a longer row every `MAX_WORD` chunks; of equal letters in a row one remains.
* A chunk without asterisk that has digits but no fewer letters ("h3llo"), or letters or digits on both sides of
  something else ("he.llo"), is also a word as it is meant, of 2 to `MAX_WORD` letters: its letters in a row, with the
  digits ``4 3 1 0 5 7`` as ``a e i o s t`` and nothing else, of equal ones in a row one.
* The features of a message are its words, its pairs of neighbouring words, and the character n-grams of each
  word with a space at both ends (the whole of it aside, which the word itself already says). A word as it is meant
  makes pairs with the word before and the word after what it is made of.
* A folded code point is the code unit of 16 bits that it is itself, or one from `FAR` on if it is `SEPARATOR` or more.
  The units ``u`` of a word hash to ``h = (h ^ u) * P`` one after the other, starting from the seed of words. An n-gram
  hashes in blocks ``b`` of four units, the first in the lowest bits and zeros where the last block ends, to
  ``h = mix(h, b)``, starting from the seed of characters, with ``mix(h, b) = (h ^ h >> 32 ^ b) * P``. A pair hashes to
  ``mix(mix(seed of pairs, first), second)``. All this is modulo 2**64; the upper bits of ``h`` are the bucket.
* A bucket counts once for a slot (`own`) and once for a segment (`pooled`), however often it occurs.

A slot is one author in one segment, or one message where evidence is wanted. Slots are scanned in ascending order, so
one array with the last slot that saw each bucket answers both questions at once: new to this slot? new to this
segment? Weights are integers, so sums are exact in any order.

Nearly all chunks of chat are words of ASCII letters. `_easy_words` adds these in one pass, their n-grams as their
letters are read, and leaves every other chunk to `_message`, which could do all of it and is what defines the features.
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
MAX_WORD = cython.declare(cython.const[cython.int], 32)
MAX_STAMP = cython.declare(cython.const[cython.int], 0xFFFF)
FIRST = cython.declare(cython.const[cython.int], 1)  # where a chunk begins; before each of these places is a blank
WORD = cython.declare(cython.const[cython.int], 260)  # where a word that is not all of a chunk is put
MEANT = cython.declare(cython.const[cython.int], 296)  # where a word as it is meant is put
SPELT = cython.declare(cython.const[cython.int], 332)  # where letters are put that are chunks of their own
PLACES = cython.declare(cython.const[cython.int], 368)  # all of these, and a few to read on
BUFFER = cython.declare(cython.const[cython.int], 1024)  # few enough that a sum of so many weights fits 32 bits
MOST = cython.declare(cython.const[cython.int], 400)  # features of one word: at most 390 n-grams, itself and two pairs

# code units: what stands for a folded code point in a chunk
SEPARATOR = cython.declare(cython.const[cython.ushort], 0xE000)  # the least of what is no part of a word
FAR = cython.declare(cython.const[cython.ushort], 0x8000)  # the least of those for code points from `SEPARATOR` on
N_FAR = cython.declare(cython.const[cython.ushort], 0x6000)
AT = cython.declare(cython.const[cython.ushort], 0xE040)
COLON = cython.declare(cython.const[cython.ushort], 0xE03A)
SLASH = cython.declare(cython.const[cython.ushort], 0xE02F)
STAR = cython.declare(cython.const[cython.ushort], 0xE02A)
DOT = cython.declare(cython.const[cython.ushort], 0xE02E)
HIDDEN = cython.declare(cython.const[cython.ushort], 0x2A)  # an asterisk in place of a letter
LETTER_W = cython.declare(cython.const[cython.ushort], 0x77)
ZERO = cython.declare(cython.const[cython.ushort], 0x30)
NINE = cython.declare(cython.const[cython.ushort], 0x39)
BLANK = cython.declare(cython.const[cython.ulonglong], 0x20)
# what a chunk has besides letters
PUNCTUATED = cython.declare(cython.const[cython.int], 1)
MARKED = cython.declare(cython.const[cython.int], 2)  # a sign by which handles, URLs and e-mail addresses are known
STARRED = cython.declare(cython.const[cython.int], 4)
NUMBERED = cython.declare(cython.const[cython.int], 8)
WWW = cython.declare(cython.const[cython.int], 16)
# what a scan writes
SUMS = cython.declare(cython.const[cython.int], 0)
POOLED = cython.declare(cython.const[cython.int], 1)
OWN = cython.declare(cython.const[cython.int], 2)
COUNTS = cython.declare(cython.const[cython.int], 3)

M64 = cython.declare(cython.const[cython.ulonglong], 0xFFFFFFFFFFFFFFFF)

compiled = cython.compiled

TRAILING = b".,!?"  # signs that may end a chunk and add nothing to it
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
    _has_fours: cython.bint
    _word_seed: cython.ulonglong
    _pair_seed: cython.ulonglong
    _char_seed: cython.ulonglong
    _multiplier: cython.ulonglong
    # tables and scratch of the scanner itself, so that no pointer has to be fetched
    _ascii: cython.uint[256]  # entries of the folding table; 0 for bytes that are not ASCII
    _letters: cython.ushort[256]  # the letter that a byte folds to, or 0
    _trails: cython.uchar[256]
    _letter_of: cython.ushort[10]  # the letter that a digit looks like, or 0
    _units: cython.ushort[368]  # the chunk so far, digits as they are, and words made of it
    _at: cython.int[368]  # where they lie in the message
    _n_spelt: cython.Py_ssize_t
    _has_before: cython.bint  # the word before what a word as it is meant is made of
    _before: cython.ulonglong
    _before_start: cython.int
    _has_meant: cython.bint  # the word as it is meant that the next word follows
    _meant_word: cython.ulonglong
    _meant_start: cython.int
    _buckets: cython.uint[1024]  # of features not counted yet: a loop over many fetches them side by side
    _n_buckets: cython.Py_ssize_t
    _weights: cython.int[::1]
    _stamps: cython.ushort[::1]  # the last slot that saw each bucket
    # the state of one scan
    _text: cython.const[cython.uchar][::1]
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
    _finds: cython.bint  # write what is found rather than sum it
    _n_emitted: cython.Py_ssize_t
    _indices: cython.int[::1]
    _spans: cython.int[::1]

    def __init__(self, pages, blocks, pool, bits, word_ngrams, char_low, char_high, base, seeds, weights):
        i: cython.Py_ssize_t
        if not cython.compiled:
            self._ascii, self._letters, self._trails = [0] * 256, [0] * 256, [0] * 256
            self._letter_of = [0] * 10
            self._units, self._at = [0] * PLACES, [0] * PLACES
            self._buckets = [0] * BUFFER
            self._previous_word = self._previous_start = 0
            self._risk = self._attribution = self._n_new = self._n_distinct = 0
        self._pages = pages
        self._blocks = blocks
        for i in range(128):
            self._ascii[i] = self._blocks[i]
            self._trails[i] = TRAILING.count(i)
            if LETTER <= self._blocks[i] and i > NINE:
                self._letters[i] = self._blocks[i] & CODEPOINT or i
        for i in range(10):
            self._letter_of[i] = LETTER_OF[i]
        self._units[FIRST - 1] = self._units[WORD - 1] = self._units[MEANT - 1] = BLANK
        self._n_buckets = 1
        self._has_fours = char_low == char_high == 4
        self._pool = pool
        self._shift = 64 - bits
        self._word_ngrams = word_ngrams
        self._char_low = char_low
        self._char_high = char_high
        self._word_seed, self._pair_seed, self._char_seed = seeds
        self._multiplier = base
        self._weights = weights
        self._stamps = memoryview(bytearray(2 << bits)).cast("H")
        self._stamp = 0
        self._finds = False

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
            only those of the first that have a weight are counted.
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
        self._finds = False
        self._n_emitted = 0
        with cython.nogil:
            _sort(slots_view, order_view, distinct_view, n_messages, n_slots)
            i = 0
            while i < n_messages:
                i = self._scan_slot(
                    i, offsets_view, order_view, slots_view, segments_view, n_messages,
                    pooled_view, own_view, new_view, distinct_view,
                )  # fmt: skip

    def find(self, text, found):
        """Find the weighted buckets of one message; return how many there are.

        Parameters
        ----------
        text : buffer of uint8
            UTF-8, as in `scan`.
        found : buffer of int32, length ``2 * 2**bits``
            Out: each distinct bucket that has a weight, and the weight.
        """
        stop: cython.Py_ssize_t = len(text)
        self._text = text
        self._indices = found
        self._emits = SUMS
        self._finds = True
        self._n_emitted = 0
        with cython.nogil:
            self._next_stamp(True)
            self._message(0, stop)
            self._count()
        return self._n_emitted

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def _next_stamp(self, is_first: cython.bint) -> cython.void:
        """Begin a slot, the first of its segment or not."""
        self._stamp += 1
        if is_first:
            self._first_stamp = self._stamp
        if self._stamp > MAX_STAMP:
            self._renumber()

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
        self._next_stamp(slot == 0 or segments[slot] != segments[slot - 1])
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
        unit: cython.ushort
        size: cython.int
        entry: cython.Py_ssize_t = 0  # next entry of the pool, while one code point folds to several
        end_entry: cython.Py_ssize_t = 0
        n: cython.Py_ssize_t = FIRST
        last: cython.ushort = 0
        n_zeros: cython.int = 0
        also: cython.int = 0
        position: cython.int = 0
        begin: cython.Py_ssize_t = i
        mark: cython.Py_ssize_t = i  # where the code point begins
        first: cython.Py_ssize_t = i  # plus the bytes that continue a code point: code point `i - first` begins at `i`
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
                if n == FIRST and self._emits == SUMS and self._has_fours:
                    i = self._easy_words(i, stop)
                    if i == stop:
                        break
                position = i - first
                mark = i
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
            elif n > FIRST:
                code = SPACE
            else:
                break
            if code < SPACE:
                continue
            if code < PUNCTUATION or n == FIRST + MAX_CHUNK:
                if n > FIRST:
                    self._end_chunk(n, also)
                n = FIRST
                last = 0
                also = 0
                if code < PUNCTUATION:
                    self._masked = False
                    continue
            if code < LETTER:
                unit = SEPARATOR + (codepoint if codepoint < 0x80 else 0)
                also |= PUNCTUATED
                if unit == AT or unit == COLON:
                    also |= MARKED
                elif unit == STAR:
                    also |= STARRED
                elif unit == DOT and n == FIRST + 1 and last == LETTER_W and mark - begin >= 3:
                    if self._is_w(mark - 1) and self._is_w(mark - 2) and self._is_w(mark - 3):
                        also |= MARKED | WWW
            elif codepoint == ZERO:
                unit = ZERO
                n_zeros = n_zeros + 1 if last == ZERO else 1
                if n_zeros > 2:
                    continue
                also |= NUMBERED
            else:
                unit = codepoint if codepoint < SEPARATOR else FAR + codepoint % N_FAR
                if unit == last:
                    continue
            last = unit
            if unit == ZERO and byte < 0x80:
                unit = byte
            self._units[n] = unit
            self._at[n] = position
            n += 1
        if self._n_spelt > 0:
            self._end_spelt()

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def _is_w(self, i: cython.Py_ssize_t) -> cython.bint:
        return self._text[i] | 0x20 == LETTER_W

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def _differ(self, first: cython.uchar, second: cython.uchar) -> cython.bint:
        """Return whether both are letters of ASCII, and not the same."""
        return self._letters[first] and self._letters[second] and self._letters[first] != self._letters[second]

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _easy_words(self, i: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Add words of ASCII letters between spaces, up to what is not so easy; return where that begins.

        Each letter puts the n-gram that ends with it in the buffer. The first two end none: theirs take the place of
        the last feature before, which is put back, and of the word itself, which is known at its end.
        """
        begin: cython.Py_ssize_t
        limit: cython.Py_ssize_t
        k: cython.Py_ssize_t  # two less than where the buckets of the word begin
        n: cython.Py_ssize_t  # letters of the word
        unit: cython.ushort
        last: cython.ushort
        kept: cython.uint
        letter: cython.ulonglong
        word: cython.ulonglong
        window: cython.ulonglong
        multiplier: cython.ulonglong = self._multiplier
        char_seed: cython.ulonglong = self._char_seed ^ (self._char_seed >> 32)
        shift: cython.int = self._shift
        while i < stop:
            begin = i
            limit = min(stop, i + MAX_WORD)
            if self._n_spelt > 0:
                if i + 1 >= limit or not self._differ(self._text[i], self._text[i + 1]):
                    return begin  # what may be one more letter
                self._end_spelt()
            k = self._n_buckets - 2
            kept = self._buckets[k + 1]
            n = 0
            last = 0
            word = self._word_seed
            window = BLANK << 48
            while i < limit:
                unit = self._letters[self._text[i]]
                if unit == 0:
                    break
                i += 1
                if unit == last:
                    continue
                last = unit
                letter = unit
                word = ((word ^ letter) * multiplier) & M64
                window = (window >> 16) | (letter << 48)
                n += 1
                self._buckets[k + n] = (((char_seed ^ window) * multiplier) & M64) >> shift
            self._buckets[k + 1] = kept
            if n < 2:
                if n == 1 and (i == stop or self._text[i] == BLANK):
                    self._units[FIRST] = last
                    self._spell()
                    i += 1
                    continue
                return begin
            while i < stop and self._text[i] != BLANK:
                if not self._trails[self._text[i]]:
                    return begin
                i += 1
            i += 1
            self._buckets[k + 2] = word >> shift
            self._buckets[k + 1 + n] = (((char_seed ^ (window >> 16) ^ (BLANK << 48)) * multiplier) & M64) >> shift
            self._n_buckets = k + 2 + (n if n > 2 else 1)
            self._link(word, 0, 0)
            if self._n_buckets > BUFFER - MOST:
                self._count()
        return stop

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _end_chunk(self, n: cython.Py_ssize_t, also: cython.int) -> cython.void:
        """Split the chunk in ``_units[FIRST:n]`` into words, unless it is masked or is a word.

        `also` says what it has besides letters.
        """
        i: cython.Py_ssize_t
        k: cython.Py_ssize_t = 0
        n_meant: cython.Py_ssize_t
        unit: cython.ushort
        if self._masked:
            return
        if also == 0 and n == FIRST + 1:
            self._spell()
            return
        if self._n_spelt > 0:
            self._end_spelt()
        if also == 0 and n <= FIRST + MAX_WORD:
            self._word(FIRST, n, self._at[FIRST], self._at[n - 1] + 1)
            return
        if also & MARKED:
            unit = self._mask(n, also)
            if unit != 0:
                self._masked = True
                self._units[WORD] = unit
                self._word(WORD, WORD + 1, self._at[FIRST], self._at[n - 1] + 1)
                return
        self._has_before = self._has_previous
        self._before = self._previous_word
        self._before_start = self._previous_start
        if also & STARRED:
            self._uncover(n)
        n_meant = self._respell(n) if also != 0 else 0
        for i in range(FIRST, n):
            unit = self._units[i]
            if unit < SEPARATOR:
                self._units[WORD + k] = ZERO if ZERO <= unit and unit <= NINE else unit
                k += 1
            if k == MAX_WORD or (k > 0 and (unit >= SEPARATOR or i == n - 1)):
                self._piece(i + (unit < SEPARATOR), k)
                k = 0
        if n_meant > 0:
            self._add_meant(n_meant)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _piece(self, stop: cython.Py_ssize_t, n: cython.Py_ssize_t) -> cython.void:
        """Add the word of `n` letters that was put in its place from the units before `stop`."""
        self._word(WORD, WORD + n, self._at[stop - n], self._at[stop - 1] + 1)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _uncover(self, n: cython.Py_ssize_t) -> cython.void:
        """Take asterisks between letters or digits as letters."""
        i: cython.Py_ssize_t
        k: cython.Py_ssize_t
        first: cython.Py_ssize_t = n  # of the asterisks right before, after a letter
        for i in range(FIRST, n):
            if self._units[i] < SEPARATOR:
                for k in range(first, i):
                    self._units[k] = HIDDEN
                first = i + 1
            elif self._units[i] != STAR:
                first = n

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _respell(self, n: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Put in its place the word that a chunk with digits among letters, or with something between letters, means.

        Return how many letters it has, or 0 where there is no such word.
        """
        i: cython.Py_ssize_t
        k: cython.Py_ssize_t = MEANT
        unit: cython.ushort
        n_letters: cython.int = 0
        n_digits: cython.int = 0
        gap: cython.bint = False
        inner: cython.bint = False
        for i in range(FIRST, n):
            unit = self._units[i]
            if unit == STAR or unit == HIDDEN:
                return 0
            if unit >= SEPARATOR:
                gap = n_letters + n_digits > 0
                continue
            inner |= gap
            if ZERO <= unit and unit <= NINE:
                n_digits += 1
                unit = self._letter_of[unit - ZERO]
                if unit == 0:
                    continue
            else:
                n_letters += 1
            if k > MEANT and unit == self._units[k - 1]:
                continue
            if k == MEANT + MAX_WORD:
                return 0
            self._units[k] = unit
            self._at[k] = self._at[i]
            k += 1
        if n_letters < n_digits or not (inner or n_digits > 0) or k < MEANT + 2:
            return 0
        return k - MEANT

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _add_meant(self, n: cython.Py_ssize_t) -> cython.void:
        """Add the features of a word as it is meant, and its pair with the word before what it is made of."""
        start: cython.int = self._at[MEANT]
        stop: cython.int = self._at[MEANT + n - 1] + 1
        self._meant_word = self._features(MEANT, MEANT + n, start, stop)
        self._meant_start = start
        self._has_meant = True
        if self._has_before and self._word_ngrams > 1:
            self._pair(self._before, self._meant_word, self._before_start, stop)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _spell(self) -> cython.void:
        """Keep the letter that is all of a chunk until it is known whether letters in a row spell a word."""
        if self._n_spelt == MAX_WORD:
            self._end_spelt()
        self._units[SPELT + self._n_spelt] = self._units[FIRST]
        self._at[SPELT + self._n_spelt] = self._at[FIRST]
        self._n_spelt += 1

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _end_spelt(self) -> cython.void:
        """Add the word of three letters or more, of equal ones in a row one; of fewer each is a word."""
        i: cython.Py_ssize_t
        k: cython.Py_ssize_t = 0
        last: cython.int = 0
        is_word: cython.bint = self._n_spelt > 2
        for i in range(SPELT, SPELT + self._n_spelt):
            if not is_word:
                self._units[WORD] = self._units[i]
                self._word(WORD, WORD + 1, self._at[i], self._at[i] + 1)
            elif k == 0 or self._units[i] != self._units[WORD + k - 1]:
                self._units[WORD + k] = self._units[i]
                last = self._at[i]
                k += 1
        if is_word:
            self._word(WORD, WORD + k, self._at[SPELT], last + 1)
        self._n_spelt = 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _mask(self, n: cython.Py_ssize_t, also: cython.int) -> cython.ushort:
        """Return the letter that stands for the chunk: U for a URL, E for an e-mail address, H for a handle, or 0."""
        i: cython.Py_ssize_t
        at_sign: cython.Py_ssize_t = n
        if self._units[FIRST] == AT and n > FIRST + 1 and self._units[FIRST + 1] < SEPARATOR:
            return 72
        if also & WWW:
            return 85
        for i in range(FIRST, n - 2):
            if self._units[i] == COLON and self._units[i + 1] == SLASH and self._units[i + 2] == SLASH:
                return 85
        for i in range(FIRST + 1, n - 1):
            if self._units[i] == AT and at_sign == n:
                at_sign = i
            if self._units[i] == DOT and i > at_sign and self._units[i + 1] < SEPARATOR:
                return 69
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _word(
        self,
        start: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
        span_start: cython.int,
        span_stop: cython.int,
    ) -> cython.void:
        """Add the features of the word in ``_units[start:stop]`` and its pairs; the span is what it is made of."""
        word: cython.ulonglong = self._features(start, stop, span_start, span_stop)
        self._link(word, span_start, span_stop)

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def _link(self, word: cython.ulonglong, span_start: cython.int, span_stop: cython.int) -> cython.void:
        """Add the pairs of a word with what is before it."""
        if self._word_ngrams > 1:
            if self._has_previous:
                self._pair(self._previous_word, word, self._previous_start, span_stop)
            if self._has_meant:
                self._pair(self._meant_word, word, self._meant_start, span_stop)
        self._has_meant = False
        self._has_previous = True
        self._previous_word = word
        self._previous_start = span_start

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def _pair(
        self, first: cython.ulonglong, second: cython.ulonglong, start: cython.int, stop: cython.int
    ) -> cython.void:
        self._buckets[self._n_buckets] = self._mix(self._mix(self._pair_seed, first), second) >> self._shift
        self._n_buckets += 1
        if self._emits != SUMS:
            self._span_start = start
            self._span_stop = stop
            self._count()

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _features(
        self,
        start: cython.Py_ssize_t,
        stop: cython.Py_ssize_t,
        span_start: cython.int,
        span_stop: cython.int,
    ) -> cython.ulonglong:
        """Add a word, with room for a blank behind it, and its character n-grams; return its hash."""
        word: cython.ulonglong = self._word_seed
        i: cython.Py_ssize_t
        for i in range(start, stop):
            word = ((word ^ self._units[i]) * self._multiplier) & M64
        self._buckets[self._n_buckets] = word >> self._shift
        self._n_buckets += 1
        self._units[stop] = BLANK
        if self._char_high > 0:
            self._characters(start - 1, stop + 1)
        if self._emits != SUMS:
            self._span_start = span_start
            self._span_stop = span_stop
            self._count()
        elif self._n_buckets > BUFFER - MOST:
            self._count()
        return word

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _characters(self, start: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.void:
        """Add the character n-grams of a word with a blank at both ends, except the whole of it."""
        h: cython.ulonglong
        n: cython.Py_ssize_t
        i: cython.Py_ssize_t
        j: cython.Py_ssize_t
        for n in range(self._char_low, min(self._char_high, stop - start - 1) + 1):
            for i in range(start, stop + 1 - n):
                h = self._char_seed
                for j in range(i, i + n, 4):
                    h = self._mix(h, self._block(j, i + n))
                self._buckets[self._n_buckets] = h >> self._shift
                self._n_buckets += 1

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def _block(self, i: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.ulonglong:
        """Return four units as one number, zeros for those from `stop` on."""
        a: cython.ulonglong = self._units[i]
        b: cython.ulonglong = self._units[i + 1]
        c: cython.ulonglong = self._units[i + 2]
        d: cython.ulonglong = self._units[i + 3]
        return (a | b << 16 | c << 32 | d << 48) & (M64 >> 16 * (4 - min(stop - i, 4)))

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def _mix(self, h: cython.ulonglong, more: cython.ulonglong) -> cython.ulonglong:
        return ((h ^ (h >> 32) ^ more) * self._multiplier) & M64

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _renumber(self) -> cython.void:
        """Begin to count slots anew: the stamps of this segment become 1, all others 0."""
        i: cython.Py_ssize_t
        for i in range(len(self._stamps)):
            self._stamps[i] = self._first_stamp <= self._stamps[i]
        self._first_stamp = 1
        self._stamp = 2

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _count(self) -> cython.void:
        """Count the buckets in the buffer that this slot has not seen."""
        i: cython.Py_ssize_t
        bucket: cython.uint
        last: cython.int
        weight: cython.int
        risk: cython.int = 0
        attribution: cython.int = 0
        n_new: cython.int = 0
        n_distinct: cython.int = 0
        stamp: cython.int = self._stamp
        first_stamp: cython.int = self._first_stamp
        if self._finds:
            for i in range(1, self._n_buckets):
                bucket = self._buckets[i]
                if self._stamps[bucket] != stamp and self._weights[bucket] != 0:
                    self._indices[2 * self._n_emitted] = bucket
                    self._indices[2 * self._n_emitted + 1] = self._weights[bucket]
                    self._n_emitted += 1
                self._stamps[bucket] = stamp
        elif self._emits == SUMS:
            for i in range(1, self._n_buckets):  # without a branch, which would often be mispredicted
                bucket = self._buckets[i]
                last = self._stamps[bucket]
                self._stamps[bucket] = stamp
                weight = self._weights[bucket] & ((last - stamp) >> 31)
                attribution += weight >> 16
                weight &= (last - first_stamp) >> 31
                n_new += weight != 0
                risk += ((weight & 0xFFFF) ^ 0x8000) - 0x8000  # the lower half, with its sign
        else:
            for i in range(1, self._n_buckets):
                bucket = self._buckets[i]
                last = self._stamps[bucket]
                self._stamps[bucket] = stamp
                n_distinct += last != stamp
                n_new += last < first_stamp
                if (self._emits == POOLED and last < first_stamp) or (self._emits == OWN and last != stamp):
                    self._emit(bucket)
        self._n_buckets = 1
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
