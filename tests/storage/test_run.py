import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kinescribe.labeling.units import plan_units
from kinescribe.schemas.errors import DatasetError, StoreError, UserError
from kinescribe.storage.run import (
    Run,
    bind,
    num_retries,
    plan_digest,
    planned_units,
    read_plan,
    read_plan_columns,
    read_run,
    write_plan,
)
from tests.tiny_dataset import clip, run_of

CLIPS = [clip(str(index)) for index in range(5)]
RUN = run_of(CLIPS, dynamics="embedded", keyframes={"min_interval": 20, "max_keyframes": 6})


def refusal(dataset: Path, run: Run) -> str:
    with pytest.raises(UserError) as refused:
        bind(str(dataset), run)
    return str(refused.value)


def test_a_run_may_be_bound_again(tmp_path: Path):
    bind(str(tmp_path), RUN)
    before = (tmp_path / "run.json").read_bytes()
    bind(str(tmp_path), RUN)
    assert (tmp_path / "run.json").read_bytes() == before
    assert read_run(str(tmp_path))["fingerprint"] == RUN.fingerprint


def test_another_run_is_refused_with_each_difference(tmp_path: Path):
    bind(str(tmp_path), RUN)
    config = {"keyframes": {"min_interval": 10, "max_keyframes": 6}, "seed": 1}
    message = refusal(tmp_path, replace(RUN, config=config, models={"dynamics": "newer"}))
    assert "config.keyframes.min_interval: 20 → 10" in message
    assert "config.dynamics: embedded → (absent)" in message
    assert "config.seed: (absent) → 1" in message
    assert "models.dynamics: weights-of-tests → newer" in message
    assert "max_keyframes" not in message
    assert "choose another output folder" in message


@pytest.mark.parametrize("change", [{"codec_id": "x"}, {"grid": (4, 4)}, {"plan": "x"}, {"config": {}}])
def test_a_fingerprint_changes_with_all_that_rows_depend_on(change: dict[str, object]):
    assert replace(RUN, **change).fingerprint != RUN.fingerprint


def test_what_changes_no_row_may_change_on_resuming(tmp_path: Path):
    bind(str(tmp_path), replace(RUN, config={"max_reject_rate": 0.1}))
    bind(str(tmp_path), replace(RUN, version="0.0.2", config={"max_reject_rate": 0.9}))


def test_two_runs_cannot_both_bind_a_folder(tmp_path: Path):
    def attempt(seed: int) -> bool:
        try:
            bind(str(tmp_path), replace(RUN, config={"seed": seed}))
        except DatasetError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_passwords_and_signatures_stay_out_of_the_folder(tmp_path: Path):
    secret = "https://me:hunter2@host/model?X-Signature=abc123&token=def456#top"
    bind(str(tmp_path), replace(RUN, config={"dynamics": secret}))
    text = (tmp_path / "run.json").read_text()
    assert not any(word in text for word in ("hunter2", "abc123", "def456"))
    assert "https://***@host/model?***&***#top" in text
    signed_anew = secret.replace("abc123", "xyz789")
    bind(str(tmp_path), replace(RUN, config={"dynamics": signed_anew}))


def test_a_folder_with_data_of_nobody_is_refused(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.parquet").write_bytes(b"precious")
    assert "choose an empty folder" in refusal(tmp_path, RUN)
    assert not (tmp_path / "run.json").exists()


def test_a_readme_that_is_no_datasets_is_not_replaced(tmp_path: Path):
    (tmp_path / "README.md").write_text("mine")
    assert "holds a README.md but no run.json; choose an empty folder" in refusal(tmp_path, RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_another_input_is_called_so(tmp_path: Path):
    bind(str(tmp_path), RUN)
    message = refusal(tmp_path, replace(RUN, plan=plan_digest(CLIPS[1:])))
    assert "the input: its files, classes, windows or their order are not those" in message
    assert RUN.plan not in message


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '"text"',
        "\x00",
        "[" * 100_000,
        '{"version": "1", "fingerprint": "x", "identity": {}}',
        '{"version": "1", "fingerprint": [], "identity": {"plan": "", "codec.id": "", "codec.grid": [1, 1]}}',
        '{"version": "1", "fingerprint": "x", "identity": {"plan": "", "codec.id": "", "codec.grid": 1}}',
    ],
    ids=range(9),
)
def test_a_damaged_run_is_named(tmp_path: Path, content: str):
    (tmp_path / "run.json").write_text(content)
    assert "run.json is damaged" in refusal(tmp_path, RUN)


