"""Message text never comes out: not in answers, errors, logs, the output of the command or a saved model."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from builders import (
    CANARY,
    PYTHON,
    ROOT,
    environment,
    error_of,
    labelled_threads,
    lines_of,
    row_of,
    small_model,
    thread,
    write_threads,
)
from cli import run

from grooming_flag import (
    FeatureExtractor,
    GroomingFlagError,
    Message,
    Model,
    OperatingPoint,
    Thread,
    load_model,
    read_threads,
    save_model,
)
from grooming_flag.batch import score_files
from grooming_flag.cli import app
from grooming_flag.features import pack_by_author
from grooming_flag.training import GroomingClassifier

pytestmark = pytest.mark.usefixtures("quick_evaluations")

SECRET = f"{CANARY} tea {CANARY.upper()}2 kettle@{CANARY}.example @{CANARY} www.{CANARY}.example"
PIECES = [CANARY, CANARY.upper(), CANARY[2:-2]]


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does, no log that any level lets through may quote what was said."""
    with caplog.at_level(logging.DEBUG):
        yield
    assert_is_silent(caplog.text, *(repr(vars(record)) for record in caplog.get_records("call")))


def assert_is_silent(*shown: str | bytes) -> None:
    for text in shown:
        found = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        for piece in PIECES:
            assert piece.encode() not in found


