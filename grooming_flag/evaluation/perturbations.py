"""Threads rewritten as somebody who wants to pass unnoticed might, or as the next log happens to be kept.

A perturbation is a function of a thread and a source of chance that returns another thread. To add one::

    @perturbation("backwards")
    def backwards(thread: Thread, rng: random.Random) -> Thread:
        \"\"\"Write every message backwards.\"\"\"
        return rewrite(thread, lambda text: text[::-1])

The first line of its docstring says what it does and how strongly; reports print it. What holds for all of them:

- Label, person and thread id stay. Suspects stay, or are renamed with the authors.
- A message keeps its id, merged ones the first's; a new one has none, and `perturb` gives it a number of its own.
- Times still never fall: a new message has the time of the one that it follows or is a piece of.
- A thread with messages never loses the last of them.

The strengths are our choice: what a tool does for its user is done to all letters; what is done by hand is there twice,
to half of the words and, with "-throughout" in its name, to all (typing errors to a third); always by all authors, in
every message.
"""

from __future__ import annotations

import inspect
import itertools
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b

from grooming_flag.errors import DataError
from grooming_flag.records import Message, Thread

Perturbation = Callable[[Thread, random.Random], Thread]
ChangeOfWord = Callable[[str, random.Random], str]

PERTURBATIONS: dict[str, Perturbation] = {}

HALF, ALL = 1 / 2, 1.0  # share of the words that somebody alters who does so by hand
MISTYPED = 1 / 3  # share of the words with a typing error
PIECES = (2, 4)  # least and most words of a message, when messages are split
PADDING = 1 / 2  # messages added for each that is there
WINDOW = 5  # messages that are shuffled among themselves

LETTERS = re.compile(r"[^\W\d_]+")
WORD = re.compile(r"[^\W\d_]{3,}")  # long enough to be altered by hand
CHUNK = re.compile(r"(\S+)(\s*)")
MARKED = re.compile(r"[^\w\s]+")

LEET = str.maketrans("aeiostAEIOST", "431057431057")
FULL_WIDTH = {ord(letter): ord(letter) + 0xFEE0 for letter in string.ascii_letters}
CYRILLIC = str.maketrans(
    "acdehijopqswxyABCEHIJKMOPSTXY",
    "\u0430\u0441\u0501\u0435\u04bb\u0456\u0458\u043e\u0440\u051b\u0455\u051d\u0445\u0443"
    "\u0410\u0412\u0421\u0415\u041d\u0406\u0408\u041a\u041c\u041e\u0420\u0405\u0422\u0425\u04ae",
)
GREEK = str.maketrans(
    "aiopuvABEHIKMNOPTXYZ",
    "\u03b1\u03b9\u03bf\u03c1\u03c5\u03bd"
    "\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7\u03a5\u0396",
)
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
MARKS = "\u0300\u0301\u0302\u0303\u0306\u0308\u0323\u0331\u0336\u0338"
NO_VOWELS = str.maketrans("", "", "aeiouAEIOU")
UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
NEXT_KEYS = {
    key: row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for place, key in enumerate(row)
}
RUNS_OF_MARKS = ("!", "!!", "!!!", "?!", "??", "..", "...", ",,", "~", "~~", ";", "*")
EMOJI = ("\U0001f602", "\U0001f602\U0001f602", "\U0001f44d", "\u2764\ufe0f", "\U0001f60a", "\U0001f525", "\U0001f389")
TEXT_SPEAK = {
    "about": "abt", "and": "n", "are": "r", "be": "b", "because": "cuz", "before": "b4", "between": "btwn",
    "could": "cud", "for": "4", "friend": "frnd", "from": "frm", "good": "gd", "great": "gr8", "have": "hv",
    "know": "kno", "later": "l8r", "love": "luv", "message": "msg", "night": "nite", "okay": "k", "people": "ppl",
    "please": "plz", "probably": "prob", "see": "c", "should": "shud", "talk": "tlk", "text": "txt", "thanks": "thx",
    "that": "dat", "the": "da", "this": "dis", "to": "2", "today": "2day", "tomorrow": "2moro", "tonight": "2nite",
    "too": "2", "want": "wnt", "what": "wat", "when": "wen", "why": "y", "with": "w", "would": "wud", "you": "u",
    "your": "ur",
}  # fmt: skip
OPENINGS = (
    "did you hear about", "still thinking about", "so tired of", "not sure about", "just got back from",
    "what do you reckon of", "anyone else up for", "cannot wait for", "nearly missed", "my gran keeps on about",
    "we had a quiz about", "who is in charge of", "reading up on", "somebody was laughing about", "bit bored of",
    "dad spent the whole morning on", "I quite like", "remind me about", "thinking of writing a song about",
    "nobody told me about",
)  # fmt: skip
TOPICS = (
    "the football", "the new pizza place", "that maths test", "the rain", "the bus timetable", "the school fair",
    "my guitar practice", "the chess club", "the garden fence", "that cooking show", "the recycling",
    "a decent sandwich", "the cup final", "this cold", "the library sale", "the bike race", "the neighbor's parrot",
    "those jigsaw puzzles", "the power cut", "the history project",
)  # fmt: skip


