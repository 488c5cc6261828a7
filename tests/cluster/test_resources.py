import math

import pytest

from cluster.resources import ClusterResources, plan_pools
from schemas.config import Resources

GIB = 1 << 30
LAPTOP = ClusterResources(2, 0, 8 * GIB)


def plan(cpus, gpus=0, memory_gib=256, num_units=1000, **resources):
    return plan_pools(ClusterResources(cpus, gpus, memory_gib * GIB), Resources(**resources), num_units)


@pytest.mark.parametrize("cpus", [0.5, 1, 2, 3, 7, 16, 64, 500])
@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_all_pools_fit_at_once(cpus, gpus):
    pools = plan(cpus, gpus)
    claimed = sum(pool.workers * pool.cpus for pool in (pools.decode, pools.label, pools.write))
    assert claimed <= cpus + 1e-9
    assert pools.label.workers * pools.label.gpus <= gpus
    assert all(pool.workers >= 1 and pool.cpus > 0 for pool in (pools.decode, pools.label, pools.write))


def test_more_workers_than_cores_still_fit():
    pools = plan(2, decode_workers=8, label_workers=4)
    assert (pools.decode.workers, pools.label.workers) == (8, 4)
    assert 8 * pools.decode.cpus + 4 * pools.label.cpus + pools.write.workers * pools.write.cpus <= 2


def test_claims_are_of_a_precision_that_ray_keeps():
    claim = plan(7).decode.cpus
    assert math.isclose(round(claim, 4), claim)


def test_each_gpu_gets_a_label_actor_and_the_cores_decode():
    pools = plan(32, gpus=4)
    assert (pools.label.workers, pools.label.gpus, pools.decode.workers) == (4, 1.0, 27)


def test_a_gpu_is_shared_where_more_label_actors_are_asked_for():
    assert plan(32, gpus=2, label_workers=4).label.gpus == 0.5


def test_without_a_gpu_the_cores_label():
    pools = plan(16)
    assert (pools.label.workers, pools.label.threads, pools.label.gpus) == (16, 1, 0.0)


def test_little_memory_gives_few_label_actors_with_more_threads():
    pools = plan(16, memory_gib=9)
    assert (pools.label.workers, pools.label.threads) == (4, 4)


def test_few_units_get_few_actors():
    pools = plan(16, num_units=1)
    assert (pools.decode.workers, pools.label.workers, pools.label.threads) == (1, 1, 16)


def test_a_plan_says_why():
    reason = plan_pools(LAPTOP, Resources(), 9).reason
    assert reason.startswith("2 cores, 0 GPUs, 8 GiB, 9 units: 1 to decode, 2 to label with 1 threads each")
