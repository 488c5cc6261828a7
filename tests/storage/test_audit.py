import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinescribe.labeling.units import plan_units
from kinescribe.reports.report import write_report
from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.likelihoods import NUM_BINS
from kinescribe.schemas.outcomes import DropReason, RejectCode
from kinescribe.storage.audit import CheckResult, DatasetStatus, RejectedClip, check, rejects, status
from kinescribe.storage.card import write_card
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import read_plan, write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.shards import FOOTER_KEY, rows_digest, unit_uri, write_unit
from tests.tiny_dataset import Ending, build, clip, commit, outcome, row, run_of, table

ENDINGS = [2, DropReason.STATIC, RejectCode.TIMEOUT, 1, RejectCode.TIMEOUT, DropReason.FEW_KEYFRAMES, 3]
REASONS = {"few_keyframes": 1, "static": 1, "timeout": 2}


def problems(dataset: Path) -> list[str]:
    found = check(str(dataset))
    assert found.ok == (not found.problems)
    return found.problems


def test_every_clip_is_counted_once(tmp_path: Path):
    build(str(tmp_path), ENDINGS)
    assert status(str(tmp_path)) == DatasetStatus(
        clips=7, kept=3, dropped=2, rejected=2, pending=0, triplets=6, reasons=REASONS
    )
    assert check(str(tmp_path)) == CheckResult(ok=True, clips=7, triplets=6, problems=[])


def test_status_has_the_keys_that_machines_rely_on(tmp_path: Path):
    build(str(tmp_path), ENDINGS)
    found = json.loads(json.dumps(dataclasses.asdict(status(str(tmp_path)))))
    assert list(found) == [
        "clips",
        "kept",
        "dropped",
        "rejected",
        "pending",
        "triplets",
        "reasons",
        "familiarity",
    ]
    assert list(dataclasses.asdict(check(str(tmp_path)))) == ["ok", "clips", "triplets", "problems", "frames"]


@pytest.mark.parametrize(("place", "unlike"), [(0, 1.0), (NUM_BINS - 1, 0.0)])
def test_status_card_and_report_say_how_familiar_the_clips_are_to_the_model(
    tmp_path: Path, place: int, unlike: float
):
    """The rows of `build` have 0, 0.25 and so on per token: all others lie between the ends."""
    usual = tuple(100 if index == place else 0 for index in range(NUM_BINS))
    dataset = str(tmp_path / "d")
    build(dataset, [30], likelihoods=usual)
    found = status(dataset).familiarity
    assert found is not None
    assert found.unlike == pytest.approx(unlike, abs=0.1)
    write_card(dataset)
    write_report(dataset, str(tmp_path / "page.html"))
    for text in ((tmp_path / "d" / "README.md").read_text(), (tmp_path / "page.html").read_text()):
        assert ("hese clips look unlike what this model knows" in text) == (unlike > 0.5)


def test_clips_of_units_that_are_not_there_are_pending(tmp_path: Path):
    build(str(tmp_path), ENDINGS, pending=2)
    found = status(str(tmp_path))
    assert (found.kept, found.dropped, found.rejected, found.pending) == (2, 1, 1, 3)
    assert problems(tmp_path) == ["3 of 7 clips are pending; run the same command again to resume"]


def test_a_run_that_committed_nothing_is_all_pending(tmp_path: Path):
    build(str(tmp_path), ENDINGS, pending=4)
    assert status(str(tmp_path)).pending == 7


def test_a_dataset_in_an_object_store_is_audited(bucket: str):
    build(bucket, ENDINGS)
    assert status(bucket).reasons == REASONS
    assert check(bucket).ok


def test_a_folder_that_is_not_a_dataset_is_refused(tmp_path: Path):
    for audit in (status, check):
        with pytest.raises(DatasetError, match="is not a Kinescribe dataset"):
            audit(str(tmp_path))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, bytes]:
    """A dataset, an object in it to damage, and the object's bytes."""
    dataset = tmp_path_factory.mktemp("dataset")
    path = Path(unit_uri(str(dataset), build(str(dataset), [2, 1])[0].unit_id))
    return dataset, path, path.read_bytes()


