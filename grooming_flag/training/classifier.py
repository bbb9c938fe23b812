"""The estimator: labelled threads to a linear model, as scikit-learn does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from threadpoolctl import threadpool_limits

from grooming_flag.calibration import Calibration
from grooming_flag.errors import DataError
from grooming_flag.features import OWN, FeatureExtractor, pack_by_author
from grooming_flag.model import Model
from grooming_flag.records import Thread
from grooming_flag.segments import SegmentRule
from grooming_flag.training.calibrate import fit_attribution_scale, fit_calibration
from grooming_flag.training.samples import (
    Runs,
    buckets_above_floor,
    lengths_of_all_kinds,
    mirrored,
    segments_and_windows,
    suspects_against_partners,
)

INT16 = np.iinfo(np.int16).max


class GroomingClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Two linear heads on presence features: is the thread risky, and which author drives it.

    Both are L2-penalised logistic regressions. The risk head is trained on the pooled text of segments and of random
    windows; the attribution head on own text minus partner's text of risky threads with known suspects.

    Parameters
    ----------
    extractor : FeatureExtractor, optional
        By default one with the features of the bundled model.
    C, attribution_C : float
        Inverse strength of the penalty, above 0.
    windows : tuple of two ints
        Random windows of each risky thread, and of each other thread.
    window_messages : tuple of two ints
        Shortest and longest window, in messages.
    window_weight : float
        Weight of a window where that of a segment is 1: the windows of a thread weigh about as much as itself.
    segment_rule : SegmentRule, optional
    floor : int
        Privacy floor: a bucket has a weight only if n-grams of so many distinct authors fall in it.
    folds : int
        Person-disjoint folds for the calibration out of fold; 0 leaves the model uncalibrated.
    prior : float, optional
        Assumed share of risky threads; by default their share in `y`.
    min_amount : int
        With fewer distinct weighted buckets the model abstains.
    random_state : int

    Attributes
    ----------
    model_ : Model
    classes_ : ndarray, shape (2,)
        The second one is the risky one.
    coef_ : ndarray of float64, shape (1, n_features)
    intercept_ : ndarray of float64, shape (1,)
        Of the risk head, as the model uses them: rounded to multiples of a power of two.

    Examples
    --------
    >>> from grooming_flag import Message, Thread
    >>> from grooming_flag.training import GroomingClassifier
    >>> X = [Thread(f"t{i}", [Message("a", text)]) for i, text in enumerate(["come alone", "nice goal"] * 20)]
    >>> GroomingClassifier(floor=1, folds=0, min_amount=1).fit(X, [1, 0] * 20).predict(X[:2])
    array([1, 0])
    """

    def __init__(
        self,
        extractor: FeatureExtractor | None = None,
        C: float = 0.1,
        attribution_C: float = 0.03,
        windows: tuple[int, int] = (4, 2),
        window_messages: tuple[int, int] = (3, 120),
        window_weight: float = 0.3,
        segment_rule: SegmentRule | None = None,
        floor: int = 10,
        folds: int = 3,
        prior: float | None = None,
        min_amount: int = 40,
        random_state: int = 0,
    ) -> None:
        self.extractor = extractor
        self.C = C
        self.attribution_C = attribution_C
        self.windows = windows
        self.window_messages = window_messages
        self.window_weight = window_weight
        self.segment_rule = segment_rule
        self.floor = floor
        self.folds = folds
        self.prior = prior
        self.min_amount = min_amount
        self.random_state = random_state

    def fit(self, X: Sequence[Thread], y: ArrayLike) -> Self:
        """Fit both heads and the calibration.

        Parameters
        ----------
        X : sequence of Thread, length n_threads
            The suspects of risky threads train the attribution head; threads of one `person` stay in one fold.
        y : array-like, shape (n_threads,)
            Two classes; the greater one is the risky one.
        """
        threads = _checked(X)
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        if len(labels) != len(threads):
            raise DataError(f"there are {len(threads)} threads but {len(labels)} labels")
        self.classes_ = np.unique(labels)
        if len(self.classes_) != 2:
            raise DataError(f"y has {len(self.classes_)} class(es), but the classifier needs two: risky or not")
        risky = labels == self.classes_[1]
        with threadpool_limits(1):  # the order of a sum decides its last bit
            self.model_ = self._fit(threads, risky)
        self.coef_ = self.model_.coef[None, :, 0]
        self.intercept_ = np.array([self.model_.intercept])
        return self

    def decision_function(self, X: Sequence[Thread]) -> NDArray[np.float64]:
        """Return the score of each thread, log-odds of its strongest segment, shape (n_threads,)."""
        check_is_fitted(self)
        return np.array([a.score for a in self.model_.assess_many(_checked(X), at=1.0)])

    def predict_proba(self, X: Sequence[Thread]) -> NDArray[np.float64]:
        """Return the calibrated probability of both classes, shape (n_threads, 2); the prior where it abstains."""
        check_is_fitted(self)
        prior = self.model_.calibration.prior
        answers = self.model_.assess_many(_checked(X), at=1.0)
        risk = np.array([prior if a.probability is None else a.probability for a in answers])
        return np.column_stack([1.0 - risk, risk])

    def predict(self, X: Sequence[Thread]) -> NDArray[Any]:
        """Return the more probable class of each thread, shape (n_threads,); not risky where the model abstains."""
        check_is_fitted(self)
        is_risky = [assessment.flagged for assessment in self.model_.assess_many(_checked(X), at=0.5)]
        answers: NDArray[Any] = self.classes_[np.array(is_risky, dtype=int)]
        return answers

    def to_model(self, name: str = "custom") -> Model:
        """Return the deployable model; it has no operating points yet."""
        check_is_fitted(self)
        return self.model_.replace(name=name)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.two_d_array = False
        return tags

    def _fit(self, threads: Sequence[Thread], risky: NDArray[np.bool_]) -> Model:
        extractor = self.extractor or FeatureExtractor()
        rule = self.segment_rule or SegmentRule()
        rng = np.random.default_rng(self.random_state)
        known = buckets_above_floor(extractor, threads, self.floor)
        runs = segments_and_windows(threads, risky, rule, self.windows, self.window_messages, rng)
        rows = _only(extractor.rows(pack_by_author(runs.messages)), known)
        weights = np.where(runs.is_window, self.window_weight, 1.0)
        risk = self._risk_head(rows, risky[runs.threads], weights)
        pairs = self._pairs(extractor, threads, risky, rule, known)
        attribution = self._attribution_head(pairs[0])
        heads = np.stack([risk.coef_[0], attribution], axis=1)
        step = 2.0 ** np.ceil(np.log2(max(np.abs(heads).max() / INT16, 2.0**-20)))
        calibration, scale = Calibration(), 1.0
        if self.folds:
            names, groups = np.unique([t.person or t.thread_id for t in threads], return_inverse=True)
            if len(names) < self.folds:
                raise DataError(f"{self.folds} folds need as many persons, but there are {len(names)}; use fewer folds")
            calibration = self._calibrate(extractor, threads, risky, rule, known, runs, rows, weights, groups, rng)
            scale = self._attribution_scale(*pairs, groups)
        return Model(
            name="custom",
            extractor=extractor,
            weights=np.round(heads / step).astype(np.int16),
            step=float(step),
            intercept=int(np.round(risk.intercept_[0] / step)),
            calibration=calibration.with_prior(float(risky.mean()) if self.prior is None else self.prior),
            attribution_scale=scale,
            segment_rule=rule,
            min_amount=self.min_amount,
            operating_points={},
            lineage={},
        )

    def _risk_head(
        self, rows: csr_matrix, risky: NDArray[np.bool_], weights: NDArray[np.float64]
    ) -> LogisticRegression:
        return LogisticRegression(C=self.C, max_iter=300).fit(rows, risky, sample_weight=weights)

    def _pairs(
        self,
        extractor: FeatureExtractor,
        threads: Sequence[Thread],
        risky: NDArray[np.bool_],
        rule: SegmentRule,
        known: NDArray[np.bool_],
    ) -> tuple[csr_matrix, NDArray[np.int64]]:
        """Return own-minus-partner rows of risky segments with known suspects, and the thread of each."""
        sources = [i for i, thread in enumerate(threads) if risky[i] and thread.suspects]
        segments = [(i, a, b) for i in sources for a, b in rule.split(threads[i].messages)]
        packed = pack_by_author(threads[i].messages[a:b] for i, a, b in segments)
        own, other, segment = suspects_against_partners(packed, [threads[i].suspects for i, _, _ in segments])
        rows = _only(extractor.rows(packed, OWN), known)
        return rows[own] - rows[other], np.array([i for i, _, _ in segments], dtype=np.int64)[segment]

    def _attribution_head(self, differences: csr_matrix) -> NDArray[np.float64]:
        if differences.shape[0] < 2:
            return np.zeros(differences.shape[1])
        head = LogisticRegression(C=self.attribution_C, fit_intercept=False, max_iter=300)
        coef: NDArray[np.float64] = head.fit(*mirrored(differences)).coef_[0]
        return coef

    def _calibrate(
        self,
        extractor: FeatureExtractor,
        threads: Sequence[Thread],
        risky: NDArray[np.bool_],
        rule: SegmentRule,
        known: NDArray[np.bool_],
        runs: Runs,
        rows: csr_matrix,
        weights: NDArray[np.float64],
        groups: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> Calibration:
        """Fit the calibration on scores of threads that the fold's own risk head has not seen."""
        sample = lengths_of_all_kinds(threads, risky, rule, rng)
        sample_rows = _only(extractor.rows(pack_by_author(sample.messages)), known)
        scores = np.zeros(len(sample.threads))
        for train, test in GroupKFold(self.folds).split(risky, risky, groups):
            if len(np.unique(risky[train])) < 2:
                raise DataError(f"a fold of {self.folds} has one class only; use fewer folds, or more persons")
            fit, held_out = np.isin(runs.threads, train), np.isin(sample.threads, test)
            head = self._risk_head(rows[fit], risky[runs.threads[fit]], weights[fit])
            scores[held_out] = head.decision_function(sample_rows[held_out])
        return fit_calibration(np.diff(sample_rows.indptr), scores, risky[sample.threads])

    def _attribution_scale(
        self, differences: csr_matrix, sources: NDArray[np.int64], groups: NDArray[np.int64]
    ) -> float:
        of_pair = groups[sources]
        if len(np.unique(of_pair)) < self.folds:
            return 1.0
        scores = np.zeros(len(of_pair))
        for train, test in GroupKFold(self.folds).split(of_pair, groups=of_pair):
            scores[test] = differences[test] @ self._attribution_head(differences[train])
        return fit_attribution_scale(scores)


def _checked(X: Sequence[Thread]) -> Sequence[Thread]:
    if not len(X):
        raise DataError("there are no threads")
    for i, thread in enumerate(X):
        if not isinstance(thread, Thread):
            raise DataError(f"X[{i}] is {type(thread).__name__}; X must be a sequence of Thread")
    return X


def _only(rows: csr_matrix, known: NDArray[np.bool_]) -> csr_matrix:
    """Return the rows without the buckets that may have no weight."""
    kept = known[rows.indices]
    indptr = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return csr_matrix((rows.data[kept], rows.indices[kept], indptr), shape=rows.shape)
