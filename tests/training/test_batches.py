import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from kinescribe.models.tokens import CodeTriplet, Task
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import DropReason
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.run import read_run
from kinescribe.storage.selection import SELECTION_SCHEMA, Selection, write_selection
from kinescribe.storage.shards import committed_units
from kinescribe.training.batches import (
    MixedOrder,
    Order,
    SampleOrder,
    TripletBatches,
    num_micro_batches,
    rank_part,
    read_rows,
    read_triplets,
)
from kinescribe.training.images import read_images
from kinescribe.training.objective import image_weights
from tests import tiny_dataset
from tests.tiny_triplets import write_triplets
from tests.tiny_vlm import tiny_vlm


def indices(order: Order, steps: range) -> list[int]:
    return [order.sample(position) for step in steps for position in order.positions(step)]


def test_an_epoch_is_every_sample_once():
    order = SampleOrder(10, batch=5, seed=3)
    first, second = indices(order, range(2)), indices(order, range(2, 4))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_the_order_depends_only_on_seed_and_step():
    order = SampleOrder(10, batch=4, seed=3)
    forwards = [indices(order, range(step, step + 1)) for step in range(9)]
    again = SampleOrder(10, batch=4, seed=3)
    assert [indices(again, range(step, step + 1)) for step in reversed(range(9))] == forwards[::-1]
    assert indices(SampleOrder(10, batch=4, seed=4), range(9)) != indices(order, range(9))


def test_a_mix_has_its_shares_in_every_stretch_and_every_epoch_of_each_group():
    groups = np.arange(3), np.arange(10, 20)
    drawn = indices(MixedOrder(groups, 0.25, batch=4, seed=3), range(10))
    first = [sample for sample in drawn if sample < 10]
    assert [sum(sample < 10 for sample in drawn[i : i + 4]) for i in range(0, 40, 4)] == [1] * 10
    assert [sorted(first[i : i + 3]) for i in (0, 3, 6)] == [[0, 1, 2]] * 3
    second = [sample for sample in drawn if sample >= 10]
    assert [sorted(second[i : i + 10]) for i in (0, 10, 20)] == [list(range(10, 20))] * 3


@pytest.mark.parametrize(("world_size", "micro_batch"), [(1, 8), (2, 4), (2, 2), (4, 1)])
def test_ranks_and_micro_batches_share_out_the_global_batch(world_size: int, micro_batch: int):
    parts = [rank_part(range(16, 24), rank, world_size, micro_batch) for rank in range(world_size)]
    assert [position for rank in parts for part in rank for position in part] == list(range(16, 24))
    assert {len(part) for rank in parts for part in rank} == {micro_batch}


@pytest.mark.parametrize(("world_size", "micro_batch"), [(3, 4), (3, 2), (3, 1), (5, 2), (7, 1)])
def test_fewer_workers_than_planned_share_out_the_whole_batch_in_as_many_micro_batches_each(
    world_size: int, micro_batch: int
):
    parts = [rank_part(range(16, 24), rank, world_size, micro_batch) for rank in range(world_size)]
    assert [position for rank in parts for part in rank for position in part] == list(range(16, 24))
    assert {len(rank) for rank in parts} == {num_micro_batches(8, world_size, micro_batch)}
    sizes = {len(part) for rank in parts for part in rank}
    assert min(sizes) >= 1
    assert max(sizes) <= micro_batch or min(sizes) == 1


@pytest.mark.parametrize(("task", "floor"), [("dynamics", None), ("world", 0.1), ("world", None)])
def test_a_batch_is_the_models_sequences_padded_on_the_right(dataset: str, task: Task, floor: float | None):
    vlm = tiny_vlm()
    triplets = read_triplets([dataset])
    batch = TripletBatches(triplets, vlm, task, floor).batch([5, 2], [0, 1])
    for row, sample in enumerate([5, 2]):
        triplet = CodeTriplet(
            triplets.source_NL[sample], triplets.target_NL[sample], triplets.actions[sample].as_py()
        )
        weights = None if floor is None else image_weights(triplets.importance_NL[sample], floor)
        sequence = vlm.sequence(task, triplet, weights)
        length = len(sequence.ids)
        np.testing.assert_array_equal(batch.ids_BT[row, :length], sequence.ids)
        np.testing.assert_array_equal(batch.positions_BT[row, :length], sequence.positions)
        np.testing.assert_array_equal(batch.weights_BT[row, :length], sequence.weights)
        assert not batch.weights_BT[row, length:].any()
    assert batch.total_weight == pytest.approx(float(batch.weights_BT.sum()))
    assert batch.ids_BT.dtype == torch.int64


def test_datasets_follow_one_another(dataset: str, tmp_path):
    write_triplets(str(tmp_path), 3, tiny_vlm().codec.id)
    both = read_triplets([dataset, str(tmp_path)])
    assert len(both) == len(read_triplets([dataset])) + 3
    np.testing.assert_array_equal(both.target_NL[-3:], read_triplets([str(tmp_path)]).target_NL)


def select(folder: Path, run: str, unit_id: str, triplet_ids: list[str]) -> str:
    rows = [
        {"dataset": run, "unit_id": unit_id, "triplet_id": id_, "score": -1.0, "action_class": None}
        for id_ in triplet_ids
    ]
    table = pa.Table.from_pylist(rows, SELECTION_SCHEMA)
    write_selection(str(folder / "chosen.parquet"), Selection(table, {}, (run,)))
    return str(folder / "chosen.parquet")


