from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from kinescribe.labeling.agreement import Agreement, exactly
from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import Clip, stable_id
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import DropReason
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.shards import write_unit
from tests.tiny_dataset import SCHEMA, build, outcome, row, run_of


def labelled(folder: Path, actions: Sequence[str], model: str = "one") -> Dataset:
    """A clip with a row for each action, of a run with this model."""
    clip = Clip(stable_id("clip"), "/clip.mp4", "jump")
    run = run_of([clip], dynamics=model)
    (unit,) = plan_units([clip], 1, run.fingerprint)
    bind(str(folder), run)
    write_plan(str(folder), [unit])
    rows = [row(clip, place) | {"action": action} for place, action in enumerate(actions)]
    write_unit(str(folder), unit, pa.Table.from_pylist(rows, SCHEMA), [outcome(clip, len(rows))])
    return Dataset.open(folder)


def test_texts_are_the_same_but_for_case_blanks_and_a_full_stop():
    texts = ["Lift it.", "lift  it", "lift it up", "lift it!", "Öffne", ""]
    others = ["lift it", "Lift it.", "lift it", "lift it", "öffne.", ""]
    assert exactly(texts, others) == [1, 1, 0, 0, 1, 1]


def test_each_row_gets_the_agreement_of_its_triplet(tmp_path: Path):
    compared: list[tuple[str, str]] = []

    def similarity(texts: Sequence[str], others: Sequence[str]) -> list[float]:
        compared.extend(zip(texts, others, strict=True))
        return exactly(texts, others)

    other = labelled(tmp_path / "other", ["a", "b", "b", "c"])
    ids = other.scan(["triplet_id"]).to_table()["triplet_id"].to_pylist()
    rows = pl.DataFrame({"triplet_id": [*ids, "x" * 32], "action": ["A.", "x", "x", "c", "a"], "n": range(5)})
    agreement = Agreement(other, "exact", similarity)
    found = agreement.with_agreement(rows)
    assert found["agreement"].to_list() == [1, 0, 0, 1, None]
    assert agreement.with_agreement(rows[-1:]).schema == found.schema
    assert agreement.identity == {"dataset": other.fingerprint, "by": "exact"}
    assert found.drop("agreement").equals(rows)
    assert sorted(compared) == [("A.", "a"), ("c", "c"), ("x", "b")]


def test_a_dataset_without_rows_agrees_with_nothing(tmp_path: Path):
    build(str(tmp_path), [DropReason.STATIC])
    rows = pl.DataFrame({"triplet_id": ["a"], "action": ["b"]})
    with pytest.raises(DatasetError, match="no triplets"):
        Agreement(Dataset.open(tmp_path), "exact", exactly).with_agreement(rows)
