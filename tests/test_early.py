"""Earliness: a replay is the assessment of what was said so far; costs, delays and medians against slow loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from builders import model_of_words, small_model, thread
from hypothesis import example, given
from hypothesis import strategies as st
from pools import NEVER, answers_with, few_samples, one, pool_of
from strategies import conversations

from grooming_flag import Message, Thread
from grooming_flag.evaluation.answers import Answers, Replay
from grooming_flag.evaluation.early import (
    BATCH,
    GRID,
    early_figures,
    erde_costs,
    first_flags,
    latency_penalty,
    minutes_until,
    penalty_scale,
    replay,
    stream_threshold,
    weighted_median,
)
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.pool import Pool
from grooming_flag.segments import SegmentRule

INF = math.inf

# --- a replay ----------------------------------------------------------------------------------------------------


@st.composite
def rules(draw: st.DrawFn) -> SegmentRule:
    most = draw(st.integers(1, 8))
    return SegmentRule(most, draw(st.integers(0, most)), draw(st.sampled_from([None, 0.0, 60.0])))


@st.composite
def timed_threads(draw: st.DrawFn) -> Thread:
    """Return a thread of many messages, some with pauses before them and some without a time."""
    now, messages = 0.0, []
    for message in draw(conversations(max_size=25)):
        now += draw(st.sampled_from([0.0, 1.0, 60.0, 61.0, 9000.0, -5.0]))
        messages.append(replace(message, sent_at=draw(st.sampled_from([now, now, now, None]))))
    return Thread("t", messages)


@given(st.lists(timed_threads(), max_size=4), rules(), st.sampled_from([0, 3, 12]))
def test_a_replay_is_the_assessment_of_what_was_said_so_far(
    backend: str, found: list[Thread], rule: SegmentRule, min_amount: int
) -> None:
    model = small_model(rule=rule, min_amount=min_amount, sparse=True).replace()  # on this kernel
    for of_one, whole in zip(replay(model, found), found, strict=True):
        assert of_one.messages.tolist() == list(range(1, len(whole.messages) + 1))
        assert of_one.values.tolist() == [
            NEVER if p is None else p
            for k in of_one.messages.tolist()
            for p in [model.assess(replace(whole, messages=whole.messages[:k])).probability]
        ]


def test_threads_without_messages_and_more_threads_than_a_batch_are_replayed() -> None:
    model = model_of_words({"tea": 900, "kettle": -400}, segment_rule=SegmentRule(3, 2))
    threads = [thread(*["tea", "kettle", "garden"][: i % 4], "tea") for i in range(BATCH + 3)]
    threads = [replace(t, messages=t.messages[: i % 3]) for i, t in enumerate(threads)]
    found = replay(model, threads)
    assert [len(of_one.values) for of_one in found] == [len(t.messages) for t in threads]
    for of_one, whole in zip(found, threads, strict=True):
        if whole.messages:
            assert of_one.values[-1] == model.assess(whole).probability
    assert replay(model, []) == []
    assert [len(of_one.values) for of_one in replay(model, [Thread("t", [])] * 2)] == [0, 0]


@given(st.lists(conversations(max_size=8), max_size=4), st.booleans())
@example([[], [Message("a", "tea")], [Message(author, "the kettle") for author in "abacb"], []], False)
def test_what_is_made_of_each_beginning_is_what_is_made_of_it_alone(
    backend: str, runs: list[list[Message]], sparse: bool
) -> None:
    model = small_model(min_amount=0, sparse=sparse).replace()  # on this kernel
    for found, run in zip(model.running_inputs(runs), runs, strict=True):
        beginnings = [run[: k + 1] for k in range(len(run))]
        for column, expected in zip(found, model.calibration_inputs(beginnings), strict=True):
            assert column.tolist() == expected.tolist()
        for beginning, score, amount, lead in zip(beginnings, *found, strict=True):
            answer = model.assess(Thread("t", beginning))
            assert (score, lead) == (answer.score, answer.authors[0].score)
            assert model.calibration.probability(score, amount, lead) == answer.probability


@given(timed_threads(), rules())
def test_a_walk_tells_the_last_segments_of_every_beginning(found: Thread, rule: SegmentRule) -> None:
    messages = found.messages
    settled: list[tuple[int, int]] = []
    before = 0
    for i, (closed, start) in enumerate(rule.walk(messages)):
        assert 0 <= before <= closed <= start <= i
        if closed > before:
            settled.append((before, closed))
            before = closed
        assert [*settled, *rule.ends(closed, start, i + 1)] == list(rule.split(messages[: i + 1]))


# --- first flags -------------------------------------------------------------------------------------------------


def replays_of(*rows: Sequence[float]) -> list[Replay]:
    return [Replay(np.arange(1, len(row) + 1), np.array(row, dtype=np.float64)) for row in rows]


@given(st.lists(st.lists(st.sampled_from([NEVER, 0.0, 0.3, 0.5, 0.7]), max_size=6), max_size=8))
def test_the_first_flag_is_at_the_first_message_that_reaches_the_threshold(rows: list[list[float]]) -> None:
    expected = [next((k for k, value in enumerate(row, 1) if value >= 0.5), INF) for row in rows]
    assert first_flags(replays_of(*rows), 0.5).tolist() == expected


def test_the_beginnings_of_another_system_may_be_few() -> None:
    found = [Replay(np.array([10, 50, 200]), np.array([0.1, 0.9, 0.2])), Replay(np.array([], np.int64), np.array([]))]
    assert first_flags(found, 0.5).tolist() == [50, INF]


def test_the_stream_threshold_flags_at_most_so_many_threads_after_any_message() -> None:
    chance = np.random.default_rng(0)
    rows = chance.uniform(size=(3000, 6))
    pool = pool_of([0] * 2000 + [1] * 1000, lengths=[6] * 3000)
    threshold = stream_threshold(pool, replays_of(*rows), fpr=0.01)
    assert (rows[:2000].max(axis=1) >= threshold).sum() == 20
    assert (rows[:2000, -1] >= threshold).sum() < 20


# --- formulas ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "o", "cost"), [(5, 5, 0.5), (6, 5, 0.731059), (1, 5, 0.017986), (50, 50, 0.5), (1, 50, 0.0), (90, 50, 1.0)]
)
def test_the_cost_of_a_find_grows_from_nothing_to_that_of_a_miss(k: int, o: int, cost: float) -> None:
    assert erde_costs(np.array([k, INF]), np.array([True, False]), o)[0] == pytest.approx(cost, abs=1e-6)


@given(st.lists(st.tuples(st.one_of(st.just(INF), st.integers(1, 2000)), st.booleans()), min_size=1, max_size=20))
def test_costs_are_those_of_the_definition(rows: list[tuple[float, bool]]) -> None:
    firsts, risky = np.array([k for k, _ in rows], dtype=float), np.array([r for _, r in rows])
    for o in (5, 50):
        for cost, (k, is_risky) in zip(erde_costs(firsts, risky, o), rows, strict=True):
            if not is_risky:
                expected = 0.0 if k == INF else sum(risky) / len(risky)
            else:
                expected = 1.0 if k - o > 700 else 1.0 - 1.0 / (1.0 + math.exp(k - o))
            assert cost == pytest.approx(expected, abs=1e-12)


def test_the_penalty_is_nothing_at_the_first_message_and_one_half_at_the_median_length() -> None:
    pool = pool_of([1, 1, 1, 0], lengths=[10, 41, 300, 5])
    p = penalty_scale(pool)
    assert p == pytest.approx(math.log(3) / 40)
    assert latency_penalty(np.array([1.0, 41.0, 1e6]), p) == pytest.approx([0.0, 0.5, 1.0])
    k = 17
    assert latency_penalty(np.array([float(k)]), p)[0] == pytest.approx(-1 + 2 / (1 + math.exp(-p * (k - 1))))


def test_threads_of_one_message_have_a_penalty_too() -> None:
    assert math.isfinite(penalty_scale(pool_of([1, 1, 0], lengths=[1, 1, 1])))


@given(st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.5, 7.0, INF, math.nan]), st.integers(0, 4)), max_size=12))
def test_a_weighted_median_is_the_median_of_so_many_copies(rows: list[tuple[float, int]]) -> None:
    copies = [value for value, weight in rows for _ in range(weight) if not math.isnan(value)]
    found = weighted_median(np.array([v for v, _ in rows]), np.array([float(w) for _, w in rows]))
    assert found == pytest.approx(np.median(copies) if copies else math.nan, nan_ok=True)


@pytest.mark.parametrize(
    ("times", "first", "minutes"),
    [
        ([0.0, 60.0, 300.0], 3.0, 5.0),
        ([1.7e9, 1.7e9 + 90], 2.0, 1.5),
        ([0.0, 60.0], 1.0, 0.0),
        ([0.0, 60.0], INF, math.nan),
        ([None, 60.0], 2.0, math.nan),
        ([0.0, None, 60.0], 2.0, math.nan),
        ([0.0, None, 60.0], 3.0, 1.0),
    ],
)
def test_minutes_run_from_the_first_message(times: list[float | None], first: float, minutes: float) -> None:
    found = minutes_until(pool_of([1], times=[times]).threads, np.array([first]))
    assert found[0] == pytest.approx(minutes, nan_ok=True)


# --- figures -----------------------------------------------------------------------------------------------------

TIMES: list[list[float | None]] = [
    [0.0, 60.0, 120.0, 180.0],
    [0.0, 600.0],
    [None, None, None],
    [0.0, 60.0],
    [0.0],
    [0.0, 1.0],
]
ROWS = [[0.1, 0.9, 0.2, 0.8], [0.6, 0.7], [0.1, 0.2, 0.9], [0.1, 0.2], [0.9], [0.7, 0.1]]
RISKY = [1, 1, 1, 1, 0, 0]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the figures at .5, where risky threads are first flagged after 2, 1 and 3 messages, one not at all."""
    few_samples(monkeypatch, 200)
    return figures_of(pool_of(RISKY, times=TIMES), ROWS)


