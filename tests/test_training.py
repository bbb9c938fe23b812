"""The estimators: what scikit-learn expects of them, the privacy floor, calibration, and models made from them."""

from __future__ import annotations

import copy
import pickle
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import COMMON, error_of, labelled_threads, small_model, thread, write_threads
from hypothesis import given
from hypothesis import strategies as st
from oracle import Settings, own_buckets
from scipy.sparse import csr_matrix, random_array
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks
from strategies import conversations

from grooming_flag import DataError, FeatureExtractor, Message, Model, Thread, load_model, save_model
from grooming_flag.calibration import Calibration
from grooming_flag.features import pack_by_author
from grooming_flag.segments import SegmentRule
from grooming_flag.training import GroomingClassifier
from grooming_flag.training.calibrate import calibrate, fit_attribution_scale, fit_calibration
from grooming_flag.training.samples import (
    buckets_above_floor,
    lengths_of_all_kinds,
    mirrored,
    segments_and_windows,
    suspects_against_partners,
)
from grooming_flag.training.train import train_files

SMALL = FeatureExtractor(2**12, char_ngrams=None)
Bits = tuple[bytes, float, Calibration, float]


def classifier(**params: Any) -> GroomingClassifier:
    return GroomingClassifier(**{"extractor": SMALL, "floor": 3, "folds": 2, "min_amount": 5, "prior": 0.5, **params})


@cache
def training_threads() -> list[Thread]:
    return labelled_threads(160, prefix="x", n_messages=8)


@cache
def fresh_threads() -> list[Thread]:
    return labelled_threads(60, prefix="y", n_messages=8)


def labels(threads: Sequence[Thread]) -> list[int]:
    return [int(one.label or 0) for one in threads]


@cache
def fitted() -> GroomingClassifier:
    return classifier().fit(training_threads(), labels(training_threads()))


def bits_of(model: Model) -> Bits:
    return model.weights.tobytes(), model.intercept, model.calibration, model.attribution_scale


def own_row(extractor: FeatureExtractor, text: str) -> Any:
    return extractor.rows(pack_by_author([[Message("a", text)]])).indices


# --- what scikit-learn asks of any estimator ---------------------------------------------------------------------

ESTIMATORS = [GroomingClassifier(), FeatureExtractor(), GroomingClassifier(extractor=FeatureExtractor(key="tea"))]

# scikit-learn feeds numbers to an estimator in nearly all of its checks, and itself leaves those out for an estimator
# whose tag says that X is not two-dimensional; these are the ones that do not look at X
APPLICABLE = [
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]
# The others, and why they cannot apply:
# - X of numbers: check_classifiers_*, check_dtype_object, check_estimators_dtypes, check_estimators_nan_inf,
#   check_complex_data, check_fit1d, check_fit2d_*, check_f_contiguous_array_estimator, check_readonly_memmap_input,
#   check_estimator_sparse_*, check_positive_only_tag_during_fit, check_transformer_*, check_methods_*_invariance,
#   check_dict_unchanged, check_dont_overwrite_parameters, check_estimators_pickle, check_fit_idempotent and others
#   (below are tests with threads in their stead)
# - X has no columns, and the estimators no n_features_in_: check_n_features_in*, check_get_feature_names_out_error,
#   check_dataframe_column_names_consistency, check_estimators_empty_data_messages
# - the extractor has nothing to fit: check_estimators_unfitted, check_fit_check_is_fitted
# - neither takes weights of samples or classes: check_sample_weight*, check_class_weight_*
# - the output is sparse: check_set_output_*, check_global_*_output_transform_*


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=["classifier", "extractor", "classifier with extractor"])
@pytest.mark.parametrize("name", APPLICABLE)
def test_an_estimator_passes_the_checks_of_scikit_learn_that_do_not_look_at_X(name: str, estimator: Any) -> None:  # noqa: N802
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip("this scikit-learn has no such check")
    check(type(estimator).__name__, clone(estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS[:2], ids=["classifier", "extractor"])
def test_an_estimator_passes_the_checks_that_scikit_learn_chooses_for_it(estimator: Any) -> None:
    with pytest.warns(SkipTestWarning, match="type"):
        chosen = list(estimator_checks.estimator_checks_generator(estimator))
    assert chosen
    for one, check in chosen:
        check(one)


def test_the_classifier_is_a_binary_classifier_of_text() -> None:
    tags = GroomingClassifier().__sklearn_tags__()
    assert is_classifier(GroomingClassifier())
    assert not tags.input_tags.two_d_array
    assert not tags.classifier_tags.multi_class


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=["classifier", "extractor", "classifier with extractor"])
def test_clones_and_pickles_have_the_same_parameters(estimator: Any) -> None:
    for same in (clone(estimator), copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):  # noqa: S301
        assert type(same) is type(estimator)
        assert repr(same) == repr(estimator)
        assert {k: repr(v) for k, v in same.get_params().items()} == {
            k: repr(v) for k, v in estimator.get_params().items()
        }


