"""The rules of the house: which module may import what, and what no module does."""

from __future__ import annotations

import ast
import inspect
import re
import socket
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from builders import PYTHON, environment, needs_bundled_model

import grooming_flag

PACKAGE = Path(grooming_flag.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix()[:-3] for path in PACKAGE.rglob("*.py"))

# a module may import those of its own layer and of the layers below it
LAYERS = [
    ["cli"],
    ["batch", "decisions", "watcher", "spark", "training", "evaluation", "review"],
    ["artifact", "live"],
    ["model"],
    ["features", "calibration", "policy"],
    ["segments", "text", "_kernel", "_tally", "_answers", "fingerprints", "tactics"],
    ["records", "errors"],
]
UPWARDS = {("model", "live")}  # when asked for a state, which is made for the model
SCORING = ["model", "live", "features", "_kernel", "_tally", "_answers", "calibration", "policy", "segments", "records"]
ANYBODY = {"_version", "_cython"}  # may be imported by all and import nothing of the package
TOP = {"__init__", "__main__"}  # may import all and be imported by nobody
BATCH_EXTRA = {"duckdb", "pyarrow", "pandas", "polars"}
LIVE_EXTRA = {"redis"}
SPARK_EXTRA = {"pyspark"}
REPORT_EXTRA = {"jinja2", "matplotlib", "py3langid"}
NETWORK = {"socket", "ssl", "http", "urllib", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "asyncio", "xmlrpc"}
LAZY = ["sklearn", "scipy", "joblib", "threadpoolctl", *sorted(BATCH_EXTRA | LIVE_EXTRA | REPORT_EXTRA | SPARK_EXTRA)]
NO_WORLD = {"os", "pathlib", "time", "datetime", "random", "tempfile", "shutil", "io", "subprocess", "secrets", "uuid"}


class Import(NamedTuple):
    """One imported name: of which module, where, and whether it runs when the module is imported."""

    name: str
    line: int
    at_once: bool


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


@cache
def imports(module: str) -> list[Import]:
    """Return the imports of a module, relative ones spelt out, with the names taken from the package's own modules."""
    found: list[Import] = []

    def visit(node: ast.AST, at_once: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} is a relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.append(Import(whole if is_module(whole) else node.module, node.lineno, at_once))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child, at_once)
            for child in node.body:
                visit(child, False)
            return
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, at_once and not inside)

    visit(tree(module), True)
    return found


def is_module(dotted: str) -> bool:
    path = PACKAGE.parent / dotted.replace(".", "/")
    return dotted.startswith("grooming_flag.") and (path.with_suffix(".py").exists() or path.is_dir())


def part(module: str) -> str:
    """Return the module, or the package that it is in."""
    return module.split("/")[0]


def own_imports(module: str) -> Iterator[tuple[str, int]]:
    """Yield the parts of this package that a module imports, other than its own package."""
    for one in imports(module):
        head, _, rest = one.name.partition(".")
        if head == "grooming_flag":
            target = rest.split(".")[0]
            if target != part(module):
                yield target, one.line


def foreign_imports(module: str) -> Iterator[tuple[str, Import]]:
    for one in imports(module):
        head = one.name.partition(".")[0]
        if head != "grooming_flag":
            yield head, one


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def calls(module: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def test_every_module_has_a_place_in_the_order() -> None:
    placed = {name for names in LAYERS for name in names} | ANYBODY | TOP | {"io"}
    assert {part(module) for module in MODULES} <= placed
    assert len(MODULES) > 20


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    for target, line in own_imports(module):
        place = f"{module}:{line} imports {target}"
        if part(module) in TOP or target in ANYBODY:
            continue
        assert part(module) not in ANYBODY, place
        assert target not in TOP, place
        if part(module) == "io":
            assert target in ("records", "errors"), place
        elif target == "io":
            assert layer(part(module)) <= layer("batch"), place
        elif (module, target) not in UPWARDS:
            assert layer(target) >= layer(part(module)), place


def test_records_and_errors_import_nothing_of_the_package_nor_of_others() -> None:
    for module in ("records", "errors"):
        assert not list(own_imports(module))
        assert {head for head, _ in foreign_imports(module)} <= {"__future__", "collections", "dataclasses", "typing"}


@pytest.mark.parametrize("module", MODULES)
def test_scientific_packages_are_imported_in_training_and_evaluation_alone(module: str) -> None:
    for head, one in foreign_imports(module):
        if head in ("sklearn", "joblib", "scipy", "threadpoolctl"):
            at_home = part(module) in ("training", "evaluation")
            later = head == "scipy" and module == "features" and not one.at_once
            assert at_home or later, f"{module}:{one.line} imports {one.name}"


@pytest.mark.parametrize("module", MODULES)
def test_packages_of_extras_are_imported_when_they_are_used_and_in_their_place_alone(module: str) -> None:
    for head, one in foreign_imports(module):
        if head in BATCH_EXTRA | LIVE_EXTRA | REPORT_EXTRA:
            place = "evaluation" if head in REPORT_EXTRA else "io"
            assert part(module) == place, f"{module}:{one.line} imports {one.name}"
            assert not one.at_once, f"{module}:{one.line} imports {one.name}"


def test_spark_is_imported_by_its_module_alone() -> None:
    importing = {module for module in MODULES for head, _ in foreign_imports(module) if head in SPARK_EXTRA}
    assert importing == {"spark"}
    assert not [module for module in MODULES if "spark" in [target for target, _ in own_imports(module)]]


@pytest.mark.parametrize("module", MODULES)
def test_nobody_but_the_command_prints(module: str) -> None:
    if part(module) in ("cli", "__main__"):
        return
    for name, line in calls(module):
        assert name not in ("print", "input", "breakpoint", "sys.stdout.write", "sys.stderr.write"), f"{module}:{line}"
    assert not {head for head, _ in foreign_imports(module)} & {"rich", "typer", "logging", "warnings", "tqdm"}, module


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_the_network_or_what_runs_foreign_code(module: str) -> None:
    heads = {head for head, _ in foreign_imports(module)}
    assert not heads & NETWORK
    assert not heads & {
        "pickle",
        "marshal",
        "shelve",
        "dill",
        "cloudpickle",
        "ctypes",
        "subprocess",
        "importlib_metadata",
    }
    for name, line in calls(module):
        assert name not in ("eval", "exec", "compile", "__import__"), f"{module}:{line} calls {name}"
        assert not re.fullmatch(r"(joblib|np|numpy|yaml|pickle)\.load", name), f"{module}:{line} calls {name}"
        assert name not in ("os.system", "os.popen"), f"{module}:{line} calls {name}"


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 80), ("example.org", 443)])
def test_no_test_reaches_the_network_nor_what_it_starts(host: str, port: int) -> None:
    with pytest.raises(PermissionError):
        socket.create_connection((host, port), 1.0)
    code = f"import socket; socket.create_connection(({host!r}, {port}), 1.0)"
    ran = subprocess.run([PYTHON, "-c", code], env=environment(), stderr=subprocess.PIPE, check=False)
    assert b"PermissionError" in ran.stderr


