"""Labelled pairs/s through Ray against the same session objects in plain processes; one line of JSON.

In turns, both decode, label and commit the same simulated clips with as many processes of each kind: first
few clips, then many. The rate is that of the further ones, so that what starts up and fills up doesn't count.
The model's own speed, on key frames that are extracted already, comes beside.
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
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, NamedTuple

from cluster.label import run_label
from cluster.local import ray_cluster
from cluster.resources import PoolPlan, plan_pools
from evaluation.clips import write_clips
from labeling.extract import PairExtractor
from labeling.inputs import list_clips
from labeling.units import plan_units
from schemas.clips import WorkUnit
from schemas.config import LabelConfig, Resources
from schemas.outcomes import Receipt, receipt_of
from storage.shards import write_unit

RESOURCES = Resources()


class Silent:
    """A `Progress` that shows nothing."""

    def start(self, total: int, done: int) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...
    def update(self, receipt: Receipt) -> None: ...


class Corpus(NamedTuple):
    """A folder of clips, and its units."""

    folder: str
    units: list[WorkUnit]


def draw(folder: Path, num_clips: int, config: LabelConfig) -> Corpus:
    write_clips(folder, num_clips, "test", 0)
    source = str(folder / "clips")
    return Corpus(source, plan_units(list_clips(source, config.limits), config.clips_per_unit, "benchmark"))


def further_pairs_per_s(few: Corpus, many: Corpus, label: Callable[[Corpus], int]) -> float:
    """The rate of what `many` has more than `few`; `label` returns the number of pairs."""
    started = time.perf_counter()
    num_few = label(few)
    between = time.perf_counter()
    num_many = label(many)
    return (num_many - num_few) / (time.perf_counter() - between - (between - started))


def through_ray(corpus: Corpus, out: str, config: LabelConfig) -> int:
    return run_label(corpus.folder, f"{out}-{len(corpus.units)}", config, RESOURCES, Silent()).triplets


def through_processes(corpus: Corpus, out: str, config: LabelConfig, plan: PoolPlan) -> int:
    context = multiprocessing.get_context("spawn")
    to_decode, to_label, receipts = context.Queue(), context.Queue(maxsize=4), context.Queue()
    decoders = [
        context.Process(target=decode, args=(config, to_decode, to_label)) for _ in range(plan.decode.workers)
    ]
    arguments = (config, plan.label.threads, f"{out}-{len(corpus.units)}", to_label, receipts)
    labellers = [context.Process(target=label, args=arguments) for _ in range(plan.label.workers)]
    for process in [*decoders, *labellers]:
        process.start()
    for unit in [*corpus.units, *[None] * len(decoders)]:
        to_decode.put(unit)
    num_pairs = sum(receipts.get().triplets for _ in corpus.units)
    for _ in labellers:
        to_label.put(None)
    for process in [*decoders, *labellers]:
        process.join()
    return num_pairs


def decode(config: LabelConfig, units: Queue[Any], extracted: Queue[Any]) -> None:
    extractor = PairExtractor(config.limits, config.keyframes, config.image)
    while unit := units.get():
        extracted.put((unit, [extractor.extract(clip) for clip in unit.clips]))
    extractor.close()


def label(
    config: LabelConfig, threads: int, out: str, extracted: Queue[Any], receipts: Queue[Receipt]
) -> None:
    import torch

    from labeling.annotate import Annotator
    from models.registry import load_model

    torch.set_num_threads(threads)
    annotator = Annotator(load_model(config.dynamics), config.annotation, RESOURCES.micro_batch)
    while item := extracted.get():
        unit, clips = item
        table, outcomes = annotator.annotate(unit, clips)
        write_unit(out, unit, table, outcomes)
        receipts.put(receipt_of(outcomes))


def model_alone(units: list[WorkUnit], config: LabelConfig, threads: int) -> float:
    """Pairs/s of encoding, importance and description in one process, after a unit to warm up."""
    import torch

    from labeling.annotate import Annotator
    from models.registry import load_model

    torch.set_num_threads(threads)
    annotator = Annotator(load_model(config.dynamics), config.annotation, RESOURCES.micro_batch)
    extractor = PairExtractor(config.limits, config.keyframes, config.image)
    extracted = [[extractor.extract(clip) for clip in unit.clips] for unit in units]
    extractor.close()
    annotator.annotate(units[0], extracted[0])
    started = time.perf_counter()
    tables = [annotator.annotate(*item)[0] for item in zip(units, extracted, strict=True)]
    return sum(table.num_rows for table in tables) / (time.perf_counter() - started)


def measure(folder: Path, num_clips: int, rounds: int, config: LabelConfig) -> dict[str, float]:
    few, many = (draw(folder / str(num), num, config) for num in (num_clips // 4, num_clips))
    ray_rates, plain_rates = [], []
    with ray_cluster() as cluster:
        plan = plan_pools(cluster, RESOURCES, len(many.units))
        for turn in range(rounds):
            out = str(folder / f"ray{turn}")
            ray_rates.append(further_pairs_per_s(few, many, lambda c, o=out: through_ray(c, o, config)))
            out = str(folder / f"plain{turn}")
            plain_rates.append(
                further_pairs_per_s(few, many, lambda c, o=out: through_processes(c, o, config, plan))
            )
    ratios = [one / other for one, other in zip(ray_rates, plain_rates, strict=True)]
    return {
        "ray_pairs_per_s": round(statistics.median(ray_rates), 2),
        "plain_pairs_per_s": round(statistics.median(plain_rates), 2),
        "ratio": round(statistics.median(ratios), 3),
        "model_pairs_per_s": round(model_alone(few.units, config, os.cpu_count() or 1), 2),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="embedded", help="'embedded' or the path of a model's folder")
    options.add_argument("--clips", type=int, default=128)
    options.add_argument("--rounds", type=int, default=2)
    chosen = options.parse_args()
    config = LabelConfig(dynamics=chosen.model, clips_per_unit=4)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), chosen.clips, chosen.rounds, config)
    machine = f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores"
    about = {"benchmark": "pipeline", "machine": machine, "model": chosen.model, "clips": chosen.clips}
    print(json.dumps(about | figures))


if __name__ == "__main__":
    main()
