from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from kinescribe.schemas.training import Engine, Optimization
from kinescribe.training.engine import DeepSpeedEngine

pytestmark = pytest.mark.usefixtures("process_group")
OPTIMIZATION = Optimization(learning_rate=0.1, warmup_steps=2, weight_decay=0.1, clip_norm=0.5)


class Points(NamedTuple):
    inputs: Tensor
    weights: Tensor

    @property
    def total_weight(self) -> float:
        return float(self.weights.sum())


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)

    def forward(self, batch: Points) -> dict[str, Tensor]:
        error = self.layer(batch.inputs)[:, 0] - batch.inputs.sum(1)
        return {"loss": (batch.weights * error.square()).sum()}


class Map(nn.Module):
    """To a turned copy of the input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 3)

    def forward(self, batch: Points) -> dict[str, Tensor]:
        error = self.layer(batch.inputs) - batch.inputs.roll(1, 1)
        return {"loss": (batch.weights * error.square().sum(1)).sum()}


def points(num: int, seed: int) -> Points:
    generator = torch.Generator().manual_seed(seed)
    return Points(torch.randn(num, 3, generator=generator), torch.rand(num, generator=generator))


def cut(batch: Points, size: int) -> list[Points]:
    return [Points(*pair) for pair in zip(batch.inputs.split(size), batch.weights.split(size), strict=True)]


def make(
    stage: int = 0,
    accumulation: int = 1,
    optimization: Optimization = OPTIMIZATION,
    module: nn.Module | None = None,
) -> DeepSpeedEngine:
    engine = Engine(zero_stage=stage, precision="fp32")
    micro_batch = 8 // accumulation
    return DeepSpeedEngine(module or Regression(), optimization, engine, 8, micro_batch, accumulation)


def weights(engine: DeepSpeedEngine) -> Tensor:
    with engine.gathered() as module:
        return torch.cat([parameter.detach().flatten().clone() for parameter in module.parameters()])


def plain(steps: int) -> tuple[Tensor, list[float]]:
    """The same training in bare torch."""
    module = Regression()
    groups = [
        {"params": [module.layer.weight], "weight_decay": 0.1},
        {"params": [module.layer.bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.1, betas=OPTIMIZATION.betas)
    schedule = get_cosine_schedule_with_warmup(optimizer, 2, 8)
    losses: list[float] = []
    for step in range(steps):
        batch = points(8, step)
        loss = module(batch)["loss"] / batch.total_weight
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return torch.cat([p.detach().flatten() for p in module.parameters()]), losses


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_every_zero_stage_and_micro_batch_trains_like_plain_torch(stage: int, accumulation: int):
    engine = make(stage, accumulation)
    losses = [
        float(engine.step(cut(points(8, step), 8 // accumulation))["loss"].detach()) for step in range(5)
    ]
    expected, expected_losses = plain(5)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    torch.testing.assert_close(weights(engine), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_loaded_state_goes_on_exactly(stage: int, tmp_path):
    whole = make(stage)
    for step in range(3):
        whole.step([points(8, step)])
    whole.save(tmp_path)
    resumed = make(stage)
    resumed.load(tmp_path)
    assert resumed.learning_rate == whole.learning_rate
    for step in range(3, 6):
        assert resumed.step([points(8, step)]) == whole.step([points(8, step)])
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)


@pytest.mark.slow
def test_muon_moves_a_matrix_alike_in_every_direction_and_goes_on_exactly(tmp_path):
    optimization = OPTIMIZATION.model_copy(update={"muon_learning_rate": 0.1, "weight_decay": 0.0})
    whole, resumed = (make(optimization=optimization, module=Map()) for _ in range(2))
    whole.step([points(8, 0)])  # at a rate of 0
    before = weights(whole)[:9].view(3, 3)
    whole.step([points(8, 1)])
    moved = torch.linalg.svdvals(weights(whole)[:9].view(3, 3) - before) / 0.05
    assert 0.5 < moved.min() < moved.max() < 1.5
    whole.save(tmp_path)
    resumed.load(tmp_path)
    for step in range(2, 5):
        assert resumed.step([points(8, step)]) == whole.step([points(8, step)])


def test_the_rate_warms_up_and_follows_a_cosine():
    engine = make()
    rates = []
    for step in range(8):
        rates.append(engine.learning_rate)
        engine.step([points(8, step)])
    assert rates[:3] == pytest.approx([0, 0.05, 0.1])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert engine.learning_rate == pytest.approx(0)


def test_evaluation_is_a_weighted_mean_and_trains_nothing():
    engine = make()
    before = weights(engine)
    batches = [points(8, 0), points(3, 1)]
    module = Regression()
    expected = sum(float(module(batch)["loss"].detach()) for batch in batches)
    mean = engine.reduce(engine.evaluate([*batches, points(8, 2)], len(batches)))["loss"]
    assert mean == pytest.approx(expected / sum(batch.total_weight for batch in batches))
    torch.testing.assert_close(weights(engine), before, rtol=0, atol=0)
