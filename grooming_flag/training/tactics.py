"""Tactic heads from messages that annotators coded, and what the heads do on persons that they were not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from grooming_flag.errors import DataError
from grooming_flag.evaluation.answers import Answers
from grooming_flag.evaluation.detection import ranking_figures
from grooming_flag.evaluation.figures import Figure, share
from grooming_flag.evaluation.pool import Pool
from grooming_flag.features import FeatureExtractor, pack_by_author
from grooming_flag.records import Thread
from grooming_flag.tactics import STEP, Tactics
from grooming_flag.training.samples import Floor, Ngrams, whole_threads

C = 0.2
FOLDS = 5

Codes = Mapping[str, Sequence[Sequence[str]]]
"""By thread id, the codes of each message."""


def fit_tactics(
    threads: Sequence[Thread],
    codes: Codes,
    names: Mapping[str, str],
    extractor: FeatureExtractor,
    floor: int,
    seed: int,
) -> tuple[Tactics, list[Figure]]:
    """Fit a head for each tactic: its messages against all others of the threads that annotators went through.

    The heads see one message at a time, so that a tactic can be named wherever it occurs. Each cut is where F1 is best
    on persons that a head was not trained on (five folds); so are the figures. Annotators do not mark every message
    that shows a tactic: precision is a lower bound.

    Parameters
    ----------
    threads : sequence of Thread
        Those without any code are left out.
    codes : mapping
    names : mapping of str to str
        Code to tactic; several codes may share one.
    extractor : FeatureExtractor
    floor : int
        Privacy floor within these threads, as in `GroomingClassifier`.
    seed : int

    Raises
    ------
    DataError
        If a tactic has no message, or they are of fewer than five persons.
    """
    coded = [thread for thread in threads if any(codes.get(thread.thread_id, ()))]
    found = [of_message for thread in coded for of_message in codes[thread.thread_id]]
    if not any(code in names for of_message in found for code in of_message):
        raise DataError(f"no message has a code of {', '.join(names)}; leave the tactics out, or look at the codes")
    tactics = sorted(set(names.values()))
    shows = np.array([[any(names.get(c) == name for c in of_message) for name in tactics] for of_message in found])
    persons = np.array([t.person or t.thread_id for t in coded for _ in t.messages], dtype=object)
    for k, name in enumerate(tactics):
        n = len(set(persons[shows[:, k]]))
        if n < FOLDS:
            codes_of = ", ".join(code for code in names if names[code] == name)
            raise DataError(f"the tactic {name!r} ({codes_of}) is coded in messages of {n} persons; {FOLDS} are needed")
    ngrams = Ngrams(Floor(extractor, coded, floor), whole_threads(coded))
    rows = ngrams.rows(pack_by_author([message] for thread in coded for message in thread.messages))
    scores = np.empty(shows.shape)
    with threadpool_limits(1):  # the order of a sum decides its last bit
        for train, test in GroupKFold(FOLDS).split(rows, groups=persons):
            for name, column in zip(tactics, shows[train].T, strict=True):
                if column.all() or not column.any():
                    raise DataError(f"the tactic {name!r} is coded in all or in no messages of some; add other persons")
            coef, intercepts = _fitted(rows[train], shows[train])
            scores[test] = rows[test] @ coef.T + intercepts
        coef, intercepts = _fitted(rows, shows)
    cuts = np.array([_best_cut(shows[:, k], scores[:, k]) for k in range(len(tactics))])
    steps = np.round(coef / STEP).astype(np.int16)
    buckets = np.flatnonzero(steps.any(axis=0))
    heads = Tactics(
        tactics,
        buckets.astype(np.int32),
        np.ascontiguousarray(steps[:, buckets].T),
        np.ceil((cuts - intercepts) / STEP).astype(np.int64),
    )
    return heads, _figures(tactics, shows, scores, cuts, persons, seed)


def _fitted(rows: csr_matrix, shows: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of the heads, shape (n_tactics, n_features), and their intercepts."""
    heads = [LogisticRegression(C=C, max_iter=300).fit(rows, column) for column in shows.T]
    return np.stack([head.coef_[0] for head in heads]), np.array([head.intercept_[0] for head in heads])


def _best_cut(shows: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return the cut at which F1 is best."""
    precision, recall, cuts = precision_recall_curve(shows, scores)
    f1 = 2.0 * precision * recall / np.maximum(precision + recall, 1e-9)
    return float(cuts[np.argmax(f1[:-1])])


def _figures(
    tactics: Sequence[str],
    shows: NDArray[np.bool_],
    scores: NDArray[np.float64],
    cuts: NDArray[np.float64],
    persons: NDArray[np.object_],
    seed: int,
) -> list[Figure]:
    """Return what the heads do on messages of persons they were not trained on; the unit is the message."""
    figures = []
    for name, coded, values, cut in zip(tactics, shows.T, scores.T, cuts, strict=True):
        named = values >= cut
        for measure, hits, of in (("precision", coded, named), ("recall", named, coded)):
            figures.append(share("tactics", measure, name, "", hits[of], persons[of], unit="message"))
        who = np.isin(persons, persons[coded])  # so that no one is drawn by himself, as a kind of his own
        n = int(who.sum())
        pool = Pool([Thread("", ())] * n, persons[who], persons[who], coded[who], np.ones(n, np.int64))
        ranked = ranking_figures(pool, Answers("", values[who], values[who], None, [None] * n, {}), seed)
        auc = next(figure for figure in ranked if figure.measure == "ROC-AUC")
        figures.append(auc._replace(section="tactics", slice=name, unit="message"))
    once = shows.sum(axis=1) == 1
    right = np.argmax(scores - cuts, axis=1) == np.argmax(shows, axis=1)
    figures.append(share("tactics", "told apart", "coded with one", "", right[once], persons[once], unit="message"))
    return figures
