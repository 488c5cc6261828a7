"""The processor of a chat model, for text and images: its parts for video and audio are left out.

Images are prepared by Pillow, also where torchvision is installed, since their pixels differ. Some image
processors of transformers exist for torchvision only; `image_backend` says so. Knows no network.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoImageProcessor, Idefics3Processor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils.import_utils import is_torchvision_available

from kinescribe.models.opening import opening, require_image_sizes
from kinescribe.schemas.errors import ModelError

PROCESSORS = {"smolvlm": Idefics3Processor}
"""SmolVLM's own processor needs a package to spell numbers in videos; Idefics3's treats images alike."""
BACKEND = "pil"
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def image_backend(folder: Path) -> str:
    """What prepares the images of the chat model in `folder`: `pil`, or torchvision with its version.

    Raises ModelError if it isn't installed, or if the folder has no image processor.
    """
    with opening(folder), _torchvision_named(folder):
        return _backend(_image_processor(folder))


def images_only(config: Any, folder: Path) -> Any:
    """The processor of the model in `folder` with this configuration; raises whatever `opening` catches.

    Raises ModelError if transformers has none for it, if a package is missing, or if it makes images of
    absurd sizes.
    """
    kind: Any = PROCESSORS.get(config.model_type) or PROCESSOR_MAPPING.get(type(config), None)
    if kind is None:
        raise ModelError(
            f"{folder}: transformers has no processor for {config.model_type}; name another model"
        )
    with _torchvision_named(folder):
        settings, _ = kind.get_processor_dict(folder, **LOCAL)
        images, tokenizer = _image_processor(folder), _tokenizer(kind, folder)
        # Some constructors insist on parts for video and audio, and read what image processors have too.
        parts = [tokenizer if name == "tokenizer" else images for name in kind.get_attributes()]
        lenient: Any = type(kind.__name__, (kind,), {"check_argument_for_proper_class": _accepted})
        processor = lenient.from_args_and_dict(parts, settings)
    require_image_sizes(folder, images)
    return processor


def _accepted(*_: object) -> None:
    """Takes an image processor in the place of one for video or audio."""


def _tokenizer(kind: Any, folder: Path) -> Any:
    """The tokenizer, opened as the processor's class does it."""
    alone: Any = type(kind.__name__, (kind,), {"get_attributes": classmethod(lambda _: ["tokenizer"])})
    (tokenizer,) = alone._get_arguments_from_pretrained(folder, **LOCAL)
    return tokenizer


def _image_processor(folder: Path) -> Any:
    auto: Any = AutoImageProcessor
    return auto.from_pretrained(folder, backend=BACKEND, **LOCAL)


def _backend(images: Any) -> str:
    if is_torchvision_available():
        from transformers.image_processing_backends import TorchvisionBackend

        if isinstance(images, TorchvisionBackend):
            return f"torchvision {version('torchvision')}"
    return BACKEND


@contextmanager
def _torchvision_named(folder: Path) -> Generator[None]:
    """Say in one line that torchvision is missing."""
    try:
        yield
    except (ImportError, ValueError) as error:
        if is_torchvision_available() or "torchvision" not in str(error).lower():
            raise
        config: Any = AutoConfig.from_pretrained(folder, **LOCAL)
        raise ModelError(
            f"{folder}: transformers prepares images for {config.model_type} with torchvision, which isn't "
            "installed; install torchvision, or serve the model and name MODEL@URL"
        ) from error
