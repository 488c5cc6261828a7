import pytest

from kinescribe.schemas.config import load_config
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.training import CodecTraining, DynamicsTraining, TrainConfig, WorldTraining

GIVEN = ["data=[triplets]", "out=run", "steps=100"]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (CodecTraining, ["batch=10", "micro_batch=4"], "batch must be a multiple of"),
        (CodecTraining, ["log_every=20", "checkpoint_every=50"], "checkpoint_every must be a multiple of"),
        (CodecTraining, ["epochs=2"], "give one of steps and epochs.* got steps=100 and epochs=2"),
        (DynamicsTraining, [], "give one of init"),
        (
            WorldTraining,
            ["init=embedded", "mix.supervised=0.5", "mix.labelled=0.6"],
            r"must sum to 1, got 0.5 \+ 0.6",
        ),
        (WorldTraining, ["init=embedded", "select=''"], "select: must not be empty, got ''"),
        (DynamicsTraining, ["init=embedded", "model.codec=codec"], "give one of init"),
        (
            DynamicsTraining,
            ["init=embedded", "optimization.muon_learning_rate=0.01", "engine.zero_stage=1"],
            "muon_learning_rate needs engine.zero_stage 0, got 1",
        ),
        (
            DynamicsTraining,
            ["init=embedded", "engine.workers=2", "engine.min_workers=1", "engine.zero_stage=2"],
            "min_workers needs engine.zero_stage 0 .* got 1 with zero_stage 2",
        ),
        (
            DynamicsTraining,
            ["init=embedded", "engine.min_workers=2"],
            "got 2 with zero_stage 0 and workers 1",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(kind: type[TrainConfig], options: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        load_config(kind, None, [*GIVEN, *options])


def test_epochs_take_as_many_steps_as_see_every_sample_so_often():
    config = CodecTraining(data=("triplets",), out="run", epochs=3, batch=64)
    assert config.num_steps(num_samples=100) == 5