def test_parameters_can_be_got_and_set_those_of_the_extractor_among_them() -> None:
    params = {"C": 2.0, "floor": 7, "extractor__seed": 5, "extractor__char_ngrams": (3, 4)}
    one = GroomingClassifier(extractor=FeatureExtractor()).set_params(**params)
    assert {name: one.get_params()[name] for name in params} == params
    extractor = FeatureExtractor().set_params(n_features=2**9, key="tea")
    assert extractor.get_params() == {
        "n_features": 2**9,
        "word_ngrams": 2,
        "char_ngrams": (4, 4),
        "seed": 0,
        "key": "tea",
    }


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter 'other'"):
        FeatureExtractor().set_params(other=1)
    with pytest.raises(ValueError, match="other"):
        GroomingClassifier().set_params(other=1)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_before_it_is_fitted_the_classifier_answers_nothing(method: str) -> None:
    with pytest.raises(NotFittedError):
        getattr(classifier(), method)(training_threads())
    with pytest.raises(NotFittedError):
        classifier().to_model()


def test_fitting_returns_the_estimator_and_changes_neither_parameters_nor_data() -> None:
    threads, y = list(training_threads()), np.array(labels(training_threads()))
    one = classifier()
    before, threads_before, y_before = repr(one.get_params()), list(threads), y.copy()
    assert one.fit(threads, y) is one
    assert repr(one.get_params()) == before
    assert threads == threads_before
    assert (y == y_before).all()
    assert SMALL.fit(threads) is SMALL


def test_fitting_again_or_with_another_container_gives_the_same_bits() -> None:
    threads, y = training_threads(), labels(training_threads())
    one = classifier().fit(threads, y)
    assert bits_of(one.model_) == bits_of(fitted().model_)
    one.fit(fresh_threads(), labels(fresh_threads())).fit(tuple(threads), np.array(y))
    assert bits_of(one.model_) == bits_of(fitted().model_)
    array = np.empty(len(threads), dtype=object)
    array[:] = threads
    assert bits_of(classifier().fit(array, y).model_) == bits_of(fitted().model_)


def test_another_random_state_gives_other_windows_and_so_another_model() -> None:
    other = classifier(random_state=1).fit(training_threads(), labels(training_threads()))
    assert bits_of(other.model_) != bits_of(fitted().model_)


def test_a_fitted_classifier_can_be_pickled_and_copied() -> None:
    for same in (copy.deepcopy(fitted()), pickle.loads(pickle.dumps(fitted()))):  # noqa: S301
        assert bits_of(same.model_) == bits_of(fitted().model_)
        assert (same.predict_proba(fresh_threads()) == fitted().predict_proba(fresh_threads())).all()


