import pytest
import torch
import torch.nn.functional as F

from kinescribe.models.initialization import new_codec
from kinescribe.schemas.training import Codebook, CodecTraining
from kinescribe.training.codec_objective import CodecObjective, EmaCodebook, gradient_error
from kinescribe.training.images import PixelBatch

pytestmark = pytest.mark.usefixtures("process_group")


def latents(*points: tuple[float, float]) -> torch.Tensor:
    """One image of 1×N latents with two channels."""
    return torch.tensor(points).T[None, :, None, :].clone().requires_grad_()


def book(*codes: tuple[float, float], learned: bool = True, **changes: float) -> EmaCodebook:
    return EmaCodebook(torch.tensor(codes), Codebook.model_validate(changes), learned)


def test_latents_become_their_nearest_code():
    quantised, commitment = book((0.0, 0.0), (4.0, 4.0)).eval()(latents((1.0, 0.0), (4.0, 3.0)))
    assert quantised.detach()[0, :, 0].T.tolist() == [[0.0, 0.0], [4.0, 4.0]]
    assert commitment.tolist() == [0.5]


def test_gradients_pass_through_unchanged():
    given = latents((1.0, 0.0), (4.0, 3.0))
    book((0.0, 0.0), (4.0, 4.0)).eval()(given)[0].sum().backward()
    assert given.grad is not None
    torch.testing.assert_close(given.grad, torch.ones_like(given))


def test_codes_follow_the_mean_of_their_latents():
    codebook = book((0.0, 0.0), (4.0, 4.0), decay=0.5)
    codebook(latents((1.0, 0.0), (2.0, 0.0), (4.0, 5.0)))
    torch.testing.assert_close(codebook.codes_KC, torch.tensor([[1.0, 0.0], [4.0, 4.5]]))


def test_evaluation_moves_no_code():
    codebook = book((0.0, 0.0), (4.0, 4.0)).eval()
    before = codebook.codes_KC.clone()
    codebook(latents((1.0, 0.0)))
    torch.testing.assert_close(codebook.codes_KC, before)


def test_an_unused_code_restarts_from_the_batch():
    codebook = book((0.0, 0.0), (90.0, 90.0), decay=0.5, restart_below=0.3)
    for _ in range(3):
        codebook(latents((1.0, 0.0), (1.0, 0.0)))
    assert codebook.codes_KC[1].tolist() == [1.0, 0.0]


def test_a_new_codebook_is_drawn_from_the_first_batch():
    codebook = book((90.0, 90.0), (80.0, 80.0), (70.0, 70.0), learned=False)
    codebook(latents((1.0, 2.0), (3.0, 4.0)))
    assert {tuple(code) for code in codebook.codes_KC.tolist()} <= {(1.0, 2.0), (3.0, 4.0)}


def test_perplexity_counts_codes_in_use():
    codebook = book((0.0, 0.0), (4.0, 4.0), (9.0, 9.0), (12.0, 12.0))
    assert codebook.perplexity.item() == pytest.approx(4)
    codebook.uses_K.copy_(torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert codebook.perplexity.item() == pytest.approx(2)


def test_gradient_error_ignores_a_constant_and_sees_an_edge():
    flat = torch.full((1, 3, 4, 4), 0.5)
    edge = flat.clone()
    edge[..., 2:] = 1.5
    assert gradient_error(flat).item() == 0
    assert gradient_error(edge).item() == pytest.approx(1 / 3)


def test_training_brings_pictures_back_and_the_export_knows_the_codes():
    torch.manual_seed(0)
    codec = new_codec(8, 2, (16, 16), 8, 4)
    config = CodecTraining(data=("x",), out="x", steps=1, batch=1)
    objective = CodecObjective(codec.network, config).train()
    batch = PixelBatch(F.interpolate(torch.rand(4, 3, 2, 2), 8) * 2 - 1)
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], 1e-2)
    for _ in range(130):
        sums = objective(batch)
        optimizer.zero_grad()
        sums["loss"].backward()
        optimizer.step()
    assert sums["psnr"].item() / 4 > 17
    with torch.no_grad():
        codec.network.quantize.embedding.weight.zero_()
        objective.export()
    torch.testing.assert_close(codec.network.quantize.embedding.weight.detach(), objective.quantise.codes_KC)