def figures_of(pool: Pool, rows: Sequence[Sequence[float]], threshold: float = 0.5) -> list[Figure]:
    return early_figures(pool, answered(rows, threshold))[0]


def answered(rows: Sequence[Sequence[float]], threshold: float = 0.5) -> Answers:
    return answers_with([row[-1] for row in rows], {"point": threshold}, replays=replays_of(*rows))


def test_figures_are_those_counted_by_hand(toy: list[Figure]) -> None:
    def value(measure: str) -> float | None:
        return one(toy, measure, at="point").value

    def cost(k: int, o: int) -> float:
        return 1 - 1 / (1 + math.exp(k - o))

    for o in (5, 50):
        finds = cost(2, o) + cost(1, o) + cost(3, o)
        assert value(f"ERDE_{o}") == pytest.approx((finds + 1 + 2 * 4 / 6) / 6)
    p = math.log(3) / (2.5 - 1)
    speed = 1 - (-1 + 2 / (1 + math.exp(-p * (2 - 1))))
    f1 = 2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4)
    assert one(toy, "p of the latency penalty").value == pytest.approx(p)
    assert value("speed") == pytest.approx(speed)
    assert value("latency-weighted F1") == pytest.approx(f1 * speed)
    assert value("median messages to the first flag") == 2
    assert value("median minutes to the first flag") == pytest.approx(0.5)  # of 1 and 0; one has no times
    assert one(toy, "median minutes to the first flag", at="point").n == 2
    assert value("recall over the stream") == pytest.approx(3 / 4)
    assert one(toy, "false-positive rate over the stream", at="point")[-2:] == (2, 2)
    assert value("share of final recall by message 10") == pytest.approx(1.0)


