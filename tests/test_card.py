"""What training ends with: the whole evaluation, the model card that tells of it, and training without a source."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, error_of, labelled_threads, write_threads
from cli import run

from grooming_flag import DataError, Message, ModelIntegrityError, Thread, load_model
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.report import render_summary
from grooming_flag.training import GroomingClassifier
from grooming_flag.training.card import model_card
from grooming_flag.training.recipe import without_each_source
from grooming_flag.training.train import train_files

pytestmark = pytest.mark.usefixtures("quick_evaluations")

Metrics = dict[str, Any]
SECTIONS = {
    "detection",
    "alerts",
    "calibration",
    "early",
    "suspects",
    "evidence",
    "slices",
    "perturbations",
    "templates",
    "audits",
}
SHIPPED = sorted(path for path in (ROOT / "models").glob("*") if path.is_dir())


class World:
    """Three files of training threads, two of them with risky ones, one of development threads, and the model."""

    def __init__(self, folder: Path) -> None:
        kinds = {"garden": 40, "talk": 20, "tea": 60, "dev": 204}
        threads = {name: labelled_threads(n, prefix=name) for name, n in kinds.items()}
        threads["talk"] = [thread for thread in threads["talk"] if thread.label == 0]
        self.paths = {name: write_threads(folder / f"{name}.jsonl", of) for name, of in threads.items()}
        rows = [json.loads(line) for line in self.paths["dev"].read_bytes().splitlines()]
        for row in rows:
            row["messages"][0]["codes"] = ["marked"]
        self.paths["dev"].write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.model = folder / "mine-v1"
        self.ran = run("train", *self.train(), "-o", self.model, "--dev", self.paths["dev"])

    def train(self) -> list[Path]:
        return [path for name, path in self.paths.items() if name != "dev"]

    @property
    def metrics(self) -> Metrics:
        found: Metrics = json.loads((self.model / "metrics.json").read_text(encoding="utf-8"))
        return found

    @property
    def card(self) -> str:
        return (self.model / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, quick_evaluations: None) -> World:
    return World(tmp_path_factory.mktemp("world"))


def write_small(folder: Path, name: str, threads: list[Thread]) -> Path:
    return write_threads(folder / f"{name}.jsonl", threads)


# --- the evaluation ----------------------------------------------------------------------------------------------


def test_training_ends_with_the_whole_evaluation(world: World) -> None:
    assert world.ran.status == 0, world.ran.err
    assert {figure["section"] for figure in world.metrics["figures"]} == SECTIONS
    digest = hashlib.sha256(world.paths["dev"].read_bytes()).hexdigest()
    assert world.metrics["data"]["files"] == {"dev": digest}
    assert any("chosen on 1 of these 1 files" in note for note in world.metrics["notes"])
    assert world.ran.out.decode().strip() == render_summary(world.metrics).strip()


def test_the_figures_are_those_of_the_command_evaluate_which_cannot_train_again(world: World, tmp_path: Path) -> None:
    ran = run("evaluate", world.paths["dev"], "-o", tmp_path, "--model", world.model, "--jobs", 1)
    assert ran.status == 0, ran.err
    theirs = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    mine = world.metrics
    retrained = [figure for figure in mine["figures"] if figure["slice"].startswith("trained without")]
    assert retrained
    mine["figures"] = [figure for figure in mine["figures"] if figure not in retrained]
    assert mine == theirs


def test_the_file_of_metrics_is_covered_by_the_sums_and_has_no_white_space(world: World) -> None:
    raw = (world.model / "metrics.json").read_bytes()
    assert raw == json.dumps(world.metrics, separators=(",", ":")).encode() + b"\n"
    sums = (world.model / "SHA256SUMS").read_text()
    assert f"{hashlib.sha256(raw).hexdigest()}  metrics.json" in sums
    try:
        (world.model / "metrics.json").write_bytes(raw.replace(b"recall", b"Recall"))
        assert "metrics.json" in str(error_of(lambda: load_model(world.model), ModelIntegrityError))
    finally:
        (world.model / "metrics.json").write_bytes(raw)


def test_without_what_the_report_needs_training_leaves_the_languages_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("py3langid", "py3langid.langid", "jinja2", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    path = write_small(tmp_path, "all", labelled_threads(100, prefix="q"))
    ran = run("train", path, "-o", tmp_path / "model")
    assert ran.status == 0, ran.err
    assert "No figures by language" in ran.out.decode()
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text(encoding="utf-8"))
    kinds = {figure["slice"].split(":")[0] for figure in metrics["figures"] if figure["section"] == "slices"}
    assert {"length", "text", "unknown features"} <= kinds
    assert "language guess" not in kinds


def test_as_few_development_threads_as_there_can_be_are_noted_and_no_error(tmp_path: Path) -> None:
    train = write_small(tmp_path, "train", labelled_threads(60, prefix="x"))
    talk = [replace(thread, suspects=(), person=None) for thread in labelled_threads(4, prefix="y")]
    model, metrics = train_files([train], tmp_path / "model", [write_small(tmp_path, "dev", talk)])
    assert any("No shortcut audits" in note for note in metrics["notes"])
    assert any("too narrow" in note for note in metrics["notes"])
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "### Evidence" in card
    assert "Not measured on these threads." in card
    assert load_model(tmp_path / "model").lineage == model.lineage


def test_development_threads_with_the_words_of_training_threads_are_refused(tmp_path: Path) -> None:
    train = labelled_threads(40, prefix="x")
    copied = [Message("somebody", message.text.upper()) for message in train[3].messages]
    dev = [*labelled_threads(20, prefix="y"), Thread("copy", copied, train[3].label)]
    paths = [write_small(tmp_path, "train", train), write_small(tmp_path, "dev", dev)]
    error = error_of(lambda: train_files(paths[:1], tmp_path / "model", paths[1:]), DataError)
    assert "dev: has 1 threads with the words of training threads" in str(error)
    assert train[3].messages[0].text.split()[0] not in str(error)


def test_what_is_written_twice_by_nobody_known_is_held_out_twice(tmp_path: Path) -> None:
    threads = [replace(thread, person=None) for thread in labelled_threads(100, prefix="x")]
    twice = [replace(thread, thread_id=f"{thread.thread_id} again") for thread in threads]
    path = write_small(tmp_path, "all", [*threads, *twice])
    model, _ = train_files([path], tmp_path / "model")
    assert model.lineage["development"]["all"]["threads"] % 2 == 0


# --- without one source ------------------------------------------------------------------------------------------


def figures_of(metrics: Metrics, *fields: str) -> Iterator[tuple[tuple[str, ...], float | None]]:
    for figure in metrics["figures"]:
        yield tuple(figure[field] for field in fields), figure["value"]


def test_training_without_a_source_comes_to_what_training_on_the_others_does(world: World, tmp_path: Path) -> None:
    others = [path for path in world.train() if path.stem != "tea"]
    _, alone = train_files(others, tmp_path / "model", [world.paths["dev"]])
    name = "trained without tea"
    found = dict(figures_of(world.metrics, "measure", "slice", "at"))
    expected = dict(figures_of(alone, "measure", "slice", "at"))
    assert found["ROC-AUC", name, ""] == expected["ROC-AUC", "all", ""]
    for length in ("all lengths", "1-9 messages", "10-19 messages", "20-39 messages"):
        where, at = f"dev, {length}", "FPR 0.01 (set here)"
        assert found["recall", f"{name}: {where}", at] == expected["recall", where, at]


def left_out(sources: dict[str, list[Thread]]) -> tuple[set[str], list[str]]:
    """Return the sources without which it was trained, and the notes."""
    dev = Pool.of({"dev": labelled_threads(30, prefix="dev")})
    figures, notes = without_each_source(GroomingClassifier(folds=0), sources, dev, lambda name, done, total: None)
    return {figure.slice.partition(":")[0].removeprefix("trained without ") for figure in figures}, notes


def test_only_sources_of_risky_threads_are_left_out_and_only_where_there_are_two() -> None:
    tea, garden = labelled_threads(40, prefix="t"), labelled_threads(40, prefix="g")
    talk = [thread for thread in labelled_threads(20, prefix="o") if thread.label == 0]
    assert left_out({"tea": tea, "garden": garden, "talk": talk}) == ({"tea", "garden"}, [])
    assert left_out({"tea": tea, "talk": talk}) == (set(), [])


def test_a_source_that_cannot_be_left_out_is_noted() -> None:
    risky = [thread for thread in labelled_threads(40, prefix="r") if thread.label]
    found, (note,) = left_out({"tea": labelled_threads(40, prefix="t"), "risky": risky})
    assert found == {"risky"}
    assert note.startswith("Not trained without tea: y has 1 class(es)")


def test_the_card_shows_what_is_lost_without_a_source_beside_the_model(world: World) -> None:
    assert "| Threads | trained on all sources | trained without garden | trained without tea |" in world.card
    whole = [row for row in world.card.splitlines() if row.startswith(("| trained on all", "| trained without"))]
    assert [row.split(" | ")[0] for row in whole] == [
        "| trained on all sources",
        "| trained without garden",
        "| trained without tea",
    ]


# --- the card ----------------------------------------------------------------------------------------------------


def card_of(folder: Path, metrics: Metrics) -> str:
    return model_card(load_model(folder), metrics, {})


def shown(metrics: Metrics) -> dict[tuple[str, str], int]:
    """Return where one figure of each section and measure is, of those that the card shows."""
    places = {}
    for i, figure in enumerate(metrics["figures"]):
        hidden = figure["section"] == "slices" and figure["at"].endswith("(set here)")
        if figure["value"] is not None and not hidden and figure["measure"] != "p of the latency penalty":
            places[figure["section"], figure["measure"]] = i
    return places


def test_each_figure_that_changes_changes_the_card(world: World) -> None:
    metrics = world.metrics
    places = shown(metrics)
    assert {section for section, _ in places} == SECTIONS
    for place in places.values():
        changed = copy.deepcopy(metrics)
        changed["figures"][place] |= {"value": 0.7312, "low": 0.6923, "high": 0.7834}
        assert "0.731 [0.692, 0.783]" in card_of(world.model, changed), metrics["figures"][place]
        assert "0.731 [0.692, 0.783]" not in world.card


def test_the_card_is_written_from_the_stored_metrics_and_the_model_alone(world: World) -> None:
    assert card_of(world.model, world.metrics) == world.card


def test_failures_are_those_of_the_figures(world: World) -> None:
    metrics = world.metrics
    for figure in metrics["figures"]:
        if (figure["measure"], figure["slice"], figure["at"]) == ("recall lost", "padding", "balanced"):
            figure |= {"value": 0.99, "low": 0.98, "high": 1.0}
    failures = card_of(world.model, metrics).partition("## Known failures")[2].partition("\n## ")[0]
    assert "Most recall is lost to padding: 0.990 [0.980, 1.000]" in " ".join(failures.split())
    assert all(f"- {topic}: " in failures for topic in ("Worst ordinary talk", "Hardest length", "One side alone"))


def test_tactics_have_a_table_if_there_are_any(world: World) -> None:
    assert "### Tactics" not in world.card
    metrics = world.metrics
    tactic = {"section": "tactics", "measure": "recall", "slice": "secrecy", "at": "balanced", "unit": "message"}
    metrics["figures"].append({**tactic, "value": 0.5, "low": 0.25, "high": 0.75, "n": 12, "hits": 6})
    card = card_of(world.model, metrics)
    assert "### Tactics" in card
    assert "| secrecy | 0.500 [0.250, 0.750] (6/12) |" in card


def test_bars_in_names_and_terms_do_not_break_a_table(world: World) -> None:
    card = model_card(load_model(world.model), world.metrics, {"tea": {"what": "talk | of tea", "terms": "CC0"}})
    tables = re.findall(r"(?:^\|.*\n)+", card, re.M)
    assert len(tables) > 15
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_how_threads_were_split_is_said_as_it_was(world: World, tmp_path: Path) -> None:
    assert "files of their own" in world.card
    assert "--dev" in world.card
    train_files([world.paths["tea"]], tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "held out by a hash of the person" in card
    assert "--dev" not in card


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"\d[\d,]*(?:\.\d+)?", text.replace(", ", " ")))


def known_numbers(folder: Path) -> set[str]:
    """Return all numbers of config.json and metrics.json, rounded in every way that a table may."""
    files = [json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "metrics.json")]
    known: set[str] = set()
    numbers: list[float] = []

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                visit(key)
                visit(item)
        elif isinstance(value, list):
            for item in value:
                visit(item)
        elif isinstance(value, str):
            known.update(numbers_in(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers.append(abs(value))

    for file in files:
        visit(file)
    recalls = [f for f in files[1]["figures"] if (f["section"], f["measure"]) == ("detection", "recall")]
    ends = [f[end] for f in recalls for end in ("value", "low", "high") if f[end] is not None]
    numbers += [per_10k * (1.0 - end) for per_10k in (100, 10, 1) for end in ends]  # missed of so many risky ones
    for value in numbers:
        known.update(f"{value:,.{digits}f}" for digits in range(8))
        known.update((f"{value:.6g}", f"{value:.0f}"))
    rates = [f["slice"].removeprefix("base rate ") for f in files[1]["figures"] if f["slice"].startswith("base rate ")]
    return known | {f"{1 / float(rate):,.0f}" for rate in rates}


@pytest.mark.parametrize("folder", [None, *SHIPPED], ids=lambda folder: folder.name if folder else "trained here")
def test_each_number_in_the_tables_of_a_card_is_in_its_metrics_or_settings(folder: Path | None, world: World) -> None:
    folder = folder or world.model
    if not (folder / "metrics.json").exists():
        pytest.skip(f"{folder.name} has no metrics.json: it was trained before cards were written from one")
    terms = {"": ""}
    if (folder.parent / "sources.toml").exists():
        terms = tomllib.loads((folder.parent / "sources.toml").read_text(encoding="utf-8"))
    known = known_numbers(folder) | numbers_in(json.dumps(terms))
    rows = [line for line in (folder / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    names = re.compile(r"^\| [^|]*: [^|]*(?=\|)")  # with what they mean, in words of the library
    unknown = {number for row in rows for number in numbers_in(names.sub("", row)) if number not in known}
    assert len(rows) > 50
    assert unknown == set()
