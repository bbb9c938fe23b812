"""The estimator: labelled threads to a linear model, as scikit-learn does it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
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
from grooming_flag.training.calibrate import Unseen, calibrate
from grooming_flag.training.samples import Floor, Ngrams, Plan, Runs, attribution_runs, training_runs

INT16 = np.iinfo(np.int16).max


class GroomingClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Two linear heads on presence features: is the thread risky, and which author drives it.

    Both are L2-penalised logistic regressions. The risk head is trained on the pooled text of segments and of random
    windows, some of them rewritten or padded (see `training_runs`); the attribution head on the suspects' own text
    against their partners', in risky threads with known suspects.

    Parameters
    ----------
    extractor : FeatureExtractor, optional
        By default one with the features of the bundled model.
    C, attribution_C : float
        Inverse strength of the penalty, above 0.
    plan : Plan, optional
        How many random runs are taken of each thread.
    segment_rule : SegmentRule, optional
    floor : int
        Privacy floor: an n-gram takes part in training only if so many distinct authors wrote it.
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
        plan: Plan | None = None,
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
        self.plan = plan
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
        model = self._heads(threads, risky)
        if not self.folds:
            return model
        names, groups = np.unique([t.person or t.thread_id for t in threads], return_inverse=True)
        if len(names) < self.folds:
            raise DataError(f"{self.folds} folds need as many persons, but there are {len(names)}; use fewer folds")
        unseen = []
        for train, test in GroupKFold(self.folds).split(risky, risky, groups):
            if len(np.unique(risky[train])) < 2:
                raise DataError(f"a fold of {self.folds} has one class only; use fewer folds, or more persons")
            fold = self._heads([threads[i] for i in train], risky[train])
            unseen.append(Unseen(fold, [threads[i] for i in test], risky[test]))
        return calibrate(model, unseen, self.random_state)

    def _heads(self, threads: Sequence[Thread], risky: NDArray[np.bool_]) -> Model:
        """Return a model that is not calibrated."""
        extractor = self.extractor or FeatureExtractor()
        rule = self.segment_rule or SegmentRule()
        plan = self.plan or Plan()
        if plan.draws < 1:
            raise DataError(f"the plan has {plan.draws} draws; at least one is needed")
        rng = random.Random(self.random_state)
        floor = Floor(extractor, threads, self.floor)
        drawn = [self._drawn_heads(floor, risky, rule, plan, rng) for _ in range(plan.draws)]
        heads = np.mean([heads for heads, _ in drawn], axis=0)
        step = 2.0 ** np.ceil(np.log2(max(np.abs(heads).max() / INT16, 2.0**-20)))
        return Model(
            name="custom",
            extractor=extractor,
            weights=np.round(heads / step).astype(np.int16),
            step=float(step),
            intercept=int(np.round(np.mean([intercept for _, intercept in drawn]) / step)),
            calibration=Calibration(prior=float(risky.mean()) if self.prior is None else self.prior),
            attribution_scale=1.0,
            segment_rule=rule,
            min_amount=self.min_amount,
            operating_points={},
            lineage={},
        )

    def _drawn_heads(
        self,
        floor: Floor,
        risky: NDArray[np.bool_],
        rule: SegmentRule,
        plan: Plan,
        rng: random.Random,
    ) -> tuple[NDArray[np.float64], float]:
        """Return the weights of both heads, shape (n_features, 2), and the intercept, from one draw of runs."""
        threads = floor.threads
        runs = training_runs(threads, risky, rule, plan, rng)
        ngrams = Ngrams(floor, runs)
        rows = ngrams.rows(pack_by_author(runs.messages))
        if not rows.nnz:
            raise DataError(f"no word or n-gram of the threads is of {self.floor} distinct authors; add threads")
        head = LogisticRegression(C=self.C, max_iter=300)
        head.fit(rows, risky[runs.threads], sample_weight=runs.weights)
        known = [thread for thread, is_risky in zip(threads, risky, strict=True) if is_risky and thread.suspects]
        attribution = self._attribution_head(known, attribution_runs(known, rule, plan, rng), ngrams)
        return np.stack([head.coef_[0], attribution], axis=1), float(head.intercept_[0])

    def _attribution_head(self, threads: Sequence[Thread], runs: Runs, ngrams: Ngrams) -> NDArray[np.float64]:
        """Return weights that are positive for what suspects write and negative for what their partners do."""
        packed = pack_by_author(runs.messages)
        sources = runs.threads[packed.segments]
        by_suspect = np.array(
            [who in threads[source].suspects for who, source in zip(packed.authors, sources, strict=True)], dtype=bool
        )
        if len(np.unique(by_suspect)) < 2:
            return np.zeros(ngrams.n_buckets)
        head = LogisticRegression(C=self.attribution_C, fit_intercept=False, max_iter=300)
        head.fit(ngrams.rows(packed, OWN), by_suspect, sample_weight=runs.weights[packed.segments])
        coef: NDArray[np.float64] = head.coef_[0]
        return coef


def _checked(X: Sequence[Thread]) -> Sequence[Thread]:
    if not len(X):
        raise DataError("there are no threads")
    for i, thread in enumerate(X):
        if not isinstance(thread, Thread):
            raise DataError(f"X[{i}] is {type(thread).__name__}; X must be a sequence of Thread")
    return X
