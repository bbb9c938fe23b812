"""The estimators: what scikit-learn expects of them, the privacy floor, calibration, and models made from them."""

from __future__ import annotations

import copy
import itertools
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import error_of, labelled_threads, small_model, thread, write_threads
from hypothesis import given
from hypothesis import strategies as st
from oracle import Settings, own_buckets, pooled_buckets
from scipy.special import expit
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks
from strategies import conversations

from grooming_flag import DataError, FeatureExtractor, Message, Model, Thread, load_model, save_model
from grooming_flag.calibration import Calibration, Inputs
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.perturbations import PERTURBATIONS, perturb
from grooming_flag.features import OWN, POOLED, pack_by_author
from grooming_flag.segments import SegmentRule
from grooming_flag.training import GroomingClassifier, samples
from grooming_flag.training.calibrate import Unseen, calibrate, fit_attribution_scale, fit_calibration
from grooming_flag.training.samples import (
    NGRAM_BITS,
    REWRITES,
    WEIGHT_OF_PADDED,
    WEIGHT_OF_REWRITTEN,
    WEIGHT_OF_SEGMENT,
    WEIGHT_OF_WINDOW,
    WINDOW_MESSAGES,
    Floor,
    Ngrams,
    Plan,
    Runs,
    attribution_runs,
    runs_of_all_kinds,
    suspects_against_partners,
    training_runs,
    whole_threads,
)
from grooming_flag.training.train import train_files

pytestmark = pytest.mark.usefixtures("quick_evaluations")

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


extractors = st.builds(
    FeatureExtractor,
    n_features=st.sampled_from([2**8, 2**13, 2**16]),
    word_ngrams=st.sampled_from([1, 2]),
    char_ngrams=st.sampled_from([None, (4, 4)]),
    key=st.sampled_from([None, "tea"]),
)


