"""`grooming-flag evaluate`: what it writes and prints, when it refuses, and that no report is ever half-written."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import (
    CANARY,
    COMMON,
    ORDINARY,
    PATTERN,
    labelled_threads,
    lines_of,
    model_of_words,
    row_of,
    write_threads,
)
from cli import Ran, run

from grooming_flag import Message, Thread, save_model
from grooming_flag.fingerprints import Fingerprints
from grooming_flag.io.scores import encode_row, score_row
from grooming_flag.segments import SegmentRule

FILES = {"metrics.json", "report.html", "summary.txt"}
WEIGHTS = {**dict.fromkeys(PATTERN, 1500), **dict.fromkeys(ORDINARY, -700), **dict.fromkeys(COMMON, -40)}
MODEL = model_of_words(WEIGHTS, segment_rule=SegmentRule(12, 4), min_amount=5)


pytestmark = pytest.mark.usefixtures("quick_evaluations")


def marked(threads: list[Thread]) -> list[Thread]:
    """Return the threads with a canary in each text."""
    return [
        replace(t, messages=[Message(m.author, f"{m.text} {CANARY}", 60.0 * i) for i, m in enumerate(t.messages)])
        for t in threads
    ]


THREADS = marked(labelled_threads(40))


class World:
    """Files to judge on, a model, and a score file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.one = folder / "one.test.jsonl"
        rows = [row_of(t) for t in THREADS[:24]]
        for row in rows:
            for i, message in enumerate(row["messages"]):
                message["codes"] = ["x"] if row["label"] and i % 3 == 0 else None
        self.one.write_bytes(b"".join(encode_row(row) for row in rows))
        self.two = write_threads(folder / "two.jsonl", THREADS[24:])
        self.model = folder / "model"
        save_model(MODEL, self.model)
        self.scores = folder / "mine.jsonl"
        self.scores.write_bytes(b"".join(encode_row(score_row(MODEL.assess(t))) for t in THREADS))

    @property
    def paths(self) -> list[Path]:
        return [self.one, self.two]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def evaluate(*args: object, stdin: bytes = b"") -> Ran:
    return run("evaluate", *args, "--jobs", 1, stdin=stdin)


def metrics_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def value(metrics: dict[str, Any], measure: str, slice_: str = "all", at: str = "") -> Any:
    (one,) = [f for f in metrics["figures"] if (f["measure"], f["slice"], f["at"]) == (measure, slice_, at)]
    return one["value"]


# --- a model -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(world: World) -> tuple[Ran, Path]:
    output = world.folder / "not yet" / "there"
    return evaluate(*world.paths, "-o", output, "--model", world.model, "--at", "sensitive"), output


def test_a_report_figures_and_a_summary_are_written(judged: tuple[Ran, Path], world: World) -> None:
    ran, output = judged
    assert ran.status == 0, ran.err
    assert {path.name for path in output.iterdir()} == FILES
    assert ran.out.decode().strip() == (output / "summary.txt").read_text(encoding="utf-8").strip()
    assert str(output) in ran.err.replace("\n", "")
    found = metrics_in(output)
    assert found["kind"] == "model"
    assert found["at"] == "sensitive"
    assert [s["source"] for s in found["data"]["sources"]] == ["one", "two"]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in world.paths]
    assert found["data"]["files"] == dict(zip(["one", "two"], digests, strict=True))
    assert {f["section"] for f in found["figures"]} >= {"detection", "early", "evidence", "perturbations", "templates"}


def test_no_text_is_in_what_is_written_or_printed(judged: tuple[Ran, Path]) -> None:
    ran, output = judged
    for content in [ran.out.decode(), ran.err, *(path.read_text(encoding="utf-8") for path in output.iterdir())]:
        assert CANARY not in content
        assert not any(word in content for word in ("marmalade", "tangerine", "clockwork"))


