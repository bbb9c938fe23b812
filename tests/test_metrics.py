"""Measures: intervals against known values, thresholds that never flag more than allowed, shares by kind of thread."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders import small_model, thread
from hypothesis import example, given
from hypothesis import strategies as st
from pools import NEVER, answers_with, one, pool_of
from scipy.stats import binom
from strategies import conversations

from grooming_flag import Message, Thread
from grooming_flag.evaluation.figures import Figure, as_list, as_number, format_figure, share
from grooming_flag.evaluation.metrics import (
    Rate,
    clopper_pearson,
    clustered_rate,
    least_threshold,
    rate,
    threshold_at_fpr,
)
from grooming_flag.evaluation.points import FPR_OF_POINT, choose_operating_points
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.slices import (
    guess_language,
    kind_figures,
    kinds_of_language,
    kinds_of_text,
    kinds_of_unknown,
    slice_figures,
    suspect_figures,
)
from grooming_flag.features import POOLED, pack_by_author

shares = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 1e-3, 1e-2, 0.05, 0.1, 0.5, 1.0]))
probabilities = st.lists(
    st.one_of(st.floats(0.0, 1.0, exclude_max=True), st.sampled_from([0.0, 0.2, 0.2, 0.7, 5e-324])), max_size=60
)

# --- intervals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.30850),  # 1 - .025 ** (1 / 10)
        (10, 10, 0.69150, 1.0),
        (5, 10, 0.18709, 0.81291),
        (1, 10, 0.00253, 0.44502),
        (3, 20, 0.03207, 0.37893),
        (1, 1, 0.025, 1.0),
        (0, 1, 0.0, 0.975),
        (0, 0, 0.0, 1.0),
    ],
)
def test_intervals_of_clopper_and_pearson_are_those_of_tables(hits: int, total: int, low: float, high: float) -> None:
    assert clopper_pearson(hits, total) == pytest.approx((low, high), abs=2e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95]))
def test_an_interval_ends_where_the_tail_is_half_of_what_is_left(counts: tuple[int, int], level: float) -> None:
    hits, total = counts
    low, high = clopper_pearson(hits, total, level)
    assert 0.0 <= low <= hits / total <= high <= 1.0
    if hits > 0:
        assert binom.sf(hits - 1, total, low) == pytest.approx((1 - level) / 2, rel=1e-6)
    if hits < total:
        assert binom.cdf(hits, total, high) == pytest.approx((1 - level) / 2, rel=1e-6)


@given(st.lists(st.booleans(), max_size=50))
def test_a_rate_is_the_share_with_its_interval(hits: list[bool]) -> None:
    found = rate(hits)
    assert (found.hits, found.total) == (sum(hits), len(hits))
    assert (found.low, found.high) == clopper_pearson(sum(hits), len(hits))
    assert found.value == sum(hits) / len(hits) if hits else math.isnan(found.value)
    assert rate(np.array(hits, dtype=bool)) == found


clustered = st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b", "c", "d", "e"])), min_size=1, max_size=40)


@given(clustered)
def test_a_clustered_rate_has_the_same_share_and_an_interval_around_it(sample: list[tuple[bool, str]]) -> None:
    hits, clusters = [hit for hit, _ in sample], [cluster for _, cluster in sample]
    found = clustered_rate(hits, clusters)
    assert (found.hits, found.total) == (sum(hits), len(hits))
    assert 0.0 <= found.low <= found.high <= 1.0
    assert found == clustered_rate(np.array(hits), clusters)
    if len(set(clusters)) > 1:
        assert found.low - 0.25 <= found.value <= found.high + 0.25


@given(clustered)
def test_names_of_clusters_make_no_difference_if_their_order_stays(sample: list[tuple[bool, str]]) -> None:
    hits = [hit for hit, _ in sample]
    names = clustered_rate(hits, [cluster for _, cluster in sample])
    assert clustered_rate(hits, [f"person {cluster}" for _, cluster in sample]) == names


@pytest.mark.parametrize("hit", [True, False])
def test_where_all_or_none_hit_the_interval_is_that_of_the_number_of_clusters(hit: bool) -> None:
    found = clustered_rate([hit] * 30, ["a", "b", "c"] * 10)
    assert found == Rate(30 * hit, 30, *clopper_pearson(3 * hit, 3))


def test_nothing_has_no_share_and_any_interval() -> None:
    found = clustered_rate([], [])
    assert found[:4] == (0, 0, 0.0, 1.0)
    assert math.isnan(found.value)


def test_hits_that_come_in_clusters_have_a_wider_interval() -> None:
    hits = [True] * 50 + [False] * 50
    together = clustered_rate(hits, [f"p{i // 10}" for i in range(100)])
    apart = clustered_rate(hits, [f"p{i}" for i in range(100)])
    exact = rate(hits)
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert apart.low == pytest.approx(exact.low, abs=0.02)
    assert apart.high == pytest.approx(exact.high, abs=0.02)


def test_the_seed_decides_the_interval() -> None:
    hits, clusters = [True, False, True, True, False] * 7, [f"p{i % 9}" for i in range(35)]
    assert clustered_rate(hits, clusters) == clustered_rate(hits, clusters, seed=0)
    assert clustered_rate(hits, clusters) != clustered_rate(hits, clusters, seed=1)


# --- thresholds --------------------------------------------------------------------------------------------------


@given(probabilities, shares)
@example([0.5, 0.5, 0.5], 0.34)
@example([0.0, 0.0], 0.0)
@example([math.nextafter(1.0, 0.0)] * 3, 0.5)
@example([0.3, math.nextafter(0.3, 1.0)], 0.5)
def test_a_threshold_never_flags_more_than_the_share_that_is_allowed(found: list[float], share: float) -> None:
    values = np.array(found)
    threshold = threshold_at_fpr(values, share)
    assert 0.0 <= threshold <= 1.0
    assert (values >= threshold).sum() <= share * len(values)


@given(probabilities.filter(bool), shares)
def test_a_threshold_flags_all_that_it_may(found: list[float], share: float) -> None:
    values = np.array(found)
    threshold = threshold_at_fpr(values, share)
    below = values[values < threshold]
    if len(below):
        assert (values >= below.max()).sum() > math.floor(share * len(values))
    else:
        assert len(values) <= share * len(values) or (values >= threshold).all()


@given(probabilities, shares, shares)
def test_a_greater_share_never_means_a_higher_threshold(found: list[float], one: float, other: float) -> None:
    low, high = sorted([one, other])
    assert threshold_at_fpr(np.array(found), low) >= threshold_at_fpr(np.array(found), high)


@given(probabilities, shares)
def test_the_order_of_probabilities_makes_no_difference(found: list[float], share: float) -> None:
    assert threshold_at_fpr(np.array(found[::-1]), share) == threshold_at_fpr(np.array(found), share)


@pytest.mark.parametrize(
    ("share", "threshold"), [(0.0, math.nextafter(0.8, 1)), (0.25, 0.7), (0.5, 0.7), (0.75, 0.35), (1.0, 0.0)]
)
def test_a_threshold_lies_between_what_is_flagged_and_what_is_not(share: float, threshold: float) -> None:
    values = np.array([0.1, 0.6, 0.8, 0.6])
    expected = 0.7 if share == 0.5 else threshold  # the two that tie are not flagged
    assert threshold_at_fpr(values, share) == pytest.approx(expected)


scores = st.lists(
    st.one_of(st.floats(-1e6, 1e6), st.sampled_from([NEVER, -2.5, 0.0, 0.0, 5e-324, 7.0])), min_size=1, max_size=60
)


@given(scores, shares)
@example([NEVER, NEVER], 0.5)
@example([NEVER, 1.0], 0.5)
def test_a_threshold_on_scores_flags_as_many_as_it_may_and_none_that_were_left_out(
    found: list[float], limit: float
) -> None:
    values = np.array(found)
    threshold = least_threshold(values, limit)
    assert (values >= threshold).sum() <= limit * len(values)
    assert not (values[values == NEVER] >= threshold).any()
    finite = np.unique(values[np.isfinite(values) & (values < threshold)])
    if len(finite):
        assert (values >= finite[-1]).sum() > limit * len(values) * (1 - 1e-12)


# --- figures on a toy --------------------------------------------------------------------------------------------

TOY = pool_of(
    [1, 1, 1, 1, 0, 0, 0, 1],
    clusters=["p", "p", "q", "q", "x", "y", "z", "r"],
    lengths=[50, 50, 15, 3, 5, 5, 5, 25],
    sources=["one", "one", "one", "one", "one", "two", "two", "two"],
    suspects=[["a"], ["a"], ["a", "c"], ["a"], [], [], [], ["a"]],
)
ANSWERS = answers_with(
    [0.9, 0.8, 0.3, NEVER, 0.6, 0.1, NEVER, 0.7],
    {"half": 0.5, "low": 0.05},
    suspects=["a", "b", "c", "a", "a", None, None, "a"],
)


def counts_of(figures: list[Figure]) -> dict[tuple[str, str, str], tuple[int | None, int]]:
    assert len({figure[:5] for figure in figures}) == len(figures)
    return {(f.measure, f.slice, f.at): (f.hits, f.n) for f in figures}


def test_recall_is_by_source_and_length() -> None:
    found = counts_of(slice_figures(TOY, ANSWERS))
    assert {key: value for key, value in found.items() if key[0] == "recall" and key[2] == "half"} == {
        ("recall", "one, all lengths", "half"): (2, 4),
        ("recall", "one, 1-9 messages", "half"): (0, 1),
        ("recall", "one, 10-19 messages", "half"): (0, 1),
        ("recall", "one, 40+ messages", "half"): (2, 2),
        ("recall", "two, all lengths", "half"): (1, 1),
        ("recall", "two, 20-39 messages", "half"): (1, 1),
    }
    assert found["recall", "one, all lengths", "low"] == (3, 4)


def test_false_positive_rates_are_of_all_and_by_source() -> None:
    found = counts_of(slice_figures(TOY, ANSWERS))
    assert found["false-positive rate", "all negatives", "half"] == (1, 3)
    assert found["false-positive rate", "one", "half"] == (1, 1)
    assert found["false-positive rate", "two", "half"] == (0, 2)
    assert found["false-positive rate", "all negatives", "low"] == (2, 3)


def test_suspects_are_right_of_flagged_and_of_all() -> None:
    found = counts_of(suspect_figures(TOY, ANSWERS))
    assert found["suspect named, of flagged", "one", "half"] == (1, 2)
    assert found["suspect named, of flagged", "one", "low"] == (2, 3)
    assert found["suspect named, of all", "one", "any"] == (3, 4)
    assert found["suspect named, of all", "two", "any"] == (1, 1)


def test_risky_threads_whose_suspects_are_not_known_do_not_count() -> None:
    pool = pool_of([1, 1, 0], suspects=[["a"], [], ["a"]])
    answers = answers_with([0.9, 0.9, 0.9], {"half": 0.5}, suspects=["b", "a", "a"])
    assert [(f.hits, f.n) for f in suspect_figures(pool, answers)] == [(0, 1), (0, 1)]


def test_intervals_of_recall_are_over_persons() -> None:
    found = one(slice_figures(TOY, ANSWERS), "recall", "one, all lengths", "half")
    expected = clustered_rate([True, True, False, False], ["p", "p", "q", "q"])
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)


def test_operating_points_keep_to_their_rates_and_say_what_was_measured() -> None:
    chance = np.random.default_rng(0)
    p = np.concatenate([chance.uniform(0, 0.8, 2000), chance.uniform(0.4, 1, 300), [np.nan] * 2])
    risky = [0] * 2000 + [1] * 300 + [0, 1]
    pool = pool_of(risky, lengths=[1] * 2302)
    points = choose_operating_points(pool, answers_with(p, probabilities=p), "a toy")
    assert points.keys() == FPR_OF_POINT.keys()
    for name, point in points.items():
        flagged = [not math.isnan(of_one) and of_one >= point.threshold for of_one in p]
        false = sum(flag and not is_risky for flag, is_risky in zip(flagged, risky, strict=True))
        assert point.name == name
        assert point.measured["on"] == "a toy"
        assert point.measured["false_positives"] == false == int(FPR_OF_POINT[name] * 2001)
        assert point.measured["negatives"] == 2001
        assert point.measured["positives"] == 301
        assert point.measured["fpr_95"] == list(clopper_pearson(false, 2001))
        assert point.measured["true_positives"] == sum(flagged) - false
        assert point.measured["recall"] == point.measured["true_positives"] / 301
    assert points["balanced"].threshold > points["sensitive"].threshold


# --- kinds of threads --------------------------------------------------------------------------------------------


def pool_with(*threads: Thread) -> Pool:
    return Pool.of({"one": threads}, "thread")


def members(pool: Pool, kinds: dict[str, np.ndarray]) -> dict[str, list[str]]:
    return {
        name: [t.thread_id for t, is_member in zip(pool.threads, mask, strict=True) if is_member]
        for name, mask in kinds.items()
        if mask.any()
    }


def test_kinds_of_text_are_by_length_words_and_guessed_language() -> None:
    pool = pool_with(
        thread("tea at four then", thread_id="short", label=0),
        thread(*["shall we all walk to the library after practice then"] * 11, thread_id="english", label=1),
        thread(*["kommst du heute nach der schule noch mit in den garten"] * 9, thread_id="german", label=0),
        thread(*["I think that the kettle is in the garden, look there"] * 50, thread_id="long", label=1),
    )
    assert members(pool, kinds_of_text(pool) | kinds_of_language(pool)) == {
        "length: 1-9 messages": ["short", "german"],
        "length: 10-19 messages": ["english"],
        "length: 40+ messages": ["long"],
        "text: 0-19 words": ["short"],
        "text: 20-99 words": ["german"],
        "text: 100-499 words": ["english"],
        "text: 500+ words": ["long"],
        "language guess: English": ["english", "long"],
        "language guess: other": ["german"],
        "language guess: too few words": ["short"],
    }
    assert len(guess_language(thread("\ud800 tea", "", "\U0001f44b"))) == 2


@given(st.lists(conversations(max_size=5), min_size=1, max_size=6))
def test_each_kind_of_text_has_each_thread_once(found: list[list[Message]]) -> None:
    pool = pool_with(*(Thread(f"t{i}", messages, 0) for i, messages in enumerate(found) if messages))
    kinds = kinds_of_text(pool) | kinds_of_language(pool)
    for family in ("length", "text", "language guess"):
        held = np.stack([mask for name, mask in kinds.items() if name.startswith(family)])
        assert (held.sum(axis=0) == 1).all()


@given(st.lists(conversations(max_size=6), max_size=4), st.booleans())
def test_the_known_share_is_that_of_distinct_buckets_with_a_weight(found: list[list[Message]], sparse: bool) -> None:
    model = small_model(2**8, sparse=sparse)
    for messages, known in zip(found, model.known_shares(found), strict=True):
        buckets = model.extractor.rows(pack_by_author([messages]), POOLED).indices
        has_weight = model.weights[buckets].any(axis=1)
        assert known == pytest.approx(has_weight.mean() if len(buckets) else 1.0)


def test_threads_are_told_apart_by_how_much_of_them_is_unknown() -> None:
    model = small_model(2**16, sparse=True)
    texts = [f"{word} puzzle {i}" for i, word in enumerate(["tea", "garden", "kettle", "lantern", "pebble"])]
    pool = pool_with(*(thread(text, thread_id=text, label=0) for text in texts), thread("", thread_id="empty", label=0))
    kinds = kinds_of_unknown(model, pool)
    assert list(kinds) == ["unknown features: 0% to 1%", "unknown features: 1% to 5%", "unknown features: 5% and more"]
    assert np.stack(list(kinds.values())).sum(axis=0).tolist() == [1] * 6
    assert members(pool, kinds)["unknown features: 0% to 1%"] == ["empty"]


def test_figures_of_a_kind_are_of_its_members_alone() -> None:
    kinds = {"even": np.arange(8) % 2 == 0, "odd": np.arange(8) % 2 == 1, "none": np.zeros(8, dtype=bool)}
    found = counts_of(kind_figures(TOY, ANSWERS, kinds))
    assert found["recall", "even", "half"] == (1, 2)
    assert found["recall", "odd", "half"] == (2, 3)
    assert found["false-positive rate", "odd", "half"] == (0, 1)
    assert found["false-positive rate", "even", "half"] == (1, 2)
    assert found["recall", "none", "low"] == (0, 0)


# --- figures -----------------------------------------------------------------------------------------------------


def test_a_share_has_the_exact_interval_or_that_over_clusters() -> None:
    hits, clusters = [True, True, False, True, True, False], ["a", "a", "b", "b", "c", "c"]
    exact, over = rate(hits), clustered_rate(hits, clusters)
    assert share("s", "m", "all", "p", hits) == ("s", "m", "all", "p", "thread", 2 / 3, exact.low, exact.high, 6, 4)
    found = share("s", "m", "all", "p", hits, clusters, unit="line")
    assert found == ("s", "m", "all", "p", "line", 2 / 3, over.low, over.high, 6, 4)
    assert share("s", "m", "all", "p", [])[5:] == (None, 0.0, 1.0, 0, 0)


def test_numbers_that_are_not_finite_are_none() -> None:
    assert as_list(np.array([0.5, np.nan, np.inf, NEVER])) == [0.5, None, None, None]
    assert type(as_number(np.float64(1))) is float


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.5, 0.25, 0.75, 2, 1), "0.500 [0.250, 0.750] (1/2)"),
        ((0.001, 0.0001, 0.0055, 1000, 1), "0.0010 [0.0001, 0.0055] (1/1000)"),
        ((0.875, 0.8, 0.9, 40, None), "0.875 [0.800, 0.900] (n=40)"),
        ((None, 0.0, 1.0, 0, 0), "none"),
        ((0.5, None, None, 3, None), "none"),
    ],
)
def test_figures_are_written_with_interval_and_counts(numbers: tuple[float, float, float, int, int], text: str) -> None:
    assert format_figure(Figure("detection", "recall", "all", "half", "thread", *numbers)) == text
