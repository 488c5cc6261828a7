"""The Arrow schema of a labelled dataset: one row per triplet.

`source` and `target` are Hugging Face `Image` features. datasets and the Hub read that from the
`huggingface` key of the schema's metadata; without it, a struct{bytes, path} stays a struct. They use the
metadata of nullable fields only, so images are nullable here although none is ever null.

Columns that are carried over from the user's manifest follow the fields below, in types that all readers
of Parquet and the rows' digest can handle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pyarrow as pa

from kinescribe.schemas.clips import FrameQuality

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
IMAGE_FORMATS = ("JPEG", "PNG")
"""The formats of stored images. If Pillow had to guess, it would open some files with another program."""

TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
PLAIN = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_date32,
    pa.types.is_timestamp,
)
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
QUALITY: dict[str, tuple[pa.Field, ...]] = {
    "sharpness": (pa.field("sharpness", pa.float32()),),
    "brightness": (pa.field("brightness", pa.float32()),),
    "clipping": (pa.field("clipping", pa.float32()),),
    "bars": (pa.field("bars", pa.float32()),),
    "text": (pa.field("text_share", pa.float32()),),
    "hashes": tuple(pa.field(f"{name}_hash", pa.binary()) for name in ("source", "target", "change")),
}
"""The columns of each of `LabelConfig.quality`. A dataset may lack them, and so may a row."""
OPTIONAL: dict[str, tuple[pa.Field, ...]] = {
    **QUALITY,
    "vocabulary": (pa.field("action_probability", pa.float32()), pa.field("action_runner_up", pa.string())),
    "context_frames": (pa.field("context", pa.list_(IMAGE)),),
}
"""The same, the columns of actions that were chosen from `Annotation.vocabulary`, and the frames between
source and target with `Annotation.context_frames`."""
OPTIONAL_FIELDS = tuple(field for fields in OPTIONAL.values() for field in fields)
SHARES = ("brightness", "clipping", "bars", "text_share", "action_probability")
"""Columns with values from 0 to 1."""
HASHES = tuple(field.name for field in QUALITY["hashes"])
LIKELIHOODS = ("action_logprob", "action_tokens", "finish_reason", "action_contrast")
"""What a model says of the action that it wrote; null if the action was given."""
FIELD_NAMES = frozenset(field.name for field in (*FIELDS, *OPTIONAL_FIELDS))


def optional_columns(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of `OPTIONAL` whose columns a run with this identity, perhaps a stranger's, writes."""
    quality = identity.get("config.quality")
    measured = quality if isinstance(quality, list) else []
    more = [name for name in OPTIONAL if identity.get(f"config.annotation.{name}")]
    return tuple(name for name in OPTIONAL if name in [*measured, *more])


def quality_columns(source: FrameQuality, target: FrameQuality, change_hash: bytes | None) -> dict[str, Any]:
    """The values of the columns of `QUALITY` of a pair.

    Sharpness is that of the less sharp frame, brightness the mean of both, and bars are what both have; of
    clipping and text, the frame with more counts.
    """
    return {
        "sharpness": _of_both(min, source.sharpness, target.sharpness),
        "brightness": _of_both(lambda a, b: (a + b) / 2, source.brightness, target.brightness),
        "clipping": _of_both(max, source.clipping, target.clipping),
        "bars": _of_both(min, source.bars, target.bars),
        "text_share": _of_both(max, source.text_share, target.text_share),
        "source_hash": source.hash,
        "target_hash": target.hash,
        "change_hash": change_hash,
    }


def _of_both(
    combine: Callable[[float, float], float], source: float | None, target: float | None
) -> float | None:
    return None if source is None or target is None else combine(source, target)


def is_carried(name: str) -> bool:
    """Whether a column of a dataset was carried over from the user's manifest."""
    return name not in FIELD_NAMES


def carried_type(type_: pa.DataType) -> pa.DataType | None:
    """The type of a carried column in the dataset, None if it cannot be carried.

    Text, numbers, booleans, dates, timestamps and lists of them can.
    """
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        item = carried_type(type_.value_type)
        return None if item is None or pa.types.is_list(item) else pa.list_(item)
    if pa.types.is_dictionary(type_):
        return carried_type(type_.value_type)
    if any(is_text(type_) for is_text in TEXTS):
        return pa.string()
    return type_ if any(is_plain(type_) for is_plain in PLAIN) else None


def _feature(field: pa.Field) -> dict[str, Any]:
    if field.type == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(field.type):
        return {"feature": _feature(field.type.value_field), "_type": "List"}
    return {"dtype": _dtype(field.type), "_type": "Value"}


def _dtype(type_: pa.DataType) -> str:
    return {"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(type_), str(type_))


def triplet_schema(codec_id: str, grid: tuple[int, int], optional: Collection[str] = ()) -> pa.Schema:
    """The schema of a dataset whose codes come from `codec_id` on a grid of (height, width) tokens.

    `optional` are keys of `OPTIONAL`.
    """
    fields = [*FIELDS, *(field for name in OPTIONAL if name in optional for field in OPTIONAL[name])]
    features = {field.name: _feature(field) for field in fields}
    return pa.schema(
        fields,
        metadata={
            "huggingface": json.dumps({"info": {"features": features}}),
            "kinescribe.codec": json.dumps({"id": codec_id, "grid": list(grid)}),
        },
    )
