"""Families -> threads: who writes how, what they talk about, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from random import Random

from grooming_flag.evaluation.templates.families import SMALL_TALK_ROLES, Exchange, Family, load_family
from grooming_flag.evaluation.templates.grammar import Filler
from grooming_flag.evaluation.templates.styles import Writer, load_styles
from grooming_flag.records import Message, Thread

MEDIAN_MESSAGES = 12.0  # but the last exchanges are finished, so that threads are a little longer
SPREAD = 0.85  # of the logarithm of the number of messages
MOST_MESSAGES = 120
CLOSES = 0.7  # share of threads that are brought to an end
TYPING_SECONDS, REPLY_SECONDS, PAUSE_SECONDS = 5.0, 35.0, 5400.0  # medians
PAUSES = 0.15  # share of exchanges that come after a pause
YEARS = 1_514_764_800, 1_735_689_600  # 2018 up to 2025, in seconds


def generate(family: str, n: int, seed: int = 0, kind: str = "judging") -> Iterator[Thread]:
    """Return invented, labelled threads of a family, the same for the same seed.

    What they measure is how a system takes one kind of talk, never how well it detects anything.

    Parameters
    ----------
    family : str
        Name of a family of that kind.
    n : int
        Number of threads; the first ones do not depend on it.
    seed : int
    kind : {"judging", "training"}
        The two share no line. Never train on what is to judge.

    Returns
    -------
    iterator of Thread
        With ids `template/<kind>/<family>/<number>`, labels, and suspects in risk-patterned ones.

    Raises
    ------
    DataError
        If there is no such kind or family.

    Examples
    --------
    >>> [thread] = generate("parents_pickups", 1, seed=7)
    >>> thread.thread_id, thread.label, len({message.author for message in thread.messages})
    ('template/judging/parents_pickups/0', 0, 2)
    """
    found = load_family(family, kind)
    return (_thread(found, number, seed) for number in range(n))


def _thread(family: Family, number: int, seed: int) -> Thread:
    thread_id = f"template/{family.kind}/{family.name}/{number}"
    chance = Random(blake2b(f"{seed}/{thread_id}".encode(), digest_size=16).digest())
    talk = _Talk(family, chance)
    wanted = min(MEDIAN_MESSAGES * chance.lognormvariate(0.0, SPREAD), MOST_MESSAGES)
    topics, small_talk = _deck(family.topics, chance), _deck(family.small_talk, chance)
    talk.play(chance.choice(family.openers))
    while len(talk.messages) < wanted:
        if chance.random() < family.small_talk_share:
            talk.play(next(small_talk), dict(zip(SMALL_TALK_ROLES, chance.sample(family.roles, 2), strict=True)))
        else:
            talk.play(next(topics))
    if chance.random() < CLOSES:
        talk.play(chance.choice(family.closers))
    suspects = [talk.authors[family.suspect]] if family.suspect else []
    return Thread(thread_id, talk.messages, family.label, suspects)


class _Talk:
    """A thread as it grows: its people with their habits, its fixed slots and its clock."""

    def __init__(self, family: Family, chance: Random) -> None:
        numbers = chance.sample(range(1_000, 1_000_000), len(family.roles))
        self.authors = {role: f"u{number}" for role, number in zip(family.roles, numbers, strict=True)}
        self.messages: list[Message] = []
        self._writers = {
            role: Writer(_style(family.styles.get(role), chance), chance, family.laughs) for role in family.roles
        }
        self._filler = Filler(family.slots, family.fixed, chance.random)
        self._now = chance.randrange(*YEARS)
        self._chance = chance

    def play(self, exchange: Exchange, cast: Mapping[str, str] | None = None) -> None:
        """Let the roles say their lines; `cast` says which role takes which part, by default its own."""
        if self.messages and self._chance.random() < PAUSES:
            self._wait(PAUSE_SECONDS)
        self._filler.next_exchange()
        for line in exchange:
            role = cast[line.role] if cast else line.role
            wait = REPLY_SECONDS
            for text in self._writers[role].messages(self._filler.fill(line.text)):
                if self.messages:
                    self._wait(wait)
                self.messages.append(Message(self.authors[role], text, float(self._now)))
                wait = TYPING_SECONDS

    def _wait(self, median: float) -> None:
        self._now += 1 + int(median * self._chance.lognormvariate(0.0, 1.0))


def _deck(exchanges: Sequence[Exchange], chance: Random) -> Iterator[Exchange]:
    """Yield exchanges in random order, none again before all have come."""
    while True:
        yield from chance.sample(exchanges, len(exchanges))


def _style(names: Sequence[str] | None, chance: Random) -> str:
    styles = load_styles()
    names = names or tuple(styles)
    return chance.choices(names, [styles[name].weight for name in names])[0]
