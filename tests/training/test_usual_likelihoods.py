from pathlib import Path

import numpy as np
import pytest

from kinescribe.models.model_card import usual_likelihoods
from kinescribe.models.tokens import CodeTriplet
from kinescribe.schemas.training import DynamicsTraining
from kinescribe.training.usual_likelihoods import write_usual_likelihoods
from tests.tiny_vlm import tiny_vlm


class HeldOut:
    def __len__(self) -> int:
        return 7

    def triplet(self, sample: int) -> CodeTriplet:
        codes = np.random.default_rng(sample).integers(0, 8, (2, 64), np.uint16)
        length = tiny_vlm().layout.codes_per_image
        return CodeTriplet(codes[0][:length], codes[1][:length], "pan left")


@pytest.mark.parametrize(("held_out_samples", "counted"), [(1024, 7), (5, 5)])
def test_a_trained_models_card_counts_its_held_out_pairs(tmp_path: Path, held_out_samples: int, counted: int):
    model = tiny_vlm()
    model.network.train()
    config = DynamicsTraining(
        data=("d",),
        out="o",
        init="embedded",
        steps=1,
        batch=4,
        micro_batch=2,
        held_out_samples=held_out_samples,
    )
    write_usual_likelihoods(tmp_path, model, HeldOut(), config)
    assert sum(usual_likelihoods(tmp_path) or ()) == counted
    assert not model.network.training


def test_a_network_in_pieces_is_not_asked(tmp_path: Path):
    config = DynamicsTraining(data=("d",), out="o", init="embedded", steps=1, engine={"zero_stage": 3})
    write_usual_likelihoods(tmp_path, tiny_vlm(), HeldOut(), config)
    assert usual_likelihoods(tmp_path) is None
