"""The memory that a step's forward keeps for its backward, measured without computing anything.

The module's weights become tensors with a shape and no values, and autograd reports what it would save. A
batch keeps its values, since networks branch on tokens and positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks


def activation_bytes(module: nn.Module, batch: Any, bf16: bool) -> int | None:
    """`saved_bytes` without computing, or None if shapes depend on values. Afterwards the module has no
    values."""
    _forget_values(module)
    try:
        return saved_bytes(module, batch, bf16)
    except DynamicOutputShapeException:
        return None


def saved_bytes(module: nn.Module, batch: Any, bf16: bool) -> int:
    """Bytes that the module's forward of `batch` saves in addition to its weights, including bf16 casts of
    them.

    Tensors that several operations save count once.
    """
    saved = dict[int, torch.UntypedStorage]()  # kept alive, so that no other storage gets the same id

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[id(storage)] = storage
        return tensor

    def unpack(tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    with saved_tensors_hooks(pack, unpack), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        kept = module(batch)
    own = {id(tensor.untyped_storage()) for tensor in (*module.parameters(), *module.buffers())}
    del kept
    return sum(storage.nbytes() for key, storage in saved.items() if key not in own)


def _forget_values(module: nn.Module) -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    for part in module.modules():
        named = (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
        for name, tensor in named:
            with mode:
                empty = torch.empty_like(tensor, device="cpu", requires_grad=False)
            if isinstance(tensor, nn.Parameter):
                setattr(part, name, nn.Parameter(empty, requires_grad=tensor.requires_grad))
            else:
                setattr(part, name, empty)
