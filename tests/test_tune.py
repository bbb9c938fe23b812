"""Operating points for a target, and what policies would have flagged: by counting, on threads that are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from builders import error_of, labelled_threads, small_model, write_threads
from cli import run
from hypothesis import given
from hypothesis import strategies as st

from grooming_flag import DataError, Message, Model, PolicyError, Thread, load_model, save_model
from grooming_flag.evaluation.answers import Replay
from grooming_flag.evaluation.points import PER, at_capacity, at_fpr, at_precision, highest_values
from grooming_flag.evaluation.policies import courses, policy_figures
from grooming_flag.evaluation.pool import Pool
from grooming_flag.io.states import SqliteStore
from grooming_flag.io.threads import read_contexts
from grooming_flag.policy import OperatingPoint, Policy, Rule, Shadow
from grooming_flag.watcher import Watcher

THREADS = labelled_threads(30, seed=8)
VALUES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]), min_size=1, max_size=12)


def pool_of(n_ordinary: int, n_risky: int) -> Pool:
    labels = [0] * n_ordinary + [1] * n_risky
    return Pool.of({"s": [Thread(f"t{i}", [Message("a", "tea")], label) for i, label in enumerate(labels)]})


def outcome(point: OperatingPoint, ordinary: Sequence[float], risky: Sequence[float]) -> tuple[float, float]:
    """Return recall and false-positive rate at a threshold, by counting."""
    return np.mean(np.array(risky) >= point.threshold), np.mean(np.array(ordinary) >= point.threshold)


@given(VALUES, VALUES, st.floats(0.0, 1.0), st.sampled_from([0.001, 0.1, 0.5]), st.sampled_from(["p", "c"]))
def test_a_point_keeps_to_its_target_and_no_looser_one_does(
    ordinary: list[float], risky: list[float], target: float, prior: float, kind: str
) -> None:
    pool, values = pool_of(len(ordinary), len(risky)), np.array(ordinary + risky)

    def keeps(recall: float, fpr: float) -> bool:
        flagged = recall * prior + fpr * (1.0 - prior)
        if kind == "c":
            return PER * flagged <= PER * target
        return (flagged > 0.0 and recall * prior / flagged >= target) or target == 0.0

    at = at_precision if kind == "p" else at_capacity
    try:
        point = at("mine", pool, values, target if kind == "p" else PER * target, prior, {"on": "s"})
    except DataError:
        found = None
    else:
        found = outcome(point, ordinary, risky)
        assert keeps(*found)
        assert point.measured["recall"] == found[0]
        assert point.measured["fpr"] == found[1]
        assert point.measured["on"] == "s"
    for threshold in sorted({*values, 1.0} - {0.0}):
        other = outcome(OperatingPoint(None, threshold), ordinary, risky)
        if keeps(*other):
            assert found is not None
            assert found[0] >= other[0]


@given(VALUES, VALUES, st.floats(0.0, 1.0))
def test_a_point_for_a_false_positive_rate_keeps_to_it(ordinary: list[float], risky: list[float], fpr: float) -> None:
    point = at_fpr("mine", pool_of(len(ordinary), len(risky)), np.array(ordinary + risky), fpr, {})
    assert outcome(point, ordinary, risky)[1] <= fpr or point.threshold == 1.0


def test_the_highest_value_of_a_stream_is_that_after_enough_messages() -> None:
    replays = [
        Replay(np.arange(1, 5), np.array([-np.inf, 0.9, 0.2, 0.3])),
        Replay(np.arange(1, 2), np.array([-np.inf])),
    ]
    assert highest_values(replays).tolist() == [0.9, 0.0]
    assert highest_values(replays, 3).tolist() == [0.3, 0.0]
    assert highest_values(replays, 9).tolist() == [0.0, 0.0]


# --- policies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hysteresis", [0.0, 1.0])
def test_a_course_is_what_a_watcher_does(hysteresis: float, tmp_path: Path) -> None:
    model, other = small_model(), small_model(seed=1)
    rules = (
        Rule("dm", 0.02, {"surface": ("dm",)}, min_messages=3, hysteresis=hysteresis),
        Rule("default", 0.05, hysteresis=hysteresis, cooldown=60.0),
    )
    policy = Policy(rules, (Shadow(Rule("next", 0.02, min_messages=4), "n"),))
    threads = [
        Thread(one.thread_id, [Message(m.author, m.text, 20.0 * i) for i, m in enumerate(one.messages)], one.label)
        for one in THREADS
    ]
    contexts = {thread.thread_id: {"surface": "dm"} for thread in threads[::2]}
    found = courses(threads, contexts, policy, model, {"n": other})
    store = SqliteStore(tmp_path / "states.db")
    now = [0.0]
    watcher = Watcher(model, store, policy, {"n": other}, clock=lambda: now[0])
    n_raised = 0
    for thread, of_thread in zip(threads, found, strict=True):
        raised: dict[str, list[int]] = {course.rule: [] for course in of_thread}
        for message in thread.messages:
            now[0] = message.sent_at or 0.0
            for change in watcher.add(thread.thread_id, message, contexts.get(thread.thread_id)):
                if change.is_up:
                    raised[change.rule].append(change.assessment.n_messages)
        assert {course.rule: list(course.raised) for course in of_thread} == raised
        n_raised += sum(map(len, raised.values()))
        assert [course.is_shadow for course in of_thread] == [False, True]
        own = of_thread[0]
        assert own.at_end == model.assess(thread, at=0.02 if own.rule == "dm" else 0.05).flagged
    assert n_raised > 20
    store.close()


def test_figures_count_threads_and_flags_by_rule_and_label() -> None:
    policy = Policy((Rule("default", 0.02),), (Shadow(Rule("never", 1.0)),))
    found = courses(THREADS, {}, policy, small_model(), {})
    figures = {(f.at, f.slice, f.measure): f for f in policy_figures(Pool.of({"s": THREADS}), found)}
    for kind, label in (("ordinary", 0), ("risky", 1)):
        own = [of[0] for of, thread in zip(found, THREADS, strict=True) if thread.label == label]
        ever = figures["default", kind, "flagged at any message"]
        assert (ever.hits, ever.n) == (sum(bool(course.raised) for course in own), len(own))
        assert figures["default", kind, "flagged at the end"].hits == sum(course.at_end for course in own)
        assert figures["default", kind, "flags of a thread"].value == sum(len(c.raised) for c in own) / len(own)
        assert figures["never (shadow)", kind, "flagged at any message"].hits == 0


def test_an_operating_point_that_is_not_there_is_refused_even_without_threads() -> None:
    error_of(lambda: courses([], {}, Policy((Rule("default", "nowhere"),)), small_model(), {}), PolicyError)


def test_what_is_known_of_threads_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"thread_id": "a", "messages": [], "surface": "dm", "x": 1}\n{"thread_id": "b", "locale": null}\n')
    assert list(read_contexts(path)) == [("a", {"surface": "dm"}), ("b", {})]
    path.write_text('{"thread_id": "a", "surface": 7}\n')
    assert "t.jsonl, line 1" in str(error_of(lambda: list(read_contexts(path)), DataError))


# --- the commands ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(small_model(), tmp_path / "model", card="a card", metrics={"figures": []})
    return tmp_path / "model"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write_threads(tmp_path / "labelled.jsonl", THREADS)


def model_of(folder: Path) -> Model:
    return load_model(folder)


@pytest.mark.parametrize(
    "target",
    [
        ["--max-fpr", "0.2"],
        ["--min-precision", "0.4", "--prior", "0.3"],
        ["--capacity", "3000"],
        ["--max-fpr", "0.2", "--stream", "--min-messages", "3"],
    ],
)
def test_the_point_is_kept_in_the_model_folder_and_told(target: list[str], folder: Path, labelled: Path) -> None:
    before = model_of(folder)
    ran = run("tune", labelled, "--model", folder, "--name", "mine", *target)
    assert ran.status == 0, ran.err
    after = model_of(folder)
    point = after.operating_points["mine"]
    told = json.loads(ran.out)
    assert told["threshold"] == point.threshold
    assert {name: told[name] for name in point.measured} == dict(point.measured)
    assert dict(after.operating_points) == {**before.operating_points, "mine": point}
    assert (folder / "README.md").read_text().startswith("a card\n\n## Operating point mine\n")
    assert json.loads((folder / "metrics.json").read_text()) == {"figures": []}
    if "--stream" not in target:
        flagged = [a.flagged for a in after.assess_many(THREADS, at="mine")]
        n_false = sum(flag and not thread.label for flag, thread in zip(flagged, THREADS, strict=True))
        assert n_false == point.measured["false_positives"]
    assert "mine" in run("info", "--model", folder).out.decode()


def test_a_target_for_a_stream_is_kept_by_a_watcher(folder: Path, labelled: Path, tmp_path: Path) -> None:
    assert run("tune", labelled, "--model", folder, "--name", "mine", "--max-fpr", "0.2", "--stream").status == 0
    file = tmp_path / "policy.toml"
    file.write_text('format = 1\n[default]\nat = "mine"\n')
    lines = tmp_path / "courses.jsonl"
    ran = run("policy", "check", file, "--on", labelled, "--model", folder, "-o", lines)
    assert ran.status == 0, ran.err
    flagged = {json.loads(line)["thread_id"] for line in lines.read_text().splitlines()}
    ordinary = {thread.thread_id for thread in THREADS if not thread.label}
    assert 0 < len(flagged & ordinary) <= 0.2 * len(ordinary)
    assert f"{len(ordinary)} ordinary" in ran.out.decode()


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--max-fpr", "0.1", "--capacity", "7"],
        ["--max-fpr", "1.5"],
        ["--max-fpr", "0.1", "--prior", "0.1"],
        ["--capacity", "7", "--prior", "1"],
        ["--max-fpr", "0.1", "--min-messages", "3"],
        ["--max-fpr", "0.1", "--name", " "],
    ],
)
def test_wrong_targets_are_refused(wrong: list[str], folder: Path, labelled: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run("tune", labelled, "--model", folder, "--name", "mine", *wrong).status == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_point_of_that_name_is_replaced_only_when_asked(folder: Path, labelled: Path) -> None:
    before = model_of(folder).operating_points["balanced"]
    fixed = ["tune", labelled, "--model", folder, "--name", "balanced", "--max-fpr", "0.3"]
    assert run(*fixed).status == 2
    assert model_of(folder).operating_points["balanced"] == before
    assert run(*fixed, "--replace").status == 0
    assert model_of(folder).operating_points["balanced"] != before


def test_the_card_tells_of_the_latest_point_of_a_name(folder: Path, labelled: Path) -> None:
    for name, fpr in (("mine", "0.1"), ("other", "0.2"), ("mine", "0.4")):
        fixed = ["tune", labelled, "--model", folder, "--name", name, "--max-fpr", fpr, "--replace"]
        assert run(*fixed).status == 0
    card = (folder / "README.md").read_text()
    assert card.startswith("a card\n\n## Operating point other\n")
    assert card.count("## Operating point mine\n") == card.count("## Operating point ") - 1 == 1
    for name in ("mine", "other"):
        point = model_of(folder).operating_points[name]
        assert f"| threshold | {point.threshold:.6g} |" in card
        assert f"| target_fpr | {point.measured['target_fpr']} |" in card


def test_a_point_from_few_threads_or_that_finds_nothing_is_doubted(folder: Path, labelled: Path) -> None:
    ran = run("tune", labelled, "--model", folder, "--name", "mine", "--capacity", "0")
    assert ran.status == 0
    assert "warning: none of the 15 risky threads is flagged at mine" in ran.err
    assert "warning: 0 of 15 ordinary threads are flagged at mine; from so few the rate may be up to 0.22" in ran.err


def test_a_point_with_a_least_number_of_messages_says_that_it_needs_it(folder: Path, labelled: Path) -> None:
    fixed = ["tune", labelled, "--model", folder, "--name", "mine", "--max-fpr", "0.5", "--stream"]
    assert "min_messages = 9" in run(*fixed, "--min-messages", "9").err


def test_ordinary_threads_without_a_probability_choose_no_threshold(folder: Path, tmp_path: Path) -> None:
    quiet = [Thread(f"q{i}", [Message("a", "")], 0) for i in range(20)]
    path = write_threads(tmp_path / "quiet.jsonl", [*quiet, *(thread for thread in THREADS if thread.label)])
    for target in (["--max-fpr", "0.1"], ["--max-fpr", "0.1", "--stream"], ["--capacity", "50"]):
        ran = run("tune", path, "--model", folder, "--name", "mine", *target)
        assert ran.status == 1
        assert "abstains on all ordinary threads" in ran.err


def test_threads_of_one_label_are_refused(folder: Path, tmp_path: Path) -> None:
    path = write_threads(tmp_path / "one.jsonl", [thread for thread in THREADS if thread.label])
    ran = run("tune", path, "--model", folder, "--name", "mine", "--max-fpr", "0.1")
    assert ran.status == 1
    assert "both 0 and 1" in ran.err


def test_a_policy_is_checked_without_threads(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('format = 1\n[default]\nat = "nowhere"\n')
    ran = run("policy", "check", file, "--model", folder)
    assert ran.status == 1
    assert "rule default" in ran.err
    file.write_text('format = 1\n[default]\nat = "balanced"\n')
    ran = run("policy", "check", file, "--model", folder)
    assert (ran.status, ran.out) == (0, b"")
    assert "rules: 1, shadows: 0" in ran.err
    file.write_text(file.read_text() + '[[shadow]]\nname = "next"\nmodel = "nowhere"\n')
    ran = run("policy", "check", file, "--model", folder)
    assert ran.status == 1
    assert "shadow next: " in ran.err


def test_a_rule_that_is_for_no_thread_is_told(folder: Path, labelled: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    rule = '[[rule]]\nname = "dm"\nthreshold = 0.1\nwhen = { surface = ["dm", "chat"], locale = "en" }\n'
    file.write_text(f'format = 1\n[default]\nat = "balanced"\n{rule}')
    ran = run("policy", "check", file, "--on", labelled, "--model", folder)
    assert ran.status == 0
    assert "dm: is for none of these threads; it is where surface is dm or chat and locale is en" in ran.err
    assert run("policy", "check", tmp_path / "nowhere.toml").status == 1