@contextmanager
def few_ngrams(bits: int = 14) -> Iterator[None]:
    """Tell n-grams apart by so few bits that a scanner is small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "NGRAM_BITS", bits)
        yield


@given(st.lists(conversations(5), min_size=1, max_size=5), st.integers(1, 4), extractors, st.data())
def test_ngrams_above_the_floor_are_those_that_the_oracle_counts(
    batch: list[list[Message]], floor: int, extractor: FeatureExtractor, data: st.DataObject
) -> None:
    threads = [
        Thread(f"t{i}", said, 1, ["author 1", "author 2"], data.draw(st.sampled_from([None, "p", "q"])))
        for i, said in enumerate(batch)
    ]
    with few_ngrams(14):
        ngrams = Ngrams(Floor(extractor, threads, floor), whole_threads(threads))
    n_ngrams = max(2**14, extractor.n_features)
    fine = Settings(**{**extractor.get_params(), "n_features": n_ngrams})
    known = {ngram for ngram, n in authors_of_buckets(threads, fine).items() if n >= floor}
    assert set(np.flatnonzero(ngrams.known).tolist()) == known

    def rows(found: Sequence[set[int]]) -> list[list[int]]:
        return [sorted({ngram * extractor.n_features // n_ngrams for ngram in row & known}) for row in found]

    pairs = [[(message.author, message.text) for message in said] for said in batch]
    own = [found for said in pairs for found in own_buckets(said, fine).values()]
    packed = pack_by_author(batch)
    assert buckets_of(ngrams.rows(packed)) == rows([pooled_buckets(said, fine) for said in pairs])
    assert buckets_of(ngrams.rows(packed, OWN)) == rows(own)


def buckets_of(rows: Any) -> list[list[int]]:
    """Return the columns of each sparse row, all of which hold ones."""
    assert rows.data.tolist() == [1.0] * rows.nnz
    return [sorted(rows[[i]].indices.tolist()) for i in range(rows.shape[0])]


@given(st.lists(conversations(5), min_size=1, max_size=4), conversations(5), st.sampled_from([2**8, 2**13]))
def test_without_a_floor_rows_are_those_of_the_extractor(
    batch: list[list[Message]], other: list[Message], n_features: int
) -> None:
    extractor = FeatureExtractor(n_features)
    threads = [Thread(f"t{i}", said) for i, said in enumerate(batch)]
    for floor, seen in ((0, [*batch, other]), (1, batch)):
        with few_ngrams():
            ngrams, packed = Ngrams(Floor(extractor, threads, floor), whole_threads(threads)), pack_by_author(seen)
        assert ngrams.n_buckets == n_features
        for by in (POOLED, OWN):
            found, expected = ngrams.rows(packed, by), extractor.rows(packed, by)
            assert found.shape == expected.shape
            assert buckets_of(found) == buckets_of(expected)


WORDS_ALONE = FeatureExtractor(2**8, word_ngrams=1, char_ngrams=None)


@cache
def sharing_a_bucket(extractor: FeatureExtractor) -> tuple[str, str]:
    """Return two words that are one bucket to the extractor, though not to one of more buckets."""
    first: dict[int, str] = {}
    for word in map("".join, itertools.product("aeiou", "lmnr", "aeiou", "dkst", "aeiou")):
        (bucket,) = own_row(extractor, word)
        other = first.setdefault(bucket, word)
        if other != word and own_row(finer(extractor), other) != own_row(finer(extractor), word):
            return other, word
    raise AssertionError("there are more words than buckets")


def finer(extractor: FeatureExtractor) -> FeatureExtractor:
    return clone(extractor).set_params(n_features=2**24)


@pytest.mark.parametrize("n_authors", [0, 1, 2, 3])
def test_what_few_authors_wrote_is_left_out_even_where_it_shares_a_bucket_with_what_many_wrote(n_authors: int) -> None:
    often, seldom = sharing_a_bucket(WORDS_ALONE)
    threads = [
        Thread(f"t{i}", [Message("a", often), Message("b", seldom if i < n_authors else "tea")]) for i in range(9)
    ]
    ngrams = Ngrams(Floor(WORDS_ALONE, threads, 3), whole_threads(threads))
    (bucket,) = own_row(WORDS_ALONE, seldom)
    rows = ngrams.rows(pack_by_author([[Message("a", text)] for text in (often, seldom, f"{often} {seldom}")]))
    assert buckets_of(rows) == [[bucket], [bucket] if n_authors == 3 else [], [bucket]]


@pytest.mark.parametrize("floor", [2, 3])
def test_what_fewer_authors_than_the_floor_wrote_makes_no_difference_to_the_weights(floor: int) -> None:
    """The extractor has so few buckets that all of them are full of other n-grams."""
    extractor = FeatureExtractor(2**8)

    def weights(secret: str) -> bytes:
        threads = [
            replace(one, messages=[replace(m, text=f"{m.text} {secret}") for m in one.messages if m.author == "left"])
            if one.thread_id in ("xt0", "xt2")
            else one
            for one in training_threads()
        ]
        return fit(threads).weights.tobytes()

    def fit(threads: Sequence[Thread]) -> Model:
        params = {"extractor": extractor, "floor": floor, "folds": 0, "plan": Plan(rewritten=(0, 0))}
        return classifier(**params).fit(threads, labels(threads)).model_

    assert (weights("xylophone") == weights("quizvajfe")) == (floor == 3)


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


@pytest.mark.parametrize(
    ("writers", "person", "n_authors"),
    [
        (["a"] * 5, None, 4),  # one a thread, since ids may mean another person elsewhere
        (["a", "b"] * 5, None, 8),
        (["a"] * 5, "somebody", 1),
        (["b"] * 5, "somebody", 1),
        (["b", "c"], "somebody", 1),  # whoever is no suspect counts as one author
        (["a", "b", "c"], "somebody", 2),
        (["a", "s"], "somebody", 1),
    ],
)
def test_authors_count_once_a_thread_and_those_of_one_person_are_two_at_most(
    writers: list[str], person: str | None, n_authors: int
) -> None:
    said = [Message(author, "xylophone") for author in writers]
    threads = [Thread(f"r{i}", said, 1, ["a", "s"], person) for i in range(4)]
    packed = pack_by_author([said[:1]])
    assert Ngrams(Floor(WORDS_ALONE, threads, n_authors), whole_threads(threads)).rows(packed).nnz == 1
    assert Ngrams(Floor(WORDS_ALONE, threads, n_authors + 1), whole_threads(threads)).rows(packed).nnz == 0


def with_and_without_vowels(in_one_bucket: bool) -> tuple[str, str]:
    """Return a word, and it as it is where vowels are dropped."""
    for word in map("".join, itertools.product("bdfg", "aeiou", "lmnr", "aeiou", "dkst")):
        rewritten = word[0] + word[2] + word[4]
        if (own_row(WORDS_ALONE, word) == own_row(WORDS_ALONE, rewritten)) == in_one_bucket:
            return word, rewritten
    raise AssertionError("no such word")


@pytest.mark.parametrize(("floor", "found"), [(1, [1, 1, 1]), (2, [1, 1, 0]), (4, [1, 1, 0]), (5, [0, 0, 0])])
@pytest.mark.parametrize("in_one_bucket", [True, False])
def test_what_arises_by_rewriting_is_its_authors_in_their_own_buckets_and_padding_is_nobodys(
    floor: int, found: list[int], in_one_bucket: bool
) -> None:
    word, rewritten = with_and_without_vowels(in_one_bucket)
    risky = [Thread(f"r{i}", [Message("a", word)] * 9, 1, ["a"]) for i in range(4)]
    threads = [*risky, Thread("o", [Message("b", "marmalade")] * 9, 0)]
    plan = Plan(windows=(0, 0), rewritten=(60, 0), padded=9)
    runs = training_runs(threads, np.array([True] * 4 + [False]), SegmentRule(), plan, random.Random(0))
    assert runs.padded.any()
    packed = pack_by_author([[Message("a", text)] for text in (word, rewritten, "marmalade")])
    expected = [found[0], found[1] * in_one_bucket, found[2]]
    assert Ngrams(Floor(WORDS_ALONE, threads, floor), runs).rows(packed).getnnz(axis=1).tolist() == expected


@given(st.integers(1, 60))
def test_batches_of_runs_leave_persons_whole(size: int) -> None:
    threads = [
        Thread(f"t{i}", [Message("a", "tea")] * (i + 1), person=random.Random(i).choice("pqr")) for i in range(9)
    ]
    runs = whole_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "BATCH_MESSAGES", size)
        batches = list(samples._by_person(threads, runs))
    assert sorted(i for batch in batches for i in batch) == list(range(9))
    persons = [{threads[i].person for i in batch} for batch in batches]
    assert sum(map(len, persons)) == len(set().union(*persons))


def test_the_model_is_the_mean_of_heads_of_one_draw_each() -> None:
    threads = training_threads()
    risky = np.array(labels(threads)) == 1
    one, rng = classifier(folds=0), random.Random(0)
    floor = Floor(SMALL, threads, one.floor)
    drawn = [one._drawn_heads(floor, risky, SegmentRule(), Plan(), rng) for _ in range(2)]
    model = classifier(folds=0, plan=Plan(draws=2)).fit(threads, labels(threads)).model_
    assert not np.array_equal(drawn[0][0], drawn[1][0])
    assert np.abs(model.coef - np.mean([heads for heads, _ in drawn], axis=0)).max() <= model.step / 2
    assert model.intercept == pytest.approx(np.mean([intercept for _, intercept in drawn]), abs=model.step / 2)


# --- samples -----------------------------------------------------------------------------------------------------


@st.composite
def corpora(draw: st.DrawFn) -> list[Thread]:
    """Return threads in which every message says something else, some of them empty, with or without suspects."""
    threads = []
    for i in range(draw(st.integers(1, 5))):
        authors = draw(st.lists(st.sampled_from(draw(st.sampled_from(["a", "ab", "abcd"]))), max_size=14))
        said = [Message(author, f"message{k} of thread{i} about tea in the garden") for k, author in enumerate(authors)]
        suspects = draw(st.lists(st.sampled_from("abe"), max_size=2, unique=True))
        threads.append(Thread(f"t{i}", said, draw(st.integers(0, 1)), suspects))
    return threads


@st.composite
def rules(draw: st.DrawFn) -> SegmentRule:
    most = draw(st.integers(1, 9))
    return SegmentRule(most, draw(st.integers(0, most)))


plans = st.builds(
    Plan,
    windows=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    rewritten=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    padded=st.integers(0, 4),
    attribution=st.integers(0, 3),
)


def drawn(threads: Sequence[Thread], rule: SegmentRule, plan: Plan, seed: int = 0) -> Runs:
    risky = np.array([one.label == 1 for one in threads])
    return training_runs(threads, risky, rule, plan, random.Random(seed))


def of_thread(runs: Runs, i: int, weight: float | None = None) -> list[list[Message]]:
    """Return the runs of one thread, all of them or those that have this weight."""
    chosen = (runs.threads == i) & (True if weight is None else runs.weights == weight)
    return [list(run) for run, is_chosen in zip(runs.messages, chosen, strict=True) if is_chosen]


def sides_of(one: Thread) -> list[list[Message]]:
    """Return all messages, and of a risky thread with two sides also those of the suspects alone."""
    of_suspects = [message for message in one.messages if message.author in one.suspects]
    two_sided = 0 < len(of_suspects) < len(one.messages)
    return [list(one.messages), *([of_suspects] if one.label and two_sided else [])]


def is_run_of(run: Sequence[Message], messages: Sequence[Message]) -> bool:
    places = range(len(messages) - len(run) + 1)
    return any(list(run) == list(messages[i : i + len(run)]) for i in places)


def segments_of(messages: Sequence[Message], rule: SegmentRule) -> list[list[Message]]:
    return [list(messages[a:b]) for a, b in rule.split(messages)]


def is_rewritten(run: Sequence[Message], messages: Sequence[Message], rule: SegmentRule) -> bool:
    """Say whether they may be the messages as somebody else would write them."""
    return 0 < len(run) <= rule.max_messages and {m.author for m in run} <= {m.author for m in messages}


@given(corpora(), rules(), plans, st.integers(0, 99))
def test_segments_and_windows_are_of_whole_threads_and_of_the_suspects_of_risky_ones(
    threads: list[Thread], rule: SegmentRule, plan: Plan, seed: int
) -> None:
    runs = drawn(threads, rule, plan._replace(rewritten=(0, 0), padded=0), seed)
    assert len(runs.messages) == len(runs.threads) == len(runs.weights)
    assert set(runs.weights.tolist()) <= {WEIGHT_OF_SEGMENT, WEIGHT_OF_WINDOW}
    for i, one in enumerate(threads):
        sides = sides_of(one)
        segments = [segment for side in sides for segment in segments_of(side, rule)]
        assert of_thread(runs, i, WEIGHT_OF_SEGMENT) == segments
        windows = of_thread(runs, i, WEIGHT_OF_WINDOW)
        assert len(windows) <= plan.windows[0 if one.label else 1] * len(sides)
        for window in windows:
            assert min(WINDOW_MESSAGES[0], rule.max_messages) <= len(window) <= rule.max_messages
            assert any(is_run_of(window, side) and len(window) < len(side) for side in sides)


@given(corpora(), rules(), st.integers(0, 4), st.integers(0, 99))
def test_risky_threads_alone_are_padded_with_others_and_lose_nothing_by_it(
    threads: list[Thread], rule: SegmentRule, n_padded: int, seed: int
) -> None:
    runs = drawn(threads, rule, Plan((0, 0), (0, 0), n_padded), seed)
    for i, one in enumerate(threads):
        padded = of_thread(runs, i, WEIGHT_OF_PADDED)
        assert len(padded) == (n_padded * len(sides_of(one)) if can_be_padded(one, threads, rule) else 0)
        for run in padded:
            assert any(is_padded(run, side, threads, rule) for side in sides_of(one))


def can_be_padded(one: Thread, threads: Sequence[Thread], rule: SegmentRule) -> bool:
    others = [message for other in threads if not other.label for message in other.messages]
    return bool(one.label and one.messages and others) and rule.max_messages > 1


def is_padded(run: Sequence[Message], side: Sequence[Message], threads: Sequence[Thread], rule: SegmentRule) -> bool:
    """Say whether the run is one of the side, among messages of threads that are not risky by its authors."""
    own = [message for message in run if message in side]
    added = [message for message in run if message not in side]
    return (
        is_run_of(own, side)
        and 0 < len(added) <= max(len(own), 1)
        and {m.text for m in added} <= {m.text for one in threads if not one.label for m in one.messages}
        and {m.author for m in added} <= {m.author for m in own}
        and len(run) <= rule.max_messages
    )


@given(corpora(), rules(), plans, st.integers(0, 99))
def test_rewritten_runs_are_as_many_as_planned_and_by_the_same_authors(
    threads: list[Thread], rule: SegmentRule, plan: Plan, seed: int
) -> None:
    runs = drawn(threads, rule, plan._replace(windows=(0, 0), padded=0), seed)
    for i, one in enumerate(threads):
        n = plan.rewritten[0 if one.label else 1] if one.messages else 0
        rest, weights = of_thread(runs, i), runs.weights[runs.threads == i].tolist()
        for side in sides_of(one):
            segments = segments_of(side, rule)
            k = len(segments)
            assert rest[:k] == segments
            assert weights[: k + n] == [WEIGHT_OF_SEGMENT] * k + [WEIGHT_OF_REWRITTEN] * n
            assert all(is_rewritten(run, side, rule) for run in rest[k : k + n])
            rest, weights = rest[k + n :], weights[k + n :]
        assert rest == []


def test_longer_threads_have_windows_of_all_lengths_more_of_them_where_risky() -> None:
    threads = [thread(*(f"{i} {k}" for k in range(300)), thread_id=str(i), label=i % 2) for i in range(60)]
    runs = drawn(threads, SegmentRule(), Plan(windows=(8, 2)))
    for i, one in enumerate(threads):
        assert len(of_thread(runs, i, WEIGHT_OF_WINDOW)) == (8 if one.label else 2)
    lengths = [len(window) for i in range(60) for window in of_thread(runs, i, WEIGHT_OF_WINDOW)]
    assert (min(lengths), max(lengths) > 100) == (2, True)
    assert 10 < np.median(lengths) < 22  # of a log-uniform length from 2 to 120 it is 15


def test_long_threads_are_padded_in_all_ways_and_only_as_far_as_a_segment_reaches() -> None:
    risky = thread(*(f"own {k}" for k in range(500)), thread_id="r", label=1)
    other = thread(*(f"other {k}" for k in range(500)), thread_id="n", label=0)
    padded = of_thread(drawn([risky, other], SegmentRule(40, 5), Plan(padded=300)), 0, WEIGHT_OF_PADDED)
    runs = [[message in risky.messages for message in run] for run in padded]
    assert max(map(len, runs)) == 40
    shares = [run.count(False) / run.count(True) for run in runs]
    assert min(shares) < 0.4
    assert max(shares) == 1.0
    before, after = ([run == sorted(run, reverse=is_after) for run in runs] for is_after in (False, True))
    strewn = [not one and not other for one, other in zip(before, after, strict=True)]
    for kind, share in ((before, 0.25), (after, 0.25), (strewn, 0.5)):
        assert np.mean(kind) == pytest.approx(share, abs=0.1)


def test_threads_of_nothing_pad_nothing() -> None:
    threads = [thread("tea", "garden", label=1), *(Thread(f"n{i}", [], 0) for i in range(3)), Thread("r", [], 1)]
    runs = drawn(threads, SegmentRule(), Plan())
    assert set(runs.threads.tolist()) == set(range(5))
    assert of_thread(runs, 0, WEIGHT_OF_PADDED) == []
    assert [len(run) for run, i in zip(runs.messages, runs.threads, strict=True) if i > 0] == [0, 0, 0, 0]


@pytest.mark.parametrize("draw", [drawn, lambda *given: attribution_runs(*given[:3], random.Random(given[3]))])
def test_the_same_seed_gives_the_same_runs_and_another_one_others(draw: Callable[..., Runs]) -> None:
    one, same, other = (draw(training_threads(), SegmentRule(), Plan(), seed) for seed in (1, 1, 2))
    assert one.messages == same.messages
    assert (one.threads == same.threads).all()
    assert (one.weights == same.weights).all()
    assert one.messages != other.messages


def test_every_way_of_writing_that_changes_what_the_model_sees_is_a_rewriting() -> None:
    extractor = FeatureExtractor(2**20)
    text = "What do you have there? See you tomorrow at half-time of the football match, it is near the old library"
    plain = thread(*[text] * 6, authors=["a", "a", "b"])

    def buckets(found: Thread) -> set[int]:
        return set(extractor.transform([found]).indices.tolist())

    changed = {name for name in PERTURBATIONS if buckets(perturb(plain, [name])) != buckets(plain)}
    assert len(changed) > 5
    only_add = {"padding", "emoji-flood"}  # to the features that are there
    assert changed - only_add <= set(REWRITES) <= set(PERTURBATIONS)


@given(corpora(), rules(), plans, st.integers(0, 99))
def test_the_attribution_head_learns_from_segments_windows_and_rewritten_parts_of_whole_threads(
    threads: list[Thread], rule: SegmentRule, plan: Plan, seed: int
) -> None:
    runs = attribution_runs(threads, rule, plan, random.Random(seed))
    assert len(runs.messages) == len(runs.threads) == len(runs.weights)
    for i, one in enumerate(threads):
        found, segments = of_thread(runs, i), segments_of(one.messages, rule)
        k, n = len(segments), plan.attribution if one.messages else 0
        windows, rewritten = found[k : len(found) - n], found[len(found) - n :]
        assert found[:k] == segments
        assert len(windows) == n if len(one.messages) > rule.max_messages else len(windows) <= n
        assert all(is_run_of(window, one.messages) and len(window) <= rule.max_messages for window in windows)
        assert all(is_rewritten(run, one.messages, rule) for run in rewritten)
        weights = [WEIGHT_OF_SEGMENT] * k + [WEIGHT_OF_WINDOW] * (len(windows) + n)
        assert runs.weights[runs.threads == i].tolist() == weights


@given(corpora(), rules(), st.integers(0, 99))
def test_a_calibration_is_made_on_segments_windows_of_any_length_and_rewritten_and_padded_parts(
    threads: list[Thread], rule: SegmentRule, seed: int
) -> None:
    risky = np.array([one.label == 1 for one in threads])
    runs, sources = runs_of_all_kinds(threads, risky, rule, random.Random(seed))
    assert len(runs) == len(sources)
    for i, one in enumerate(threads):
        found = [list(run) for run, source in zip(runs, sources, strict=True) if source == i]
        segments = segments_of(one.messages, rule)
        k, (n_windows, n_rewritten) = len(segments), (6, 8) if one.label else (1, 2)
        if can_be_padded(one, threads, rule):
            assert is_padded(found.pop(), one.messages, threads, rule)
        windows, rewritten = found[k : k + n_windows], found[k + n_windows :]
        assert found[:k] == segments
        assert len(windows) == n_windows
        assert all(is_run_of(run, one.messages) for run in windows)
        assert all(min(len(one.messages), 1) <= len(run) <= rule.max_messages for run in windows)
        assert len(rewritten) == (n_rewritten if one.messages else 0)
        assert all(is_rewritten(run, one.messages, rule) for run in rewritten)


def test_every_suspect_is_set_against_every_other_author_of_the_segment() -> None:
    said = [[Message(name, "tea") for name in names] for names in ("abc", "xb", "yz", "s")]
    own, other, segment = suspects_against_partners(pack_by_author(said), [["a", "b"], ["b"], ["nobody"], ["s"]])
    names = [*"abc", *"xb", *"yz", "s"]
    assert [(names[i], names[j]) for i, j in zip(own, other, strict=True)] == [("a", "c"), ("b", "c"), ("b", "x")]
    assert segment.tolist() == [0, 0, 1]


def test_a_floor_that_nothing_passes_and_a_plan_without_draws_are_errors() -> None:
    threads = training_threads()
    assert "authors" in str(error_of(lambda: classifier(floor=10_000).fit(threads, labels(threads)), DataError))
    error = error_of(lambda: classifier(plan=Plan(draws=0)).fit(threads, labels(threads)), DataError)
    assert "0 draws" in str(error)


# --- calibration -------------------------------------------------------------------------------------------------


def fit_whole(amounts: Any, scores: Any, risky: Any, leads: Any = 0.0) -> Calibration:
    """Return the calibration on whole threads, without sides alone."""
    inputs = Inputs(np.asarray(scores), np.asarray(amounts), np.broadcast_to(leads, len(risky)).astype(np.float64))
    return fit_calibration(inputs, risky, np.zeros(len(risky), dtype=bool))


def test_a_calibration_of_generated_scores_is_close_to_the_truth() -> None:
    chance = np.random.default_rng(0)
    risky = np.arange(8000) % 4 == 0
    scores = np.where(risky, 1.0, -1.0) + chance.normal(size=8000)  # so that the log of the likelihood ratio is 2 x
    fit = fit_whole(chance.integers(1, 500, 8000), scores, risky, chance.normal(size=8000))
    assert fit.slope == pytest.approx(2.0, abs=0.15)
    assert (fit.lead, fit.no_lead) == pytest.approx((0.0, 0.0), abs=0.1)
    for score, amount in itertools.product((-2.0, 0.0, 1.0), (10, 100, 400)):
        assert fit.probability(score, amount) == pytest.approx(1 / (1 + np.exp(-2 * score)), abs=0.05)
    assert fit.prior == 0.5


def test_the_terms_of_who_leads_are_recovered_on_either_side_of_zero() -> None:
    chance = np.random.default_rng(2)
    scores, leads = chance.normal(size=(2, 30_000))
    log_odds = 1.5 * scores + 0.5 * np.maximum(leads, 0) + 2.0 * np.minimum(leads, 0)
    risky = chance.uniform(size=30_000) < expit(log_odds)
    fit = fit_whole(chance.integers(1, 500, 30_000), scores, risky, leads)
    assert (fit.slope, fit.lead, fit.no_lead) == pytest.approx((1.5, 0.5, 2.0), abs=0.15)


@pytest.mark.parametrize(("side", "kept"), [(1.0, "no_lead"), (-1.0, "lead")])
def test_an_author_who_speaks_against_the_pattern_has_no_term(side: float, kept: str) -> None:
    chance = np.random.default_rng(3)
    scores, leads = chance.normal(size=(2, 8000))
    log_odds = scores + leads - 1.2 * side * np.maximum(leads * side, 0)  # which falls a little on this side
    risky = chance.uniform(size=8000) < expit(log_odds)
    fit = fit_whole(chance.integers(1, 500, 8000), scores, risky, leads)
    terms = {"lead": fit.lead, "no_lead": fit.no_lead}
    assert terms.pop(kept) > 0.5
    assert set(terms.values()) == {0.0}
    assert fit.slope == pytest.approx(1.0, abs=0.2)


def test_partners_alone_teach_that_nobody_leads_where_whole_threads_cannot() -> None:
    chance = np.random.default_rng(4)
    n = 3000
    risky = np.arange(n) % 2 == 0
    scores = np.where(risky, 2.0, -2.0) + chance.normal(size=n)
    leads = 1.0 + np.abs(chance.normal(size=n))  # in whole threads somebody always leads
    amounts = chance.integers(1, 500, n)
    n_sides = n // 2
    by_suspects = np.arange(n_sides) % 2 == 0
    of_sides = Inputs(
        2.0 + chance.normal(size=n_sides),  # what partners write looks as risky
        chance.integers(1, 500, n_sides),
        np.where(by_suspects, 2.0, -2.0) + chance.normal(size=n_sides),
    )
    without = fit_whole(amounts, scores, risky, leads)
    both = Inputs(*map(np.append, (scores, amounts, leads), of_sides))
    fit = fit_calibration(both, np.append(risky, by_suspects), np.repeat([False, True], [n, n_sides]))
    assert without.no_lead == 0.0
    assert without.probability(2.0, 200, -2.0) > 0.9
    assert fit.no_lead > 1.0
    assert fit.probability(2.0, 200, -2.0) < 0.2
    assert fit.probability(2.0, 200, 2.0) > 0.9
    assert fit.probability(-2.0, 200, 2.0) < 0.1


def test_whole_threads_of_both_kinds_weigh_the_same_at_every_amount_and_sides_a_fifth_of_a_risky_thread() -> None:
    chance = np.random.default_rng(7)
    n, n_sides = 4000, 2000
    is_side = np.arange(n + n_sides) >= n
    risky = chance.uniform(size=n + n_sides) < np.where(is_side, 0.5, 0.2)
    top = np.where(is_side, 1.0, np.where(risky, 3.0, 2.0))  # sides are short, and risky threads are long
    amounts = (10.0 ** chance.uniform(0.0, top)).astype(np.int64)
    signs = np.where(risky, 1.0, -1.0)
    scores = np.where(is_side, 3.0, signs) + chance.normal(size=n + n_sides)
    leads = np.where(is_side, 2.0, 0.5) * signs + chance.normal(size=n + n_sides)
    edges = np.quantile(amounts[risky & ~is_side], [k / 8 for k in range(1, 8)])
    cells = [(sum(amount >= edge for edge in edges), label) for amount, label in zip(amounts, risky, strict=True)]
    sizes = Counter(cell for cell, of_side in zip(cells, is_side, strict=True) if not of_side)
    compared = {cell for cell in sizes if (cell[0], not cell[1]) in sizes}
    weights = np.array([1 / sizes[cell] if cell in compared else 0.0 for cell in cells])
    weights[is_side] = weights[~is_side & risky].mean() / 5
    root = np.sqrt(1 + amounts)
    terms = np.column_stack([scores, np.log1p(amounts), root, np.maximum(leads, 0), np.minimum(leads, 0)])
    plain = LogisticRegression(C=1e6, max_iter=10_000).fit(terms, risky, sample_weight=weights / weights.mean())
    fit = fit_calibration(Inputs(scores, amounts, leads), risky, is_side)
    found = [fit.probability(*row) for row in zip(scores, amounts, leads, strict=True)]
    assert found == pytest.approx(plain.predict_proba(terms)[:, 1], abs=0.005)


def test_the_amount_of_text_by_itself_says_nothing() -> None:
    chance = np.random.default_rng(1)
    risky = np.arange(8000) % 2 == 0
    long, short = chance.uniform(size=8000), chance.beta(1.0, 2.0, size=8000)
    amounts = (1000.0 ** np.where(risky, long, short)).astype(np.int64)  # risky ones are longer
    scores = np.where(risky, 0.5, -0.5) + chance.normal(size=8000)
    fit = fit_whole(amounts, scores, risky, chance.normal(size=8000))
    for amount in (5, 50, 500):
        assert fit.probability(0.0, amount) == pytest.approx(0.5, abs=0.08)
    plain = LogisticRegression().fit(np.column_stack([scores, np.log1p(amounts)]), risky)
    assert plain.predict_proba([[0.0, np.log1p(500)]])[0, 1] > 0.6


def test_scores_that_do_not_rise_with_risk_are_a_data_error() -> None:
    risky = np.arange(100) % 2 == 0
    with pytest.raises(DataError, match="do not rise"):
        fit_whole(np.full(100, 7), np.where(risky, -1.0, 1.0), risky)


def test_scores_that_rise_with_risk_less_than_who_leads_does_are_no_error() -> None:
    chance = np.random.default_rng(5)
    signs = np.repeat([-1.0, 1.0], 300)
    leads = 2.0 * signs + chance.normal(size=600)
    scores = leads - signs + 0.5 * chance.normal(size=600)  # given who leads, they fall
    fit = fit_whole(chance.integers(1, 500, 600), scores, signs > 0, leads)
    assert fit.slope > 1.0
    assert (fit.lead, fit.no_lead) == (0.0, 0.0)


def test_what_is_the_same_in_all_threads_has_no_part_in_a_calibration() -> None:
    risky = np.arange(2000) % 2 == 0
    scores = np.where(risky, 1.0, -1.0) + np.random.default_rng(6).normal(size=2000)
    fit = fit_whole(np.full(2000, 7), scores, risky, np.full(2000, 0.7))
    assert (fit.amount, fit.root, fit.lead, fit.no_lead) == pytest.approx((0.0, 0.0, 0.0, 0.0), abs=1e-6)
    assert [fit.probability(0.0, amount, 1.0) for amount in (1, 1000)] == pytest.approx([0.5, 0.5], abs=0.05)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_classes_without_an_amount_in_common_are_a_data_error() -> None:
    risky = np.arange(100) % 2 == 0
    with pytest.raises(DataError, match="no amount of text in common"):
        fit_whole(np.where(risky, 7, 3), np.where(risky, 1.0, -1.0), risky)


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


def unseen(model: Model, threads: Sequence[Thread]) -> Unseen:
    return Unseen(model, threads, np.array([one.label == 1 for one in threads]))


def test_calibrating_again_changes_probabilities_only_and_keeps_the_prior() -> None:
    model = small_model(n_features=2**12).replace(
        extractor=SMALL, weights=fitted().model_.weights, operating_points={}, min_amount=5
    )
    again = calibrate(model, [unseen(model, fresh_threads())], seed=0)
    assert again.calibration.prior == model.calibration.prior
    assert again.calibration != model.calibration
    assert (again.weights == model.weights).all()
    assert again.intercept == model.intercept
    calibrated_before = model.replace(attribution_scale=7.0, calibration=Calibration(3.0, prior=0.1))
    same = calibrate(model, [unseen(calibrated_before, fresh_threads())], seed=0)
    assert (same.calibration, same.attribution_scale) == (again.calibration, again.attribution_scale)
    assert calibrate(model, [unseen(model, fresh_threads())], seed=1).calibration != again.calibration


def test_a_calibration_is_of_what_the_calibrated_model_says_of_runs_and_of_either_side_alone() -> None:
    threads = [*fresh_threads(), *(replace(one, suspects=()) for one in labelled_threads(4, prefix="z"))]
    risky = np.array(labels(threads)) == 1
    model = calibrate(fitted().model_, [unseen(fitted().model_, threads)], seed=3)
    assert model.attribution_scale > 1.5
    runs, sources = runs_of_all_kinds(threads, risky, model.segment_rule, random.Random(3))
    by_suspects, by_partners = (
        [[m for m in one.messages if (m.author in one.suspects) == of_suspects] for one in threads if one.suspects]
        for of_suspects in (True, False)
    )
    inputs = model.calibration_inputs([*runs, *by_suspects, *by_partners])
    is_risky = np.concatenate([risky[sources], np.repeat([True, False], len(by_suspects))])
    is_side = np.repeat([False, True], [len(runs), 2 * len(by_suspects)])
    expected = fit_calibration(inputs, is_risky, is_side).with_prior(0.5)
    assert astuple(model.calibration) == pytest.approx(astuple(expected), rel=1e-3)


def test_folds_are_judged_by_models_that_saw_no_person_of_theirs() -> None:
    threads = [replace(one, person=f"p{i // 2}") for i, one in enumerate(training_threads()[:80])]
    risky = np.array(labels(threads)) == 1
    persons = np.unique([one.person for one in threads], return_inverse=True)[1]
    of_folds = []
    for train, test in GroupKFold(2).split(risky, risky, persons):
        part = [threads[i] for i in train]
        judge = classifier(folds=0).fit(part, labels(part)).model_
        assert not {one.person for one in part} & {threads[i].person for i in test}
        of_folds.append(unseen(judge, [threads[i] for i in test]))
    whole = classifier(folds=0).fit(threads, labels(threads)).model_
    assert bits_of(classifier(folds=2).fit(threads, labels(threads)).model_) == bits_of(calibrate(whole, of_folds, 0))


def test_suspects_alone_are_as_risky_as_the_thread_and_their_partners_are_not() -> None:
    model, risky = fitted().model_, [one for one in fresh_threads() if one.label == 1]

    def mean(authors: set[str]) -> float:
        alone = [replace(one, messages=[m for m in one.messages if m.author in authors]) for one in risky]
        return float(np.mean([model.assess(one, 0.5).probability or 0.0 for one in alone]))

    assert mean({"right"}) < 0.1
    assert mean({"left"}) > 0.7
    assert mean({"left", "right"}) > 0.7


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
    model, metrics = train_files([train], tmp_path / "model", [dev], seed=3, prior=0.02)
    assert model.lineage["seed"] == 3
    assert model.lineage["privacy_floor"] == 10
    assert model.lineage["weighted_buckets"] == int(model.weights.any(axis=1).sum())
    assert model.calibration.prior == 0.02
    figures = [Figure(**row) for row in metrics["figures"]]
    alarms = {f.at: f for f in figures if (f.measure, f.slice) == ("false-positive rate", "all negatives")}
    for name, point in model.operating_points.items():
        assert point.measured["negatives"] == alarms[name].n == 30
        assert point.measured["false_positives"] == alarms[name].hits
        threads = labelled_threads(60, prefix="u")
        flagged = [one.label for one, a in zip(threads, model.assess_many(threads, name), strict=True) if a.flagged]
        assert flagged.count(0) == point.measured["false_positives"]
        assert flagged.count(1) == point.measured["true_positives"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a model that is trained on forty threads."""
    folder = tmp_path_factory.mktemp("trained")
    parts = (("a", training_threads()[:40]), ("b", fresh_threads()))
    paths = [write_threads(folder / f"{name}.jsonl", part) for name, part in parts]
    return train_files(paths[:1], folder / "model", paths[1:], seed=7)[0]


def test_buckets_without_an_ngram_of_enough_authors_have_no_weight(trained: Model) -> None:
    fine = Settings(**{**trained.extractor.get_params(), "n_features": 2**NGRAM_BITS})
    users = authors_of_buckets(training_threads()[:40], fine)
    n_features, floor = trained.extractor.n_features, trained.lineage["privacy_floor"]
    allowed = {ngram * n_features >> NGRAM_BITS for ngram, n in users.items() if n >= floor}
    weighted = set(np.flatnonzero(trained.weights.any(axis=1)).tolist())
    assert len(weighted) > 20
    assert weighted <= allowed


def test_files_of_one_name_in_two_folders_are_both_measured(tmp_path: Path) -> None:
    train = write_threads(tmp_path / "train.jsonl", training_threads() + labelled_threads(40, prefix="v"))
    devs = []
    for name in "ab":
        (tmp_path / name).mkdir()
        devs.append(write_threads(tmp_path / name / "dev.jsonl", labelled_threads(40, prefix=f"dev {name}")))
    model, _ = train_files([train], tmp_path / "model", devs)
    assert model.operating_points["balanced"].measured["negatives"] == 40