@settings(max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_that_flips_is_found_unless_it_changes_no_row(
    damaged: tuple[Path, Path, bytes], place: float, bit: int
):
    dataset, path, whole = damaged
    before, data = pq.read_table(pa.BufferReader(whole)), bytearray(whole)
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[4 + int(place * (end - 4))] ^= 1 << bit
    path.write_bytes(data)
    # Some bits mean nothing, as those that pad a packed run.
    assert len(problems(dataset)) == 1 or pq.read_table(path).equals(before)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_object_is_found(tmp_path: Path, keep: float):
    path = Path(unit_uri(str(tmp_path), build(str(tmp_path), ENDINGS)[0].unit_id))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    (problem,) = problems(tmp_path)
    assert path.name in problem
    with pytest.raises(DatasetError, match=path.name):
        status(str(tmp_path))


def test_a_unit_under_another_units_name_is_found(tmp_path: Path):
    first, second, *_ = (unit_uri(str(tmp_path), unit.unit_id) for unit in build(str(tmp_path), ENDINGS))
    shutil.copy(first, second)
    assert any("it is the object of unit" in problem for problem in problems(tmp_path))
    assert any("its outcomes are not those" in problem for problem in problems(tmp_path))


def test_rows_that_were_changed_by_hand_are_found(tmp_path: Path):
    path = unit_uri(str(tmp_path), build(str(tmp_path), ENDINGS)[0].unit_id)
    rows = pq.read_table(path)
    footer = pq.read_metadata(path).metadata
    pq.write_table(rows.slice(1).replace_schema_metadata({**rows.schema.metadata, **footer}), path)
    (problem,) = problems(tmp_path)
    assert "do not have the digest" in problem


def rewrite(path: str, rows: pa.Table, footer: Mapping[str, object]) -> None:
    metadata = {**rows.schema.metadata, FOOTER_KEY: json.dumps(footer)}
    pq.write_table(rows.replace_schema_metadata(metadata), path)


NOT_UTF_8 = pa.array([b"\xff", b"a"], pa.binary()).view(pa.string())
FORGED = {
    "triplet_id": (["../../a", "/b"], "is not 32 hexadecimal digits"),
    "source_codes": ([[1]] * 2, "has 1 values in a row"),
    "importance": ([[float("nan")] * 6] * 2, "negative or no finite numbers"),
    "source": ([{"bytes": None, "path": None}] * 2, "source is missing in a row"),
    "action": (NOT_UTF_8, "Invalid UTF8"),
}


@pytest.mark.parametrize("column", FORGED)
def test_forged_rows_with_the_right_digest_are_found_and_refused(tmp_path: Path, column: str):
    path = unit_uri(str(tmp_path), build(str(tmp_path), ENDINGS)[0].unit_id)
    rows, footer = pq.read_table(path), json.loads(pq.read_metadata(path).metadata[FOOTER_KEY])
    values, said = FORGED[column]
    place, field = rows.schema.get_field_index(column), rows.schema.field(column)
    array = values if isinstance(values, pa.Array) else pa.array(values, field.type)
    forged = rows.set_column(place, field, array)
    rewrite(path, forged, {**footer, "digest": rows_digest(forged)})
    assert any(said in problem for problem in problems(tmp_path))
    with pytest.raises(DatasetError, match=said):
        Dataset.open(tmp_path).scan().to_table()
    with pytest.raises(DatasetError, match=said):
        Dataset.open(tmp_path).read_unit(Path(path).stem)


def test_an_outcome_that_promises_other_rows_is_found(tmp_path: Path):
    path = unit_uri(str(tmp_path), build(str(tmp_path), ENDINGS)[0].unit_id)
    rows, footer = pq.read_table(path), json.loads(pq.read_metadata(path).metadata[FOOTER_KEY])
    footer["outcomes"][0]["num_triplets"] += 1
    rewrite(path, rows, footer)
    said = f"clip {footer['outcomes'][0]['clip_id']} has 2 rows, its outcome says 3"
    assert problems(tmp_path) == [f"data/{Path(path).name}: {said}"]


def test_a_unit_that_lacks_a_column_is_found(tmp_path: Path):
    path = unit_uri(str(tmp_path), build(str(tmp_path), ENDINGS)[0].unit_id)
    rows, footer = pq.read_table(path), json.loads(pq.read_metadata(path).metadata[FOOTER_KEY])
    fewer = rows.drop_columns(["clip_id"])
    rewrite(path, fewer, {**footer, "digest": rows_digest(fewer)})
    assert problems(tmp_path) == [f"data/{Path(path).name}: it lacks clip_id"]


def test_a_triplet_that_is_there_twice_is_found(tmp_path: Path):
    unit = build(str(tmp_path), [2], pending=1)[0]
    rows = [row(unit.clips[0], 0)] * 2
    write_unit(str(tmp_path), unit, table(rows), [outcome(unit.clips[0], 2)])
    said = f"triplet {rows[0]['triplet_id']} is in it more than once"
    assert problems(tmp_path) == [f"data/{unit.unit_id}.parquet: {said}"]


@pytest.mark.parametrize("name", ["mine.parquet", "half.tmp", ".hidden.parquet", "more/mine.parquet"])
def test_a_foreign_file_is_reported_and_never_read(tmp_path: Path, name: str):
    build(str(tmp_path), ENDINGS)
    before = status(str(tmp_path))
    (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "data" / name).write_bytes(b"anything")
    assert status(str(tmp_path)) == before
    assert problems(tmp_path) == [f"data/{name} is not a unit of this run; move it away"]


def test_another_plan_is_found(tmp_path: Path):
    units = build(str(tmp_path), ENDINGS)
    (tmp_path / "plan" / "clips.parquet").unlink()
    write_plan(str(tmp_path), units[:-1])
    assert "plan/clips.parquet is not the plan that run.json names; restore it from a backup" in problems(
        tmp_path
    )


def retried(dataset: str, endings: Mapping[str, Ending], retry: int) -> list[WorkUnit]:
    """Plan a retry of the clips with these ids, one per unit."""
    clips = [clip for unit in read_plan(dataset) for clip in unit.clips if clip.clip_id in endings]
    units = plan_units(clips, 1, f"retry {retry}")
    write_plan(dataset, units, retry)
    return units


def test_the_last_try_of_a_clip_says_how_it_ended(tmp_path: Path):
    dataset = str(tmp_path)
    clips = [clip for unit in build(dataset, ENDINGS) for clip in unit.clips]
    endings = {clips[2].clip_id: 2, clips[4].clip_id: RejectCode.CRASHED}
    first, second = retried(dataset, endings, 1)
    assert status(dataset).reasons == REASONS
    assert problems(tmp_path) == [
        "2 rejected clips are yet to be tried again; run the same command again to resume"
    ]
    commit(dataset, first, endings)
    found = status(dataset)
    assert (found.kept, found.dropped, found.rejected, found.pending) == (4, 2, 1, 0)
    commit(dataset, second, endings)
    assert status(dataset).reasons == {"crashed": 1, "few_keyframes": 1, "static": 1}
    assert [(one.uri, one.code) for one in rejects(dataset)] == [(clips[4].uri, "crashed")]
    (third,) = retried(dataset, {clips[4].clip_id: 1}, 2)
    commit(dataset, third, {clips[4].clip_id: 1})
    assert status(dataset) == DatasetStatus(
        clips=7,
        kept=5,
        dropped=2,
        rejected=0,
        pending=0,
        triplets=9,
        reasons={"few_keyframes": 1, "static": 1},
    )
    assert Dataset.open(dataset).scan().count_rows() == 9
    assert check(dataset) == CheckResult(ok=True, clips=7, triplets=9, problems=[])


def test_a_reject_has_its_window_and_the_reason(tmp_path: Path):
    one = dataclasses.replace(clip("a"), start_s=1.5, end_s=2.5)
    run = run_of([one])
    (unit,) = plan_units([one], 1, run.fingerprint)
    bind(str(tmp_path), run)
    write_plan(str(tmp_path), [unit])
    write_unit(str(tmp_path), unit, table([]), [outcome(one, RejectCode.TIMEOUT, "took 9 s")])
    assert [*rejects(str(tmp_path))] == [RejectedClip(one.uri, 1.5, 2.5, "timeout", "took 9 s")]


def test_a_plan_that_was_cut_leaves_nothing_negative(tmp_path: Path):
    units = build(str(tmp_path), ENDINGS)
    (tmp_path / "plan" / "clips.parquet").unlink()
    write_plan(str(tmp_path), [WorkUnit(units[0].unit_id, units[0].clips[:1])])
    assert status(str(tmp_path)).pending == 0
    assert not check(str(tmp_path)).ok


@pytest.mark.parametrize("identity", [{}, {"codec.id": "x", "codec.grid": [1, 1]}])
def test_a_run_without_its_plans_digest_is_called_damaged(tmp_path: Path, identity: dict[str, object]):
    build(str(tmp_path), ENDINGS)
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "identity": identity}))
    with pytest.raises(DatasetError, match=r"run\.json is damaged"):
        check(str(tmp_path))


def test_a_foreign_plan_is_reported(tmp_path: Path):
    build(str(tmp_path), ENDINGS)
    (tmp_path / "plan" / "retry-0003.parquet").write_bytes(b"half a plan")
    assert problems(tmp_path) == ["plan/retry-0003.parquet is not a plan of this run; move it away"]


def test_a_clip_that_is_planned_twice_is_found(tmp_path: Path):
    units = build(str(tmp_path / "x"), [1, 2], clips_per_unit=1, pending=2)
    twice = [*units, units[0]]
    bind(str(tmp_path / "y"), run_of([clip for unit in twice for clip in unit.clips]))
    write_plan(str(tmp_path / "y"), twice)
    said = f"1 clips are planned more than once, first {units[0].clips[0].clip_id}"
    assert f"plan/clips.parquet: {said}" in problems(tmp_path / "y")
