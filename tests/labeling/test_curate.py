import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinescribe.labeling.curate import choose, curate, round_robin
from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.config import CurateConfig, load_config
from kinescribe.schemas.errors import ConfigError, DatasetError
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.selection import Selection, read_selection
from kinescribe.storage.shards import unit_uri, write_unit
from tests.tiny_dataset import build, clip, outcome, row, run_of, table

SCHEMA = {"triplet_id": pl.String, "action_class": pl.String, "score": pl.Float64}
Row = tuple[str, str | None, float]


def algorithm_1(rows: list[Row], top_k: int) -> list[str]:
    """The paper's algorithm word by word; the class with the best candidate begins a round."""
    remaining = sorted(rows, key=lambda row: (-row[2], row[0]))
    taken: list[str] = []
    while remaining and len(taken) < top_k:
        first_of_class: dict[str | None, Row] = {}
        for best in remaining:
            first_of_class.setdefault(best[1], best)
        for best in first_of_class.values():
            if len(taken) < top_k:
                taken.append(best[0])
                remaining.remove(best)
    return taken


# Few classes and few scores, so that ties are common.
many_rows = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([-3.0, -2.0, -1.5, -1.0, 0.0])),
    max_size=40,
).flatmap(
    lambda rows: st.permutations(range(len(rows))).map(
        lambda ids: [(f"{id_:02}", *row) for id_, row in zip(ids, rows, strict=True)]
    )
)


def frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, SCHEMA, orient="row")


@given(rows=many_rows, top_k=st.integers(1, 45))
def test_a_round_robin_is_algorithm_1(rows: list[Row], top_k: int):
    chosen = round_robin(frame(rows), "action_class", top_k)
    assert chosen["triplet_id"].to_list() == algorithm_1(rows, top_k)


@given(rows=many_rows, top_k=st.integers(1, 45), cuts=st.lists(st.integers(0, 40), max_size=8))
def test_parts_give_the_result_of_the_whole(rows: list[Row], top_k: int, cuts: list[int]):
    places = [0, *sorted(cuts), len(rows)]
    parts = [frame(rows[start:end]) for start, end in pairwise(places)]
    chosen = choose(parts, "action_class", top_k)
    assert chosen["triplet_id"].to_list() == algorithm_1(rows, top_k)


@pytest.mark.parametrize(
    ("scores_of_b", "chosen"),
    [
        ((-2, -3), ["a0", "b0", "b1"]),  # b's second row beats a's in the last round
        ((-9, -8), ["a0", "b1", "a1"]),  # b's second row beats its first
        ((-2, -9), ["a0", "b0", "a1"]),
    ],
)
def test_a_later_part_displaces_worse_rows(scores_of_b: tuple[float, float], chosen: list[str]):
    first: list[Row] = [(f"a{index}", "a", score) for index, score in enumerate((-1, -5, -6, -7, -8))]
    first.append(("b0", "b", scores_of_b[0]))
    parts = [frame(first), frame([("b1", "b", scores_of_b[1])])]
    assert choose(parts, "action_class", 3)["triplet_id"].to_list() == chosen


@pytest.mark.parametrize("by", ["action_class", "triplet_id"])
def test_many_rows_in_many_parts_give_the_result_of_the_whole(by: str):
    source = random.Random(0)
    rows: list[Row] = [
        (f"{index:05}", f"class {int(source.expovariate(0.1))}", round(-source.expovariate(1), 2))
        for index in range(5000)
    ]
    source.shuffle(rows)
    parts = [frame(rows[start : start + 100]) for start in range(0, len(rows), 100)]
    for top_k in (1, 30, 100, 1000):
        whole = round_robin(frame(rows), by, top_k)
        assert choose(parts, by, top_k)["triplet_id"].to_list() == whole["triplet_id"].to_list()


def test_more_than_anything_has_are_all():
    assert len(round_robin(frame([("0", "a", -1.0), ("1", "b", -2.0)]), "action_class", 10**30)) == 2


def test_rows_that_are_not_chosen_leave_the_memory():
    parts = [
        pl.select(
            triplet_id=pl.format("{}-{}", pl.lit("long" * 10), pl.int_range(10_000)),
            action_class=pl.lit("a"),
            score=pl.int_range(10_000) / 10_000 + part,
        )
        for part in range(20)
    ]
    chosen = choose(parts, "action_class", 5)["triplet_id"].to_arrow(compat_level=pl.CompatLevel.newest())
    assert chosen.get_total_buffer_size() < 10_000


