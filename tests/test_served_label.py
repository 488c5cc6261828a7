"""Labelling runs whose model is on a server."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kinescribe.cluster.label import planned_run, run_label
from kinescribe.cluster.pipeline import Sessions
from kinescribe.cluster.progress import LabelProgress
from kinescribe.schemas.config import LabelConfig
from kinescribe.schemas.errors import DatasetError, ModelError
from kinescribe.storage.audit import check, status
from kinescribe.storage.run import bind, require_own
from tests.fake_clips import FakeExtractor
from tests.judge_server import Answer, JudgeServer, serving
from tests.ports import free_ports


def write_files(folder: Path, number: int) -> str:
    """Files for `FakeExtractor`, which uses only their names."""
    folder.mkdir()
    for index in range(number):
        (folder / f"clip{index}.mp4").write_bytes(b"x")
    return str(folder)


SAID = Answer("Move the ball left.", finish_reason="stop", logprobs=(-0.5, -0.25))
SESSIONS = Sessions(make_extractor=FakeExtractor)


def served(server: JudgeServer) -> LabelConfig:
    return LabelConfig(dynamics=f"vlm@{server.url}", clips_per_unit=1)


def test_a_run_goes_on_with_the_same_model_at_another_address_and_with_no_other(tmp_path: Path):
    clips, out = write_files(tmp_path / "clips", 2), str(tmp_path / "out")
    with ExitStack() as servers:
        here, there, other = (
            servers.enter_context(serving(JudgeServer(models=["vlm"], root=root)))
            for root in ("/data/qwen-7b", "/mnt/models/qwen-7b", "/mnt/models/qwen-72b")
        )
        bind(out, planned_run(clips, served(here), SESSIONS)[0])
        require_own(out, planned_run(clips, served(there), SESSIONS)[0])
        with pytest.raises(DatasetError, match=r"models\.dynamics: served qwen-7b → served qwen-72b"):
            require_own(out, planned_run(clips, served(other), SESSIONS)[0])


@pytest.mark.parametrize(
    "annotation", [{"vocabulary": ["pan left", "pan right"]}, {"scores": "likelihood,contrast"}]
)
def test_a_server_is_not_asked_to_score_given_actions(annotation: dict[str, Any], tmp_path: Path):
    clips = write_files(tmp_path / "clips", 1)
    with serving(JudgeServer(models=["vlm"])) as server:
        config = LabelConfig(dynamics=f"vlm@{server.url}", annotation=annotation)
        with pytest.raises(ModelError, match="is a server, which can't score a given action"):
            planned_run(clips, config, SESSIONS)


class Interruption(LabelProgress):
    """Takes the server away when a unit is committed, until the run says that it waits."""

    def __init__(self, server: JudgeServer, servers: ExitStack) -> None:
        super().__init__()
        self.server, self.servers, self.notes = server, servers, list[str]()
        self.is_away = False

    def update(self, receipt) -> None:
        super().update(receipt)
        if not self.is_away:
            self.is_away = True
            threading.Thread(target=self.servers.close).start()

    def note(self, text: str) -> None:
        self.notes.append(text)
        if "does not answer" in text:
            self.servers.enter_context(serving(self.server))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_server_that_goes_away_in_the_middle_costs_no_clip(tmp_path: Path):
    clips, out = write_files(tmp_path / "clips", 24), str(tmp_path / "out")
    (port,) = free_ports(1)
    slow = Answer(SAID.text, SAID.finish_reason, SAID.logprobs, delay_s=0.5)
    server = JudgeServer(models=["vlm"], port=port, always=slow)
    with ExitStack() as servers:
        progress = Interruption(servers.enter_context(serving(server)), servers)
        done = run_label(clips, out, served(server), progress=progress, sessions=SESSIONS)
    assert (done.kept, done.rejected) == (24, 0)
    assert status(out).pending == 0
    assert check(out).problems == []
    away, back = (note for note in progress.notes if server.url in note)
    assert "waiting up to 10 min" in away
    assert back.endswith("answers again")
