"""The linear projections of a network's language model, to which low-rank adapters are added."""

from __future__ import annotations

import re
from typing import Any

from torch.nn import Linear

from kinescribe.schemas.errors import ConfigError

_IN_A_LAYER = re.compile(r"(model\.)?layers\.\d+\..+(?<!\.gate)(?<!\.router)")
"""Modules of a decoder's layers, without those that choose experts."""


def language_projections(network: Any) -> list[str]:
    """The names of the linear projections in the layers of the network's language model.

    Nothing of a vision encoder, of what resamples its output, or of a head: `all-linear` would include them.
    Raises ConfigError if there are none.
    """
    decoder = network.get_decoder()
    start = next(name for name, module in network.named_modules() if module is decoder)
    names = [
        f"{start}.{name}".removeprefix(".")
        for name, module in decoder.named_modules()
        if isinstance(module, Linear) and _IN_A_LAYER.fullmatch(name)
    ]
    if not names:
        kind = network.config.model_type
        raise ConfigError(f"lora: the layers of {kind} have no linear projections; leave lora out")
    return names
