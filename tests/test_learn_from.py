"""Verdicts flow back: probabilities come to mean what moderators found, few verdicts change little, weights nothing."""

from __future__ import annotations

import json
import math
import random
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders import (
    CANARY,
    COMMON,
    bundled,
    error_of,
    model_of_words,
    needs_bundled_model,
    sentence,
    small_model,
    thread,
)
from cli import run
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from grooming_flag import DataError, Model, ModelError, load_model, save_model
from grooming_flag.calibration import Calibration, log_odds, recalibrated, sigmoid
from grooming_flag.evaluation.metrics import clopper_pearson, weighted_rate
from grooming_flag.evaluation.verdicts import confirm_rate, recall, tally
from grooming_flag.io.verdicts import Verdict
from grooming_flag.training import learn_from
from grooming_flag.training.learn import NO_SAMPLE, SD_OF_LOG_SLOPE, SD_OF_OFFSET, fit_recalibration, most_influential

THRESHOLD = 0.1
NUMBERS = count()
SLOPES, OFFSETS = st.floats(0.3, 3.0), st.floats(-3.0, 3.0)


def verdict(kind: str = "confirmed", probability: float | None = 0.5, **fields: Any) -> Verdict:
    row = {"thread_id": f"t{next(NUMBERS)}", "verdict": str(kind), "model": "small", **fields}
    return msgspec.convert({**row, "probability": None if probability is None else float(probability)}, Verdict)


def verdicts_of(confirmed: int, dismissed: int, probability: float | None = 0.5, **fields: Any) -> list[Verdict]:
    kinds = ["confirmed"] * confirmed + ["dismissed"] * dismissed
    return [verdict(kind, probability, **fields) for kind in kinds]


