"""The card of a model, its README.md: how likely its words are to it on data like its training data.

`label` compares the clips of a run with that. Imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.likelihoods import Histogram

CARD = "README.md"
KEY = "kinescribe_likelihoods"
MAX_BYTES = 1 << 20
_HISTOGRAM = TypeAdapter(Histogram)
TEXT = """---
{header}---

# {title}

Kinescribe trained this model to name the action between two frames. `{key}` above counts {pairs:,} of
its held-out pairs by the log-probability per token that it gives its own words. `kinescribe label` compares
other clips with that, and says if they look unlike what this model knows.
"""


def usual_likelihoods(folder: Path) -> Histogram | None:
    """What the model's card says; None if it has no card, or says nothing.

    Raises ModelError if it says something else than a histogram.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode(errors="replace")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}; restore or remove it") from error
    _, separator, rest = text.partition("---\n")
    if not separator or KEY not in rest:
        return None
    try:
        header: Any = yaml.safe_load(rest.partition("\n---")[0])
        return _HISTOGRAM.validate_python(header[KEY]) if isinstance(header, dict) and KEY in header else None
    except (yaml.YAMLError, ValidationError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: {KEY} in its front matter is no histogram; restore or remove it"
        ) from error


def write_card(folder: Path, likelihoods: Histogram) -> None:
    """Write the card of a model that was trained here."""
    header = yaml.safe_dump({"tags": ["kinescribe"], KEY: [*likelihoods]}, default_flow_style=None, width=110)
    text = TEXT.format(header=header, title=folder.name, key=KEY, pairs=sum(likelihoods))
    (folder / CARD).write_text(text)
