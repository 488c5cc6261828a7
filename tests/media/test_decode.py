import contextlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import decord
import numpy as np
import pytest
from av.stream import Disposition

from kinescribe.media import decode
from kinescribe.media.decode import _rejected, open_video
from kinescribe.media.decoded_frame import DecodedFrame
from kinescribe.schemas.outcomes import RejectCode, Rejected
from tests.videos import Image, number_of, pan, still, write_audio, write_video


def frames_of(
    path: Path, start_s: float | None = None, end_s: float | None = None, max_gap_s: float = 0.0
) -> list[DecodedFrame]:
    with open_video(path) as video:
        return list(video.frames(start_s, end_s, max_gap_s))


def numbers(frames: list[DecodedFrame]) -> list[int]:
    return [number_of(frame.rgb(512)) for frame in frames]


def code_of(path: Path) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        frames_of(path)
    return caught.value.code


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
def test_frames_come_in_presentation_order_with_their_times(tmp_path: Path, suffix: str):
    frames = frames_of(write_video(tmp_path / f"clip.{suffix}", pan(40), options={"bf": "3"}))
    assert numbers(frames) == list(range(40))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 30 for i in range(40)], abs=0.0006)


@pytest.mark.parametrize("name", ["mpeg4.avi", "libx264.avi", "mpeg4.asf", "libx264.asf"])
def test_no_frame_is_lost_in_files_with_only_decoding_times(tmp_path: Path, name: str):
    options = {"bf": "3", "g": "10"}
    path = write_video(tmp_path / name, pan(90), codec=name[:-4], options=options)
    frames = frames_of(path)
    assert numbers(frames) == list(range(90))
    assert np.diff([frame.time_s for frame in frames]) == pytest.approx(1 / 30, abs=0.0011)
    window = [frame for frame in frames if 2.0 <= frame.time_s < 2.5]
    assert numbers(frames_of(path, 2.0, 2.5)) == numbers(window)


def test_times_are_presentation_times_whatever_the_frame_rate(tmp_path: Path):
    times_s = [0.0, 0.1, 0.15, 0.4, 1.0, 1.05]
    frames = frames_of(write_video(tmp_path / "variable.mp4", pan(6), times_s=times_s))
    assert [frame.time_s for frame in frames] == pytest.approx(times_s, abs=1e-4)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_window_has_the_same_frames_as_the_whole_file(tmp_path: Path, suffix: str):
    path = write_video(tmp_path / f"clip.{suffix}", pan(60), options={"g": "12"})
    expected = [frame for frame in frames_of(path) if 1.0 <= frame.time_s < 1.5]
    window = frames_of(path, 1.0, 1.5)
    assert [frame.index for frame in window] == list(range(15))
    for one, same in zip(window, expected, strict=True):
        assert one.time_s == same.time_s
        assert np.array_equal(one.rgb(512), same.rgb(512))


def test_a_window_is_sought_not_decoded_from_the_start(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(200), options={"g": "10"})
    with open_video(path) as video:
        assert numbers(list(video.frames(6.0, 6.2))) == list(range(180, 186))
        assert video.num_decoded < 20


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_skipped_frames_are_counted_and_change_no_other(tmp_path: Path, suffix: str, codec: str):
    options = {"bf": "3", "x265-params": "log-level=none"}
    path = write_video(tmp_path / f"clip.{suffix}", pan(90), codec=codec, options=options)
    whole = frames_of(path)
    part = frames_of(path, max_gap_s=0.1)
    assert len(part) < 70
    assert [frame.index for frame in part] == numbers(part)
    assert np.diff([frame.time_s for frame in part]).max() <= 0.1
    for frame in part:
        assert frame.time_s == whole[frame.index].time_s
        assert np.array_equal(frame.rgb(512), whole[frame.index].rgb(512))


def test_a_window_with_skipped_frames_counts_from_its_own_first_frame(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(120), options={"g": "30", "bf": "3"})
    window = frames_of(path, 1.5, 3.5, max_gap_s=0.1)
    assert len(window) < 50
    assert [frame.index for frame in window] == [number - 45 for number in numbers(window)]


