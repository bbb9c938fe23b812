"""The command: exit statuses, what goes to stdout, stderr and files, and that no file is ever half-written."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from builders import (
    CANARY,
    PYTHON,
    environment,
    labelled_threads,
    lines_of,
    needs_bundled_model,
    small_model,
    thread,
    write_threads,
)
from cli import Ran, run

from grooming_flag import Message, OperatingPoint, Thread, __version__, load_model, save_model
from grooming_flag.io.scores import COLUMNS
from grooming_flag.segments import SegmentRule

pytestmark = pytest.mark.usefixtures("quick_evaluations")

DOCUMENTED = [
    "thread_id",
    "score",
    "probability",
    "flagged",
    "operating_point",
    "suspect",
    "suspect_probability",
    "abstained",
    "n_messages",
    "n_authors",
    "model",
]
BATCH = [
    *labelled_threads(30, n_messages=4),
    thread("", thread_id="empty"),
    Thread("ids", [Message("\ud800", "tea", message_id="\udfff"), Message("b", "kettle", message_id=7)]),
]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_model(small_model(rule=SegmentRule(8, 3), min_amount=10, seed=6), folder)
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return write_threads(tmp_path / "in.jsonl", BATCH)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def rows(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.splitlines()]


def expected_rows(model_folder: Path, at: str | float = "balanced") -> list[dict[str, Any]]:
    model = load_model(model_folder)
    found = []
    for answer in model.assess_many(BATCH, at):
        row = {name: getattr(answer, name) for name in DOCUMENTED}
        row["suspect"] = row["suspect"] and row["suspect"].replace("\ud800", "?")
        found.append(row)
    return found


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_is_one_error(ran: Ran, *parts: str) -> None:
    assert ran.status == 1
    assert ran.out == b""
    (line,) = ran.error_lines
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


def assert_is_wrong_usage(ran: Ran) -> None:
    assert ran.status == 2
    assert ran.out == b""
    assert "Usage" in ran.err
    assert "Traceback" not in ran.err


# --- score: rows -------------------------------------------------------------------------------------------------


def test_the_columns_are_those_that_are_documented() -> None:
    assert list(COLUMNS) == DOCUMENTED


def test_each_thread_is_a_row_with_the_documented_columns_in_the_order_of_the_input(
    model_folder: Path, inputs: Path, output: Path
) -> None:
    ran = run("score", inputs, "-o", output, "--model", model_folder)
    assert (ran.status, ran.out) == (0, b"")
    assert rows(output.read_bytes()) == expected_rows(model_folder)
    assert all(list(row) == DOCUMENTED for row in rows(output.read_bytes()))
    assert files_of(output.parent) == ["in.jsonl", "out.jsonl"]


def test_standard_output_has_the_rows_and_nothing_else(model_folder: Path, inputs: Path, output: Path) -> None:
    run("score", inputs, "-o", output, "--model", model_folder)
    ran = run("score", inputs, "-o", "-", "--model", model_folder)
    assert ran.status == 0
    assert ran.out == output.read_bytes()
    assert f"{len(BATCH)} threads" in ran.err


def test_the_summary_on_standard_error_counts_what_the_rows_say(model_folder: Path, inputs: Path, output: Path) -> None:
    ran = run("score", inputs, "-o", output, "--model", model_folder)
    found = rows(output.read_bytes())
    assert f"{len(BATCH)} threads with {sum(row['n_messages'] for row in found)} messages in " in ran.err
    assert f"{sum(row['flagged'] for row in found)} flagged for review at operating point balanced" in ran.err
    assert f"{sum(row['abstained'] for row in found)} with too little text" in ran.err
    assert str(output) in ran.err
    assert 0 < sum(row["flagged"] for row in found) < len(found)
    assert any(row["abstained"] for row in found)


def test_standard_input_and_compressed_files_are_inputs(model_folder: Path, inputs: Path, tmp_path: Path) -> None:
    expected = run("score", inputs, "-o", "-", "--model", model_folder).out
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(inputs.read_bytes()))
    (tmp_path / "in.jsonl.zst").write_bytes(zstandard.compress(inputs.read_bytes()))
    for path in (tmp_path / "in.jsonl.gz", tmp_path / "in.jsonl.zst"):
        assert run("score", path, "-o", "-", "--model", model_folder).out == expected
    assert run("score", "-", "-o", "-", "--model", model_folder, stdin=inputs.read_bytes()).out == expected


def test_several_inputs_are_scored_one_after_the_other(model_folder: Path, tmp_path: Path, inputs: Path) -> None:
    one, two = write_threads(tmp_path / "one.jsonl", BATCH[:9]), write_threads(tmp_path / "two.jsonl", BATCH[9:])
    expected = run("score", inputs, "-o", "-", "--model", model_folder).out
    assert run("score", one, two, "-o", "-", "--model", model_folder).out == expected


def test_inputs_without_threads_have_no_rows(model_folder: Path, tmp_path: Path, output: Path) -> None:
    ran = run("score", write_threads(tmp_path / "none.jsonl", []), "-o", output, "--model", model_folder)
    assert ran.status == 0
    assert output.read_bytes() == b""


@pytest.mark.parametrize("extra", [(), ("--evidence", 3)])
def test_threads_of_execution_change_no_byte(model_folder: Path, tmp_path: Path, extra: tuple[object, ...]) -> None:
    batch = [replace(one, thread_id=f"{i}") for i, one in enumerate(BATCH * 40)]
    path = write_threads(tmp_path / "many.jsonl", batch)
    outputs = {run("score", path, "-o", "-", "--model", model_folder, "--jobs", n, *extra).out for n in (1, 2, 4)}
    assert len(outputs) == 1
    assert [row["thread_id"] for row in rows(outputs.pop())] == [one.thread_id for one in batch]


def test_evidence_adds_a_column_that_names_the_strongest_messages(model_folder: Path, inputs: Path) -> None:
    found = rows(run("score", inputs, "-o", "-", "--model", model_folder, "--evidence", 2).out)
    model = load_model(model_folder)
    assert [{k: v for k, v in row.items() if k != "evidence"} for row in found] == expected_rows(model_folder)
    for one, row in zip(BATCH, found, strict=True):
        assert list(row) == [*DOCUMENTED, "evidence"]
        sums: dict[Any, float] = {}
        for item in model.explain(one):
            sums[item.message_id] = sums.get(item.message_id, 0.0) + item.contribution
        assert len(row["evidence"]) == min(2, len(sums))
        for item in row["evidence"]:
            assert list(item) == ["message_id", "author", "contribution", "tactics"]
        strongest = sorted(sums.values(), reverse=True)[:2]
        assert [item["contribution"] for item in row["evidence"]] == strongest
    total = rows(run("score", inputs, "-o", "-", "--model", model_folder, "--evidence", 999).out)
    for row in total:
        assert sum(item["contribution"] for item in row["evidence"]) == row["score"] - model.intercept


# --- score: thresholds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_a_threshold_takes_the_place_of_the_operating_point(model_folder: Path, inputs: Path, threshold: float) -> None:
    ran = run("score", inputs, "-o", "-", "--model", model_folder, "--threshold", threshold)
    assert rows(ran.out) == expected_rows(model_folder, threshold)
    assert f"at threshold {threshold:g}" in ran.err


def test_another_operating_point_can_be_named(model_folder: Path, inputs: Path) -> None:
    ran = run("score", inputs, "-o", "-", "--model", model_folder, "--at", "sensitive")
    assert rows(ran.out) == expected_rows(model_folder, "sensitive")
    assert {row["operating_point"] for row in rows(ran.out)} == {"sensitive"}


@pytest.mark.parametrize(
    "options",
    [
        ["--at", "nowhere"],
        ["--at", "balanced", "--threshold", "0.5"],
        ["--threshold", "1.5"],
        ["--threshold", "-0.1"],
        ["--threshold", "nan"],
        ["--threshold", "high"],
        ["--jobs", "0"],
        ["--evidence", "-1"],
        ["--other"],
    ],
)
def test_wrong_options_are_wrong_usage_and_write_nothing(
    model_folder: Path, inputs: Path, output: Path, options: list[str]
) -> None:
    assert_is_wrong_usage(run("score", inputs, "-o", output, "--model", model_folder, *options))
    assert not output.exists()


@pytest.mark.parametrize("args", [["score"], ["score", "x.jsonl"], ["explain", "x.jsonl"], ["train"], ["nothing"]])
def test_a_command_that_lacks_something_is_wrong_usage(args: list[str]) -> None:
    assert_is_wrong_usage(run(*args))


def test_an_unknown_operating_point_is_answered_with_those_that_there_are(model_folder: Path, inputs: Path) -> None:
    ran = run("score", inputs, "-o", "-", "--model", model_folder, "--at", "nowhere")
    assert "balanced, sensitive" in ran.err


@pytest.mark.parametrize("command", ["score", "explain", "train", "info"])
def test_help_is_on_standard_output(command: str) -> None:
    ran = run(command, "--help")
    assert (ran.status, ran.err) == (0, "")
    assert b"Usage" in ran.out


# --- score: bad data ---------------------------------------------------------------------------------------------


def test_bad_data_is_one_error_and_an_older_output_stays_as_it_was(
    model_folder: Path, inputs: Path, output: Path
) -> None:
    inputs.write_bytes(inputs.read_bytes() + f'{{"{CANARY}"\n'.encode())
    output.write_bytes(b"old")
    ran = run("score", inputs, "-o", output, "--model", model_folder)
    assert_is_one_error(ran, f"{inputs}, line {len(BATCH) + 1}: not JSON")
    assert output.read_bytes() == b"old"
    assert files_of(output.parent) == ["in.jsonl", "out.jsonl"]


def test_bad_data_leaves_no_output_where_there_was_none(model_folder: Path, inputs: Path, output: Path) -> None:
    inputs.write_bytes(inputs.read_bytes() + b"{}\n")
    assert_is_one_error(run("score", inputs, "-o", output, "--model", model_folder), "thread_id")
    assert files_of(output.parent) == ["in.jsonl"]


def test_an_error_is_one_line_and_not_even_a_blank_one_beside_it(model_folder: Path, tmp_path: Path) -> None:
    ran = run("score", tmp_path / "none.jsonl", "-o", "-", "--model", model_folder)
    assert len(ran.err.splitlines()) == 1


def test_bad_lines_can_be_set_aside(model_folder: Path, inputs: Path, output: Path) -> None:
    lines = inputs.read_bytes().splitlines(keepends=True)
    lines[3:3] = [f'{{"{CANARY}"\n'.encode(), b'{"thread_id": "x", "messages": []}\n']
    lines.append(lines[0])
    inputs.write_bytes(b"".join(lines))
    ran = run("score", inputs, "-o", output, "--model", model_folder, "--skip-bad")
    assert (ran.status, ran.out) == (0, b"")
    assert rows(output.read_bytes()) == expected_rows(model_folder)
    bad = Path(f"{output}.bad.jsonl")
    errors = [row["error"] for row in rows(bad.read_bytes())]
    assert [re.search(r", line (\d+): ", error)[1] for error in errors] == ["4", "5", str(len(lines))]  # type: ignore[index]
    assert f"3 lines set aside, listed in {bad}" in ran.err
    assert CANARY.encode() not in bad.read_bytes()
    assert files_of(output.parent) == ["in.jsonl", "out.jsonl", "out.jsonl.bad.jsonl"]


def test_without_bad_lines_the_file_of_bad_lines_is_empty(model_folder: Path, inputs: Path, output: Path) -> None:
    ran = run("score", inputs, "-o", output, "--model", model_folder, "--skip-bad")
    assert "0 lines set aside" in ran.err
    assert Path(f"{output}.bad.jsonl").read_bytes() == b""


def test_setting_bad_lines_aside_does_not_hide_an_input_that_is_missing(
    model_folder: Path, inputs: Path, output: Path
) -> None:
    ran = run("score", inputs, output.parent / "missing.jsonl", "-o", output, "--model", model_folder, "--skip-bad")
    assert_is_one_error(ran, "missing.jsonl: cannot be read")
    assert files_of(output.parent) == ["in.jsonl"]


def test_the_rest_of_an_input_that_is_cut_short_is_set_aside_by_name(model_folder: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl"
    path.write_bytes(gzip.compress(lines_of(BATCH[:9])) + gzip.compress(lines_of(BATCH[9:]))[:-20])
    ran = run("score", path, "-o", output, "--model", model_folder, "--skip-bad")
    assert ran.status == 0
    (bad,) = (tmp_path / "out.jsonl.bad.jsonl").read_text().splitlines()
    assert "is cut short after line" in json.loads(bad)["error"]


@pytest.mark.parametrize("how", ["missing", "folder", "truncated"])
def test_an_input_that_cannot_be_read_is_one_error(model_folder: Path, tmp_path: Path, output: Path, how: str) -> None:
    path = tmp_path / "in.jsonl.gz"
    if how == "folder":
        path.mkdir()
    elif how == "truncated":
        path.write_bytes(gzip.compress(lines_of(BATCH))[:-20])
    assert_is_one_error(run("score", path, "-o", output, "--model", model_folder), str(path))
    assert not output.exists()


def test_the_output_cannot_be_an_input_under_any_name(model_folder: Path, inputs: Path) -> None:
    before = inputs.read_bytes()
    link = inputs.parent / "link.jsonl"
    link.symlink_to(inputs)
    for path in (inputs, inputs.parent / "." / inputs.name, link):
        assert_is_one_error(run("score", inputs, "-o", path, "--model", model_folder), "is an input too")
    assert inputs.read_bytes() == before


def test_an_output_in_no_folder_is_one_error(model_folder: Path, inputs: Path, tmp_path: Path) -> None:
    ran = run("score", inputs, "-o", tmp_path / "none" / "out.jsonl", "--model", model_folder)
    assert_is_one_error(ran, "cannot be written")


def test_an_output_that_is_a_folder_is_one_error(model_folder: Path, inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert_is_one_error(run("score", inputs, "-o", tmp_path / "folder", "--model", model_folder), "folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_an_output_that_is_no_regular_file_is_not_replaced(model_folder: Path, inputs: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        run("score", inputs, "-o", pipe, "--model", model_folder)
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_model_that_cannot_be_used_is_one_error(model_folder: Path, inputs: Path, tmp_path: Path) -> None:
    assert_is_one_error(run("score", inputs, "-o", "-", "--model", tmp_path), "SHA256SUMS")
    assert_is_one_error(run("score", inputs, "-o", "-", "--model", tmp_path / "none"), "no such model folder")
    save_model(load_model(model_folder).replace(operating_points={}), tmp_path / "bare")
    ran = run("score", inputs, "-o", tmp_path / "out", "--model", tmp_path / "bare")
    assert_is_one_error(ran, "the model has none")
    assert run("score", inputs, "-o", "-", "--model", tmp_path / "bare", "--threshold", "0.5").status == 0


def test_a_name_with_brackets_is_shown_as_it_is(model_folder: Path, inputs: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores[new].jsonl"
    assert str(output) in run("score", inputs, "-o", output, "--model", model_folder).err


# --- explain -----------------------------------------------------------------------------------------------------


def explained(text: str) -> tuple[list[float], float]:
    """Return the contributions that are listed, the intercept among them, and the score."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if "contribution" in line)
    *parts, score = [float(re.sub(r"\x1b\[[0-9;]*m", "", line).split()[-1]) for line in lines[start + 1 :]]
    return parts, score


