"""Models by name: `embedded`, or a local folder."""

from __future__ import annotations

from pathlib import Path

from models.token_vlm import TokenVLM
from schemas.errors import ModelError

EMBEDDED = Path(__file__).parent / "embedded"


def load_model(name: str) -> TokenVLM:
    """The model called `name`: "embedded", or the path of a folder. Raises ModelError."""
    folder = model_folder(name)
    return TokenVLM.load(folder)


def model_folder(name: str) -> Path:
    """Where the model called `name` lies. Raises ModelError where there is no such folder."""
    folder = EMBEDDED if name == "embedded" else Path(name)
    if not folder.is_dir():
        raise ModelError(f"no model {name!r}: give 'embedded' or the path of a model's folder")
    return folder
