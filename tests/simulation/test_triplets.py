import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinescribe.models.codec import ImageCodec
from kinescribe.models.initialization import new_codec
from kinescribe.schemas.errors import DatasetError
from kinescribe.simulation.actions import parse
from kinescribe.simulation.scene import NEW_SHAPES
from kinescribe.simulation.triplets import (
    CHAINS_PER_UNIT,
    TRIPLETS_PER_UNIT,
    Draw,
    draw_chain,
    split_rng,
    write_triplets,
)
from kinescribe.storage.audit import check
from kinescribe.storage.dataset import Dataset


@pytest.fixture(scope="module")
def codec() -> ImageCodec:
    torch.manual_seed(0)
    return new_codec(resolution=32, channels=(8, 16), num_codes=32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, codec: ImageCodec) -> str:
    folder = str(tmp_path_factory.mktemp("triplets") / "ds")
    write_triplets(folder, 10, "train", seed=5, codec=codec, side=32)
    return folder


def test_a_dataset_of_triplets_passes_the_audit(dataset: str):
    result = check(dataset)
    assert (result.ok, result.problems) == (True, [])
    assert (result.clips, result.triplets) == (CHAINS_PER_UNIT, TRIPLETS_PER_UNIT)


def test_every_triplet_has_its_inverse_with_the_frames_swapped(dataset: str):
    rows = Dataset.open(dataset).scan(
        ["clip_id", "source_time_s", "target_time_s", "action", "source_codes", "target_codes"]
    )
    by_place = {
        (r["clip_id"], r["source_time_s"], r["target_time_s"]): r for r in rows.to_table().to_pylist()
    }
    for (clip, source, target), row in by_place.items():
        back = by_place[clip, target, source]
        assert parse(back["action"]) == parse(row["action"]).inverse()
        assert back["source_codes"] == row["target_codes"]


def test_codes_are_those_of_the_stored_image(dataset: str, codec: ImageCodec):
    row = Dataset.open(dataset).scan(["source", "source_codes"]).head(1).to_pylist()[0]
    image = Image.open(io.BytesIO(row["source"]["bytes"]))
    assert codec.encode(codec.preprocess([image])).codes_BL[0].tolist() == row["source_codes"]


def test_running_again_changes_nothing_and_another_seed_is_refused(dataset: str, codec: ImageCodec):
    before = {path: path.stat().st_mtime_ns for path in Path(dataset, "data").iterdir()}
    write_triplets(dataset, 10, "train", seed=5, codec=codec, side=32)
    assert before == {path: path.stat().st_mtime_ns for path in Path(dataset, "data").iterdir()}
    with pytest.raises(DatasetError, match="seed"):
        write_triplets(dataset, 10, "train", seed=6, codec=codec, side=32)


def test_splits_and_seeds_are_disjoint_draws():
    streams = [
        split_rng(split, seed, index).random(4)
        for split in ("train", "test")
        for seed in (0, 1)
        for index in (0, 1)
    ]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_a_chain_has_a_frame_before_and_after_each_change():
    chain = draw_chain(np.random.default_rng(0), num_changes=3)
    assert (len(chain.frames), len(chain.changes)) == (4, 3)
    assert [a.after for a in chain.changes[:-1]] == [b.before for b in chain.changes[1:]]


def test_camera_weight_says_how_often_the_camera_moves():
    rng = np.random.default_rng(0)
    still = draw_chain(rng, num_changes=30, draw=Draw(camera_weight=0.0))
    moving = draw_chain(rng, num_changes=30, draw=Draw(camera_weight=50.0))
    assert not any(change.action.is_camera for change in still.changes)
    assert sum(change.action.is_camera for change in moving.changes) > 20


def test_objects_have_the_shapes_that_were_asked_for():
    chain = draw_chain(np.random.default_rng(0), num_changes=20, draw=Draw(shapes=NEW_SHAPES))
    shapes = {thing.shape for change in chain.changes for thing in change.after.things}
    added = {change.action.shape for change in chain.changes if change.action.verb == "add"}
    assert added <= shapes <= set(NEW_SHAPES)
    assert len(shapes) > 1
