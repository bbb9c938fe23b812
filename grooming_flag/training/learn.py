"""Verdicts flow back: a model whose probabilities mean what its moderators found. No weight changes.

The verdict is regressed on the log-odds that the model gave: ``log-odds' = slope * log-odds + offset`` (logistic
recalibration; Cox 1958), which is linear in all terms of the calibration and so becomes a part of it.

Which threads were reviewed is decided by the probability, and for a sample by a draw besides, never by the verdict.
Given the probability, a verdict is as likely among the reviewed threads as among all, so the regression is not biased
by the selection, while shares of reviewed threads are (Rubin 1976 on what can be ignored; Pfeffermann 1993 on weights
in models). For the same reason threads of a sample do not weigh more in it. At one over the probability of selection a
few of them would outweigh all flagged ones: from 1,100 flagged threads and 200 of 99,000 others a slope of 1 is then
estimated as 1.37 +- 0.39, rather than as 1.01 +- 0.08. Where threads are counted, as for recall, they do weigh so much.

Few verdicts say little, so the estimate is drawn towards what the model says now: the log of the slope and the offset
have normal distributions around 0 beforehand, with `SD_OF_LOG_SLOPE` and `SD_OF_OFFSET`, and the most likely values
given the verdicts are taken (shrinkage when models are updated: Steyerberg et al. 2004, Statistics in Medicine 23,
2567-2586).

One wrong key must not decide either. A thread that the model is very sure of, with a verdict against it, would pull the
slope as hard as it is far away, so a verdict is taken to be a slip with probability `SLIP`, whatever the thread:
``P(confirmed) = SLIP + (1 - 2 SLIP) sigmoid(slope * log-odds + offset)`` (Copas 1988, "Binary regression models for
contaminated data", JRSS B 50, 225-265). Then a far verdict has little pull, and several that agree have it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from grooming_flag._version import __version__
from grooming_flag.artifact import SUMS, check_replaceable, load_card, load_model, save_model
from grooming_flag.calibration import log_odds
from grooming_flag.errors import DataError, ModelError
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.files import digest
from grooming_flag.evaluation.report.reading import number
from grooming_flag.evaluation.verdicts import check_model, confirm_rate, mean_probability, recall, tally
from grooming_flag.io.verdicts import Verdict, latest, read_all_verdicts
from grooming_flag.model import Model
from grooming_flag.training.card import recalibrated_card

SD_OF_OFFSET = 0.5
"""In 95 of 100 cases odds are at most 2.7 times too high or too low, where on development threads it was 1.8; weighs as
much as 16 verdicts on threads of probability 1/2 (``1 / sd^2 = 16 / 4``)."""
SD_OF_LOG_SLOPE = 0.25
"""In 95 of 100 cases the slope is between 0.6 and 1.6; it also says what becomes of probabilities that nobody reviewed,
so it is held more tightly."""
SLIP = 0.001
"""Assumed probability that a verdict is keyed wrongly. It is low, since true misses in a sample look like slips: with
2,000 sampled threads a true slope of 0.6 is found as 0.61, at 0.005 as 0.64. It is enough for more of them: if 5 in
1,000 are slips, a slope of 1 with 1,000 sampled threads is found as 0.96, without this term as 0.82."""
NOTABLE = 0.1
"""Change of the log slope or of the offset without one verdict from which that is said: a tenth."""
FURTHEST = 36.0
"""Log-odds of the highest probability below 1."""
PRECISION = np.array([SD_OF_LOG_SLOPE, SD_OF_OFFSET]) ** -2.0
NORMAL_95 = 1.959964


class Fitted(NamedTuple):
    """A recalibration; `slope` above 0, and the ends of 95 % intervals."""

    slope: float
    offset: float
    slope_95: tuple[float, float]
    offset_95: tuple[float, float]


def fit_recalibration(probabilities: NDArray[np.float64], confirmed: NDArray[np.bool_]) -> Fitted:
    """Fit slope and offset of the log-odds to verdicts.

    Intervals are from the expected information (Fisher), as normal ones of log slope and offset.

    Parameters
    ----------
    probabilities : ndarray, shape (n,)
        What the model said, 0..1.
    confirmed : ndarray of bool, shape (n,)
    """
    x = _clipped(probabilities)

    def cost(terms: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        likelihood, columns, pulls = _verdicts_at(terms, x, confirmed)
        value = np.sum(PRECISION * terms**2) / 2.0 - np.sum(np.log(likelihood))
        return float(value), PRECISION * terms - pulls @ columns

    terms = minimize(cost, np.zeros(2), jac=True, method="BFGS").x
    spread = np.sqrt(np.diag(np.linalg.inv(_information(terms, x))))
    ends = terms[:, None] + np.outer(spread, [-NORMAL_95, NORMAL_95])
    (least, most), (low, high) = np.exp(ends[0]).tolist(), ends[1].tolist()
    return Fitted(float(np.exp(terms[0])), float(terms[1]), (least, most), (low, high))


def most_influential(probabilities: NDArray[np.float64], confirmed: NDArray[np.bool_], fitted: Fitted) -> int:
    """Return the place of the verdict without which a fit would change most.

    That is the one with the highest ``g' I^-1 g``, where `g` is its part of the gradient and `I` the information: the
    change by one step of Newton, in units of its error (Pregibon 1981, "Logistic regression diagnostics", Annals of
    Statistics 9, 705-724).
    """
    x, terms = _clipped(probabilities), np.array([np.log(fitted.slope), fitted.offset])
    _, columns, pulls = _verdicts_at(terms, x, confirmed)
    parts = pulls[:, None] * columns
    return int(np.argmax(np.sum(parts @ np.linalg.inv(_information(terms, x)) * parts, axis=1)))


def _clipped(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip([log_odds(p) for p in probabilities.tolist()], -FURTHEST, FURTHEST)


def _verdicts_at(
    terms: NDArray[np.float64], x: NDArray[np.float64], confirmed: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the likelihood of each verdict, and two factors of the gradient of its logarithm.

    These are the derivatives of the new log-odds by log slope and offset, shape (n, 2), and that of the logarithm by
    the new log-odds, shape (n,).
    """
    slope = np.exp(terms[0])
    p = expit(slope * x + terms[1])
    said = SLIP + (1.0 - 2.0 * SLIP) * p
    likelihood = np.where(confirmed, said, 1.0 - said)
    pulls = np.where(confirmed, 1.0, -1.0) * (1.0 - 2.0 * SLIP) * p * (1.0 - p) / likelihood
    return likelihood, np.column_stack([slope * x, np.ones(len(x))]), pulls