@pytest.mark.parametrize("top", [0, 2, 1000])
def test_what_is_listed_adds_up_to_the_score(model_folder: Path, inputs: Path, top: int) -> None:
    model = load_model(model_folder)
    for one in BATCH[:3]:
        ran = run("explain", inputs, "--thread", one.thread_id, "--model", model_folder, "--top", top)
        assert (ran.status, ran.err) == (0, "")
        parts, score = explained(ran.out.decode())
        assert sum(parts) == pytest.approx(score, abs=1e-4 * len(parts))
        assert score == pytest.approx(model.assess(one).score, abs=1e-4)
        assert parts[-1] == pytest.approx(model.intercept, abs=1e-4)
        assert len(parts) <= top + 2


def test_an_explanation_says_what_the_assessment_says(model_folder: Path, inputs: Path) -> None:
    one = BATCH[0]
    answer = load_model(model_folder).assess(one)
    text = run("explain", inputs, "--thread", one.thread_id, "--model", model_folder).out.decode()
    assert f"{one.thread_id}: {answer.n_messages} messages, {answer.n_authors} authors" in text
    assert f"messages {answer.segment[0]} to {answer.segment[1] - 1}" in text
    assert f"{answer.probability:.6f} (prior 0.1)" in text
    for risk in answer.authors:
        assert f"{risk.author}: {risk.probability:.3f}" in text


