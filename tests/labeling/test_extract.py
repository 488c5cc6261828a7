import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinescribe.labeling.extract import PairExtractor, SegmentExtractor
from kinescribe.labeling.inputs import forbidden, list_clips
from kinescribe.media.decode_protocol import DecodeRequest
from kinescribe.schemas.clips import Clip, ExtractedClip, GivenTriplet
from kinescribe.schemas.config import DecodeLimits, KeyFrames, Limits, StoredImage
from kinescribe.schemas.outcomes import DropReason, Note, RejectCode, Status
from tests.crowded_videos import tags
from tests.fault_proxy import FaultProxy, error
from tests.videos import pan, still, texture, write_audio, write_video

# Decodes by the name of the file; whatever it is not told to do to itself, it does as the real one.
DECODER = """
import os, signal, time
from pathlib import Path
from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest
from kinescribe.media.decode_worker import answer
from kinescribe.media.sandbox import serve

def rejected(code, message):
    return DecodeReply(reject=code, message=message).model_dump_json().encode()

def fake(request):
    asked = DecodeRequest.model_validate_json(request)
    name = asked.path.stem
    if name == "hangs":
        time.sleep(600)
    if name == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "eats":
        raise MemoryError("std::bad_alloc")
    if name in ("starves", "tells"):
        return rejected("out_of_memory" if name == "starves" else "crashed", f"of process {os.getpid()}")
    if name == "repeats":
        return rejected("unreadable", request.decode())
    if "@" in name:  # what comes after the window that begins at a time
        code, _, last_s = name.partition("@")
        if asked.start_s > float(last_s):
            return rejected(code, "")
        goes_on = code != "end" or asked.start_s < float(last_s)
        reply = DecodeReply(pair_drops={"static": 1, "shot_cut": 2}, goes_on=goes_on)
        return reply.model_dump_json().encode()
    if name == "babbles":
        return b"\\x80\\x04N."
    if name == "lies":
        return b'{"pairs": [{"source": 8, "target": 9, "motion": 1}]}'
    return answer(request)

serve(fake)
"""

PNG = StoredImage(format="png")


def extractor(**changes: object) -> PairExtractor:
    limits = Limits.model_validate({"deadline_s": 60.0, **changes})
    return PairExtractor(limits, KeyFrames(), StoredImage())


@pytest.fixture(scope="module")
def real() -> Iterator[PairExtractor]:
    opened = extractor()
    yield opened
    opened.close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[PairExtractor]:
    program = tmp_path / "decoder.py"
    program.write_text(DECODER)
    limits = Limits(deadline_s=5.0, max_duration_s=180.0)
    opened = PairExtractor(
        limits, KeyFrames(max_keyframes=7), PNG, decoder=(sys.executable, str(program)), quality=("bars",)
    )
    yield opened
    opened.close()


def test_a_clip_that_its_store_refuses_is_unreachable(real: PairExtractor, bucket: str, proxy: FaultProxy):
    proxy.fail("GET /", [error(403, "AccessDenied")])
    outcome = real.extract(Clip("c", f"{bucket}/clip.mp4")).outcome
    assert outcome
    assert outcome.reason is RejectCode.UNREACHABLE
    assert f"{bucket}/clip.mp4: AccessDenied" in outcome.message


def clip(path: Path, **window: float) -> Clip:
    return Clip(path.stem, str(path), "panning", **window)


def reject_of(extracted: ExtractedClip) -> RejectCode:
    assert extracted.outcome is not None
    assert extracted.outcome.status is Status.REJECTED, extracted.outcome
    assert isinstance(extracted.outcome.reason, RejectCode)
    assert (extracted.frames, extracted.pairs) == ((), ())
    return extracted.outcome.reason


def test_a_clip_becomes_frames_and_pairs(tmp_path: Path, real: PairExtractor):
    video = clip(write_video(tmp_path / "clip.mp4", pan(70)))
    extracted = real.extract(video)
    assert extracted.clip == video
    assert extracted.outcome is None
    assert [(pair.source, pair.target) for pair in extracted.pairs] == [(0, 1), (1, 2)]
    assert all(frame.image.startswith(b"\xff\xd8") for frame in extracted.frames)


