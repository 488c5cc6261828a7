from collections.abc import Generator
from contextlib import contextmanager

import pyarrow as pa
import pytest

from kinescribe.cluster import pipeline
from kinescribe.cluster.pipeline import DEFAULT_SESSIONS, LabelJob, run_pipeline
from kinescribe.cluster.progress import RESUME, LabelProgress
from kinescribe.schemas.config import LabelConfig, Resources


class Noted(LabelProgress):
    def __init__(self) -> None:
        super().__init__()
        self.notes = list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_run_that_is_stopped_while_ray_starts_says_how_to_resume(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
):
    @contextmanager
    def interrupted(note: object) -> Generator[None]:
        raise error
        yield

    monkeypatch.setattr(pipeline, "ray_cluster", interrupted)
    progress = Noted()
    job = LabelJob("clips", "out", LabelConfig(), Resources(), DEFAULT_SESSIONS)
    with pytest.raises(error):
        run_pipeline(job, pa.table({"unit": ["a"]}), progress, lambda: None)
    assert progress.notes == [RESUME]
