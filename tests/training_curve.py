"""What a training measured and what it wrote, to compare two of them."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from kinescribe.schemas.training import TrainConfig
from kinescribe.training.metrics import read_lines


def curve(config: TrainConfig) -> list[dict[str, float]]:
    """What was measured at each step, but for the time it took."""
    lines = read_lines(Path(config.out) / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name != "samples_per_s"} for line in lines]


def exported(config: TrainConfig) -> dict[str, Tensor]:
    """The weights that a unified model's training exported, by name."""
    return load_file(Path(config.out) / "export" / "model.safetensors")
