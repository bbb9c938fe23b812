"""A platform that changes under a model is told from one that does not, whatever its size."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from builders import CANARY, COMMON, bundled, error_of, needs_bundled_model, sentence, small_model, write_threads
from cli import Ran, run
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from grooming_flag import DataError, Message, Thread
from grooming_flag.evaluation.changes import (
    difference_of_means,
    difference_of_shares,
    ratio_of_rates,
    stability_index,
)
from grooming_flag.evaluation.drift import QUANTITIES, drift
from grooming_flag.evaluation.metrics import clopper_pearson
from grooming_flag.evaluation.periods import Answers, Period, draw, read_answers, unknown_shares
from grooming_flag.io.scores import FlagRow, score_writer
from grooming_flag.io.verdicts import Verdict

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


def platform(
    chance: np.random.Generator,
    n: int = 5000,
    shift: float = 0.0,
    flagged: float = 0.01,
    abstained: float = 0.1,
    confirmed: float = 0.5,
    unknown: float = 0.01,
    n_verdicts: int = 200,
) -> Period:
    """Return what is known of so many invented threads: all five quantities, each with what is true of it."""
    n_abstained = chance.binomial(n, abstained)
    scores = np.floor(chance.normal(shift, 1.0, n - n_abstained) / 0.01).astype(int)
    answers = Answers("m", "balanced", n, int(chance.binomial(n, flagged)), int(n_abstained), Counter(scores.tolist()))
    kinds = np.where(chance.random(n_verdicts) < confirmed, "confirmed", "dismissed")
    verdicts = [
        msgspec.convert({"thread_id": "t", "verdict": str(kind), "probability": 0.5}, Verdict) for kind in kinds
    ]
    return Period(answers, verdicts, chance.gamma(2.0, unknown / 2.0, 500))


def changes(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["quantity"]: one for one in found["changes"]}


def alarms(reference: dict[str, float], window: dict[str, float], seeds: int) -> list[list[str]]:
    found = []
    for seed in range(seeds):
        chance = np.random.default_rng(seed)
        found.append(drift(platform(chance, **reference), platform(chance, **window))["alarms"])  # type: ignore[arg-type]
    return found


# --- how often it alarms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [50, 500, 50_000])
def test_where_nothing_changed_there_is_no_alarm_however_many_threads(n: int) -> None:
    assert sum(map(bool, alarms({"n": n}, {"n": n}, 200 if n < 50_000 else 40))) <= 2


def test_where_everything_changed_by_just_what_is_tolerated_at_most_5_of_100_windows_alarm() -> None:
    changed = {"shift": 0.3235, "flagged": 0.015, "abstained": 0.15, "confirmed": 0.6, "unknown": 0.015}  # PSI 0.1
    found = alarms({}, changed, 300)
    assert sum(map(bool, found)) / len(found) <= 0.05


@pytest.mark.parametrize(
    ("quantity", "changed"),
    [
        ("scores", {"shift": 0.5}),
        ("alerts", {"flagged": 0.025}),
        ("alerts", {"flagged": 0.003}),
        ("abstained", {"abstained": 0.2}),
        ("confirmed", {"confirmed": 0.2}),
        ("unknown", {"unknown": 0.02}),
    ],
)
def test_what_changed_by_more_than_is_tolerated_alarms_and_nothing_else_does(
    quantity: str, changed: dict[str, float]
) -> None:
    found = alarms({"n": 20_000, "n_verdicts": 400}, {"n": 20_000, "n_verdicts": 400, **changed}, 30)
    assert sum(one == [quantity] for one in found) >= 28


def test_a_change_within_what_is_tolerated_never_alarms_though_any_test_would_call_it_significant() -> None:
    found = drift(
        platform(np.random.default_rng(0), 400_000), platform(np.random.default_rng(1), 400_000, 0.1, flagged=0.012)
    )
    assert found["alarms"] == []
    assert changes(found)["scores"]["low"] > 0.0
    assert changes(found)["alerts"]["low"] > 1.0


def test_intervals_are_wider_the_more_is_compared() -> None:
    reference, window = (platform(np.random.default_rng(seed)) for seed in (0, 1))
    whole = drift(reference, window)
    part = drift(Period(reference.answers), Period(window.answers))
    assert (len(whole["changes"]), whole["level"]) == (5, pytest.approx(0.99))
    assert (len(part["changes"]), part["level"]) == (3, pytest.approx(1 - 0.05 / 3))
    assert changes(whole)["alerts"]["low"] < changes(part)["alerts"]["low"]


# --- the measures ------------------------------------------------------------------------------------------------


def held(draw: Callable[[np.random.Generator], tuple[float, float, float]], truth: float, times: int = 400) -> float:
    """Return how often an interval holds the truth."""
    inside = 0
    for seed in range(times):
        _, low, high = draw(np.random.default_rng(seed))
        inside += low <= truth <= high
    return inside / times


@pytest.mark.parametrize("change", [0.0, 0.2, 0.6])
def test_the_interval_of_the_stability_index_holds_that_of_the_platform(change: float) -> None:
    before, now = np.full(10, 0.1), np.full(10, 0.1) * (1.0 + np.linspace(-change, change, 10))
    truth = float(np.sum((now - before) * np.log(now / before)))

    def draw(chance: np.random.Generator) -> tuple[float, float, float]:
        return stability_index(chance.multinomial(2000, before), chance.multinomial(1000, now))

    assert held(draw, truth) >= 0.92


@pytest.mark.parametrize(("rate", "times"), [(0.001, 1.0), (0.01, 1.5), (0.002, 3.0), (0.2, 1.0)])
def test_the_interval_of_a_ratio_holds_that_of_the_platform(rate: float, times: float) -> None:
    def draw(chance: np.random.Generator) -> tuple[float, float, float]:
        hits, new_hits = chance.binomial(3000, rate), chance.binomial(2000, rate * times)
        return ratio_of_rates((int(hits), 3000), (int(new_hits), 2000))

    assert held(draw, times) >= 0.94


@pytest.mark.parametrize(("before", "now"), [(0.1, 0.1), (0.01, 0.06), (0.5, 0.4), (0.0, 0.0)])
def test_the_interval_of_a_difference_holds_that_of_the_platform(before: float, now: float) -> None:
    def draw(chance: np.random.Generator) -> tuple[float, float, float]:
        hits, new_hits = chance.binomial(200, before), chance.binomial(100, now)
        return difference_of_shares(
            (hits / 200, *clopper_pearson(hits, 200)), (new_hits / 100, *clopper_pearson(new_hits, 100))
        )

    assert held(draw, now - before) >= 0.94


def test_the_interval_of_a_difference_of_means_holds_that_of_the_platform() -> None:
    def draw(chance: np.random.Generator) -> tuple[float, float, float]:
        return difference_of_means(chance.gamma(2.0, 1.0, 300), chance.gamma(2.0, 1.5, 200))

    assert held(draw, 1.0) >= 0.92


@given(COUNTS, COUNTS)
def test_the_stability_index_is_never_below_nothing_and_lies_in_its_interval(
    reference: list[int], window: list[int]
) -> None:
    n = min(len(reference), len(window))
    one, other = np.array(reference[:n]), np.array(window[:n])
    value, low, high = stability_index(one, other)
    if one.any() and other.any():
        assert 0.0 <= low <= value <= high < math.inf
    else:
        assert math.isnan(value)


@given(st.integers(0, 50), st.integers(1, 1000), st.integers(0, 50), st.integers(1, 1000))
def test_a_ratio_lies_in_its_interval_and_its_inverse_in_the_inverse(
    hits: int, n: int, new_hits: int, new_n: int
) -> None:
    value, low, high = ratio_of_rates((hits, n), (new_hits, new_n))
    _, inverse_low, inverse_high = ratio_of_rates((new_hits, new_n), (hits, n))
    if hits or new_hits:
        assert low <= value <= high
    assert low * inverse_high == pytest.approx(1.0) or (low, inverse_high) == (0.0, math.inf)
    assert high * inverse_low == pytest.approx(1.0) or (high, inverse_low) == (math.inf, 0.0)


def test_means_that_do_not_vary_have_a_difference_without_doubt_and_single_ones_have_none() -> None:
    assert difference_of_means(np.zeros(5), np.ones(3)) == (1.0, 1.0, 1.0)
    assert math.isnan(difference_of_means(np.zeros(1), np.ones(3))[0])


# --- verdicts ----------------------------------------------------------------------------------------------------


def verdicts(confirmed: int, dismissed: int, probability: float, **fields: Any) -> list[Verdict]:
    kinds = ["confirmed"] * confirmed + ["dismissed"] * dismissed
    row = {"thread_id": "t", "probability": probability, **fields}
    return [msgspec.convert({**row, "verdict": kind}, Verdict) for kind in kinds]


def test_without_verdicts_of_before_the_share_confirmed_is_held_against_what_probabilities_promise() -> None:
    period = platform(np.random.default_rng(0))
    before = Period(period.answers)
    kept, broken = (drift(before, replace(before, verdicts=verdicts(180, 20, p))) for p in (0.88, 0.2))
    assert (kept["alarms"], broken["alarms"]) == ([], ["confirmed"])
    assert changes(kept)["confirmed"]["reference"] == {
        "value": pytest.approx(0.88),
        "low": None,
        "high": None,
        "n": 200,
    }
    assert changes(kept)["confirmed"]["change"] == pytest.approx(0.02)


def test_verdicts_that_decide_nothing_give_no_change_and_no_alarm() -> None:
    period = Period(platform(np.random.default_rng(0)).answers)
    (row,) = [
        one
        for one in drift(period, replace(period, verdicts=verdicts(3, 3, 0.5, selection="sample")))["changes"]
        if one["quantity"] == "confirmed"
    ]
    assert (row["change"], row["low"], row["high"], row["alarm"]) == (None, None, None, False)


def test_verdicts_of_another_model_are_refused() -> None:
    period = Period(platform(np.random.default_rng(0)).answers)
    other = replace(period, verdicts=verdicts(3, 3, 0.5, model="other"))
    assert "what other said" in str(error_of(lambda: drift(period, other), DataError))


# --- unknown n-grams ---------------------------------------------------------------------------------------------


def talk(n: int, words: Sequence[str], seed: int = 0) -> list[Thread]:
    chance = random.Random(seed)
    return [Thread(f"{CANARY}{i}", [Message("ab"[k % 2], sentence(chance, words)) for k in range(8)]) for i in range(n)]


def invented(n: int) -> list[str]:
    chance = random.Random(n)
    return ["".join(chance.choice("aeioubdgklmnprstz") for _ in range(chance.randint(4, 9))) for _ in range(n)]


def test_a_draw_of_threads_has_so_many_and_is_the_same_for_the_same_seed() -> None:
    model, threads = small_model(sparse=True), [one for word in COMMON for one in talk(20, [word])]
    all_, some, again, other = (
        unknown_shares(model, draw(threads, n, seed)) for n, seed in ((500, 0), (50, 0), (50, 0), (50, 1))
    )
    assert (len(all_), len(some)) == (240, 50)
    assert some.tolist() == again.tolist() != other.tolist()
    assert set(some.tolist()) <= set(all_.tolist())


def test_every_thread_is_as_likely_to_be_drawn() -> None:
    model = small_model(sparse=True)
    threads = [Thread(str(i), [Message("a", word)]) for i, word in enumerate(COMMON)]
    every = unknown_shares(model, threads)
    means = [unknown_shares(model, draw(threads, 3, seed)).mean() for seed in range(300)]
    assert np.mean(means) == pytest.approx(every.mean(), abs=3 * every.std() / math.sqrt(3 * 300))


# --- files and the command ---------------------------------------------------------------------------------------


def rows(n: int, seed: int, flagged: float = 0.02, abstained: float = 0.1, **fields: Any) -> list[dict[str, Any]]:
    chance = np.random.default_rng(seed)
    found = []
    for i, score in enumerate(chance.normal(-5.0, 2.0, n).tolist()):
        abstains = bool(chance.random() < abstained)
        flags = bool(not abstains and chance.random() < flagged)
        found.append(
            {
                "thread_id": f"{CANARY}{i}",
                "score": score,
                "probability": None if abstains else 0.5 if flags else 0.1,
                "flagged": flags,
                "operating_point": "balanced",
                "suspect": CANARY,
                "suspect_probability": 0.5,
                "abstained": abstains,
                "n_messages": 3,
                "n_authors": 2,
                "model": "m",
                **fields,
            }
        )
    return found


def written(path: Path, found: list[dict[str, Any]]) -> Path:
    with score_writer(path) as write:
        for row in found:
            write(row)
    return path


def monitor(*args: object) -> tuple[Ran, dict[str, Any]]:
    ran = run("monitor", *args)
    assert ran.status in (0, 3), ran.err
    assert CANARY not in ran.err
    assert CANARY.encode() not in ran.out
    return ran, json.loads(ran.out or b"{}")


def test_files_folders_and_parquet_are_read_as_the_same_threads(tmp_path: Path) -> None:
    found = rows(300, 0)
    whole = written(tmp_path / "whole.jsonl.gz".removesuffix(".gz"), found)
    parquet = written(tmp_path / "whole.parquet", found)
    folder = tmp_path / "parts"
    folder.mkdir()
    written(folder / "part-00000.jsonl", found[:100])
    written(folder / "part-00001.jsonl", found[100:])
    (folder / "manifest.json").write_text("{}")
    read = [read_answers(str(path)) for path in (whole, parquet, folder)]
    assert read[0] == read[1] == read[2]
    assert (read[0].n, read[0].n_flagged) == (300, sum(row["flagged"] for row in found))
    assert read[0].scores.total() == 300 - read[0].n_abstained


def test_two_halves_of_one_log_do_not_alarm_and_the_status_says_so(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a.jsonl", rows(2000, 0)), written(tmp_path / "b.jsonl", rows(2000, 1))
    ran, found = monitor(one, "--reference", other)
    assert (ran.status, found["alarms"]) == (0, [])
    assert found["threads"] == {"reference": 2000, "window": 2000}
    assert ran.error_lines[-1] == "2,000 threads against 2,000: 0 alarms"


@pytest.mark.parametrize(("fields", "alarm"), [({"flagged": 0.1}, "alerts"), ({"abstained": 0.4}, "abstained")])
def test_an_alarm_has_a_status_of_its_own_and_says_what_to_look_at(
    tmp_path: Path, fields: dict[str, float], alarm: str
) -> None:
    one, other = written(tmp_path / "a.jsonl", rows(2000, 0)), written(tmp_path / "b.jsonl", rows(2000, 1, **fields))
    ran, found = monitor(other, "--reference", one)
    assert (ran.status, found["alarms"]) == (3, [alarm])
    assert QUANTITIES[alarm].look in ran.err
    tolerated = "alerts=9,abstained=0.5"
    assert monitor(other, "--reference", one, "--tolerance", tolerated)[0].status == 0


@needs_bundled_model
def test_text_of_invented_words_alarms_and_other_text_of_the_same_kind_does_not(tmp_path: Path) -> None:
    scores = [written(tmp_path / f"{i}.jsonl", rows(300, i, model=bundled().name)) for i in range(2)]
    texts = {
        "before": talk(60, COMMON, 0),
        "now": talk(60, COMMON, 1),
        "other": talk(60, invented(200), 2),
    }
    files = {name: write_threads(tmp_path / f"{name}.threads.jsonl", threads) for name, threads in texts.items()}
    for name, status in (("now", 0), ("other", 3)):
        ran, found = monitor(
            scores[0], "--reference", scores[1], "--threads", files[name], "--reference-threads", files["before"]
        )
        assert (ran.status, found["alarms"]) == (status, ["unknown"] * (status == 3))


def test_results_go_to_a_file_or_a_folder_and_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one, other = written(tmp_path / "a.jsonl", rows(500, 0)), written(tmp_path / "b.jsonl", rows(500, 1))
    _, found = monitor(one, "--reference", other)
    for name, target in (("out.json", "out.json"), ("new/", "new/drift.json")):
        ran, _ = monitor(one, "--reference", other, "-o", f"{tmp_path}/{name}", "--plot", tmp_path / "drift.svg")
        assert ran.out == b""
        assert json.loads((tmp_path / target).read_bytes()) == found
    drawn = (tmp_path / "drift.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<?xml")
    assert all(name in drawn for name in ("scores", "alerts", "abstained", "multiples"))
    monitor(one, "--reference", other, "--plot", tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "drift.svg").read_bytes()


def test_flags_where_there_were_none_are_told_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one, other = (
        written(tmp_path / "a.jsonl", rows(500, 0, flagged=0.0)),
        written(tmp_path / "b.jsonl", rows(500, 1, 0.1)),
    )
    ran, found = monitor(other, "--reference", one, "--plot", tmp_path / "drift.svg")
    alerts = changes(found)["alerts"]
    assert (ran.status, found["alarms"], alerts["change"], alerts["high"]) == (3, ["alerts"], None, None)
    assert alerts["low"] > 1.5
    assert "ALARM" in (tmp_path / "drift.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"model": "n"}, "the reference is by m at balanced, the window by n at balanced"),
        ({"operating_point": "sensitive"}, "the window by m at sensitive"),
        ({"operating_point": None}, "a threshold without a name"),
        ({"flagged": True}, "without --only-flagged"),
        ({"score": None}, "line 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    one = written(tmp_path / "a.jsonl", rows(20, 0))
    other = written(tmp_path / "b.jsonl", [{**row, **changed} for row in rows(20, 1)])
    ran = run("monitor", other, "--reference", one)
    assert (ran.status, ran.out, len(ran.error_lines)) == (1, b"", 1)
    assert told in ran.err
    assert CANARY not in ran.err


def test_a_score_that_is_no_number_is_refused_with_its_place(tmp_path: Path) -> None:
    one = written(tmp_path / "a.parquet", [*rows(3, 0), *rows(1, 1, score=math.nan)])
    assert "a.parquet, row 4: the score is nan" in str(error_of(lambda: read_answers(str(one)), DataError))


def test_rows_of_two_models_in_one_window_are_refused_with_their_place(tmp_path: Path) -> None:
    one = written(tmp_path / "a.jsonl", [*rows(3, 0), *rows(1, 1, model="n")])
    other = written(tmp_path / "b.jsonl", rows(3, 1))
    ran = run("monitor", one, "--reference", other)
    assert ran.status == 1
    assert "a.jsonl, line 4: is by n at balanced, rows before by m at balanced" in ran.err


def test_no_scores_and_a_file_on_both_sides_are_refused(tmp_path: Path) -> None:
    one, empty = written(tmp_path / "a.jsonl", rows(3, 0)), written(tmp_path / "b.jsonl", [])
    assert "there are no scores" in run("monitor", empty, "--reference", one).err
    assert f"{one}: the file is given twice" in run("monitor", one, "--reference", one).err.replace("\n", "")


def test_the_highest_alone_are_no_window_though_not_all_of_them_are_flagged(tmp_path: Path) -> None:
    whole = rows(200, 0, abstained=0.0)
    for i, row in enumerate(whole):
        row |= {"probability": (i * 77 % 200) / 200, "flagged": (i * 77 % 200) / 200 >= 0.95}
    highest = sorted(whole, key=lambda row: -row["probability"])[:20]
    one, other = written(tmp_path / "a.jsonl", whole), written(tmp_path / "b.jsonl", highest)
    for window, reference in ((one, other), (other, one)):
        ran = run("monitor", window, "--reference", reference)
        assert (ran.status, ran.out, len(ran.error_lines)) == (1, b"", 1)
        assert f"{other}: the threads are in order of probability" in ran.err
        assert "give the scores of all threads" in ran.err
    few = written(tmp_path / "c.jsonl", highest[-7:])  # may be in order by chance
    assert run("monitor", few, "--reference", one).status in (0, 3)
    with_abstained = written(
        tmp_path / "d.jsonl", [*highest, {**highest[0], "probability": None, "abstained": True, "flagged": False}]
    )
    assert run("monitor", with_abstained, "--reference", one).status in (0, 3)


@pytest.mark.parametrize("sides", [(0.3, 0.7), (0.7, 0.3)])
def test_another_threshold_under_the_same_name_is_refused(tmp_path: Path, sides: tuple[float, float]) -> None:
    files = []
    for i, threshold in enumerate(sides):
        found = rows(300, i, abstained=0.0)
        for row, probability in zip(found, np.random.default_rng(i).random(300).tolist(), strict=True):
            row |= {"probability": probability, "flagged": probability >= threshold}
        files.append(written(tmp_path / f"{i}.jsonl", found))
    ran = run("monitor", files[0], "--reference", files[1])
    assert (ran.status, ran.out, len(ran.error_lines)) == (1, b"", 1)
    assert "the threshold of m at balanced was changed" in ran.err


def said(path: Path, ids: Sequence[str], kind: str = "confirmed", **fields: Any) -> Path:
    verdicts = [Verdict(thread_id=i, verdict=kind, probability=0.5, model="m", **fields) for i in ids]  # type: ignore[arg-type]
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in verdicts))
    return path


def test_only_verdicts_on_threads_of_the_window_count(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a.jsonl", rows(300, 0)), written(tmp_path / "b.jsonl", rows(300, 1))
    inside, outside = ([f"{CANARY}{name}{i}" for i in range(5)] for name in ("", "elsewhere"))
    mixed = said(tmp_path / "mixed.jsonl", [*inside, *outside])
    ran, found = monitor(one, "--reference", other, "--verdicts", mixed)
    assert changes(found)["confirmed"]["window"]["n"] == 5
    assert found["notes"] == ["5 verdicts of the window are on threads without scores there and do not count; 5 do."]
    assert found["notes"][0] in " ".join(ran.error_lines)
    for side in ("--verdicts", "--reference-verdicts"):
        files = {"--verdicts": mixed, side: said(tmp_path / "outside.jsonl", outside)}
        ran = run("monitor", one, "--reference", other, *(part for pair in files.items() for part in pair))
        assert (ran.status, ran.out, len(ran.error_lines)) == (1, b"", 1)
        assert "outside.jsonl: none of 5 verdicts is on a thread of" in ran.err
        assert CANARY not in ran.err


def test_of_verdicts_that_disagree_the_latest_counts_whatever_the_order_of_files(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a.jsonl", rows(300, 0)), written(tmp_path / "b.jsonl", rows(300, 1))
    ids = [f"{CANARY}{i}" for i in range(5)]
    early = said(tmp_path / "early.jsonl", ids, reviewed_at=1.0)
    late = said(tmp_path / "late.jsonl", ids[:2], "dismissed", reviewed_at=2.0)
    for files in ((early, late), (late, early)):
        _, found = monitor(one, "--reference", other, *(part for file in files for part in ("--verdicts", file)))
        assert changes(found)["confirmed"]["window"]["value"] == pytest.approx(0.6)
        assert found["notes"] == ["On 2 threads of the window verdicts disagree; the latest on each counts."]


@needs_bundled_model
@pytest.mark.parametrize("side", ["--threads", "--reference-threads"])
def test_threads_of_another_population_are_refused(tmp_path: Path, side: str) -> None:
    scores = [written(tmp_path / f"{i}.jsonl", rows(60, i, model=bundled().name)) for i in range(2)]
    threads = talk(60, COMMON)
    right = write_threads(tmp_path / "right.jsonl", threads)
    wrong = write_threads(
        tmp_path / "wrong.jsonl", [*threads, *(replace(one, thread_id=f"{one.thread_id}x") for one in threads[:3])]
    )
    files = {"--threads": right, "--reference-threads": right, side: wrong}
    ran = run("monitor", scores[0], "--reference", scores[1], *(part for pair in files.items() for part in pair))
    assert (ran.status, ran.out, len(ran.error_lines)) == (1, b"", 1)
    assert "wrong.jsonl: 3 of 63 threads drawn have no score in" in ran.err
    assert CANARY not in ran.err


def test_no_input_is_overwritten(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a.jsonl", rows(50, 0)), written(tmp_path / "b.jsonl", rows(50, 1))
    before = one.read_bytes()
    ran = run("monitor", one, "--reference", other, "-o", one)
    assert (ran.status, one.read_bytes()) == (1, before)


@pytest.mark.parametrize(
    "options",
    [
        ("--tolerance", "alerts=1"),
        ("--tolerance", "abstained=0"),
        ("--tolerance", "scores=much"),
        ("--tolerance", "mood=1"),
        ("--threads", "threads.jsonl"),
        ("--reference-verdicts", "verdicts.jsonl"),
        ("--plot", "drift.png"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_read(options: tuple[str, str]) -> None:
    assert run("monitor", "a.jsonl", "--reference", "b.jsonl", *options).status == 2


def test_scores_are_counted_in_steps_and_not_at_all_where_the_model_abstains() -> None:
    answers = Answers("m", None)
    for score, abstains in ((0.004, False), (0.006, False), (-0.001, False), (5.0, True)):
        answers.add(FlagRow("t", score, False, abstains, "m"))
    assert (answers.n, answers.n_abstained, dict(answers.scores)) == (4, 1, {0: 2, -1: 1})
    assert answers.median_score == 0.0


def test_where_all_abstain_the_scores_have_no_change() -> None:
    silent = Answers("m", None, 50, 0, 50)
    found = changes(drift(Period(silent), Period(silent)))
    assert (found["scores"]["change"], found["scores"]["alarm"]) == (None, False)
    assert found["abstained"]["change"] == 0.0


def test_ties_leave_bins_that_all_have_threads() -> None:
    tied: NDArray[np.int64] = np.repeat([0, 1, 2], [700, 200, 100])
    answers = Answers("m", None, 1001, 0, 1, Counter(tied.tolist()))
    (row,) = [one for one in drift(Period(answers), Period(answers))["changes"] if one["quantity"] == "scores"]
    assert (row["change"], row["low"]) == (0.0, 0.0)
