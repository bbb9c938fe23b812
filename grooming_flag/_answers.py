# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Sums of weights to assessments; one source that runs compiled and interpreted, with the same results to the bit."""

from __future__ import annotations

from math import fsum

from grooming_flag.records import Assessment, AuthorRisk

try:
    import cython
except ModuleNotFoundError:
    from grooming_flag import _cython as cython  # type: ignore[no-redef]

if cython.compiled:
    from cython.cimports.cpython.object import PyObject_GenericSetAttr as set_field
    from cython.cimports.cpython.type import PyType_GenericNew as new
    from cython.cimports.libc.math import exp, log1p, sqrt
else:
    from math import exp, log1p, sqrt

    set_field = object.__setattr__

    def new(kind, _arguments, _named):
        return kind.__new__(kind)


compiled = cython.compiled


@cython.ccall
@cython.exceptval(check=False)
def sigmoid(x: cython.double) -> cython.double:
    """Return ``1 / (1 + exp(-x))``, in 0..1, without overflow."""
    if x < 0.0:
        return exp(x) / (1.0 + exp(x))
    return 1.0 / (1.0 + exp(-x))


def probability(score: cython.double, n: cython.longlong, lead: cython.double, terms: tuple) -> float:
    """Return the probability of a segment; see `Calibration.probability` and `Calibration.terms`."""
    slope: cython.double = terms[0]
    amount: cython.double = terms[1]
    root: cython.double = terms[2]
    with_lead: cython.double = terms[3] if lead > 0.0 else terms[4]
    intercept: cython.double = terms[5]
    prior: cython.double = terms[6]
    return sigmoid(slope * score + amount * log1p(n) + root * sqrt(1.0 + n) + with_lead * lead + intercept + prior)


@cython.final
@cython.cclass
class Answerer:
    """Makes assessments of sums, with the terms of one model.

    Parameters
    ----------
    model : str
        Its name.
    step, attribution_step : float
        Log-odds of a step of weights in the heads risk and attribution.
    intercept, min_amount : int
    terms : tuple of float
        See `Calibration.terms`.
    """

    _model: object
    _step: cython.double
    _attribution_step: cython.double
    _intercept: cython.longlong
    _min_amount: cython.longlong
    _terms: tuple

    def __init__(
        self,
        model,
        step: cython.double,
        attribution_step: cython.double,
        intercept: cython.longlong,
        min_amount: cython.longlong,
        terms: tuple,
    ):
        self._model = model
        self._step = step
        self._attribution_step = attribution_step
        self._intercept = intercept
        self._min_amount = min_amount
        self._terms = terms

    def answer(self, thread_id, strongest, n_messages, n_authors, point):
        """Return the assessment of a thread of so many messages and authors, given its strongest segment.

        Parameters
        ----------
        thread_id : str
        strongest : SegmentSums
        n_messages, n_authors : int
        point : OperatingPoint
        """
        start, stop, risk, amount, own, names = strongest
        score = (risk + self._intercept) * self._step
        authors: tuple = self._authors(names, own)
        suspect = None
        sure = None
        lead = 0.0
        if authors:
            suspect = authors[0].author
            sure = authors[0].probability
            lead = authors[0].score
        threshold = point.threshold
        p = None if amount < self._min_amount else probability(score, amount, lead, self._terms)
        return record(
            Assessment,
            (
                thread_id,
                score,
                p,
                p is not None and p >= threshold,
                threshold,
                point.name,
                suspect,
                sure,
                authors,
                p is None,
                (start, stop),
                n_messages,
                n_authors,
                self._model,
            ),
        )

    @cython.cfunc
    def _authors(self, names: list, own: list) -> tuple:
        """Return all authors, most likely first: a conditional logit over the authors of a segment.

        With two authors the log-odds are the weights of own text minus those of the partner's. An author alone is
        compared with a partner who wrote nothing.
        """
        ahead: cython.double
        behind: cython.double
        odd: cython.double
        lead: cython.Py_ssize_t
        if len(own) == 2:  # as nearly always: the same, in a fraction of the time
            lead = own[0] < own[1]
            ahead = own[lead] * self._attribution_step
            behind = own[1 - lead] * self._attribution_step
            odd = exp(behind - ahead)
            return (
                record(AuthorRisk, (names[lead], 1.0 / (1.0 + odd), ahead)),
                record(AuthorRisk, (names[1 - lead], odd / (1.0 + odd), behind)),
            )
        scores = [value * self._attribution_step for value in own]
        if len(own) == 1:
            return (record(AuthorRisk, (names[0], sigmoid(scores[0]), scores[0])),)
        order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
        odds = [exp(scores[i] - scores[order[0]]) for i in order]
        total = fsum(odds)
        return tuple([record(AuthorRisk, (names[i], odds[k] / total, scores[i])) for k, i in enumerate(order)])


@cython.cfunc
def record(kind: type, values: tuple) -> object:
    """Return a frozen record with these values in its slots, in a fraction of the time that its `__init__` takes."""
    made = new(kind, None, None)
    names: tuple = kind.__slots__
    i: cython.Py_ssize_t
    for i in range(len(names)):
        set_field(made, names[i], values[i])
    return made