def test_an_explanation_of_a_thread_with_too_little_text_says_so(model_folder: Path, inputs: Path) -> None:
    ran = run("explain", inputs, "--thread", "empty", "--model", model_folder)
    assert ran.status == 0
    assert b"abstains" in ran.out
    parts, score = explained(ran.out.decode())
    assert sum(parts) == pytest.approx(score, abs=1e-4)


def test_a_thread_that_is_not_there_is_one_error(model_folder: Path, inputs: Path) -> None:
    assert_is_one_error(run("explain", inputs, "--thread", "none", "--model", model_folder), f"{inputs}: has no thread")


def test_standard_input_is_explained_and_bad_lines_are_passed_over(model_folder: Path) -> None:
    ran = run("explain", "-", "--thread", "t0", "--model", model_folder, stdin=b"{\n" + lines_of(BATCH))
    assert ran.status == 0
    assert b"t0" in ran.out


def test_explaining_from_a_file_that_cannot_be_read_says_why(model_folder: Path, tmp_path: Path) -> None:
    ran = run("explain", tmp_path / "none.jsonl", "--thread", "t", "--model", model_folder)
    assert_is_one_error(ran, "cannot be read")


def test_long_ids_are_shown_whole(model_folder: Path) -> None:
    author, message_id = "author" + "0" * 128, "message" + "1" * 128
    one = Thread("t", [Message(author, "tea and a kettle", message_id=message_id)])
    ran = run("explain", "-", "--thread", "t", "--model", model_folder, stdin=lines_of([one]))
    assert message_id in ran.out.decode()


