"""Build the table that folds code points: `grooming_flag/fold-1.safetensors`.

Run it when the rules below or the Unicode data change, under a new table version: shipped models name the
version they were trained with, and a score must never depend on the Python that runs it.

    pip install unicodedata2 safetensors numpy confusables
    python scripts/build_fold_table.py CONFUSABLES.TXT OUT

CONFUSABLES.TXT is the file of that name of Unicode Technical Standard 39 (the package `confusables` carries one).

Rules, applied to each code point on its own:

1. Compatibility decomposition and case folding (Unicode chapter 3, NFKC_Casefold without its context rules).
2. Nothing remains of combining marks, format and control characters, tags, Hangul fillers and apostrophes.
3. A code point that looks like Latin letters becomes those letters (UTS 39 prototypes; enclosed, regional and
   small-capital letters by name), and with it all code points that fold to the same character, so that
   upper and lower case stay equal. Digits and right-to-left letters are left alone.
4. Every digit becomes 0. White space separates chunks, everything else that is neither letter nor digit
   separates words.

A result has at most `MAX_EXPANSION` code points; what is longer is cut (some ligatures and squared words).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import unicodedata2 as ucd
from safetensors.numpy import save_file

DELETE, SPACE, PUNCTUATION, LETTER, DIGIT, EXPAND = range(6)
KIND_SHIFT = 24  # an entry is kind << 24 | code point, 0 standing for itself outside ASCII, or a place in the pool
PAGE = 128
MAX_EXPANSION = 4
SPACES = {*range(0x09, 0x0E), 0x85}
APOSTROPHES = {*map(ord, "'`´‘’‛ʹʻʼʽˈ＇")}
FILLERS = {0x115F, 0x1160, 0x2065, 0x3164, 0xFFA0, *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000)}
LETTER_NAME = re.compile(
    r"(?:NEGATIVE (?:SQUARED|CIRCLED) LATIN CAPITAL LETTER|PARENTHESIZED LATIN (?:CAPITAL|SMALL) LETTER"
    r"|REGIONAL INDICATOR SYMBOL LETTER|LATIN LETTER SMALL CAPITAL) ([A-Z])$"
)


def decompose(text: str) -> str:
    """Compatibility-decomposed, case-folded, without marks; Hangul syllables stay whole."""
    for _ in range(2):
        text = ucd.normalize("NFKD", text).casefold()
    kept = "".join(c for c in text if ucd.category(c) not in ("Mn", "Me", "Cf") and ord(c) not in APOSTROPHES)
    return ucd.normalize("NFC", kept)


def read_confusables(path: Path) -> dict[str, str]:
    """Return look-alike -> one or two Latin letters, from the file of UTS 39."""
    lookalikes = {}
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        fields = line.split("#")[0].split(";")
        if len(fields) < 3 or " " in fields[0].strip():
            continue
        source = chr(int(fields[0], 16))
        prototype = "".join(chr(int(cp, 16)) for cp in fields[1].split())
        target = decompose(prototype)
        target = "m" if target == "rn" else target
        if re.fullmatch("[a-z]{1,2}", target) and "ß" not in prototype:  # the prototype of a Greek beta
            lookalikes[source] = target
    return lookalikes


def is_foldable(char: str) -> bool:
    return not char.isascii() and ucd.category(char)[0] != "N" and ucd.bidirectional(char) not in ("R", "AL")


def letters_by_base(confusables: dict[str, str]) -> dict[str, str]:
    """Return base character -> Latin letters, for every base one of whose members looks like Latin."""
    letters: dict[str, str] = {}
    for codepoint in range(0x80, sys.maxunicode + 1):
        char = chr(codepoint)
        name = LETTER_NAME.match(ucd.name(char, ""))
        base = decompose(char)
        if name:
            letters[char] = name[1].lower()
        elif char in confusables and is_foldable(char) and len(base) == 1 and is_foldable(base):
            letters[base] = confusables[char] if char == base else letters.get(base, confusables[char])
    return letters


def kind_of(char: str) -> int:
    category = ucd.category(char)
    if ord(char) in SPACES or category[0] == "Z":
        return SPACE
    if ord(char) in APOSTROPHES or ord(char) in FILLERS or category in ("Cc", "Cf", "Mn", "Me"):
        return DELETE
    if category in ("Nd", "No"):
        return DIGIT
    return LETTER if category[0] in "LMN" else PUNCTUATION


def fold(char: str, letters: dict[str, str]) -> str:
    if kind_of(char) in (DELETE, SPACE) or 0xD800 <= ord(char) < 0xE000:
        return char
    if char in letters:
        return letters[char]
    folded = "".join(letters.get(c, c) for c in decompose(char))
    return folded[:MAX_EXPANSION]


def entry(source: str, folded: str) -> int:
    kind = kind_of(folded)
    value = ord("0") if kind == DIGIT else 0 if folded == source and not source.isascii() else ord(folded)
    return kind << KIND_SHIFT | value


def build(confusables: dict[str, str]) -> dict[str, np.ndarray]:
    letters = letters_by_base(confusables)
    pool: list[int] = []
    codes = np.zeros(sys.maxunicode + 1, dtype=np.uint32)
    for codepoint in range(sys.maxunicode + 1):
        char = chr(codepoint)
        folded = fold(char, letters)
        if len(folded) == 1:
            codes[codepoint] = entry(char, folded)
        elif folded:  # an empty result is DELETE, which is 0
            codes[codepoint] = EXPAND << KIND_SHIFT | len(pool)
            pool += [len(folded), *(entry("", c) for c in folded)]
    blocks, pages = np.unique(codes.reshape(-1, PAGE), axis=0, return_inverse=True)
    ascii_first = np.argsort(np.arange(len(blocks)) != pages.ravel()[0], kind="stable")
    return {
        "pages": np.argsort(ascii_first)[pages.ravel()].astype(np.uint16),
        "blocks": blocks[ascii_first].ravel(),
        "pool": np.array(pool, dtype=np.uint32),
    }


def main(confusables: str, out: str) -> None:
    tables = build(read_confusables(Path(confusables)))
    save_file(tables, out, metadata={"unicode": ucd.unidata_version})
    Path(out).chmod(0o644)
    print({name: array.shape for name, array in tables.items()}, file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
