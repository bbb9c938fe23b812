"""An attacker who holds the weights: threads rewritten, with as little change as possible, until nothing flags them.

Perturbations are blind; this one asks the model after every change. It is greedy: of all changes of one character in
the suspects' own messages it makes the one that lowers the log-odds of the strongest segment most, then the next. Other
attackers may need fewer changes: recall under this attack is an upper bound of recall under the best one.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from grooming_flag.calibration import log_odds
from grooming_flag.evaluation.answers import Floats
from grooming_flag.evaluation.perturbations import CYRILLIC, LEET, NEXT_KEYS
from grooming_flag.evaluation.templates import families, generate
from grooming_flag.features import OWN, Packed
from grooming_flag.model import Model
from grooming_flag.policy import resolve
from grooming_flag.records import Message, Thread
from grooming_flag.text import encode

Edit = Callable[[str], Iterable[str]]
"""A text to all texts that one change of one character makes of it."""
Pieces = tuple[str, ...]
"""The texts of the messages that stand in place of one."""
Ints = NDArray[np.int64]

SIGNS = {"a": "@", "c": "(", "e": "€", "h": "#", "i": "!", "l": "|", "o": "¤", "s": "$", "t": "+", "x": "%"}
LEAST_GAIN = 1e-9  # log-odds: less may be rounding
PADDED_AT_ONCE = 10  # messages added before segments are made anew
PADDING_THREADS = 25  # of each family of ordinary talk


def _replaced(text: str, others: Callable[[str], Iterable[str]]) -> Iterator[str]:
    for i, letter in enumerate(text):
        if letter.isalpha():
            for other in others(letter.lower()):
                yield text[:i] + other + text[i + 1 :]


def _between(text: str, sign: str) -> Iterator[str]:
    for i in range(1, len(text)):
        if text[i - 1 : i + 1].isalpha():
            yield text[:i] + sign + text[i:]


def _swapped(text: str) -> Iterator[str]:
    for i in range(len(text) - 1):
        if text[i : i + 2].isalpha() and text[i] != text[i + 1]:
            yield text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def _disguised(letter: str) -> Iterator[str]:
    yield from (letter.upper(), letter + "\u200b", letter + "\u0301", letter * 2, letter.translate(CYRILLIC))


EDITS: Mapping[str, Edit] = {
    "swapped": _swapped,
    "dropped": lambda text: _replaced(text, lambda _: [""]),
    "mistyped": lambda text: _replaced(text, lambda letter: NEXT_KEYS.get(letter, "")),
    "replaced": lambda text: _replaced(text, lambda _: string.ascii_lowercase),
    "added": lambda text: _replaced(text, lambda letter: [letter + other for other in NEXT_KEYS.get(letter, "")]),
    "masked": lambda text: _replaced(text, lambda _: ["*"]),
    "signs": lambda text: _replaced(text, lambda letter: SIGNS.get(letter, "")),
    "digits": lambda text: _replaced(text, lambda letter: [letter.translate(LEET)]),
    "cut": lambda text: _between(text, " "),
    "joined": lambda text: (text[:i] + text[i + 1 :] for i in range(len(text)) if text[i] == " "),
    "divided": lambda text: _between(text, "."),
    "disguised": lambda text: _replaced(text, _disguised),
}
"""Changes of one character: two letters swapped; a letter dropped, replaced by the key beside it, by any letter, by an
asterisk, by a sign or a digit that looks like it, or joined by the key beside it; a word cut by a space, joined with
the next, or divided by a point; a letter in upper case, with an invisible mark, doubled, or of another alphabet."""


@dataclass(frozen=True, slots=True)
class Evasion:
    """A thread as the attacker left it.

    Attributes
    ----------
    thread : Thread
    evaded : bool
        Whether it is not flagged; also where it never was.
    n_edits, n_splits, n_added : int
        Characters edited, messages divided into two, and messages added.
    """

    thread: Thread
    evaded: bool
    n_edits: int = 0
    n_splits: int = 0
    n_added: int = 0


@cache
def harmless_messages(seed: int = 0) -> tuple[str, ...]:
    """Return different messages of invented ordinary talk, of all families of judging templates."""
    ordinary = [name for name, family in families("judging").items() if not family.label]
    threads = chain.from_iterable(generate(name, PADDING_THREADS, seed) for name in ordinary)
    return tuple(dict.fromkeys(message.text for thread in threads for message in thread.messages))


def n_characters(thread: Thread) -> int:
    """Return how many characters the suspects wrote."""
    return sum(len(message.text) for message in thread.messages if message.author in thread.suspects)


def evade(
    model: Model,
    thread: Thread,
    at: str | float = "balanced",
    *,
    edits: float = 0.1,
    kinds: Sequence[str] = tuple(EDITS),
    splits: bool = False,
    padding: float = 0.0,
    harmless: Sequence[str] | None = None,
) -> Evasion:
    """Return a thread after an attack that stops as soon as the thread is not flagged.

    Messages are divided at spaces first, then harmless ones added, then characters edited. Only what the suspects write
    changes; nothing is left to chance, and the probability never rises.

    Parameters
    ----------
    model : Model
    thread : Thread
        With suspects.
    at : str or float
        Operating point, or threshold, to get below.
    edits : float
        Most characters to edit, as a share of those that the suspects wrote; an edit adds, drops or replaces one
        character or swaps two.
    kinds : sequence of str
        Ways of editing, of `EDITS`.
    splits : bool
        Whether messages may be divided.
    padding : float
        Most messages to add, as a share of those that are there.
    harmless : sequence of str, optional
        What to add; by default `harmless_messages`.

    Examples
    --------
    >>> from grooming_flag import Message, Thread, load_model
    >>> evade(load_model(), Thread("t1", [Message("a", "hi there")], suspects=["a"])).evaded
    True
    """
    attack = _Attack(model, thread, resolve(at, model.operating_points).threshold)
    if splits:
        attack.run("n_splits", lambda segment, _: _descend(segment, _splits, attack.target))
    if padding:
        texts = harmless_messages() if harmless is None else harmless
        most_added = int(padding * len(thread.messages))
        attack.run("n_added", lambda segment, so_far: _pad(segment, texts, attack.target, so_far, most_added))
    chosen = [EDITS[kind] for kind in kinds]
    most_edits = int(edits * n_characters(thread))

    def changes(text: str) -> Iterator[Pieces]:
        return ((changed,) for edit in chosen for changed in edit(text))

    attack.run("n_edits", lambda segment, so_far: _descend(segment, changes, attack.target, most_edits - so_far))
    return attack.found


class _Attack:
    """A thread under attack, segment by segment; `found` is where its probability was lowest."""

    def __init__(self, model: Model, thread: Thread, threshold: float) -> None:
        self.model = model
        self.threshold = threshold
        self.target = log_odds(threshold) - LEAST_GAIN
        self.found = Evasion(thread, False)
        self.lowest = np.inf

    def run(self, count: str, change: Callable[[_Segment, int], int]) -> None:
        """Change the strongest segment until the thread is not flagged, or nothing helps any more.

        The change is told how many were made before, as the result counts them, and returns how many it made.
        """
        left = self.found
        while True:
            assessed = self.model.assess(left.thread, self.threshold)
            if (assessed.probability or 0.0) < self.lowest:
                self.lowest = assessed.probability or 0.0
                self.found = replace(left, evaded=not assessed.flagged)
            if not assessed.flagged:
                return
            start, stop = assessed.segment
            segment, so_far = _Segment(self.model, left.thread, start, stop), getattr(left, count)
            made = change(segment, so_far)
            if not made:
                return
            messages = [*left.thread.messages[:start], *segment.written(), *left.thread.messages[stop:]]
            left = replace(left, thread=replace(left.thread, messages=messages), **{count: so_far + made})


def _pad(segment: _Segment, texts: Sequence[str], target: float, so_far: int, most: int) -> int:
    """Add the message that lowers the value of the segment most, and again, until it is below the target.

    They come after the suspects' messages in turn. Return how many were added; segments are to be made anew then.
    """
    most = min(PADDED_AT_ONCE, most - so_far) if segment.own else 0
    n_added = 0
    while segment.value >= target and n_added < most:
        place = segment.own[(so_far + n_added) % len(segment.own)]
        options = [(*segment.pieces[place], text) for text in texts]
        values = segment.values(place, options)
        best = int(values.argmin())
        if values[best] > segment.value - LEAST_GAIN:
            break
        segment.put(place, options[best])
        n_added += 1
    return n_added


def _splits(text: str) -> Iterator[Pieces]:
    return ((text[:i], text[i + 1 :]) for i, sign in enumerate(text) if sign == " " and 0 < i < len(text) - 1)


def _descend(
    segment: _Segment, changes: Callable[[str], Iterable[Pieces]], target: float, most: int | None = None
) -> int:
    """Make the change that lowers the value of the segment most, and again, until it is below the target.

    Return how many were made, at most `most`. What a change gains is asked anew only where it may have become another.
    """
    best: dict[int, tuple[float, Pieces]] = {}
    stale = set(segment.own)
    n_made = 0
    while segment.value >= target and (most is None or n_made < most):
        for i in stale:
            options = [
                (*segment.pieces[i][:j], *changed, *segment.pieces[i][j + 1 :])
                for j, text in enumerate(segment.pieces[i])
                for changed in changes(text)
            ]
            best[i] = (0.0, ())
            if options:
                gains = segment.value - segment.values(i, options)
                best[i] = float(gains.max()), options[int(gains.argmax())]
        i = max(best, key=lambda place: best[place][0], default=-1)
        if i < 0 or best[i][0] < LEAST_GAIN:
            break
        if segment.value - segment.values(i, [best[i][1]])[0] < best[i][0] - LEAST_GAIN:
            stale = {i}  # it has become another after all
            continue
        stale = segment.put(i, best[i][1])
        n_made += 1
    return n_made


class _Segment:
    """The strongest segment, and what its weights add up to while messages of it change.

    Attributes
    ----------
    pieces : list of tuple of str
        By message, the texts that stand in its place.
    own : list of int
        Places of the messages that suspects wrote.
    """

    def __init__(self, model: Model, thread: Thread, start: int, stop: int) -> None:
        self._model = model
        self._messages = thread.messages[start:stop]
        self.pieces: list[Pieces] = [(message.text,) for message in self._messages]
        self.own = [i for i, message in enumerate(self._messages) if message.author in thread.suspects]
        self._weights = np.column_stack([model.weights, model.weights.any(axis=1)]).astype(np.int64)
        buckets, ends = self._buckets(self.pieces)
        self._found = np.split(buckets, ends[1:-1])
        self._n = np.bincount(buckets, minlength=len(self._weights))
        self._n_of = {message.author: np.zeros_like(self._n) for message in self._messages}
        for message, found in zip(self._messages, self._found, strict=True):
            self._n_of[message.author][found] += 1
        self._leads = {author: self._weights[n > 0, 1].sum() for author, n in self._n_of.items()}
        self._risk, _, self._amount = self._weights[self._n > 0].sum(axis=0)
        self.value = float(self._log_odds(self._risk, self._amount, max(self._leads.values())))

    def written(self) -> Iterator[Message]:
        """Yield the messages as they are now."""
        for message, pieces in zip(self._messages, self.pieces, strict=True):
            yield replace(message, text=pieces[0])
            yield from (Message(message.author, text, message.sent_at) for text in pieces[1:])

    def values(self, i: int, options: Sequence[Pieces]) -> Floats:
        """Return the log-odds of the segment with each of these in place of the i-th message, shape (n_options,)."""
        risk, lead, amount = self._totals(i, *self._buckets(options))
        others = [n for author, n in self._leads.items() if author != self._messages[i].author]
        return self._log_odds(risk, amount, np.maximum(lead, max(others, default=lead)))

    def put(self, i: int, pieces: Pieces) -> set[int]:
        """Put this in place of the i-th message; return where other changes may gain something else now."""
        author, old = self._messages[i].author, self._found[i]
        new, ends = self._buckets([pieces])
        leading = self._leading()
        (self._risk,), (self._leads[author],), (self._amount,) = self._totals(i, new, ends)
        self.value = float(self._log_odds(self._risk, self._amount, max(self._leads.values())))
        n, n_of = self._n, self._n_of[author]
        for counts in (n, n_of):
            counts[old] -= 1
            counts[new] += 1
        self.pieces[i], self._found[i] = pieces, new
        if self._leading() != leading:
            return set(self.own)
        changed = np.setxor1d(old, new, assume_unique=True)
        concerned = np.zeros(len(n), dtype=bool)
        concerned[changed] = np.minimum(n[changed], n_of[changed]) <= 2  # alone now, or no more
        return {i, *(j for j in self.own if concerned[self._found[j]].any())}

    def _leading(self) -> tuple[str, bool]:
        """Return who writes most like a suspect, and whether more so than not: what the calibration depends on."""
        author = max(self._leads, key=self._leads.__getitem__)
        return author, bool(self._leads[author] > 0)

    def _totals(self, i: int, buckets: NDArray[np.int32], ends: Ints) -> tuple[Ints, Ints, Ints]:
        """Return risk, the author's attribution and amount, with each run of buckets in place of the i-th message's."""
        author, old = self._messages[i].author, self._found[i]
        n, n_of = self._n, self._n_of[author]

        def total(now: int, counts: Ints, head: int) -> Ints:
            weights = self._weights[:, head]
            without = now - weights[old[counts[old] == 1]].sum()
            counts[old] -= 1
            sums = np.append(0, np.cumsum(weights[buckets] * (counts[buckets] == 0)))[ends]
            counts[old] += 1
            found: Ints = without + np.diff(sums)
            return found

        return total(self._risk, n, 0), total(self._leads[author], n_of, 1), total(self._amount, n, 2)

    def _log_odds(self, risk: Ints, amount: Ints, lead: Ints) -> Floats:
        """Return those of `Calibration.probability`; minus infinity where the model abstains."""
        model = self._model
        slope, of_amount, root, with_lead, no_lead, intercept, prior = model.calibration.terms
        d = lead * (model.step * model.attribution_scale)
        found = slope * (risk * model.step + model.intercept) + of_amount * np.log1p(amount)
        found = found + root * np.sqrt(1.0 + amount) + np.where(d > 0.0, with_lead, no_lead) * d + intercept + prior
        return np.where(amount < model.min_amount, -np.inf, found)

    def _buckets(self, options: Sequence[Pieces]) -> tuple[NDArray[np.int32], Ints]:
        """Return the distinct buckets of each option, end to end, and where those of each begin and the last end."""
        data, offsets = encode([text for pieces in options for text in pieces])
        slots = np.repeat(np.arange(len(options), dtype=np.int32), [len(pieces) for pieces in options])
        segments = np.zeros(len(options), dtype=np.int32)
        packed = Packed(data, offsets, slots, segments, [""] * len(options), 1)
        sums, buckets, _ = self._model.scanner.emit(packed, OWN, with_spans=False)
        return buckets, np.append(0, np.cumsum(sums.distinct, dtype=np.int64))