def _check_free(name: str) -> None:
    if name in PERTURBATIONS:
        raise ValueError(f"there already is a perturbation {name!r}; choose another name")


def perturbation(name: str) -> Callable[[Perturbation], Perturbation]:
    """Return a decorator that registers a perturbation.

    Parameters
    ----------
    name : str
        Under which `PERTURBATIONS` lists it; it is part of the seed.

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def register(function: Perturbation) -> Perturbation:
        _check_free(name)
        PERTURBATIONS[name] = function
        return function

    return register


def describe(name: str) -> str:
    """Return what a perturbation does: the first line of its docstring."""
    return (inspect.getdoc(_find(name)) or name).splitlines()[0]


def perturb(thread: Thread, names: Iterable[str], seed: int = 0) -> Thread:
    """Return the thread after one or several perturbations, one after the other.

    The chance of each comes from the seed, its name and the thread id alone.

    Parameters
    ----------
    thread : Thread
    names : iterable of str
        Of `PERTURBATIONS`.
    seed : int

    Returns
    -------
    Thread
        Every message has an id: its own, else the place that it had in `thread`, else, if it is new, a number that no
        message of `thread` has.

    Raises
    ------
    DataError
        If there is no perturbation of that name.

    Examples
    --------
    >>> from grooming_flag import Message, Thread
    >>> thread = Thread("t1", [Message("a", "are you coming to the match tomorrow?")])
    >>> perturb(thread, ["abbreviations", "upper-case"]).messages[0].text
    'R U COMING 2 DA MATCH 2MORO?'
    """
    thread = _with_ids(thread, lambda place: place)
    numbers = [m.message_id for m in thread.messages if isinstance(m.message_id, int)]
    unused = itertools.count(1 + max(numbers, default=-1))
    for name in names:
        thread = _find(name)(thread, _chance(seed, name, thread.thread_id))
        thread = _with_ids(thread, lambda _: next(unused))
    return thread


def random_pairs(k: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return k different pairs of different registered names, in random order.

    Raises
    ------
    DataError
        If there are not so many.
    """
    pairs = list(itertools.permutations(sorted(PERTURBATIONS), 2))
    if not 0 <= k <= len(pairs):
        raise DataError(f"{k} pairs of perturbations: there are {len(pairs)}; ask for 0 to {len(pairs)}")
    return random.Random(seed).sample(pairs, k)


def rewrite(thread: Thread, change: Callable[[str], str]) -> Thread:
    """Return the thread with each text changed."""
    return replace(
        thread, messages=[Message(m.author, change(m.text), m.sent_at, m.message_id) for m in thread.messages]
    )


def rewrite_words(thread: Thread, rng: random.Random, change: ChangeOfWord, share: float) -> Thread:
    """Return the thread with about this share of its words changed; those of one or two letters do not count."""

    def maybe(word: re.Match[str]) -> str:
        return change(word[0], rng) if rng.random() < share else word[0]

    return rewrite(thread, partial(WORD.sub, maybe))


def by_hand(name: str) -> Callable[[ChangeOfWord], ChangeOfWord]:
    """Return a decorator that registers two perturbations: a change of half of the words, and of all of them.

    Parameters
    ----------
    name : str
        Of the first; "-throughout" is added for the second. In the docstring of the change, `{words}` says which words.
    """

    def register(change: ChangeOfWord) -> ChangeOfWord:
        _check_free(f"{name}-throughout")
        for suffix, share, words in (("", HALF, "half of the words"), ("-throughout", ALL, "all words")):
            strength = partial(rewrite_words, change=change, share=share)
            strength.__doc__ = (inspect.getdoc(change) or name).format(words=words)
            perturbation(name + suffix)(strength)
        return change

    return register


