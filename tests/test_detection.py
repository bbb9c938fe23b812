"""Detection: areas and rates against scikit-learn and against counting by hand, base rates against a population."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pools import NEVER, answers_with, few_samples, one, pool_of
from sklearn.metrics import average_precision_score, fbeta_score, roc_auc_score

from grooming_flag.evaluation.detection import (
    BASE_RATES,
    CAPACITIES,
    FPRS,
    Counts,
    Ranking,
    curves,
    fpr_point,
    point_figures,
    pr_auc,
    precision_at_alerts,
    precision_at_recall,
    ranking_figures,
    ranking_statistics,
    recall_at_fpr,
    roc_auc,
    with_fpr_points,
)
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.metrics import f_beta

Sample = list[tuple[float, int, int]]  # value, whether risky, how often

values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.75, NEVER]), st.floats(-3, 3))


def samples(least_weight: int = 0) -> st.SearchStrategy[Sample]:
    """Return threads of both labels, each of which counts for at least one of its label."""
    row = st.tuples(values, st.integers(0, 1), st.integers(least_weight, 4))
    both = st.tuples(st.tuples(values, st.just(0), st.integers(1, 4)), st.tuples(values, st.just(1), st.integers(1, 4)))
    return st.builds(lambda rest, pair: [*rest, *pair], st.lists(row, max_size=25), both)


def columns(sample: Sample) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    found, risky, weights = zip(*sample, strict=True)
    return np.array(found, dtype=np.float64), np.array(risky, dtype=bool), np.array(weights, dtype=np.float64)


def counted(sample: Sample) -> Counts:
    found, risky, weights = columns(sample)
    return Ranking(found, risky).counts(weights)


def repeated(sample: Sample) -> Sample:
    return [(value, risky, 1) for value, risky, weight in sample for _ in range(weight)]


def at_thresholds(sample: Sample) -> list[tuple[int, int]]:
    """Return how many risky and other threads each threshold flags: first no flag at all, then from the highest on."""
    found = [(0, 0)]
    for threshold in sorted({value for value, _, weight in sample if value != NEVER and weight}, reverse=True):
        flagged = [(risky, weight) for value, risky, weight in sample if value >= threshold]
        tp = sum(weight for risky, weight in flagged if risky)
        found.append((tp, sum(weight for _, weight in flagged) - tp))
    return found


def totals(sample: Sample) -> tuple[int, int]:
    return sum(w for _, risky, w in sample if risky), sum(w for _, risky, w in sample if not risky)


# --- areas -------------------------------------------------------------------------------------------------------


@given(samples())
@example([(0.5, 1, 1), (0.5, 0, 1)])
@example([(NEVER, 1, 1), (NEVER, 0, 1)])
@example([(NEVER, 1, 3), (0.5, 0, 1), (0.7, 1, 2)])
def test_the_roc_area_is_that_of_scikit_learn(sample: Sample) -> None:
    found, risky, weights = columns(sample)
    lowest = np.where(np.isfinite(found), found, -10.0)
    assert roc_auc(counted(sample)) == pytest.approx(roc_auc_score(risky, lowest, sample_weight=weights))


@given(samples())
def test_the_roc_area_is_how_often_the_risky_one_of_a_pair_ranks_higher(sample: Sample) -> None:
    pairs = [(r, b, wr * wb) for r, is_r, wr in sample if is_r for b, is_b, wb in sample if not is_b]
    wins = sum(weight * (1.0 if r > b else 0.5 if r == b else 0.0) for r, b, weight in pairs)
    assert roc_auc(counted(sample)) == pytest.approx(wins / sum(weight for _, _, weight in pairs))


@given(samples())
@example([(0.5, 0, 0), (0.2, 1, 1), (0.1, 0, 1)])
def test_the_precision_recall_area_is_average_precision_of_what_is_ever_flagged(sample: Sample) -> None:
    found, risky, weights = columns(sample)
    lowest = np.where(np.isfinite(found), found, -10.0)
    area = average_precision_score(risky, lowest, sample_weight=weights)
    n_risky, n_benign = totals(sample)
    never = sum(weight for value, is_risky, weight in sample if value == NEVER and is_risky)
    area -= never / n_risky * n_risky / (n_risky + n_benign)  # the step that would flag everything
    assert pr_auc(counted(sample)) == pytest.approx(area, abs=1e-9)


@given(samples())
def test_a_weight_counts_as_so_many_threads(sample: Sample) -> None:
    weighted, plain = counted(sample), counted(repeated(sample))
    fprs, recalls, capacities = np.linspace(0, 1, 23), np.linspace(0.01, 1, 23), np.logspace(-1, 4, 23)
    assert roc_auc(weighted) == pytest.approx(roc_auc(plain))
    assert pr_auc(weighted) == pytest.approx(pr_auc(plain))
    assert recall_at_fpr(weighted, fprs) == pytest.approx(recall_at_fpr(plain, fprs))
    assert precision_at_recall(weighted, recalls) == pytest.approx(precision_at_recall(plain, recalls), nan_ok=True)
    expected = precision_at_alerts(plain, 0.01, capacities)
    assert precision_at_alerts(weighted, 0.01, capacities) == pytest.approx(expected, nan_ok=True)


@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_threads_makes_no_difference(sample: Sample, chance: random.Random) -> None:
    shuffled = list(sample)
    chance.shuffle(shuffled)
    for one_way, other_way in zip(counted(sample), counted(shuffled), strict=True):
        assert np.array_equal(one_way, other_way, equal_nan=True)


# --- rates at thresholds -----------------------------------------------------------------------------------------

LIMITS = [0.0, 1e-4, 0.01, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.7, 0.9, 1.0]


@given(samples())
def test_recall_at_a_false_positive_rate_is_the_best_of_all_thresholds_that_keep_to_it(sample: Sample) -> None:
    n_risky, n_benign = totals(sample)
    found = recall_at_fpr(counted(sample), np.array(LIMITS))
    for limit, recall in zip(LIMITS, found, strict=True):
        assert recall == max(tp for tp, fp in at_thresholds(sample) if fp <= limit * n_benign * (1 + 1e-12)) / n_risky
    assert (np.diff(found) >= 0).all()


def test_a_rate_that_is_less_than_one_of_the_threads_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    found = ranking_figures(pool_of([1] * 10 + [0] * 100), answers_with([1.0] * 5 + [0.5] * 5 + [0.6] + [0.1] * 99))
    assert one(found, "recall", at=fpr_point(1e-2)).value == 1.0
    assert one(found, "recall", at=fpr_point(1e-4)).value is None


def test_one_false_alarm_in_a_thousand_is_a_rate_of_one_in_a_thousand() -> None:
    sample = [(2.0, 0, 1), (1.0, 1, 1), (0.5, 0, 1), (0.4, 1, 1), *[(0.0, 0, 1)] * 998]
    assert recall_at_fpr(counted(sample), np.array([1e-4, 1e-3, 2e-3])).tolist() == [0.0, 0.5, 1.0]


@given(samples())
def test_precision_at_a_recall_is_that_of_the_highest_threshold_that_reaches_it(sample: Sample) -> None:
    n_risky, _ = totals(sample)
    limits = [0.02, 0.2, 0.25, 1 / 3, 0.5, 2 / 3, 0.9, 1.0]
    for limit, precision in zip(limits, precision_at_recall(counted(sample), np.array(limits)), strict=True):
        reached = [(tp, fp) for tp, fp in at_thresholds(sample) if tp >= limit * n_risky * (1 - 1e-12)]
        expected = reached[0][0] / sum(reached[0]) if reached else math.nan
        assert precision == pytest.approx(expected, nan_ok=True)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.sampled_from([0.5, 1.0, 2.0]))
def test_f_is_that_of_scikit_learn(tp: int, fp: int, fn: int, beta: float) -> None:
    truth, said = [1] * tp + [0] * fp + [1] * fn, [1] * tp + [1] * fp + [0] * fn
    precision, recall = tp / (tp + fp) if tp + fp else 0.0, tp / (tp + fn) if tp + fn else 0.0
    expected = fbeta_score(truth, said, beta=beta, zero_division=0.0) if truth else 0.0
    assert f_beta(precision, recall, beta) == pytest.approx(expected)


# --- what it is worth at a base rate -----------------------------------------------------------------------------


def precision_in_a_population(sample: Sample, base_rate: Fraction, looked_at: Fraction) -> float:
    """Look at a share of a population, highest values first and those that tie by lot; say how many of them are risky.

    The population has as many copies of each thread as make the share of risky ones the base rate.
    """
    n_risky, n_benign = totals(sample)
    people: dict[float, list[Fraction]] = {}
    for value, risky, weight in sample:
        share = base_rate / n_risky if risky else (1 - base_rate) / n_benign
        people.setdefault(value, [Fraction(0), Fraction(0)])[risky] += weight * share
    people.pop(NEVER, None)
    cases = alerts = Fraction(0)
    for value in sorted(people, reverse=True):
        benign, risky_ones = people[value]
        part = min(Fraction(1), (looked_at - alerts) / (benign + risky_ones)) if benign + risky_ones else Fraction(0)
        cases, alerts = cases + part * risky_ones, alerts + part * (benign + risky_ones)
    return float(cases / alerts)


@given(
    samples().filter(lambda sample: len(at_thresholds(sample)) > 1),
    st.sampled_from([Fraction(1, 2), Fraction(1, 100), Fraction(1, 1000), Fraction(1, 10_000)]),
)
def test_precision_at_a_capacity_is_that_of_a_population_with_the_base_rate(
    sample: Sample, base_rate: Fraction
) -> None:
    capacities = [Fraction(1, 10), Fraction(10), Fraction(100), Fraction(1000), Fraction(9999), Fraction(10_000)]
    found = precision_at_alerts(counted(sample), float(base_rate), np.array(capacities, dtype=np.float64))
    expected = [precision_in_a_population(sample, base_rate, capacity / 10_000) for capacity in capacities]
    assert found == pytest.approx(expected, rel=1e-6)


def test_precision_at_a_capacity_is_what_sampling_a_population_gives() -> None:
    chance = np.random.default_rng(0)
    risky = np.repeat([True, False], [40, 400])
    found = np.round(chance.normal(size=440) + 1.5 * risky, 1)
    counts = Ranking(found, risky).counts(np.ones(440))
    shares = []
    for _ in range(60):
        values = np.concatenate([chance.choice(found[risky], 100), chance.choice(found[~risky], 9900)])
        order = np.argsort(-values + chance.uniform(0, 1e-6, 10_000))
        shares.append((order[:100] < 100).mean())
    expected = precision_at_alerts(counts, 0.01, np.array([100.0]))[0]
    assert np.mean(shares) == pytest.approx(expected, abs=4 * np.std(shares) / math.sqrt(60))


@pytest.mark.parametrize("flagged", [0, 1, 3])
def test_a_system_that_flags_hardly_anything_can_be_judged(flagged: int, monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    pool = pool_of([1] * 10 + [0] * 100)
    answers = answers_with([1.0] * flagged + [NEVER] * (110 - flagged), {"point": 0.5})
    assert one(ranking_figures(pool, answers), "recall", at=fpr_point(1e-2)).value == flagged / 10
    assert one(point_figures(pool, answers), "recall").value == flagged / 10
    assert curves(pool, answers)


# --- figures at operating points ---------------------------------------------------------------------------------


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return figures of 3 of 4 risky and 2 of 50 other threads flagged at "half", and of 2 and none at "high"."""
    few_samples(monkeypatch, 300)
    pool = pool_of([1] * 4 + [0] * 50)
    answers = answers_with([0.9, 0.9, 0.6, 0.2, 0.7, 0.5, *[0.1] * 47, NEVER], {"half": 0.5, "high": 0.8})
    return point_figures(pool, answers)


