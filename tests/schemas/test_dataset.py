import json

import datasets
import pyarrow as pa
import pytest

from kinescribe.schemas.clips import FrameQuality
from kinescribe.schemas.dataset import (
    FIELDS,
    QUALITY,
    is_carried,
    optional_columns,
    quality_columns,
    triplet_schema,
)

SCHEMA = triplet_schema("codec", (8, 6))


def test_datasets_takes_images_for_images_and_every_other_column_as_it_is():
    features = datasets.Features.from_arrow_schema(SCHEMA)
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    assert images == ["source", "target"]
    assert [field.type for field in features.arrow_schema] == [field.type for field in FIELDS]


def test_the_schema_says_what_its_codes_are_of():
    assert json.loads(SCHEMA.metadata[b"kinescribe.codec"]) == {"id": "codec", "grid": [8, 6]}


def test_codes_and_weights_are_small():
    assert SCHEMA.field("source_codes").type == pa.list_(pa.uint16())
    assert SCHEMA.field("importance").type == pa.list_(pa.float16())


def test_the_schema_has_only_the_columns_of_the_quality_that_is_asked_for():
    extended = triplet_schema("codec", (8, 6), ["hashes", "bars"])
    assert extended.names[len(FIELDS) :] == ["bars", "source_hash", "target_hash", "change_hash"]
    assert datasets.Features.from_arrow_schema(extended)["bars"].dtype == "float32"
    assert not any(is_carried(name) for name in extended.names)


def test_a_pair_has_the_quality_of_both_frames():
    source = FrameQuality(
        sharpness=10, brightness=0.5, clipping=0.1, bars=0.25, text_share=0.0, hash=b"s" * 16
    )
    target = FrameQuality(
        sharpness=20, brightness=0.7, clipping=0.2, bars=0.0, text_share=0.1, hash=b"t" * 16
    )
    columns = quality_columns(source, target, b"c" * 16)
    assert columns == {
        "sharpness": 10,
        "brightness": pytest.approx(0.6),
        "clipping": 0.2,
        "bars": 0.0,
        "text_share": 0.1,
        "source_hash": b"s" * 16,
        "target_hash": b"t" * 16,
        "change_hash": b"c" * 16,
    }
    assert set(columns) == {field.name for fields in QUALITY.values() for field in fields}
    assert set(quality_columns(FrameQuality(), FrameQuality(), None).values()) == {None}


@pytest.mark.parametrize(
    ("quality", "measured"),
    [(["bars", "hashes"], ("bars", "hashes")), (["noise"], ()), (None, ()), (7, ()), ("bars", ())],
)
def test_what_a_strangers_run_says_of_quality_may_be_anything(quality: object, measured: tuple[str, ...]):
    assert optional_columns({"config.quality": quality}) == measured
    assert optional_columns({}) == ()


def test_a_run_with_a_vocabulary_has_its_columns():
    identity = {"config.quality": ["bars"], "config.annotation.vocabulary": ["a", "b"]}
    assert optional_columns(identity) == ("bars", "vocabulary")
