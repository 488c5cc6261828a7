"""Every way to start a labelling run, from a folder with modules of the same names as Kinescribe's own."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kinescribe.cluster.code_package import LINKED
from kinescribe.storage.audit import check, status
from tests.ray_head import RayHead, ray_head
from tests.tiny_vlm import tiny_vlm
from tests.videos import pan, write_video

ROOT = Path(__file__).parents[1]
CLASHING = (
    "models/__init__.py",
    "evaluation/__init__.py",
    *(f"{name}.py" for name in ("training", "schemas", "storage", "utils", "actors", "cluster")),
    *(f"{name}.py" for name in ("labeling", "media", "inference", "simulation", "reports", "commands")),
)
SCRIPT = """
import kinescribe

status = kinescribe.label("clips", "dataset", dynamics={model!r})
assert status.kept == 1, status
"""
MOST_BYTES = 32 << 20
"""Of the code that a job sends, most of which are the weights of two embedded models."""

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head() as head:
        yield head


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny_vlm().save(folder)
    return str(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with one clip."""
    for name in CLASHING:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"raise RuntimeError('the user\\'s {name} was imported')\n")
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "one.mp4", pan(50))
    return tmp_path


Run = Callable[..., None]


@pytest.fixture
def run(folder: Path, ray_folder: str) -> Run:
    """Runs a command in the user's folder, which must label its clip."""

    def run(*command: str, **environment: str) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        env = {**own, "PYTHONPATH": str(ROOT), **environment}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=800)
        assert done.returncode == 0, done.stdout + done.stderr
        dataset = str(folder / "dataset")
        assert (status(dataset).kept, check(dataset).problems) == (1, [])

    return run


def label(folder: Path, model: str) -> list[str]:
    """`label` with paths that hold in every folder."""
    options = ["--dynamics", model, "--decode-workers", "1", "--label-workers", "1"]
    return ["label", str(folder / "clips"), "--out", str(folder / "dataset"), *options]


@pytest.mark.parametrize(
    "program", [[str(Path(sys.executable).with_name("kinescribe"))], [sys.executable, "-m", "kinescribe"]]
)
def test_the_command_line_labels(run: Run, program: list[str], model: str):
    options = ["--dynamics", model, "--decode-workers", "1", "--label-workers", "1"]
    run(*program, "label", "clips", "--out", "dataset", *options)


def test_a_script_labels(run: Run, folder: Path, model: str):
    (folder / "script.py").write_text(SCRIPT.format(model=model))
    run(sys.executable, "script.py")


def test_a_cluster_that_runs_already_labels(run: Run, head: RayHead, folder: Path, model: str):
    environment = head.environment | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": head.address}
    run(sys.executable, "-m", "kinescribe", *label(folder, model), **environment)


def test_a_submitted_job_labels(run: Run, head: RayHead, folder: Path, model: str):
    submit = ["submit", "--address", head.url, "--wait", "--", *label(folder, model)]
    run(sys.executable, "-m", "kinescribe", *submit, **head.environment)


def test_rays_own_command_labels_and_sends_each_file_of_a_checkout_once(
    run: Run, head: RayHead, folder: Path, model: str
):
    submit = ["ray", "job", "submit", "--address", head.url, "--working-dir", str(ROOT)]
    before = packages(head)
    run(*submit, "--", "python", "-m", "kinescribe", *label(folder, model), **head.environment)
    (package,) = packages(head) - before
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*") if path.is_file()}
    assert {"kinescribe/labeling/extract.py", "kinescribe/cluster/label.py"} <= files.keys()
    assert not {name.split("/")[0] for name in files} & set(LINKED)
    modules = Counter("/".join(name.split("/")[-2:]) for name in files if name.endswith(".py"))
    assert [module for module, count in modules.items() if count > 1] == []
    assert sum(path.stat().st_size for path in files.values()) < MOST_BYTES


def packages(head: RayHead) -> set[Path]:
    """The folders in which the head has unpacked what jobs sent."""
    unpacked = head.folder.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*")
    return {folder for folder in unpacked if folder.is_dir()}