@pytest.mark.parametrize("start_s", [5.0, 5.9, 5.96, 5.98, 6.0, 6.02])
def test_a_window_near_an_entry_point_counts_its_own_frames_and_decodes_few_others(
    tmp_path: Path, start_s: float
):
    options = {"g": "60", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
    path = write_video(tmp_path / "clip.mp4", pan(240), options=options)
    with open_video(path) as video:
        window = list(video.frames(start_s, start_s + 1.5, 0.1))
        assert video.num_decoded < 130
    first = round(np.ceil(start_s * 30 - 0.01))
    assert [frame.index + first for frame in window] == numbers(window)


def test_everything_is_decoded_once_skipping_leaves_too_large_a_gap(tmp_path: Path):
    options = {"bf": "8", "x264-params": "b-pyramid=none:b-adapt=0"}
    part = frames_of(write_video(tmp_path / "clip.mp4", pan(120), options=options), max_gap_s=0.1)
    gaps = np.diff([frame.index for frame in part])
    assert (gaps > 3).sum() == 1
    assert (gaps[gaps.argmax() + 1 :] == 1).all()


def test_no_frame_of_a_short_clip_is_skipped(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(16), options={"bf": "3"})
    assert numbers(frames_of(path, max_gap_s=0.1)) == list(range(16))


def test_every_frame_is_decoded_if_frames_cannot_be_counted_otherwise(tmp_path: Path):
    path = write_video(tmp_path / "clip.ts", pan(60), options={"bf": "3"})
    assert numbers(frames_of(path, max_gap_s=0.1)) == list(range(60))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_are_rotated_upright_like_decords(tmp_path: Path, rotation: int):
    path = write_video(tmp_path / "phone.mp4", pan(3), rotation=rotation)
    expected = decord.VideoReader(str(path))[0].asnumpy()
    assert np.array_equal(frames_of(path)[0].rgb(512), expected)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((-1, 0, 0, -1), lambda image: image[::-1, ::-1]),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((0, -1, 1, 0), lambda image: np.rot90(image)),
        ((0, -1, -1, 0), lambda image: image[::-1, ::-1].swapaxes(0, 1)),
    ],
)
def test_frames_are_turned_and_mirrored_by_the_display_matrix(
    tmp_path: Path, matrix: tuple[int, ...], shown: Callable[[Image], Image]
):
    plain = frames_of(write_video(tmp_path / "plain.mp4", pan(3)))[0].rgb(512)
    frame = frames_of(write_video(tmp_path / "phone.mp4", pan(3), matrix=matrix))[0]
    assert np.array_equal(frame.rgb(512), shown(plain))


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [
        (Fraction(4, 3), (120, 213, 3)),
        (Fraction(3, 4), (160, 160, 3)),
        (Fraction(1), (120, 160, 3)),
        (Fraction(100), (120, 160, 3)),
    ],
)
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, shape: tuple[int, ...]):
    frame = frames_of(write_video(tmp_path / "tv.mkv", pan(3), pixel_aspect=aspect))[0]
    assert frame.rgb(512).shape == shape
    assert max(frame.rgb(90).shape) == 90


@pytest.mark.parametrize("max_side", [512, 100])
def test_grey_stays_as_bright_at_every_size(tmp_path: Path, max_side: int):
    grey = np.full((120, 160, 3), 128, np.uint8)
    frame = frames_of(write_video(tmp_path / "grey.mp4", [grey] * 2))[0]
    assert np.unique(frame.rgb(max_side)).tolist() == [128]


@pytest.mark.parametrize(("height", "is_bt709"), [(480, False), (576, False), (720, True)])
def test_untagged_colours_are_those_that_players_guess(tmp_path: Path, height: int, is_bt709: bool):
    red = np.zeros((height, 640, 3), np.uint8)
    red[..., 0] = 200
    frame = frames_of(write_video(tmp_path / "red.mp4", [red] * 2))[0]
    # The file was written with the matrix of BT.601, so it is right where that is the guess.
    assert (abs(frame.rgb(64)[8, 8].astype(int) - (200, 0, 0)).max() > 10) == is_bt709


