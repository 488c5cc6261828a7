import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kinescribe.training.exports import publishing, remove_abandoned
from kinescribe.training.session import TrainSession

ROOT = Path(__file__).parents[2]
WRITER = """
import sys, time
from pathlib import Path
from kinescribe.training.exports import publishing
with publishing(Path(sys.argv[1]), "attempt") as folder:
    (folder / "part").write_text("half")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path: Path):
    """A process that is in the middle of writing an export."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == str(tmp_path / ".export-attempt")
        yield process
        process.kill()


def hidden(out: Path) -> list[Path]:
    return list(out.glob(".export-*"))


def test_the_export_of_a_killed_process_is_removed_and_that_of_a_live_one_stays(tmp_path: Path, writer):
    remove_abandoned(tmp_path)
    assert (tmp_path / ".export-attempt" / "part").exists()
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert hidden(tmp_path)
    remove_abandoned(tmp_path)
    assert not hidden(tmp_path)


@pytest.mark.usefixtures("process_group")
def test_a_resumed_run_removes_what_a_killed_export_left(dynamics, writer):
    config = dynamics(steps=2, out=str(Path(writer.args[-1])))
    writer.kill()
    writer.wait()
    assert hidden(Path(config.out))
    TrainSession(config, lambda _: None, print).run()
    assert not hidden(Path(config.out))
    assert (Path(config.out) / "export").is_dir()


def test_an_export_replaces_the_earlier_one_and_an_empty_tensor_is_refused(tmp_path: Path):
    for attempt in ("first", "second"):
        with publishing(tmp_path, attempt) as folder:
            save_file({attempt: torch.ones(1)}, folder / f"{attempt}.safetensors")
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["second.safetensors"]
    with pytest.raises(AssertionError, match="empty tensors"), publishing(tmp_path, "third") as folder:
        save_file({"weight": torch.ones(0)}, folder / "model.safetensors")
    assert (tmp_path / "export" / "second.safetensors").exists()
