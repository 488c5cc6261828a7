"""`kinescribe` as a user runs it, and what a family of models goes through in short."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from kinescribe.cli import main
from tests.tiny_benchmark import SUBSETS, write_benchmark


def run(*arguments: object) -> None:
    """A command of `kinescribe`, which must not fail."""
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    assert leaving.value.code == 0, arguments


def train(task: str, out: Path, model: Path, *options: object) -> Path:
    """The export of a training by two workers, of 20 steps unless options say otherwise."""
    settings = ["steps=20", "batch=4", "log_every=5", "evaluate_every=20", "checkpoint_every=20"]
    settings += ["optimization.warmup_steps=2", "optimization.learning_rate=0.01", f"init={model}"]
    words = [word for setting in [*settings, "engine.workers=2"] for word in ("--set", setting)]
    run("train", task, "--out", out, *words, *options)
    return out / "export"


def evaluate_aurora(folder: Path, *models: object) -> None:
    """A small AURORA-Bench on these models, each case of which must be measured beside its copy."""
    benchmark, out = write_benchmark(folder / "benchmark", 1), folder / "evaluated"
    run("evaluate", "aurora", "--data", benchmark, *models, "--out", out)
    assert len((out / "samples.csv").read_text().splitlines()) == 1 + 2 * len(SUBSETS)


def assert_adapter_is_the_export(auto: Any, model: Path, export: Path) -> None:
    """On the model that was tuned, PEFT makes of the adapter what transformers opens as the export."""
    before = auto.from_pretrained(model).state_dict()
    adapted = PeftModel.from_pretrained(auto.from_pretrained(model), export / "adapter").merge_and_unload()
    ours = auto.from_pretrained(export).state_dict()
    torch.testing.assert_close(adapted.state_dict(), ours, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(before[name], ours[name]) for name in ours)
