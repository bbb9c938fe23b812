"""The model: assessments and evidence of any thread, against sparse rows and plain arithmetic."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import asdict, astuple, fields, replace
from itertools import groupby

import numpy as np
import pytest
from builders import bundled, model_of_words, needs_bundled_model, small_model, thread
from conftest import interpreted_module
from hypothesis import assume, example, given
from hypothesis import strategies as st
from oracle import Settings, own_sums, pooled_buckets, pooled_sum, with_weight
from strategies import CLUSTERS, WORDS, conversations, messages, texts, threads

from grooming_flag import (
    Assessment,
    FeatureExtractor,
    Flag,
    Message,
    Model,
    ModelError,
    OperatingPoint,
    PolicyError,
    Thread,
    _answers,
    _kernel,
)
from grooming_flag.calibration import Calibration, log_odds, sigmoid
from grooming_flag.model import SegmentSums
from grooming_flag.segments import SegmentRule

MANY = SegmentRule(3, 1)  # so that short threads have several segments
PRIORS = st.floats(1e-9, 1.0 - 1e-9)
THRESHOLDS = st.floats(0.0, 1.0)
AMOUNTS = st.integers(0, 10**6)
SIZE = 1 if _kernel.compiled else 20  # large inputs are so many times smaller where the kernel is interpreted


def one_segment() -> Model:
    """Return a model for which the threads of `strategies.threads` are one segment."""
    return small_model(rule=SegmentRule(200, 20))


def settings_of(model: Model) -> Settings:
    return Settings(**model.extractor.get_params())


def segments_of(model: Model, found: Thread) -> list[Sequence[Message]]:
    return [found.messages[a:b] for a, b in model.segment_rule.split(found.messages)]


def row_score(model: Model, said: Sequence[Message]) -> float:
    return float((model.extractor.transform([Thread("t", said)]) @ model.coef[:, 0])[0] + model.intercept)


# --- the score ---------------------------------------------------------------------------------------------------


@given(threads())
def test_the_score_is_the_sparse_row_times_the_coefficients_to_the_last_bit(found: Thread) -> None:
    model = one_segment()
    assert model.assess(found).score == row_score(model, found.messages)


@needs_bundled_model
@given(threads())
def test_the_score_of_the_bundled_model_is_the_sparse_row_times_its_coefficients(found: Thread) -> None:
    assert bundled().assess(found).score == row_score(bundled(), found.messages)


@given(threads(max_size=12))
def test_the_score_and_the_authors_of_a_thread_are_those_of_its_strongest_segment(found: Thread) -> None:
    model = small_model(rule=MANY)
    answer = model.assess(found)
    segments = segments_of(model, found)
    scores = [row_score(model, segment) for segment in segments]
    assert answer.score == max(scores)
    start, stop = answer.segment
    strongest = segments[scores.index(max(scores))]  # the first of equally strong ones
    assert tuple(strongest) == found.messages[start:stop]
    assert {risk.author for risk in answer.authors} == {message.author for message in strongest}
    alone = model.replace(segment_rule=SegmentRule()).assess(replace(found, messages=strongest))
    assert answer.authors == alone.authors
    assert answer.probability == alone.probability


@given(threads())
def test_scores_of_risk_and_of_authors_are_sums_of_weights_as_the_oracle_adds_them(found: Thread) -> None:
    model = one_segment()
    pairs = [(message.author, message.text) for message in found.messages]
    settings, answer = settings_of(model), model.assess(found)
    assert answer.score == (pooled_sum(pairs, settings, model.weights) - 4321) * model.step
    own = [value * model.step * model.attribution_scale for value in own_sums(pairs, settings, model.weights)]
    assert sorted(risk.score for risk in answer.authors) == sorted(own)


@given(threads(max_size=12))
def test_an_answer_counts_messages_and_authors_of_the_whole_thread(found: Thread) -> None:
    answer = small_model(rule=MANY).assess(found)
    assert answer.n_messages == len(found.messages)
    assert answer.n_authors == len({message.author for message in found.messages})
    assert answer.thread_id == found.thread_id
    assert answer.model == "small"
    assert 0 <= answer.segment[0] <= answer.segment[1] <= answer.n_messages


@given(threads())
def test_label_suspects_and_person_of_a_thread_make_no_difference(found: Thread) -> None:
    told = replace(found, label=1, suspects=["author 1"], person="somebody")
    assert one_segment().assess(told) == one_segment().assess(found)


@given(threads(), st.lists(st.one_of(st.none(), st.floats()), min_size=6, max_size=6))
def test_without_gaps_in_the_rule_times_and_message_ids_make_no_difference(
    found: Thread, times: list[float | None]
) -> None:
    said = [replace(m, sent_at=t, message_id=f"m{t}") for m, t in zip(found.messages, times, strict=False)]
    assert one_segment().assess(replace(found, messages=said)) == one_segment().assess(found)


# --- evidence ----------------------------------------------------------------------------------------------------


@given(threads(max_size=12), st.sampled_from([MANY, SegmentRule()]))
def test_evidence_adds_up_to_the_score_less_the_intercept_exactly(found: Thread, rule: SegmentRule) -> None:
    model = small_model(rule=rule)
    evidence = model.explain(found)
    assert sum(item.contribution for item in evidence) == model.assess(found).score - model.intercept
    assert math.fsum(item.contribution for item in reversed(evidence)) == model.assess(found).score - model.intercept


@given(threads(max_size=12))
def test_every_span_lies_within_its_message_which_lies_within_the_segment(found: Thread) -> None:
    model = small_model(rule=MANY)
    start, stop = model.assess(found).segment
    for item in model.explain(found):
        assert isinstance(item.message_id, int)
        assert start <= item.message_id < stop
        message = found.messages[item.message_id]
        assert item.author == message.author
        assert 0 <= item.span[0] < item.span[1] <= len(message.text)


@given(threads())
def test_evidence_names_weighted_buckets_once_each_strongest_first(found: Thread) -> None:
    model = small_model(sparse=True)
    evidence = model.explain(found)
    names = [item.feature for item in evidence]
    assert len(set(names)) == len(names)
    row = model.extractor.transform([found])
    assert set(names) == {model.extractor.feature_name(b) for b in row.indices if model.weights[b, 0]}
    contributions = [item.contribution for item in evidence]
    assert contributions == sorted(contributions, reverse=True)
    assert all(item.contribution == model.coef[int(item.feature[1:], 16), 0] != 0 for item in evidence)


@given(threads())
def test_a_feature_is_evidence_in_the_first_message_that_has_it(found: Thread) -> None:
    model = one_segment()
    rows = [set(model.extractor.transform([Thread("t", [message])]).indices.tolist()) for message in found.messages]
    for item in model.explain(found):
        assert item.message_id == next(i for i, row in enumerate(rows) if int(item.feature[1:], 16) in row)


@given(threads(), st.integers(0, 20))
def test_the_top_of_the_evidence_is_its_beginning(found: Thread, top: int) -> None:
    assert one_segment().explain(found, top) == one_segment().explain(found)[:top]


def test_evidence_bears_the_message_ids_of_the_thread_or_else_places_in_the_whole_thread() -> None:
    model = model_of_words({"kettle": 5}, segment_rule=SegmentRule(2, 1))
    said = [Message("a", "tea"), Message("b", "tea"), Message("a", "garden"), Message("b", "the kettle")]
    (item,) = model.explain(Thread("t", said))
    assert (item.message_id, item.author, item.span, item.contribution) == (3, "b", (4, 10), 5 * model.step)
    (item,) = model.explain(Thread("t", [replace(m, message_id=f"m{i}") for i, m in enumerate(said)]))
    assert item.message_id == "m3"


# --- many threads ------------------------------------------------------------------------------------------------


@given(st.lists(threads(max_size=4), max_size=6), st.sampled_from([1, 2, 4]), st.sampled_from([MANY, SegmentRule()]))
def test_many_threads_get_the_answers_that_each_gets_alone(batch: list[Thread], n_jobs: int, rule: SegmentRule) -> None:
    model = small_model(rule=rule)
    assert list(model.assess_many(batch, n_jobs=n_jobs)) == [model.assess(one) for one in batch]


@pytest.mark.parametrize("n_jobs", [1, 2, 4])
def test_batches_and_threads_of_execution_make_no_difference(n_jobs: int) -> None:
    chance = random.Random(1)
    batch = [thread(*chance.choices([*WORDS, *CLUSTERS], k=3), thread_id=str(i)) for i in range(3000 // SIZE)]
    batch.insert(700 // SIZE, thread(*["tea", "kettle", "garden"] * (4000 // SIZE), thread_id="long"))
    model = small_model(rule=MANY)
    assert list(model.assess_many(iter(batch), 0.3, n_jobs)) == [model.assess(one, 0.3) for one in batch]


@pytest.mark.parametrize("n_jobs", [1, 4])
def test_threads_are_taken_as_answers_are_wanted(n_jobs: int) -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield thread("tea", thread_id=str(taken))

    answers = one_segment().assess_many(endless(), 0.5, n_jobs)  # type: ignore[arg-type]
    assert [next(answers).thread_id for _ in range(3)] == ["1", "2", "3"]
    assert taken < 10_000
    answers.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_no_threads_have_no_answers(n_jobs: int) -> None:
    assert list(one_segment().assess_many([], n_jobs=n_jobs)) == []


# --- authors -----------------------------------------------------------------------------------------------------


@given(threads(max_size=12), st.sampled_from([MANY, SegmentRule()]), st.randoms(use_true_random=False))
def test_renaming_authors_changes_nothing_but_the_names(
    found: Thread, rule: SegmentRule, chance: random.Random
) -> None:
    model = small_model(rule=rule)
    names = sorted({message.author for message in found.messages})
    others = [f"\ud800{number}" for number in range(len(names))]
    chance.shuffle(others)
    new = dict(zip(names, others, strict=True))
    renamed = replace(found, messages=[replace(m, author=new[m.author]) for m in found.messages])
    answer = model.assess(found)
    expected = replace(
        answer,
        suspect=None if answer.suspect is None else new[answer.suspect],
        authors=tuple(replace(risk, author=new[risk.author]) for risk in answer.authors),
    )
    assert model.assess(renamed) == expected
    assert model.explain(renamed) == [replace(item, author=new[item.author]) for item in model.explain(found)]


@given(threads())
def test_probabilities_of_suspects_sum_to_one_and_follow_the_scores(found: Thread) -> None:
    answer = one_segment().assess(found)
    risks = answer.authors
    assert sorted(risks, key=lambda risk: -risk.score) == list(risks)
    assert sorted(risks, key=lambda risk: -risk.probability) == list(risks)
    assert all(0.0 <= risk.probability <= 1.0 for risk in risks)
    if len(risks) > 1:
        assert math.fsum(risk.probability for risk in risks) == pytest.approx(1.0, abs=1e-12)
    if risks:
        assert (answer.suspect, answer.suspect_probability) == (risks[0].author, risks[0].probability)


@given(texts(), texts())
def test_log_odds_of_two_authors_are_the_difference_of_their_scores(one: str, other: str) -> None:
    first, second = one_segment().assess(thread(one, other)).authors
    assert first.probability + second.probability == pytest.approx(1.0, abs=1e-15)
    assume(0 < first.probability < 1)
    assert log_odds(first.probability) == pytest.approx(first.score - second.score, rel=1e-6, abs=1e-6)


@given(st.lists(texts(), min_size=1, max_size=4))
def test_an_author_alone_is_compared_with_one_who_wrote_nothing(said: list[str]) -> None:
    alone = one_segment().assess(thread(*said, authors=["a"]))
    beside = one_segment().assess(thread(*said, "", authors=["a"] * len(said) + ["b"]))
    assert [risk.author for risk in alone.authors] == ["a"]
    probability = next(risk.probability for risk in beside.authors if risk.author == "a")
    assert alone.suspect_probability == pytest.approx(probability, abs=1e-12)


def test_fifty_authors_share_one_probability() -> None:
    chance = random.Random(0)
    said = [Message(f"author {i}", chance.choice(WORDS)) for i in range(50)]
    answer = one_segment().assess(Thread("t", said * 2))
    assert answer.n_authors == len(answer.authors) == 50
    assert math.fsum(risk.probability for risk in answer.authors) == pytest.approx(1.0)


def test_weights_as_large_as_they_can_be_overflow_no_probability() -> None:
    model = model_of_words({"kettle": 2**15 - 1, "garden": -(2**15)}, step=1.0, attribution_scale=100.0)
    answer = model.assess(thread("kettle", "garden"), at=0.5)
    assert [risk.probability for risk in answer.authors] == [1.0, 0.0]
    assert 0.0 <= (answer.probability or 0.0) <= 1.0
    assert model.assess(thread("kettle", authors=["a"]), at=0.5).suspect_probability == 1.0
    assert model.assess(thread("garden", authors=["a"]), at=0.5).suspect_probability == 0.0


# --- probability, threshold and flag -----------------------------------------------------------------------------


@given(threads(), THRESHOLDS, THRESHOLDS)
def test_raising_the_threshold_never_adds_a_flag_and_changes_nothing_else(
    found: Thread, one: float, other: float
) -> None:
    low, high = (one_segment().assess(found, at) for at in sorted([one, other]))
    assert low.flagged >= high.flagged
    assert replace(low, flagged=high.flagged, threshold=high.threshold) == high


@given(threads())
def test_a_thread_is_flagged_at_its_own_probability_and_not_above_it(found: Thread) -> None:
    probability = one_segment().assess(found).probability
    assume(probability is not None and probability < 1)
    assert probability is not None
    assert one_segment().assess(found, probability).flagged
    assert not one_segment().assess(found, math.nextafter(probability, 2.0)).flagged


@given(threads(), st.sampled_from(["balanced", "sensitive", 0.0, 0.3, 1.0]))
def test_a_flag_says_what_the_assessment_says_and_is_there_if_the_thread_is_flagged(
    found: Thread, at: str | float
) -> None:
    answer = one_segment().assess(found, at)
    assert answer.operating_point == (at if isinstance(at, str) else None)
    if answer.flagged:
        assert isinstance(answer.flag, Flag)
        assert asdict(answer.flag) == {field.name: getattr(answer, field.name) for field in fields(Flag)}
        assert answer.flag.probability >= answer.flag.threshold
    else:
        assert answer.flag is None


@pytest.mark.parametrize("at", ["nowhere", "", "BALANCED", -0.1, 1.1, float("nan"), float("inf"), True])
def test_an_operating_point_that_is_none_is_refused(at: str | float) -> None:
    with pytest.raises(PolicyError):
        one_segment().assess(thread("tea"), at)
    with pytest.raises(PolicyError):
        list(one_segment().assess_many([], at))


def test_an_unknown_operating_point_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(PolicyError, match=r"'nowhere'.*balanced, sensitive"):
        one_segment().assess(thread("tea"), "nowhere")


@given(threads(), st.integers(0, 40))
def test_the_model_abstains_below_its_amount_of_distinct_weighted_buckets(found: Thread, least: int) -> None:
    model = small_model(min_amount=least, sparse=True)
    row = model.extractor.transform([found])
    amount = sum(bool(model.weights[bucket].any()) for bucket in row.indices)
    answer = model.assess(found, at=0.0)
    assert answer.abstained == (amount < least)
    assert (answer.probability is None) == answer.abstained
    assert answer.flagged == (not answer.abstained)
    if answer.probability is not None:
        lead = max((risk.score for risk in answer.authors), default=0.0)
        assert answer.probability == model.calibration.probability(answer.score, amount, lead)


@given(st.lists(conversations(6), max_size=4), st.booleans())
@example([[], [Message("a", "the kettle")], [Message("a", ""), Message("b", "tea"), Message("c", "garden")]], True)
def test_a_probability_is_made_of_score_amount_and_highest_author_as_the_oracle_adds_them(
    runs: list[list[Message]], sparse: bool
) -> None:
    model = small_model(min_amount=0, sparse=sparse)
    found = model.calibration_inputs(runs)
    assert [len(column) for column in found] == [len(runs)] * 3
    for run, score, amount, lead in zip(runs, *(column.tolist() for column in found), strict=True):
        pairs, settings = [(message.author, message.text) for message in run], settings_of(model)
        own = [value * model.step * model.attribution_scale for value in own_sums(pairs, settings, model.weights)]
        assert score == (pooled_sum(pairs, settings, model.weights) - 4321) * model.step
        assert amount == len(with_weight(pooled_buckets(pairs, settings), model.weights))
        assert lead == max(own, default=0.0)
        answer = model.assess(Thread("t", run))
        assert answer.probability == model.calibration.probability(score, amount, lead)


def test_a_thread_without_messages_abstains() -> None:
    expected = Assessment(
        thread_id="t",
        score=one_segment().intercept,
        probability=None,
        flagged=False,
        threshold=0.0,
        operating_point=None,
        suspect=None,
        suspect_probability=None,
        authors=(),
        abstained=True,
        segment=(0, 0),
        n_messages=0,
        n_authors=0,
        model="small",
    )
    answer = one_segment().assess(Thread("t", []), at=0.0)
    assert answer == expected
    assert answer.flag is None
    assert one_segment().explain(Thread("t", [])) == []


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\x00", "\ufe0f", "?!", "\ud800", "\udc00\ud83d", "\U0001f44b"])
def test_texts_without_words_abstain(text: str) -> None:
    answer = one_segment().assess(thread(text, text, text), at=0.0)
    assert (answer.probability, answer.flagged, answer.flag, answer.abstained) == (None, False, None, True)
    assert answer.score == one_segment().intercept
    assert one_segment().explain(thread(text, text, text)) == []


@given(st.lists(messages(), min_size=1, max_size=4), st.sampled_from(["\ud800", "\udfff", "\ud83d\ude00"]))
def test_lone_surrogates_are_punctuation_and_no_error(said: list[Message], surrogates: str) -> None:
    torn = [replace(message, text=f"{surrogates}{message.text}{surrogates}tea") for message in said]
    apart = [replace(message, text=re.sub("[\ud800-\udfff]", "!", message.text)) for message in torn]
    assert one_segment().assess(Thread("t", torn)) == one_segment().assess(Thread("t", apart))
    assert one_segment().explain(Thread("t", torn)) == one_segment().explain(Thread("t", apart))


# --- what adds nothing -------------------------------------------------------------------------------------------


@given(conversations(6), st.integers(1, 3), st.randoms(use_true_random=False))
def test_messages_that_are_said_again_add_no_evidence(said: list[Message], times: int, chance: random.Random) -> None:
    again = said * times
    chance.shuffle(again)
    once, more = Thread("t", said), Thread("t", said + again)
    answer = one_segment().assess(once)
    expected = replace(answer, n_messages=len(more.messages), segment=(0, len(more.messages)))
    assert one_segment().assess(more) == expected
    assert one_segment().explain(more) == one_segment().explain(once)


FOREIGN = [
    "\u043f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430?",
    "\u4f60\u597d\u5417",
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\u05e9\u05dc\u05d5\u05dd",
    "xqzvw kjhgf qqzzx",
    "bdfg hjkl mnpq",
    "\x00\x01\ufffe",
]


@given(
    st.lists(st.sampled_from(["the kettle", "garden tea", "lantern"]), min_size=1, max_size=4),
    st.lists(st.one_of(st.sampled_from(FOREIGN), st.text("xqzvwkj \u0436\u0449\u4f60", max_size=40)), max_size=6),
)
def test_text_without_known_features_changes_no_score_probability_or_suspect(said: list[str], extra: list[str]) -> None:
    model = model_of_words({"kettle": 700, "garden": -400, "lantern": 90, "tea": 33})
    before = model.assess(thread(*said), at=0.5)
    foreign = [Message("a" if i % 2 else said_by(said, i), text) for i, text in enumerate(extra)]
    after = model.assess(Thread("t", [*thread(*said).messages, *foreign]), at=0.5)
    kept = ("score", "probability", "flagged", "suspect", "suspect_probability", "authors", "abstained")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]


def said_by(said: list[str], i: int) -> str:
    return "b" if len(said) > 1 and i % 4 else "a"


@needs_bundled_model
@pytest.mark.parametrize("text", FOREIGN)
def test_the_bundled_model_abstains_on_a_few_words_that_are_not_english(text: str) -> None:
    assert bundled().assess(thread(text, text, text)).abstained


# --- large threads -----------------------------------------------------------------------------------------------


def test_ten_thousand_messages_are_assessed_and_explained() -> None:
    chance = random.Random(2)
    said = [Message(f"author {i % 7}", " ".join(chance.choices(WORDS, k=4))) for i in range(10_000 // SIZE)]
    model = small_model()
    found = Thread("t", said)
    answer = model.assess(found)
    assert (answer.n_messages, answer.n_authors) == (len(said), 7)
    assert 20 <= answer.segment[1] - answer.segment[0] < 220
    assert answer.score == max(row_score(model, segment) for segment in segments_of(model, found))
    assert sum(item.contribution for item in model.explain(found)) == answer.score - model.intercept


def test_a_message_of_one_megabyte_is_assessed_and_explained() -> None:
    chance = random.Random(3)
    text = " ".join(chance.choices([*WORDS, *CLUSTERS], k=200_000 // SIZE))[: 10**6 // SIZE]
    model = small_model(n_features=2**16)
    found = thread(text, "tea")
    answer = model.assess(found)
    assert answer.score == row_score(model, found.messages)
    assert sum(item.contribution for item in model.explain(found)) == answer.score - model.intercept


# --- calibration and prior ---------------------------------------------------------------------------------------


calibrations = st.builds(
    Calibration,
    slope=st.floats(1e-3, 5.0),
    amount=st.floats(-2, 2),
    intercept=st.floats(-9, 9),
    prior=PRIORS,
    root=st.floats(-1, 1),
    lead=st.floats(0, 5),
    no_lead=st.floats(0, 5),
)
scores = st.one_of(st.floats(-1e4, 1e4), st.sampled_from([-1e4, 1e4, 0.0, -0.0, 709.0, -709.0, -745.2, 36.8]))


@given(calibrations, st.lists(scores, min_size=2, max_size=2), st.lists(scores, min_size=2, max_size=2), AMOUNTS)
def test_a_higher_score_or_author_never_means_a_lower_probability(
    calibration: Calibration, of_thread: list[float], of_author: list[float], n: int
) -> None:
    low, high = sorted(of_thread)
    less, more = sorted(of_author)
    for lead in of_author:
        assert 0.0 <= calibration.probability(low, n, lead) <= calibration.probability(high, n, lead) <= 1.0
    for score in of_thread:
        assert 0.0 <= calibration.probability(score, n, less) <= calibration.probability(score, n, more) <= 1.0


@given(calibrations, st.floats(-5, 5), st.integers(0, 1000), st.floats(0.01, 5))
def test_authors_on_either_side_of_zero_have_terms_of_their_own(
    calibration: Calibration, score: float, n: int, lead: float
) -> None:
    without = replace(calibration, lead=0.0, no_lead=0.0)
    neither = without.probability(score, n)
    assert calibration.probability(score, n) == calibration.probability(score, n, 0.0) == neither
    assert replace(calibration, lead=0.0).probability(score, n, lead) == neither
    assert replace(calibration, no_lead=0.0).probability(score, n, -lead) == neither
    assume(1e-6 < neither < 1 - 1e-6)
    if calibration.lead > 0.01:
        assert calibration.probability(score, n, lead) > neither
    if calibration.no_lead > 0.01:
        assert calibration.probability(score, n, -lead) < neither


@given(calibrations, st.sampled_from([1e4, 1e5]), AMOUNTS)
def test_extreme_scores_have_probabilities(calibration: Calibration, score: float, n: int) -> None:
    assert 0.0 <= calibration.probability(-score, n) <= calibration.probability(score, n) <= 1.0
    steep = replace(calibration, slope=5.0)
    assert (steep.probability(-score, n), steep.probability(score, n)) == (0.0, 1.0)


@given(calibrations, st.floats(-5, 5), st.integers(0, 1000), st.floats(-5, 5))
def test_log_odds_are_the_sum_of_the_terms(calibration: Calibration, score: float, n: int, lead: float) -> None:
    calibration = replace(calibration, prior=0.3)
    terms = [
        calibration.slope * score,
        calibration.amount * math.log(1 + n),
        calibration.root * math.sqrt(1 + n),
        calibration.lead * max(lead, 0.0),
        calibration.no_lead * min(lead, 0.0),
        calibration.intercept,
        math.log(0.3 / 0.7),
    ]
    expected = math.fsum(terms)
    assume(abs(expected) < 15)
    assert log_odds(calibration.probability(score, n, lead)) == pytest.approx(expected, abs=1e-6)


@given(st.floats(1e-12, 1 - 1e-12))
def test_sigmoid_is_the_inverse_of_log_odds(probability: float) -> None:
    assert sigmoid(log_odds(probability)) == pytest.approx(probability, rel=1e-9)


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_prior_that_is_no_share_is_refused(prior: float) -> None:
    with pytest.raises(ModelError, match="prior"):
        one_segment().with_prior(prior)


@pytest.mark.parametrize("slope", [0.0, -1.0, float("nan")])
def test_a_slope_that_does_not_rise_is_refused(slope: float) -> None:
    with pytest.raises(ModelError, match="slope"):
        Calibration(slope)


@pytest.mark.parametrize("name", ["lead", "no_lead"])
@pytest.mark.parametrize("value", [-1e-9, -3.0])
def test_an_author_who_would_speak_against_the_pattern_is_refused(name: str, value: float) -> None:
    with pytest.raises(ModelError, match="below 0"):
        Calibration(**{name: value})


@pytest.mark.parametrize("name", ["slope", "amount", "intercept", "root", "lead", "no_lead"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_terms_that_are_not_finite_are_refused(name: str, value: float) -> None:
    with pytest.raises(ModelError, match="not finite"):
        Calibration(**{name: value})


@given(threads(), PRIORS, PRIORS)
def test_a_higher_prior_never_means_a_lower_probability(found: Thread, one: float, other: float) -> None:
    low, high = (one_segment().with_prior(prior).assess(found, 0.5).probability for prior in sorted([one, other]))
    assert (low is None and high is None) or (low is not None and high is not None and low <= high)


@given(threads(), st.floats(1e-6, 1 - 1e-6))
def test_a_prior_and_then_the_old_one_give_the_old_probabilities(found: Thread, prior: float) -> None:
    model = one_segment()
    back = model.with_prior(prior).with_prior(model.calibration.prior)
    before, after = model.assess(found), back.assess(found)
    assert after.score == before.score
    assert after.probability == (None if before.probability is None else pytest.approx(before.probability, abs=1e-9))
    for name, point in model.operating_points.items():
        assert back.operating_points[name].threshold == pytest.approx(point.threshold, abs=1e-9)


@given(threads(), st.floats(1e-6, 1 - 1e-6), st.sampled_from(["balanced", "sensitive"]))
def test_operating_points_flag_the_same_threads_at_any_prior(found: Thread, prior: float, at: str) -> None:
    before, after = one_segment().assess(found, at), one_segment().with_prior(prior).assess(found, at)
    assume(before.probability is None or abs(before.probability - before.threshold) > 1e-9)
    assert (after.flagged, after.operating_point) == (before.flagged, at)
    assert replace(after, probability=before.probability, flagged=before.flagged, threshold=before.threshold) == before


@given(st.floats(1e-6, 1 - 1e-6))
def test_what_was_measured_at_a_point_stays_true_at_any_prior(prior: float) -> None:
    restated = one_segment().with_prior(prior)
    for name, point in one_segment().operating_points.items():
        assert restated.operating_points[name].measured == point.measured
    assert restated.calibration.prior == prior


@given(st.floats(1e-6, 1 - 1e-6))
@example(0.1)
def test_thresholds_of_zero_and_one_stay_what_they_are(prior: float) -> None:
    ends = {name: OperatingPoint(name, float(name)) for name in ("0", "1")}
    restated = one_segment().replace(operating_points=ends).with_prior(prior)
    assert {name: point.threshold for name, point in restated.operating_points.items()} == {"0": 0.0, "1": 1.0}


# --- the model itself --------------------------------------------------------------------------------------------


def test_a_step_that_is_no_power_of_two_is_refused() -> None:
    for step in (0.0, -0.5, 0.1, 3.0, math.inf):
        with pytest.raises(ModelError, match="power of two"):
            small_model().replace(step=step)


def test_weights_of_another_shape_or_type_are_refused() -> None:
    weights = small_model().weights
    for wrong in (weights[:-1], weights[:, :1], weights.astype(np.int32), weights.T):
        with pytest.raises(ModelError, match="need int16"):
            small_model().replace(weights=wrong)


def test_points_and_lineage_of_a_model_cannot_be_changed() -> None:
    for mapping in (small_model().operating_points, small_model().lineage):
        with pytest.raises(TypeError):
            mapping["balanced"] = 0  # type: ignore[index]


def test_another_extractor_needs_weights_of_its_own() -> None:
    with pytest.raises(ModelError):
        small_model().replace(extractor=FeatureExtractor(2**8))


def test_coefficients_are_weights_times_a_power_of_two() -> None:
    model = small_model()
    assert model.coef.dtype == np.float64
    assert (model.coef / model.step == model.weights).all()
    assert model.intercept == -4321 * 2.0**-13


TERMS = st.tuples(*[st.floats(-3.0, 3.0)] * 7)
STEPS = st.integers(-(10**6), 10**6)


@given(TERMS, STEPS, st.integers(0, 5000), st.lists(STEPS, max_size=5), st.floats(0.1, 3.0), THRESHOLDS)
def test_sums_come_to_the_same_answer_to_the_bit_compiled_and_interpreted(
    terms: tuple[float, ...], risk: int, amount: int, own: list[int], scale: float, threshold: float
) -> None:
    sums = SegmentSums(0, 5, risk, amount, own, [f"author {i}" for i in range(len(own))])
    point = OperatingPoint("p", threshold)
    compiled, interpreted = (
        module.Answerer("m", 2.0**-13, scale * 2.0**-13, -4321, 40, terms).answer("t", sums, 5, len(own), point)
        for module in (_answers, interpreted_module("_answers"))
    )
    assert compiled == interpreted
    assert [type(value) for value in astuple(compiled)] == [type(value) for value in astuple(interpreted)]


@given(threads(), st.integers(0, 2**30))
def test_a_scanner_that_is_shared_forgets_what_it_saw(found: Thread, seed: int) -> None:
    model = one_segment()
    before = model.assess(found)
    model.assess(thread(*random.Random(seed).choices(WORDS, k=20)))
    assert model.assess(found) == before


def test_equal_scores_keep_the_order_of_appearance() -> None:
    model = model_of_words({"kettle": 5})
    names = ["zoe", "adam", "mia"]
    answer = model.assess(thread("kettle", "kettle", "kettle", authors=names), at=0.5)
    assert [risk.author for risk in answer.authors] == names
    assert [key for key, _ in groupby(risk.probability for risk in answer.authors)] == [pytest.approx(1 / 3)]
