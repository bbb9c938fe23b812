"""Segments: they cover a thread in order, within the bounds of the rule, and close where it says."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grooming_flag import Message
from grooming_flag.segments import SegmentRule

GAPS = st.sampled_from([0.0, 1.0, 59.0, 60.0, 61.0, 3600.0, -5.0])
ANY_MAX_GAP = st.sampled_from([None, 0.0, 60.0])
Times = list[float | None]


def said_at(times: Times) -> list[Message]:
    return [Message("a", "tea", time) for time in times]


def said(n: int) -> list[Message]:
    return said_at([None] * n)


@st.composite
def rules(draw: st.DrawFn, max_gap: st.SearchStrategy[float | None] = ANY_MAX_GAP) -> SegmentRule:
    least = draw(st.integers(0, 6))
    most = draw(st.integers(max(1, 2 * least), 20))
    return SegmentRule(most, least, draw(max_gap))


@st.composite
def clocks(draw: st.DrawFn) -> Times:
    """Return when messages were sent; some are not known."""
    times: Times = []
    now = draw(st.sampled_from([0.0, 1.7e9, -3.0]))
    for gap in draw(st.lists(GAPS, max_size=50)):
        now += gap
        times.append(draw(st.sampled_from([now, now, now, None])))
    return times


@given(clocks(), rules())
def test_segments_cover_all_messages_in_order_without_overlap(times: Times, rule: SegmentRule) -> None:
    segments = list(rule.split(said_at(times)))
    assert segments[0][0] == 0
    assert segments[-1][1] == len(times)
    assert all(before[1] == after[0] for before, after in pairwise(segments))
    assert all(start < stop for start, stop in segments) or not times


@given(clocks(), rules())
def test_no_segment_but_the_last_is_outside_the_bounds(times: Times, rule: SegmentRule) -> None:
    *others, last = rule.split(said_at(times))
    assert all(max(rule.min_messages, 1) <= stop - start <= rule.max_messages for start, stop in others)
    assert last[1] - last[0] < rule.max_messages + max(rule.min_messages, 1)
    assert last[1] - last[0] >= min(rule.min_messages, len(times))


@given(clocks(), rules(st.sampled_from([0.0, 60.0])))
def test_segments_that_are_not_full_close_at_gaps_and_no_gap_is_passed_over(times: Times, rule: SegmentRule) -> None:
    segments = list(rule.split(said_at(times)))
    for start, stop in segments:
        gaps = [i for i in range(start + 1, stop + 1) if is_gap(times, i, rule)]
        if stop < len(times) and stop - start < rule.max_messages:
            assert stop in gaps
        passed_over = [i for i in gaps if start + max(rule.min_messages, 1) <= i < stop]
        assert not passed_over or (stop == len(times) and stop - passed_over[0] < rule.min_messages)


def is_gap(times: Times, i: int, rule: SegmentRule) -> bool:
    if i == len(times) or rule.max_gap is None:
        return False
    before, after = times[i - 1], times[i]
    return before is not None and after is not None and after - before > rule.max_gap


@given(clocks(), rules(st.none()))
def test_without_a_gap_in_the_rule_the_clock_makes_no_difference(times: Times, rule: SegmentRule) -> None:
    assert list(rule.split(said_at(times))) == list(rule.split(said(len(times))))


@given(clocks(), rules(), st.sampled_from([-1e6, 1024.0, 2.0**30]))
def test_only_differences_of_times_count(times: Times, rule: SegmentRule, later: float) -> None:
    moved = [None if time is None else time + later for time in times]
    assert list(rule.split(said_at(moved))) == list(rule.split(said_at(times)))


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, [(0, 0)]),
        (1, [(0, 1)]),
        (10, [(0, 10)]),
        (11, [(0, 11)]),
        (13, [(0, 13)]),
        (14, [(0, 10), (10, 14)]),
        (20, [(0, 10), (10, 20)]),
        (23, [(0, 10), (10, 23)]),
        (24, [(0, 10), (10, 20), (20, 24)]),
    ],
)
def test_a_short_rest_joins_the_segment_before_it(n: int, expected: list[tuple[int, int]]) -> None:
    assert list(SegmentRule(10, 4).split(said(n))) == expected


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 1, 100, 101], [(0, 2), (2, 4)]),
        ([0, 1, 61, 62], [(0, 4)]),  # a gap of exactly the limit is none
        ([0, 100, 200, 300], [(0, 2), (2, 4)]),  # what is too short joins what follows
        ([0, 1, 100], [(0, 3)]),  # a short rest joins what is before it
        ([0, None, 100, 101], [(0, 4)]),
        ([0, 1, None, 101], [(0, 4)]),
        ([100, 101, 0, 1], [(0, 4)]),  # a clock that runs backwards makes no gap
    ],
)
def test_a_segment_closes_at_a_long_gap(times: Times, expected: list[tuple[int, int]]) -> None:
    assert list(SegmentRule(20, 2, 60.0).split(said_at(times))) == expected


def test_times_that_are_not_numbers_make_no_gap() -> None:
    assert list(SegmentRule(20, 1, 60.0).split(said_at([0.0, float("nan"), 1e9]))) == [(0, 3)]
