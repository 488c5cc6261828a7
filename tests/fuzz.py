"""Coverage-guided fuzzing of what reads foreign bytes outside the sandbox or first of all: `make fuzz`.

    python tests/fuzz.py header|footer [options of libFuzzer]

Whatever the bytes are, the header probe may raise nothing but `Rejected`, the footer reader nothing but
`DatasetError`. It starts from small clips and from a unit's object, and goes on from what it kept in
out/fuzz, where it also leaves the bytes that broke something.
"""

import contextlib
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kinescribe.media", "kinescribe.storage", "kinescribe.schemas"]):
    from kinescribe.media.decode import open_video
    from kinescribe.media.probe import check_file, check_header
    from kinescribe.schemas.config import DecodeLimits
    from kinescribe.schemas.errors import DatasetError
    from kinescribe.schemas.outcomes import Rejected
    from kinescribe.storage.shards import read_footer, unit_uri, write_unit

from kinescribe.schemas.clips import WorkUnit, stable_id
from tests.tiny_dataset import clip, outcome, row, table
from tests.videos import pan, write_video

MEMORY_BYTES = 4 << 30
CODECS = {"mp4": "libx264", "mkv": "libx264", "ts": "libx264", "avi": "mpeg4", "webm": "libvpx-vp9"}


def header(path: Path) -> None:
    with contextlib.suppress(Rejected):
        check_file(path)
        with open_video(path) as video:
            check_header(video.header, DecodeLimits(), None, None)


def footer(path: Path) -> None:
    with contextlib.suppress(DatasetError):
        read_footer(str(path))


def clips(folder: Path) -> None:
    for suffix, codec in CODECS.items():
        write_video(folder / f"clip.{suffix}", [image[::4, ::4] for image in pan(3)], codec=codec)


def units(folder: Path) -> None:
    one = clip("a")
    unit_id = stable_id("unit")
    write_unit(str(folder), WorkUnit(unit_id, (one,)), table([row(one, 0)]), [outcome(one, 1)])
    Path(unit_uri(str(folder), unit_id)).rename(folder / "unit.parquet")


TARGETS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "header": (header, clips),
    "footer": (footer, units),
}


def main() -> None:
    probe, seeds = TARGETS[sys.argv[1]]
    # A header may ask for any amount of memory; in the sandbox it is refused in the same way.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    folder = Path("out", "fuzz", sys.argv[1])
    corpus, path = folder / "corpus", folder / "input.mp4"
    if not corpus.exists():
        corpus.mkdir(parents=True)
        seeds(corpus)

    def one_input(data: bytes) -> None:
        path.write_bytes(data)
        probe(path)

    atheris.Setup([sys.argv[0], f"-artifact_prefix={folder}/", *sys.argv[2:], str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