def test_of_a_dataset_that_a_selection_names_the_chosen_triplets_are_read(dataset: str, tmp_path: Path):
    other = str(tmp_path / "other")
    write_triplets(other, 3, tiny_vlm().codec.id)
    ids = Dataset.open(dataset).scan(["triplet_id"]).to_table()["triplet_id"].to_pylist()
    unit = next(iter(committed_units(dataset)))
    chosen = select(tmp_path, read_run(dataset)["fingerprint"], unit, [ids[9], ids[4]])
    triplets = read_triplets([dataset, other], chosen)
    whole = read_triplets([dataset])
    np.testing.assert_array_equal(triplets.target_NL[:2], whole.target_NL[[4, 9]])
    assert len(triplets) == 2 + 3


def test_units_without_chosen_rows_are_not_opened(tmp_path: Path):
    first, second = tiny_dataset.build(str(tmp_path / "x"), [1, 1], clips_per_unit=1)
    triplet = (
        Dataset.open(str(tmp_path / "x"))
        .scan(["triplet_id"], {first.unit_id})
        .to_table()["triplet_id"][0]
        .as_py()
    )
    (tmp_path / "x" / "data" / f"{second.unit_id}.parquet").write_bytes(b"damaged")
    chosen = select(tmp_path, read_run(str(tmp_path / "x"))["fingerprint"], first.unit_id, [triplet])
    assert len(read_triplets([str(tmp_path / "x")], chosen)) == 1


def test_a_dataset_without_selected_rows_gives_none(dataset: str, tmp_path: Path):
    other = str(tmp_path / "other")
    write_triplets(other, 3, tiny_vlm().codec.id)
    chosen = select(tmp_path, read_run(dataset)["fingerprint"], "none", [])
    assert len(read_triplets([dataset, other], chosen)) == 3


@pytest.mark.parametrize(
    ("run", "unit", "triplet", "message"),
    [
        ("another", None, None, "run another.*isn't in data"),
        (None, "gone", None, "names 1 units that .* lacks, first gone"),
        (None, None, "gone", "lacks 1 of its chosen triplets"),
    ],
)
def test_a_selection_of_a_missing_dataset_is_refused(dataset, tmp_path, run, unit, triplet, message):
    ids = Dataset.open(dataset).scan(["triplet_id"]).to_table()["triplet_id"].to_pylist()
    run = run or read_run(dataset)["fingerprint"]
    unit = unit or next(iter(committed_units(dataset)))
    chosen = select(tmp_path, run, unit, [triplet or ids[0]])
    with pytest.raises(DatasetError, match=message):
        read_triplets([dataset], chosen)


def test_an_action_without_words_is_refused_by_name(tmp_path: Path):
    write_triplets(str(tmp_path), 3, tiny_vlm().codec.id, action=" \n")
    first = Dataset.open(str(tmp_path)).scan(["triplet_id"]).to_table()["triplet_id"][0]
    with pytest.raises(DatasetError, match=f"3 triplets with an empty action, first {first}; write"):
        read_triplets([str(tmp_path)])


@pytest.mark.parametrize(
    "read", [read_images, lambda data: read_rows(data, ["triplet_id", "action", "source"])]
)
def test_data_with_a_bit_that_flipped_is_refused(dataset: str, tmp_path: Path, read):
    copy = str(tmp_path / "copy")
    shutil.copytree(dataset, copy)
    tiny_dataset.flip_a_bit(copy)
    with pytest.raises(DatasetError, match=r"CRC checksum .*`check` says what is damaged"):
        read([dataset, copy])


def test_data_without_a_triplet_is_refused(dataset: str, tmp_path: Path):
    tiny_dataset.build(str(tmp_path / "static"), [DropReason.STATIC])
    with pytest.raises(DatasetError, match=r"static.* has no triplet to train on"):
        read_triplets([str(tmp_path / "static")])
    chosen = select(tmp_path, read_run(dataset)["fingerprint"], "none", [])
    with pytest.raises(DatasetError, match=r"triplets.* has no triplet to train on"):
        read_triplets([dataset], chosen)


def test_only_who_weighs_needs_importance(tmp_path: Path):
    write_triplets(str(tmp_path), 3, tiny_vlm().codec.id, importance=None)
    triplets = read_triplets([str(tmp_path)])
    with pytest.raises(DatasetError, match=r"weights=l2 needs the importance.*or set weights=none"):
        TripletBatches(triplets, tiny_vlm(), "world", 0.0)
    assert TripletBatches(triplets, tiny_vlm(), "world", None).batch([0], [0]).total_weight == 16


@pytest.mark.parametrize("task", ["dynamics", "world"])
def test_an_action_that_is_too_long_for_the_model_is_refused(tmp_path: Path, task: Task):
    vlm = tiny_vlm()
    vlm.network.config.max_position_embeddings = 50
    write_triplets(str(tmp_path), 3, vlm.codec.id, action="left " * 9)
    triplets = read_triplets([str(tmp_path)])
    assert TripletBatches(triplets, vlm, task, None).batch([0], [0]).positions_BT.max() < 50
    vlm.network.config.max_position_embeddings = 40
    with pytest.raises(
        DatasetError, match="1 actions of the data are too long for the model, first 'left left"
    ):
        TripletBatches(triplets, vlm, task, None)


def test_codes_of_two_codecs_are_refused(dataset: str, tmp_path):
    write_triplets(str(tmp_path), 3, "another")
    with pytest.raises(DatasetError, match="another"):
        read_triplets([dataset, str(tmp_path)])


def test_codes_of_another_codec_than_the_models_are_refused(tmp_path):
    tiny_dataset.build(str(tmp_path), [2])
    with pytest.raises(DatasetError, match="codec-of-tests"):
        TripletBatches(read_triplets([str(tmp_path)]), tiny_vlm(), "dynamics", None)
