import json

import datasets
import pyarrow as pa

from kinescribe.schemas.dataset import FIELDS, triplet_schema

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
