"""Outputs of models without a model: plain pictures whose colour says whose they are."""

import json
from pathlib import Path

from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 160, 40), "blue": (40, 40, 200), "grey": (128, 128, 128)}


def write_outputs(
    root: Path, num: int = 3, judge: dict[str, float] | None = None, **words: str
) -> dict[str, Path]:
    """A folder for each colour, `num` cases of two tasks; `judge` has scores by colour."""
    return {name: _write(root / name, name, num, (judge or {}).get(name), words) for name in COLOURS}


def _write(folder: Path, name: str, num: int, judge: float | None, words: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 48), "white").save(folder / "source.png")
    Image.new("RGB", (64, 48), COLOURS[name]).save(folder / "output.png")
    outputs = [
        {"id": f"case-{number}", "instruction": f"do thing {number}", "task": f"task-{number % 2}"}
        | {"input": "source.png", "output": "output.png", "judge": judge}
        | words
        for number in range(num)
    ]
    (folder / "outputs.json").write_text(json.dumps(outputs))
    return folder
