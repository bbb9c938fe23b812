"""Intervals by resampling: against a plain bootstrap, by cluster, the same every time, right as often as they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from pools import few_samples, pool_of
from scipy.stats import binom

from grooming_flag.evaluation.metrics import clopper_pearson
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.resampling import Intervals, Label, Statistics, labeled, resampled

Floats = NDArray[np.float64]


def mean_of(values: Sequence[float] | NDArray[np.generic]) -> Statistics:
    array = np.asarray(values, dtype=np.float64)
    return lambda weights: np.array([(weights * array).sum() / weights.sum()])


def drawn(pool: Pool, seed: int = 0) -> list[Floats]:
    """Return the weights of the data as they are, and of each sample."""
    seen: list[Floats] = []

    def statistics(weights: Floats) -> Floats:
        seen.append(weights.copy())
        return np.zeros(1)

    resampled(statistics, pool, seed)
    return seen


def plain_bootstrap(values: Floats, clusters: Sequence[str], risky: Sequence[int], n: int = 3000) -> Floats:
    """Return the ends of the interval of the mean, the members of drawn clusters put end to end."""
    chance = np.random.default_rng(12345)
    members: dict[str, list[int]] = {}
    for i, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(i)
    strata: list[list[list[int]]] = [[], []]
    for of_cluster in members.values():
        strata[any(risky[i] for i in of_cluster)].append(of_cluster)
    means = []
    for _ in range(n):
        chosen = [i for s in strata for k in chance.integers(0, max(len(s), 1), len(s)) for i in s[k]]
        means.append(values[chosen].mean())
    ends: Floats = np.percentile(means, [2.5, 97.5])
    return ends


# --- samples -----------------------------------------------------------------------------------------------------


def test_samples_are_of_whole_clusters_and_keep_risky_ones_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch, 40)
    clusters = ["a", "b", "a", "c", "d", "d", "e", "b"]
    pool = pool_of([1, 1, 1, 0, 0, 1, 0, 0], clusters=clusters)  # a, b and d have a risky thread
    as_is, *samples = drawn(pool)
    assert as_is.tolist() == [1.0] * 8
    assert len(samples) == 40
    for weights in samples:
        of_cluster = dict(zip(clusters, weights.tolist(), strict=True))
        assert [of_cluster[cluster] for cluster in clusters] == weights.tolist()
        assert of_cluster["a"] + of_cluster["b"] + of_cluster["d"] == 3
        assert of_cluster["c"] + of_cluster["e"] == 2
    assert len({tuple(weights) for weights in samples}) > 10


def test_every_cluster_is_drawn_about_once_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch, 2000)
    counts = np.array(drawn(pool_of([1] * 5 + [0] * 10))[1:])
    assert counts.mean(axis=0) == pytest.approx(np.ones(15), abs=0.1)
    assert counts[:, 5:].var(axis=0) == pytest.approx(np.full(10, 0.9), abs=0.15)  # binomial: 10 * 1/10 * 9/10


def test_a_sample_depends_on_the_seed_and_its_number_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of([1] * 6 + [0] * 9)
    few_samples(monkeypatch, 30)
    first = drawn(pool)
    assert np.array_equal(first, drawn(pool))
    assert not np.array_equal(first, drawn(pool, seed=1))
    few_samples(monkeypatch, 10)
    assert np.array_equal(first[:11], drawn(pool))


def test_the_order_of_threads_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    chance = np.random.default_rng(0)
    risky, values = chance.integers(0, 2, 50), chance.integers(0, 100, 50)
    clusters = np.array([f"c{i}" for i in chance.integers(0, 20, 50)])
    order = chance.permutation(50)
    as_given = resampled(mean_of(values), pool_of(risky.tolist(), clusters=clusters.tolist()))
    pool = pool_of(risky[order].tolist(), clusters=clusters[order].tolist())
    assert resampled(mean_of(values[order]), pool) == as_given


# --- intervals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_cluster", [1, 6])
def test_intervals_are_those_of_a_plain_bootstrap(per_cluster: int) -> None:
    chance = np.random.default_rng(per_cluster)
    n = 180
    clusters = [f"c{i // per_cluster}" for i in range(n)]
    risky = [int(i // per_cluster % 3 == 0) for i in range(n)]
    values = np.repeat(chance.normal(size=n // per_cluster), per_cluster) + chance.normal(size=n) + np.array(risky)
    found = resampled(mean_of(values), pool_of(risky, clusters=clusters))
    low, high = plain_bootstrap(values, clusters, risky)
    width = high - low
    assert found.values[0] == pytest.approx(values.mean())
    assert found.low[0] == pytest.approx(low, abs=0.06 * width)
    assert found.high[0] == pytest.approx(high, abs=0.06 * width)


def test_clusters_that_agree_make_intervals_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch, 400)
    chance = np.random.default_rng(3)
    values = np.repeat(chance.normal(size=30), 10)
    together = resampled(mean_of(values), pool_of([0] * 300, clusters=[f"c{i // 10}" for i in range(300)]))
    apart = resampled(mean_of(values), pool_of([0] * 300))
    ratio = (together.high - together.low)[0] / (apart.high - apart.low)[0]
    assert ratio == pytest.approx(np.sqrt(10), rel=0.2)


def test_strata_make_intervals_of_what_differs_between_them_narrower(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch, 200)
    risky = [1] * 20 + [0] * 80
    share = resampled(mean_of(risky), pool_of(risky))
    assert (share.values[0], share.low[0], share.high[0]) == pytest.approx((0.2, 0.2, 0.2))


def test_intervals_hold_the_truth_nearly_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch, 200)
    chance = np.random.default_rng(4)
    clusters = [f"c{i // 3}" for i in range(120)]
    held = 0
    for trial in range(200):
        values = np.repeat(chance.exponential(size=40), 3) + chance.normal(size=120)
        found = resampled(mean_of(values), pool_of([0] * 120, clusters=clusters), seed=trial)
        held += found.low[0] <= 1.0 <= found.high[0]
    assert binom.ppf(0.001, 200, 0.92) <= held <= binom.ppf(0.999, 200, 0.96)  # a percentile interval is a bit narrow


@pytest.mark.parametrize("risky", [[1] * 12, [0] * 12])
def test_all_threads_may_be_of_one_kind(risky: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    found = resampled(mean_of(range(12)), pool_of(risky))
    assert found.low[0] < found.values[0] == 5.5 < found.high[0]


def test_what_is_not_defined_has_no_interval_and_what_is_sometimes_defined_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few_samples(monkeypatch)

    def statistics(weights: Floats) -> Floats:
        ratio = weights[1] / weights[0] if weights[0] else np.nan
        return np.array([np.nan, ratio, np.nan if (weights == 1).all() else ratio])

    found = resampled(statistics, pool_of([0] * 5))
    assert np.isnan([column[[0, 2]] for column in found]).all()
    assert found.low[1] <= found.values[1] == 1.0 <= found.high[1]


@pytest.mark.parametrize("clusters", ["cccc", "ccde"])
def test_a_single_cluster_has_no_interval(clusters: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    found = resampled(mean_of([0.0, 1.0, 1.0, 0.0]), pool_of([1, 1, 0, 0], clusters=list(clusters)))
    assert found.values[0] == 0.5
    assert np.isnan([found.low[0], found.high[0]]).all()


# --- what figures are --------------------------------------------------------------------------------------------

LABEL = Label("detection", "recall", "all", "point", "thread", 8, clusters=5)


def test_a_share_that_is_all_or_nothing_has_the_exact_interval_of_the_clusters() -> None:
    for value in (0.0, 1.0):
        (figure,) = labeled([LABEL], Intervals(*np.array([[value], [value], [value]])))
        assert (figure.value, figure.n) == (value, 8)
        assert (figure.low, figure.high) == clopper_pearson(int(value) * 5, 5)
        (other,) = labeled([LABEL._replace(clusters=None)], Intervals(*np.array([[value], [value], [value]])))
        assert (other.low, other.high) == (value, value)


def test_labels_name_the_first_figures_and_what_is_not_finite_is_none() -> None:
    intervals = Intervals(*np.array([[0.5, np.nan, 9.0], [0.25, np.nan, 8.0], [0.75, np.inf, 10.0]]))
    found = labeled([LABEL, LABEL._replace(measure="precision")], intervals)
    assert [figure[:8] for figure in found] == [
        ("detection", "recall", "all", "point", "thread", 0.5, 0.25, 0.75),
        ("detection", "precision", "all", "point", "thread", None, None, None),
    ]
