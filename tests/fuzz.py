"""Coverage-guided fuzzing of what reads foreign bytes outside the sandbox or first of all: `make fuzz`.

    python tests/fuzz.py TARGET [options of libFuzzer]

Whatever the bytes are, a target may raise nothing but the error that says so in words. It starts from small
valid files, and goes on from what it kept in out/fuzz, where it also leaves the bytes that broke something.
`dataset` uses the bytes to choose changes of a valid dataset, and runs every command that reads one.
"""

import contextlib
import json
import logging
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import atheris
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

with atheris.instrument_imports(
    include=[
        "kinescribe.media",
        "kinescribe.storage",
        "kinescribe.schemas",
        "kinescribe.labeling.manifest",
        "kinescribe.models.endpoint",
        # Instrumented, it takes a minute for a header that it refuses in two seconds.
        *(["yaml"] if sys.argv[1:2] == ["card"] else []),
    ]
):
    from kinescribe.labeling.manifest import read_manifest
    from kinescribe.media.decode import open_video
    from kinescribe.media.probe import check_file, check_header
    from kinescribe.models.endpoint import Reply, read_reply
    from kinescribe.schemas.config import DecodeLimits
    from kinescribe.schemas.errors import DatasetError, InputError, UserError
    from kinescribe.schemas.outcomes import Rejected
    from kinescribe.storage.card import edited_header
    from kinescribe.storage.dataset import Dataset
    from kinescribe.storage.shards import read_footer, unit_uri, write_unit

import polars as pl

from kinescribe.schemas.clips import WorkUnit, stable_id
from tests.forged_datasets import COMMANDS, forged
from tests.tiny_dataset import build, clip, outcome, row, table
from tests.videos import pan, write_video

MEMORY_BYTES = 4 << 30
CODECS = {"mp4": "libx264", "mkv": "libx264", "ts": "libx264", "avi": "mpeg4", "webm": "libvpx-vp9"}
CARD = "---\nlicense: cc-by-4.0\ntags: [a, b]\nmade: 2026-11-30T01:02:03Z\n---\n\n# A dataset\n"
MANIFEST = {"uri": ["a.mp4", 'b",\n.mp4'], "start_s": [0.5, None], "end_s": [2.5, None], "id": [None, "b"]}
CHOICE = {"message": {"content": "move it"}, "logprobs": {"content": [{"logprob": -1}]}}
REPLY = {"choices": [CHOICE | {"finish_reason": "stop"}]}


class Target(NamedTuple):
    """`probe` is called with a file of the fuzzer's bytes, in a folder of its own; `seeds` fills a corpus."""

    probe: Callable[[Path], object]
    seeds: Callable[[Path], object]
    suffix: str = ""


def header(path: Path) -> None:
    with contextlib.suppress(Rejected):
        check_file(path)
        with open_video(path) as video:
            check_header(video.header, DecodeLimits(), None, None)


def clips(folder: Path) -> None:
    for suffix, codec in CODECS.items():
        write_video(folder / f"clip.{suffix}", [image[::4, ::4] for image in pan(3)], codec=codec)


def footer(path: Path) -> None:
    with contextlib.suppress(DatasetError):
        read_footer(str(path))


def units(folder: Path) -> None:
    one = clip("a")
    unit_id = stable_id("unit")
    write_unit(str(folder), WorkUnit(unit_id, (one,)), table([row(one, 0)]), [outcome(one, 1)])
    Path(unit_uri(str(folder), unit_id)).rename(folder / "unit.parquet")


def card(path: Path) -> None:
    dataset = path.parent / "dataset"
    if not dataset.exists():
        build(str(dataset), [1])
    shutil.copy(path, dataset / "README.md")
    with contextlib.suppress(DatasetError):
        edited_header(Dataset.open(str(dataset)))


def manifest(path: Path) -> None:
    with contextlib.suppress(InputError):
        read_manifest(str(path))


def reply(path: Path) -> None:
    assert isinstance(read_reply(path.read_bytes()), Reply)


def dataset(path: Path) -> None:
    folder = path.parent / "inside"

    @given(data=st.data())
    @settings(suppress_health_check=list(HealthCheck), deadline=None, database=None)
    def every_command(data: st.DataObject) -> None:
        changed = forged(folder, data.draw)
        for command in COMMANDS.values():
            with contextlib.suppress(UserError):
                command(changed, folder)

    every_command.hypothesis.fuzz_one_input(path.read_bytes())


def choices(folder: Path) -> None:
    random = Random(0)
    for number in range(20):
        (folder / str(number)).write_bytes(random.randbytes(2000))


TARGETS = {
    "header": Target(header, clips, ".mp4"),
    "footer": Target(footer, units, ".parquet"),
    "card": Target(card, lambda folder: (folder / "card").write_text(CARD)),
    "csv": Target(manifest, lambda folder: pl.DataFrame(MANIFEST).write_csv(folder / "a"), ".csv"),
    "jsonl": Target(manifest, lambda folder: pl.DataFrame(MANIFEST).write_ndjson(folder / "a"), ".jsonl"),
    "parquet": Target(
        manifest, lambda folder: pl.DataFrame(MANIFEST).write_parquet(folder / "a"), ".parquet"
    ),
    "reply": Target(reply, lambda folder: (folder / "a").write_text(json.dumps(REPLY))),
    "dataset": Target(dataset, choices),
}


def main() -> None:
    target = TARGETS[sys.argv[1]]
    # A header may ask for any amount of memory; in the sandbox it is refused in the same way.
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    folder = Path("out", "fuzz", sys.argv[1])
    corpus, path = folder / "corpus", folder / f"input{target.suffix}"
    if not corpus.exists():
        corpus.mkdir(parents=True)
        target.seeds(corpus)

    def one_input(data: bytes) -> None:
        path.write_bytes(data)
        target.probe(path)

    atheris.Setup([sys.argv[0], f"-artifact_prefix={folder}/", *sys.argv[2:], str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