def everything(folder: Path) -> list[bytes]:
    """Return the names and bytes of all files of a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [*(str(path).encode() for path in paths), *(path.read_bytes() for path in paths)]


def secret_threads(n: int = 40) -> list[Thread]:
    """Return labelled threads in which everybody quotes the canary, so that no floor leaves it out."""
    return [
        replace(one, messages=[replace(message, text=f"{message.text} {SECRET}") for message in one.messages])
        for one in labelled_threads(n)
    ]


def test_answers_hold_no_text() -> None:
    found = thread(SECRET, "tea", f"\ud800{SECRET}", label=1)
    model = small_model()
    answers = [model.assess(found), model.assess(found).authors, model.assess(found, 0.0).flag, model.explain(found)]
    answers += list(model.assess_many([found] * 3, 0.0, n_jobs=2))
    for answer in answers:
        assert_is_silent(repr(answer), str(answer))


def test_the_repr_of_records_and_of_what_holds_them_shows_no_text() -> None:
    message = Message("a", SECRET, 1.0, "m")
    found = Thread("t", [message], 1, ["a"], "p")
    for record in (message, found, [found], {"messages": found.messages}):
        assert_is_silent(repr(record), str(record), f"{record}")
    assert "author='a'" in repr(message)
    assert "thread_id='t'" in repr(found)


def test_the_repr_of_a_model_and_its_parts_shows_no_key() -> None:
    extractor = FeatureExtractor(2**12, char_ngrams=(4, 4), key=CANARY)
    model = small_model().replace(extractor=extractor)
    classifier = GroomingClassifier(extractor=extractor)
    for one in (model, extractor, model.operating_points, model.calibration, classifier):
        assert_is_silent(repr(one), str(one))
    with suppress(AttributeError):
        assert_is_silent(classifier._repr_html_())
    assert "key='...'" in repr(extractor)


def test_errors_about_a_key_do_not_quote_it() -> None:
    for key in (CANARY * 9, CANARY + "\ud800"):
        with pytest.raises(ValueError) as caught:
            FeatureExtractor(key=key).scanner()
        assert_is_silent(str(caught.value))


def test_errors_of_models_and_records_quote_no_text() -> None:
    found = thread(SECRET)
    for call in (
        lambda: small_model().assess(found, "nowhere"),
        lambda: small_model().assess(found, 2.0),
        lambda: GroomingClassifier().fit([found], [1]),
        lambda: GroomingClassifier().fit([found, found], [1]),
        lambda: GroomingClassifier().fit([SECRET, SECRET], [0, 1]),  # type: ignore[list-item]
        lambda: GroomingClassifier(folds=2, floor=1).fit([found] * 4, [0, 1, 1, 1]),
        lambda: FeatureExtractor(3).transform([found]),
        lambda: FeatureExtractor().set_params(other=found),
    ):
        error = error_of(call, Exception)
        assert_is_silent(*traceback.format_exception_only(error), repr(error))


@pytest.mark.parametrize("field", ["author", "text", "sent_at", "message_id"])
@pytest.mark.parametrize("value", [SECRET, [SECRET], {SECRET: SECRET}, f"\ud800{SECRET}"])
def test_reading_never_quotes_whatever_field_is_wrong(tmp_path: Path, field: str, value: object) -> None:
    row = row_of(thread(SECRET, SECRET))
    row["messages"][1][field] = value
    path = tmp_path / "threads.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row)[:-7] + "\n")
    errors: list[GroomingFlagError] = []
    for one in read_threads(path, on_bad=errors.append):
        assert_is_silent(repr(one))
    assert errors
    for error in errors:
        assert_is_silent("".join(traceback.format_exception(error)), repr(error), repr(error.__context__))


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_reading_a_damaged_file_never_quotes_it(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"threads.jsonl{ending}"
    path.write_bytes(SECRET.encode())
    error = error_of(lambda: list(read_threads(path)))
    assert_is_silent("".join(traceback.format_exception(error)), repr(error.__cause__), repr(error.__context__))


def test_scores_summaries_and_files_of_bad_lines_hold_no_text(tmp_path: Path) -> None:
    lines = [lines_of([replace(thread(SECRET), thread_id=str(i))]) for i in range(3)]
    (tmp_path / "in.jsonl").write_bytes(b"".join([*lines, lines[0], SECRET.encode() + b"\n", lines[1][:-9] + b"\n"]))
    (tmp_path / "out").mkdir()
    bad, scores = tmp_path / "out" / "bad.jsonl", tmp_path / "out" / "scores.jsonl"
    summary = score_files([tmp_path / "in.jsonl"], scores, small_model(), 0.0, evidence=5, bad_lines=bad)
    assert (summary.threads, summary.bad) == (3, 3)
    assert_is_silent(repr(summary), *everything(tmp_path / "out"))


def model_folder(tmp_path: Path) -> Path:
    save_model(small_model().replace(operating_points={"balanced": OperatingPoint("balanced", 0.0)}), tmp_path / "m")
    return tmp_path / "m"


def test_the_command_shows_no_text(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (tmp_path / "out").mkdir()
    good = lines_of([thread(SECRET, "tea", SECRET)])
    bad = good + good + SECRET.encode() + b"\n" + good[:-20] + b"\n"
    for raw in (good, bad, SECRET.encode(), gzip.compress(good)):
        output = ("-o", tmp_path / "out" / "scores.jsonl")
        for args in (
            ("score", "-", "-o", "-", "--evidence", 9),
            ("score", "-", *output),
            ("score", "-", *output, "--skip-bad"),
            ("explain", "-", "--thread", "t", "--top", 99),
            ("explain", "-", "--thread", "none"),
        ):
            ran = run(*args, "--model", folder, stdin=raw)
            assert ran.status in (0, 1)
            assert_is_silent(ran.out, ran.err)
    assert_is_silent(*everything(tmp_path))


def test_training_shows_and_saves_no_text(tmp_path: Path) -> None:
    path = write_threads(tmp_path / "train.jsonl", secret_threads(100))
    ran = run("train", path, "-o", tmp_path / "out" / "model")
    assert ran.status == 0
    assert_is_silent(ran.out, ran.err, *everything(tmp_path / "out"))
    model = load_model(tmp_path / "out" / "model")
    weighted = model.extractor.rows(pack_by_author([[Message("a", CANARY)]])).indices
    assert model.weights[weighted].any()  # the word is known to the model, and yet it is nowhere in the folder
    assert_is_silent(repr(model), repr(dict(model.lineage)), repr(model.operating_points))


def test_training_that_fails_shows_no_text(tmp_path: Path) -> None:
    batch = secret_threads(10)
    for wrong in ([replace(batch[0], label=None)], batch[:1], batch[1::2]):
        path = write_threads(tmp_path / "train.jsonl", wrong)
        ran = run("train", path, "-o", tmp_path / "out" / "model")
        assert ran.status == 1
        assert_is_silent(ran.out, ran.err)


def test_a_traceback_of_the_command_shows_no_text(tmp_path: Path) -> None:
    """Pretty tracebacks show local variables, and with them threads; an error that nobody expects must not."""
    code = (
        "import sys\n"
        "from grooming_flag import model\n"
        "from grooming_flag.cli import main\n"
        "def broken(self, packed, *rest): raise ZeroDivisionError\n"
        "model.Model._answers = broken\n"
        "main()\n"
    )
    (tmp_path / "in.jsonl").write_bytes(lines_of([thread(SECRET)]))
    args = ["score", str(tmp_path / "in.jsonl"), "-o", "-", "--model", str(model_folder(tmp_path))]
    ran = subprocess.run(
        [PYTHON, "-c", code, *args], env=environment(), cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert ran.returncode != 0
    assert b"ZeroDivisionError" in ran.stderr
    assert_is_silent(ran.stdout, ran.stderr)


def test_features_are_named_by_number(tmp_path: Path) -> None:
    model: Model = small_model()
    for item in model.explain(thread(SECRET)):
        assert item.feature.startswith("b")
        int(item.feature[1:], 16)


# --- every command, on what it takes and on what is broken in any of its files --------------------------------------

COMMANDS = {
    "score": "score {threads} -o {out}/scores.jsonl --evidence 5 --skip-bad --model {model}",
    "explain": "explain {threads} --thread t0 --model {model}",
    "watch": "watch {messages} --state {out}/states.db --policy {policy} --model {model}",
    "review": "review {threads} {scores} -o {page} --model {model}",  # the page is for whoever reads threads
    "evaluate": "evaluate {threads} -o {out}/report --model {model}",
    "train": "train {threads} -o {out}/trained",
    "tune": "tune {threads} --model {model} --name mine --max-fpr 0.2 --replace",
    "learn-from": "learn-from {verdicts} --model {model} -o {out}/learnt",
    "monitor": "monitor {scores} --reference {before} --threads {threads} --reference-threads {earlier} "
    "--verdicts {verdicts} -o {out}/drift.json --model {model}",
    "split": "split {threads} -o {folds} --folds 2",  # which are threads
    "baseline": "baseline words {threads} -o {out}/baseline.jsonl",
    "generate": "generate -o {out}/generated.jsonl --threads 3",
    "pan12": "pan12 {xml} --authors {authors} -o {out}/pan12 --model {model}",
    "info": "info --model {model}",
    "policy": "policy check {policy} --on {threads} --model {model}",
}


def inputs(folder: Path) -> dict[str, Path]:
    """Return a file of each kind that commands take, with the canary wherever there is text."""
    said = secret_threads()
    files = {"threads": write_threads(folder / "threads.jsonl", said)}
    rows = [{"thread_id": one.thread_id, "author": m.author, "text": m.text} for one in said for m in one.messages]
    verdicts = [
        {"thread_id": f"t{i}", "verdict": kind, "probability": 0.3, "model": "small"}
        for i, kind in enumerate(("confirmed", "dismissed") * 5)
    ]
    for name, lines in (("messages", rows), ("verdicts", verdicts)):
        files[name] = folder / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    files["policy"] = folder / "policy.toml"
    files["policy"].write_text('format = 1\n[default]\nat = "balanced"\n')
    files["xml"] = folder / "pan12.xml"
    line = f'<message line="1"><author>a</author><time>10:00</time><text>{SECRET}</text></message>'
    files["xml"].write_text(f'<conversations><conversation id="c">{line}</conversation></conversations>')
    files["authors"] = folder / "authors.txt"
    files["authors"].write_text("a\n")
    files["model"] = folder / "m"
    save_model(small_model(), files["model"])
    files["scores"] = folder / "scores.jsonl"
    files["before"] = folder / "before.jsonl"
    files["earlier"] = write_threads(folder / "earlier.jsonl", said[::2])
    for name in ("scores", "before"):
        assert run("score", files["threads"], "-o", files[name], "--model", files["model"]).status == 0
    return files


def broken(path: Path, how: str) -> Path:
    """Return a file like another one, with the canary where it should not be."""
    whole = path.read_bytes()
    secret = SECRET.encode()
    change = {"replaced": secret, "cut": whole[: len(whole) // 2 + 3], "inserted": whole[:70] + secret + whole[70:]}
    wrong = path.with_name(f"{how}-{path.name}")
    wrong.write_bytes(change[how])
    return wrong


def test_every_command_is_put_to_the_test() -> None:
    names = [command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands]  # type: ignore[union-attr]
    assert {*names, *(group.name for group in app.registered_groups)} == set(COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_no_command_lets_text_out_whatever_is_broken(name: str, tmp_path: Path) -> None:
    files = inputs(tmp_path)
    used = [kind for kind in files if f"{{{kind}}}" in COMMANDS[name] and kind != "model"]
    cases = [
        files,
        *({**files, kind: broken(files[kind], how)} for kind in used for how in ("replaced", "cut", "inserted")),
    ]
    for number, case in enumerate(cases):
        out = tmp_path / f"out{number}"
        out.mkdir()
        places = {**case, "out": out, "page": tmp_path / "page.html", "folds": tmp_path / f"folds{number}"}
        ran = run(*COMMANDS[name].format(**places).split())
        assert ran.status in ((0, 3) if number == 0 else (0, 1, 3))
        assert_is_silent(ran.out, ran.err, *everything(out), *everything(files["model"]))


def test_a_command_that_is_aborted_leaves_no_core(tmp_path: Path) -> None:
    code = (
        "import os, resource\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)\n"
        "from grooming_flag import model\n"
        "from grooming_flag.cli import main\n"
        "model.Model._answers = lambda *given: os.abort()\n"
        "main()\n"
    )
    (tmp_path / "in.jsonl").write_bytes(lines_of([thread(SECRET)]))
    args = ["score", "in.jsonl", "-o", "-", "--model", str(model_folder(tmp_path))]
    running = subprocess.Popen([PYTHON, "-c", code, *args], env=environment(), cwd=tmp_path)
    _, status = os.waitpid(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    assert os.WIFSIGNALED(status)
    assert not os.WCOREDUMP(status)
