"""Opens a model's folder with the libraries that read it: their errors become ours, and sizes have a limit.

A configuration may ask for a network of any size. It is built before its weights are read, and the building
stops as soon as it is larger than the weights in the folder. Knows no family.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch.nn.modules import module as registration

from kinescribe.models.checkpoint_files import quiet_progress
from kinescribe.models.folder_files import files_of
from kinescribe.schemas.errors import ModelError, UserError

DAMAGE = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    AssertionError,
    MemoryError,
    SafetensorError,
    StrictDataclassError,
)
"""What the libraries raise for files with unexpected content; in the block, only they work."""
MAX_MESSAGE = 300
SPARE_ELEMENTS = 1 << 28
"""Elements that a network may have beyond its weights, a gigabyte: tables, or weights in another format."""
TIED = 2
"""A network is built with weights of its own for its output, although the file may have them once."""
MAX_SIDE, MAX_PIXELS = 1 << 12, 1 << 24
"""Of an image that a network takes."""
SPARE_MODULES, MODULES_PER_TENSOR = 1000, 20


class _RustErrors:
    """Turns the errors of `tokenizers` into ValueError: bare Exceptions, and panics, which are none."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and (kind is Exception or kind.__name__ == "PanicException"):
            raise ValueError(str(error)) from error


@contextmanager
def opening(folder: Path) -> Generator[None]:
    """Turn the libraries' errors about unreadable, mismatched or absurd files in `folder` into ModelError."""
    try:
        with quiet_progress("transformers"), _limited(folder), _RustErrors():
            yield
    except UserError:
        raise
    except ImportError as error:  # the requested attention implementation, or what prepares images
        raise ModelError(
            f"{folder} cannot be opened: {_one_line(error)} Install what is missing, or leave attention out"
        ) from error
    except DAMAGE as error:
        raise ModelError(f"{folder} cannot be opened: {_one_line(error)}; restore it") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_MESSAGE] or repr(error)


def opened(auto_class: Any, folder: Path, **options: Any) -> Any:
    """The network in the folder, opened by a class of transformers from safetensors, without running code.

    Raises ModelError if weights are missing, which transformers would draw at random.
    """
    options |= {"use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    network, found = auto_class.from_pretrained(folder, output_loading_info=True, **options)
    _require_none_missing(folder, sorted(found["missing_keys"]))
    return network


def require_weights(folder: Path, network: torch.nn.Module) -> None:
    """Raise ModelError if the weights in the folder left parts of the network empty."""
    _require_none_missing(folder, [name for name, weight in network.named_parameters() if weight.is_meta])


def _require_none_missing(folder: Path, names: Sequence[str]) -> None:
    if names:
        raise ModelError(f"{folder} lacks {len(names)} weights, such as {names[0]}; restore it")


def require_tokens(folder: Path, tokenizer: Any, network: Any) -> None:
    """Raise ModelError if the tokenizer has a token that the network doesn't know, or no last one."""
    num_known = network.get_input_embeddings().num_embeddings
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= num_known or tokenizer.eos_token_id is None:
        raise ModelError(
            f"{folder}: its tokenizer has tokens up to {largest} and ends with {tokenizer.eos_token!r}, but "
            f"its network has {num_known} tokens; restore tokenizer.json and tokenizer_config.json"
        )


def require_image_sizes(folder: Path, processor: Any) -> None:
    """Raise ModelError if the image processor makes images of absurd sizes."""
    counts_pixels = hasattr(processor, "merge_size")  # as in Qwen-VL, whose edges are numbers of pixels
    for field in ("size", "crop_size", "max_image_size", "pad_size"):
        for key, value in dict(getattr(processor, field, None) or {}).items():
            limit = MAX_PIXELS if counts_pixels and key.endswith("_edge") else MAX_SIDE
            if value is not None and not 0 < value <= limit:
                raise ModelError(
                    f"{folder}: the image processor's {field}.{key} must be from 1 to {limit}, got {value}; "
                    "restore preprocessor_config.json"
                )


@contextmanager
def _limited(folder: Path) -> Generator[None]:
    """Networks that this thread builds in the block are not larger than the weights in the folder."""
    num_tensors, num_elements = _weights_of(folder)
    modules_left = SPARE_MODULES + MODULES_PER_TENSOR * num_tensors
    elements_left = SPARE_ELEMENTS + TIED * num_elements
    thread = threading.get_ident()

    def count_module(*_: object) -> None:
        nonlocal modules_left
        if threading.get_ident() == thread:
            modules_left -= 1
            _require(modules_left, folder)

    def count_elements(_module: object, _name: str, tensor: Any) -> None:
        nonlocal elements_left
        if threading.get_ident() == thread and isinstance(tensor, torch.Tensor):
            elements_left -= tensor.numel()
            _require(elements_left, folder)

    hooks = [
        registration.register_module_module_registration_hook(count_module),
        registration.register_module_parameter_registration_hook(count_elements),
        registration.register_module_buffer_registration_hook(count_elements),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _require(left: int, folder: Path) -> None:
    if left < 0:
        raise ModelError(
            f"{folder} cannot be opened: its configuration describes a network that is much larger than its "
            "weights; restore config.json"
        )


def _weights_of(folder: Path) -> tuple[int, int]:
    """The number of tensors in the folder's weight files, and of their elements. Reads only the headers."""
    num_tensors, num_elements = 0, 0
    for path in files_of(folder):
        if path.suffix == ".safetensors":
            with safe_open(path, "numpy") as file:
                names = list(file.keys())
                shapes = [file.get_slice(name).get_shape() for name in names]
            num_tensors += len(names)
            num_elements += sum(torch.Size(shape).numel() for shape in shapes)
    return num_tensors, num_elements