@by_hand("leet")
def _leet(word: str, rng: random.Random) -> str:
    """Write {words} with digits for the letters a, e, i, o, s and t ("h3ll0")."""
    return word.translate(LEET)


@perturbation("homoglyphs")
def _homoglyphs(thread: Thread, rng: random.Random) -> Thread:
    """Write letters with their look-alikes, those of a word all Cyrillic or all Greek."""
    scripts = (CYRILLIC, GREEK)
    return rewrite(thread, partial(LETTERS.sub, lambda word: word[0].translate(scripts[rng.random() < 0.5])))


@perturbation("zero-width")
def _zero_width(thread: Thread, rng: random.Random) -> Thread:
    """Put a character without width between all letters of every word."""
    return rewrite(thread, partial(LETTERS.sub, lambda word: _one_of(ZERO_WIDTH, rng).join(word[0])))


@perturbation("combining-marks")
def _combining_marks(thread: Thread, rng: random.Random) -> Thread:
    """Put an accent or a stroke on all letters of every word but its last."""
    return rewrite(thread, partial(LETTERS.sub, lambda word: _one_of(MARKS, rng).join(word[0])))


@perturbation("full-width")
def _full_width(thread: Thread, rng: random.Random) -> Thread:
    """Write all Latin letters in full width."""
    return rewrite(thread, lambda text: text.translate(FULL_WIDTH))


@by_hand("letters-spaced")
def _letters_spaced(word: str, rng: random.Random) -> str:
    """Put spaces between the letters of {words} ("h e l l o")."""
    return " ".join(word)


@by_hand("letters-repeated")
def _letters_repeated(word: str, rng: random.Random) -> str:
    """Write one letter of {words} three to five times ("heyyyy")."""
    place = int(rng.random() * len(word))
    return word[:place] + word[place] * (2 + int(rng.random() * 3)) + word[place:]


@by_hand("letters-masked")
def _letters_masked(word: str, rng: random.Random) -> str:
    """Put an asterisk for one letter within {words} ("h*llo")."""
    place = 1 + int(rng.random() * (len(word) - 2))
    return f"{word[:place]}*{word[place + 1 :]}"


@by_hand("words-separated")
def _words_separated(word: str, rng: random.Random) -> str:
    """Cut {words} in two with a point, comma, hyphen or underscore ("he.llo")."""
    place = 1 + int(rng.random() * (len(word) - 1))
    return word[:place] + _one_of(".,-_", rng) + word[place:]


@perturbation("typing-errors")
def _typing_errors(thread: Thread, rng: random.Random) -> Thread:
    """Mistype a third of the words: the key beside the right one, or two letters the wrong way round."""
    return rewrite_words(thread, rng, _mistyped, MISTYPED)


def _mistyped(word: str, rng: random.Random) -> str:
    place = int(rng.random() * (len(word) - 1))
    if rng.random() < 0.5:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + _one_of(NEXT_KEYS.get(word[place].lower(), word[place]), rng) + word[place + 1 :]


@by_hand("vowels-dropped")
def _vowels_dropped(word: str, rng: random.Random) -> str:
    """Drop the vowels of {words}, but for a first letter ("hll")."""
    return word[0] + word[1:].translate(NO_VOWELS)


@perturbation("abbreviations")
def _abbreviations(thread: Thread, rng: random.Random) -> Thread:
    """Write all of some 40 common words as in text messages ("u" for "you")."""
    return rewrite(thread, partial(LETTERS.sub, lambda word: TEXT_SPEAK.get(word[0].lower(), word[0])))


@perturbation("upper-case")
def _upper_case(thread: Thread, rng: random.Random) -> Thread:
    """Write everything in upper case."""
    return rewrite(thread, str.upper)


@perturbation("alternating-case")
def _alternating_case(thread: Thread, rng: random.Random) -> Thread:
    """Write Latin letters in upper and lower case by turns ("HeLlO")."""

    def alternate(text: str) -> str:
        letters = list(text.translate(LOWER))
        letters[::2] = text.translate(UPPER)[::2]
        return "".join(letters)

    return rewrite(thread, alternate)


@perturbation("bare-text")
def _bare_text(thread: Thread, rng: random.Random) -> Thread:
    """Write everything in lower case, without punctuation and emoji."""
    return rewrite(thread, lambda text: MARKED.sub("", text.lower()))