def dataset(folder: Path, clips: dict[str, list[dict[str, Any]]], **config: Any) -> str:
    """A dataset with one unit per clip; its rows are those of tiny_dataset with these changes."""
    plan = [clip(name) for name in clips]
    units = [WorkUnit(item.clip_id, (item,)) for item in plan]
    bind(str(folder), run_of(plan, **config))
    write_plan(str(folder), units)
    for unit, rows in zip(units, clips.values(), strict=True):
        made = [{**row(unit.clips[0], index), **given} for index, given in enumerate(rows)]
        write_unit(str(folder), unit, table(made), [outcome(unit.clips[0], len(made))])
    return str(folder)


def scored(*scores: float, **values: Any) -> list[dict[str, Any]]:
    return [{"action_logprob": score, "action_tokens": 1, **values} for score in scores]


def chosen_scores(selection: Selection) -> list[float]:
    return selection.rows["score"].to_pylist()


def run(tmp_path: Path, *datasets: str, **config: Any) -> Selection:
    out = str(tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet")
    curate(datasets, out, CurateConfig(**config))
    return read_selection(out)


def test_classes_take_turns_over_datasets_in_any_order(tmp_path: Path):
    jumps = dataset(tmp_path / "x", {"a": scored(-1, -2, -3), "b": scored(-4)})
    runs = dataset(
        tmp_path / "y", {"c": scored(-5, -6, action_class="run"), "d": scored(-9, action_class=None)}
    )
    curated = run(tmp_path, jumps, runs, top_k=4)
    assert chosen_scores(curated) == [-1, -5, -9, -2]
    assert curated.rows["action_class"].to_pylist() == ["jump", "run", None, "jump"]
    assert curated.options["top_k"] == 4
    assert curated == run(tmp_path, runs, jumps, top_k=4)


def test_the_order_of_units_does_not_matter(tmp_path: Path):
    clips = {name: scored(-1, -2) for name in "abcdef"}
    forth = dataset(tmp_path / "forth", clips)
    back = dataset(tmp_path / "back", dict(reversed(clips.items())))
    columns = ["unit_id", "triplet_id", "score"]
    chosen = [run(tmp_path, name, top_k=3).rows.select(columns) for name in (forth, back)]
    assert chosen[0] == chosen[1]
    assert chosen[0]["triplet_id"].to_pylist() == sorted(chosen[0]["triplet_id"].to_pylist())


def test_a_smaller_selection_is_the_start_of_a_larger_one(tmp_path: Path):
    source = dataset(tmp_path / "x", {"a": scored(-1, -2, -3), "b": scored(-2, -4, action_class="run")})
    five, three = (run(tmp_path, source, top_k=top_k).rows for top_k in (5, 3))
    assert five.slice(0, 3) == three


def test_a_selection_names_run_and_unit(tmp_path: Path):
    units = build(str(tmp_path / "x"), [2])
    chosen = run(tmp_path, str(tmp_path / "x"), top_k=1)
    fingerprint = run_of([clip("0")]).fingerprint
    assert chosen.rows["unit_id"].to_pylist() == [units[0].unit_id]
    assert chosen.rows["dataset"].to_pylist() == [fingerprint]
    assert chosen.datasets == (fingerprint,)


def test_a_score_is_per_token_or_of_the_whole_action(tmp_path: Path):
    rows = [{"action_logprob": -4.0, "action_tokens": 8}, {"action_logprob": -3.0, "action_tokens": 2}]
    source = dataset(tmp_path / "x", {"a": rows})
    assert chosen_scores(run(tmp_path, source, top_k=1)) == [-0.5]
    assert chosen_scores(run(tmp_path, source, top_k=1, score="sum")) == [-3.0]


def test_contrast_is_per_token_and_likelihood_has_no_say(tmp_path: Path):
    values = [(-0.1, 4, 2.0), (-9.0, 2, 3.0), (-5.0, 1, -1.0)]
    names = ("action_logprob", "action_tokens", "action_contrast")
    source = dataset(tmp_path / "x", {"a": [dict(zip(names, row, strict=True)) for row in values]})
    chosen = run(tmp_path, source, top_k=3, score="contrast", min_score=-0.5)
    assert chosen_scores(chosen) == [1.5, 0.5]


def test_contrast_that_was_not_asked_for_is_refused_with_the_option_that_asks(tmp_path: Path):
    source = dataset(tmp_path / "x", {"a": scored(-1)})
    with pytest.raises(DatasetError, match=r"without action_contrast.*label .*--scores likelihood,contrast"):
        run(tmp_path, source, top_k=1, score="contrast")


def test_counts_and_progress_are_of_all_datasets(tmp_path: Path):
    sources = [
        dataset(tmp_path / name, {f"{name}{index}": scored(-1, -9) for index in range(2)}) for name in "xy"
    ]
    seen: list[tuple[int, int]] = []
    config = CurateConfig(top_k=9, min_score=-5)
    result = curate(sources, str(tmp_path / "out"), config, lambda *at: seen.append(at))
    assert (result.seen, result.dropped, result.chosen) == (8, {"min_score": 4}, 4)
    assert seen == [(2, 4), (4, 4), (4, 4)]


@pytest.mark.parametrize("by", ["video", "clip_id"])
def test_clips_may_take_turns_too(tmp_path: Path, by: str):
    source = dataset(tmp_path / "x", {"a": scored(-1, -2), "b": scored(-3)})
    chosen = run(tmp_path, source, top_k=2, stratify_by=by)
    assert chosen_scores(chosen) == [-1, -3]
    assert chosen.rows["action_class"].to_pylist() == ["jump", "jump"]


def test_a_row_is_counted_under_the_first_filter_that_it_fails(tmp_path: Path):
    rows = [
        *scored(-1, motion=1.0, action="open"),
        *scored(-2, motion=1.0, action="open"),
        *scored(-3, motion=1.0, action="close"),
        *scored(-9, motion=0.0),
        *scored(-1, motion=0.0),
        *scored(-1, motion=None),
        *scored(-1, motion=9.0),
    ]
    source = dataset(tmp_path / "x", {"a": rows, "b": scored(-2, action="open")})
    config = CurateConfig(top_k=9, min_score=-5, min_motion=0.5, max_motion=5, duplicates="drop")
    result = curate([source], str(tmp_path / "out"), config)
    assert result.seen == 8
    assert result.dropped == {"min_score": 1, "min_motion": 2, "max_motion": 1, "duplicates": 1}
    assert (result.chosen, result.missing, result.classes) == (3, 6, 1)
    assert chosen_scores(read_selection(str(tmp_path / "out"))) == [-1, -2, -3]


def test_bounds_are_within_the_range(tmp_path: Path):
    source = dataset(tmp_path / "x", {"a": scored(-2, motion=1.5)})
    chosen = run(tmp_path, source, top_k=1, min_score=-2, min_motion=1.5, max_motion=1.5)
    assert chosen_scores(chosen) == [-2]


@pytest.mark.parametrize(("bound", "chosen"), [("min_motion", [-1, -3]), ("max_motion", [-2, -3])])
def test_a_bound_of_motion_may_stand_alone(tmp_path: Path, bound: str, chosen: list[float]):
    rows = [*scored(-1, motion=9.0), *scored(-2, motion=0.0), *scored(-3, motion=2.0)]
    source = dataset(tmp_path / "x", {"a": rows})
    assert chosen_scores(run(tmp_path, source, top_k=3, **{bound: 2.0})) == chosen


def test_of_duplicates_with_equal_scores_the_first_id_stays(tmp_path: Path):
    source = dataset(tmp_path / "x", {"a": scored(-1, -1, -1, action="open")})
    chosen = run(tmp_path, source, top_k=3, duplicates="drop")
    every = run(tmp_path, source, top_k=3)
    assert chosen.rows["triplet_id"].to_pylist() == [min(every.rows["triplet_id"].to_pylist())]


def test_the_result_says_how_evenly_classes_are_chosen(tmp_path: Path):
    clips = {
        name: scored(*range(-size, 0), action_class=name)
        for name, size in (("a", 1), ("b", 1), ("c", 2), ("d", 3), ("e", 9))
    }
    result = curate([dataset(tmp_path / "x", clips)], str(tmp_path / "out"), CurateConfig(top_k=14))
    assert result.per_class == {"fewest": 1, "median": 2, "most": 7}
    assert (result.classes, result.missing) == (5, 0)


def test_a_foreign_file_and_a_pending_unit_are_no_rows(tmp_path: Path):
    build(str(tmp_path / "x"), [2, 1, 1], pending=1)
    (tmp_path / "x" / "data" / "foreign.parquet").write_bytes(b"not even parquet")
    seen: list[tuple[int, int]] = []
    result = curate(
        [str(tmp_path / "x")], str(tmp_path / "out"), CurateConfig(top_k=9), lambda *at: seen.append(at)
    )
    assert (result.seen, result.chosen) == (3, 3)
    assert seen[-1] == (1, 1)


def test_a_score_with_a_flipped_bit_is_not_read_over(tmp_path: Path):
    dataset = str(tmp_path / "ds")
    (unit,) = build(dataset, [3])
    path = Path(unit_uri(dataset, unit.unit_id))
    group = pq.read_metadata(path).row_group(0)
    (scores,) = (
        group.column(place)
        for place in range(group.num_columns)
        if group.column(place).path_in_schema == "action_logprob"
    )
    data = bytearray(path.read_bytes())
    data[scores.data_page_offset + scores.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="`check` says what is damaged"):
        curate([dataset], f"{tmp_path}/selection.parquet", CurateConfig(top_k=1))


def test_a_dataset_given_twice_is_refused(tmp_path: Path):
    source = dataset(tmp_path / "x", {"a": scored(-1)})
    with pytest.raises(DatasetError, match="the dataset of the same run"):
        run(tmp_path, source, source, top_k=1)


def test_two_runs_with_a_common_clip_are_refused(tmp_path: Path):
    x = dataset(tmp_path / "x", {"a": scored(-1), "b": scored(-1)})
    y = dataset(tmp_path / "y", {"b": scored(-2)}, seed=1)
    with pytest.raises(DatasetError, match=f"{x} and {y} share clip {clip('b').clip_id}"):
        run(tmp_path, x, y, top_k=1)


def test_of_runs_with_several_common_clips_the_first_two_are_named(tmp_path: Path):
    clips = {name: scored(-1) for name in "abc"}
    x, y, z = (dataset(tmp_path / name, clips, seed=seed) for seed, name in enumerate("xyz"))
    with pytest.raises(DatasetError, match=f"^{x} and {y} share clip"):
        run(tmp_path, x, y, z, top_k=1)


def test_a_dataset_with_half_an_object_is_named(tmp_path: Path):
    whole = dataset(tmp_path / "x", {"a": scored(-1)})
    half = dataset(tmp_path / "y", {"b": scored(-1), "c": scored(-1)}, seed=1)
    for path in Path(half, "data").iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DatasetError, match=rf"{half} cannot be read: .*`check` says what is damaged"):
        run(tmp_path, whole, half, top_k=1)


