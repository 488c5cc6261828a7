import math
import time
from pathlib import Path

import pyarrow as pa
import pytest

from kinescribe.cluster.ray_session import DEFAULTS
from kinescribe.cluster.resources import (
    GIB,
    ClusterResources,
    card_bytes,
    plan_pools,
    units_asked_at_once,
)
from kinescribe.labeling.annotate import Annotator
from kinescribe.models.registry import load_labeller
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.errors import ConfigError
from kinescribe.storage.audit import check, status
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import read_plan
from kinescribe.storage.shards import committed_units
from tests.drivers import BOUNDED, GROWING, TOKEN
from tests.fake_clips import FakeExtractor
from tests.processes import below
from tests.ray_head import ray_head

LAPTOP = ClusterResources(2, 0, 8 * GIB)


def plan(
    cpus,
    gpus=0,
    memory_gib=256,
    num_units=1000,
    model_gib=0,
    card="H100",
    machine_gpus=8,
    grows=False,
    asked=0,
    **resources,
):
    cluster = ClusterResources(cpus, gpus, memory_gib * GIB, card_bytes([card]), machine_gpus, grows)
    return plan_pools(cluster, Resources(**resources), num_units, int(model_gib * GIB), asked)


def pools(plan):
    return plan.decode, plan.label, plan.write


@pytest.mark.parametrize("cpus", [0.5, 1, 2, 3, 7, 16, 64, 500])
@pytest.mark.parametrize("gpus", [0, 1, 8])
@pytest.mark.parametrize("grows", [False, True])
def test_all_pools_fit_at_once(cpus, gpus, grows):
    planned = plan(cpus, gpus, grows=grows)
    assert sum(pool.workers * pool.cpus for pool in pools(planned)) <= cpus + 1e-9
    assert planned.label.workers * planned.label.gpus <= gpus
    assert all(1 <= pool.least <= pool.workers <= pool.most for pool in pools(planned))
    assert planned.decode.cpus > 0
    assert planned.label.cpus > 0 or gpus


def test_more_workers_than_cores_still_fit():
    planned = plan(2, decode_workers=8, label_workers=4)
    assert (planned.decode.workers, planned.label.workers) == (8, 4)
    assert sum(pool.workers * pool.cpus for pool in pools(planned)) <= 2


def test_claims_have_the_precision_that_ray_keeps():
    for pool in pools(plan(7)):
        assert math.isclose(round(pool.cpus, 4), pool.cpus)


def test_a_single_machine_has_pools_of_fixed_size():
    assert all(pool.least == pool.workers == pool.most for pool in (*pools(plan(16)), *pools(plan(16, 2))))


def test_a_growing_cluster_starts_with_what_fits_and_grows_up_to_the_units():
    planned = plan(16, grows=True, num_units=900)
    assert [pool.workers for pool in pools(planned)] == [pool.workers for pool in pools(plan(16))]
    assert {pool.most for pool in pools(planned)} == {900}
    assert planned.decode.least == planned.write.least == 1


def test_on_a_growing_cluster_the_requested_workers_are_a_maximum():
    planned = plan(4, grows=True, decode_workers=50, label_workers=3)
    assert (planned.decode.workers, planned.decode.most) == (2, 50)
    assert (planned.label.workers, planned.label.most) == (3, 3)


def test_the_first_label_actors_stay_and_claim_no_cpu_beside_a_gpu():
    label = plan(64, gpus=8, card="T4", model_gib=6, grows=True).label
    assert (label.workers, label.least, label.most, label.cpus) == (8, 8, 1000, 0)


def test_a_cluster_without_a_machine_starts_with_one_actor_of_each_kind():
    planned = plan(0, memory_gib=0, grows=True)
    assert [pool.workers for pool in pools(planned)] == [1, 1, 1]
    assert (planned.decode.cpus, planned.label.cpus) == (0.5, 1)
    label = plan(0, memory_gib=0, machine_gpus=0, grows=True, label_gpus=1).label
    assert (label.workers, label.cpus, label.gpus) == (1, 0, 1)


def test_more_gpus_than_a_machine_has_are_refused_unless_the_cluster_grows():
    with pytest.raises(ConfigError, match=r"label_gpus must be at most 1, .* got 2"):
        plan(16, gpus=1, label_gpus=2)
    assert plan(16, gpus=1, grows=True, label_gpus=2).label.gpus == 2


@pytest.mark.parametrize(
    ("card", "model_gib", "gpus"),
    [
        ("H100", 0.03, 0.25),
        ("H100", 5, 0.25),
        ("H100", 8, 0.5),
        ("H100", 14, 1),
        ("L4", 14, 1),
        ("T4", 14, 2),
        ("H100", 140, 4),
        ("H100", 1000, 8),  # what a machine has; the rest lies in host memory
        ("nobody's", 1, 0.5),
    ],
)
def test_small_models_share_a_gpu_and_large_ones_get_several(card, model_gib, gpus):
    assert plan(256, gpus=8, model_gib=model_gib, card=card).label.gpus == gpus


def test_a_gpu_is_shared_only_if_each_model_has_cores():
    assert [plan(cores, gpus=1).label.workers for cores in (2, 4, 8, 16, 64)] == [1, 1, 2, 4, 4]


def test_label_actors_fill_the_gpus_and_the_other_cores_decode():
    planned = plan(32, gpus=4, model_gib=14)
    assert (planned.label.workers, planned.label.gpus, planned.decode.workers) == (4, 1.0, 27)
    assert plan(64, gpus=8, model_gib=140).label.workers == 2


