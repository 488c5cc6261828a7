"""A process group of one process, and fixtures for small trainings."""

import pytest
import torch
import torch.distributed as dist

from kinescribe.schemas.training import CodecTraining, DynamicsTraining, WorldTraining
from tests.tiny_triplets import LABELLED, write_triplets
from tests.tiny_vlm import tiny_vlm


@pytest.fixture(scope="session")
def process_group():
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LOCAL_RANK", "0")
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        yield
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_vlm().save(folder)
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triplets")
    write_triplets(str(folder), 24, tiny_vlm().codec.id)
    return str(folder)


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """Like `dataset`, with actions that a model wrote."""
    folder = tmp_path_factory.mktemp("labelled")
    write_triplets(str(folder), 10, tiny_vlm().codec.id, **LABELLED)
    return str(folder)


SMALL = {
    "steps": 6,
    "batch": 4,
    "log_every": 1,
    "evaluate_every": 3,
    "checkpoint_every": 2,
    "optimization": {"learning_rate": 0.01, "warmup_steps": 1},
}


@pytest.fixture
def dynamics(dataset, model_folder, tmp_path):
    """Makes a small configuration; keys are DynamicsTraining's, `engine` a dict."""

    def make(**changes) -> DynamicsTraining:
        given = {"data": [dataset], "out": str(tmp_path / "out"), "init": str(model_folder)}
        return DynamicsTraining.model_validate(SMALL | given | changes)

    return make


@pytest.fixture
def world(dataset, model_folder, tmp_path):
    """Like `dynamics`, for WorldTraining."""

    def make(**changes) -> WorldTraining:
        given = {"data": [dataset], "out": str(tmp_path / "out"), "init": str(model_folder)}
        return WorldTraining.model_validate(SMALL | given | changes)

    return make


@pytest.fixture
def codec(dataset, tmp_path):
    def make(**changes) -> CodecTraining:
        model = {"resolution": 16, "patch": 2, "channels": [8, 8], "num_codes": 12, "dims": 4}
        given = {"data": [dataset], "out": str(tmp_path / "out"), "model": model}
        return CodecTraining.model_validate(SMALL | given | changes)

    return make