def test_ids_with_lone_surrogates_are_explained(model_folder: Path, inputs: Path) -> None:
    assert command("explain", inputs, "--thread", "ids", "--model", model_folder).returncode == 0


def test_ids_that_look_like_markup_are_shown_as_they_are(model_folder: Path) -> None:
    one = Thread("[b]t[/b]", [Message("[red]a[/x]", "tea and a kettle", message_id="[i]m[/]")])
    ran = run("explain", "-", "--thread", "[b]t[/b]", "--model", model_folder, stdin=lines_of([one]))
    assert ran.status == 0
    for name in ("[b]t[/b]", "[red]a[/x]", "[i]m[/]"):
        assert name in ran.out.decode()


# --- info --------------------------------------------------------------------------------------------------------


def test_info_describes_a_model(tmp_path: Path) -> None:
    points = {name: OperatingPoint(name, 0.4) for name in ("balanced", "sensitive")}
    model = small_model(rule=SegmentRule(8, 3), min_amount=10).replace(operating_points=points)
    save_model(model, tmp_path / "model")
    ran = run("info", "--model", tmp_path / "model")
    assert (ran.status, ran.err) == (0, "")
    text = ran.out.decode()
    for part in (__version__, "small", "4096 buckets", "prior", "balanced", "sensitive", "0.4", "at most 8 messages"):
        assert part in text


