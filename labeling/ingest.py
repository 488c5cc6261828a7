"""`kinescribe ingest`: triplets with given actions, as a dataset like those of `label`.

Runs in this process, with decoders in processes of their own: decoding and one codec are all the work, and a
cluster would take longer to start than most inputs need. The units' objects are the state, as in a labelling
run. Knows no Ray.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue

import pyarrow as pa

from kinescribe.labeling.encode import FrameEncoder, outcome_of
from kinescribe.labeling.extract import SegmentExtractor
from kinescribe.labeling.supervised import given_forbidden, list_given
from kinescribe.labeling.units import plan_units
from kinescribe.models.checkpoint_files import CodecIdentity, codec_folder, identify_codec
from kinescribe.models.codec import ImageCodec
from kinescribe.models.dynamics import Failure
from kinescribe.models.registry import load_codec
from kinescribe.schemas.clips import ExtractedClip, GivenTriplet, WorkUnit
from kinescribe.schemas.config import IngestConfig
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.errors import InputError
from kinescribe.schemas.outcomes import ClipOutcome, Receipt, receipt_of, too_many_rejects
from kinescribe.schemas.version import VERSION
from kinescribe.storage.audit import DatasetStatus
from kinescribe.storage.card import write_card
from kinescribe.storage.plan import plan_digest, write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.shards import committed_units, write_unit
from kinescribe.storage.writers import writing

UNITS_AHEAD = 2
"""Units that are decoded, or being decoded, while the codec encodes another."""
Extract = Callable[[GivenTriplet], Future[ExtractedClip]]


def run_ingest(
    input: str,
    out: str,
    config: IngestConfig,
    decode_workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    join: bool = False,
) -> DatasetStatus:
    """Write the triplets of `input` to the dataset `out`, or those that an earlier run left.

    `decode_workers` is the number of decoding processes, by default one per core. `join` works beside another
    run that writes this dataset. Raises InputError, ModelError or DatasetError before anything is decoded,
    and InputError with the reasons when more than `config.max_reject_rate` of the triplets were rejected.
    """
    folder = codec_folder(config.dynamics)
    codec = identify_codec(folder, config.image.fit)
    given = {triplet.clip.clip_id: triplet for triplet in list_given(input)}
    units = _bind_units(out, given.values(), config, codec)
    committed = committed_units(out)
    if not committed:
        # Before the first row, or `load_dataset` would read the plan of a run that died as rows.
        write_card(out)
    pending = [unit for unit in units if unit.unit_id not in committed]
    done = len(given) - sum(len(unit.clips) for unit in pending)
    progress(done, len(given))
    if pending:
        may_not = partial(given_forbidden, input, roots=config.roots)
        make = partial(SegmentExtractor, config.limits, config.image, may_not)
        num_workers = decode_workers or os.cpu_count() or 1
        with writing(out, join) as note_commit, _extracting(make, num_workers) as extract:
            annotator = GivenAnnotator(load_codec(folder, config.image.fit), given)
            extracted = _extracted(pending, given, extract)
            for total in _written(out, extracted, annotator, config.max_reject_rate):
                note_commit()
                progress(done + total.clips, len(given))
    return write_card(out)


class GivenAnnotator:
    """Makes rows of decoded triplets with a codec; `given` has their actions, by clip id."""

    def __init__(self, codec: ImageCodec, given: Mapping[str, GivenTriplet]) -> None:
        self.given = given
        self.encoder = FrameEncoder(codec)
        self.schema = triplet_schema(codec.id, codec.grid)

    def annotate(self, extracted: Sequence[ExtractedClip]) -> tuple[pa.Table, list[ClipOutcome]]:
        """Rows in `triplet_schema` and the outcome of every clip, both in order.

        The likelihood columns are null: no model wrote the action.
        """
        failures: dict[str, Failure] = {}
        pairs = self.encoder.encode([clip for clip in extracted if clip.outcome is None], failures)
        actions = (self.given[pair.extracted.clip.clip_id].action for pair in pairs)
        rows = [
            self.encoder.row(pair) | {"action": action} for pair, action in zip(pairs, actions, strict=True)
        ]
        outcomes = [outcome_of(clip, failures.get(clip.clip.clip_id)) for clip in extracted]
        return pa.Table.from_pylist(rows, self.schema), outcomes


def _bind_units(
    out: str, given: Iterable[GivenTriplet], config: IngestConfig, codec: CodecIdentity
) -> list[WorkUnit]:
    """Bind the dataset to this run, write its plan, and return its units."""
    clips = [triplet.clip for triplet in given]
    run = Run(VERSION, config.model_dump(mode="json"), {}, codec.id, codec.grid, plan_digest(clips))
    bind(out, run)
    units = plan_units(clips, config.triplets_per_unit, run.fingerprint)
    write_plan(out, units)
    return units


@contextmanager
def _extracting(make: Callable[[], SegmentExtractor], num: int) -> Generator[Extract]:
    """A function that extracts a triplet in one of `num` extractors, which work at the same time."""
    extractors = [make() for _ in range(num)]
    idle: SimpleQueue[SegmentExtractor] = SimpleQueue()
    for extractor in extractors:
        idle.put(extractor)

    def extract(triplet: GivenTriplet) -> ExtractedClip:
        extractor = idle.get()
        try:
            return extractor.extract(triplet)
        finally:
            idle.put(extractor)

    threads = ThreadPoolExecutor(num)
    try:
        yield partial(threads.submit, extract)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for extractor in extractors:
            extractor.close()
        threads.shutdown()
        # A thread that was about to call an extractor may have started another process.
        for extractor in extractors:
            extractor.close()


def _extracted(
    units: Iterable[WorkUnit], given: Mapping[str, GivenTriplet], extract: Extract
) -> Iterator[tuple[WorkUnit, list[ExtractedClip]]]:
    """The units in order with their clips extracted, few ahead, so that their images fit in memory."""
    ahead: deque[tuple[WorkUnit, list[Future[ExtractedClip]]]] = deque()
    for unit in units:
        ahead.append((unit, [extract(given[clip.clip_id]) for clip in unit.clips]))
        if len(ahead) > UNITS_AHEAD:
            yield _with_results(*ahead.popleft())
    while ahead:
        yield _with_results(*ahead.popleft())


def _written(
    out: str,
    extracted: Iterable[tuple[WorkUnit, list[ExtractedClip]]],
    annotator: GivenAnnotator,
    max_reject_rate: float,
) -> Iterator[Receipt]:
    """Commit each unit, and yield the sum of all so far. Raises InputError for too many rejects."""
    total = Receipt()
    for unit, clips in extracted:
        if problem := too_many_rejects(total, max_reject_rate):
            raise InputError(problem)
        table, outcomes = annotator.annotate(clips)
        write_unit(out, unit, table, outcomes)
        total += receipt_of(outcomes)
        yield total


def _with_results(
    unit: WorkUnit, extracted: Sequence[Future[ExtractedClip]]
) -> tuple[WorkUnit, list[ExtractedClip]]:
    return unit, [future.result() for future in extracted]
