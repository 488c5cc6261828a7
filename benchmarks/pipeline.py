"""Labelled pairs/s through Ray, against the same session objects in plain processes; one line of JSON.

Both sides take turns. They decode, label and commit the same simulated clips, with equal numbers of
processes and equally bounded decoding ahead. The rate counts units committed after the first third, which
excludes starting and filling the pipeline. The speed of the model alone, on extracted key frames, is
measured too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, NamedTuple

from kinescribe.cluster.label import run_label
from kinescribe.cluster.progress import LabelProgress
from kinescribe.cluster.ray_session import ray_cluster
from kinescribe.cluster.resources import PoolPlan, plan_pools
from kinescribe.labeling.extract import PairExtractor
from kinescribe.labeling.inputs import list_clips
from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.outcomes import Receipt, receipt_of
from kinescribe.simulation.clips import write_clips
from kinescribe.storage.shards import write_unit

RESOURCES = Resources()
AHEAD = 2
"""Decoded units that wait for each labeller; more would be decoded before the measured time starts."""


class Meter(LabelProgress):
    """Records when each unit was committed, and shows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.committed: list[tuple[float, int]] = []

    def update(self, receipt: Receipt) -> None:
        self.committed.append((time.perf_counter(), receipt.triplets))

    @property
    def pairs_per_s(self) -> float:
        """The rate of the last two thirds of the units."""
        (started, _), *rest = self.committed[len(self.committed) // 3 :]
        return sum(triplets for _, triplets in rest) / (rest[-1][0] - started)


class Corpus(NamedTuple):
    """A folder of clips, and its units."""

    folder: str
    units: list[WorkUnit]


def draw(folder: Path, num_clips: int, config: LabelConfig) -> Corpus:
    write_clips(folder, num_clips, "test", 0)
    source = str(folder / "clips")
    return Corpus(source, plan_units(list_clips(source, config.limits), config.clips_per_unit, "benchmark"))


def through_ray(corpus: Corpus, out: str, config: LabelConfig) -> float:
    meter = Meter()
    run_label(corpus.folder, out, config, RESOURCES, meter)
    return meter.pairs_per_s


def through_processes(corpus: Corpus, out: str, config: LabelConfig, plan: PoolPlan) -> float:
    context = multiprocessing.get_context("spawn")
    to_label = context.Queue(AHEAD * plan.label.workers)
    to_decode, receipts = context.Queue(), context.Queue()
    decoders = [
        context.Process(target=decode, args=(config, to_decode, to_label)) for _ in range(plan.decode.workers)
    ]
    arguments = (config, plan.label.threads, out, to_label, receipts)
    labellers = [context.Process(target=label, args=arguments) for _ in range(plan.label.workers)]
    for process in [*decoders, *labellers]:
        process.start()
    for unit in [*corpus.units, *[None] * len(decoders)]:
        to_decode.put(unit)
    meter = Meter()
    for _ in corpus.units:
        meter.update(receipts.get())
    for _ in labellers:
        to_label.put(None)
    for process in [*decoders, *labellers]:
        process.join()
    return meter.pairs_per_s


def decode(config: LabelConfig, units: Queue[Any], extracted: Queue[Any]) -> None:
    extractor = PairExtractor(config.limits, config.keyframes, config.image, quality=config.quality)
    while unit := units.get():
        extracted.put((unit, [extractor.extract(clip) for clip in unit.clips]))
    extractor.close()


def label(
    config: LabelConfig, threads: int, out: str, extracted: Queue[Any], receipts: Queue[Receipt]
) -> None:
    import torch

    from kinescribe.labeling.annotate import Annotator
    from kinescribe.models.registry import load_labeller

    torch.set_num_threads(threads)
    annotator = Annotator(*load_labeller(config), config.annotation, RESOURCES.micro_batch, config.quality)
    while item := extracted.get():
        unit, clips = item
        table, outcomes = annotator.annotate(clips)
        write_unit(out, unit, table, outcomes)
        receipts.put(receipt_of(outcomes))


def model_alone(units: list[WorkUnit], config: LabelConfig, threads: int) -> float:
    """Pairs/s of encoding, importance and description in one process, after a warm-up unit."""
    import torch

    from kinescribe.labeling.annotate import Annotator
    from kinescribe.models.registry import load_labeller

    torch.set_num_threads(threads)
    annotator = Annotator(*load_labeller(config), config.annotation, RESOURCES.micro_batch, config.quality)
    extractor = PairExtractor(config.limits, config.keyframes, config.image, quality=config.quality)
    extracted = [[extractor.extract(clip) for clip in unit.clips] for unit in units]
    extractor.close()
    annotator.annotate(extracted[0])
    started = time.perf_counter()
    tables = [annotator.annotate(clips)[0] for clips in extracted]
    return sum(table.num_rows for table in tables) / (time.perf_counter() - started)


def measure(folder: Path, num_clips: int, rounds: int, config: LabelConfig) -> dict[str, object]:
    corpus = draw(folder, num_clips, config)
    ray_rates, plain_rates = [], []
    with ray_cluster() as cluster:
        plan = plan_pools(cluster, RESOURCES, len(corpus.units))
        for turn in range(rounds):
            ray_rates.append(through_ray(corpus, str(folder / f"ray{turn}"), config))
            plain_rates.append(through_processes(corpus, str(folder / f"plain{turn}"), config, plan))
    first_units = corpus.units[: len(corpus.units) // 4]
    ratios = [one / other for one, other in zip(ray_rates, plain_rates, strict=True)]
    return {
        "ray_pairs_per_s": round(statistics.median(ray_rates), 2),
        "plain_pairs_per_s": round(statistics.median(plain_rates), 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "model_pairs_per_s": round(model_alone(first_units, config, os.cpu_count() or 1), 2),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="embedded", help="'embedded' or a model folder")
    options.add_argument("--clips", type=int, default=512)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    config = LabelConfig(dynamics=chosen.model)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), chosen.clips, chosen.rounds, config)
    machine = f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores"
    about = {"benchmark": "pipeline", "machine": machine, "model": chosen.model, "clips": chosen.clips}
    print(json.dumps(about | figures))


if __name__ == "__main__":
    main()
