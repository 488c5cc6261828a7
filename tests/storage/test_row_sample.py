from collections import Counter

from kinescribe.schemas.clips import stable_id
from kinescribe.storage.row_sample import RowSample

UNITS = {stable_id("unit", unit): [stable_id(unit, row) for row in range(10)] for unit in range(20)}


def drawn(num: int, seed: int, backwards: bool = False) -> dict[str, list[str]]:
    sample = RowSample(num, seed)
    for unit_id in list(UNITS)[:: -1 if backwards else 1]:
        sample.add(unit_id, UNITS[unit_id])
    return {unit_id: list(ids) for unit_id, ids in sample.by_unit().items()}


def test_as_many_rows_as_wanted_are_drawn_each_once_and_of_its_unit():
    rows = drawn(30, seed=1)
    assert sum(map(len, rows.values())) == 30
    assert all(len({*ids} & {*UNITS[unit_id]}) == len(ids) for unit_id, ids in rows.items())


def test_the_seed_decides_whatever_the_order():
    assert drawn(30, seed=1) == drawn(30, seed=1, backwards=True) != drawn(30, seed=2)


def test_units_come_in_their_order():
    assert list(drawn(150, seed=1)) == [unit for unit in UNITS if unit in drawn(150, seed=1)]


def test_all_rows_are_drawn_if_there_are_fewer():
    assert {unit: set(ids) for unit, ids in drawn(1000, seed=1).items()} == {
        unit: set(ids) for unit, ids in UNITS.items()
    }


def test_each_row_is_as_likely_as_any_other():
    counts = Counter(row for seed in range(400) for ids in drawn(20, seed).values() for row in ids)
    assert len(counts) == 200
    assert 40 / 2.5 < min(counts.values()) <= max(counts.values()) < 40 * 2
