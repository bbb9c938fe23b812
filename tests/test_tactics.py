"""Tactic heads: what a message shows, by itself; fitted on coded messages and judged on other persons."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import CANARY, COMMON, ORDINARY, PATTERN, error_of, row_of, sentence, small_model, thread, write_threads
from cli import run
from hypothesis import given
from hypothesis import strategies as st

from grooming_flag import FeatureExtractor, Message, Model, Thread, load_model, save_model
from grooming_flag.errors import DataError, ModelError
from grooming_flag.features import pack_by_author
from grooming_flag.tactics import STEP, Tactics
from grooming_flag.training.tactics import fit_tactics
from grooming_flag.training.train import _doubtful_tactics

ASKING, MEETING = PATTERN[:6], PATTERN[6:]
NAMES = {"1": "asking", "2": "meeting"}
EXTRACTOR = FeatureExtractor(2**14, char_ngrams=None)


def buckets_of(text: str) -> Sequence[int]:
    found: list[int] = EXTRACTOR.rows(pack_by_author([[Message("a", text)]])).indices.tolist()
    return found


def tactics_of(**words: Sequence[str]) -> Tactics:
    """Return heads that a message shows if it has one of the words."""
    bucket_of = {word: buckets_of(word)[0] for of_head in words.values() for word in of_head}
    buckets = sorted(set(bucket_of.values()))
    weights = np.zeros((len(buckets), len(words)), np.int16)
    for k, of_head in enumerate(words.values()):
        for word in of_head:
            weights[buckets.index(bucket_of[word]), k] = 10
    return Tactics(list(words), np.array(buckets, np.int32), weights, np.full(len(words), 10, np.int64))


def model_with(tactics: Tactics) -> Model:
    weights = np.random.default_rng(0).integers(1, 99, (EXTRACTOR.n_features, 2), dtype=np.int16)
    return small_model().replace(extractor=EXTRACTOR, weights=weights, tactics=tactics)


def coded_threads(n: int = 12, seed: int = 0) -> tuple[list[Thread], dict[str, list[tuple[str, ...]]]]:
    """Return threads of a person each, and the codes of their messages, of which every third has one."""
    chance = random.Random(seed)
    threads, codes = [], {}
    for i in range(n):
        messages, of_thread = [], []
        for number in range(30):
            code = chance.choice("12") if number % 3 == 0 else ""
            words = {"1": ASKING, "2": MEETING, "": ORDINARY}[code]
            messages.append(Message("left" if number % 3 < 2 else "right", sentence(chance, [*COMMON, *words, *words])))
            of_thread.append((code,) if code else ())
        threads.append(Thread(f"t{i}", messages, 1, ["left"], f"person {i}"))
        codes[f"t{i}"] = of_thread
    return threads, codes


def test_a_message_shows_a_tactic_by_itself_wherever_it_is() -> None:
    model = model_with(tactics_of(asking=["kettle"], meeting=["harbour", "kettle"]))
    found = thread("the kettle", "nice weather", "see the harbour", "weather and harbour", "kettle")
    shown = {e.message_id: e.tactics for e in model.explain(found)}
    assert shown == {0: ("asking", "meeting"), 1: (), 2: ("meeting",), 3: ("meeting",)}  # the last one adds nothing


def test_no_score_depends_on_tactics() -> None:
    with_heads, without = model_with(tactics_of(asking=["kettle"])), model_with(Tactics.none())
    found = thread("the kettle", "nice weather")
    assert with_heads.assess(found) == without.assess(found)
    assert [replace(e, tactics=()) for e in with_heads.explain(found)] == without.explain(found)
    assert {e.tactics for e in without.explain(found)} == {()}


@given(st.integers(0, 2**32 - 1))
def test_scores_are_the_sums_of_weights_less_the_cuts(seed: int) -> None:
    chance = np.random.default_rng(seed)
    buckets = np.flatnonzero(chance.random(64) < chance.random()).astype(np.int32)
    weights = chance.integers(-(2**15), 2**15, (len(buckets), 3), dtype=np.int16)
    cuts = chance.integers(-(2**20), 2**20, 3)
    dense = np.zeros((64, 3), np.int64)
    dense[buckets] = weights
    messages = [np.flatnonzero(chance.random(64) < 0.3) for _ in range(chance.integers(0, 5))]
    heads = Tactics("abc", buckets, weights, cuts)
    sizes = np.array([len(message) for message in messages], np.int32)
    found = heads.scores(np.concatenate([*messages, []]).astype(np.int32), sizes)
    assert found.tolist() == [(dense[message].sum(axis=0) - cuts).tolist() for message in messages]


@pytest.mark.parametrize(
    "changes",
    [
        {"buckets": np.array([3, 2], np.int32)},
        {"buckets": np.array([2, 2], np.int32)},
        {"buckets": np.array([-1, 2], np.int32)},
        {"buckets": np.array([1, 2], np.int64)},
        {"buckets": np.array([1], np.int32)},
        {"weights": np.zeros((2, 2), np.int16)},
        {"weights": np.zeros((2, 1), np.float32)},
        {"cuts": np.zeros(2, np.int64)},
        {"names": ["a", "b"]},
        {"names": ["a", "a"], "weights": np.zeros((2, 2), np.int16), "cuts": np.ones(2, np.int64)},
    ],
)
def test_what_does_not_fit_together_is_a_model_error(changes: dict[str, object]) -> None:
    fields = {"names": ["a"], "buckets": np.array([1, 2], np.int32), "weights": np.ones((2, 1), np.int16)}
    error_of(lambda: Tactics(**{**fields, "cuts": np.ones(1, np.int64), **changes}), ModelError)  # type: ignore[arg-type]


def test_buckets_beyond_those_of_the_model_are_a_model_error() -> None:
    beyond = Tactics(["a"], np.array([2**14], np.int32), np.ones((1, 1), np.int16), np.ones(1, np.int64))
    error_of(lambda: model_with(beyond), ModelError)


def test_tactics_come_back_from_a_folder(tmp_path: Path) -> None:
    model = model_with(tactics_of(meeting=["harbour"], asking=["kettle"]))
    save_model(model, tmp_path / "small")
    loaded = load_model(tmp_path / "small")
    found = thread("the kettle", "harbour and kettle")
    assert loaded.explain(found) == model.explain(found)
    assert loaded.tactics.names == ("meeting", "asking")
    save_model(loaded, tmp_path / "again" / "small")
    for name in ("config.json", "weights.safetensors"):
        assert (tmp_path / "again" / "small" / name).read_bytes() == (tmp_path / "small" / name).read_bytes()


def test_heads_find_the_tactics_of_persons_they_have_not_seen() -> None:
    threads, codes = coded_threads()
    heads, figures = fit_tactics(threads, codes, NAMES, EXTRACTOR, floor=10, seed=0)
    assert heads.names == ("asking", "meeting")
    measured = {(figure.measure, figure.slice): figure for figure in figures}
    for name in NAMES.values():
        assert measured["ROC-AUC", name].value > 0.9  # type: ignore[operator]
        assert measured["precision", name].value > 0.6  # type: ignore[operator]
        assert measured["recall", name].n == sum(NAMES[c] == name for each in codes.values() for of in each for c in of)
    assert measured["told apart", "coded with one"].value > 0.9  # type: ignore[operator]
    assert {(figure.section, figure.unit) for figure in figures} == {("tactics", "message")}
    others, their_codes = coded_threads(seed=1)
    shown = {c: [] for c in ("1", "2", "")}  # type: dict[str, list[tuple[str, ...]]]
    model = model_with(heads)
    for other in others:
        of_message = {e.message_id: e.tactics for e in model.explain(other)}
        for place, code in enumerate(their_codes[other.thread_id]):
            shown["".join(code)].append(of_message.get(place, ()))
    for code, name in NAMES.items():
        assert np.mean([name in tactics for tactics in shown[code]]) > 0.6
        assert np.mean([name in tactics for tactics in shown[""]]) < 0.2


def test_figures_are_no_better_than_chance_where_codes_mean_nothing() -> None:
    threads, codes = coded_threads(30)
    chance = random.Random(0)
    shuffled = {thread_id: chance.sample(of_thread, len(of_thread)) for thread_id, of_thread in codes.items()}
    _, figures = fit_tactics(threads, shuffled, NAMES, EXTRACTOR, floor=10, seed=0)
    for figure in figures:
        if figure.measure == "ROC-AUC":
            assert figure.value == pytest.approx(0.5, abs=0.1)


def test_words_of_few_persons_have_no_weight() -> None:
    threads, codes = coded_threads()
    threads[:3] = [replace(t, messages=[*t.messages, Message("left", f"{CANARY} tea")] * 3) for t in threads[:3]]
    codes |= {t.thread_id: [*codes[t.thread_id], ("1",)] * 3 for t in threads[:3]}
    for floor, is_known in ((4, False), (3, True)):
        heads, _ = fit_tactics(threads, codes, NAMES, EXTRACTOR, floor=floor, seed=0)
        assert (buckets_of(CANARY)[0] in heads.buckets) == is_known


def test_codes_may_share_a_tactic_and_weights_are_of_the_stated_size() -> None:
    threads, codes = coded_threads()
    heads, _ = fit_tactics(threads, codes, {"1": "both", "2": "both"}, EXTRACTOR, floor=10, seed=0)
    assert heads.names == ("both",)
    assert 0.5 < np.abs(heads.weights).max() * STEP < 10.0


@pytest.mark.parametrize(
    ("names", "named"), [({"3": "none"}, "code of 3"), ({"1": "asking", "3": "none"}, "'none' (3)")]
)
def test_a_tactic_of_no_message_is_named(names: dict[str, str], named: str) -> None:
    threads, codes = coded_threads()
    assert named in str(error_of(lambda: fit_tactics(threads, codes, names, EXTRACTOR, 10, 0), DataError))


def test_coded_messages_of_too_few_persons_are_an_error() -> None:
    threads, codes = coded_threads(4)
    error = error_of(lambda: fit_tactics(threads, codes, NAMES, EXTRACTOR, 1, 0), DataError)
    assert "'asking' (1) is coded in messages of 4 persons; 5 are needed" in str(error)
    error_of(lambda: fit_tactics(threads, {}, NAMES, EXTRACTOR, 1, 0), DataError)


def test_a_tactic_of_every_message_is_an_error() -> None:
    threads, codes = coded_threads()
    all_asking = {thread_id: [("1",)] * len(of_thread) for thread_id, of_thread in codes.items()}
    error = error_of(lambda: fit_tactics(threads, all_asking, {"1": "asking"}, EXTRACTOR, 1, 0), DataError)
    assert "'asking' is coded in all or in no messages" in str(error)


@pytest.mark.parametrize("table", ['1 = ""', '1 = " "', '1 = "a\\nb"', "1 = 2"])
def test_a_tactic_without_a_plain_name_is_an_error(tmp_path: Path, table: str) -> None:
    (tmp_path / "terms.toml").write_text(f"[tactics]\n{table}\n")
    write_threads(tmp_path / "train.jsonl", coded_threads()[0])
    ran = run("train", tmp_path / "train.jsonl", "-o", tmp_path / "model", "--terms", tmp_path / "terms.toml")
    assert ran.status == 1
    assert "tactic" in ran.err
    assert "what =" not in ran.err


def test_a_tactic_that_chance_tells_as_well_is_noted() -> None:
    threads, codes = coded_threads()
    chance = random.Random(0)
    shuffled = {thread_id: chance.sample(of_thread, len(of_thread)) for thread_id, of_thread in codes.items()}
    for found, doubtful in ((codes, False), (shuffled, True)):
        _, figures = fit_tactics(threads, found, NAMES, EXTRACTOR, floor=10, seed=0)
        assert any("asking" in note for note in _doubtful_tactics(figures)) == doubtful


def test_training_names_tactics_and_the_commands_show_them(tmp_path: Path) -> None:
    threads, codes = coded_threads()
    chance = random.Random(0)
    others = [
        Thread(f"o{i}", [Message("right", sentence(chance, [*COMMON, *ORDINARY])) for _ in range(20)], 0)
        for i in range(24)
    ]
    rows = [row_of(one) for one in [*threads, *others]]
    for row in rows:
        for message, code in zip(row["messages"], codes.get(row["thread_id"], ()), strict=False):
            message["codes"] = list(code) or None
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "terms.toml").write_text('[tactics]\n1 = "asking"\n2 = "meeting"\n')
    train = ("train", tmp_path / "train.jsonl", "-o", tmp_path / "model", "--terms", tmp_path / "terms.toml")
    assert run(*train).status == 0
    model = load_model(tmp_path / "model")
    assert model.tactics.names == ("asking", "meeting")
    assert model.lineage["tactics"] == {"codes": NAMES, "sources": ["train"]}
    judged = (tmp_path / "train.jsonl", "--model", tmp_path / "model")
    ran = run("score", *judged, "-o", "-", "--evidence", 3, "--threshold", 0)
    scored = [json.loads(line) for line in ran.out.splitlines()]
    named = {name for row in scored for item in row["evidence"] for name in item["tactics"]}
    assert named == {"asking", "meeting"}
    shown = run("explain", *judged, "--thread", "t0").out
    assert b"asking" in shown or b"meeting" in shown
    assert b"asking, meeting" in run("info", "--model", tmp_path / "model").out
