"""How similar an image is to the true one: L1 on pixels, and cosines of CLIP's and DINO's embeddings.

All of them reward a copy of the source, so a copy is always measured too. The models are folders that
transformers opens: safetensors only, without code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from kinescribe.models.folder_files import require_own_files
from kinescribe.models.opening import opening, require_image_sizes
from kinescribe.schemas.errors import ModelError

L1, CLIP_I, CLIP_T, DINO = "l1", "clip_i", "clip_t", "dino"
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


class Similarity:
    """L1, and CLIP-I, CLIP-T and DINO if there are folders of such models. Raises ModelError."""

    def __init__(self, clip: Path | None, dino: Path | None) -> None:
        self.clip = _Clip(clip) if clip else None
        self.dino = _Encoder(dino) if dino else None

    def __call__(
        self, images: Sequence[Image.Image], targets: Sequence[Image.Image], actions: Sequence[str]
    ) -> list[dict[str, float]]:
        """The metrics of each image: L1 from 0 to 1, cosines from −1 to 1. Targets have the same size.

        CLIP-I and DINO compare with the target, CLIP-T with the words of the action.
        """
        pairs = zip(images, targets, strict=True)
        columns = {L1: [_l1(np.asarray(image), np.asarray(target)) for image, target in pairs]}
        if self.clip:
            images_BD = self.clip.embed(images)
            columns[CLIP_I] = _cosines(images_BD, self.clip.embed(targets))
            columns[CLIP_T] = _cosines(images_BD, self.clip.embed_words(actions))
        if self.dino:
            columns[DINO] = _cosines(self.dino.embed(images), self.dino.embed(targets))
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class _Encoder:
    """A vision transformer. The embedding of an image is its class token's."""

    def __init__(self, folder: Path) -> None:
        require_own_files(folder)
        with opening(folder):
            network: Any = AutoModel.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, **_LOCAL
            )
            self.processor: Any = AutoImageProcessor.from_pretrained(folder, **_LOCAL)
            require_image_sizes(folder, self.processor)
        self.network = network.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Embeddings (B, D)."""
        return self._embed(self._given(self.processor(images=list(images), return_tensors="pt")))

    @torch.inference_mode()
    def _embed(self, given: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.network(**given).last_hidden_state[:, 0]

    def _given(self, batch: Any) -> dict[str, torch.Tensor]:
        return dict(batch.to(self.network.device))


class _Clip(_Encoder):
    """CLIP embeds images and words in the same space."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if not hasattr(self.network, "get_text_features"):
            raise ModelError(f"{folder} does not embed words; name the folder of a CLIP model")
        with opening(folder):
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **_LOCAL)
        self.max_tokens: int = self.network.config.text_config.max_position_embeddings

    @torch.inference_mode()
    def _embed(self, given: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.network.get_image_features(**given).pooler_output

    @torch.inference_mode()
    def embed_words(self, actions: Sequence[str]) -> torch.Tensor:
        """Embeddings (B, D) of sentences, truncated to the model's limit."""
        options = {"padding": True, "truncation": True, "max_length": self.max_tokens}
        given = self._given(self.tokenizer(list(actions), return_tensors="pt", **options))
        return self.network.get_text_features(**given).pooler_output


def _l1(image: np.ndarray, target: np.ndarray) -> float:
    return float(np.abs(image.astype(np.float32) - target).mean()) / 255


def _cosines(a_BD: torch.Tensor, b_BD: torch.Tensor) -> list[float]:
    return torch.nn.functional.cosine_similarity(a_BD.float(), b_BD.float()).tolist()