def platform(n: int, slope: float, offset: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return what a model says of the threads of a platform, few of them risky, and which are."""
    chance = np.random.default_rng(seed)
    x = chance.normal(-9.0, 3.0, n)
    return 1.0 / (1.0 + np.exp(-x)), chance.random(n) < 1.0 / (1.0 + np.exp(-slope * x - offset))


def reviewed(n: int, slope: float, offset: float, seed: int, n_sampled: int = 0) -> list[Verdict]:
    """Return the verdicts on all flagged threads of a platform, and on so many of the others."""
    probabilities, risky = platform(n, slope, offset, seed)
    flagged = probabilities >= THRESHOLD
    others = np.flatnonzero(~flagged)
    sampled = np.random.default_rng(seed).choice(others, n_sampled, replace=False)
    kinds = np.where(risky, "confirmed", "dismissed")
    share = n_sampled / len(others)
    return [verdict(kinds[i], probabilities[i]) for i in np.flatnonzero(flagged)] + [
        verdict(kinds[i], probabilities[i], selection="sample", selection_probability=share) for i in sampled
    ]


def figure(report: dict[str, Any], measure: str) -> dict[str, Any]:
    (found,) = [one for one in report["figures"] if one["measure"] == measure]
    return found


def slope_and_offset(report: dict[str, Any]) -> tuple[float, float]:
    return figure(report, "slope")["value"], figure(report, "offset")["value"]


# --- the map -----------------------------------------------------------------------------------------------------


@given(SLOPES, OFFSETS, st.floats(-30.0, 30.0), st.integers(0, 5000), st.floats(-9.0, 9.0))
def test_a_recalibration_is_one_map_of_log_odds_whatever_the_text(
    slope: float, offset: float, score: float, n: int, lead: float
) -> None:
    before = Calibration(0.3, -0.1, 0.4, 0.01, root=0.02, lead=0.1, no_lead=0.2)
    after = before.recalibrated(slope, offset)
    assert after.prior == before.prior
    assert after.probability(score, n, lead) == pytest.approx(
        recalibrated(before.probability(score, n, lead), slope, offset), rel=1e-6
    )


@given(st.floats(1e-6, 1.0 - 1e-6), SLOPES, OFFSETS)
def test_a_recalibration_is_undone_by_its_inverse(probability: float, slope: float, offset: float) -> None:
    there = recalibrated(probability, slope, offset)
    if 1e-12 < there < 1.0 - 1e-6:
        assert recalibrated(there, 1.0 / slope, -offset / slope) == pytest.approx(probability, rel=1e-6)


def test_thresholds_of_nothing_and_of_all_stay() -> None:
    assert (recalibrated(0.0, 0.5, 3.0), recalibrated(1.0, 0.5, -3.0)) == (0.0, 1.0)


# --- what is learnt ----------------------------------------------------------------------------------------------


def truths() -> list[Any]:
    return [pytest.param(a, b, id=f"{a:g},{b:g}") for a, b in ((1.0, 0.0), (0.8, -0.5), (1.2, -0.7), (1.0, -1.5))]


@pytest.mark.parametrize(("slope", "offset"), truths())
def test_the_truth_is_recovered_within_its_error_though_only_flagged_threads_were_reviewed(
    slope: float, offset: float
) -> None:
    covered = []
    for seed in range(60):
        _, report = learn_from(small_model(), reviewed(100_000, slope, offset, seed), "new")
        a, b = figure(report, "slope"), figure(report, "offset")
        covered.append((a["low"] <= slope <= a["high"], b["low"] <= offset <= b["high"]))
    assert np.mean(covered, axis=0).min() >= 0.85  # of 95 %: 60 draws and the pull to what the model says


@pytest.mark.parametrize(("slope", "offset"), truths())
def test_the_share_of_the_reviewed_taken_for_that_of_all_is_far_off_where_the_regression_is_not(
    slope: float, offset: float
) -> None:
    probabilities, risky = platform(400_000, slope, offset, 0)
    flagged = probabilities >= THRESHOLD
    verdicts = [
        verdict("confirmed" if y else "dismissed", p)
        for p, y in zip(probabilities[flagged], risky[flagged], strict=True)
    ]
    _, report = learn_from(small_model(), verdicts, "new")
    corrected = np.array([recalibrated(p, *slope_and_offset(report)) for p in probabilities])
    assert corrected.mean() == pytest.approx(risky.mean(), rel=0.15)
    assert risky[flagged].mean() > 20 * risky.mean()  # the naive prior


def test_a_sample_of_the_others_does_not_outweigh_the_flagged_threads() -> None:
    found, weighted = [], []
    for seed in range(20):
        verdicts = reviewed(100_000, 1.0, 0.0, seed, n_sampled=200)
        found.append(slope_and_offset(learn_from(small_model(), verdicts)[1]))
        stands_for = [round(1.0 / one.selection_probability) for one in verdicts]
        probabilities = np.repeat([one.probability for one in verdicts], stands_for).astype(np.float64)
        confirmed = np.repeat([one.verdict == "confirmed" for one in verdicts], stands_for)
        weighted.append(fit_recalibration(probabilities, confirmed)[:2])
    slope, offset = np.mean(found, axis=0)
    assert abs(slope - 1.0) < 0.05
    assert abs(offset) < 0.1
    assert abs(np.mean(weighted, axis=0)[0] - 1.0) > 0.2  # if each weighed as many as it stands for
    assert (np.std(weighted, axis=0) > 3 * np.std(found, axis=0)).all()


@pytest.mark.parametrize("kinds", [(1, 1), (2, 3), (3, 2), (1, 4)])
def test_few_verdicts_hardly_move_a_probability(kinds: tuple[int, int]) -> None:
    _, report = learn_from(small_model(), verdicts_of(*kinds), "new")
    slope, offset = slope_and_offset(report)
    assert slope == pytest.approx(1.0, abs=0.02)
    assert abs(recalibrated(0.5, slope, offset) - 0.5) < 0.08
    assert figure(report, "offset")["low"] < 0.0 < figure(report, "offset")["high"]


def test_more_verdicts_of_one_tenor_move_it_further_and_ever_closer_to_their_share() -> None:
    moved = [learn_from(small_model(), verdicts_of(n, 4 * n), "new")[1] for n in (1, 10, 100, 1000)]
    after = [recalibrated(0.5, *slope_and_offset(report)) for report in moved]
    assert after == sorted(after, reverse=True)
    assert after[0] > 0.4
    assert after[-1] == pytest.approx(0.2, abs=0.01)


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=2, max_size=30))
def test_whatever_was_said_the_slope_stays_above_nothing_and_all_is_finite(rows: list[tuple[float, bool]]) -> None:
    probabilities, confirmed = (np.array(column) for column in zip(*rows, strict=True))
    fitted = fit_recalibration(probabilities, confirmed.astype(bool))
    assert 0.0 < fitted.slope_95[0] < fitted.slope < fitted.slope_95[1] < math.inf
    assert -math.inf < fitted.offset_95[0] < fitted.offset < fitted.offset_95[1] < math.inf


@given(st.permutations(range(12)))
def test_the_order_of_verdicts_does_not_matter(order: list[int]) -> None:
    verdicts = [verdict("confirmed" if i % 3 else "dismissed", 0.1 + 0.07 * i) for i in range(12)]
    assert (
        learn_from(small_model(), [verdicts[i] for i in order], "new")[1]
        == learn_from(small_model(), verdicts, "new")[1]
    )


def flagged_in_part(confirmed: int, dismissed: int) -> list[Verdict]:
    """Return verdicts on flagged threads of a model that is right about them, the confirmed ones mostly above."""
    places = np.arange(confirmed) / confirmed, np.arange(dismissed) / dismissed
    return [verdict("confirmed", 0.2 + 0.75 * place) for place in places[0]] + [
        verdict("dismissed", 0.1 + 0.7 * place) for place in places[1]
    ]


def slip(probability: float = 2e-7) -> Verdict:
    return verdict("confirmed", probability, selection="sample", selection_probability=0.01)


@pytest.mark.parametrize(
    "right",
    [
        [*flagged_in_part(50, 30), *(verdict("dismissed", 1e-5, selection="sample") for _ in range(5))],
        [*verdicts_of(0, 5, 0.04), *verdicts_of(0, 4, 1e-5, selection="sample")],
    ],
    ids=["86 verdicts", "10 verdicts"],
)
def test_one_slip_hardly_moves_anything_however_sure_the_model_was(right: list[Verdict]) -> None:
    def fitted(verdicts: list[Verdict]) -> Any:
        confirmed = np.array([one.verdict == "confirmed" for one in verdicts])
        return fit_recalibration(np.array([one.probability for one in verdicts]), confirmed)

    for probability in (2e-7, 1e-5, 0.0):
        assert fitted([*right, slip(probability)])[:2] == pytest.approx(fitted(right)[:2], abs=0.04)


def test_threads_that_were_missed_again_and_again_count_though_one_would_pass_for_a_slip() -> None:
    others = [*flagged_in_part(50, 30), *verdicts_of(0, 200, 1e-5, selection="sample")]
    none, one, many = (
        slope_and_offset(learn_from(small_model(), [*others, *verdicts_of(n, 0, 1e-5, selection="sample")])[1])[0]
        for n in (0, 1, 20)
    )
    assert one > none - 0.05
    assert many < none - 0.3


def test_a_verdict_that_may_be_a_slip_is_named_with_recall_without_it() -> None:
    right = [*flagged_in_part(50, 30), *verdicts_of(0, 5, 1e-5, selection="sample", selection_probability=0.01)]
    _, report = learn_from(small_model(), [*right, slip()])
    assert report["contrary"] == 1
    (note,) = [one for one in report["notes"] if "slips" in one]
    assert "(the first: confirmed, sample, probability 2e-07)" in note
    assert "recall is 1.000 without them" in note
    _, clean = learn_from(small_model(), right)
    assert (clean["contrary"], clean["notes"]) == (0, [])


def test_the_verdict_on_which_most_depends_is_named_with_what_would_be_without_it() -> None:
    right = flagged_in_part(12, 12)
    doubtful = verdict("confirmed", 0.004, selection="sample")
    _, report = learn_from(small_model(), [*right, doubtful])
    told = report["without_one"]
    assert {key: told[key] for key in ("verdict", "selection", "probability")} == {
        "verdict": "confirmed",
        "selection": "sample",
        "probability": 0.004,
    }
    assert (told["slope"], told["offset"]) == slope_and_offset(learn_from(small_model(), right)[1])
    assert "Much depends on one verdict (confirmed, sample, probability 0.004)" in report["notes"][0]
    _, many = learn_from(small_model(), [*flagged_in_part(600, 600), doubtful])
    assert not [note for note in many["notes"] if "depends" in note]


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=3, max_size=12))
def test_no_other_verdict_moves_the_fit_much_more_than_the_one_that_is_named(rows: list[tuple[float, bool]]) -> None:
    probabilities, confirmed = (np.array(column) for column in zip(*rows, strict=True))
    fitted = fit_recalibration(probabilities, confirmed)
    named = most_influential(probabilities, confirmed, fitted)

    def moved(place: int) -> float:
        without = fit_recalibration(np.delete(probabilities, place), np.delete(confirmed, place))
        return math.hypot(
            math.log(without.slope / fitted.slope) / SD_OF_LOG_SLOPE, (without.offset - fitted.offset) / SD_OF_OFFSET
        )

    assert moved(named) >= 0.5 * max(map(moved, range(len(rows))))


def test_of_several_verdicts_on_a_thread_the_latest_counts_and_disagreement_is_told() -> None:
    later = [msgspec.structs.replace(one, reviewed_at=9.0) for one in verdicts_of(3, 9, 0.7)]
    opposite = {"confirmed": "dismissed", "dismissed": "confirmed"}
    before = [msgspec.structs.replace(one, reviewed_at=1.0, verdict=opposite[one.verdict]) for one in later[:4]]
    expected, alone = learn_from(small_model(), later)
    for verdicts in ([*before, *later], [*later, *before]):
        found, report = learn_from(small_model(), verdicts)
        assert found.calibration == expected.calibration
        assert report["verdicts"] == alone["verdicts"]
        assert (report["disagreeing"], alone["disagreeing"]) == (4, 0)
        assert "On 4 of the threads verdicts disagree; the latest on each counts." in report["notes"]


def test_unsure_verdicts_are_counted_and_teach_nothing() -> None:
    decided = verdicts_of(3, 5)
    _, alone = learn_from(small_model(), decided, "new")
    _, report = learn_from(small_model(), [*decided, *(verdict("unsure") for _ in range(50))], "new")
    assert report["verdicts"]["flagged"] == {"confirmed": 3, "dismissed": 5, "unsure": 50}
    assert report["figures"] == alone["figures"]


def test_the_mean_probability_of_reviewed_threads_comes_closer_to_the_share_that_was_confirmed() -> None:
    _, report = learn_from(small_model(), reviewed(50_000, 0.8, -0.7, 1), "new")
    confirmed = figure(report, "confirm rate")["value"]
    before, after = (figure(report, f"mean probability, {when}")["value"] for when in ("before", "after"))
    assert abs(after - confirmed) < 0.2 * abs(before - confirmed)


# --- the model ---------------------------------------------------------------------------------------------------


@cache
def learnt() -> tuple[Model, dict[str, Any]]:
    return learn_from(small_model(), [*verdicts_of(4, 9, 0.7, reviewed_at=7.0), verdict("unsure", None)], "new", ["ab"])


def test_no_weight_changes_and_every_point_flags_the_same_threads() -> None:
    before = model_of_words({word: 3000 * (i - 4) for i, word in enumerate(COMMON)})
    after, report = learn_from(before, verdicts_of(4, 9, 0.7), "new")
    assert (after.name, before.name) == ("new", "small")
    assert np.array_equal(before.weights, after.weights)
    assert {p.name: p.measured for p in after.operating_points.values()} == {
        p.name: p.measured for p in before.operating_points.values()
    }
    chance = random.Random(3)
    threads = [thread(*(sentence(chance, COMMON) for _ in range(chance.randint(1, 9)))) for _ in range(300)]
    for point in before.operating_points:
        old, new = (list(model.assess_many(threads, point)) for model in (before, after))
        assert [a.flagged for a in old] == [a.flagged for a in new]
        assert 0 < sum(a.flagged for a in old) < len(old)
    assert [a.score for a in old] == [a.score for a in new]
    slope, offset = slope_and_offset(report)
    assert [a.probability for a in new if a.probability is not None] == pytest.approx(
        [recalibrated(a.probability, slope, offset) for a in old if a.probability is not None]
    )


def test_the_prior_stays_and_restating_it_shifts_from_the_platform_of_the_verdicts() -> None:
    model = learnt()[0]
    prior = small_model().calibration.prior
    assert model.calibration.prior == prior
    other = model.with_prior(sigmoid(log_odds(prior) - 1.0))
    said, shifted = (one.calibration.probability(1.0, 30, 0.5) for one in (model, other))
    assert log_odds(shifted) == pytest.approx(log_odds(said) - 1.0)


def test_the_lineage_says_what_was_learnt_from_and_grows() -> None:
    model, report = learnt()
    (entry,) = model.lineage["recalibrated"]
    assert (entry["from"], entry["files"], entry["reviewed_at"]) == ("small", ["ab"], [7.0, 7.0])
    assert entry["verdicts"] == report["verdicts"] == tally([*verdicts_of(4, 9), verdict("unsure", None)])
    assert (entry["slope"], entry["offset"]) == slope_and_offset(report)
    again, _ = learn_from(model, verdicts_of(2, 1, model="new"), "newer")
    assert [one["from"] for one in again.lineage["recalibrated"]] == ["small", "new"]
    assert "recalibrated" not in small_model().lineage


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ([], "of 0 verdicts"),
        ([verdict("unsure") for _ in range(3)], "of 3 verdicts 0 are confirmed or dismissed"),
        (verdicts_of(2, 2, None), "none of them with a probability"),
        (verdicts_of(5, 0), "all 5 verdicts that count are confirmed"),
        (verdicts_of(0, 5), "all 5 verdicts that count are dismissed"),
        (
            [*verdicts_of(5, 5), verdict(model="large")],
            "1 of 11 verdicts are on what large said, and the model is small",
        ),
    ],
)
def test_what_nothing_can_be_learnt_from_is_refused(verdicts: list[Verdict], told: str) -> None:
    assert told in str(error_of(lambda: learn_from(small_model(), verdicts, "new"), DataError))


def test_verdicts_that_name_no_model_are_taken_as_they_are() -> None:
    assert learn_from(small_model(), verdicts_of(2, 3, model=None), "new")[0].name == "new"


def test_verdicts_may_be_a_stream_and_the_model_has_a_name_of_its_own() -> None:
    assert learn_from(small_model(), iter(verdicts_of(2, 3)))[0].name == "small-recalibrated"


def test_a_model_with_other_probabilities_needs_a_name_of_its_own() -> None:
    learnt_twice = learn_from(learnt()[0], verdicts_of(2, 3, model="new"), "newer")[0]
    for model, name in ((small_model(), "small"), (learnt_twice, "small"), (learnt_twice, "new")):
        verdicts = verdicts_of(2, 3, model=model.name)
        assert "another name" in str(error_of(partial(learn_from, model, verdicts, name), ModelError))


# --- rates and recall --------------------------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.001, 1.0))
def test_where_all_weigh_the_same_the_interval_is_that_of_clopper_and_pearson(
    hits: int, others: int, weight: float
) -> None:
    found = weighted_rate([True] * hits + [False] * others, [weight] * (hits + others))
    assert found[1:] == pytest.approx(clopper_pearson(hits, hits + others), abs=1e-9)


def test_units_of_unequal_weight_count_as_fewer() -> None:
    hits = [True, False] * 10
    even, uneven = (weighted_rate(hits, weights) for weights in ([1.0] * 20, [1.0, 1.0, 9.0, 9.0] * 5))
    assert even[0] == uneven[0] == 0.5
    assert uneven[1] < even[1] < even[2] < uneven[2]


def test_the_confirm_rate_leaves_samples_and_unsure_verdicts_out() -> None:
    found = confirm_rate([*verdicts_of(3, 1), verdict("unsure"), *verdicts_of(0, 7, selection="sample")])
    assert (found.value, found.hits, found.n) == (0.75, 3, 4)
    assert (found.low, found.high) == clopper_pearson(3, 4)


def test_without_a_sample_of_the_others_recall_is_unknown_and_it_says_how_to_draw_one() -> None:
    _, report = learn_from(small_model(), verdicts_of(4, 3), "new")
    assert report["notes"] == [NO_SAMPLE]
    assert "recall" not in [one["measure"] for one in report["figures"]]
    assert recall(verdicts_of(0, 5, selection="sample")) is None


def test_where_no_sampled_thread_was_confirmed_the_bound_on_misses_bounds_recall() -> None:
    n, share = 300, 0.01
    verdicts = [*verdicts_of(40, 10), *verdicts_of(0, n, selection="sample", selection_probability=share)]
    found = recall(verdicts)
    assert found is not None
    assert (found.value, found.high) == (1.0, 1.0)
    least = clopper_pearson(40, 50, 0.975)[0] * 50
    assert found.low == pytest.approx(least / (least + (1.0 - 0.0125 ** (1 / n)) * n / share))


def test_threads_of_a_sample_stand_for_those_that_were_not_drawn() -> None:
    sample = verdicts_of(1, 99, selection="sample", selection_probability=0.1)
    found = recall([*verdicts_of(30, 10), *sample])
    assert found is not None
    assert found.value == pytest.approx(30 / 40)  # the one that was missed stands for ten


def test_the_interval_of_recall_holds_the_truth_in_95_of_100_cases() -> None:
    held = []
    for seed in range(150):
        probabilities, risky = platform(20_000, 0.6, 0.5, seed)
        truth = risky[probabilities >= THRESHOLD].sum() / risky.sum()
        found = recall(reviewed(20_000, 0.6, 0.5, seed, n_sampled=400))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) >= 0.95


# --- the command -------------------------------------------------------------------------------------------------


def written(path: Path, verdicts: list[Verdict]) -> Path:
    rows = [msgspec.structs.replace(one, thread_id=f"{CANARY}{i}") for i, one in enumerate(verdicts)]
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def test_the_new_folder_is_the_old_one_with_another_calibration_and_a_card_that_says_so(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path / "small", "# small\nthe card\n", {"figures": [0.25]})
    file = written(tmp_path / "verdicts.jsonl", verdicts_of(4, 9, 0.7))
    ran = run("learn-from", file, "--model", tmp_path / "small", "-o", tmp_path / "new")
    assert ran.status == 0
    report = json.loads(ran.out)
    assert slope_and_offset(report) == pytest.approx(
        slope_and_offset(learn_from(small_model(), verdicts_of(4, 9, 0.7), "new")[1])
    )
    for name in ("weights.safetensors", "metrics.json"):
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "small" / name).read_bytes()
    card = (tmp_path / "new" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# small\nthe card\n")
    assert "Recalibrated on verdicts: new" in card
    assert "| flagged | 4 | 9 | 0 |" in card
    assert load_model(tmp_path / "new").name == "new"
    assert NO_SAMPLE in ran.err
    outputs = [ran.out, ran.err.encode(), *(path.read_bytes() for path in (tmp_path / "new").iterdir())]
    assert not [one for one in outputs if CANARY.encode() in one]


@needs_bundled_model
def test_the_bundled_model_learns_and_its_card_keeps_all_it_said(tmp_path: Path) -> None:
    file = written(tmp_path / "verdicts.jsonl", verdicts_of(30, 10, 0.9, model=bundled().name))
    assert run("learn-from", file, "-o", tmp_path / "mine").status == 0
    found = load_model(tmp_path / "mine")
    assert found.fingerprints is not None
    assert found.calibration.slope != bundled().calibration.slope


@pytest.mark.parametrize("verdicts", [verdicts_of(3, 0), verdicts_of(2, 2, None), verdicts_of(2, 2, model="large")])
def test_what_teaches_nothing_leaves_no_folder(tmp_path: Path, verdicts: list[Verdict]) -> None:
    save_model(small_model(), tmp_path / "small")
    file = written(tmp_path / "verdicts.jsonl", verdicts)
    ran = run("learn-from", file, "--model", tmp_path / "small", "-o", tmp_path / "new")
    assert (ran.status, len(ran.error_lines), ran.out) == (1, 1, b"")
    assert not (tmp_path / "new").exists()
    assert CANARY not in ran.err


def test_neither_the_model_nor_the_verdicts_are_overwritten(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path / "small")
    file = written(tmp_path / "verdicts.jsonl", verdicts_of(2, 3))
    for output in (tmp_path / "small", file):
        ran = run("learn-from", file, "--model", tmp_path / "small", "-o", output)
        assert ran.status == 1
        assert "is an input too" in ran.err
    assert load_model(tmp_path / "small").name == "small"


def test_no_model_is_replaced_since_verdicts_on_it_would_pass_for_verdicts_on_the_new_one(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path / "small")
    first, second = (written(tmp_path / f"{n}.jsonl", verdicts_of(2, n, 0.7)) for n in (3, 30))
    assert run("learn-from", first, "--model", tmp_path / "small", "-o", tmp_path / "m2").status == 0
    before = load_model(tmp_path / "m2").calibration
    ran = run("learn-from", second, "--model", tmp_path / "small", "-o", tmp_path / "m2")
    assert (ran.status, ran.out, len(ran.error_lines)) == (1, b"", 1)
    assert "holds a model of that name already" in ran.err
    assert "choose another name" in ran.err
    assert load_model(tmp_path / "m2").calibration == before


def test_files_may_be_given_in_any_order(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path / "small")
    files = [
        written(tmp_path / f"{n}.jsonl", verdicts_of(9 - n, n, 0.3 + n / 20, reviewed_at=float(n))) for n in (3, 5)
    ]
    folders = []
    for i, order in enumerate((files, files[::-1])):
        (tmp_path / str(i)).mkdir()
        assert run("learn-from", *order, "--model", tmp_path / "small", "-o", tmp_path / f"{i}/new").status == 0
        folders.append({path.name: path.read_bytes() for path in (tmp_path / f"{i}/new").iterdir()})
    assert folders[0] == folders[1]


def test_standard_input_is_wrong_usage(tmp_path: Path) -> None:
    assert run("learn-from", "-", "-o", tmp_path / "new").status == 2
