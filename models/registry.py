"""Models by name: `embedded`, `embedded-world`, or a local folder."""

from __future__ import annotations

from models.identity import model_folder
from models.token_vlm import TokenVLM


def load_model(name: str) -> TokenVLM:
    """The model called `name`: one that comes with the code, or the path of a folder. Raises ModelError."""
    return TokenVLM.load(model_folder(name))
