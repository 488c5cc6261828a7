from pathlib import Path

import pytest

from kinescribe.cluster.estimate import estimate_run
from kinescribe.cluster.label import run_label
from kinescribe.cluster.pipeline import Sessions
from kinescribe.cluster.planning import plan_run
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.errors import ConfigError, DatasetError, InputError
from kinescribe.storage.audit import check, totals
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.estimate import compare, write_estimate
from tests.fake_clips import FakeExtractor

FAKES = Sessions(make_extractor=FakeExtractor)
ONE = Resources(label_workers=1)


def estimate(source, config, num=4, dataset=None):
    return estimate_run(source, config, ONE, num, 0, dataset, FAKES)


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_gives_what_its_sample_promised(ray_here, clips_folder, model_folder, tmp_path):
    source, out = clips_folder(*(f"good{index}" for index in range(10))), str(tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    config = LabelConfig(dynamics=model_folder, clips_per_unit=5)
    planned, here = estimate(source, config, dataset=out)
    assert sorted(tmp_path.rglob("*")) == before
    assert (planned.clips, planned.units, planned.sampled, planned.rejected) == (10, 2, 4, 0)
    assert all(planned.stage_s[stage] > 0 for stage in ("decode", "label", "write"))
    assert plan_run(planned, here, [], None).here_hours > planned.startup_s / 3600

    write_estimate(out, planned)
    status = run_label(source, out, config, ONE, sessions=FAKES)
    dataset = Dataset.open(out)
    compared = compare(dataset, totals(dataset).stage_s)
    assert compared.planned == planned
    assert planned.triplets.low < planned.triplets.expected == status.triplets < planned.triplets.high
    assert compared.stage_s.keys() == {"decode", "label"}
    assert compared.size_bytes == sum(path.stat().st_size for path in Path(out, "data").iterdir())
    assert planned.size_bytes == pytest.approx(compared.size_bytes, rel=0.5)
    assert check(out).problems == []


@pytest.mark.ray
@pytest.mark.slow
def test_a_sample_of_bad_clips_gives_a_plan_with_rejects(ray_here, clips_folder, model_folder):
    source = clips_folder(*(f"bad{index}" for index in range(30)))
    planned, _ = estimate(source, LabelConfig(dynamics=model_folder), num=25)
    assert planned.rejected == pytest.approx(1)
    assert planned.triplets.expected == 0


def test_nothing_to_label_is_refused(model_folder, tmp_path):
    with pytest.raises(InputError, match="contains no video"):
        estimate(str(tmp_path), LabelConfig(dynamics=model_folder))


def test_the_folder_of_another_run_is_refused(clips_folder, model_folder, tmp_path):
    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / "data" / "x.parquet").touch()
    with pytest.raises(DatasetError, match="choose an empty folder"):
        estimate(clips_folder("good"), LabelConfig(dynamics=model_folder), dataset=str(tmp_path / "out"))


def test_a_cluster_is_not_measured(clips_folder, model_folder, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=10\.0\.0\.1:6379: a plan measures one machine"):
        estimate(clips_folder("good"), LabelConfig(dynamics=model_folder))
