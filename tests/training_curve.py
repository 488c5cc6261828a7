"""The metrics and the export of a training, to compare two trainings."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from kinescribe.schemas.training import TrainConfig
from kinescribe.training.metrics import read_lines


def curve(config: TrainConfig) -> list[dict[str, float]]:
    """The metrics of each step, except the speed."""
    lines = read_lines(Path(config.out) / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name != "samples_per_s"} for line in lines]


def exported(config: TrainConfig) -> dict[str, Tensor]:
    """The exported weights of a unified model, by name."""
    return load_file(Path(config.out) / "export" / "model.safetensors")