@pytest.mark.parametrize(("transfer", "white"), [("smpte2084", 148), ("arib-std-b67", 191)])
def test_hdr_is_shown_as_on_an_ordinary_screen(tmp_path: Path, transfer: str, white: int):
    tags = {"x264-params": f"transfer={transfer}:colorprim=bt2020:colormatrix=bt2020nc"}
    paper = [np.full((120, 160, 3), white, np.uint8)] * 2
    frame = frames_of(write_video(tmp_path / "hdr.mp4", paper, pixels="yuv420p10le", options=tags))[0]
    assert frame.rgb(512).min() >= 240


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_second_decoder_sees_the_same_frames(tmp_path: Path, suffix: str):
    path = write_video(tmp_path / f"clip.{suffix}", pan(30), options={"bf": "3"})
    reader = decord.VideoReader(str(path))
    for frame in frames_of(path):
        assert np.array_equal(frame.rgb(512), reader.next().asnumpy())


def test_an_image_is_made_smaller_but_never_larger(tmp_path: Path):
    frame = frames_of(write_video(tmp_path / "clip.mp4", pan(2)))[0]
    assert frame.rgb(512).shape == (120, 160, 3)
    assert frame.rgb(80).shape == (60, 80, 3)


def test_a_frame_of_one_pixel_has_three_channels(tmp_path: Path):
    image = np.full((1, 1, 3), 200, np.uint8)
    path = write_video(tmp_path / "dot.mp4", [image] * 3, pixels="yuv444p")
    assert frames_of(path)[0].rgb(512).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("pixels", "codec"), [("yuv420p", "libx264"), ("yuv420p10le", "libx264"), ("rgb24", "libx264rgb")]
)
def test_brightness_is_the_same_from_every_pixel_format(tmp_path: Path, pixels: str, codec: str):
    image = still(1)[0]
    frame = frames_of(write_video(tmp_path / "clip.mkv", [image] * 2, codec=codec, pixels=pixels))[0]
    luma = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (40, 30), interpolation=cv2.INTER_AREA)
    # Video keeps brightness between 16 and 235, and keeps it so here.
    assert np.corrcoef(frame.luma(40, 30).ravel(), luma.ravel())[0, 1] > 0.99
    assert frame.luma(40, 30).dtype == np.uint8


@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><html><body>404</body></html>", b"\x00" * 4096, b"\x89PNG\r\n\x1a\n"],
)
def test_a_file_that_is_not_a_video_is_unreadable(tmp_path: Path, content: bytes):
    path = tmp_path / "page.mp4"
    path.write_bytes(content)
    assert code_of(path) == RejectCode.UNREADABLE


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.mp4\n",
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    ],
)
@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8"])
def test_a_playlist_in_disguise_is_forbidden(tmp_path: Path, playlist: str, name: str):
    write_video(tmp_path / "secret.mp4", pan(3))
    path = tmp_path / name
    path.write_text(playlist)
    assert code_of(path) == RejectCode.FORBIDDEN


def test_sound_without_picture_has_no_video(tmp_path: Path):
    assert code_of(write_audio(tmp_path / "song.mp4")) == RejectCode.NO_VIDEO


