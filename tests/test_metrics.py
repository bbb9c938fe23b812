"""Measures: intervals against known values, thresholds that never flag more than allowed, figures on a toy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders import small_model
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binom

from grooming_flag import Assessment, Message, OperatingPoint, Thread
from grooming_flag.evaluation.figures import (
    FPR_OF_POINT,
    Figure,
    Judged,
    choose_operating_points,
    figures,
    format_rate,
    judge,
)
from grooming_flag.evaluation.metrics import Rate, clopper_pearson, clustered_rate, rate, threshold_at_fpr

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


# --- figures on a toy --------------------------------------------------------------------------------------------


def judged(
    source: str, label: int, probability: float | None, suspect: str = "a", n: int = 5, person: str | None = None
) -> Judged:
    one = Thread("t", [Message("a", "tea")] * n, label, ["a"] if label else [], person)
    answer = Assessment(
        "t", 0.0, probability, False, 1.0, None, suspect, 0.5, (), probability is None, (0, n), n, 2, "toy"
    )
    return Judged(source, one, answer)


TOY = [
    judged("one", 1, 0.9, n=50, person="p"),
    judged("one", 1, 0.8, suspect="b", n=50, person="p"),
    judged("one", 1, 0.3, n=15, person="q"),
    judged("one", 1, None, n=3, person="q"),
    judged("one", 0, 0.6),
    judged("two", 0, 0.1),
    judged("two", 0, None),
    judged("two", 1, 0.7, n=25, person="r"),
]
POINTS = {"half": OperatingPoint("half", 0.5), "low": OperatingPoint("low", 0.05)}


def found_figures() -> dict[tuple[str, str, str], tuple[int, int]]:
    return {(f.measure, f.slice, f.point): (f.rate.hits, f.rate.total) for f in figures(TOY, POINTS)}


def test_recall_is_by_source_and_length() -> None:
    found = found_figures()
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
    found = found_figures()
    assert found["false-positive rate", "all negatives", "half"] == (1, 3)
    assert found["false-positive rate", "one", "half"] == (1, 1)
    assert found["false-positive rate", "two", "half"] == (0, 2)
    assert found["false-positive rate", "all negatives", "low"] == (2, 3)


def test_suspects_are_right_of_flagged_and_of_all() -> None:
    found = found_figures()
    assert found["suspect named, of flagged", "one", "half"] == (1, 2)
    assert found["suspect named, of flagged", "one", "low"] == (2, 3)
    assert found["suspect named, of all", "one", "any"] == (3, 4)
    assert found["suspect named, of all", "two", "any"] == (1, 1)


def test_intervals_of_recall_are_over_persons() -> None:
    all_lengths = next(f for f in figures(TOY, POINTS) if f.slice == "one, all lengths" and f.point == "half")
    assert isinstance(all_lengths, Figure)
    assert all_lengths.rate == clustered_rate([True, True, False, False], ["p", "p", "q", "q"])


def test_operating_points_keep_to_their_rates_and_say_what_was_measured() -> None:
    chance = np.random.default_rng(0)
    negatives = [judged("one", 0, float(p)) for p in chance.uniform(0, 0.8, 2000)]
    positives = [judged("one", 1, float(p)) for p in chance.uniform(0.4, 1, 300)]
    points = choose_operating_points([*negatives, *positives], "a toy")
    assert points.keys() == FPR_OF_POINT.keys()
    for name, point in points.items():
        flagged = [(j.assessment.probability or 0) >= point.threshold for j in negatives]
        assert point.name == name
        assert point.measured["on"] == "a toy"
        assert point.measured["false_positives"] == sum(flagged) == int(FPR_OF_POINT[name] * 2000)
        assert point.measured["negatives"] == 2000
        assert point.measured["positives"] == 300
        assert point.measured["fpr_95"] == list(clopper_pearson(sum(flagged), 2000))
        assert point.measured["recall"] == point.measured["true_positives"] / 300
    assert points["balanced"].threshold > points["sensitive"].threshold


def test_judging_keeps_source_thread_and_answer_together() -> None:
    sources = {"one": [Thread("a", []), Thread("b", [])], "two": [Thread("c", [])]}
    found = judge(small_model(), sources)
    assert [(j.source, j.thread.thread_id, j.assessment.thread_id) for j in found] == [
        ("one", "a", "a"),
        ("one", "b", "b"),
        ("two", "c", "c"),
    ]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (Rate(1, 2, 0.25, 0.75), "0.500 [0.250, 0.750] (1/2)"),
        (Rate(1, 1000, 0.0001, 0.0055), "0.0010 [0.0001, 0.0055] (1/1000)"),
        (Rate(0, 0, 0.0, 1.0), "none"),
    ],
)
def test_rates_are_written_with_interval_and_counts(share: Rate, text: str) -> None:
    assert format_rate(share) == text
