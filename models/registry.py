"""Models by name: `embedded`, `embedded-world`, or a local folder, placed as the hardware asks."""

from __future__ import annotations

import torch

from models.families import OWN, Family, family_of
from models.identity import model_config, model_folder
from models.token_vlm import TokenVLM
from schemas.config import Precision


def load_model(name: str, precision: Precision = "auto") -> TokenVLM:
    """The model called `name`: one that comes with the code, or the path of a folder. Raises ModelError.

    It is on the GPU where there is one; transformers chooses the attention.
    """
    folder, gpu = model_folder(name), torch.cuda.is_available()
    dtype = inference_dtype(
        precision, family_of(model_config(folder)), gpu and torch.cuda.is_bf16_supported()
    )
    return TokenVLM.load(folder, dtype, torch.device("cuda" if gpu else "cpu"))


def inference_dtype(precision: Precision, family: Family, gpu_multiplies_bf16: bool) -> torch.dtype:
    """Of the weights. `auto` is bf16 for published models on a GPU that multiplies it.

    Models of our own are small, and processors are no faster in bf16.
    """
    if precision == "auto":
        precision = "bf16" if gpu_multiplies_bf16 and family is not OWN else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
