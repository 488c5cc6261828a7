import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kinescribe.training.objective import TokenBatch, TokenObjective, image_weights, weighted_nll
from tests.tiny_vlm import tiny_vlm


def random_batch(vocabulary: int, seed: int = 0) -> TokenBatch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (3, 20), generator=generator)
    weights = torch.rand(3, 20, generator=generator) * 2
    weights[:, :9] = 0
    weights[1, 14:] = 0
    return TokenBatch(ids, torch.arange(20).expand(3, -1), weights)


def by_hand(network: torch.nn.Module, batch: TokenBatch) -> float:
    """−Σ w·log p / Σ w, one token at a time in float64."""
    logits = network.double()(input_ids=batch.ids_BT).logits
    total = weight = 0.0
    for row, ids in enumerate(batch.ids_BT.tolist()):
        for place in range(1, len(ids)):
            w = float(batch.weights_BT[row, place])
            scores = logits[row, place - 1].tolist()
            log_sum = math.log(sum(math.exp(score) for score in scores))
            total += w * (log_sum - scores[ids[place]])
            weight += w
    return total / weight


def test_the_loss_is_the_equation_of_the_paper():
    network = tiny_vlm().network
    batch = random_batch(28)
    loss = float(TokenObjective(network)(batch)["loss"].detach()) / batch.total_weight
    assert loss == pytest.approx(by_hand(network, batch), rel=1e-6)


def test_a_weight_on_the_first_token_which_nothing_predicts_does_not_count():
    batch = random_batch(28)
    batch.weights_BT[:, 0] = 3
    network = tiny_vlm().network
    loss = float(TokenObjective(network)(batch)["loss"].detach()) / batch.total_weight
    assert loss == pytest.approx(by_hand(network, batch), rel=1e-6)


def test_weights_of_one_give_plain_cross_entropy():
    logits = torch.randn(7, 11)
    targets = torch.arange(7)
    loss = weighted_nll(logits, targets, torch.ones(7)) / 7
    assert loss.item() == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-6)


def test_the_loss_of_logits_in_bf16_is_computed_in_float32():
    logits, targets = torch.randn(7, 11).bfloat16(), torch.arange(7)
    loss = weighted_nll(logits, targets, torch.ones(7))
    assert loss.dtype == torch.float32
    assert loss == weighted_nll(logits.float(), targets, torch.ones(7))


def test_padding_on_the_right_changes_nothing():
    objective = TokenObjective(tiny_vlm().network)
    batch = random_batch(28)
    padded = TokenBatch(*(F.pad(tensor, (0, 5)) for tensor in batch))
    torch.testing.assert_close(objective(padded), objective(batch))


def test_accuracy_counts_the_weight_of_right_tokens():
    network = tiny_vlm().network
    batch = random_batch(28)
    likeliest = network(input_ids=batch.ids_BT).logits.argmax(-1)[:, :-1]
    right = (batch.weights_BT[:, 1:] * (likeliest == batch.ids_BT[:, 1:])).sum()
    torch.testing.assert_close(TokenObjective(network)(batch)["accuracy"], right)


def test_image_weights_have_mean_one_and_a_floor():
    importance = np.array([0, 1, 2, 5], np.float16)
    weights = image_weights(importance, floor=0.2)
    assert weights.mean() == pytest.approx(1)
    assert weights.min() == pytest.approx(0.2)
    np.testing.assert_allclose(image_weights(importance, floor=0.0), importance / 2)


def test_a_copied_image_weighs_the_same_everywhere():
    np.testing.assert_array_equal(image_weights(np.zeros(4, np.float16), floor=0.0), np.ones(4))