def test_the_report_needs_nothing_from_elsewhere(judged: tuple[Ran, Path]) -> None:
    page = (judged[1] / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert not any(mark in page for mark in ('src="http', "src='http", 'href="http', "@import", "<script src"))


def test_the_same_input_gives_the_same_files_on_any_number_of_processes(judged: tuple[Ran, Path], world: World) -> None:
    again = world.folder / "again"
    assert (
        run("evaluate", *world.paths, "-o", again, "--model", world.model, "--at", "sensitive", "--jobs", 2).status == 0
    )
    for name in sorted(FILES):
        assert (again / name).read_bytes() == (judged[1] / name).read_bytes(), name


# --- scores, another system, a threshold -------------------------------------------------------------------------


def test_any_system_can_be_judged_by_its_scores_and_compared(
    judged: tuple[Ran, Path], world: World, tmp_path: Path
) -> None:
    ran = evaluate(*world.paths, "-o", tmp_path, "--scores", world.scores, "--against", world.model, "--threshold", 0.4)
    assert ran.status == 0, ran.err
    found, of_model = metrics_in(tmp_path), metrics_in(judged[1])
    assert (found["system"], found["kind"], found["against"], found["at"]) == (
        "mine",
        "scores",
        "small",
        "threshold 0.4",
    )
    assert value(found, "ROC-AUC") == value(of_model, "ROC-AUC")
    assert value(found, "recall", at="threshold 0.4") == value(of_model, "recall", at="balanced")
    assert value(found, "ROC-AUC", "mine minus small") == 0.0


def test_a_model_can_be_compared_with_scores(world: World, tmp_path: Path) -> None:
    ran = evaluate(*world.paths, "-o", tmp_path, "--model", world.model, "--against", world.scores, "--at", "sensitive")
    assert ran.status == 0, ran.err
    found = metrics_in(tmp_path)
    assert (found["system"], found["against"], found["at"]) == ("small", "mine", "sensitive")


def test_files_of_one_name_in_two_folders_are_both_described(world: World, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    paths = [
        write_threads(tmp_path / "part.jsonl", THREADS[:20]),
        write_threads(tmp_path / "sub" / "part.jsonl", THREADS[20:]),
    ]
    assert evaluate(*paths, "-o", tmp_path / "out", "--scores", world.scores).status == 0
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert set(metrics_in(tmp_path / "out")["data"]["files"].values()) == digests


def test_standard_input_is_refused_since_threads_are_read_twice(world: World, tmp_path: Path) -> None:
    ran = evaluate("-", "-o", tmp_path / "out", "--scores", world.scores, stdin=lines_of(THREADS))
    assert ran.status == 2
    assert "standard input" in ran.err
    assert not (tmp_path / "out").exists()


# --- what a model knows ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(world: World) -> Path:
    """Return a model that was trained on threads of the first file, its points chosen on the second."""
    folder = world.folder / "trained"
    digest = hashlib.sha256(world.two.read_bytes()).hexdigest()
    lineage = {"library": "0", "development": {"two": {"sha256": digest}}}
    save_model(MODEL.replace(fingerprints=Fingerprints.of(THREADS[:5]), lineage=lineage), folder)
    return folder


def test_a_model_is_not_judged_on_what_it_was_trained_on(world: World, trained: Path, tmp_path: Path) -> None:
    ran = evaluate(*world.paths, "-o", tmp_path / "out", "--model", trained)
    assert ran.status == 1
    assert len(ran.error_lines) == 1
    assert "one: 5 of 24" in ran.err
    assert "--allow-seen" in ran.err
    assert ran.out == b""
    assert not (tmp_path / "out").exists()


def test_judging_on_seen_threads_must_be_allowed_and_is_noted(world: World, trained: Path, tmp_path: Path) -> None:
    ran = evaluate(*world.paths, "-o", tmp_path, "--model", trained, "--allow-seen")
    assert ran.status == 0, ran.err
    notes = metrics_in(tmp_path)["notes"]
    assert any("no measure of quality" in note for note in notes)
    assert any("chosen on 1 of these 2 files" in note for note in notes)


# --- bad input ---------------------------------------------------------------------------------------------------

UNLABELLED = replace(THREADS[3], thread_id="nobody said", label=None)
BAD: dict[str, tuple[bytes, list[str]]] = {
    "no label": (lines_of([*THREADS, UNLABELLED]), ["nobody said", "no label"]),
    "one class": (lines_of(THREADS[::2]), ["20 threads", "both"]),
    "no threads": (b"", ["0 threads"]),
    "no JSON": (lines_of(THREADS) + b"marmalade\n", ["line 41"]),
    "the same thread": (lines_of([*THREADS, THREADS[0]]), ["line 41", "thread_id"]),
    "bad codes": (lines_of(THREADS).replace(b'"text":', b'"codes": "marmalade", "text":'), ["line 1", "codes"]),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_threads_are_refused_and_nothing_is_overwritten(name: str, world: World, tmp_path: Path) -> None:
    content, words = BAD[name]
    (tmp_path / "bad.jsonl").write_bytes(content)
    output = tmp_path / "out"
    output.mkdir()
    for file in FILES:
        (output / file).write_text("an earlier report")
    ran = evaluate(tmp_path / "bad.jsonl", "-o", output, "--scores", world.scores)
    assert ran.status == 1
    assert len(ran.error_lines) == 1
    assert all(word in ran.err for word in words), ran.err
    assert "marmalade" not in ran.err
    assert CANARY not in ran.err
    assert {path.name: path.read_text() for path in output.iterdir()} == dict.fromkeys(FILES, "an earlier report")


BAD_SCORES = {
    "of other threads": ('{"thread_id": "x", "score": 1}', ["bad", "thread ids"]),
    "without a number": ('{"thread_id": "t1"}', ["line 1", "score"]),
    "no probability": ('{"thread_id": "t1", "probability": 3}', ["line 1", "0 to 1"]),
    "not a number": ('{"thread_id": "t1", "score": NaN}', ["line 1"]),
    "twice": ('{"thread_id": "t1", "score": 1}\n{"thread_id": "t1", "score": 2}', ["t1", "n_messages"]),
}


@pytest.mark.parametrize("name", list(BAD_SCORES))
def test_bad_scores_are_refused(name: str, world: World, tmp_path: Path) -> None:
    content, words = BAD_SCORES[name]
    (tmp_path / "bad.jsonl").write_text(content)
    ran = evaluate(*world.paths, "-o", tmp_path / "out", "--scores", tmp_path / "bad.jsonl")
    assert ran.status == 1
    assert len(ran.error_lines) == 1
    assert all(word in ran.err for word in words), ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--model", "MODEL", "--scores", "SCORES"], 2, ["--model or --scores"]),
        (["--model", "MODEL", "--at", "strict"], 1, ["strict", "balanced"]),
        (["--model", "MODEL", "--threshold", "1.5"], 1, ["1.5"]),
        (["--model", "MODEL", "--threshold", "high"], 2, ["--threshold"]),
        (["--scores", "SCORES", "--threshold", "nan"], 1, ["nan"]),
        (["--scores", "SCORES", "--at", "balanced"], 2, ["--at"]),
        (["--model", "MODEL", "--at", "sensitive", "--threshold", "0.5"], 2, ["not both"]),
        (["--scores", "none.jsonl"], 1, ["none.jsonl"]),
        (["--model", "none"], 1, ["none"]),
        (["--scores", "SCORES", "--against", "none.jsonl"], 1, ["none.jsonl"]),
        (["--scores", "SCORES", "--seed", "-1"], 2, ["seed"]),
        (["--scores", "SCORES", "none.jsonl"], 1, ["none.jsonl"]),
        (["--scores", "SCORES", "ONE"], 1, ["twice"]),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    options: list[str], status: int, words: list[str], world: World, tmp_path: Path
) -> None:
    names = {"MODEL": world.model, "SCORES": world.scores, "ONE": world.one}
    ran = evaluate(*world.paths, "-o", tmp_path / "out", *(names.get(option, option) for option in options))
    assert ran.status == status
    assert all(word in ran.err.replace("\n", " ") for word in words), ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    ran = evaluate(*world.paths, "-o", tmp_path / "out", "--scores", world.scores)
    assert ran.status == 1
    assert len(ran.error_lines) == 1
    assert (tmp_path / "out").read_text() == "mine"


def test_without_what_the_report_needs_the_command_names_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    ran = evaluate(*world.paths, "-o", tmp_path / "out", "--scores", world.scores)
    assert ran.status == 1
    assert "pip install 'grooming-flag[report]'" in ran.err
    assert not (tmp_path / "out").exists()
