"""The Arrow schema of a labelled dataset: one row per triplet.

`source` and `target` are Hugging Face `Image` features. datasets and the Hub read that from the
`huggingface` key of the schema's metadata; a bare struct{bytes, path} would stay a struct. It believes
the metadata of nullable fields only, so images are nullable here although none is ever null.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
IMAGE_FORMATS = ("JPEG", "PNG")
"""What images are stored as. Left to guess, Pillow would have another program open some files."""

FIELDS: tuple[pa.Field, ...] = (
    pa.field("triplet_id", pa.string(), nullable=False),
    pa.field("clip_id", pa.string(), nullable=False),
    pa.field("video", pa.string(), nullable=False),
    pa.field("action_class", pa.string()),
    pa.field("source", IMAGE),
    pa.field("target", IMAGE),
    pa.field("source_time_s", pa.float64()),
    pa.field("target_time_s", pa.float64()),
    pa.field("action", pa.string(), nullable=False),
    pa.field("action_logprob", pa.float32()),
    pa.field("action_tokens", pa.int32()),
    pa.field("finish_reason", pa.string()),
    pa.field("action_contrast", pa.float32()),
    pa.field("importance", pa.list_(pa.float16())),
    pa.field("source_codes", pa.list_(pa.uint16())),
    pa.field("target_codes", pa.list_(pa.uint16())),
    pa.field("motion", pa.float32()),
)


def _feature(field: pa.Field) -> dict[str, Any]:
    if field.type == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(field.type):
        value = {"dtype": _dtype(field.type.value_type), "_type": "Value"}
        return {"feature": value, "_type": "List"}
    return {"dtype": _dtype(field.type), "_type": "Value"}


def _dtype(type_: pa.DataType) -> str:
    return {"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(type_), str(type_))


def triplet_schema(codec_id: str, grid: tuple[int, int]) -> pa.Schema:
    """The schema of a dataset whose codes come from `codec_id` on a grid of (height, width) tokens."""
    features = {field.name: _feature(field) for field in FIELDS}
    return pa.schema(
        list(FIELDS),
        metadata={
            "huggingface": json.dumps({"info": {"features": features}}),
            "kinescribe.codec": json.dumps({"id": codec_id, "grid": list(grid)}),
        },
    )
