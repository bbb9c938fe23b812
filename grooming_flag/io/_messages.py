# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The messages of a thread, from JSON or from rows of Arrow, straight to buffers: no Python object a message.

Of JSON it takes what is valid and as usual, and decides nothing about errors: whatever else there is (another type, a
time of another form, an escape in a name, bytes that are not UTF-8) it leaves to the caller, who reads such a thread in
the way that takes longer.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from grooming_flag import _cython as cython  # type: ignore[no-redef]

QUOTE = cython.declare(cython.const[cython.uchar], 0x22)
BACKSLASH = cython.declare(cython.const[cython.uchar], 0x5C)
ZERO = cython.declare(cython.const[cython.uchar], 0x30)
NINE = cython.declare(cython.const[cython.uchar], 0x39)
NEAR = cython.declare(cython.const[cython.int], 8)  # authors that are looked for in turn, before a dictionary is asked
LONG_NAME = cython.declare(cython.const[cython.int], 64)  # bytes of a name that is looked for in turn
LONG_WHOLE = cython.declare(cython.const[cython.int], 18)  # digits that fit 64 bits
LONG_NUMBER = cython.declare(cython.const[cython.int], 300)  # digits of what is finite
DEEP = cython.declare(cython.const[cython.int], 16)  # lists and objects within one another
ONES = cython.declare(cython.const[cython.ulonglong], 0x0101010101010101)  # one a byte

if cython.compiled:
    from cython.cimports.libc.string import memcmp, memcpy

compiled = cython.compiled


