"""Hypothesis strategies: texts, messages, threads and settings. All words are invented and mild."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st
from oracle import MAX_CHUNK, Settings

from grooming_flag import Message, Thread

WORDS = [
    "tea",
    "kettle",
    "garden",
    "puzzle",
    "bicycle",
    "football",
    "lantern",
    "pebble",
    "marmalade",
    "I'm",
    "don't",
    "tomorrow",
    "2nd",
    "7",
    "2024",
]
SEPARATORS = [*"   \n\t\u00a0\u3000\u2028-_,.'\u200b\x00", "  ", "*", "**", ""]
LINKS = [
    "http://tea.example/kettle?size=2",
    "see:https://garden.example",
    "HTTPS\uff1a//GARDEN.EXAMPLE",
    "www.pebble.example",
    "wwww.pebble.example",
    "\uff37\uff37\uff37.pebble.example",
    "kettle@tea.example",
    "(kettle@tea.example)",
    "first.last+puzzle@mail.garden.example.",
    "kettle\uff20tea\uff0eexample",
    "@lantern",
    "@Lantern_7,hello",
    "@\u200blantern",
    "@\u0431\u0430\u0431",
]
NEAR_LINKS = [
    "@",
    "@@",
    "@@pebble",
    "@@a.b",
    "@-",
    "@7",
    "://",
    ":/",
    "//:",
    "a:/b",
    "a@b",
    "a@b.",
    "a@.b",
    "a@-.b",
    "@.b",
    "www.",
    "ww.",
    "ww.a",
    "w.a",
    ".www.a",
    ":",
    "a@b@c.d",
]
CLUSTERS = [
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",  # a family
    "\U0001f44b\U0001f3fd",  # a hand with a skin tone
    "\U0001f1eb\U0001f1f7",  # a flag
    "\u2764\ufe0f",
    "7\ufe0f\u20e3",  # a keycap
    "\u05e9\u05dc\u05d5\u05dd",  # right-to-left words
    "\u0645\u0631\u062d\u0628\u0627",
    "\u202eolleh\u202c",
    "cafe\u0301",
    "Z\u0351\u036b\u0343a\u0321\u0353l\u0336",
    "pa\u00adper",
    "\ufeffhello",
    "\ud55c\uad6d\uc5b4",
    "\u4f60\u597d",
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\ufb01\ufb02\ufb03",  # ligatures and others that fold to several
    "\u01c6\u00df\u1e9e\u0130",
    "\u00bd\u2460\u2167",
    "\u2026",
    "\u33af",
    "\ufdfa",
    "\u00a8",
    "\u037a",
    "\u24d7\u24d8",
    "\U0001f177\U0001f178",
    "\u043f\u0440\u0438\u0432\u0435\u0442",
    "\u0440\u0430\u0443",
    "\ud800",  # lone surrogates
    "\udc00\ud83d",
    "\x00\x7f\x85",
    "\uffff\U0010ffff",
]


def full_width(word: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in word)


def cyrillic(word: str) -> str:
    return word.translate(str.maketrans("aceopxyi", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456"))


def accented(word: str) -> str:
    return "".join(c + "\u0301" for c in word)


def spaced_out(word: str) -> str:
    return "\u200b".join(word)


def bold(word: str) -> str:
    return "".join(chr(0x1D400 + ord(c) - ord("A")) if "A" <= c <= "Z" else c for c in word.upper())


def composed(word: str) -> str:
    return unicodedata.normalize("NFC", accented(word))


def styled_words() -> st.SearchStrategy[str]:
    styles = [str, str.upper, str.title, full_width, cyrillic, accented, composed, spaced_out, bold]
    return st.builds(lambda style, word: style(word), st.sampled_from(styles), st.sampled_from(WORDS))


def repeats() -> st.SearchStrategy[str]:
    """Something short many times over: long runs of a letter, very long words, long unbroken lines."""
    short = st.sampled_from(
        ["a", "A\u0430", "ha", "abc", "7", "12", "e\u0301", "-", "a-", "ab.", "\ufb01", "oh!", "@", ":"]
    )
    how_often = st.one_of(st.integers(1, 5), st.integers(6, 90), st.sampled_from([127, 128, 129, 255, 256, 257, 300]))
    return st.builds(lambda text, times: text * times, short, how_often)


def any_characters(max_size: int = 12) -> st.SearchStrategy[str]:
    return st.text(st.characters(), max_size=max_size)


def pieces() -> st.SearchStrategy[str]:
    return st.one_of(
        styled_words(),
        st.sampled_from(LINKS),
        st.sampled_from(NEAR_LINKS),
        st.sampled_from(CLUSTERS),
        repeats(),
        any_characters(),
        st.text("ab7@:/.w' ", max_size=20),
    )


def around_the_cut() -> st.SearchStrategy[str]:
    """Chunks that grow past their limit in the middle of something."""
    filler = st.sampled_from(["ab-", "a-b!", "abcdefgh", "kettle", "7a"])
    length = st.integers(MAX_CHUNK - 6, MAX_CHUNK + 3)
    start = st.builds(lambda text, stop: (text * MAX_CHUNK)[:stop], filler, length)
    return st.builds(lambda *parts: "".join(parts), start, pieces(), st.sampled_from(["", " "]), pieces())


def chat() -> st.SearchStrategy[str]:
    """Mostly words of ASCII letters between spaces, of all lengths, and what may stand among them."""
    word = st.one_of(
        st.text("abcWw", min_size=1, max_size=6),
        st.text("abc", min_size=28, max_size=40),
        st.sampled_from([*"aAuw", *WORDS, "www.tea", "a\u200bb", "h\u00e9", "a*b"]),
    )
    end = st.sampled_from([" ", " ", " ", " ", "  ", "\t", ". ", "!! ", "?", ", ", "...", "' ", " \u00a0"])
    return st.lists(st.builds("".join, st.tuples(word, end)), max_size=12).map("".join)


def texts() -> st.SearchStrategy[str]:
    """Any Unicode, and everything that the kernel treats in a way of its own."""
    joined = st.builds(
        lambda parts: "".join(part + separator for part, separator in parts),
        st.lists(st.tuples(pieces(), st.sampled_from(SEPARATORS)), max_size=8),
    )
    return st.one_of(joined, joined, chat(), any_characters(60), around_the_cut())


def authors(at_most: int = 50) -> st.SearchStrategy[str]:
    return st.integers(1, at_most).map(lambda number: f"author {number}")


def messages() -> st.SearchStrategy[Message]:
    return st.builds(Message, author=authors(), text=texts())


@st.composite
def conversations(draw: st.DrawFn, max_size: int = 12) -> list[Message]:
    """Return messages of few or many authors, some texts empty and some said more than once."""
    names = authors(draw(st.sampled_from([1, 2, 3, 50])))
    said = draw(st.lists(st.one_of(texts(), st.sampled_from(["", " ", "tea?", "Tea, tea"])), min_size=1, max_size=5))
    return draw(st.lists(st.builds(Message, author=names, text=st.sampled_from(said)), max_size=max_size))


def threads(max_size: int = 6) -> st.SearchStrategy[Thread]:
    return st.builds(Thread, thread_id=st.just("t"), messages=conversations(max_size))


def settings() -> st.SearchStrategy[Settings]:
    """Any settings that `FeatureExtractor` takes, the number of buckets kept small enough to be quick."""
    lengths = st.tuples(st.integers(2, 16), st.integers(2, 16)).map(lambda pair: (min(pair), max(pair)))
    return st.builds(
        Settings,
        n_features=st.sampled_from([2**18, 2**8, 2**9, 2**13, 2**20]),
        word_ngrams=st.sampled_from([2, 1]),
        char_ngrams=st.one_of(st.just((4, 4)), st.just((4, 4)), st.just((3, 5)), st.none(), lengths),
        seed=st.one_of(st.just(0), st.integers(0, 2**64 - 1)),
        key=st.one_of(st.none(), st.text(max_size=16)),
    )