def test_flags_that_are_taken_back_count_over_the_stream_and_not_at_the_end(toy: list[Figure]) -> None:
    at_end = [row[-1] >= 0.5 for row in ROWS]
    assert at_end == [True, True, True, False, True, False]
    assert one(toy, "false-positive rate over the stream", at="point").value == 1.0


def test_the_share_of_final_recall_is_by_the_messages_of_the_first_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    rows = [[0.0] * (k - 1) + [0.9] for k in (5, 10, 11, 20, 30, 51, 60, 61)] + [[0.0] * 70]
    pool = pool_of([1] * 8 + [0], lengths=[len(row) for row in rows])
    found = figures_of(pool, rows)
    for k, share in ((10, 2 / 8), (20, 4 / 8), (50, 5 / 8)):
        assert one(found, f"share of final recall by message {k}", at="point").value == pytest.approx(share)


streams = st.lists(
    st.tuples(st.lists(st.sampled_from([NEVER, 0.1, 0.5, 0.9]), min_size=1, max_size=7), st.booleans()), max_size=10
)


@given(streams)
def test_figures_are_those_of_slow_loops(rows: list[tuple[list[float], bool]]) -> None:
    rows = [*rows, ([0.1, 0.9, 0.5], True)]
    pool = pool_of([int(risky) for _, risky in rows], lengths=[len(row) for row, _ in rows])
    with pytest.MonkeyPatch.context() as patch:
        few_samples(patch, 2)
        found, drawn = early_figures(pool, answered([row for row, _ in rows]))
    n_risky = sum(risky for _, risky in rows)
    firsts = [next((k for k, value in enumerate(row, 1) if value >= 0.5), None) for row, _ in rows]
    delays = sorted(k for k, (_, risky) in zip(firsts, rows, strict=True) if risky and k)
    false = sum(bool(k) for k, (_, risky) in zip(firsts, rows, strict=True) if not risky)
    precision, recall = len(delays) / (len(delays) + false), len(delays) / n_risky
    lengths = [len(row) for row, risky in rows if risky]
    p = math.log(3) / max(np.median(lengths) - 1, 1)
    speed = 1 - np.median([-1 + 2 / (1 + math.exp(-p * (k - 1))) for k in delays])
    assert one(found, "speed", at="point").value == pytest.approx(speed)
    f1 = 2 * precision * recall / (precision + recall)
    assert one(found, "latency-weighted F1", at="point").value == pytest.approx(f1 * speed)
    assert one(found, "median messages to the first flag", at="point").value == np.median(delays)
    assert one(found, "median minutes to the first flag", at="point").value is None
    curve = drawn["risky threads flagged by message, point"]
    assert curve["x"] == GRID.tolist()
    by = [sum(k <= x for k in delays) / n_risky for x in GRID.tolist()]
    assert curve["values"] == pytest.approx(by)


