"""What the page shows of a thread, as data: its text, what speaks for and against, and how the probability rose."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from grooming_flag.evaluation.evidence import message_evidence
from grooming_flag.model import Model
from grooming_flag.records import Thread
from grooming_flag.review.queue import Review

N_FOR = 5
N_AGAINST = 3


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message as the page has it.

    Attributes
    ----------
    author : str
    by_suspect : bool
    after : float or None
        Seconds since the first message that has a time, since clocks differ in where they start.
    text : str
    contribution : float or None
        To the score, log-odds; None outside the segment that was scored.
    tactics : list of str
    """

    author: str
    by_suspect: bool
    after: float | None
    text: str
    contribution: float | None
    tactics: list[str]


def content_of(review: Review, model: Model) -> dict[str, Any]:
    """Return what the page shows of a review, ready for JSON.

    Its `evidence` and `against` are places of messages, strongest first: at most `N_FOR` that speak for the pattern and
    `N_AGAINST` that speak against it. Its `highest` and `lowest` are those of `ranks`. Its `trend` is that of
    `trend_of`.
    """
    assessment, messages = review.assessment, review.thread.messages
    start, stop = assessment.segment
    by_place = {row["message_id"]: row for row in message_evidence(model, review.thread)}
    ranked = [(place, row["contribution"]) for place, row in by_place.items()]
    contributions = {place: by_place.get(place, {}).get("contribution", 0.0) for place in range(start, stop)}
    highest, lowest = ranks(contributions, review.thread_id)
    begin = next((message.sent_at for message in messages if message.sent_at is not None), 0.0)
    return {
        "thread_id": review.thread_id,
        "suspect": review.suspect,
        "suspect_probability": assessment.suspect_probability,
        "probability": assessment.probability,
        "selection": review.selection,
        "selection_probability": review.selection_probability,
        "segment": [start, stop],
        "evidence": [place for place, contribution in ranked if contribution > 0.0][:N_FOR],
        "against": [place for place, contribution in reversed(ranked) if contribution < 0.0][:N_AGAINST],
        "highest": highest,
        "lowest": lowest,
        "trend": trend_of(review.thread, (start, stop), model),
        "messages": [
            asdict(
                ShownMessage(
                    author=message.author,
                    by_suspect=message.author == assessment.suspect,
                    after=None if message.sent_at is None else message.sent_at - begin,
                    text=message.text,
                    contribution=contributions.get(place),
                    tactics=by_place.get(place, {}).get("tactics", []),
                )
            )
            for place, message in enumerate(messages)
        ],
    }


def ranks(contributions: Mapping[int, float], seed: str) -> tuple[list[int], list[int]]:
    """Return the places with the highest contributions and those with the lowest, whatever their signs and sizes.

    How many there are depends on the number of messages alone, and equal ones are in random order, so that neither
    tells anything of the score.

    Examples
    --------
    >>> ranks({0: -2.0, 1: -1.0, 2: -3.0, 3: -0.5}, "t1")
    ([3, 1], [2, 0])
    """
    places = list(contributions)
    random.Random(seed).shuffle(places)
    places.sort(key=lambda place: -contributions[place])
    n_lowest = min(N_AGAINST, len(places) // 2)
    return places[: len(places) - n_lowest][:N_FOR], places[::-1][:n_lowest]


def trend_of(thread: Thread, segment: tuple[int, int], model: Model) -> list[float | None]:
    """Return the probability after each message of a segment, None while the model abstains."""
    (inputs,) = model.running_inputs([thread.messages[slice(*segment)]])
    return [
        model.calibration.probability(score, amount, lead) if amount >= model.min_amount else None
        for score, amount, lead in zip(*(column.tolist() for column in inputs), strict=True)
    ]