def test_a_truncated_file_is_unreadable(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert code_of(path) == RejectCode.UNREADABLE


def test_a_damaged_stream_is_unreadable_after_the_decoded_frames(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(60), options={"bf": "0"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(data)
    with pytest.raises(Rejected, match=r"after \d+ frames"):
        frames_of(path)


def test_a_name_that_looks_like_an_option_or_a_protocol_is_a_file(tmp_path: Path):
    for name in ("-i.mp4", "concat:a|b.mp4"):
        assert len(frames_of(write_video(tmp_path / "plain.mp4", pan(2)).rename(tmp_path / name))) == 2


def test_a_header_is_read_without_decoding(tmp_path: Path):
    with open_video(write_video(tmp_path / "clip.mp4", pan(60))) as video:
        assert (video.header.width, video.header.height) == (160, 120)
        assert video.header.duration_s == pytest.approx(2.0, abs=0.05)
        assert video.num_decoded == 0


def test_brightness_shrinks_by_area(tmp_path: Path):
    checks = np.indices((64, 64)).sum(0).astype(np.uint8) % 2 * 255
    frame = DecodedFrame(0, 0.0, av.VideoFrame.from_ndarray(checks, format="gray"))
    assert set(np.unique(frame.luma(16, 16))) <= {127, 128}


@pytest.mark.parametrize(("width", "height"), [(64, 48), (64, 24), (32, 96), (38, 26)])
def test_brightness_is_halved_only_while_both_sides_stay_large_enough(width: int, height: int):
    grey = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    expected, size = grey, (16, 12)
    while expected.shape[0] >= 24 and expected.shape[1] >= 32:
        rows, columns = expected.shape[0] // 2, expected.shape[1] // 2
        blocks = expected[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
        expected = np.round(blocks.mean((1, 3))).astype(np.uint8)
    expected = cv2.resize(expected, size, interpolation=cv2.INTER_LINEAR)
    found = DecodedFrame(0, 0.0, av.VideoFrame.from_ndarray(grey, format="gray")).luma(*size)
    assert np.abs(found.astype(int) - expected).max() <= 1  # rounding of halves


def test_an_error_becomes_a_reject_with_its_reason():
    memory = _rejected(MemoryError())
    assert (memory.code, memory.message) == (RejectCode.OUT_OF_MEMORY, "MemoryError")
    absent = _rejected(FileNotFoundError(2, "No such file or directory"), " after 3 frames")
    assert absent.code == RejectCode.UNREADABLE
    assert absent.message == "No such file or directory after 3 frames"


def test_damage_that_only_a_strict_decoder_reports_is_unreadable(tmp_path: Path):
    path = write_video(
        tmp_path / "clip.mkv", pan(60), codec="libx265", options={"x265-params": "log-level=0"}
    )
    assert numbers(frames_of(path)) == list(range(60))
    data = bytearray(path.read_bytes())
    reported = 0
    for place in range(len(data) // 2, len(data), 61):
        changed = bytearray(data)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        num_lenient = 0
        with av.open(str(path)) as container, contextlib.suppress(av.error.FFmpegError):
            num_lenient = sum(1 for _ in container.decode(video=0))
        with contextlib.suppress(Rejected):
            frames_of(path)
            continue
        reported += num_lenient == 60
    assert reported > 1


def test_damage_that_is_only_logged_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_video(tmp_path / "clip.avi", pan(30), codec="mjpeg", pixels="yuvj420p")
    monkeypatch.setattr(decode, "LOGGED", ("avi",))
    assert numbers(frames_of(path)) == list(range(30))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)
    assert code_of(path) == RejectCode.UNREADABLE
    monkeypatch.setattr(decode, "LOGGED", ())
    assert len(frames_of(path)) == 30


def test_a_cover_that_is_the_default_track_is_not_the_film(tmp_path: Path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        film = container.add_stream("libx264", rate=30)
        cover = container.add_stream("mjpeg", rate=30)
        film.width, film.height, cover.width, cover.height = 160, 120, 640, 480
        cover.pix_fmt = "yuvj420p"
        film.disposition, cover.disposition = Disposition(0), Disposition.default
        picture = np.zeros((480, 640, 3), np.uint8)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(cover.encode(None))
        for image in pan(20):
            container.mux(film.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(film.encode(None))
    assert numbers(frames_of(path)) == list(range(20))


def test_a_container_that_is_not_opened_is_named_with_the_reason(tmp_path: Path):
    song = tmp_path / "clip.au"
    with av.open(str(song), "w") as container:
        stream = container.add_stream("pcm_s16be", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(Rejected, match=r"its container, au, is not opened: .* ffmpeg -i"):
        frames_of(song)
