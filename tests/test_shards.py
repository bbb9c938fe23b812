"""Scores in a folder: whatever interrupts a run, the next one goes on, and what it ends with is always the same."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import PYTHON, environment, error_of, labelled_threads, small_model, thread, write_threads
from cli import run

from grooming_flag import DataError, Thread, save_model
from grooming_flag import batch as scoring
from grooming_flag.batch import Summary, score_files
from grooming_flag.io.shards import MANIFEST, shard_folder
from grooming_flag.io.threads import read_columns

N = 95
PROGRAM = """
import os, signal, sys
import grooming_flag as gf
from grooming_flag import batch
batch.SHARD_THREADS = 10
model, log, out, life = sys.argv[1:]
loaded, moments = gf.load_model(model), 0

def reaper(event, args):  # whatever it does to what it writes may be the last that it does
    global moments
    if os.path.basename(out.rstrip("/")) in str(args):
        moments += 1
        if moments == int(life):
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(reaper)
batch.score_files([log], out, loaded, 0.3, n_jobs=2, bad_lines=out.rstrip("/") + ".bad")
print(moments)
"""


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SHARD_THREADS", 10)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_threads(tmp_path / "log.jsonl", labelled_threads(N))


def score(log: Path, folder: Path, **options: Any) -> Summary:
    return score_files([log], f"{folder}/", small_model(), **{"at": 0.3, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def interrupted(log: Path, folder: Path, n: int) -> None:
    """Begin a run and break it off after so many threads."""

    class BrokenError(Exception):
        pass

    def answers(*arguments: Any) -> Iterator[Any]:
        for i, answer in enumerate(before(*arguments)):
            if i == n:
                raise BrokenError
            yield answer

    before = scoring._answers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_answers", answers)
        with pytest.raises(BrokenError):
            score(log, folder)


# --- what is in a folder -----------------------------------------------------------------------------------------


def test_shards_end_to_end_are_the_file(tmp_path: Path, log: Path) -> None:
    summary = score(log, tmp_path / "scores")
    whole = score_files([log], tmp_path / "scores.jsonl", small_model(), 0.3)
    found = contents(tmp_path / "scores")
    assert list(found) == [MANIFEST, *(f"part-{i:05}.jsonl" for i in range(10))]
    assert b"".join(list(found.values())[1:]) == (tmp_path / "scores.jsonl").read_bytes()
    assert (summary.threads, summary.flagged) == (N, whole.flagged)
    manifest = json.loads(found[MANIFEST])
    assert manifest["complete"]
    assert [shard["threads"] for shard in manifest["shards"]] == [10] * 9 + [5]
    assert sum(shard["flagged"] for shard in manifest["shards"]) == whole.flagged > 0


def test_shards_of_a_name_that_ends_in_parquet_are_parquet(tmp_path: Path, log: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    score(log, tmp_path / "scores.parquet")
    score_files([log], tmp_path / "whole.parquet", small_model(), 0.3)
    parts = [row for path in sorted((tmp_path / "scores.parquet").glob("*.parquet")) for row in rows_of(parquet, path)]
    assert parts == rows_of(parquet, tmp_path / "whole.parquet")


def rows_of(parquet: Any, path: Path) -> list[Any]:
    rows: list[Any] = parquet.ParquetFile(path).read().to_pylist()
    return rows


def test_flagged_threads_alone_when_asked_for(tmp_path: Path, log: Path) -> None:
    everything = score_files([log], tmp_path / "all.jsonl", small_model(), 0.3)
    summary = score_files([log], tmp_path / "flagged.jsonl", small_model(), 0.3, only_flagged=True)
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert (tmp_path / "flagged.jsonl").read_text().splitlines() == [x for x in lines if json.loads(x)["flagged"]]
    assert (summary.threads, summary.flagged) == (everything.threads, everything.flagged)


def test_no_threads_make_a_complete_folder_without_shards(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"")
    assert score(tmp_path / "log.jsonl", tmp_path / "scores").threads == 0
    assert list(contents(tmp_path / "scores")) == [MANIFEST]


# --- interruptions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 9, 10, 11, 37, 90, 94])
@pytest.mark.parametrize("options", [{}, {"evidence": 2}, {"n_jobs": 2}])
def test_a_run_goes_on_where_another_broke_off(tmp_path: Path, log: Path, n: int, options: dict[str, Any]) -> None:
    expected = score(log, tmp_path / "undisturbed", **options)
    if "evidence" not in options:
        interrupted(log, tmp_path / "scores", n)
        assert len(list((tmp_path / "scores").glob("part-*"))) == n // 10
    summary = score(log, tmp_path / "scores", **options)
    assert contents(tmp_path / "scores") == contents(tmp_path / "undisturbed")
    assert (summary.threads, summary.messages, summary.flagged) == (
        expected.threads,
        expected.messages,
        expected.flagged,
    )
    assert (summary.scored_before > 0) == (n >= 10 and "evidence" not in options)


def test_a_complete_folder_is_left_as_it_is(tmp_path: Path, log: Path) -> None:
    score(log, tmp_path / "scores")
    before = contents(tmp_path / "scores")
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "scores").iterdir())]
    summary = score(log, tmp_path / "scores")
    assert (summary.threads, summary.scored_before) == (N, summary.messages)
    assert contents(tmp_path / "scores") == before
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "scores").iterdir())] == times


def test_bad_lines_are_listed_once_however_often_a_run_is_interrupted(tmp_path: Path) -> None:
    lines = [json.dumps({"thread_id": f"t{i}", "messages": [{"author": "a", "text": "tea"}]}) for i in range(40)]
    lines[::7] = ["{not JSON"] * len(lines[::7])
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(lines))
    expected = score(log, tmp_path / "undisturbed", bad_lines=tmp_path / "expected")
    score(log, tmp_path / "scores", bad_lines=tmp_path / "bad")
    manifest = tmp_path / "scores" / MANIFEST
    found = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**found, "shards": found["shards"][:2], "complete": False, "bad": 0}))
    summary = score(log, tmp_path / "scores", bad_lines=tmp_path / "bad")
    assert summary.bad == expected.bad == 6
    assert (tmp_path / "bad").read_bytes() == (tmp_path / "expected").read_bytes()
    assert contents(tmp_path / "scores") == contents(tmp_path / "undisturbed")
    assert score(log, tmp_path / "scores", bad_lines=tmp_path / "bad").bad == 6


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path, log: Path) -> None:
    chance = random.Random(0)
    with log.open("ab") as out:
        out.write(b"not a thread\n")
    save_model(small_model(), tmp_path / "model")

    def lived(folder: Path, life: int) -> subprocess.CompletedProcess[bytes]:
        command = [PYTHON, "-c", PROGRAM, str(tmp_path / "model"), str(log), f"{folder}/", str(life)]
        return subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=False, timeout=60)

    n_moments = int(lived(tmp_path / "undisturbed", 0).stdout)
    for life in chance.sample(range(1, n_moments), 20):
        shutil.rmtree(tmp_path / "scores", ignore_errors=True)
        assert lived(tmp_path / "scores", life).returncode == -signal.SIGKILL
        again = lived(tmp_path / "scores", chance.randint(1, n_moments))
        assert again.returncode in (0, -signal.SIGKILL)
        for path in (tmp_path / "scores").glob("part-*"):
            assert path.read_bytes() == (tmp_path / "undisturbed" / path.name).read_bytes()
        assert lived(tmp_path / "scores", 0).returncode == 0
        assert contents(tmp_path / "scores") == contents(tmp_path / "undisturbed")
        assert (tmp_path / "scores.bad").read_bytes() == (tmp_path / "undisturbed.bad").read_bytes()


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"at": 0.2}, "operating point"),
        ({"evidence": 1}, "evidence"),
        ({"only_flagged": True}, "choice of rows"),
    ],
)
def test_scores_of_other_settings_are_not_continued(
    tmp_path: Path, log: Path, options: dict[str, Any], named: str
) -> None:
    interrupted(log, tmp_path / "scores", 25)
    before = contents(tmp_path / "scores")
    message = str(error_of(lambda: score(log, tmp_path / "scores", **options), DataError))
    assert f"holds scores of another {named}; name a new folder, or delete it" in message
    assert contents(tmp_path / "scores") == before


def test_scores_of_another_input_or_model_are_not_continued(tmp_path: Path, log: Path) -> None:
    interrupted(log, tmp_path / "scores", 25)
    other = small_model().replace(weights=-small_model().weights)
    message = str(error_of(lambda: score_files([log], f"{tmp_path}/scores/", other, 0.3), DataError))
    assert "another model;" in message
    write_threads(log, labelled_threads(N - 1))
    assert "another input;" in str(error_of(lambda: score(log, tmp_path / "scores"), DataError))


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"format": 1}', b"\xff"])
def test_what_is_not_a_manifest_is_named(tmp_path: Path, log: Path, raw: bytes) -> None:
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / MANIFEST).write_bytes(raw)
    assert f"{MANIFEST}: is not a manifest" in str(error_of(lambda: score(log, tmp_path / "scores"), DataError))


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, log: Path) -> None:
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "letters.txt").write_text("hi")
    assert "holds other files" in str(error_of(lambda: score(log, tmp_path / "scores"), DataError))
    assert list(contents(tmp_path / "scores")) == ["letters.txt"]


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{}")])
def test_a_shard_that_was_changed_is_named(tmp_path: Path, log: Path, harm: Any) -> None:
    interrupted(log, tmp_path / "scores", 25)
    harm(tmp_path / "scores" / "part-00001.jsonl")
    assert "part-00001.jsonl: is not as it was written" in str(
        error_of(lambda: score(log, tmp_path / "scores"), DataError)
    )


def test_two_runs_at_once_do_not_write_to_one_folder(tmp_path: Path, log: Path) -> None:
    pytest.importorskip("fcntl", reason="folders cannot be locked here")
    with shard_folder(tmp_path / "scores", {}):
        (tmp_path / "scores" / ".part-00000.jsonl.0.partial").write_bytes(b"of the other run")
        with pytest.raises(DataError, match="another run is writing here"):
            score(log, tmp_path / "scores")
        assert list(contents(tmp_path / "scores")) == [".part-00000.jsonl.0.partial"]
    assert score(log, tmp_path / "scores").threads == N


def test_standard_input_cannot_be_continued() -> None:
    assert "standard input cannot be read again" in str(error_of(lambda: score(Path("-"), Path("scores")), DataError))


def test_a_full_disk_is_said_plainly_and_leaves_nothing_half_written(tmp_path: Path, log: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    error = error_of(lambda: score_files([log], full, small_model(), 0.3), DataError)
    assert "/dev/full: cannot be written: No space left on device" in str(error)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="there is no prlimit here")
def test_a_file_that_may_not_grow_stops_the_run_which_can_go_on(tmp_path: Path, log: Path) -> None:
    save_model(small_model(), tmp_path / "model")
    score(log, tmp_path / "undisturbed")
    arguments = [
        "score",
        str(log),
        "-o",
        f"{tmp_path}/scores/",
        "--model",
        str(tmp_path / "model"),
        "--threshold",
        "0.3",
    ]
    limited = ["prlimit", "--fsize=900", PYTHON, "-m", "grooming_flag", *arguments]
    ran = subprocess.run(limited, env=environment(), capture_output=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert b"cannot be written: File too large" in ran.stderr
    assert b"Traceback" not in ran.stderr
    assert not [path for path in (tmp_path / "scores").iterdir() if path.name.startswith("part")]
    score(log, tmp_path / "scores")
    assert contents(tmp_path / "scores") == contents(tmp_path / "undisturbed")


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_says_what_a_run_before_has_scored(tmp_path: Path, log: Path) -> None:
    save_model(small_model(), tmp_path / "model")
    arguments = ["score", log, "-o", f"{tmp_path}/scores/", "--model", tmp_path / "model", "--threshold", 0.3]
    first, second = run(*arguments, "--skip-bad"), run(*arguments, "--skip-bad")
    assert first.status == second.status == 0
    assert "scored by a run before" not in first.err
    assert "of these 1,365 messages scored by a run before this one" in second.err
    assert (tmp_path / "scores.bad.jsonl").exists()


def test_a_batch_without_its_first_threads_holds_the_others(tmp_path: Path) -> None:
    written = [thread(*["tea \u2615"] * (1 + i), thread_id=f"t{i}") for i in range(6)]
    path = write_threads(tmp_path / "log.jsonl", written)
    for n in range(8):
        expected = list(small_model().assess_many(written[n:], 0.3))
        batches = scoring.without_first(read_columns(path), n)
        assert list(small_model().assess_columns(batches, 0.3)) == expected
    assert Thread("x", []).messages == ()


# --- which rows --------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("capacity", [1, 7, N, N + 5])
@pytest.mark.parametrize("options", [{}, {"n_jobs": 2}, {"evidence": 1}])
def test_the_highest_are_written_highest_first(tmp_path: Path, capacity: int, options: dict[str, Any]) -> None:
    log = write_threads(tmp_path / "log.jsonl", [thread("a", thread_id="little"), *labelled_threads(N)])
    score_files([log], tmp_path / "all.jsonl", small_model(), 0.3, **options)
    summary = score_files([log], tmp_path / "highest.jsonl", small_model(), 0.3, capacity=capacity, **options)
    known = [row for row in read_rows(tmp_path / "all.jsonl") if row["probability"] is not None]
    assert read_rows(tmp_path / "highest.jsonl") == sorted(known, key=lambda row: -row["probability"])[:capacity]
    assert (summary.threads, summary.abstained) == (N + 1, 1)


def test_the_first_threads_alone(tmp_path: Path, log: Path) -> None:
    everything = score_files([log], tmp_path / "all.jsonl", small_model(), 0.3)
    summary = score_files([log], tmp_path / "first.jsonl", small_model(), 0.3, limit=17)
    assert (tmp_path / "all.jsonl").read_bytes().startswith((tmp_path / "first.jsonl").read_bytes())
    assert (summary.threads, everything.threads) == (len(read_rows(tmp_path / "first.jsonl")), N) == (17, N)
    assert score(log, tmp_path / "scores", limit=17).threads == 17
    parts = [path.read_bytes() for path in sorted((tmp_path / "scores").glob("part-*"))]
    assert len(parts) == 2
    assert b"".join(parts) == (tmp_path / "first.jsonl").read_bytes()
    manifest = tmp_path / "scores" / MANIFEST
    found = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**found, "shards": found["shards"][:1], "complete": False}))
    assert score(log, tmp_path / "scores", limit=17).threads == 17
    assert json.loads(manifest.read_bytes()) == found
    assert "another limit" in str(error_of(lambda: score(log, tmp_path / "scores", limit=18), DataError))


def test_the_highest_do_not_go_into_a_folder(tmp_path: Path, log: Path) -> None:
    assert "to a file" in str(error_of(lambda: score(log, tmp_path / "scores", capacity=3), DataError))
    assert not (tmp_path / "scores").exists()