def test_a_file_url_and_a_window_are_read(tmp_path: Path, real: PairExtractor):
    path = write_video(tmp_path / "clip.mp4", pan(120))
    extracted = real.extract(Clip("window", f"file://{path}", start_s=1.0, end_s=2.0))
    assert all(1.0 <= frame.time_s < 2.0 for frame in extracted.frames)


@pytest.mark.parametrize("start_s", [9.3e12, 1e300, 1.7e308])
def test_a_window_after_the_end_of_time_is_too_short(tmp_path: Path, real: PairExtractor, start_s: float):
    path = write_video(tmp_path / "c.mp4", pan(60))
    assert reject_of(real.extract(clip(path, start_s=start_s))) == RejectCode.TOO_SHORT


def test_a_clip_without_a_good_pair_is_dropped_with_its_reason(tmp_path: Path, real: PairExtractor):
    static = real.extract(clip(write_video(tmp_path / "wall.mp4", still(60)))).outcome
    assert static is not None
    assert (static.status, static.reason) == (Status.DROPPED, DropReason.STATIC)
    assert static.pair_drops == {"static": 2}
    brief = real.extract(clip(write_video(tmp_path / "brief.mp4", pan(10)))).outcome
    assert brief is not None
    assert (brief.status, brief.reason) == (Status.DROPPED, DropReason.FEW_KEYFRAMES)


def test_each_bad_file_is_one_reject_with_its_code(tmp_path: Path, real: PairExtractor):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "page.mp4").write_text("<html><body>404</body></html>")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:9,\nhttp://localhost/secret.ts\n")
    os.mkfifo(tmp_path / "pipe.mp4")
    write_audio(tmp_path / "song.mp4")
    write_video(tmp_path / "photo.mp4", pan(1))
    expected = {
        "empty.mp4": RejectCode.UNREADABLE,
        "page.mp4": RejectCode.UNREADABLE,
        "list.mp4": RejectCode.FORBIDDEN,
        "pipe.mp4": RejectCode.UNREADABLE,
        "song.mp4": RejectCode.NO_VIDEO,
        "photo.mp4": RejectCode.TOO_SHORT,
        "nowhere.mp4": RejectCode.MISSING,
        "no\x00name.mp4": RejectCode.MISSING,
    }
    assert {name: reject_of(real.extract(clip(tmp_path / name))) for name in expected} == expected


def test_a_huge_picture_is_rejected_by_its_header(tmp_path: Path):
    limited = extractor(max_pixels=100)
    try:
        assert (
            reject_of(limited.extract(clip(write_video(tmp_path / "huge.mp4", pan(3)))))
            == RejectCode.TOO_LARGE
        )
    finally:
        limited.close()


def test_a_forbidden_clip_is_not_read():
    def refuse(uri: str) -> str | None:
        return f"{uri} leaves the input"

    opened = PairExtractor(Limits(), KeyFrames(), StoredImage(), refuse, decoder=("no such program",))
    extracted = opened.extract(Clip("secret", "/etc/passwd"))
    assert reject_of(extracted) == RejectCode.FORBIDDEN
    assert extracted.outcome is not None
    assert extracted.outcome.message == "/etc/passwd leaves the input"


ADDRESSES = (
    "pipe://cat /etc/passwd",
    "hf://",
    "hf://x",
    "hf://datasets/a",
    "s3://[x/a.mp4",
    "s3://a b/c.mp4",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_without_a_store_is_rejected(real: PairExtractor, tmp_path: Path, address: str):
    (tmp_path / "m.csv").write_text(f"uri\n{address}\n")
    (listed,) = list_clips(str(tmp_path / "m.csv"), Limits(), real.duration_s)
    assert reject_of(real.extract(listed)) == RejectCode.UNREADABLE


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("hangs", RejectCode.TIMEOUT),
        ("crashes", RejectCode.CRASHED),
        ("eats", RejectCode.OUT_OF_MEMORY),
        ("babbles", RejectCode.CRASHED),
        ("lies", RejectCode.CRASHED),
    ],
)
def test_a_decoder_that_fails_costs_one_clip(
    tmp_path: Path, fake: PairExtractor, name: str, code: RejectCode
):
    good = write_video(tmp_path / "good.mp4", pan(45))
    assert reject_of(fake.extract(clip(tmp_path / f"{name}.mp4"))) == code
    assert fake.extract(clip(good)).outcome is None


