import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinescribe.labeling.example_frames import first_and_last_frames
from kinescribe.schemas.clips import Clip
from tests.videos import write_video


@pytest.fixture(name="videos")
def folder_of_videos(tmp_path: Path) -> Path:
    """A still clip, and one that goes from dark to bright."""
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "still.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 30)
    grown = [np.full((64, 64, 3), 20 + 6 * place, np.uint8) for place in range(30)]
    write_video(tmp_path / "videos" / "grown.mp4", grown)
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    return tmp_path / "videos"


def clips(folder: Path, *names: str) -> list[Clip]:
    return [Clip(name, str(folder / f"{name}.mp4")) for name in names]


def grey(image: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(image)).convert("L")).mean())


def test_the_ends_of_clips_are_decoded_and_what_cannot_be_is_left_out(videos: Path):
    found = first_and_last_frames(clips(videos, "still", "grown", "broken", "missing"), [str(videos)])
    assert found.keys() == {"still", "grown"}
    first, last = map(grey, found["grown"])
    assert first == pytest.approx(20, abs=8)
    assert last == pytest.approx(194, abs=8)


def test_only_videos_below_the_roots_are_read(videos: Path, monkeypatch: pytest.MonkeyPatch):
    named = clips(videos, "grown")
    assert first_and_last_frames(named, [str(videos / "elsewhere")]) == {}
    assert first_and_last_frames(named) == {}
    monkeypatch.chdir(videos)
    assert first_and_last_frames(named).keys() == {"grown"}
    (videos / "inside").mkdir()
    (videos / "inside" / "grown.mp4").symlink_to(videos / "grown.mp4")
    assert first_and_last_frames(clips(videos / "inside", "grown"), [str(videos / "inside")]) == {}
