"""The rules of CONTRIBUTING.md that can be counted; import-linter holds those about imports."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kinescribe"
SOURCES = sorted(
    Path(folder, file)
    for folder, _, files in os.walk(PACKAGE, followlinks=True)
    for file in files
    if file.endswith(".py")
)
SCRIPTS = sorted(path for folder in ("benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
EVERY_FILE = [*SOURCES, *SCRIPTS, *TESTS]

# Where an exception of any kind becomes a rejected clip with a code.
UNIT_EDGES = {"kinescribe/labeling/batches.py"}
UNPICKLERS = {"torch.load", "pickle.load", "pickle.loads", "yaml.load", "np.load", "joblib.load"}
# What stages of one job hand on to each other.
UNPICKLE_THEIR_OWN = {"kinescribe/actors/rows.py"}
EMPTY_NAMES = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1


def catches_everything(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or ast.unparse(kind) in {"Exception", "BaseException"} for kind in kinds)


def test_every_package_is_looked_at():
    packages = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    assert packages == {name(path).split("/")[1] for path in SOURCES if path.parent != PACKAGE}
    assert {"labeling", "media"} <= packages


def test_a_file_has_fewer_than_400_lines():
    lengths = {name(path): len(path.read_text().splitlines()) for path in EVERY_FILE}
    assert {file: lines for file, lines in lengths.items() if lines >= 400} == {}


def test_a_function_has_fewer_than_60_lines():
    lengths = {where: lines for path in EVERY_FILE for where, lines in functions(path)}
    assert {where: lines for where, lines in lengths.items() if lines >= 60} == {}


def test_a_module_opens_with_its_job():
    silent = [
        name(path) for path in [*SOURCES, *SCRIPTS] if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_a_file_is_named_by_a_noun_of_the_field():
    assert [name(path) for path in EVERY_FILE if path.stem.removeprefix("test_") in EMPTY_NAMES] == []


def test_only_the_units_edge_catches_every_exception():
    broad = {
        name(path)
        for path in [*SOURCES, *SCRIPTS]
        if any(catches_everything(node) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert broad == UNIT_EDGES


def test_nothing_from_outside_is_unpickled_and_no_model_brings_code():
    found = set()
    for path in [*SOURCES, *SCRIPTS]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in UNPICKLERS:
                options = {option.arg: ast.unparse(option.value) for option in node.keywords}
                if options.get("weights_only") != "True":
                    found.add(name(path))
        lines = path.read_text().splitlines()
        assert all("False" in line for line in lines if "trust_remote_code" in line), name(path)
    assert found == UNPICKLE_THEIR_OWN


def test_polars_reads_no_parquet_file():
    # A single changed byte can make it abort the process; pyarrow raises an error.
    calls = [
        f"{name(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("read_parquet", "scan_parquet"))
    ]
    assert calls == []


def test_pillow_is_told_what_it_may_open():
    opened = {
        f"{name(path)}:{node.lineno}": {option.arg for option in node.keywords}
        for path in [*SOURCES, *SCRIPTS]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open")
    }
    assert [where for where, options in opened.items() if "formats" not in options] == []
    assert opened


def test_tests_mirror_paths():
    mirrored = (path for path in TESTS if path.parent != ROOT / "tests" and path.name.startswith("test_"))
    expected = {
        name(path): f"{path.parent.name}/{path.name}".replace("test_", "", 1).removeprefix("kinescribe/")
        for path in mirrored
    }
    assert [test for test, source in expected.items() if not (PACKAGE / source).is_file()] == []


def test_the_architecture_lists_every_file():
    listed = re.findall(r"^\| `(\S+\.py)` \|", (ROOT / "docs" / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    files = [name(path) for path in [*SOURCES, *SCRIPTS] if path.name != "__init__.py"]
    assert sorted(listed) == sorted(files)


@pytest.mark.parametrize("mark", ["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error", "mark." + "skip"])
def test_nothing_is_left_for_later(mark: str):
    assert [name(path) for path in EVERY_FILE if mark in path.read_text()] == []
