"""What goes in and what comes out: frozen records, standard library only.

No `repr` here shows message text, and no result holds any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Identifier = str | int

CONTEXT = ("surface", "locale", "age_band")
"""What may be known of a thread besides its messages, for policies; any words that a platform likes."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a thread.

    Parameters
    ----------
    author : str
        Opaque id of who wrote it.
    text : str
        What was written; any Unicode, lone surrogates included. Not shown in the `repr`.
    sent_at : float, optional
        Seconds on any clock that the whole thread shares.
    message_id : str or int, optional
        By default the place of the message in its thread, from 0.
    """

    author: str
    text: str = field(repr=False)
    sent_at: float | None = None
    message_id: Identifier | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    """The messages of one conversation, oldest first: the unit that is scored.

    Parameters
    ----------
    thread_id : str
    messages : sequence of Message
        Kept as a tuple.
    label : {0, 1}, optional
        Whether the thread shows the pattern; only on labelled data.
    suspects : sequence of str, optional
        The authors who drive the pattern; only on labelled data.
    person : str, optional
        Same value for all threads of one real person, so that splits can keep them together.

    Examples
    --------
    >>> from grooming_flag import Message, Thread
    >>> Thread("t1", [Message("a", "hi there"), Message("b", "hello")])
    Thread(thread_id='t1', label=None, suspects=(), person=None)
    """

    thread_id: str
    messages: Sequence[Message] = field(repr=False)
    label: int | None = None
    suspects: Sequence[str] = ()
    person: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.suspects, str):
            raise TypeError("suspects is one text; give a sequence of author ids")
        object.__setattr__(self, "messages", tuple(self.messages))
        object.__setattr__(self, "suspects", tuple(self.suspects))


@dataclass(frozen=True, slots=True)
class ThreadColumns:
    """Threads as columns: what scoring needs of them, without a Python object a message.

    Attributes
    ----------
    thread_ids : list of str
    lengths : list of int
        Number of messages of each thread.
    authors : list of list of str
        Authors of each thread, in order of appearance.
    codes : ndarray of int32, shape (n_messages,)
        Place of the author of each message among those of its thread.
    text : buffer of uint8
        All messages end to end, UTF-8. Not shown in the `repr`.
    offsets : ndarray of int64, shape (n_messages + 1,)
        Message ``m`` is ``text[offsets[m]:offsets[m + 1]]``.
    goes_on : bool
        Whether the last thread is part of a long one, and the next columns begin with what follows. Its authors are
        those of the thread so far.
    is_rest : bool
        Whether the first thread is such a part too.
    """

    thread_ids: list[str]
    lengths: list[int]
    authors: list[list[str]]
    codes: Any
    text: bytes | bytearray = field(repr=False)
    offsets: Any
    goes_on: bool = False
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class AuthorRisk:
    """How likely one author is the one who drives the pattern, given that the thread shows it.

    Attributes
    ----------
    author : str
    probability : float
        In 0..1. Over the authors of a segment they sum to 1, unless there is only one.
    score : float
        Log-odds up to a constant of the segment.
    """

    author: str
    probability: float
    score: float


@dataclass(frozen=True, slots=True)
class Flag:
    """A request that a person look at a thread. It is not a finding, and nothing may act on it alone.

    Attributes
    ----------
    thread_id : str
    probability, threshold : float
        In 0..1, and the probability is at least the threshold.
    operating_point : str or None
        Name of the operating point that set the threshold, if one did.
    suspect : str
    suspect_probability : float
    """

    thread_id: str
    probability: float
    threshold: float
    operating_point: str | None
    suspect: str
    suspect_probability: float


@dataclass(frozen=True, slots=True)
class Assessment:
    """The answer for one thread.

    Attributes
    ----------
    thread_id : str
    score : float
        Log-odds of the strongest segment, any real; there even when the model abstains.
    probability : float or None
        Calibrated, 0..1; None when the model abstains.
    flagged : bool
        Whether the probability reaches the threshold.
    threshold : float
        Cut on the probability, 0..1.
    operating_point : str or None
        Name of the operating point that set the threshold; None for a bare number.
    suspect : str or None
        The author most likely to drive the pattern; None if the segment has no author.
    suspect_probability : float or None
        In 0..1, given that the thread shows the pattern.
    authors : tuple of AuthorRisk
        All authors of the strongest segment, most likely first.
    abstained : bool
        True when there was too little text for a probability.
    segment : tuple of int
        First message of the strongest segment and the one after its last, counted from 0.
    n_messages, n_authors : int
        Of the whole thread.
    model : str
        Name of the model that answered.
    """

    thread_id: str
    score: float
    probability: float | None
    flagged: bool
    threshold: float
    operating_point: str | None
    suspect: str | None
    suspect_probability: float | None
    authors: tuple[AuthorRisk, ...]
    abstained: bool
    segment: tuple[int, int]
    n_messages: int
    n_authors: int
    model: str

    @property
    def flag(self) -> Flag | None:
        """The request for review, or None if the thread is not flagged."""
        if not self.flagged or self.probability is None or self.suspect is None or self.suspect_probability is None:
            return None
        return Flag(
            self.thread_id,
            self.probability,
            self.threshold,
            self.operating_point,
            self.suspect,
            self.suspect_probability,
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one feature of one message adds to the score of a thread.

    Attributes
    ----------
    message_id : str or int
        The first message of the segment in which the feature occurs.
    author : str
    feature : str
        Name of the feature's bucket; the words themselves are not kept.
    span : tuple of int
        Where the words lie in the message text: first code point and the one after the last.
    contribution : float
        Log-odds; contributions and the intercept add up to the score exactly.
    tactics : tuple of str
        Tactics that the message shows by itself, in no order; empty for a model without tactic heads.
    """

    message_id: Identifier
    author: str
    feature: str
    span: tuple[int, int]
    contribution: float
    tactics: tuple[str, ...] = ()
