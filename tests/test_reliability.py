"""Calibration: against obvious loops, and on synthetic threads whose probabilities are known to be right or wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pools import NEVER, answers_with, few_samples, one, pool_of
from sklearn.metrics import brier_score_loss

from grooming_flag.evaluation.answers import Answers
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.reliability import AFTER_SHIFT, AMONG_FLAGGED, BINS, RELIABILITY, calibration_figures

Floats = NDArray[np.float64]
PREDICTED, OBSERVED, DIFFERENCE = AMONG_FLAGGED


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch, 10)


class World(NamedTuple):
    """Threads whose evidence is a normal number, around +1 for risky and -1 for other ones."""

    risky: NDArray[np.int64]
    evidence: Floats

    def posterior(self, prior: float) -> Floats:
        """Return the true probabilities where this share of threads is risky."""
        odds: Floats = np.exp(2 * self.evidence) * prior / (1 - prior)
        return odds / (1 + odds)

    @property
    def pool(self) -> Pool:
        return pool_of(self.risky.tolist(), lengths=[1] * len(self.risky))


def world(n: int, share: float, seed: int = 0) -> World:
    chance = np.random.default_rng(seed)
    risky = (np.arange(n) < share * n).astype(np.int64)
    return World(risky, chance.normal(2.0 * risky - 1.0))


def judged(pool: Pool, p: Floats, prior: float | None, points: dict[str, float] | None = None) -> list[Figure]:
    return calibration_figures(pool, answers_with(np.nan_to_num(p, nan=NEVER), points, probabilities=p, prior=prior))[0]


def bayes(p: float, prior: float, other: float) -> float:
    """Return the probability at another prior."""
    risky, benign = p / prior * other, (1 - p) / (1 - prior) * (1 - other)
    return risky / (risky + benign)


# --- obvious oracles ---------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(0, 1)), min_size=2, max_size=30),
    st.sampled_from([0.5, 0.1, 0.9]),
)
@hypothesis_settings(max_examples=25)
def test_the_brier_score_is_that_of_scikit_learn_on_restated_probabilities(
    rows: list[tuple[float, int]], prior: float
) -> None:
    rows = [*rows, (0.3, 0), (0.6, 1)]
    y = [risky for _, risky in rows]
    share = sum(y) / len(y)
    with pytest.MonkeyPatch.context() as patch:
        few_samples(patch, 2)
        found = one(judged(pool_of(y), np.array([p for p, _ in rows]), prior), "Brier score")
    restated = [bayes(p, prior, share) for p, _ in rows]
    assert found.value == pytest.approx(brier_score_loss(y, restated))
    assert found.n == len(y)


def ece(p: Floats, y: Floats) -> float:
    """Return the mean gap over bins of as nearly equal size as they can be."""
    order = np.argsort(p)
    bins = np.array_split(order, BINS)
    return float(sum(len(b) * abs(p[b].mean() - y[b].mean()) for b in bins) / len(p))


@pytest.mark.parametrize("n", [150, 1500])
def test_the_calibration_error_is_that_of_bins_of_equal_size(n: int) -> None:
    chance = np.random.default_rng(n)
    p, y = chance.uniform(0.01, 0.99, n), chance.integers(0, 2, n)
    found = one(judged(pool_of(y.tolist(), lengths=[1] * n), p, None), "ECE")
    assert found.value == pytest.approx(ece(p, y.astype(float)), abs=0.6 * BINS / n)


@pytest.mark.parametrize("n", [30, 150, 1000])
def test_bins_of_the_curve_hold_the_same_number_of_threads(n: int) -> None:
    chance = np.random.default_rng(n)
    y = np.arange(n) % 2  # one half risky, so that all weigh the same
    curve = curve_of(pool_of(y.tolist(), lengths=[1] * n), chance.uniform(0.01, 0.99, n), 0.5)
    sizes = curve["n"]
    assert len(sizes) == BINS
    assert max(sizes) - min(sizes) <= 1


def curve_of(pool: Pool, p: Floats, prior: float | None) -> Any:
    return calibration_figures(pool, answers_with(p, probabilities=p, prior=prior))[1][RELIABILITY]


def test_equal_probabilities_are_in_one_bin() -> None:
    p = np.array([0.2] * 50 + [0.7] * 50)
    y = [1] * 10 + [0] * 40 + [1] * 40 + [0] * 10
    curve = curve_of(pool_of(y), p, 0.5)
    assert curve["x"] == pytest.approx([0.2, 0.7])
    assert curve["values"] == pytest.approx([0.2, 0.8])
    assert curve["n"] == [50, 50]
    assert one(judged(pool_of(y), p, 0.5), "ECE").value == pytest.approx(0.05)


def test_among_the_flagged_the_means_are_those_counted_by_hand() -> None:
    p, y = np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.1]), [1, 0, 1, 1, 0, 0]
    found = judged(pool_of(y), p, 0.5, {"half": 0.5, "never": 1.5})
    assert one(found, PREDICTED, "flagged", "half").value == pytest.approx(0.8)
    assert one(found, OBSERVED, "flagged", "half").value == pytest.approx(2 / 3)
    assert one(found, DIFFERENCE, "flagged", "half").value == pytest.approx(0.8 - 2 / 3)
    assert one(found, PREDICTED, "flagged", "half").n == 3
    assert one(found, PREDICTED, "flagged", "never")[5:] == (None, None, None, 0, None)


@pytest.mark.parametrize("prior", [0.5, 0.02])
def test_the_ratio_after_a_shift_is_that_of_a_population_with_the_base_rate(prior: float) -> None:
    p, y = [0.9, 0.8, 0.7, 0.3, 0.2, 0.1], [1, 0, 1, 1, 0, 0]
    found = judged(pool_of(y), np.array(p), prior, {"half": 0.5})
    alerts = [(0.9, 1), (0.8, 0), (0.7, 1)]
    copies = {1: 10 / 3, 0: 990 / 3}  # of 1,000 threads, 10 are risky
    predicted = sum(copies[risky] * bayes(one_p, prior, 0.01) for one_p, risky in alerts)
    observed = sum(copies[risky] for _, risky in alerts if risky)
    assert one(found, AFTER_SHIFT, "base rate 0.01").value == pytest.approx(predicted / observed)


# --- probabilities that are known to be right or wrong -----------------------------------------------------------


@pytest.mark.parametrize("prior", [0.5, 0.1, 1e-3])
@pytest.mark.parametrize("share", [0.5, 0.05])
def test_right_probabilities_are_found_right_whatever_prior_they_assume(prior: float, share: float) -> None:
    some = world(20_000, share)
    p = some.posterior(prior)
    found = judged(some.pool, p, prior, {"strict": float(np.quantile(p, 1 - share / 2)), "all": 0.0})
    truth = some.posterior(share)
    assert one(found, "Brier score").value == pytest.approx(np.mean(truth * (1 - truth)), rel=0.06)
    assert one(found, "ECE").value == pytest.approx(0.0, abs=0.012)
    for at in ("strict", "all"):
        assert one(found, DIFFERENCE, "flagged", at).value == pytest.approx(0.0, abs=0.03)
        for base_rate in ("0.01", "0.001", "0.0001"):
            ratio = one(found, AFTER_SHIFT, f"base rate {base_rate}", at)
            assert ratio.value == pytest.approx(1.0, abs=0.15)
    x, y = (np.array(curve_of(some.pool, p, prior)[key]) for key in ("x", "values"))
    assert y == pytest.approx(x, abs=0.09)


def test_probabilities_that_are_too_sure_are_found_out() -> None:
    some = world(4000, 0.5)
    odds = np.exp(6 * some.evidence)  # thrice the log-odds
    p = odds / (1 + odds)
    found = judged(some.pool, p, 0.5, {"strict": 0.99})
    right = one(judged(some.pool, some.posterior(0.5), 0.5), "ECE").value
    wrong = one(found, "ECE").value
    assert right is not None
    assert wrong is not None
    assert wrong > 3 * right
    assert (one(found, DIFFERENCE, "flagged", "strict").value or 0.0) > 0.03
    assert (one(found, AFTER_SHIFT, "base rate 0.01", "strict").value or 0.0) > 1.5


def test_a_wrong_prior_is_found_out() -> None:
    some = world(4000, 0.5)
    found = judged(some.pool, some.posterior(0.5), 0.1)
    assert (one(found, "ECE").value or 0.0) > 0.1


def test_where_the_prior_is_unknown_probabilities_are_taken_as_they_are() -> None:
    some = world(3000, 0.2)
    right, shifted = some.posterior(0.2), some.posterior(0.5)
    assert one(judged(some.pool, right, None), "ECE").value == pytest.approx(0.0, abs=0.03)
    assert (one(judged(some.pool, shifted, None), "ECE").value or 0.0) > 0.05
    found = one(judged(some.pool, shifted, None), "Brier score")
    assert found.value == pytest.approx(np.mean((shifted - some.risky) ** 2))


def test_the_interval_of_the_calibration_error_holds_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch, 300)
    some = world(1500, 0.5, seed=5)
    found = one(judged(some.pool, some.posterior(0.5), 0.5), "ECE")
    assert found.low is not None
    assert found.value is not None
    assert found.low <= found.value


# --- where there is nothing to say -------------------------------------------------------------------------------


def test_threads_without_a_probability_are_left_out() -> None:
    p = np.array([0.9, 0.8, np.nan, 0.3, np.nan, 0.1])
    y = [1, 1, 1, 0, 0, 0]
    pool, answers = pool_of(y), answers_with([0.9, 0.8, NEVER, 0.3, NEVER, 0.1], {"all": -5.0}, probabilities=p)
    found = calibration_figures(pool, answers)[0]
    assert one(found, "Brier score").value == pytest.approx((0.01 + 0.04 + 0.09 + 0.01) / 4)
    assert one(found, "Brier score").n == 4
    assert one(found, PREDICTED, "flagged").n == 4


@pytest.mark.parametrize("y", [[1, 1, 1], [0, 0, 0], [1, 0, 1]])
def test_without_probabilities_or_with_one_kind_of_threads_there_are_no_figures(y: Sequence[int]) -> None:
    p = [math.nan] * 3 if len(set(y)) == 2 else [0.2, 0.5, 0.7]
    assert calibration_figures(pool_of(y), answers_with([1.0, 2.0, 3.0], {"point": 2.0}, probabilities=p)) == ([], {})


@pytest.mark.parametrize("prior", [None, 0.5, 0.01])
def test_certain_probabilities_are_taken(prior: float | None) -> None:
    found = judged(pool_of([1, 0, 1, 0]), np.array([1.0, 0.0, 0.0, 1.0]), prior, {"half": 0.5})
    assert one(found, "Brier score").value == pytest.approx(0.5)
    assert one(found, "ECE").value == pytest.approx(0.5)


def test_a_thread_on_which_the_system_abstained_is_no_part_of_the_curve() -> None:
    p = np.array([0.5] * 20 + [math.nan] * 5)
    y = [1, 0] * 10 + [0] * 5
    answers: Answers = answers_with(np.nan_to_num(p, nan=NEVER), probabilities=p)
    curve = calibration_figures(pool_of(y), answers)[1][RELIABILITY]
    assert curve["x"] == pytest.approx([0.5])
    assert curve["n"] == [20]