def test_a_pipeline_of_extractor_and_logistic_regression_learns() -> None:
    pipe = Pipeline([("features", SMALL), ("head", LogisticRegression())])
    pipe.fit(training_threads(), labels(training_threads()))
    assert pipe.score(fresh_threads(), labels(fresh_threads())) > 0.75
    assert pipe[:-1].get_feature_names_out().shape == (2**12,)
    same = pickle.loads(pickle.dumps(pipe))  # noqa: S301
    assert (same.predict_proba(fresh_threads()) == pipe.predict_proba(fresh_threads())).all()
    assert "LogisticRegression" in repr(pipe)


def test_a_grid_search_reaches_parameters_of_extractor_and_head() -> None:
    grid = {"featureextractor__word_ngrams": [1, 2], "logisticregression__C": [0.1, 1.0]}
    search = GridSearchCV(make_pipeline(SMALL, LogisticRegression()), grid, cv=2)
    search.fit(training_threads(), labels(training_threads()))
    assert search.best_params_.keys() == grid.keys()
    assert search.best_score_ > 0.75


def test_a_grid_search_over_the_classifier_fits_the_best_again() -> None:
    search = GridSearchCV(classifier(folds=0), {"C": [0.01, 1.0], "extractor__seed": [0, 1]}, cv=2)
    search.fit(training_threads(), labels(training_threads()))
    assert isinstance(search.best_estimator_.to_model(), Model)
    assert search.score(fresh_threads(), labels(fresh_threads())) > 0.75


def test_predictions_across_folds_keep_the_order_of_threads() -> None:
    threads, y = training_threads(), np.array(labels(training_threads()))
    persons = [one.person for one in threads]
    found = cross_val_predict(classifier(folds=0), threads, y, groups=persons, cv=GroupKFold(3), method="predict_proba")
    assert found.shape == (len(threads), 2)
    assert found[y == 1, 1].mean() > found[y == 0, 1].mean() + 0.3
    assert cross_val_score(classifier(folds=0), threads, y, cv=3).mean() > 0.75


# --- answers -----------------------------------------------------------------------------------------------------


def test_decision_function_and_probabilities_are_those_of_the_model() -> None:
    model = fitted().to_model("mine")
    answers = list(model.assess_many(fresh_threads(), at=0.5))
    assert fitted().decision_function(fresh_threads()).tolist() == [answer.score for answer in answers]
    prior = model.calibration.prior
    expected = [prior if answer.probability is None else answer.probability for answer in answers]
    found = fitted().predict_proba(fresh_threads())
    assert found[:, 1].tolist() == expected
    assert found.sum(axis=1) == pytest.approx(1.0)
    assert fitted().predict(fresh_threads()).tolist() == [int(p >= 0.5) for p in expected]


def test_coefficients_are_those_of_the_model() -> None:
    model = fitted().to_model()
    assert fitted().coef_.shape == (1, 2**12)
    assert (fitted().coef_[0] == model.coef[:, 0]).all()
    assert fitted().intercept_.tolist() == [model.intercept]
    whole = replace_rule(fitted(), SegmentRule(1000, 1))
    rows = SMALL.transform(fresh_threads())
    assert (whole.decision_function(fresh_threads()) == rows @ fitted().coef_[0] + fitted().intercept_).all()


def replace_rule(one: GroomingClassifier, rule: SegmentRule) -> GroomingClassifier:
    same = clone(one)
    same.model_ = one.model_.replace(segment_rule=rule)
    return same


def test_where_the_model_abstains_the_probability_is_the_prior() -> None:
    assert fitted().predict_proba([thread("?", ""), Thread("u", [])]).tolist() == [[0.5, 0.5]] * 2


def test_it_learns_what_tells_and_who(tmp_path: Path) -> None:
    model = fitted().to_model("mine")
    y = np.array(labels(fresh_threads()))
    found = fitted().predict_proba(fresh_threads())[:, 1]
    assert ((found >= 0.5) == y).mean() > 0.8
    risky = [one for one in fresh_threads() if one.label == 1]
    assert np.mean([model.assess(one, 0.5).suspect == "left" for one in risky]) > 0.9
    save_model(model, tmp_path / "mine")
    assert bits_of(load_model(tmp_path / "mine")) == bits_of(model)
    assert model.name == "mine"
    assert not model.operating_points