@needs_bundled_model
def test_info_describes_the_bundled_model_by_default() -> None:
    ran = run("info")
    assert (ran.status, ran.err) == (0, "")
    assert load_model().name in ran.out.decode()


def test_info_shows_whatever_was_measured_at_a_point(model_folder: Path) -> None:
    assert run("info", "--model", model_folder).status == 0


def test_info_on_what_is_no_model_is_one_error(tmp_path: Path) -> None:
    assert_is_one_error(run("info", "--model", tmp_path), "SHA256SUMS")


# --- train -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("labelled")
    return (
        write_threads(folder / "train.jsonl", labelled_threads(60, prefix="x")),
        write_threads(folder / "dev.jsonl", labelled_threads(40, prefix="y")),
    )


def test_training_reads_no_pipe_which_it_would_read_twice(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for inputs in (
        ("-",),
        (tmp_path / "pipe",),
        (labelled[0], "--dev", "-"),
        (labelled[0], "--dev", tmp_path / "pipe"),
    ):
        ran = run("train", *inputs, "-o", tmp_path / "model")
        assert ran.status == 2
        assert "twice" in ran.err


def test_generated_threads_are_neither_calibrated_nor_chosen_on(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    assert run("generate", "-o", tmp_path / "made.jsonl", "--threads", 3).status == 0
    for name, dev in (("with", [labelled[1], tmp_path / "made.jsonl"]), ("without", [labelled[1]])):
        assert run("train", labelled[0], "--dev", *dev, "-o", tmp_path / name / "m").status == 0
    models = [load_model(tmp_path / name / "m") for name in ("with", "without")]
    assert models[0].calibration == models[1].calibration
    assert models[0].operating_points == models[1].operating_points


@pytest.mark.parametrize("output", ["train.jsonl/model", "/proc/nowhere/model"])
def test_an_output_that_cannot_be_written_is_noticed_before_the_work(tmp_path: Path, output: str) -> None:
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "train.jsonl").write_text("")
    assert_is_one_error(run("train", tmp_path / "broken.jsonl", "-o", tmp_path / output), output.split("/")[-2])


@pytest.mark.parametrize("kind", ["one person", "generated"])
def test_what_cannot_be_held_out_asks_for_development_files(tmp_path: Path, kind: str) -> None:
    threads = [replace(one, person="somebody") for one in labelled_threads(10)]
    if kind == "generated":
        threads = [replace(one, thread_id=f"template/judging/tea/{i}", person=None) for i, one in enumerate(threads)]
    ran = run("train", write_threads(tmp_path / "few.jsonl", threads), "-o", tmp_path / "model")
    assert_is_one_error(ran, "--dev")


def test_training_writes_a_model_that_scores(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "mine-v1"
    ran = run("train", labelled[0], "--dev", labelled[1], "-o", folder, "--prior", 0.01)
    assert ran.status == 0
    assert "mine-v1" in ran.err
    assert b"recall" in ran.out
    model = load_model(folder)
    assert model.name == "mine-v1"
    assert model.calibration.prior == 0.01
    assert set(model.operating_points) == {"balanced", "sensitive"}
    assert files_of(tmp_path) == ["mine-v1"]
    test = labelled_threads(60, prefix="z")
    scored = rows(run("score", "-", "-o", "-", "--model", folder, stdin=lines_of(test)).out)
    flagged = [row["flagged"] for row in scored]
    assert sum(hit for hit, one in zip(flagged, test, strict=True) if one.label == 1) >= 15
    assert sum(hit for hit, one in zip(flagged, test, strict=True) if one.label == 0) <= 8
    assert all(row["suspect"] == "left" for row in scored if row["flagged"])
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# mine-v1\n")
    assert "| train | 60 | 30 | 30 | not described | not stated |" in card


def test_training_again_with_the_same_seed_gives_the_same_bytes(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    for place in ("one", "two"):
        assert run("train", labelled[0], "-o", tmp_path / place / "model", "--seed", 5).status == 0
    assert run("train", labelled[0], "-o", tmp_path / "three" / "model", "--seed", 6).status == 0
    one, two, three = (
        {path.name: path.read_bytes() for path in (tmp_path / place / "model").iterdir()}
        for place in ("one", "two", "three")
    )
    assert one == two
    assert one["weights.safetensors"] != three["weights.safetensors"]


def test_terms_of_the_sources_are_in_the_card(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "terms.toml").write_text('[train]\nwhat = "invented talk"\nterms = "CC0"\n')
    run("train", labelled[0], "-o", tmp_path / "model", "--terms", tmp_path / "terms.toml")
    assert "| invented talk | CC0 |" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["missing", "malformed"])
def test_terms_that_cannot_be_read_are_one_error(labelled: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    if kind == "malformed":
        (tmp_path / "terms.toml").write_text("[tea")
    ran = run("train", labelled[0], "-o", tmp_path / "model", "--terms", tmp_path / "terms.toml")
    assert_is_one_error(ran, "terms.toml")


@pytest.mark.parametrize("where", [0, 1])
def test_a_thread_without_a_label_is_one_error(tmp_path: Path, where: int) -> None:
    sources = [labelled_threads(20, prefix="x"), labelled_threads(20, prefix="y")]
    sources[where][7] = replace(sources[where][7], label=None)
    paths = [write_threads(tmp_path / f"{i}.jsonl", source) for i, source in enumerate(sources)]
    ran = run("train", paths[0], "--dev", paths[1], "-o", tmp_path / "model")
    assert_is_one_error(ran, f"{where}.jsonl", "has no label")
    assert not (tmp_path / "model").exists()


def test_a_person_in_training_and_development_is_one_error(tmp_path: Path) -> None:
    train, dev = labelled_threads(20, prefix="x"), labelled_threads(20, prefix="y")
    dev[4] = replace(dev[4], person=train[2].person)
    paths = [write_threads(tmp_path / "train.jsonl", train), write_threads(tmp_path / "dev.jsonl", dev)]
    ran = run("train", paths[0], "--dev", paths[1], "-o", tmp_path / "model")
    assert_is_one_error(ran, "dev", "split by person")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_is_one_error(tmp_path: Path, label: int) -> None:
    train = [one for one in labelled_threads(40, prefix="x") if one.label == label]
    path = write_threads(tmp_path / "train.jsonl", train)
    assert_is_one_error(run("train", path, "-o", tmp_path / "model"), "both 0 and 1 are needed")


def test_training_files_that_cannot_be_read_are_one_error(tmp_path: Path) -> None:
    assert_is_one_error(run("train", tmp_path / "none.jsonl", "-o", tmp_path / "model"), "cannot be read")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(CANARY)
    assert_is_one_error(run("train", bad, "-o", tmp_path / "model"), f"{bad}, line 1")


def test_a_folder_of_other_things_is_not_trained_over(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "photo.txt").write_text("tea")
    assert_is_one_error(run("train", labelled[0], "-o", tmp_path), "not a model folder")
    assert files_of(tmp_path) == ["photo.txt"]


@pytest.mark.parametrize("prior", ["0", "1", "-1"])
def test_a_prior_that_is_no_share_is_refused(labelled: tuple[Path, Path], tmp_path: Path, prior: str) -> None:
    ran = run("train", labelled[0], "-o", tmp_path / "model", f"--prior={prior}")
    assert ran.status in (1, 2)
    assert "Traceback" not in ran.err
    assert not (tmp_path / "model").exists()


# --- the command as it is installed ------------------------------------------------------------------------------


def command(*args: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [PYTHON, "-W", "error", "-m", "grooming_flag", *map(str, args)],
        env=environment(),
        capture_output=True,
        timeout=120,
        check=False,
        **options,
    )


def test_the_command_scores_from_a_pipe_to_a_pipe(model_folder: Path, inputs: Path) -> None:
    ran = command("score", "-", "-o", "-", "--model", model_folder, input=inputs.read_bytes())
    assert ran.returncode == 0
    assert ran.stdout == run("score", inputs, "-o", "-", "--model", model_folder).out
    assert b"Traceback" not in ran.stderr


def test_the_command_exits_with_one_on_bad_data_and_two_on_wrong_usage(model_folder: Path, inputs: Path) -> None:
    ran = command("score", "-", "-o", "-", "--model", model_folder, input=CANARY.encode())
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert [line for line in ran.stderr.decode().splitlines() if line] == [
        "error: -, line 1: not JSON at character 1; write one thread a line"
    ]
    assert command("score", inputs, "--model", model_folder).returncode == 2


def test_a_reader_that_goes_away_ends_the_command_without_a_traceback(model_folder: Path, tmp_path: Path) -> None:
    batch = [replace(one, thread_id=f"{i}") for i, one in enumerate(BATCH * 60)]
    path = write_threads(tmp_path / "many.jsonl", batch)
    process = subprocess.Popen(
        [PYTHON, "-m", "grooming_flag", "score", str(path), "-o", "-", "--model", str(model_folder)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert b"Traceback" not in errors


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_leaves_no_file(model_folder: Path, tmp_path: Path, signum: int) -> None:
    process = subprocess.Popen(
        [PYTHON, "-m", "grooming_flag", "score", "-", "-o", str(tmp_path / "out.jsonl"), "--model", str(model_folder)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # else ignored in the background
    )
    assert process.stdin is not None
    process.stdin.write(lines_of(BATCH))
    process.stdin.flush()
    for _ in range(600):
        if files_of(tmp_path):
            break
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
    process.send_signal(signum)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert files_of(tmp_path) == []


def test_the_command_tells_its_version() -> None:
    assert run("--version") == (0, f"{__version__}\n".encode(), "")