def _information(terms: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the expected curvature of the cost: of the verdicts, and of what is held beforehand."""
    _, columns, if_confirmed = _verdicts_at(terms, x, np.ones(len(x), dtype=bool))
    _, _, if_dismissed = _verdicts_at(terms, x, np.zeros(len(x), dtype=bool))
    found: NDArray[np.float64] = (columns.T * -(if_confirmed * if_dismissed)) @ columns + np.diag(PRECISION)
    return found


def learn_from(
    model: Model, verdicts: Iterable[Verdict], name: str | None = None, sums: Sequence[str] = ()
) -> tuple[Model, dict[str, Any]]:
    """Return the model with its probabilities recalibrated on verdicts, and what was learnt.

    No weight changes. Named thresholds are restated, so that they flag the same threads, and what was measured there
    stays true. The prior stays what it was: flagged threads cannot tell a platform with more risky threads from one
    where the same words mean more, so `prior` from now on names the platform that the verdicts come from, and
    `with_prior` restates for one where the odds of a risky thread are so many times those.

    Parameters
    ----------
    model : Model
        At the prior with which it gave the probabilities.
    verdicts : iterable of Verdict
        On what this model said; of several on one thread the latest counts. "unsure" ones are counted, no more.
    name : str, optional
        Of the new model: its probabilities are others, so it has one of its own. By default "-recalibrated" is added.
    sums : sequence of str
        SHA-256 of the files that the verdicts are from, for the lineage.

    Returns
    -------
    model : Model
    report : dict
        As `grooming-flag learn-from` writes it; see docs/operations.md.

    Raises
    ------
    DataError
        If verdicts are of another model, none that counts has a probability, or all that do are of one kind.
    ModelError
        If the name is that of the model, or of one that it was recalibrated from.

    Examples
    --------
    >>> from grooming_flag import load_model
    >>> from grooming_flag.io.verdicts import Verdict
    >>> kinds = ["confirmed"] * 30 + ["dismissed"] * 70  # of threads that the model was quite sure of
    >>> verdicts = [Verdict(thread_id=f"t{i}", verdict=kind, probability=0.8) for i, kind in enumerate(kinds)]
    >>> model, report = learn_from(load_model(), verdicts)
    >>> model.name.endswith("-recalibrated")
    True
    >>> [round(figure["value"], 2) for figure in report["figures"][:3]]  # confirmed, and probabilities before and after
    [0.3, 0.8, 0.36]
    """
    counted, n_disagreeing = latest(verdicts)
    verdicts = sorted(counted, key=attrgetter("thread_id"))  # so that sums are the same in any order, to the last bit
    name = name or f"{model.name}-recalibrated"
    if name in {model.name, *(one["from"] for one in model.lineage.get("recalibrated", ()))}:
        raise ModelError(
            f"the new model would be called {name} too, like one that it is from; give it another name, since "
            "probabilities change"
        )
    check_model(verdicts, model.name)
    decided = [one for one in verdicts if one.verdict != "unsure"]
    used = [one for one in decided if one.probability is not None]
    if not used:
        raise DataError(
            f"of {len(verdicts)} verdicts {len(decided)} are confirmed or dismissed, none of them with a probability; "
            "nothing can be learnt"
        )
    probabilities = np.array([one.probability for one in used], dtype=np.float64)
    confirmed = np.array([one.verdict == "confirmed" for one in used])
    if confirmed.all() or not confirmed.any():
        kind = "confirmed" if confirmed[0] else "dismissed"
        raise DataError(f"all {len(used)} verdicts that count are {kind}; both kinds are needed to learn from")
    fitted = fit_recalibration(probabilities, confirmed)
    place = most_influential(probabilities, confirmed, fitted)
    without = fit_recalibration(np.delete(probabilities, place), np.delete(confirmed, place))
    report = _report(model, verdicts, name, fitted, len(used)) | {"disagreeing": n_disagreeing}
    report["without_one"] = {**_described(used[place]), "slope": without.slope, "offset": without.offset}
    chances = expit(np.where(confirmed, 1.0, -1.0) * (fitted.slope * _clipped(probabilities) + fitted.offset))
    contrary = [one for one, chance in zip(used, chances, strict=True) if chance < SLIP]
    report["contrary"] = len(contrary)
    report["notes"] = list(_notes(report, verdicts, contrary, fitted))
    lineage = dict(model.lineage)
    lineage["recalibrated"] = [
        *lineage.get("recalibrated", ()),
        {
            "library": __version__,
            "files": list(sums),
            **{key: report[key] for key in ("from", "verdicts", "reviewed_at")},
            "slope": fitted.slope,
            "offset": fitted.offset,
        },
    ]
    found = model.replace(
        name=name,
        calibration=model.calibration.recalibrated(fitted.slope, fitted.offset),
        operating_points={
            point: p.recalibrated(fitted.slope, fitted.offset) for point, p in model.operating_points.items()
        },
        lineage=lineage,
    )
    return found, report


def learn_from_files(paths: Sequence[Path], folder: Path, model: Path) -> tuple[Model, dict[str, Any]]:
    """Recalibrate the model of a folder on verdict files, and write the new model's folder with its card.

    Parameters
    ----------
    paths : sequence of path
        In any order.
    folder : path
        Its name becomes the new model's, so it must not hold one.
    model : path
        Folder of the model that the verdicts are on.

    Returns
    -------
    model : Model
    report : dict
        As `learn_from` returns them.

    Raises
    ------
    DataError, ModelError
        As `learn_from` and `load_model`; also if the folder holds a model or anything else.
    """
    check_replaceable(folder)
    if (folder / SUMS).exists():
        raise ModelError(
            f"{folder} holds a model of that name already, and verdicts on it would pass for verdicts on the new one; "
            "choose another name"
        )
    card, metrics = load_card(model)
    sums = sorted(digest(path) for path in paths)
    found, report = learn_from(load_model(model), read_all_verdicts(*paths), folder.name, sums)
    save_model(found, folder, recalibrated_card(card, report), metrics)
    return found, report


def _report(model: Model, verdicts: Sequence[Verdict], name: str, fitted: Fitted, n_used: int) -> dict[str, Any]:
    missed = recall(verdicts)
    times = [one.reviewed_at for one in verdicts if one.reviewed_at is not None]
    figures = [
        confirm_rate(verdicts),
        mean_probability(verdicts)._replace(measure="mean probability, before"),
        mean_probability(verdicts, fitted.slope, fitted.offset)._replace(measure="mean probability, after"),
        Figure("verdicts", "slope", "all", "", "thread", fitted.slope, *fitted.slope_95, n_used),
        Figure("verdicts", "offset", "all", "", "thread", fitted.offset, *fitted.offset_95, n_used),
        *([missed] if missed else []),
    ]
    return {
        "model": name,
        "from": model.name,
        "verdicts": tally(verdicts),
        "without_probability": sum(one.probability is None for one in verdicts),
        "reviewed_at": [min(times), max(times)] if times else None,
        "thresholds": {
            point: [p.threshold, p.recalibrated(fitted.slope, fitted.offset).threshold]
            for point, p in model.operating_points.items()
        },
        "figures": [figure._asdict() for figure in figures],
    }


def _described(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in ("verdict", "selection", "probability")}


def _notes(
    report: Mapping[str, Any], verdicts: Sequence[Verdict], contrary: Sequence[Verdict], fitted: Fitted
) -> Iterator[str]:
    one = report["without_one"]
    if max(abs(np.log(one["slope"] / fitted.slope)), abs(one["offset"] - fitted.offset)) > NOTABLE:
        yield (
            f"Much depends on one verdict ({_in_words(one)}): without it the slope would be {one['slope']:.3g} rather "
            f"than {fitted.slope:.3g}, and the offset {one['offset']:.3g} rather than {fitted.offset:.3g}."
        )
    found = recall(verdicts)
    if contrary:
        others = recall([verdict for verdict in verdicts if verdict not in contrary])
        yield (
            f"{len(contrary)} of the verdicts may be slips: the new model is more than {1.0 - SLIP:.1%} sure of the "
            f"contrary (the first: {_in_words(_described(contrary[0]))}). Look at them again. They hardly count in "
            "slope and offset, but fully in rates"
            + (f"; recall is {number(others.value, 3)} without them." if others else ".")
        )
    if report["disagreeing"]:
        yield f"On {report['disagreeing']} of the threads verdicts disagree; the latest on each counts."
    if not found:
        yield NO_SAMPLE


def _in_words(described: Mapping[str, Any]) -> str:
    return f"{described['verdict']}, {described['selection']}, probability {described['probability']:.2g}"


NO_SAMPLE = (
    "Recall cannot be known from flagged threads alone: have some of the others reviewed too "
    "(grooming-flag review --sample-unflagged N)."
)
