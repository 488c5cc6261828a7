"""The wheel holds all that the checkout does, under one name."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKED = (".py", ".typed", ".json", ".safetensors", ".html", ".css", ".js", ".yaml", ".md")
PACKAGE = ROOT / "kinescribe"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as a build leaves its own folders in the tree."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, source / "kinescribe", ignore=ignored, symlinks=True)
    for link in filter(Path.is_symlink, PACKAGE.iterdir()):
        shutil.copytree(ROOT / link.name, source / link.name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("kinescribe-*.whl"))


@pytest.mark.slow
def test_every_file_of_the_package_is_packed_and_nothing_beside_it(wheel: Path):
    expected = {
        Path(folder, file).relative_to(ROOT).as_posix()
        for folder, _, files in os.walk(PACKAGE, followlinks=True)
        for file in files
        if file.endswith(PACKED)
    }
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert expected <= packed
    assert {name.split("/")[0].split("-")[0] for name in packed} == {"kinescribe"}


@pytest.mark.slow
def test_the_command_line_works_from_the_wheel(wheel: Path, tmp_path: Path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    script = (
        "import kinescribe; print(kinescribe.__file__); from kinescribe.cli import main; main(['--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path))
    assert "label" in done.stdout