@pytest.mark.parametrize(
    ("name", "is_replaced"), [("starves", True), ("babbles", True), ("lies", True), ("tells", False)]
)
def test_a_decoder_that_ran_out_of_memory_or_sends_no_reply_is_replaced(
    tmp_path: Path, fake: PairExtractor, name: str, is_replaced: bool
):
    names = ("tells", name, "tells")
    before, _, after = (fake.extract(clip(tmp_path / f"{one}.mp4")).outcome for one in names)
    assert (before != after) == is_replaced


@pytest.mark.parametrize(
    ("end", "num_windows", "notes"),
    [("end@220", 3, ()), ("too_short@160", 2, ()), ("unreadable@160", 2, (Note.INCOMPLETE,))],
)
def test_a_clip_is_decoded_in_windows_until_one_is_the_last(
    tmp_path: Path, fake: PairExtractor, end: str, num_windows: int, notes: tuple[Note, ...]
):
    outcome = fake.extract(clip(tmp_path / f"{end}.mp4", start_s=100.0)).outcome
    assert outcome is not None
    assert outcome.pair_drops == {"static": num_windows, "shot_cut": 2 * num_windows}
    assert outcome.reason is DropReason.SHOT_CUT
    assert (outcome.notes, bool(outcome.message)) == (notes, bool(notes))
    assert reject_of(fake.extract(clip(tmp_path / "end@280.mp4", start_s=100.0))) == RejectCode.TOO_LARGE


def test_the_decoder_gets_all_that_pairs_depend_on(tmp_path: Path, fake: PairExtractor):
    outcome = fake.extract(clip(tmp_path / "repeats.mp4", start_s=1.5, end_s=2.5)).outcome
    assert outcome is not None
    assert DecodeRequest.model_validate_json(outcome.message) == DecodeRequest(
        task="pairs",
        path=tmp_path / "repeats.mp4",
        start_s=1.5,
        end_s=2.5,
        window_s=60.0,
        limits=DecodeLimits(deadline_s=5.0, max_duration_s=180.0),
        keyframes=KeyFrames(max_keyframes=7),
        image=PNG,
        quality=("bars",),
    )


def test_a_decompression_bomb_stays_within_its_memory(tmp_path: Path):
    large = pan(1)[0].repeat(20, 0).repeat(20, 1)
    path = write_video(tmp_path / "bomb.mkv", [large] * 6, options={"preset": "ultrafast"})
    limited = extractor(memory_bytes=32 << 20)
    try:
        assert reject_of(limited.extract(clip(path))) == RejectCode.OUT_OF_MEMORY
    finally:
        limited.close()


def test_frames_that_grow_midway_are_too_large_before_they_take_memory(tmp_path: Path):
    small = write_video(tmp_path / "small.ts", pan(48))
    large = np.zeros((8192, 8192, 3), np.uint8)
    quick = {"preset": "ultrafast", "bf": "0"}
    grown = write_video(tmp_path / "large.ts", [large] * 3, times_s=[2.0, 2.1, 2.2], options=quick)
    (tmp_path / "grows.ts").write_bytes(small.read_bytes() + grown.read_bytes())
    limited = extractor(memory_bytes=1 << 30)
    try:
        assert reject_of(limited.extract(clip(tmp_path / "grows.ts"))) == RejectCode.TOO_LARGE
        assert limited.extract(clip(small)).outcome is None
    finally:
        limited.close()


def test_tags_that_take_hours_to_read_end_at_the_deadline(tmp_path: Path):
    path = write_video(tmp_path / "c.mkv", pan(48))
    path.write_bytes(tags(10_000)(path.read_bytes()))
    limited = extractor(deadline_s=2.0)
    try:
        assert reject_of(limited.extract(clip(path))) == RejectCode.TIMEOUT
    finally:
        limited.close()


def test_the_duration_is_none_if_it_is_unknown(tmp_path: Path, real: PairExtractor):
    assert real.duration_s(clip(write_video(tmp_path / "c.mp4", pan(60)))) == pytest.approx(2, abs=0.05)
    assert real.duration_s(clip(tmp_path / "nowhere.mp4")) is None


