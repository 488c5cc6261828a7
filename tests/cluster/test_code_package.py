import tomllib
import zipfile
from pathlib import Path

import pytest

from kinescribe.cluster.code_package import CONFIG, LINKED, MOST_BYTES, PACKAGE, SUFFIXES, write_package
from kinescribe.schemas.errors import ConfigError

CANARY = "canary-4711"
CODE = (
    "kinescribe/cli.py",
    "kinescribe/models/embedded/model.safetensors",
    "kinescribe/cluster/deploy/aws.yaml",
)
OTHERS = (
    "out/demo/data/unit.parquet",
    "data/clip.mp4",
    "dataset/run.json",
    ".git/config",
    ".venv/lib/torch.py",
    ".env",
    "secrets.yaml",
    "kinescribe/.env",
    "kinescribe/clip.mp4",
    "kinescribe/__pycache__/cli.json",
    "kinescribe/models/.cache/model.safetensors",
    "models/model.safetensors",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*CODE, *OTHERS):
        file = tmp_path / "checkout" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("code" if name in CODE else CANARY)
    package = tmp_path / "checkout" / "kinescribe"
    (package / "cluster").rename(tmp_path / "checkout" / "cluster")
    (package / "cluster").symlink_to("../cluster")
    (package / "data").symlink_to("../data")
    (tmp_path / "checkout" / "kinescribe" / "link.json").symlink_to(tmp_path / "checkout" / ".env")
    return tmp_path / "checkout"


def contents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name).decode() for name in opened.namelist()}


def test_only_the_code_and_the_configuration_are_packed(checkout: Path, tmp_path: Path):
    packed = contents(write_package(tmp_path / "code.zip", "seed: 3", checkout / "kinescribe"))
    assert packed == {**dict.fromkeys(CODE, "code"), CONFIG: "seed: 3"}


def test_the_same_code_gives_the_same_package(checkout: Path, tmp_path: Path):
    first = write_package(tmp_path / "first.zip", None, checkout / "kinescribe").read_bytes()
    (checkout / CODE[0]).touch()
    assert write_package(tmp_path / "second.zip", None, checkout / "kinescribe").read_bytes() == first


def test_code_that_is_too_large_is_refused_with_its_largest_file(checkout: Path, tmp_path: Path):
    with (checkout / "kinescribe" / "models" / "mine.safetensors").open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # a hole: it takes no room
    with pytest.raises(ConfigError, match=r"200 MiB.*models/mine\.safetensors"):
        write_package(tmp_path / "code.zip", None, checkout / "kinescribe")
    assert not (tmp_path / "code.zip").exists()


def test_the_package_holds_the_same_files_as_the_wheel():
    root = PACKAGE.parent
    setuptools = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert {entry.name for entry in PACKAGE.iterdir() if entry.is_symlink()} == set(LINKED)
    data = {Path("x" + pattern.removeprefix("**/*")).suffix for pattern in setuptools["package-data"]["*"]}
    assert data | {".py"} == set(SUFFIXES)
