from pathlib import Path

import av
import numpy as np
import pytest

from kinescribe.media.decode import open_video
from kinescribe.media.decoded_frame import WHOLE, Crop, DecodedFrame, shown_size
from kinescribe.schemas.outcomes import Note
from tests.videos import pan

INTERLACED_DCT, INTERLACED_MOTION = 1 << 18, 1 << 29


def interlaced(path: Path) -> Path:
    """Frames of two fields, each taken at another time of a fast pan."""
    scene = pan(20, step=6)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 160, 120, "yuv420p", 8_000_000
        stream.codec_context.flags |= INTERLACED_DCT | INTERLACED_MOTION
        for first, second in zip(scene[::2], scene[1::2], strict=True):
            both = first.copy()
            both[1::2] = second[1::2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(both, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def combing(image: np.ndarray) -> float:
    """How much lines differ from their neighbours, more than those differ from each other."""
    lines = image.astype(float)
    return float(
        np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean() / np.abs(lines[2:] - lines[:-2]).mean()
    )


def test_interlaced_video_is_deinterlaced(tmp_path: Path):
    with open_video(interlaced(tmp_path / "interlaced.mpg")) as video:
        frame = list(video.frames())[5]
    woven = frame.picture.to_ndarray(format="rgb24")
    assert combing(woven[20:]) > 1
    assert combing(frame.rgb(512)[20:]) < 0.7
    assert frame.notes == {Note.DEINTERLACED}


def test_a_picture_that_is_shown_as_it_is_has_no_note():
    picture = av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), format="rgb24")
    frame = DecodedFrame(0, 0.0, picture)
    assert frame.notes == frozenset()
    assert (frame.width, frame.height) == (48, 32)


@pytest.mark.parametrize(
    ("aspect", "crop", "size"),
    [
        (1.0, WHOLE, (100, 50)),
        (2.0, WHOLE, (200, 50)),
        (0.5, WHOLE, (100, 100)),
        (5.0, WHOLE, (100, 50)),
        (0.2, WHOLE, (100, 50)),
        (1.5, Crop(10, 5, 10, 5), (120, 40)),
    ],
)
def test_a_picture_is_shown_in_square_pixels(aspect: float, crop: Crop, size: tuple[int, int]):
    picture = av.VideoFrame(100, 50, "gray")
    assert shown_size(picture, aspect, crop) == size