@pytest.mark.parametrize(("workers", "gpus"), [(1, 1.0), (2, 1.0), (3, 0.5), (4, 0.5), (5, 0.3333)])
def test_requested_label_actors_share_the_gpus_evenly(workers, gpus):
    label = plan(32, gpus=2, label_workers=workers).label
    assert (label.workers, label.gpus) == (workers, gpus)


def test_without_a_gpu_the_cores_label():
    label = plan(16).label
    assert (label.workers, label.threads, label.gpus) == (16, 1, 0.0)


def test_little_memory_gives_few_label_actors_with_more_threads():
    label = plan(16, memory_gib=9).label
    assert (label.workers, label.threads) == (4, 4)
    assert plan(16, memory_gib=64, model_gib=14).label.workers == 4


@pytest.mark.parametrize(("cpus", "gpus"), [(1, 0), (2, 0), (16, 0), (16, 8)])
def test_label_actors_that_only_ask_a_server_leave_gpus_and_cores_to_others(cpus, gpus):
    planned = plan(cpus, gpus, asked=5)
    assert (planned.label.gpus, planned.label.units_at_once) == (0, 5)
    assert planned.label.workers == max(1, cpus // 4)
    assert planned.decode.workers == max(1, cpus - planned.label.workers - planned.write.workers)
    assert sum(pool.workers * pool.cpus for pool in pools(planned)) <= cpus


def test_units_at_once_hold_more_pairs_than_are_asked_about_at_once():
    assert [units_asked_at_once(*case) for case in ((1, 16), (32, 16), (64, 1), (33, 16))] == [2, 3, 16, 4]


def test_few_units_get_few_actors():
    planned = plan(16, num_units=1)
    assert (planned.decode.workers, planned.label.workers, planned.label.threads) == (1, 1, 16)


def test_a_plan_says_why():
    reason = plan_pools(LAPTOP, Resources(), 9, 13 << 20).reason
    assert reason == (
        "2 cores, 0 GPUs, 8 GiB, 9 units, 14 MB of weights; decoders: 1, models: 2 with 1 thread each, "
        "writers: 1"
    )
    assert "models: 4 (from 4 to 1000) with 0.25 GPUs each" in plan(16, gpus=1, grows=True).reason


def write_files(folder, number):
    folder.mkdir()
    for index in range(number):
        (folder / f"{index:02}.mp4").write_bytes(b"x")
    return str(folder)


def assert_rows_are_those_made_without_ray(dataset, model_folder):
    config = LabelConfig(dynamics=model_folder)
    annotator, extractor = Annotator(*load_labeller(config), config.annotation, 8), FakeExtractor(config, "")
    made = [
        annotator.annotate([extractor.extract(clip) for clip in unit.clips])[0] for unit in read_plan(dataset)
    ]
    both = [
        table.sort_by("triplet_id").to_pylist()
        for table in (Dataset.open(dataset).scan().to_table(), pa.concat_tables(made))
    ]
    for row, expected in zip(*both, strict=True):
        assert row.pop("importance") == pytest.approx(expected.pop("importance"), abs=1e-3)
        assert row == expected


MACHINE = {"node_config": {}, "min_workers": 0, "max_workers": 3}
MACHINES = {
    "decode": MACHINE | {"resources": {"CPU": 2, "object_store_memory": 100 << 20}},
    "label": MACHINE | {"resources": {"GPU": 1, "object_store_memory": 100 << 20}},
}


def num_machines(head):
    """Of the cluster; each has one raylet."""
    return len(below(head.process.pid, r"^\S+/raylet "))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_machines_join_for_a_run_and_leave_after_it(model_folder, start_driver, tmp_path):
    clips = write_files(tmp_path / "clips", 24)
    with ray_head(num_cpus=0, machines=MACHINES) as head:
        token = Path(head.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
        asked = {"RAY_ADDRESS": head.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        asked |= {"RAY_DATA_MIN_GAP_BETWEEN_AUTOSCALING_REQUESTS": "1", **DEFAULTS}
        driver, out, log = start_driver(clips, model_folder, program=GROWING, **asked)
        most = 1
        while driver.poll() is None:
            most = max(most, num_machines(head))
            time.sleep(0.2)
        assert driver.returncode == 0, log.read_text()
        at_first = 3  # the head, one that labels, and one that decodes and writes
        assert most > at_first, log.read_text()
        deadline = time.monotonic() + 60
        while num_machines(head) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert status(out).pending == 0
    assert check(out).problems == []
    assert_rows_are_those_made_without_ray(out, model_folder)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_fast_decoder_waits_when_half_of_the_object_store_is_full(model_folder, start_driver, tmp_path):
    clips = write_files(tmp_path / "clips", 80)
    driver, out, log = start_driver(clips, model_folder, program=BOUNDED, **DEFAULTS, **TOKEN)
    ahead = 0
    while driver.poll() is None:
        num_decoded = len(list(tmp_path.glob("decoded/*")))
        ahead = max(ahead, num_decoded // 2 - len(committed_units(out)))
        time.sleep(0.05)
    assert driver.returncode == 0, log.read_text()
    unit_bytes, at_hand = 2 * (4 << 20), 4  # two for each actor, as one waits for it
    assert 2 < ahead <= (80 << 20) // unit_bytes + at_hand