@cython.final
@cython.cclass
class Unpacker:
    """Reads one thread after the other into buffers that its owner gives it, see `use`."""

    _raw: cython.const[cython.uchar][::1]
    _text: cython.uchar[::1]
    _offsets: cython.longlong[::1]
    _codes: cython.int[::1]
    _kept: cython.Py_ssize_t  # messages
    _n: cython.Py_ssize_t  # those behind them that were read last included
    _end: cython.Py_ssize_t  # of the text of these
    _i: cython.Py_ssize_t  # where reading is
    _stop: cython.Py_ssize_t  # the end of what is read, behind a newline
    _n_others: cython.Py_ssize_t  # values of the list or object just read that are not strings
    _number_is: cython.int  # what the number just read has: 0 digits alone, 1 a fraction, 2 an exponent
    _escapes: cython.bint  # whether the string just read has any
    _author_start: cython.Py_ssize_t  # in what is read, of the message just read
    _author_stop: cython.Py_ssize_t
    _text_start: cython.Py_ssize_t
    _text_stop: cython.Py_ssize_t
    _text_escapes: cython.bint
    _authors: list  # of the thread, in order of appearance
    _code_of: dict
    _names: cython.uchar[512]  # those of the first authors
    _sizes: cython.Py_ssize_t[8]  # and how long they are, -1 where too long

    def __init__(self) -> None:
        if not cython.compiled:
            self._names, self._sizes = [0] * (NEAR * LONG_NAME), [0] * NEAR
        self.forget()
        self._authors = []
        self._code_of = {}

    def use(self, text, offsets, codes) -> None:
        """Use these buffers, which hold what has been read.

        Parameters
        ----------
        text : writable buffer of uint8
            UTF-8 text of all messages, end to end.
        offsets : writable buffer of int64
            Message ``m`` is ``text[offsets[m]:offsets[m + 1]]``; the first is 0.
        codes : writable buffer of int32
            Place of the author of each message among the authors of its thread.
        """
        self._text = text
        self._offsets = offsets
        self._codes = codes

    def used(self) -> tuple:
        """Return how many messages and bytes of text have been read, those included that are not kept yet."""
        return self._n, self._end

    def has_room(self, n_messages: cython.Py_ssize_t, n_bytes: cython.Py_ssize_t) -> bool:
        """Return whether so many more messages with so much text fit."""
        return self._has_room(n_messages, n_bytes)

    def begin(self) -> None:
        """Begin a thread, in place of what has been read and not been kept."""
        self._n = self._kept
        self._end = self._offsets[self._kept]
        self._authors = []
        self._code_of = {}

    def keep(self) -> tuple:
        """Keep the thread; return how many messages it has, and its authors in order of appearance."""
        n: cython.Py_ssize_t = self._n - self._kept
        self._kept = self._n
        return n, self._authors

    def forget(self) -> None:
        """Begin anew with empty buffers."""
        self._kept = self._n = self._end = 0

    def add(self, author: bytes, text: bytes) -> None:
        """Add a message, both in UTF-8."""
        if not self._has_room(1, len(text)):
            raise ValueError("make room first")
        self._raw = author
        self._codes[self._n] = self._code(author, 0, len(author))
        self._raw = text
        self._add(0, len(text), False)

    def add_rows(self, names, name_offsets, texts, text_offsets, start: int, stop: int) -> None:
        """Add rows of a table, whose strings are buffers of UTF-8 with offsets as those of messages are."""
        i: cython.Py_ssize_t
        first: cython.Py_ssize_t = start
        end: cython.Py_ssize_t = stop
        offsets: cython.const[cython.longlong][::1] = text_offsets
        if not self._has_room(end - first, offsets[end] - offsets[first]):
            raise ValueError("make room first")
        offsets = name_offsets
        self._raw = names
        for i in range(first, end):
            self._codes[self._n + i - first] = self._code(names, offsets[i], offsets[i + 1])
        offsets = text_offsets
        self._raw = texts
        for i in range(first, end):
            self._add(offsets[i], offsets[i + 1], False)

    def read(self, line: bytes):  # type: ignore[no-untyped-def]
        """Add the messages of a thread, a line of JSON that ends with a newline.

        Returns
        -------
        str or None
            The id of the thread; None, whatever was added, if any of it is not as usual.
        """
        kind: cython.uchar
        n: cython.Py_ssize_t = self._n
        name: cython.Py_ssize_t = -1
        end: cython.Py_ssize_t = -1
        start: cython.Py_ssize_t
        self._raw = line
        self._i = 0
        self._stop = len(line)
        if self._stop == 0 or line[self._stop - 1] != 0x0A or self._next() != 0x7B:
            return None
        self._i += 1
        while True:
            kind = self._key(False)
            start = self._i
            if kind == 0x6D:
                if self._n > n or not self._messages(line):
                    return None
            elif kind == 0 or not self._value(0) or not self._is_fit(kind, start):
                return None
            if kind == 0x74:
                name, end = start + 1, self._i - 1
            if self._next() == 0x2C:
                self._i += 1
                continue
            break
        if self._next() != 0x7D or self._n == n or name < 0:
            return None
        self._i += 1
        self._next()
        return line[name:end].decode() if self._i == self._stop else None

    @cython.cfunc
    @cython.exceptval(check=False)
    def _is_fit(self, kind: cython.uchar, start: cython.Py_ssize_t) -> cython.bint:
        """Return whether the value of a thread that was read last is one that its field has."""
        byte: cython.uchar = self._raw[start]
        if kind == 0x74:
            return byte == QUOTE and not self._escapes
        if kind == 0x2D or byte == 0x6E:  # null
            return True
        if kind == 0x6C:
            return (byte == ZERO or byte == ZERO + 1) and self._i == start + 1
        if kind == 0x70:
            return byte == QUOTE
        return byte == 0x5B and self._n_others == 0  # suspects, a list of strings

    @cython.cfunc
    def _messages(self, line: bytes) -> cython.bint:
        """Add the messages of the list that begins here; return whether it is one, and all are usual."""
        if self._next() != 0x5B:
            return False
        self._i += 1
        while True:
            if not self._message() or not self._has_room(1, self._text_stop - self._text_start):
                return False
            self._codes[self._n] = self._code(line, self._author_start, self._author_stop)
            self._add(self._text_start, self._text_stop, self._text_escapes)
            if self._next() != 0x2C:
                break
            self._i += 1
        return self._ends(0x5D)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _ends(self, close: cython.uchar) -> cython.bint:
        """Go behind this byte if it comes next; return whether it does."""
        if self._next() != close:
            return False
        self._i += 1
        return True

    @cython.cfunc
    @cython.exceptval(check=False)
    def _message(self) -> cython.bint:
        """Go behind the message that begins here and note where its author and text are; return whether it is usual."""
        kind: cython.uchar
        start: cython.Py_ssize_t
        self._author_start = self._text_start = -1
        if self._next() != 0x7B:
            return False
        self._i += 1
        while True:
            kind = self._key(True)
            start = self._i
            if kind == 0:
                return False
            if self._raw[start] == QUOTE:
                if not self._string() or (kind == 0x73 and not self._is_moment(start + 1, self._i - 1)):
                    return False
                if kind == 0x74:
                    self._text_start = start + 1
                    self._text_stop = self._i - 1
                    self._text_escapes = self._escapes
                elif kind == 0x61:
                    self._author_start = start + 1
                    self._author_stop = self._i - 1
                    if self._escapes:
                        return False
            elif kind == 0x61 or kind == 0x74 or not self._value(0):
                return False
            elif kind != 0x2D and not self._is_number(kind, start):
                return False
            if self._next() != 0x2C:
                break
            self._i += 1
        return self._ends(0x7D) and self._author_start >= 0 and self._text_start >= 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def _is_number(self, kind: cython.uchar, start: cython.Py_ssize_t) -> cython.bint:
        """Return whether the value that was read last is null, or a number as a time or an id may be."""
        byte: cython.uchar = self._raw[start]
        if byte == 0x6E:
            return True
        if byte != 0x2D and (byte < ZERO or byte > NINE):
            return False
        if kind == 0x6D:
            return self._number_is == 0 and self._i - start <= LONG_WHOLE
        return self._number_is != 2 and self._i - start <= LONG_NUMBER

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _next(self) -> cython.uchar:
        """Go to the next byte that is not white space, and return it, or 0 at the end."""
        byte: cython.uchar
        while self._i < self._stop:
            byte = self._raw[self._i]
            if byte != 0x20 and byte != 0x09 and byte != 0x0A and byte != 0x0D:
                return byte
            self._i += 1
        self._i = self._stop
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def _key(self, of_message: cython.bint) -> cython.uchar:
        """Go to the value behind the key that comes next, and return a letter for the key; 0 if it is not as usual.

        Of a message ``a`` for author, ``t`` for text, ``s`` for sent_at, ``m`` for message_id; of a thread ``t`` for
        thread_id, ``m`` for messages, ``l`` for label, ``s`` for suspects, ``p`` for person; ``-`` for any other.
        """
        kind: cython.uchar = 0x2D
        if self._next() != QUOTE:
            return 0
        if of_message:
            if self._is(b'"text"', 6):
                kind = 0x74
            elif self._is(b'"author"', 8):
                kind = 0x61
            elif self._is(b'"sent_at"', 9):
                kind = 0x73
            elif self._is(b'"message_id"', 12):
                kind = 0x6D
        elif self._is(b'"messages"', 10):
            kind = 0x6D
        elif self._is(b'"thread_id"', 11):
            kind = 0x74
        elif self._is(b'"label"', 7):
            kind = 0x6C
        elif self._is(b'"suspects"', 10):
            kind = 0x73
        elif self._is(b'"person"', 8):
            kind = 0x70
        if kind == 0x2D and (not self._string() or self._escapes):
            return 0
        if self._next() != 0x3A:
            return 0
        self._i += 1
        return kind if self._next() else 0

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _is(self, word: cython.p_const_char, size: cython.Py_ssize_t) -> cython.bint:
        """Go behind this word if it is here; return whether it is."""
        if self._i + size > self._stop:
            return False
        if cython.compiled:
            if memcmp(cython.address(self._raw[self._i]), word, size) != 0:
                return False
        elif self._raw[self._i : self._i + size] != word:
            return False
        self._i += size
        return True

    @cython.cfunc
    @cython.exceptval(check=False)
    def _string(self) -> cython.bint:
        """Go behind the string that begins here; return whether it is one."""
        byte: cython.uchar
        k: cython.Py_ssize_t
        i: cython.Py_ssize_t = self._i + 1
        eight: cython.ulonglong = 0
        special: cython.ulonglong
        self._escapes = False
        while True:
            while cython.compiled and i + 8 <= self._stop:  # bytes at once, as long as none of them is special
                memcpy(cython.address(eight), cython.address(self._raw[i]), 8)
                special = eight | (eight - 0x20 * ONES)
                special |= ((eight ^ (QUOTE * ONES)) - ONES) | ((eight ^ (BACKSLASH * ONES)) - ONES)
                special &= ONES << 7
                if special:  # its lowest bit is the highest of the first special byte
                    i += ((((special & (0 - special)) - 1) & ONES) * ONES >> 56) - 1
                    break
                i += 8
            byte = self._raw[i]
            while byte >= 0x20 and byte < 0x80 and byte != QUOTE and byte != BACKSLASH:
                i += 1
                byte = self._raw[i]
            if byte == QUOTE:
                self._i = i + 1
                return True
            if byte == BACKSLASH:
                self._escapes = True
                byte = self._raw[i + 1]
                if byte == 0x75:
                    for k in range(i + 2, i + 6):
                        if not self._is_hexadecimal(self._raw[k]):
                            return False
                    i += 6
                elif (
                    byte == QUOTE or byte == BACKSLASH or byte == 0x2F or byte == 0x62
                    or byte == 0x66 or byte == 0x6E or byte == 0x72 or byte == 0x74
                ):  # fmt: skip
                    i += 2
                else:
                    return False
            elif byte >= 0x80:
                k = self._sequence(i)
                if k == 0:
                    return False
                i += k
            else:
                return False

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _is_hexadecimal(self, byte: cython.uchar) -> cython.bint:
        return (ZERO <= byte and byte <= NINE) or (0x61 <= (byte | 0x20) and (byte | 0x20) <= 0x66)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _sequence(self, i: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Return how many bytes the character that begins here takes in UTF-8, or 0 if it is none.

        The Unicode Standard, table 3-7: the second byte tells overlong forms, surrogates and what is too great.
        """
        k: cython.Py_ssize_t
        size: cython.Py_ssize_t
        lead: cython.uchar = self._raw[i]
        second: cython.uchar = self._raw[i + 1]
        if lead < 0xC2 or lead > 0xF4:
            return 0
        size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        if (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second >= 0xA0):
            return 0
        if (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second >= 0x90):
            return 0
        for k in range(1, size):  # the newline at the end is none of these
            if (self._raw[i + k] & 0xC0) != 0x80:
                return 0
        return size

    @cython.cfunc
    @cython.exceptval(check=False)
    def _value(self, depth: cython.int) -> cython.bint:
        """Go behind the value that comes next; return whether it is one, and not too deep."""
        byte: cython.uchar = self._next()
        close: cython.uchar = 0x5D
        others: cython.int = 0
        if byte == QUOTE:
            return self._string()
        if byte == 0x74:
            return self._is(b"true", 4)
        if byte == 0x66:
            return self._is(b"false", 5)
        if byte == 0x6E:
            return self._is(b"null", 4)
        if byte == 0x2D or (ZERO <= byte and byte <= NINE):
            return self._decimal()
        if byte != 0x5B and byte != 0x7B:
            return False
        if byte == 0x7B:
            close = 0x7D
        if depth == DEEP:
            return False
        self._i += 1
        if self._next() != close:
            while True:
                if close == 0x7D and self._key(False) == 0:
                    return False
                others += self._next() != QUOTE
                if not self._value(depth + 1):
                    return False
                if self._next() != 0x2C:
                    break
                self._i += 1
        self._n_others = others
        return self._ends(close)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _decimal(self) -> cython.bint:
        """Go behind the number that begins here, noting of which kind; return whether it is one."""
        i: cython.Py_ssize_t = self._i
        start: cython.Py_ssize_t
        self._number_is = 0
        i += self._raw[i] == 0x2D
        start = i
        i = self._digits(i)
        if i == start or (self._raw[start] == ZERO and i > start + 1):
            return False
        if self._raw[i] == 0x2E:
            self._number_is = 1
            start = i + 1
            i = self._digits(start)
            if i == start:
                return False
        if (self._raw[i] | 0x20) == 0x65:
            self._number_is = 2
            start = i + 1
            start += self._raw[start] == 0x2B or self._raw[start] == 0x2D
            i = self._digits(start)
            if i == start:
                return False
        self._i = i
        return True

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _digits(self, i: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Return where the digits that begin here end."""
        while ZERO <= self._raw[i] and self._raw[i] <= NINE:
            i += 1
        return i

    @cython.cfunc
    @cython.exceptval(check=False)
    def _is_moment(self, start: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.bint:
        """Return whether this is a date and a time as in ``2030-12-31T23:59:59.999+01:00``, from 1970 to 2099."""
        i: cython.Py_ssize_t
        year: cython.int = self._number(start, 4, stop)
        month: cython.int = self._number(start + 5, 2, stop)
        day: cython.int = self._number(start + 8, 2, stop)
        if year < 1970 or year > 2099 or month < 1 or month > 12 or day < 1 or day > 31 - (month == 2) * 3:
            return False
        if day == 31 and (month == 4 or month == 6 or month == 9 or month == 11):
            return False
        if self._raw[start + 4] != 0x2D or self._raw[start + 7] != 0x2D:
            return False
        if (self._raw[start + 10] != 0x54 and self._raw[start + 10] != 0x20) or not self._is_clock(start + 11, stop):
            return False
        i = start + 16
        if self._raw[i] != 0x3A or self._number(i + 1, 2, stop) < 0 or self._number(i + 1, 2, stop) > 59:
            return False
        i += 3
        if i < stop and self._raw[i] == 0x2E:
            if self._number(i + 1, 6, stop) >= 0:
                i += 7
            elif self._number(i + 1, 3, stop) >= 0:
                i += 4
            else:
                return False
        if i == stop or (i == stop - 1 and self._raw[i] == 0x5A):
            return True
        return i == stop - 6 and (self._raw[i] == 0x2B or self._raw[i] == 0x2D) and self._is_clock(i + 1, stop)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _is_clock(self, start: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.bint:
        """Return whether hours and minutes are here."""
        hours: cython.int = self._number(start, 2, stop)
        minutes: cython.int = self._number(start + 3, 2, stop)
        return 0 <= hours and hours < 24 and 0 <= minutes and minutes < 60 and self._raw[start + 2] == 0x3A

    @cython.cfunc
    @cython.exceptval(check=False)
    def _number(self, start: cython.Py_ssize_t, size: cython.int, stop: cython.Py_ssize_t) -> cython.int:
        """Return the number of so many digits that is here, or -1."""
        i: cython.Py_ssize_t
        number: cython.int = 0
        if start + size > stop:
            return -1
        for i in range(start, start + size):
            if self._raw[i] < ZERO or self._raw[i] > NINE:
                return -1
            number = 10 * number + self._raw[i] - ZERO
        return number

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _has_room(self, n_messages: cython.Py_ssize_t, n_bytes: cython.Py_ssize_t) -> cython.bint:
        n: cython.Py_ssize_t = self._n + n_messages
        return n <= len(self._codes) and n < len(self._offsets) and self._end + n_bytes <= len(self._text)

    @cython.cfunc
    def _code(self, source, start: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Return the place of the author in ``source[start:stop]``, which `_raw` shows, among those of the thread."""
        k: cython.Py_ssize_t
        i: cython.Py_ssize_t
        n: cython.Py_ssize_t = len(self._authors)
        size: cython.Py_ssize_t = stop - start
        for k in range(min(n, NEAR)):
            if self._sizes[k] != size:
                continue
            i = 0
            while i < size and self._raw[start + i] == self._names[LONG_NAME * k + i]:
                i += 1
            if i == size:
                return k
        name = bytes(source[start:stop])
        code = self._code_of.get(name)
        if code is not None:
            return code
        self._authors.append(name.decode("utf-8", "surrogatepass"))
        self._code_of[name] = n
        if n < NEAR:
            self._sizes[n] = size if size <= LONG_NAME else -1
            for i in range(min(size, LONG_NAME)):
                self._names[LONG_NAME * n + i] = self._raw[start + i]
        return n

    @cython.cfunc
    @cython.exceptval(check=False)
    def _add(self, start: cython.Py_ssize_t, stop: cython.Py_ssize_t, escapes: cython.bint) -> cython.void:
        """Add the text of a message whose author is there."""
        self._copy(start, stop, escapes)
        self._n += 1
        self._offsets[self._n] = self._end

    @cython.cfunc
    @cython.exceptval(check=False)
    def _copy(self, i: cython.Py_ssize_t, stop: cython.Py_ssize_t, escapes: cython.bint) -> cython.void:
        """Append a text."""
        end: cython.Py_ssize_t = self._end
        byte: cython.uchar
        unit: cython.uint
        low: cython.uint
        if not escapes and i < stop:
            if cython.compiled:
                memcpy(cython.address(self._text[end]), cython.address(self._raw[i]), stop - i)
            else:
                self._text[end : end + stop - i] = self._raw[i:stop]
            end += stop - i
            i = stop
        while i < stop:
            byte = self._raw[i]
            i += 1
            if byte != BACKSLASH:
                self._text[end] = byte
                end += 1
                continue
            byte = self._raw[i]
            i += 1
            if byte != 0x75:
                self._text[end] = (
                    8 if byte == 0x62 else 12 if byte == 0x66 else 10 if byte == 0x6E
                    else 13 if byte == 0x72 else 9 if byte == 0x74 else byte
                )  # fmt: skip
                end += 1
                continue
            unit = self._unit(i)
            i += 4
            if (unit & 0xFC00) == 0xD800 and i + 1 < stop and self._raw[i] == BACKSLASH and self._raw[i + 1] == 0x75:
                low = self._unit(i + 2)
                if (low & 0xFC00) == 0xDC00:
                    unit = 0x10000 + ((unit & 0x3FF) << 10) + (low & 0x3FF)
                    i += 6
            if unit < 0x80:
                self._text[end] = unit
                end += 1
                continue
            if unit < 0x800:
                self._text[end] = 0xC0 | (unit >> 6)
                end += 1
            else:
                if unit < 0x10000:
                    self._text[end] = 0xE0 | (unit >> 12)
                    end += 1
                else:
                    self._text[end] = 0xF0 | (unit >> 18)
                    self._text[end + 1] = 0x80 | ((unit >> 12) & 0x3F)
                    end += 2
                self._text[end] = 0x80 | ((unit >> 6) & 0x3F)
                end += 1
            self._text[end] = 0x80 | (unit & 0x3F)
            end += 1
        self._end = end

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _unit(self, i: cython.Py_ssize_t) -> cython.uint:
        """Return the number that four hexadecimal digits make."""
        k: cython.Py_ssize_t
        byte: cython.uint
        unit: cython.uint = 0
        for k in range(i, i + 4):
            byte = self._raw[k]
            unit = unit << 4 | (byte - 0x30 if byte <= NINE else (byte | 0x20) - 0x57)
        return unit
