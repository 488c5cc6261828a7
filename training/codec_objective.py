"""The objective of the codec: faithful reconstruction, with every code of the codebook in use.

The codebook is not a parameter. It follows the encoder by exponential moving averages (van den Oord et al.
2017, appendix A.1), and unused codes restart from the batch. Knows pixels and diffusers' `VQModel`; nothing
of datasets or optimizers. Shapes: B images of 3 channels, H×W pixels, N tokens of a batch, C channels of a
code, K codes.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from kinescribe.models.codec import VQModel, decode_latents, encode_latents
from kinescribe.schemas.training import Codebook, CodecTraining
from kinescribe.training.images import PixelBatch


class EmaCodebook(nn.Module):
    """Nearest-code quantisation with straight-through gradients and a codebook of moving averages."""

    codes_KC: Tensor
    sums_KC: Tensor
    uses_K: Tensor

    def __init__(self, codes_KC: Tensor, codebook: Codebook, learned: bool) -> None:
        super().__init__()
        self.codebook = codebook
        codes_KC = codes_KC.detach().clone().float()
        self.register_buffer("codes_KC", codes_KC)
        # Unused codes are drawn from the first batch: random ones would all be far from it.
        self.register_buffer("sums_KC", codes_KC * learned)
        self.register_buffer("uses_K", torch.full((len(codes_KC),), float(learned)))

    def forward(self, latents_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Quantised latents, through which gradients pass unchanged, and each image's commitment loss."""
        flat_NC = latents_BCHW.permute(0, 2, 3, 1).reshape(-1, latents_BCHW.shape[1])
        with torch.no_grad():
            codes_N = torch.cdist(flat_NC[None], self.codes_KC[None])[0].argmin(-1)
            quantised_NC = self.codes_KC[codes_N]
            if self.training:
                self._follow(flat_NC, codes_N)
        shape = (*latents_BCHW.shape[:1], *latents_BCHW.shape[2:], latents_BCHW.shape[1])
        quantised_BCHW = quantised_NC.view(shape).permute(0, 3, 1, 2)
        commitment_B = (latents_BCHW - quantised_BCHW).square().flatten(1).mean(1)
        return latents_BCHW + (quantised_BCHW - latents_BCHW).detach(), commitment_B

    @property
    def perplexity(self) -> Tensor:
        """exp of the entropy of the use of codes: K if all are used equally."""
        share_K = self.uses_K / self.uses_K.sum()
        return torch.exp(-(share_K * share_K.clamp_min(1e-10).log()).sum())

    def _follow(self, flat_NC: Tensor, codes_N: Tensor) -> None:
        uses_K = torch.zeros_like(self.uses_K).index_add_(0, codes_N, torch.ones_like(flat_NC[:, 0]))
        sums_KC = torch.zeros_like(self.sums_KC).index_add_(0, codes_N, flat_NC)
        for total in (uses_K, sums_KC):
            dist.all_reduce(total)
        self.uses_K.lerp_(uses_K, 1 - self.codebook.decay)
        self.sums_KC.lerp_(sums_KC, 1 - self.codebook.decay)
        self._restart(flat_NC)
        self.codes_KC.copy_(self.sums_KC / self.uses_K[:, None])

    def _restart(self, flat_NC: Tensor) -> None:
        unused_K = self.uses_K < self.codebook.restart_below
        fresh_KC = flat_NC[torch.randint(len(flat_NC), (len(unused_K),), device=flat_NC.device)]
        dist.broadcast(fresh_KC, src=0)
        self.sums_KC[unused_K] = fresh_KC[unused_K]
        self.uses_K[unused_K] = 1.0


class CodecObjective(nn.Module):
    """The module that DeepSpeed wraps: takes pixels, returns sums over the images."""

    def __init__(self, network: VQModel, training: CodecTraining) -> None:
        super().__init__()
        self.network = network
        self.config = training
        self.network.quantize.embedding.weight.requires_grad_(False)
        self.quantise = EmaCodebook(
            self.network.quantize.embedding.weight, training.codebook, bool(training.init)
        )

    def forward(self, batch: PixelBatch) -> dict[str, Tensor]:
        """`loss`, `psnr` (dB) and `perplexity`, each summed over the images."""
        pixels_B3HW = batch.pixels_B3HW
        latents_BCHW = encode_latents(self.network, pixels_B3HW).float()
        quantised_BCHW, commitment_B = self.quantise(latents_BCHW)
        error_B3HW = decode_latents(self.network, quantised_BCHW).float() - pixels_B3HW
        squared_B = error_B3HW.square().flatten(1).mean(1)
        loss_B = (
            error_B3HW.abs().flatten(1).mean(1)
            + self.config.squared_error * squared_B
            + self.config.gradient_error * gradient_error(error_B3HW)
            + self.config.codebook.commitment * commitment_B
        )
        psnr_B = 20 * math.log10(2) - 10 * squared_B.detach().clamp_min(1e-10).log10()
        perplexity = self.quantise.perplexity * len(loss_B)
        return {"loss": loss_B.sum(), "psnr": psnr_B.sum(), "perplexity": perplexity}

    def export(self) -> VQModel:
        """The network with the learned codebook."""
        self.network.quantize.embedding.weight.copy_(self.quantise.codes_KC)
        return self.network


def gradient_error(error_B3HW: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring errors, which keeps edges sharp. Shape (B,)."""
    down = F.l1_loss(error_B3HW[:, :, 1:], error_B3HW[:, :, :-1], reduction="none")
    right = F.l1_loss(error_B3HW[..., 1:], error_B3HW[..., :-1], reduction="none")
    return down.flatten(1).mean(1) + right.flatten(1).mean(1)