def test_a_given_triplet_becomes_one_pair(tmp_path: Path):
    video = write_video(tmp_path / "clip.mp4", pan(70))
    opened = SegmentExtractor(DecodeLimits(), StoredImage())
    try:
        extracted = opened.extract(GivenTriplet(clip(video, start_s=0.5, end_s=1.5), "pan", (str(video),)))
        assert extracted.outcome is None
        assert [frame.time_s for frame in extracted.frames] == pytest.approx([15 / 30, 44 / 30])
        assert [(pair.source, pair.target) for pair in extracted.pairs] == [(0, 1)]
    finally:
        opened.close()


@pytest.mark.parametrize("action", ["", "...", "!"])
def test_a_triplet_without_words_is_not_decoded(action: str):
    opened = SegmentExtractor(DecodeLimits(), StoredImage(), decoder=("no such program",))
    extracted = opened.extract(GivenTriplet(Clip("silent", "a.mp4"), action, ("a.mp4",)))
    assert reject_of(extracted) == RejectCode.NO_ACTION


def test_both_images_of_a_triplet_may_be_forbidden():
    opened = SegmentExtractor(
        DecodeLimits(), StoredImage(), lambda uri: "no" if uri == "b.png" else None, ("no such program",)
    )
    extracted = opened.extract(GivenTriplet(Clip("still", "a.png"), "paint it", ("a.png", "b.png")))
    assert reject_of(extracted) == RejectCode.FORBIDDEN


class Swapper:
    """Checks like `forbidden`, but between the check and the read, a stranger makes a path a link."""

    def __init__(self, root: Path, path: Path, elsewhere: Path) -> None:
        self.root, self.path, self.elsewhere = root, path, elsewhere
        self.kept = path.with_name("kept")

    def __call__(self, uri: str) -> str | None:
        if self.path.is_symlink():  # the name is right again when somebody looks
            self.path.unlink()
            self.kept.rename(self.path)
            return forbidden(uri, str(self.root))
        reason = forbidden(uri, str(self.root))
        self.path.rename(self.kept)
        self.path.symlink_to(self.elsewhere)
        return reason


@pytest.mark.parametrize("swapped", ["clip.mp4", "folder", None])
def test_what_became_a_link_after_the_check_is_not_stored(tmp_path: Path, swapped: str | None):
    given, elsewhere = tmp_path / "given", tmp_path / "elsewhere"
    for place in (given / "folder", elsewhere):
        place.mkdir(parents=True)
    video = write_video(given / "folder" / "clip.mp4", pan(60))
    secret = write_video(elsewhere / "clip.mp4", pan(60, seed=1))
    path, target = (video, secret) if swapped == "clip.mp4" else (given / "folder", elsewhere)
    check = Swapper(given, path, target) if swapped else partial(forbidden, root=str(given))
    opened = PairExtractor(Limits(), KeyFrames(), StoredImage(), check)
    try:
        extracted = opened.extract(clip(video))
        assert (reject_of(extracted) if swapped else extracted.outcome) == (swapped and RejectCode.FORBIDDEN)
        assert bool(extracted.frames) == (swapped is None)
    finally:
        opened.close()


@pytest.mark.parametrize("swapped", ["a.png", "b.png"])
def test_an_image_that_became_a_link_after_the_check_is_not_stored(tmp_path: Path, swapped: str):
    given, secret = tmp_path / "given", tmp_path / "secret.png"
    given.mkdir()
    for seed, path in enumerate((given / "a.png", given / "b.png", secret)):
        Image.fromarray(texture(seed)).save(path)

    def check(uri: str) -> str | None:
        reason = forbidden(uri, str(given))
        if uri.endswith("b.png"):  # the last that is checked
            (given / swapped).unlink()
            (given / swapped).symlink_to(secret)
        return reason

    opened = SegmentExtractor(DecodeLimits(), StoredImage(), check)
    uris = (str(given / "a.png"), str(given / "b.png"))
    try:
        assert reject_of(opened.extract(GivenTriplet(Clip("x", uris[0]), "paint", uris))) == "forbidden"
    finally:
        opened.close()
