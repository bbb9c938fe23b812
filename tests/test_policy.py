"""Policies: what a file may say, which rule is for which thread, and when a flag goes up and comes down."""

from __future__ import annotations

import math

import pytest
from builders import error_of
from hypothesis import given
from hypothesis import strategies as st

from grooming_flag import PolicyError
from grooming_flag.calibration import log_odds
from grooming_flag.policy import FlagState, Rule, read_policy

WHOLE = """
format = 1
[default]
at = "balanced"
min_messages = 10
hysteresis = 1
cooldown_hours = 24

[[rule]]
name = "children"
when = { surface = "dm", age_band = ["under 13", "13-15"] }
at = "sensitive"
cooldown_hours = 0

[[rule]]
name = "channels"
when = { surface = "channel" }
threshold = 0.5

[[shadow]]
name = "lower"
threshold = 0.01
[[shadow]]
name = "next"
model = "models/next"
min_messages = 0
"""


def test_a_file_says_rules_in_order_and_what_they_leave_out_is_as_in_the_default() -> None:
    policy = read_policy(WHOLE)
    children, channels, default = policy.rules
    assert children == Rule(
        "children", "sensitive", {"surface": ("dm",), "age_band": ("under 13", "13-15")}, 10, 1.0, 0.0
    )
    assert channels == Rule("channels", 0.5, {"surface": ("channel",)}, 10, 1.0, 86_400.0)
    assert default == Rule("default", "balanced", {}, 10, 1.0, 86_400.0)
    lower, other = policy.shadows
    assert (lower.model, lower.rule.at, lower.rule.name) == (None, 0.01, "lower")
    assert (other.model, other.rule.at, other.rule.min_messages) == ("models/next", "balanced", 0)


@pytest.mark.parametrize(
    ("context", "name"),
    [
        ({}, "default"),
        ({"surface": "dm"}, "default"),
        ({"surface": "dm", "age_band": "16-17"}, "default"),
        ({"surface": "dm", "age_band": "13-15", "locale": "en-GB"}, "children"),
        ({"surface": "channel", "age_band": "13-15"}, "channels"),
    ],
)
def test_the_first_rule_that_holds_is_the_one(context: dict[str, str], name: str) -> None:
    assert read_policy(WHOLE).rule_for(context).name == name


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("format = 1", "format = 2"), "$.format"),
        (("format = 1", ""), "format"),
        (('at = "balanced"', 'at = "balanced"\nthreshold = 0.1'), "default: give either at or threshold"),
        (('at = "balanced"', ""), "give either at or threshold"),
        (("min_messages = 10", "min_messages = -1"), "$.default.min_messages"),
        (("min_messages = 10", "min_message = 10"), "min_message"),
        (("hysteresis = 1", 'hysteresis = "much"'), "$.default.hysteresis"),
        (("hysteresis = 1", "hysteresis = nan"), "hysteresis"),
        (("threshold = 0.5", "threshold = 1.5"), "$.rule[1].threshold"),
        (("threshold = 0.5", "threshold = nan"), "threshold"),
        (("surface", "place"), "$.rule[0].when"),
        (('name = "channels"', ""), "name"),
        (('name = "channels"', 'name = "children"'), "'children' is taken"),
        (('name = "channels"', 'name = "default"'), "'default' is taken"),
        (('name = "channels"', 'name = " "'), "$.rule[1].name"),
        (('name = "lower"', 'name = ""'), "$.shadow[0].name"),
        (('when = { surface = "channel" }', ""), "'channels' is for all threads"),
        (('when = { surface = "channel" }', "when = { surface = [] }"), "$.rule[1].when"),
        (('model = "models/next"', 'model = ""'), "$.shadow[1].model"),
        (("format = 1", "format = " + "[" * 20_000), "not TOML"),
        (("format = 1", "format = " + "1" * 5001), "not TOML"),
        (("[default]", "[defaults]"), "defaults"),
        (("[default]", "[default"), "not TOML"),
        (('model = "models/next"', "model = 3"), "$.shadow[1].model"),
        (("cooldown_hours = 24", "cooldown_hours = -1"), "$.default.cooldown_hours"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_its_key(change: tuple[str, str], told: str) -> None:
    assert change[0] in WHOLE
    error = error_of(lambda: read_policy(WHOLE.replace(*change, 1), "policy.toml"), PolicyError)
    assert str(error).startswith("policy.toml: ")
    assert told in str(error)


# --- flags -------------------------------------------------------------------------------------------------------

LOOKS = st.lists(st.one_of(st.none(), st.floats(0.0, 1.0)), max_size=30)
RULES = st.builds(
    Rule,
    st.just("r"),
    st.just("at"),
    min_messages=st.integers(0, 10),
    hysteresis=st.sampled_from([0.0, 0.5, 3.0]),
    cooldown=st.sampled_from([0.0, 5.0, math.inf]),
)


def states(rule: Rule, looks: list[float | None], threshold: float) -> list[FlagState]:
    """Return the flag after each look, one a second and after one message more each."""
    flag, found = FlagState(), []
    for second, probability in enumerate(looks):
        flag = rule.look(flag, probability, threshold, second + 1, float(second))
        found.append(flag)
    return found


@given(LOOKS, st.floats(0.0, 1.0))
def test_a_rule_that_says_no_more_flags_what_is_at_or_above_the_threshold(
    looks: list[float | None], threshold: float
) -> None:
    up = False
    for probability, state in zip(looks, states(Rule("r", threshold), looks, threshold), strict=True):
        up = up if probability is None else probability >= threshold
        assert state.is_up == up


@given(LOOKS, RULES, st.floats(0.0, 1.0))
def test_a_flag_goes_up_when_all_conditions_hold_and_comes_down_when_it_has_clearly_fallen(
    looks: list[float | None], rule: Rule, threshold: float
) -> None:
    before, raised = FlagState(), []
    for second, (probability, after) in enumerate(zip(looks, states(rule, looks, threshold), strict=True)):
        if after.is_up and not before.is_up:
            assert probability is not None
            assert probability >= threshold
            assert second + 1 >= rule.min_messages
            assert not raised or second - raised[-1] >= rule.cooldown
            assert after.raised_at == second
            raised.append(second)
        if before.is_up and not after.is_up:
            assert probability is not None
            assert log_odds(probability) < log_odds(threshold) - rule.hysteresis
        before = after


@given(LOOKS, RULES, st.floats(0.0, 1.0))
def test_more_patience_never_raises_more_flags(looks: list[float | None], rule: Rule, threshold: float) -> None:
    def n_raised(one: Rule) -> int:
        return len({state.raised_at for state in states(one, looks, threshold) if state.is_up})

    patient = Rule("r", "at", min_messages=rule.min_messages, hysteresis=50.0, cooldown=math.inf)
    assert n_raised(patient) <= min(1, n_raised(rule))
