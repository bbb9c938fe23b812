"""The whole evaluation: every number with its unit, count and interval; the same again; nothing dropped in silence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from builders import CANARY, COMMON, ORDINARY, PATTERN, error_of, labelled_threads, model_of_words, thread
from pools import small_evaluations

from grooming_flag import DataError, Message, Model, PolicyError, Thread
from grooming_flag.evaluation import protocol, robustness
from grooming_flag.evaluation.perturbations import PERTURBATIONS, perturb
from grooming_flag.evaluation.perturbations import perturbation as robustness_perturbation
from grooming_flag.evaluation.protocol import Scored, evaluate
from grooming_flag.fingerprints import Fingerprints
from grooming_flag.io.scores import ScoreRow
from grooming_flag.segments import SegmentRule

Sources = Mapping[str, Sequence[Thread]]
Row = dict[str, Any]
SIDES = ("suspects'", "partners'")
WEIGHTS = {**dict.fromkeys(PATTERN, 1500), **dict.fromkeys(ORDINARY, -700), **dict.fromkeys(COMMON, -40)}
SECTIONS_OF_MODELS = {
    "detection",
    "alerts",
    "calibration",
    "slices",
    "suspects",
    "early",
    "evidence",
    "perturbations",
    "templates",
    "audits",
}


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        small_evaluations(patch, 40)
        yield


def timed(threads: Sequence[Thread]) -> list[Thread]:
    """Return the threads with a message every minute, each of whose texts has a canary in it."""
    return [
        replace(
            t,
            messages=[Message(m.author, f"{m.text} {CANARY}", 60.0 * i, f"m{i}") for i, m in enumerate(t.messages)],
        )
        for t in threads
    ]


THREADS = timed(labelled_threads(60))
SOURCES = {"one": THREADS[:40], "two": THREADS[40:]}
CODED = {t.thread_id: [i % 3 == 0 for i in range(len(t.messages))] for t in THREADS if t.label}


def some_model(**changes: Any) -> Model:
    return model_of_words(WEIGHTS, segment_rule=SegmentRule(12, 4), min_amount=5, **changes)


@pytest.fixture(scope="module")
def of_model() -> Row:
    steps: list[tuple[str, int, int]] = []
    found = evaluate(SOURCES, some_model(), at="sensitive", coded=CODED, progress=lambda *step: steps.append(step))
    assert {"detection", "early detection", "perturbations", "templates", "audits"} <= {name for name, _, _ in steps}
    assert all(0 <= done <= total for _, done, total in steps)
    return found


def rows_of(score: Callable[[Thread], float | None], threads: Sequence[Thread] = THREADS) -> list[ScoreRow]:
    return [ScoreRow(t.thread_id, value) for t in threads if (value := score(t)) is not None]


def noisy(one: Thread) -> float:
    return random.Random(one.thread_id).gauss(1.5 * (one.label or 0), 1.0)


def other_score(t: Thread) -> float:
    return noisy(t) + random.Random(t.thread_id + "!").gauss(0, 2)


def judge(
    score: Callable[[Thread], float | None] = noisy, sources: Sources = SOURCES, name: str = "toy", **options: Any
) -> Row:
    threads = [t for of_source in sources.values() for t in of_source]
    return evaluate(sources, Scored(name, rows_of(score, threads)), **options)


def by_label(found: Row, *sections: str) -> dict[tuple[str, str, str, str], Row]:
    """Return the figures, of some sections if any are named, by what they are."""
    chosen = [f for f in found["figures"] if not sections or f["section"] in sections]
    labelled = {(f["section"], f["measure"], f["slice"], f["at"]): f for f in chosen}
    assert len(labelled) == len(chosen)
    return labelled


def figure(found: Row, measure: str, slice_: str = "all", at: str | None = None) -> Row:
    one: Row
    (one,) = [f for f in found["figures"] if (f["measure"], f["slice"]) == (measure, slice_) and at in (None, f["at"])]
    return one


def agree(ours: Row, theirs: Row) -> bool:
    """Say whether two figures are the same but for the last bits of a sum."""
    numbers = ("value", "low", "high")
    same = {key: value for key, value in ours.items() if key not in numbers} == {
        key: value for key, value in theirs.items() if key not in numbers
    }
    pairs = [(ours[key], theirs[key]) for key in numbers]
    return same and all(a == b or (None not in (a, b) and a == pytest.approx(b, abs=1e-9)) for a, b in pairs)


# --- what a figure is --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain() -> Row:
    return judge(at=1.0)


@pytest.fixture(scope="module")
def compared() -> Row:
    return judge(against=Scored("other", rows_of(other_score)), at=1.0)


@pytest.fixture(params=["of_model", "plain", "compared"])
def judged(request: pytest.FixtureRequest) -> Row:
    found: Row = request.getfixturevalue(request.param)
    return found


def test_every_figure_has_its_unit_its_count_and_an_interval_that_holds_it(judged: Row) -> None:
    by_label(judged)
    for one in judged["figures"]:
        assert one["section"]
        assert one["measure"]
        assert one["slice"]
        assert one["unit"] in {"thread", "alert", "review", "line", "template thread"}
        assert isinstance(one["n"], int)
        assert one["n"] >= 0
        if one["value"] is not None:
            assert one["n"] > 0, one
            assert one["low"] - 1e-9 <= one["value"] <= one["high"] + 1e-9, one
        if one["hits"] is not None and one["n"]:
            assert one["value"] == one["hits"] / one["n"]


def test_a_model_is_judged_in_every_respect(of_model: Row) -> None:
    assert {f["section"] for f in of_model["figures"]} == SECTIONS_OF_MODELS
    assert of_model["kind"] == "model"
    assert of_model["at"] == "sensitive"
    assert of_model["points"]["balanced"] == 0.4
    assert figure(of_model, "recall", at="sensitive")["value"] > 0.7
    assert figure(of_model, "false-positive rate", at="balanced")["value"] < 0.3


def test_the_result_is_json_and_says_of_what_it_is(judged: Row) -> None:
    again = json.loads(msgspec.json.encode(judged))
    assert again["format"] == protocol.FORMAT
    assert again["data"]["threads"] == 60
    assert again["data"]["risky"] == 30
    assert [(s["source"], s["threads"], s["risky"], s["persons"]) for s in again["data"]["sources"]] == [
        ("one", 40, 20, 40),
        ("two", 20, 10, 20),
    ]
    assert sum(s["messages"] for s in again["data"]["sources"]) == sum(len(t.messages) for t in THREADS)
    assert [f["value"] for f in again["figures"]] == [f["value"] for f in judged["figures"]]
    for curve in again["curves"].values():
        assert len({len(column) for column in curve.values()}) == 1


def test_no_text_is_in_the_result(judged: Row) -> None:
    written = msgspec.json.encode(judged).decode()
    assert CANARY not in written
    assert not any(word in written for word in ("marmalade", "tangerine", "clockwork", "homework"))


def test_rates_are_those_counted_by_hand(plain: Row) -> None:
    for source, threads in {**SOURCES, "all": THREADS}.items():
        flagged = [noisy(t) >= 1.0 for t in threads if t.label]
        name = "all" if source == "all" else f"{source}, all lengths"
        one = figure(plain, "recall", name, "threshold 1")
        assert (one["hits"], one["n"]) == (sum(flagged), len(flagged))
    alarms = [noisy(t) >= 1.0 for t in THREADS if not t.label]
    one = figure(plain, "false-positive rate", at="threshold 1")
    assert (one["hits"], one["n"]) == (sum(alarms), len(alarms))
    assert plain["points"]["threshold 1"] == 1.0


def test_the_suspect_after_some_messages_is_that_of_the_beginning_of_the_thread(of_model: Row) -> None:
    model = some_model()
    for source, threads in SOURCES.items():
        longer = [t for t in threads if t.label and len(t.messages) > 20]
        named = [model.assess(replace(t, messages=t.messages[:20])).suspect in t.suspects for t in longer]
        one = figure(of_model, "suspect named after 20 messages, of all", source)
        assert (one["hits"], one["n"]) == (sum(named), len(named))


def test_what_is_said_after_the_first_messages_does_not_help_to_name_the_suspect_early() -> None:
    texts = ["velvet" if i % 2 == 0 else "tea" for i in range(20)] + [
        "tea",
        "copper saddle orchard velvet thimble",
    ] * 10
    late = [thread(*texts, thread_id=f"late {i}", label=1, suspects=["a"]) for i in range(3)]
    found = evaluate({"one": [*THREADS[1:20:2], *late]}, some_model(), authors="thread")
    named = [
        figure(found, measure, "one")
        for measure in ("suspect named, of all", "suspect named after 20 messages, of all")
    ]
    assert [(one["hits"], one["n"]) for one in named] == [(0, 3), (3, 3)]


def flagged_alone(model: Model, threads: Sequence[Thread], side: str, at: str) -> list[bool]:
    """Return whether one side of each risky thread is flagged by itself, where there are two."""
    flags = []
    for t in threads:
        of_suspects = [m for m in t.messages if m.author in t.suspects]
        rest = [m for m in t.messages if m.author not in t.suspects]
        if t.label and of_suspects and rest:
            alone = of_suspects if side == "suspects'" else rest
            flags.append(model.assess(replace(t, messages=alone), at=at).flagged)
    return flags


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("at", ["balanced", "sensitive"])
def test_each_side_of_risky_threads_is_judged_alone(of_model: Row, side: str, at: str) -> None:
    for source, threads in SOURCES.items():
        flags = flagged_alone(some_model(), threads, side, at)
        one = figure(of_model, f"flagged, {side} side alone", source, at)
        assert (one["section"], one["hits"], one["n"]) == ("suspects", sum(flags), len(flags))


def test_threads_that_have_one_side_only_are_not_judged_by_their_sides() -> None:
    threads = {t.thread_id: t for t in THREADS[:12]}
    for name, author in (("t0", "left"), ("t2", "right")):
        said = [m for m in threads[name].messages if m.author == author]
        threads[name] = replace(threads[name], messages=said)
    threads["t4"] = replace(threads["t4"], suspects=())
    threads["t5"] = replace(threads["t5"], suspects=["left"])  # of a thread that is not risky
    sources = {"one": list(threads.values()), "two": [replace(t, suspects=()) for t in THREADS[12:16]]}
    model = model_of_words(dict.fromkeys(ORDINARY, 1500), min_amount=5)  # which partners say more of
    found = [f for f in evaluate(sources, model)["figures"] if f["measure"].endswith("side alone")]
    assert len(found) == len(SIDES) * len(model.operating_points)
    for side in SIDES:
        for at in model.operating_points:
            (one,) = [f for f in found if (f["measure"], f["at"]) == (f"flagged, {side} side alone", at)]
            flags = flagged_alone(model, sources["one"], side, at)
            assert (one["slice"], one["hits"], one["n"]) == ("one", sum(flags), 3)
    assert sum(f["hits"] for f in found if "partners'" in f["measure"]) > 0


@pytest.mark.parametrize("name", ["leet", "letters-spaced", "messages-split"])
def test_figures_of_perturbations_are_of_rewritten_threads_at_the_same_threshold(name: str, of_model: Row) -> None:
    model = some_model()

    def flags(threads: Sequence[Thread]) -> list[bool]:
        return [a.flagged for a in model.assess_many(threads, at="sensitive")]

    before, after = flags(THREADS), flags([perturb(t, [name], 0) for t in THREADS])
    flipped = sum(one != other for one, other in zip(before, after, strict=True))
    kept = sum(flag for flag, t in zip(after, THREADS, strict=True) if t.label)
    assert figure(of_model, "flags flipped", name)["hits"] == flipped
    assert figure(of_model, "recall", name)["hits"] == kept
    lost = sum(flag for flag, t in zip(before, THREADS, strict=True) if t.label) - kept
    assert figure(of_model, "recall lost", name)["value"] == pytest.approx(lost / 30)


def test_evidence_is_judged_by_the_marked_messages_of_flagged_threads(of_model: Row) -> None:
    model = some_model()
    first = []
    for t in THREADS:
        if t.label and model.assess(t, at="sensitive").flagged:
            sums: dict[Any, float] = {}
            for item in model.explain(t):
                sums[item.message_id] = sums.get(item.message_id, 0.0) + item.contribution
            strongest = max(sums, key=lambda k: sums[k])
            first.append(CODED[t.thread_id][int(str(strongest)[1:])])
    one = figure(of_model, "precision of the strongest 1", "flagged, with marked lines")
    assert (one["hits"], one["n"]) == (sum(first), len(first))


# --- the same again ----------------------------------------------------------------------------------------------


def test_the_number_of_processes_changes_nothing(of_model: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "CHUNK", 30)
    assert evaluate(SOURCES, some_model(), at="sensitive", coded=CODED, n_jobs=2) == of_model


def test_the_order_of_threads_changes_nothing(of_model: Row) -> None:
    chance = random.Random(0)
    shuffled = {name: chance.sample(list(SOURCES[name]), len(SOURCES[name])) for name in ("two", "one")}
    found = by_label(evaluate(shuffled, some_model(), at="sensitive", coded=CODED))
    expected = by_label(of_model)
    assert found.keys() == expected.keys()
    for label, one in found.items():
        assert label[0] == "audits" or agree(one, expected[label]), label  # fits depend on the order in their last bits


def test_another_seed_gives_other_intervals_of_the_same_values(plain: Row) -> None:
    one, other = by_label(plain), by_label(judge(seed=2, at=1.0))
    ours = {key: f["value"] for key, f in one.items() if key[0] != "audits"}
    assert ours == {key: f["value"] for key, f in other.items() if key[0] != "audits"}
    assert any(one[key]["low"] != other[key]["low"] for key in ours)


def test_a_model_and_its_own_scores_get_the_same_figures() -> None:
    model = some_model()
    rows = []
    for t in THREADS:
        for k in range(1, len(t.messages) + 1):
            a = model.assess(replace(t, messages=t.messages[:k]))
            rows.append(ScoreRow(t.thread_id, a.score, a.probability, a.suspect, k, a.abstained))
    judged = evaluate(SOURCES, model, at=0.3)
    assert judged["at"] == "threshold 0.3"
    assert {"balanced", "sensitive", "threshold 0.3"} <= judged["points"].keys()
    ours = by_label(judged)
    theirs = by_label(evaluate(SOURCES, Scored("file", rows), at=0.3))
    compared = {"detection", "alerts", "slices", "suspects", "early"}
    shared = [key for key in theirs if key[0] in compared]
    assert {key[0] for key in shared} == compared
    assert all(agree(ours[key], theirs[key]) for key in shared)
    missing = [key for key in ours if key[0] in compared and key not in theirs and key[3] == "threshold 0.3"]
    of_kinds, others = ([key for key in missing if (key[0] == "slices") == is_kind] for is_kind in (True, False))
    assert {name.split(":")[0] for _, _, name, _ in of_kinds} == {"unknown features"}
    assert {measure for _, measure, _, _ in others} == {f"flagged, {side} side alone" for side in SIDES}


# --- nothing is dropped in silence -------------------------------------------------------------------------------


def test_threads_without_a_score_are_misses_and_count(plain: Row) -> None:
    left_out = {t.thread_id for t in THREADS[::4]}  # all risky
    part = judge(lambda t: None if t.thread_id in left_out else noisy(t), at=1.0)
    ours, theirs = figure(part, "recall", at="threshold 1"), figure(plain, "recall", at="threshold 1")
    assert ours["n"] == theirs["n"] == 30
    assert ours["hits"] == theirs["hits"] - sum(noisy(t) >= 1.0 for t in THREADS[::4])
    assert figure(part, "ROC-AUC")["n"] == 60
    assert figure(part, "ROC-AUC")["value"] < figure(plain, "ROC-AUC")["value"]


def test_the_notes_tell_how_many_threads_have_no_score() -> None:
    found = judge(lambda t: None if t.thread_id in {"t0", "t4", "t8"} else noisy(t))
    assert any("3" in note and "score" in note for note in found["notes"])


def test_threads_on_which_a_system_abstained_are_not_flagged_and_count() -> None:
    rows = [
        ScoreRow(t.thread_id, 9.0, abstained=True) if i % 6 < 2 else ScoreRow(t.thread_id, noisy(t))
        for i, t in enumerate(THREADS)
    ]
    found = evaluate(SOURCES, Scored("toy", rows), at=-99.0)
    recall, alarms = (figure(found, name, at="threshold -99") for name in ("recall", "false-positive rate"))
    assert (recall["hits"], recall["n"]) == (alarms["hits"], alarms["n"]) == (20, 30)


@pytest.mark.parametrize("n_scored", [0, 2])
def test_a_system_that_says_hardly_anything_can_be_judged(n_scored: int) -> None:
    rows = [
        ScoreRow(t.thread_id, 1.0 if i < n_scored else None, abstained=i >= n_scored) for i, t in enumerate(THREADS)
    ]
    found = evaluate(SOURCES, Scored("toy", rows), at=0.5)
    assert figure(found, "recall", at="threshold 0.5")["n"] == 30


# --- generated threads -------------------------------------------------------------------------------------------

GENERATED = [
    *(thread("tea", "soup", thread_id=f"template/judging/picnic/{i}", label=0) for i in range(6)),
    *(thread("tea", "velvet", thread_id=f"template/training/harbour trip/{i}", label=1) for i in range(4)),
]


def test_a_model_is_not_judged_on_generated_threads_that_it_was_trained_on() -> None:
    made = [replace(t, thread_id=f"template/training/picnic/{t.thread_id}") for t in THREADS[:3]]
    model = some_model(fingerprints=Fingerprints.of(made))
    error = str(error_of(lambda: evaluate({**SOURCES, "made up": made}, model, at=0.5), DataError))
    assert "made up" in error


def test_generated_threads_alone_are_said_to_be_nothing_to_judge_on() -> None:
    error = str(error_of(lambda: evaluate({"made up": GENERATED}, some_model(), at=0.5), DataError))
    assert "10 generated ones" in error


def test_two_systems_are_compared_each_at_its_own_point(compared: Row, plain: Row) -> None:
    own = {
        (f["measure"], f["slice"]): f["value"]
        for f in compared["figures"]
        if f["section"] == "comparison" and f["at"] == "each at its own point"
    }
    for measure in ("recall", "false-positive rate"):
        mine = figure(compared, measure, at=compared["at"])["value"]
        assert own[measure, "toy minus other"] == pytest.approx(mine - own[measure, "other"])


def test_scores_of_other_threads_are_counted_in_a_note() -> None:
    rows = [*(ScoreRow(t.thread_id, noisy(t)) for t in THREADS), ScoreRow("ghost", 1.0)]
    assert any("1 threads that are not judged" in note for note in evaluate(SOURCES, Scored("toy", rows))["notes"])


def test_a_perturbation_that_fails_is_named_without_the_text_that_it_failed_on() -> None:
    @robustness_perturbation("fails here")
    def fails(thread: Thread, rng: random.Random) -> Thread:
        raise ValueError(thread.messages[0].text)

    canary = [replace(THREADS[0], messages=[Message("left", CANARY)]), *THREADS[1:]]
    try:
        error = error_of(lambda: evaluate({"one": canary}, some_model(), at=0.5), DataError)
    finally:
        del PERTURBATIONS["fails here"]
    assert "fails here" in str(error)
    assert error.__context__ is None
    assert CANARY not in str(error)


def test_generated_threads_are_judged_by_themselves_whatever_file_they_are_in(plain: Row) -> None:
    mixed = judge(
        lambda t: (1.0 if t.thread_id[-1] in "02" else 0.0) if t.thread_id.startswith("template/") else noisy(t),
        {"one": [GENERATED[0], *SOURCES["one"], *GENERATED[7:]], "two": SOURCES["two"], "made up": GENERATED[1:7]},
        at=1.0,
    )
    assert mixed["data"] == plain["data"]
    templates = by_label(mixed, "templates")
    assert {label: (f["hits"], f["n"], f["unit"]) for label, f in templates.items()} == {
        ("templates", "false-positive rate", "judging/picnic", "threshold 1"): (2, 6, "template thread"),
        ("templates", "recall", "training/harbour trip", "threshold 1"): (2, 4, "template thread"),
    }
    others = {label: f for label, f in by_label(mixed).items() if label[0] != "templates"}
    assert others == by_label(plain)


def test_a_model_is_judged_on_its_own_templates_and_on_those_given() -> None:
    found = by_label(evaluate({"one": THREADS, "made up": GENERATED}, some_model()), "templates")
    given = {label[2] for label in found if "/" in label[2]}
    assert given == {"judging/picnic", "training/harbour trip"}
    assert len({label[2] for label in found}) > 10


def test_a_generated_thread_without_a_label_is_refused() -> None:
    unlabelled = [replace(t, label=None) for t in GENERATED]
    error = str(error_of(lambda: judge(sources={**SOURCES, "made up": unlabelled}), DataError))
    assert "label" in error


def test_generated_threads_that_a_system_never_saw_say_nothing_of_it() -> None:
    found = judge(lambda t: None if "training" in t.thread_id else noisy(t), {**SOURCES, "made up": GENERATED}, at=1.0)
    assert {label[2] for label in by_label(found, "templates")} == {"judging/picnic"}
    assert not any("score" in note for note in found["notes"])


# --- two systems -------------------------------------------------------------------------------------------------


def test_a_system_compared_with_its_twin_differs_by_nothing() -> None:
    found = judge(against=Scored("twin", rows_of(noisy)))
    differences = [f for f in found["figures"] if f["slice"] == "toy minus twin"]
    assert len(differences) > 10
    defined = {(f["value"], f["low"], f["high"]) for f in differences if f["value"] is not None}
    assert defined == {(0.0, 0.0, 0.0)}


def test_a_comparison_tells_what_the_other_does_and_the_difference(plain: Row, compared: Row) -> None:
    other = by_label(judge(other_score, at=1.0), "detection", "alerts")
    ours = by_label(compared, "detection", "alerts")
    theirs = by_label(compared, "comparison")
    for (section, measure, where, at), one in other.items():
        name = measure if where == "all" else f"{measure}, {where}"
        if ("comparison", name, "other", at) not in theirs:
            continue
        found, gap = theirs["comparison", name, "other", at], theirs["comparison", name, "toy minus other", at]
        assert (found["value"], found["low"], found["high"]) == (one["value"], one["low"], one["high"])
        if one["value"] is None:
            assert gap["value"] is None
        else:
            assert gap["value"] == pytest.approx(ours[section, measure, where, at]["value"] - one["value"])
    assert compared["against"] == "other"
    assert theirs["comparison", "ROC-AUC", "toy minus other", ""]["low"] > 0
    sections = {f["section"] for f in plain["figures"]}
    assert by_label(compared, *sections) == by_label(plain)


def test_the_other_system_is_as_uncertain_as_it_is_by_itself() -> None:
    def strong(t: Thread) -> float:
        return 9.0 * (t.label or 0) + noisy(t)

    alone = figure(judge(strong, at=1.0), "precision", "base rate 0.01", "10 alerts per 10,000")
    beside = judge(against=Scored("other", rows_of(strong)), at=1.0)
    compared = figure(beside, "precision, base rate 0.01", "other", "10 alerts per 10,000")
    assert alone["value"] == compared["value"] == 1.0
    assert alone["low"] < 1.0
    assert compared["low"] == alone["low"]


def test_what_two_systems_share_cancels_out() -> None:
    chance = np.random.default_rng(0)
    luck = dict(zip((t.thread_id for t in THREADS), chance.normal(size=len(THREADS)), strict=True))
    near = Scored("near", rows_of(lambda t: 1.5 * (t.label or 0) + luck[t.thread_id] + 1e-3 * noisy(t)))
    found = judge(lambda t: 1.5 * (t.label or 0) + luck[t.thread_id], against=near)
    own, gap = figure(found, "ROC-AUC", "near"), figure(found, "ROC-AUC", "toy minus near")
    assert gap["high"] - gap["low"] < (own["high"] - own["low"]) / 5


def test_a_model_and_a_score_file_can_be_compared() -> None:
    model = some_model(name="words")
    ours = evaluate(SOURCES, model, Scored("other", rows_of(other_score)))
    theirs = judge(other_score, against=model, name="other")
    one, other = figure(ours, "ROC-AUC", "words minus other"), figure(theirs, "ROC-AUC", "other minus words")
    assert (one["value"], one["low"], one["high"]) == pytest.approx((-other["value"], -other["high"], -other["low"]))
    assert theirs["against"] == "words"


# --- input that is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({"one": [*THREADS[:20], replace(THREADS[20], label=None)]}, ["one", "t20", "no label"]),
        ({"one": THREADS[:20:2]}, ["10 threads", "10 are", "both"]),
        ({"one": THREADS[1:20:2]}, ["10 threads", "0 are", "both"]),
        ({"one": THREADS[:20], "two": THREADS[19:40]}, ["thread_id"]),
        ({"one": [*THREADS[:20], THREADS[3]]}, ["thread_id"]),
        ({"made up": GENERATED}, ["0 threads"]),
        ({}, ["0 threads"]),
    ],
)
def test_threads_that_cannot_be_judged_are_refused(sources: Sources, words: list[str]) -> None:
    for system in (Scored("toy", rows_of(noisy)), some_model()):
        error = str(error_of(lambda system=system: evaluate(sources, system), DataError))  # type: ignore[misc]
        assert all(word in error for word in words)
        assert CANARY not in error


def test_scores_of_other_threads_are_refused() -> None:
    rows = [ScoreRow(f"thread {i}", 1.0) for i in range(9)]
    assert "toy" in str(error_of(lambda: evaluate(SOURCES, Scored("toy", rows)), DataError))
    assert "other" in str(error_of(lambda: judge(against=Scored("other", rows)), DataError))


def test_rows_of_one_thread_that_do_not_say_which_is_which_are_refused() -> None:
    rows = [*rows_of(noisy), ScoreRow("t7", 0.5)]
    error = str(error_of(lambda: evaluate(SOURCES, Scored("toy", rows)), DataError))
    assert "t7" in error
    assert "n_messages" in error


def test_an_operating_point_that_is_not_there_is_refused() -> None:
    assert "strict" in str(error_of(lambda: evaluate(SOURCES, some_model(), at="strict"), PolicyError))
    assert "1.5" in str(error_of(lambda: evaluate(SOURCES, some_model(), at=1.5), PolicyError))


def test_a_model_is_not_judged_on_what_it_was_trained_on_unless_told_to() -> None:
    model = some_model(fingerprints=Fingerprints.of(THREADS[:3]))
    error = str(error_of(lambda: evaluate(SOURCES, model), DataError))
    assert "one: 3 of 40" in error
    found = evaluate(SOURCES, model, allow_seen=True)
    assert any("no measure of quality" in note for note in found["notes"])


def test_a_model_is_not_compared_with_one_that_was_trained_on_the_threads() -> None:
    other = some_model(name="other", fingerprints=Fingerprints.of(THREADS[:3]))
    error = str(error_of(lambda: judge(against=other), DataError))
    assert "other" in error


def test_annotations_of_another_version_of_a_thread_are_refused() -> None:
    short = {t.thread_id: [True] for t in THREADS}
    error = str(error_of(lambda: evaluate(SOURCES, some_model(), at="sensitive", coded=short), DataError))
    assert "t0" in error


def test_beginnings_longer_than_the_thread_are_refused() -> None:
    rows = [ScoreRow(t.thread_id, k + (t.label or 0), n_messages=60 * k) for t in THREADS for k in (1, 2)]
    error = str(error_of(lambda: evaluate(SOURCES, Scored("toy", rows)), DataError))
    assert "n_messages" in error


def test_a_model_can_be_judged_where_no_thread_is_long() -> None:
    short = [replace(t, messages=t.messages[:20]) for t in THREADS]
    found = evaluate({"one": short}, some_model())
    assert not any("after 20 messages" in f["measure"] for f in found["figures"])


# --- sources that have little --------------------------------------------------------------------------------------


def test_threads_of_one_kind_are_no_ground_for_rates_of_both() -> None:
    found = judge(sources={"one": THREADS[:40], "two": [t for t in THREADS[40:] if t.label]})
    without_benign = [
        f
        for f in found["figures"]
        if f["section"] == "audits" and f["slice"].startswith("other sources") and f["measure"] != "false-positive rate"
    ]
    assert {(f["measure"], f["value"]) for f in without_benign} <= {
        ("ROC-AUC", None),
        ("PR-AUC", None),
        ("recall", None),
    }


def test_rates_of_less_than_one_thread_are_not_measured_in_any_section(plain: Row) -> None:
    at_rates = [f for f in plain["figures"] if "FPR 0.0001" in f["at"] or "FPR 0.001" in f["at"]]
    assert {f["value"] for f in at_rates if f["section"] != "audits"} <= {None}


def test_a_source_without_risky_threads_has_no_recall() -> None:
    found = judge(sources={"one": THREADS[:40], "two": [t for t in THREADS[40:] if not t.label]}, at=1.0)
    of_source = {f["measure"] for f in found["figures"] if f["slice"].split(",")[0] == "two"}
    assert of_source == {"false-positive rate"}
    assert figure(found, "false-positive rate", "two", "threshold 1")["n"] == 10


def test_few_threads_and_those_without_times_can_be_judged() -> None:
    few = labelled_threads(8, n_messages=3)
    found = judge(sources={"one": few}, authors="thread", at=1.0)
    assert any("No shortcut audits" in note for note in found["notes"])
    assert figure(found, "recall", at="threshold 1")["n"] == 4
    assert judge(sources={"one": labelled_threads(40, n_messages=3)})["figures"]


def test_the_main_point_is_set_at_one_false_alarm_in_a_thousand_or_as_told(plain: Row) -> None:
    found = judge()
    by_label(found)  # no figure is there twice, as one of this point and as one of those that are set here
    assert found["at"] == "FPR 0.001 (set here)"
    highest = max(noisy(t) for t in THREADS if not t.label)
    assert found["points"][found["at"]] == np.nextafter(highest, np.inf)
    assert plain["at"] == "threshold 1"