def test_what_is_no_dataset_is_named(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"it has no run\.json; name the folder that"):
        read_run(str(tmp_path))
    with pytest.raises(DatasetError, match=r"it has no plan/clips\.parquet; name the folder that"):
        read_plan_columns(str(tmp_path), ["clip_id"])


def test_a_run_is_bound_in_an_object_store_too(bucket: str):
    bind(bucket, RUN)
    bind(bucket, RUN)
    with pytest.raises(DatasetError, match="belongs to another run"):
        bind(bucket, replace(RUN, plan="other"))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, bucket: str):
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be written" in refusal(tmp_path / "file" / "dataset", RUN)
    with pytest.raises(StoreError, match="bucket does not exist"):
        bind(f"{bucket}-never", RUN)


def test_a_plan_is_read_back_unit_by_unit(tmp_path: Path):
    clips = [*CLIPS, replace(clip("w"), action_class=None, start_s=1.5, end_s=2.0, size_bytes=None)]
    units = plan_units(clips, 4, "fingerprint")
    write_plan(str(tmp_path), units)
    assert list(read_plan(str(tmp_path))) == units
    assert read_plan_columns(str(tmp_path), ["clip_id"])["clip_id"].to_pylist() == [c.clip_id for c in clips]


def test_a_plan_longer_than_a_batch_is_read_back_whole(tmp_path: Path):
    # More units than UNITS_PER_BATCH, and units that span the boundary of a batch of the reader's.
    units = plan_units([clip(str(index)) for index in range(15_000)], 3, "fingerprint")
    write_plan(str(tmp_path), units)
    assert list(read_plan(str(tmp_path))) == units


def test_a_retry_has_a_plan_of_its_own(tmp_path: Path):
    first, again, once_more = (plan_units(CLIPS, 2, name) for name in ("first", "again", "once more"))
    write_plan(str(tmp_path), first)
    assert num_retries(str(tmp_path)) == 0
    write_plan(str(tmp_path), again[:1], retry=1)
    write_plan(str(tmp_path), once_more, retry=1)
    assert num_retries(str(tmp_path)) == 1
    assert list(read_plan(str(tmp_path))) == first
    assert list(read_plan(str(tmp_path), 1)) == again[:1]
    assert planned_units(str(tmp_path)) == {**{unit.unit_id: 0 for unit in first}, again[0].unit_id: 1}


def test_the_first_plan_stays(tmp_path: Path):
    first, second = plan_units(CLIPS, 2, "first"), plan_units(CLIPS, 2, "second")
    write_plan(str(tmp_path), first)
    write_plan(str(tmp_path), second)
    assert list(read_plan(str(tmp_path))) == first


def test_a_plan_of_no_clips_is_a_plan(tmp_path: Path):
    write_plan(str(tmp_path), [])
    assert list(read_plan(str(tmp_path))) == []


def test_a_corpus_may_move_but_not_change():
    moved = [replace(clip, uri=f"/elsewhere/{clip.uri}", size_bytes=None) for clip in CLIPS]
    assert plan_digest(moved) == plan_digest(CLIPS)
    assert plan_digest(CLIPS[::-1]) != plan_digest(CLIPS)
    assert plan_digest(CLIPS[:-1]) != plan_digest(CLIPS)
    assert plan_digest([replace(CLIPS[0], action_class="run"), *CLIPS[1:]]) != plan_digest(CLIPS)


def test_the_identity_survives_json():
    assert json.loads(json.dumps(RUN.identity)) == RUN.identity


def test_a_plan_whose_pages_are_damaged_is_refused_with_what_to_do(tmp_path: Path):
    write_plan(str(tmp_path), plan_units(CLIPS, 2, "run"))
    plan = tmp_path / "plan" / "clips.parquet"
    plan.write_bytes(plan.read_bytes().replace(b"\x28\xb5\x2f\xfd", b"zstd"))  # how its pages begin
    for read in (read_plan, planned_units, lambda dataset: read_plan_columns(dataset, ["uri"])):
        with pytest.raises(DatasetError, match="restore it from a backup"):
            list(read(str(tmp_path)))


@pytest.mark.parametrize("plan", [b"junk", b""])
def test_a_damaged_plan_is_refused_with_what_to_do(tmp_path: Path, plan: bytes):
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "clips.parquet").write_bytes(plan)
    for read in (lambda: list(read_plan(str(tmp_path))), lambda: read_plan_columns(str(tmp_path), ["uri"])):
        with pytest.raises(DatasetError, match="restore it from a backup"):
            read()
