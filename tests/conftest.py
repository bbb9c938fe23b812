"""Hypothesis profiles, and the fixture that runs a test on the compiled and on the interpreted kernel."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import Any

import offline.sitecustomize  # noqa: F401 - no test reaches the network
import pytest
from builders import bundled, small_model
from hypothesis import settings
from pools import small_evaluations
from servers import redis_url  # noqa: F401

import grooming_flag
from grooming_flag import _kernel, features, live, model

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=45)
settings.register_profile("explore", derandomize=False, deadline=None, max_examples=2000)  # --hypothesis-profile=...
settings.load_profile("ci")


def interpreted_kernel() -> ModuleType:
    return interpreted_module("_kernel")


@cache
def interpreted_module(module: str) -> ModuleType:
    """Return the source of a compiled module as one of its own, as it runs where no compiler and no Cython is."""
    path = Path(grooming_flag.__file__).parent / f"{module}.py"
    if not path.exists():
        pytest.skip("the source is not installed")
    name = "interpreted" + path.stem
    spec = util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    found = util.module_from_spec(spec)
    sys.modules[name] = found
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cython", None)
        spec.loader.exec_module(found)
    assert not found.compiled
    return found


def compiled_kernel() -> ModuleType:
    if not _kernel.compiled:
        pytest.skip("there is no compiled kernel here")
    return _kernel


KERNELS: dict[str, Callable[[], ModuleType]] = {"compiled": compiled_kernel, "interpreted": interpreted_kernel}


@pytest.fixture(scope="module", params=list(KERNELS))
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the package on this kernel; the value is the kernel's name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_kernel", KERNELS[request.param]())
        if request.param == "interpreted":
            patch.setattr(live, "Tally", interpreted_module("_tally").Tally)
            patch.setattr(live, "pack", interpreted_module("_tally").pack)
            patch.setattr(model, "Answerer", interpreted_module("_answers").Answerer)
        for kept in (small_model, bundled):  # with what they run on
            kept.cache_clear()
        yield request.param
        for kept in (small_model, bundled):
            kept.cache_clear()


@pytest.fixture(scope="module")  # while it runs, asyncio.run does not
def browser() -> Iterator[Any]:
    """Return a Chromium without windows, in which tests open pages of their own."""
    chromium = shutil.which("chromium")
    if chromium is None or util.find_spec("playwright") is None:
        absent = pytest.fail if os.environ.get("GROOMING_FLAG_REQUIRE_BROWSER") else pytest.skip
        absent("a browser test needs Playwright and Chromium (apt-get install chromium; pip install playwright)")
    playwright = import_module("playwright.sync_api")
    with playwright.sync_playwright() as run:
        launched = run.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def quick_evaluations() -> Iterator[None]:
    """Let whole evaluations, with which training ends, take little time in the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        small_evaluations(patch, 20)
        yield
