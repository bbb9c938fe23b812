"""Whether a platform has changed under a model: a window of its answers against earlier ones, with intervals.

Of many threads any change is significant. So what is asked is not whether something changed but whether it changed by
more than is tolerated: a quantity alarms if the whole interval of its change lies beyond the tolerance. All intervals
at once contain the true values in 95 % of all cases (each of ``1 - 0.05 / m`` for m quantities, Bonferroni), so that a
window in which nothing changes by more than is tolerated has any alarm in at most 5 % of all cases, and far less if
nothing changes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grooming_flag._version import __version__
from grooming_flag.errors import DataError
from grooming_flag.evaluation.changes import (
    Interval,
    difference_of_means,
    difference_of_shares,
    ratio_of_rates,
    stability_index,
)
from grooming_flag.evaluation.figures import as_number
from grooming_flag.evaluation.metrics import clopper_pearson
from grooming_flag.evaluation.periods import Answers, Period, quantiles
from grooming_flag.evaluation.verdicts import check_model, confirm_rate, mean_probability
from grooming_flag.io.verdicts import Verdict

LEVEL = 0.95
BINS = 10


class Quantity(NamedTuple):
    """What is compared, how, how much change is tolerated, and what to look at where it is more."""

    what: str
    measure: str
    tolerance: float
    look: str


QUANTITIES = {
    "scores": Quantity(
        "median score",
        "PSI",
        0.1,
        "The mix of talk has changed: compare sources, languages and clients of both, and measure on labelled threads.",
    ),
    "alerts": Quantity(
        "share flagged",
        "ratio",
        1.5,
        "Read some flagged threads: more risky ones, a new kind of ordinary talk, or spam? See that reviews keep up.",
    ),
    "abstained": Quantity(
        "share abstained on",
        "difference",
        0.05,
        "Check the log: messages cut, threads divided otherwise, a column gone, or text in another language.",
    ),
    "confirmed": Quantity(
        "share of flagged confirmed",
        "difference",
        0.1,
        "Probabilities are off, or verdicts are given otherwise: review some twice, then learn-from the verdicts.",
    ),
    "unknown": Quantity(
        "mean share of n-grams unknown",
        "difference",
        0.005,
        "Another language, spelling or disguise: the model is blind to it. Look by language and client.",
    ),
}


class Estimate(NamedTuple):
    """A number, the ends of its interval where there are any, and of how many units it is."""

    value: float | None
    low: float | None
    high: float | None
    n: int


class Change(NamedTuple):
    """A quantity in the reference and in the window, and how it changed; see `Quantity`.

    Attributes
    ----------
    quantity, what, measure : str
    reference, window : Estimate
    change, low, high : float or None
        With its interval; None where it cannot be told.
    tolerance : float
    alarm : bool
    look : str
        What to do about an alarm.
    """

    quantity: str
    what: str
    measure: str
    reference: Estimate
    window: Estimate
    change: float | None
    low: float | None
    high: float | None
    tolerance: float
    alarm: bool
    look: str


Compared = tuple[Estimate, Estimate, Interval]


def drift(reference: Period, window: Period, tolerances: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Compare a window with a reference; return what `grooming-flag monitor` writes (see docs/operations.md).

    Scores are compared by the population stability index over the tenths of the reference, the share flagged by a
    ratio, since it is small, other shares and means by differences; formulas and intervals are those of `changes`.
    Without verdicts on the reference, the share confirmed is compared with the mean probability of the same threads.

    Parameters
    ----------
    reference, window : Period
    tolerances : mapping of str to float, optional
        By the name of the quantity, where it is not that of `QUANTITIES`: of a ratio above 1 (and its inverse), else
        above 0.

    Raises
    ------
    DataError
        If they are of two models, operating points or thresholds, or all threads of one are flagged.
    """
    for name, period in (("reference", reference), ("window", window)):
        if period.answers.n_flagged == period.answers.n:
            raise DataError(
                f"all {period.answers.n} threads of the {name} are flagged; give the scores of all threads, as score "
                "writes them without --only-flagged"
            )
        check_model(period.verdicts, period.answers.model)
    if reference.answers.by != window.answers.by:
        raise DataError(
            f"the reference is by {reference.answers.by}, the window by {window.answers.by}; "
            "compare scores of one model at one operating point"
        )
    least = min(reference.answers.least_flagged, window.answers.least_flagged)
    highest = max(reference.answers.highest_unflagged, window.answers.highest_unflagged)
    if least <= highest:
        raise DataError(
            f"threads are flagged from a probability of {least:.6g} on, and others of {highest:.6g} are not, so the "
            f"threshold of {window.answers.by} was changed; score both times again at one threshold"
        )
    compared: dict[str, Callable[[float], Compared]] = {
        "scores": lambda level: _scores(reference.answers, window.answers, level),
        "alerts": lambda level: _alerts(reference.answers, window.answers, level),
        "abstained": lambda level: _abstained(reference.answers, window.answers, level),
    }
    if window.verdicts:
        compared["confirmed"] = lambda level: _confirmed(reference.verdicts, window.verdicts, level)
    if reference.unknown is not None and window.unknown is not None:
        shares = reference.unknown, window.unknown
        compared["unknown"] = lambda level: _unknown(*shares, level)
    level = 1.0 - (1.0 - LEVEL) / len(compared)
    tolerated = {name: quantity.tolerance for name, quantity in QUANTITIES.items()} | dict(tolerances or {})
    changes = [_change(name, compare(level), tolerated[name]) for name, compare in compared.items()]
    return {
        "format": 1,
        "library": __version__,
        "model": window.answers.model,
        "operating_point": window.answers.operating_point,
        "threads": {"reference": reference.answers.n, "window": window.answers.n},
        "level": level,
        "alarms": [change.quantity for change in changes if change.alarm],
        "changes": [
            {**one._asdict(), "reference": one.reference._asdict(), "window": one.window._asdict()} for one in changes
        ],
        "notes": [*_notes("reference", reference), *_notes("window", window)],
    }


