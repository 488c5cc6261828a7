import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kinescribe.schemas.errors import DatasetError, StoreError, UserError
from kinescribe.storage.plan import plan_digest, read_plan
from kinescribe.storage.run import Run, bind, read_run
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


def test_a_value_of_none_differs_from_no_value(tmp_path: Path):
    bind(str(tmp_path), replace(RUN, config={**RUN.config, "codec": None}))
    assert "config.codec: None → (absent)" in refusal(tmp_path, RUN)


def test_a_run_writes_one_file_that_people_can_read_and_says_its_version(tmp_path: Path):
    bind(str(tmp_path), replace(RUN, config={"dynamics": "modèle"}))
    assert {path.name for path in tmp_path.iterdir()} <= {"run.json", ".tmp"}
    text = (tmp_path / "run.json").read_text()
    assert '  "fingerprint": ' in text
    assert "modèle" in text
    assert read_run(str(tmp_path))["version"] == RUN.version


def test_a_file_that_is_larger_than_any_run_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bind(str(tmp_path), RUN)
    monkeypatch.setattr("kinescribe.storage.run.MAX_BYTES", 10)
    with pytest.raises(DatasetError, match=r"run\.json"):
        read_run(str(tmp_path))


@pytest.mark.parametrize("change", [{"codec_id": "x"}, {"grid": (4, 4)}, {"plan": "x"}, {"config": {}}])
def test_a_fingerprint_changes_with_all_that_rows_depend_on(change: dict[str, object]):
    assert replace(RUN, **change).fingerprint != RUN.fingerprint


def test_a_fingerprint_does_not_depend_on_the_order_of_keys():
    assert replace(RUN, config=dict(reversed(RUN.config.items()))).fingerprint == RUN.fingerprint


def test_configuration_that_changes_no_row_may_differ_on_resuming(tmp_path: Path):
    bind(str(tmp_path), replace(RUN, config={"max_reject_rate": 0.1, "roots": []}))
    config = {"max_reject_rate": 0.9, "roots": ["/videos"]}
    bind(str(tmp_path), replace(RUN, version="0.0.2", config=config))


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


def test_a_readme_of_others_is_not_replaced(tmp_path: Path):
    (tmp_path / "README.md").write_text("mine")
    assert "contains a README.md but no run.json; choose an empty folder" in refusal(tmp_path, RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_an_error_says_that_the_input_differs(tmp_path: Path):
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


@pytest.mark.parametrize("value", [None, 3, ["a"], "x" * 1001])
def test_a_model_without_a_fingerprint_is_named(tmp_path: Path, value: object):
    bind(str(tmp_path), RUN)
    record = json.loads((tmp_path / "run.json").read_text())
    record["identity"]["models.dynamics"] = value
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert "run.json is damaged (models.dynamics: " in refusal(tmp_path, RUN)


def test_a_folder_that_is_not_a_dataset_is_named(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"it has no run\.json; name the folder that"):
        read_run(str(tmp_path))
    with pytest.raises(DatasetError, match=r"it has no plan/clips\.parquet; name the folder that"):
        list(read_plan(str(tmp_path)))


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


def test_the_identity_survives_json():
    assert json.loads(json.dumps(RUN.identity)) == RUN.identity
