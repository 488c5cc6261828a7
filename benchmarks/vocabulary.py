"""Choosing among given actions against writing them: seconds and accuracy; one line of JSON.

- `ratio`: seconds a pair to choose among 100 actions, over those to write 10 descriptions, measured in turns.
- `exact`: the share of simulated pairs whose action is right, written freely or chosen from the whole
  `language` of the simulated world, which has so many actions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from operator import eq
from typing import Any

import numpy as np

from kinescribe.models.registry import load_model
from kinescribe.models.tokens import CodePair
from kinescribe.simulation.actions import all_actions, parse
from kinescribe.simulation.triplets import write_triplets
from kinescribe.storage.dataset import Dataset

NUM_ACTIONS, NUM_DESCRIPTIONS, MAX_NEW_TOKENS = 100, 10, 32
COLUMNS = ["source_codes", "target_codes", "action"]


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dynamics", default="embedded")
    parser.add_argument("--pairs", type=int, default=200, help="of the accuracy")
    parser.add_argument("--rounds", type=int, default=8, help="of the speed")
    options = parser.parse_args()
    model = load_model(options.dynamics)
    with tempfile.TemporaryDirectory() as folder:
        write_triplets(f"{folder}/triplets", options.pairs, "test", 5, model.codec)
        rows = (
            Dataset.open(f"{folder}/triplets").scan().to_table(columns=COLUMNS).to_pylist()[: options.pairs]
        )
    pairs = [CodePair(*(np.asarray(row[name], np.uint16) for name in COLUMNS[:2])) for row in rows]
    actions = [str(action) for action in all_actions()]
    few = actions[:: max(1, len(actions) // NUM_ACTIONS)][:NUM_ACTIONS]
    times = [
        (
            seconds(lambda: model.choose(pairs[:1], few)),
            seconds(lambda: model.describe(pairs[:NUM_DESCRIPTIONS], MAX_NEW_TOKENS)),
        )
        for _ in range(options.rounds)
    ]
    choose_s, write_s = (statistics.median(column) for column in zip(*times, strict=True))
    parts = [pairs[start : start + 16] for start in range(0, len(pairs), 16)]
    said = {
        "written": [one.text for part in parts for one in model.describe(part, MAX_NEW_TOKENS)],
        "chosen": [one.text for one in model.choose(pairs, actions)],
    }
    truth = [parse(row["action"]) for row in rows]
    print(
        json.dumps(
            {
                "dynamics": options.dynamics,
                "actions": len(few),
                "choose_s": choose_s,
                "write_s": write_s,
                "ratio": choose_s / write_s,
                "exact": {
                    name: np.mean([*map(eq, map(parse, texts), truth)]) for name, texts in said.items()
                },
                "pairs": len(pairs),
                "language": len(actions),
                "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
            }
        )
    )


if __name__ == "__main__":
    main()