@pytest.mark.parametrize("module", MODULES)
def test_no_module_reads_the_environment(module: str) -> None:
    names = {ast.unparse(node) for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)}
    assert not {name for name in names if name.startswith(("os.environ", "os.getenv"))}


@pytest.mark.parametrize("module", SCORING)
def test_what_scores_knows_no_file_clock_or_chance(module: str) -> None:
    assert not {head for head, _ in foreign_imports(module)} & NO_WORLD
    assert "open" not in [name for name, _ in calls(module)]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(tree(module))


# --- what is loaded ----------------------------------------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    """Return which of the heavy packages a fresh Python has loaded after some code."""
    code += f"\nimport sys; print([name for name in {LAZY} if name in sys.modules])"
    ran = subprocess.run(
        [PYTHON, "-W", "error", "-c", code], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return set(ast.literal_eval(ran.stdout))


@needs_bundled_model
def test_importing_and_scoring_load_no_heavy_package() -> None:
    code = (
        "import grooming_flag as gf\n"
        "model = gf.load_model()\n"
        "thread = gf.Thread('t', [gf.Message('a', 'tea and a kettle'), gf.Message('b', 'a garden')])\n"
        "model.assess(thread); model.explain(thread); list(model.assess_many([thread], n_jobs=2))\n"
        "model.with_prior(0.5)"
    )
    assert loaded_by(code) == set()


def test_the_command_loads_no_heavy_package_until_it_trains() -> None:
    assert loaded_by("import grooming_flag.cli, grooming_flag.batch, grooming_flag.io.threads") == set()


def test_the_extractor_is_described_to_scikit_learn_without_importing_it_first() -> None:
    code = (
        "import grooming_flag as gf\n"
        "extractor = gf.FeatureExtractor()\n"
        "import sys\n"
        "assert 'sklearn' not in sys.modules\n"
        "from sklearn.base import clone\n"
        "from sklearn.utils import get_tags\n"
        "clone(extractor)\n"
        "assert not get_tags(extractor).requires_fit"
    )
    loaded_by(code)


# --- names and docstrings ----------------------------------------------------------------------------------------

PUBLIC = [name for name in grooming_flag.__all__ if callable(getattr(grooming_flag, name))]


def test_all_public_names_are_there_in_order() -> None:
    assert list(grooming_flag.__all__) == sorted(grooming_flag.__all__)
    assert all(hasattr(grooming_flag, name) for name in grooming_flag.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", grooming_flag.__version__)


def assert_is_numpydoc(thing: Any, name: str, parameters: list[str]) -> None:
    """Check summary and sections: every parameter is described, by a name of its own or with others."""
    text = inspect.getdoc(thing)
    assert text, name
    summary = text.split("\n\n")[0]
    assert summary[-1] in ".?", name
    assert summary[0].isupper() or summary[0] == "`", name
    if parameters:
        section = re.search(r"^(Parameters|Attributes)\n-{10}\n(.*?)(?=^\w+\n-{4,}\n|\Z)", text, re.M | re.S)
        assert section, f"{name} has no section of parameters"
        described = re.findall(r"^([\w*][\w*, ]*)(?: :|$)", section[2], re.M)
        names = {one.strip("* ") for line in described for one in line.split(",")}
        assert set(parameters) <= names, f"{name} does not describe {set(parameters) - names}"
        assert names <= set(parameters) | inspected_attributes(thing), f"{name} describes what it has not"


def inspected_attributes(thing: Any) -> set[str]:
    return {name for name, _ in inspect.getmembers(thing)}


def parameters_of(thing: Any) -> list[str]:
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return []
    return [name for name in inspect.signature(thing).parameters if name != "self"]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring_of_numpydoc(name: str) -> None:
    thing = getattr(grooming_flag, name)
    assert_is_numpydoc(thing, name, parameters_of(thing))


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isclass(getattr(grooming_flag, name))])
def test_every_public_method_has_a_docstring_that_describes_what_it_describes(name: str) -> None:
    for method, thing in vars(getattr(grooming_flag, name)).items():
        if method.startswith("_") or not (inspect.isfunction(thing) or isinstance(thing, property)):
            continue
        text = inspect.getdoc(thing)
        assert text, f"{name}.{method}"
        assert text.split("\n\n")[0][-1] in ".?:", f"{name}.{method}"
        if "Parameters\n-" in text:
            assert_is_numpydoc(thing, f"{name}.{method}", parameters_of(thing))


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