def test_curves_end_at_what_is_flagged_over_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    rows = [[0.0] * 999 + [0.9], [0.0] * 1000 + [0.9], [0.9], [0.0] * 30 + [0.9], [0.0]]
    pool = pool_of([1, 1, 1, 0, 0], lengths=[len(row) for row in rows])
    _, drawn = early_figures(pool, answered(rows))
    risky, other = (drawn[f"{kind} threads flagged by message, point"]["values"] for kind in ("risky", "other"))
    assert risky[0] == pytest.approx(1 / 3)
    assert risky[-1] == pytest.approx(2 / 3)  # the grid ends at 1,000 messages
    assert other[-1] == 0.5
    for values in (risky, other):
        assert (np.diff(values) >= 0).all()


def test_looking_at_every_message_has_a_threshold_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    chance = np.random.default_rng(5)
    rows = chance.uniform(0, 0.9, (1200, 3))
    rows[:200, 2] += 0.3
    pool = pool_of([1] * 200 + [0] * 1000, lengths=[3] * 1200)
    found = figures_of(pool, rows.tolist(), threshold=0.88)
    assert one(found, "false-positive rate over the stream", at="stream FPR 0.001 (set here)").hits == 1
    recalls = [
        one(found, "recall over the stream", at=at).value or 0.0 for at in ("point", "stream FPR 0.001 (set here)")
    ]
    assert recalls[0] > recalls[1]


@pytest.mark.parametrize("threshold", [2.0, 0.5])
def test_where_nothing_is_found_there_is_no_delay(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    found = figures_of(pool_of([1, 1, 0]), [[0.1] * 5, [NEVER] * 5, [threshold] * 5], threshold)
    assert one(found, "speed", at="point").value is None
    assert one(found, "latency-weighted F1", at="point").value == 0.0
    assert one(found, "median messages to the first flag", at="point").value is None
    assert one(found, "share of final recall by message 10", at="point").value is None
    assert one(found, "recall over the stream", at="point").value == 0.0


@pytest.mark.parametrize("answers", [answers_with([0.1, 0.9]), answered([[0.1], [0.9]])])
def test_without_replays_or_risky_threads_there_are_no_figures(answers: Answers) -> None:
    assert early_figures(pool_of([0, 0]), answers) == ([], {})
    if answers.replays is None:
        assert early_figures(pool_of([0, 1]), answers) == ([], {})


def test_a_model_is_judged_at_what_it_says_after_each_message() -> None:
    model = model_of_words({"clockwork": 30_000, "tea": -1}, segment_rule=SegmentRule(50, 5))
    early, late, never = thread("clockwork", *["tea"] * 9), thread(*["tea"] * 8, "clockwork", "tea"), thread("tea")
    assert first_flags(replay(model, [early, late, never]), 0.5).tolist() == [1, 9, INF]
