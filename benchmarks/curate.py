"""Seconds and memory of `kinescribe curate`, against polars with all rows in memory.

Each side runs in its own process, measured from its first import, with its peak resident memory. A
hundredth of the rows is chosen. The datasets have the columns that curation reads, in the layout of
`kinescribe label` but with larger units by default. Prints one line of JSON for each size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.dataset import IMAGE
from kinescribe.storage.plan import plan_digest, write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.shards import unit_uri

NUM_CLASSES = 700
CHOSEN = 0.01


def write_scores(dataset: str, num_rows: int, rows_per_unit: int) -> None:
    """A dataset with classes of very different sizes, likelihoods of short sentences, and empty images."""
    clips = [Clip(stable_id(index), f"{index}.mp4") for index in range(-(-num_rows // rows_per_unit))]
    units = [WorkUnit(stable_id("unit", clip.clip_id), (clip,)) for clip in clips]
    bind(dataset, Run("0", {}, {}, "none", (1, 1), plan_digest(clips)))
    write_plan(dataset, units)
    Path(dataset, "data").mkdir()
    random = np.random.default_rng(0)
    for index, unit in enumerate(units):
        rows = scores(random, min(rows_per_unit, num_rows - index * rows_per_unit), unit.clips[0])
        pq.write_table(rows, unit_uri(dataset, unit.unit_id), compression="zstd", write_statistics=False)


def scores(random: np.random.Generator, num_rows: int, clip: Clip) -> pa.Table:
    ids = np.frombuffer(random.bytes(16 * num_rows).hex().encode(), "S32").astype(str)
    classes = pa.array([f"class {index}" for index in range(NUM_CLASSES)])
    places = pa.array((random.zipf(1.3, num_rows) % NUM_CLASSES).astype(np.int32))
    image = pa.repeat(pa.scalar({"bytes": b"", "path": None}, IMAGE), num_rows)
    columns = {
        "triplet_id": ids,
        "clip_id": pa.repeat(clip.clip_id, num_rows),
        "video": pa.repeat(clip.uri, num_rows),
        "source": image,
        "target": image,
        "action": pa.repeat("turn the blue box", num_rows),
        "action_class": pa.DictionaryArray.from_arrays(places, classes).cast(pa.string()),
        "action_logprob": -random.gamma(3, 2, num_rows).astype(np.float32),
        "action_tokens": random.integers(4, 12, num_rows, np.int32),
    }
    return pa.table(columns)


def by_curate(dataset: str, top_k: int) -> None:
    from kinescribe.labeling.curate import curate

    curate([dataset], f"{dataset}/selection.parquet", CurateConfig(top_k=top_k))


def in_memory(dataset: str, top_k: int) -> None:
    import polars as pl

    score = pl.col("action_logprob").cast(pl.Float64) / pl.col("action_tokens")
    best_first = {"descending": [False, True, False], "nulls_last": True}
    rows = pl.read_parquet(f"{dataset}/data/*.parquet").with_columns(score=score)
    ranked = rows.sort("action_class", "score", "triplet_id", **best_first).with_columns(
        round=pl.int_range(pl.len()).over("action_class")
    )
    chosen = ranked.sort("round", "score", "triplet_id", **best_first).head(top_k)
    chosen.select("triplet_id", "score", "action_class").write_parquet(f"{dataset}/in_memory.parquet")


SIDES: dict[str, Callable[[str, int], None]] = {"curate": by_curate, "in_memory": in_memory}


def run_side(side: str, dataset: str, top_k: int) -> None:
    """Run one side in this process and print its time and memory."""
    started = time.perf_counter()
    SIDES[side](dataset, top_k)
    seconds = time.perf_counter() - started
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(json.dumps({f"{side}_s": round(seconds, 2), f"{side}_peak_gib": round(peak_gib, 2)}))


def measure(side: str, dataset: str, top_k: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, dataset, str(top_k)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def same_choice(dataset: str) -> bool:
    chosen = [pq.read_table(f"{dataset}/{name}.parquet")["triplet_id"] for name in ("selection", "in_memory")]
    return chosen[0].to_pylist() == chosen[1].to_pylist()


def report(num_rows: int, rows_per_unit: int, in_memory_rows: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder:
        dataset = f"{folder}/dataset"
        write_scores(dataset, num_rows, rows_per_unit)
        top_k = max(1, int(num_rows * CHOSEN))
        line: dict[str, object] = {
            "benchmark": "curate",
            "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores",
            "rows": num_rows,
            "rows_per_unit": rows_per_unit,
            "classes": NUM_CLASSES,
            "top_k": top_k,
        }
        figures = measure("curate", dataset, top_k)
        line["curate_s_per_million"] = round(figures["curate_s"] / num_rows * 1e6, 3)
        if num_rows <= in_memory_rows:
            figures |= measure("in_memory", dataset, top_k)
            line["seconds_ratio"] = round(figures["curate_s"] / figures["in_memory_s"], 2)
            line["memory_ratio"] = round(figures["curate_peak_gib"] / figures["in_memory_peak_gib"], 2)
            line["same_choice"] = same_choice(dataset)
    return line | figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[300_000, 1_000_000, 3_000_000])
    parser.add_argument("--rows-per-unit", type=int, default=100_000)
    parser.add_argument("--in-memory-rows", type=int, default=10_000_000, help="most rows of the other side")
    for num_rows in (options := parser.parse_args()).rows:
        print(json.dumps(report(num_rows, options.rows_per_unit, options.in_memory_rows)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        run_side(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
