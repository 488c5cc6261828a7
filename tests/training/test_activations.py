from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from kinescribe.schemas.training import CodecTraining, TrainConfig
from kinescribe.training.activations import activation_bytes, saved_bytes
from kinescribe.training.tasks import make_task
from tests.tiny_chat import tiny_chat
from tests.tiny_edit import tiny_edit

KINDS = ("codec", "dynamics", "dynamics lora", "world", "edit", "edit lora", "llava", "smolvlm")


@pytest.fixture(params=KINDS)
def config(
    request: pytest.FixtureRequest, codec: Any, dynamics: Any, world: Any, tmp_path: Path
) -> TrainConfig:
    kind, lora = request.param.split()[0], {"rank": 2} if "lora" in request.param else None
    if kind == "codec":
        return codec()
    if kind == "edit":
        return world(init=str(tiny_edit(tmp_path / "edit")), lora=lora)
    if kind in ("llava", "smolvlm"):
        return dynamics(init=str(tiny_chat(kind, tmp_path / "chat")), lora={"rank": 2})
    return (dynamics if kind == "dynamics" else world)(lora=lora)


def made(config: TrainConfig, device: str) -> tuple[torch.nn.Module, Any]:
    """The module as it trains, and two samples."""
    task = make_task(config, torch.device(device))
    task.module.train(not isinstance(config, CodecTraining))
    return task.module, task.batches.batch([0, 1], [0, 1])


def test_the_bytes_found_without_computing_are_those_that_autograd_saves(config: TrainConfig):
    assert activation_bytes(*made(config, "meta"), bf16=False) == saved_bytes(*made(config, "cpu"), False) > 0


def test_in_bf16_too_within_two_percent(config: TrainConfig):
    # Convolutions save a little more where they compute.
    saved = saved_bytes(*made(config, "cpu"), bf16=True)
    assert activation_bytes(*made(config, "meta"), bf16=True) == pytest.approx(saved, rel=0.02)


def test_it_is_the_memory_that_a_forward_leaves_taken(world: Any):
    module, batch = made(world(), "cpu")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        kept = module(batch)
    taken = sum(event.self_cpu_memory_usage for event in profiled.key_averages())
    assert kept["loss"].requires_grad
    assert activation_bytes(*made(world(), "meta"), bf16=False) == pytest.approx(taken, rel=0.03)


def test_the_bytes_are_unknown_if_shapes_depend_on_values(dynamics: Any, tmp_path: Path):
    config = dynamics(init=str(tiny_chat("qwen3", tmp_path / "chat")), lora={"rank": 2})
    assert activation_bytes(*made(config, "meta"), bf16=False) is None