@pytest.mark.parametrize(("no", "yes"), [("fine", "risky"), (False, True), (-1, 1), (1, 2)])
def test_the_greater_class_is_the_risky_one(no: Any, yes: Any) -> None:
    y = [yes if label else no for label in labels(training_threads())]
    one = classifier().fit(training_threads(), y)
    assert one.classes_.tolist() == [no, yes]
    assert bits_of(one.model_) == bits_of(fitted().model_)
    assert set(one.predict(fresh_threads()).tolist()) == {no, yes}


@pytest.mark.parametrize(
    ("threads", "y", "message"),
    [
        ([], [], "no threads"),
        ([thread("tea")] * 4, [1, 1, 1, 1], "two"),
        ([thread("tea")] * 4, [0, 1, 2, 1], "two"),
        ([thread("tea")] * 4, [0, 1], "4 threads but 2 labels"),
        (["tea", "kettle"], [0, 1], r"X\[0\] is str"),
        ([thread("tea"), [Message("a", "tea")]], [0, 1], r"X\[1\] is list"),
        (np.zeros((4, 2)), [0, 1, 0, 1], r"X\[0\] is ndarray"),
        ([thread("tea")] * 4, [0.5, 0.1, 0.2, 0.3], "continuous"),
        ([thread("tea")] * 4, [[0, 1]] * 4, "1d array"),
        ([thread("tea")] * 4, None, "y"),
    ],
)
def test_what_cannot_be_fitted_is_a_value_error(threads: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier().fit(threads, y)


def test_too_few_persons_for_the_folds_is_a_data_error() -> None:
    one_person = [replace(one, person=f"p{one.label}") for one in training_threads()]
    with pytest.raises(DataError, match="fewer folds"):
        classifier(folds=2).fit(one_person, labels(one_person))


def test_more_folds_than_persons_is_a_data_error() -> None:
    one_person = [replace(one, person="p") for one in training_threads()]
    assert isinstance(error_of(lambda: classifier(folds=3).fit(one_person, labels(one_person)), ValueError), DataError)


def test_the_prior_is_the_share_of_risky_threads_unless_stated() -> None:
    some = training_threads()[:40] + [one for one in training_threads() if one.label == 0][20:30]
    assert classifier(prior=None, folds=0).fit(some, labels(some)).model_.calibration.prior == 0.4
    assert classifier(prior=0.01, folds=0).fit(some, labels(some)).model_.calibration.prior == 0.01


def test_without_known_suspects_all_authors_are_equally_likely() -> None:
    unknown = [replace(one, suspects=()) for one in training_threads()]
    model = classifier().fit(unknown, labels(unknown)).model_
    assert not model.weights[:, 1].any()
    assert {risk.probability for risk in model.assess(fresh_threads()[0], 0.5).authors} == {0.5}


# --- privacy floor -----------------------------------------------------------------------------------------------


def authors_of_buckets(threads: Sequence[Thread], settings: Settings) -> Counter[int]:
    """Return how many authors use each bucket; in one person's threads suspects are one author, others another."""
    users: dict[int, set[object]] = {}
    for one in threads:
        for author, found in own_buckets([(m.author, m.text) for m in one.messages], settings).items():
            who = (one.person, author in one.suspects) if one.person else (one.thread_id, author, "")
            for bucket in found:
                users.setdefault(bucket, set()).add(who)
    return Counter({bucket: len(names) for bucket, names in users.items()})


@pytest.mark.parametrize("floor", [1, 10, 40])
def test_no_bucket_has_a_weight_unless_enough_authors_use_it(floor: int) -> None:
    persons = [replace(one, person=f"p{i % 50}") for i, one in enumerate(training_threads())]
    model = classifier(floor=floor, folds=0).fit(persons, labels(persons)).model_
    users = authors_of_buckets(persons, Settings(**SMALL.get_params()))
    weighted = np.flatnonzero(model.weights.any(axis=1)).tolist()
    assert weighted
    assert min(users[bucket] for bucket in weighted) >= floor
    assert any(0 < n < floor for n in users.values()) or floor == 1


@given(st.lists(conversations(5), min_size=1, max_size=5), st.integers(1, 4), st.randoms(use_true_random=False))
def test_buckets_above_the_floor_are_those_that_the_oracle_counts(
    batch: list[list[Message]], floor: int, chance: random.Random
) -> None:
    threads = [
        Thread(f"t{i}", said, 1, ["author 1", "author 2"], chance.choice([None, "p", "q"]))
        for i, said in enumerate(batch)
    ]
    extractor = FeatureExtractor(2**9)
    users = authors_of_buckets(threads, Settings(**extractor.get_params()))
    expected = {bucket for bucket, n in users.items() if n >= floor}
    assert set(np.flatnonzero(buckets_above_floor(extractor, threads, floor)).tolist()) == expected


@pytest.mark.parametrize("n_authors", [9, 10])
def test_a_word_of_nine_authors_is_not_learnt_and_one_of_ten_may_be(n_authors: int) -> None:
    extractor = FeatureExtractor(2**18, word_ngrams=1, char_ngrams=None)
    told = [
        Thread(f"r{i}", [Message("a", "tea " + ("xylophone" if i < n_authors else "")), Message("b", "garden")])
        for i in range(30)
    ]
    others = [Thread(f"n{i}", [Message("a", "tea"), Message("b", "garden")]) for i in range(30)]
    model = GroomingClassifier(extractor, folds=0).fit(told + others, [1] * 30 + [0] * 30).model_
    (bucket,) = own_row(extractor, "xylophone")
    assert (model.weights[bucket, 0] > 0) == (n_authors >= 10)


def test_a_person_counts_once_however_many_threads_there_are() -> None:
    extractor = FeatureExtractor(2**18, word_ngrams=1, char_ngrams=None)
    said = [Message("a", "xylophone"), Message("b", "tea")]
    threads = [Thread(f"r{i}", said, 1, ["a"], "somebody") for i in range(12)]
    (bucket,) = own_row(extractor, "xylophone")
    (partner,) = own_row(extractor, "tea")
    known = buckets_above_floor(extractor, threads, 2)
    assert not known[[bucket, partner]].any()
    apart = [replace(one, person=None) for one in threads]
    assert buckets_above_floor(extractor, apart, 12)[bucket]


# --- samples -----------------------------------------------------------------------------------------------------


@given(st.lists(conversations(12), min_size=1, max_size=6), st.integers(0, 9))
def test_runs_are_runs_of_the_threads_that_they_are_said_to_be_from(batch: list[list[Message]], seed: int) -> None:
    threads = [Thread(f"t{i}", said) for i, said in enumerate(batch)]
    risky = np.arange(len(threads)) % 2 == 0
    rule = SegmentRule(5, 2)
    windows = segments_and_windows(threads, risky, rule, (3, 1), (2, 4), np.random.default_rng(seed))
    kinds = lengths_of_all_kinds(threads, risky, rule, np.random.default_rng(seed))
    for messages, sources in ((windows[0], windows[1]), (kinds[0], kinds[1])):
        assert len(messages) == len(sources)
        assert set(sources.tolist()) == set(range(len(threads)))
        for run, source in zip(messages, sources.tolist(), strict=True):
            assert is_run_of(run, threads[source].messages)


def is_run_of(run: Sequence[Message], messages: Sequence[Message]) -> bool:
    places = range(len(messages) - len(run) + 1)
    return any(tuple(run) == tuple(messages[i : i + len(run)]) for i in places)


def test_longer_threads_have_windows_within_the_bounds_more_of_them_where_risky() -> None:
    threads = [thread(*COMMON, thread_id=str(i)) for i in range(20)]
    risky = np.arange(20) < 10
    runs = segments_and_windows(threads, risky, SegmentRule(), (4, 2), (3, 6), np.random.default_rng(0))
    for i in range(20):
        lengths = [len(run) for run, source in zip(runs.messages, runs.threads, strict=True) if source == i]
        assert lengths[0] == len(COMMON)
        assert len(lengths) == 1 + (4 if risky[i] else 2)
        assert all(3 <= length <= 6 for length in lengths[1:])
    short = segments_and_windows(threads, risky, SegmentRule(), (4, 2), (12, 20), np.random.default_rng(0))
    assert len(short.messages) == 20


def test_every_suspect_is_set_against_every_other_author_of_the_segment() -> None:
    said = [[Message(name, "tea") for name in names] for names in ("abc", "xb", "yz", "s")]
    own, other, segment = suspects_against_partners(pack_by_author(said), [["a", "b"], ["b"], ["nobody"], ["s"]])
    names = [*"abc", *"xb", *"yz", "s"]
    assert [(names[i], names[j]) for i, j in zip(own, other, strict=True)] == [("a", "c"), ("b", "c"), ("b", "x")]
    assert segment.tolist() == [0, 0, 1]


def test_every_second_row_is_mirrored() -> None:
    rows = csr_matrix(random_array((7, 5), density=0.5, rng=np.random.default_rng(0)))
    turned, signs = mirrored(rows)
    assert signs.tolist() == [1, -1, 1, -1, 1, -1, 1]
    assert (turned.toarray() == rows.toarray() * signs[:, None]).all()


# --- calibration -------------------------------------------------------------------------------------------------


def test_a_calibration_of_generated_scores_is_close_to_the_truth() -> None:
    chance = np.random.default_rng(0)
    risky = np.arange(8000) % 4 == 0
    scores = np.where(risky, 1.0, -1.0) + chance.normal(size=8000)  # so that the log of the likelihood ratio is 2 x
    fit = fit_calibration(chance.integers(1, 500, 8000), scores, risky)
    assert fit.slope == pytest.approx(2.0, abs=0.15)
    assert fit.amount == pytest.approx(0.0, abs=0.15)
    for score in (-2.0, 0.0, 1.0):
        assert fit.probability(score, 100) == pytest.approx(1 / (1 + np.exp(-2 * score)), abs=0.05)
    assert fit.prior == 0.5


def test_the_amount_of_text_by_itself_says_nothing() -> None:
    chance = np.random.default_rng(1)
    risky = np.arange(8000) % 2 == 0
    long, short = chance.uniform(size=8000), chance.beta(1.0, 2.0, size=8000)
    amounts = (1000.0 ** np.where(risky, long, short)).astype(np.int64)  # risky ones are longer
    scores = np.where(risky, 0.5, -0.5) + chance.normal(size=8000)
    fit = fit_calibration(amounts, scores, risky)
    for amount in (5, 50, 500):
        assert fit.probability(0.0, amount) == pytest.approx(0.5, abs=0.08)
    plain = LogisticRegression().fit(np.column_stack([scores, np.log1p(amounts)]), risky)
    assert abs(fit.amount) < 0.2 * plain.coef_[0, 1]


def test_scores_that_do_not_rise_with_risk_are_a_data_error() -> None:
    risky = np.arange(100) % 2 == 0
    with pytest.raises(DataError, match="do not rise"):
        fit_calibration(np.full(100, 7), np.where(risky, -1.0, 1.0), risky)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_classes_without_an_amount_in_common_are_a_data_error() -> None:
    risky = np.arange(100) % 2 == 0
    with pytest.raises(DataError):
        fit_calibration(np.where(risky, 7, 3), np.where(risky, 1.0, -1.0), risky)


def test_probabilities_of_fresh_threads_are_close_to_how_often_they_come_true() -> None:
    test = [*fresh_threads(), *labelled_threads(140, prefix="w", n_messages=8)]
    y, found = np.array(labels(test)), fitted().predict_proba(test)[:, 1]
    assert found.mean() == pytest.approx(y.mean(), abs=0.15)
    assert ((found - y) ** 2).mean() < 0.15
    sure = (found < 0.1) | (found > 0.9)
    assert ((found[sure] > 0.5) == y[sure]).mean() > 0.85


def test_a_scale_of_generated_differences_is_close_to_the_truth() -> None:
    differences = 1.0 + np.random.default_rng(0).normal(size=4000)
    assert fit_attribution_scale(differences) == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("differences", [[], [1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.5]])
def test_without_anything_to_fit_the_scale_is_one(differences: list[float]) -> None:
    assert fit_attribution_scale(np.array(differences)) == 1.0


def test_calibrating_again_changes_probabilities_only_and_keeps_the_prior() -> None:
    model = small_model(n_features=2**12).replace(
        extractor=SMALL, weights=fitted().model_.weights, operating_points={}, min_amount=5
    )
    again = calibrate(model, fresh_threads(), seed=0)
    assert again.calibration.prior == model.calibration.prior
    assert again.calibration != model.calibration
    assert (again.weights == model.weights).all()
    assert again.intercept == model.intercept
    assert calibrate(model, fresh_threads(), seed=0).calibration == again.calibration


# --- files to a folder -------------------------------------------------------------------------------------------


def test_without_development_files_persons_are_held_out(tmp_path: Path) -> None:
    threads = labelled_threads(100, prefix="q")
    path = write_threads(tmp_path / "all.jsonl", threads)
    model, _ = train_files([path], tmp_path / "model")
    kept, held = model.lineage["training"]["all"], model.lineage["development"]["all"]
    assert kept["threads"] + held["threads"] == 100
    assert 5 <= held["threads"] <= 40
    reordered = write_threads(tmp_path / "turned.jsonl", threads[::-1])
    other, _ = train_files([reordered], tmp_path / "other")
    assert other.lineage["development"]["turned"]["threads"] == held["threads"]


def test_the_model_is_measured_on_development_threads_and_says_so(tmp_path: Path) -> None:
    train = write_threads(tmp_path / "train.jsonl", training_threads() + labelled_threads(40, prefix="v"))
    dev = write_threads(tmp_path / "dev.jsonl", labelled_threads(60, prefix="u"))
    model, measured = train_files([train], tmp_path / "model", [dev], seed=3, prior=0.02)
    assert model.lineage["seed"] == 3
    assert model.lineage["privacy_floor"] == 10
    assert model.lineage["weighted_buckets"] == int(model.weights.any(axis=1).sum())
    assert model.calibration.prior == 0.02
    alarms = {f.at: f for f in measured if (f.measure, f.slice) == ("false-positive rate", "all negatives")}
    for name, point in model.operating_points.items():
        assert point.measured["negatives"] == alarms[name].n == 30
        assert point.measured["false_positives"] == alarms[name].hits
        threads = labelled_threads(60, prefix="u")
        flagged = [one.label for one, a in zip(threads, model.assess_many(threads, name), strict=True) if a.flagged]
        assert flagged.count(0) == point.measured["false_positives"]
        assert flagged.count(1) == point.measured["true_positives"]


def test_files_of_one_name_in_two_folders_are_both_measured(tmp_path: Path) -> None:
    train = write_threads(tmp_path / "train.jsonl", training_threads() + labelled_threads(40, prefix="v"))
    devs = []
    for name in "ab":
        (tmp_path / name).mkdir()
        devs.append(write_threads(tmp_path / name / "dev.jsonl", labelled_threads(40, prefix=f"dev {name}")))
    model, _ = train_files([train], tmp_path / "model", devs)
    assert model.operating_points["balanced"].measured["negatives"] == 40
