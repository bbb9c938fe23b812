"""Every example runs: those of the docstrings, of the README and of the folder of examples."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest
from builders import PYTHON, ROOT, environment, needs_bundled_model
from servers import without_service

import grooming_flag

SPARK = "grooming_flag.spark"  # whose examples need a session, and run in test_spark.py
FOUND = [found.name for found in pkgutil.walk_packages(grooming_flag.__path__, "grooming_flag.")]
MODULES = ["grooming_flag", *(name for name in FOUND if name != SPARK)]
THREADS = ROOT / "examples" / "threads.jsonl"
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != "spark_job.py")
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] if path.exists())
FLAGS = doctest.ELLIPSIS

needs_examples = pytest.mark.skipif(not THREADS.exists(), reason="the examples are not installed")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@needs_examples
@needs_bundled_model
@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_give_what_they_say(name: str) -> None:
    ran = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert ran.failed == 0


@needs_examples
@needs_bundled_model
def test_there_are_examples_to_run() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in ("model", "features", "records", "io.threads") for test in finder.find(module(name))]
    assert sum(bool(test.examples) for test in found) >= 4


def module(name: str) -> object:
    return importlib.import_module(f"grooming_flag.{name}")


@needs_examples
@needs_bundled_model
@pytest.mark.parametrize("page", [pytest.param(path, id=path.name) for path in PAGES])
def test_examples_of_a_page_give_what_they_say(page: Path) -> None:
    ran = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8")
    assert ran.failed == 0


@pytest.mark.parametrize("page", [pytest.param(path, id=path.name) for path in PAGES])
def test_python_blocks_of_a_page_are_examples_that_run(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    assert all(block.startswith(">>> ") for block in blocks)


@pytest.mark.parametrize("page", [pytest.param(path, id=path.name) for path in PAGES])
def test_files_that_a_page_points_to_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


@needs_bundled_model
@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in EXAMPLES])
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    if path.name == "moderation_service.py" and without_service:
        pytest.skip(without_service)
    env = {**environment(), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [PYTHON, "-W", "error", str(path)],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert b"Traceback" not in ran.stderr


@needs_examples
def test_the_bundled_threads_are_labelled_and_of_both_kinds() -> None:
    threads = list(grooming_flag.read_threads(os.fspath(THREADS)))
    assert {one.label for one in threads} == {0, 1}
    assert all(one.suspects for one in threads if one.label)


@needs_examples
@needs_bundled_model
def test_what_the_readme_says_of_the_examples_and_of_the_card_is_so() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    card = (ROOT / "models/en-v1/README.md").read_text(encoding="utf-8")
    cells = re.findall(r"[\d.]+ \[[\d.]+, [\d.]+\]", readme)
    assert len(cells) == 16
    assert [cell for cell in cells if cell not in card] == []
    model = grooming_flag.load_model()
    threads = list(grooming_flag.read_threads(ROOT / "examples/threads.jsonl"))
    flagged = {
        (point, label): sum(a.flagged for a in model.assess_many([t for t in threads if t.label == label], at=point))
        for point in ("balanced", "sensitive")
        for label in (0, 1)
    }
    assert flagged == {("balanced", 0): 0, ("balanced", 1): 2, ("sensitive", 0): 0, ("sensitive", 1): 3}