@pytest.mark.parametrize("values", [{"action_logprob": None}, {"action_tokens": None}, {"action_tokens": 0}])
def test_a_row_without_a_score_is_refused(tmp_path: Path, values: dict[str, Any]):
    source = dataset(tmp_path / "x", {"a": [{}, values]})
    with pytest.raises(
        DatasetError, match=rf"^{source} has .* without action_logprob.*train on that dataset"
    ):
        run(tmp_path, source, top_k=1)


def test_filters_that_leave_nothing_are_an_error_with_the_counts(tmp_path: Path):
    source = dataset(tmp_path / "x", {"a": scored(-1)})
    with pytest.raises(DatasetError, match=r"passes the filters \(min_score dropped 1\); loosen them"):
        run(tmp_path, source, top_k=1, min_score=0)


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("top_k=0", "top_k"),
        ("stratify_by=colour", "stratify_by"),
        ("min_motion=3", "min_motion must be at most max_motion"),
    ],
)
def test_an_impossible_configuration_names_its_key(override: str, names: str):
    with pytest.raises(ConfigError, match=names):
        load_config(CurateConfig, None, ["top_k=1", "max_motion=2", override])


def test_an_existing_file_is_refused_before_rows_are_read(tmp_path: Path):
    build(str(tmp_path / "x"), [2])
    for unit in (tmp_path / "x" / "data").iterdir():
        unit.write_bytes(b"not to be read")
    for name, write in {"notes.parquet": Path.touch, "folder": Path.mkdir}.items():
        write(tmp_path / name)
        with pytest.raises(DatasetError, match=f"{name} exists and is not this selection; name another file"):
            curate([str(tmp_path / "x")], str(tmp_path / name), CurateConfig(top_k=1))


def test_a_selection_of_other_options_is_kept(tmp_path: Path):
    build(str(tmp_path / "x"), [2])
    out = str(tmp_path / "selection.parquet")
    curate([str(tmp_path / "x")], out, CurateConfig(top_k=1))
    before = Path(out).read_bytes()
    with pytest.raises(DatasetError, match="exists and is not this selection"):
        curate([str(tmp_path / "x")], out, CurateConfig(top_k=2))
    curate([str(tmp_path / "x")], out, CurateConfig(top_k=1))
    assert Path(out).read_bytes() == before