def _notes(name: str, period: Period) -> Iterator[str]:
    if period.n_elsewhere:
        yield (
            f"{period.n_elsewhere} verdicts of the {name} are on threads without scores there and do not count; "
            f"{len(period.verdicts)} do."
        )
    if period.n_disagreeing:
        yield f"On {period.n_disagreeing} threads of the {name} verdicts disagree; the latest on each counts."


def _change(name: str, compared: Compared, tolerance: float) -> Change:
    quantity = QUANTITIES[name]
    reference, window, (value, low, high) = compared
    least = 1.0 / tolerance if quantity.measure == "ratio" else -tolerance
    return Change(
        name,
        quantity.what,
        quantity.measure,
        reference,
        window,
        as_number(value),
        as_number(low),
        as_number(high),
        tolerance,
        low > tolerance or high < least,
        quantity.look,
    )


def _scores(reference: Answers, window: Answers, level: float) -> Compared:
    edges = quantiles(reference.scores, BINS)
    counts = [_binned(edges, one.scores) for one in (reference, window)]
    before, now = (Estimate(one.median_score, None, None, one.scores.total()) for one in (reference, window))
    return before, now, stability_index(counts[0], counts[1], level)


def _alerts(reference: Answers, window: Answers, level: float) -> Compared:
    hits = [(one.n_flagged, one.n) for one in (reference, window)]
    before, now = (_estimate(_share(*one, level), one[1]) for one in hits)
    return before, now, ratio_of_rates(hits[0], hits[1], level)


def _abstained(reference: Answers, window: Answers, level: float) -> Compared:
    before, now = (_share(one.n_abstained, one.n, level) for one in (reference, window))
    return _estimate(before, reference.n), _estimate(now, window.n), difference_of_shares(before, now)


def _confirmed(reference: Sequence[Verdict], window: Sequence[Verdict], level: float) -> Compared:
    now, n = _confirmed_of(window, level)
    if reference:
        before, n_before = _confirmed_of(reference, level)
        return _estimate(before, n_before), _estimate(now, n), difference_of_shares(before, now)
    promised = mean_probability(window)
    mean = math.nan if promised.value is None else promised.value
    return Estimate(promised.value, None, None, promised.n), _estimate(now, n), difference_of_shares((mean,) * 3, now)


def _confirmed_of(verdicts: Sequence[Verdict], level: float) -> tuple[Interval, int]:
    found = confirm_rate(verdicts, level)
    value, low, high = (math.nan if end is None else end for end in (found.value, found.low, found.high))
    return (value, low, high), found.n


def _unknown(reference: NDArray[np.float64], window: NDArray[np.float64], level: float) -> Compared:
    before, now = (Estimate(float(one.mean()), None, None, len(one)) for one in (reference, window))
    return before, now, difference_of_means(reference, window, level)


def _share(hits: int, n: int, level: float) -> Interval:
    return hits / n, *clopper_pearson(hits, n, level)


def _estimate(found: Interval, n: int) -> Estimate:
    value, low, high = map(as_number, found)
    return Estimate(value, low, high, n)


def _binned(edges: Sequence[int], scores: Counter[int]) -> NDArray[np.int64]:
    counts = np.zeros(len(edges) + 1, dtype=np.int64)
    for score, n in scores.items():
        counts[bisect_left(edges, score)] += n
    return counts
