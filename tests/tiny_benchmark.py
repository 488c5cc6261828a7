"""AURORA-Bench in its two layouts, with a few drawn images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SUBSETS = ("magicbrush", "ag", "something", "whatsup", "kubric")
ACTION = "move the red ball left"


def item(folder: Path, task: str, number: int, **other: Any) -> dict[str, Any]:
    """An item whose images lie in the folder; the larger the number, the farther the square moves."""
    paths = {name: f"images/{task}-{number}-{name}.png" for name in ("input", "output")}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, shift in (("input", 0), ("output", 8 * number)):
        picture = np.random.default_rng(0).integers(0, 60, (80, 96, 3), dtype=np.uint8)
        picture[30:50, 20 + shift : 40 + shift] = (220, 40 * number, 30)
        Image.fromarray(picture).save(folder / paths[name])
    return {"instruction": ACTION, "task": task, **paths} | other


def write_benchmark(folder: Path, num: int = 2) -> Path:
    """A file for each subset, `num` items each."""
    for task in SUBSETS:
        items = [item(folder / task, task, number) for number in range(num)]
        (folder / task / "test.json").write_text(json.dumps(items))
    return folder