def test_rates_precision_and_f_at_a_point_are_those_counted_by_hand(toy: list[Figure]) -> None:
    recall, alarms = one(toy, "recall", at="half"), one(toy, "false-positive rate", at="half")
    assert (recall.hits, recall.n, alarms.hits, alarms.n) == (3, 4, 2, 50)
    assert one(toy, "precision", at="half").value == pytest.approx(0.6)
    assert one(toy, "F1", at="half").value == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    assert one(toy, "F0.5", at="half").value == pytest.approx(1.25 * 0.6 * 0.75 / (0.25 * 0.6 + 0.75))


@pytest.mark.parametrize("base_rate", BASE_RATES)
def test_alerts_and_cases_are_those_of_ten_thousand_threads(toy: list[Figure], base_rate: float) -> None:
    name = f"base rate {base_rate:g}"
    true, false = 10_000 * base_rate * 3 / 4, 10_000 * (1 - base_rate) * 2 / 50
    assert one(toy, "alerts per 10,000 threads", name, "half").value == pytest.approx(true + false)
    assert one(toy, "risky threads found per 100 reviews", name, "half").value == pytest.approx(
        100 * true / (true + false)
    )


@pytest.mark.parametrize("base_rate", BASE_RATES)
def test_without_a_false_alarm_intervals_allow_for_as_many_as_may_have_been_missed(
    toy: list[Figure], base_rate: float
) -> None:
    name = f"base rate {base_rate:g}"
    alerts = one(toy, "alerts per 10,000 threads", name, "high")
    found = one(toy, "risky threads found per 100 reviews", name, "high")
    at_most = 1 - 0.025 ** (1 / 50)  # of 50 threads none was flagged
    true, false = 10_000 * base_rate * 2 / 4, 10_000 * (1 - base_rate) * at_most
    assert alerts.value == pytest.approx(true)
    assert alerts.high == pytest.approx(true + false)
    assert (found.value, found.high) == pytest.approx((100.0, 100.0))
    assert found.low == pytest.approx(100 * true / (true + false))
    assert one(toy, "false-positive rate", at="high").high == pytest.approx(at_most)


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("base_rate", BASE_RATES)
@pytest.mark.parametrize("rest", [0.0, NEVER])
def test_no_capacity_is_certain_to_meet_no_false_alarm(
    rest: float, base_rate: float, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_samples(monkeypatch)
    found = ranking_figures(pool_of([1] * 20 + [0] * 500), answers_with([1.0] * 20 + [rest] * 500))
    precision = one(found, "precision", f"base rate {base_rate:g}", f"{capacity} alerts per 10,000")
    risky, alarms = 10_000 * base_rate, 10_000 * (1 - base_rate) * (1 - 0.025 ** (1 / 500))
    looked_at = risky if rest == NEVER else capacity  # there is nobody else to look at
    assert precision.value == pytest.approx(min(1.0, risky / looked_at))
    assert precision.low == pytest.approx(risky / max(risky + alarms, capacity if rest == 0.0 else 0.0))


def test_precision_without_a_false_alarm_is_not_certain(toy: list[Figure]) -> None:
    precision = one(toy, "precision", at="high")
    assert precision.value == 1.0
    assert precision.low is not None
    assert precision.low < 1.0


def test_a_point_at_which_nothing_is_flagged_has_no_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    found = point_figures(pool_of([1, 1, 0, 0]), answers_with([0.1, 0.2, 0.1, 0.3], {"never": 2.0}))
    assert one(found, "precision").value is None
    assert one(found, "recall").value == 0.0
    assert one(found, "alerts per 10,000 threads", "base rate 0.01").value == 0.0
    assert one(found, "risky threads found per 100 reviews", "base rate 0.01").value is None


def test_an_interval_has_both_ends_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    pool = pool_of([1, 1, 0, 0, 0], clusters=["c"] * 5)
    answers = answers_with([0.9, 0.2, 0.7, 0.1, 0.1], {"half": 0.5, "high": 0.8})
    for found in [*ranking_figures(pool, answers), *point_figures(pool, answers)]:
        assert (found.low is None) == (found.high is None), found


def test_each_figure_is_of_its_own_point(toy: list[Figure]) -> None:
    assert one(toy, "precision", at="half").value == pytest.approx(0.6)
    assert one(toy, "precision", at="high").value == 1.0
    assert one(toy, "recall", at="high").value == 0.5
    assert len({figure[:5] for figure in toy}) == len(toy)


# --- thresholds set here -----------------------------------------------------------------------------------------


def test_thresholds_set_here_keep_to_their_rates() -> None:
    chance = np.random.default_rng(1)
    risky = np.repeat([1, 0], [100, 20_000])
    found = chance.normal(size=20_100) + 3 * risky
    points = with_fpr_points(pool_of(risky.tolist(), lengths=[1] * 20_100), answers_with(found, {"mine": 0.0}))
    assert points["mine"] == 0.0
    assert [(found[100:] >= points[fpr_point(fpr)]).sum() for fpr in FPRS] == [200, 20, 2]


def test_recall_at_a_rate_is_that_at_the_threshold_set_for_it() -> None:
    pool = pool_of([1, 1, 1, *[0] * 100])
    answers = answers_with([9.0, 7.0, 4.0, 8.0, 3.0, *[0.0] * 98])
    _, statistics = ranking_statistics(pool, answers)
    threshold = with_fpr_points(pool, answers)[fpr_point(1e-2)]
    assert (answers.values[:3] >= threshold).mean() == statistics(np.ones(103))[2]


# --- curves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [0, 8])
def test_curves_rise_where_they_must_and_lie_within_their_intervals(ties: int, monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    chance = np.random.default_rng(2)
    risky = np.repeat([1, 0], [60, 300])
    found = np.round(chance.normal(size=360) + 2 * risky, ties or 1)
    found[::17] = NEVER
    drawn = curves(pool_of(risky.tolist()), answers_with(found))
    for curve in drawn.values():
        x, y, low, high = (np.array(curve[key], dtype=float) for key in ("x", "values", "low", "high"))
        assert (np.diff(x) > 0).all()
        assert ((low <= y) & (y <= high) | np.isnan(y)).all()
    recall = np.array(drawn["recall by false-positive rate"]["values"])
    assert (np.diff(recall) >= 0).all()
    assert recall[-1] == np.isfinite(found[:60]).mean()
    for base_rate in BASE_RATES:
        curve = drawn[f"risky threads per 100 reviews by alerts per 10,000, base rate {base_rate:g}"]
        cases = np.array(curve["values"]) * np.array(curve["x"])
        assert (np.diff(cases) >= -1e-9).all()


def test_a_perfect_ranking_has_areas_of_one_and_full_recall() -> None:
    sample = [(1.0, 1, 1)] * 5 + [(0.0, 0, 1)] * 7
    assert roc_auc(counted(sample)) == pr_auc(counted(sample)) == 1.0
    assert recall_at_fpr(counted(sample), np.array(FPRS)).tolist() == [1.0] * 3


def test_a_ranking_of_one_value_says_nothing() -> None:
    sample = [(1.0, 1, 1)] * 5 + [(1.0, 0, 1)] * 15
    assert roc_auc(counted(sample)) == 0.5
    assert pr_auc(counted(sample)) == 0.25
    assert recall_at_fpr(counted(sample), np.array([0.5, 1.0])).tolist() == [0.0, 1.0]