@perturbation("punctuation-flood")
def _punctuation_flood(thread: Thread, rng: random.Random) -> Thread:
    """Put one to three punctuation marks after every word ("hello!! you...")."""
    return rewrite(thread, partial(CHUNK.sub, lambda chunk: chunk[1] + _one_of(RUNS_OF_MARKS, rng) + chunk[2]))


@perturbation("emoji-flood")
def _emoji_flood(thread: Thread, rng: random.Random) -> Thread:
    """Put one or two emoji after every word in place of the space."""
    return rewrite(thread, partial(CHUNK.sub, lambda chunk: chunk[1] + _one_of(EMOJI, rng)))


@perturbation("messages-split")
def _messages_split(thread: Thread, rng: random.Random) -> Thread:
    """Send every message in pieces of two to four words."""
    messages = []
    for message in thread.messages:
        words = message.text.split()
        size = rng.randint(*PIECES)
        if len(words) <= size:
            messages.append(message)
            continue
        pieces = [" ".join(words[start : start + size]) for start in range(0, len(words), size)]
        messages.append(Message(message.author, pieces[0], message.sent_at, message.message_id))
        messages += [Message(message.author, piece, message.sent_at) for piece in pieces[1:]]
    return replace(thread, messages=messages)


@perturbation("messages-merged")
def _messages_merged(thread: Thread, rng: random.Random) -> Thread:
    """Send as one message all that one author writes in a row."""
    messages = []
    for author, group in itertools.groupby(thread.messages, lambda message: message.author):
        run = list(group)
        messages.append(Message(author, " ".join(m.text for m in run), run[0].sent_at, run[0].message_id))
    return replace(thread, messages=messages)


@perturbation("padding")
def _padding(thread: Thread, rng: random.Random) -> Thread:
    """Add small talk by the same authors in random places: one message for every two."""
    n_messages = len(thread.messages)
    n_added = Counter(int(rng.random() * n_messages) for _ in range(round(n_messages * PADDING) or 1))
    messages = []
    for place, message in enumerate(thread.messages):
        messages.append(message)
        for _ in range(n_added[place]):
            text = f"{_one_of(OPENINGS, rng)} {_one_of(TOPICS, rng)}"
            messages.append(Message(message.author, text, message.sent_at))
    return replace(thread, messages=messages)


@perturbation("order-shuffled")
def _order_shuffled(thread: Thread, rng: random.Random) -> Thread:
    """Shuffle every five messages in a row among themselves; the times of sending stay in place."""
    order = list(thread.messages)
    for start in range(0, len(order), WINDOW):
        window = order[start : start + WINDOW]
        rng.shuffle(window)
        order[start : start + WINDOW] = window
    messages = [
        Message(m.author, m.text, at.sent_at, m.message_id) for m, at in zip(order, thread.messages, strict=True)
    ]
    return replace(thread, messages=messages)


@perturbation("authors-renamed")
def _authors_renamed(thread: Thread, rng: random.Random) -> Thread:
    """Give every author another name, the suspects with them."""
    authors = dict.fromkeys([*(m.author for m in thread.messages), *thread.suspects])
    numbers = rng.sample(range(10**9), len(authors))
    names = {author: f"user{number}" for author, number in zip(authors, numbers, strict=True)}
    messages = [Message(names[m.author], m.text, m.sent_at, m.message_id) for m in thread.messages]
    return replace(thread, messages=messages, suspects=[names[suspect] for suspect in thread.suspects])


def _find(name: str) -> Perturbation:
    if name not in PERTURBATIONS:
        raise DataError(f"there is no perturbation {name!r}; use one of {', '.join(PERTURBATIONS)}")
    return PERTURBATIONS[name]


def _chance(seed: int, name: str, thread_id: str) -> random.Random:
    key = f"{seed}\n{name}\n{thread_id}".encode("utf-8", "surrogatepass")
    return random.Random(int.from_bytes(blake2b(key, digest_size=16).digest(), "big"))


def _with_ids(thread: Thread, number: Callable[[int], int]) -> Thread:
    """Return the thread with a number, made from its place, as id of each message that has none."""
    messages = [
        Message(m.author, m.text, m.sent_at, number(place)) if m.message_id is None else m
        for place, m in enumerate(thread.messages)
    ]
    return replace(thread, messages=messages)


def _one_of(choices: Sequence[str], rng: random.Random) -> str:
    """Return one of them, several times faster than `random.Random.choice`."""
    return choices[int(rng.random() * len(choices))]
