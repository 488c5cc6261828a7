from dataclasses import replace
from random import Random

import pytest

from kinescribe.cluster.planning import (
    MeasuredUnit,
    Stratum,
    clip_sizes,
    draw_sample,
    expected_triplets,
    fewest_machines,
    machine_hours,
    plan_run,
    scaled,
    working_time,
)
from kinescribe.cluster.resources import ClusterResources
from kinescribe.schemas.clips import Clip
from kinescribe.schemas.estimate import Estimate, Interval, Machine

GIB = 1 << 30
ESTIMATE = Estimate(
    fingerprint="run",
    clips=160,
    units=10,
    sampled=32,
    rejected=0.0,
    triplets=Interval(800, 700, 900),
    size_bytes=10**9,
    stage_s={"decode": 3600.0, "label": 32400.0, "write": 0.0},
    gpu=False,
    card_bytes=16 * GIB,
    model_bytes=0,
    startup_s=0.0,
)
MACHINE = Machine(
    name="small",
    cpus=1,
    gpus=0,
    memory_gib=64,
    boot_minutes=6,
    price_per_hour=2,
    spot_price_per_hour=1,
    interruptions_per_hour=0.5,
)
HERE = ClusterResources(1, 0, 64 * GIB)


def offers(machine=MACHINE, deadline_h=None, estimate=ESTIMATE):
    """By whether the machine is a spot one: number, hours and cost."""
    plan = plan_run(estimate, HERE, [machine], deadline_h)
    found = {offer.spot: (offer.count, round(offer.hours, 3), round(offer.cost, 3)) for offer in plan.offers}
    return found, dict(plan.left_out)


def test_a_sample_has_the_same_share_of_each_size():
    strata = draw_sample([float(size) for size in range(100)], 20, seed=0)
    assert [(stratum.num_clips, len(stratum.sampled)) for stratum in strata] == [(25, 5)] * 4
    for first, stratum in zip((0, 25, 50, 75), strata, strict=True):
        assert len(set(stratum.sampled)) == 5
        assert set(stratum.sampled) <= set(range(first, first + 25))


def test_a_sample_is_drawn_by_its_seed():
    sizes = [1.0] * 100
    assert draw_sample(sizes, 20, seed=0) == draw_sample(sizes, 20, seed=0)
    assert draw_sample(sizes, 20, seed=0) != draw_sample(sizes, 20, seed=1)


@pytest.mark.parametrize("num_clips", [1, 2, 7, 23])
def test_a_sample_has_at_most_all_clips(num_clips):
    strata = draw_sample([1.0] * num_clips, 1000, seed=0)
    assert sorted(place for stratum in strata for place in stratum.sampled) == list(range(num_clips))
    assert all(stratum.weight == 1 for stratum in strata)


def test_a_window_has_a_share_of_its_files_bytes():
    windows = [Clip(str(start), "long.mp4", start_s=start, size_bytes=300) for start in (0.0, 60.0, 120.0)]
    assert clip_sizes([*windows, Clip("whole", "short.mp4", size_bytes=50), Clip("unknown", "x.mp4")]) == [
        *[100, 100, 100],
        50,
        0,
    ]


def test_the_expected_triplets_have_students_interval():
    """Of ten clips, two with 1 and 3 were seen; of five clips, all, with four.

    10 x 2 + 4 = 24. The variance is (1 - 2/10) x 10^2 x 2 / 2 = 80, and t for 7 - 2 = 5 is 2.571: 24 +- 23.0;
    eight triplets were seen.
    """
    strata = [Stratum(10, (0, 1)), Stratum(5, (2, 3, 4, 5, 6))]
    found = dict(enumerate([1, 3, 0, 1, 1, 1, 1]))
    assert expected_triplets(strata, found) == Interval(24, 8, 47)


def test_a_sample_of_equal_clips_leaves_an_interval():
    strata = [Stratum(1000, (0, 1, 2))]
    assert expected_triplets(strata, dict.fromkeys(range(3), 4)) == Interval(4000, 2568, 5432)
    assert expected_triplets(strata, dict.fromkeys(range(3), 0)).high == 1432


def test_a_sample_of_all_clips_has_no_interval():
    assert expected_triplets([Stratum(3, (0, 1, 2))], {0: 0, 1: 5, 2: 1}) == Interval(6, 6, 6)


def test_values_of_units_are_scaled_by_the_weights_of_their_clips():
    strata = [Stratum(10, (0, 1)), Stratum(4, (2, 3))]
    units = [MeasuredUnit((0, 1), {"label": 3.0}), MeasuredUnit((1, 2), {"label": 1.0, "rejected": 2})]
    assert scaled(strata, units) == {"label": 3.0 * 5 + 1.0 * 3.5, "rejected": 7.0}


def test_without_gpus_the_cores_are_the_bottleneck():
    """Four cores: 4 actors label, 2 decode. 408 s of work take 102 s, more than the 80 s of two rounds."""
    estimate = replace(ESTIMATE, units=8, stage_s={"decode": 80.0, "label": 320.0, "write": 8.0})
    assert working_time(estimate, ClusterResources(4, 0, 64 * GIB)) == (102 + 11, "label")


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [(16, 2, (50 * 10 + 14, "label")), (2, 1, (100 * 13 + 11, "decode"))],
)
def test_with_gpus_the_slowest_pool_is_the_bottleneck(cpus, gpus, expected):
    stage_s = {"decode": 1300.0, "label": 1000.0, "write": 100.0}
    estimate = replace(ESTIMATE, units=100, stage_s=stage_s, gpu=True)
    assert working_time(estimate, ClusterResources(cpus, gpus, 64 * GIB)) == expected


def test_the_time_on_this_machine_includes_start_up():
    plan = plan_run(replace(ESTIMATE, startup_s=360.0), HERE, [], None)
    assert (round(plan.here_hours, 3), plan.bottleneck) == (10.2, "label")


def test_a_spot_machine_pays_for_lost_work():
    """10.1 h of work after 0.1 h of booting. An interruption loses a unit's hour and 0.1 h: 0.45 is left."""
    found, left_out = offers()
    assert found == {False: (1, 10.2, 20.4), True: (1, 22.544, 22.544)}
    assert left_out == {}


def test_a_deadline_gets_the_fewest_machines_that_keep_it():
    assert offers(deadline_h=10.2)[0][False] == (1, 10.2, 20.4)
    assert offers(deadline_h=6)[0][False] == (2, 5.2, 20.8)
    assert offers(deadline_h=5.1)[0][False][0] == 3


def some_estimate(random, gpu):
    seconds = {
        stage: random.choice([10.0, 1000.0, 3600.0, 40000.0]) for stage in ("decode", "label", "write")
    }
    model_bytes = random.choice([0, 10, 30]) * GIB
    units = random.randint(1, 40)
    return replace(
        ESTIMATE, units=units, stage_s=seconds, gpu=gpu, card_bytes=80 * GIB, model_bytes=model_bytes
    )


def some_machine(random, gpu):
    """With memory for one label actor or for several, or too little for one."""
    cpus, gpus = random.randint(1, 20), random.randint(1, 3) if gpu else 0
    memory_gib = random.choice([8.0, 34.0, 50.0, 200.0])
    return MACHINE.model_copy(update={"cpus": cpus, "gpus": gpus, "memory_gib": memory_gib})


@pytest.mark.parametrize("seed", range(40))
def test_the_fewest_machines_are_found_even_if_one_more_costs_time(seed):
    random = Random(seed)
    estimate, machine = (some(random, gpu=seed % 2 == 1) for some in (some_estimate, some_machine))
    rate = random.choice([0.0, 0.01])
    hours = [machine_hours(estimate, machine, count, rate) for count in range(1, estimate.units + 1)]
    for deadline_h in (*hours, min(hours) * 0.999):
        fewest = next((count for count, took in enumerate(hours, 1) if took <= deadline_h), None)
        assert fewest_machines(estimate, machine, rate, deadline_h) == fewest


def test_a_deadline_before_a_unit_is_done_cannot_be_kept():
    found, left_out = offers(deadline_h=0.5)
    assert found == {}
    assert left_out["small"] == "even the largest number takes 1.2 hours"


def test_a_machine_that_is_interrupted_before_it_finishes_a_unit_gets_no_offer():
    found, left_out = offers(MACHINE.model_copy(update={"interruptions_per_hour": 1.0}))
    assert found.keys() == {False}
    assert left_out == {"small, spot": "it is interrupted more often than it finishes a unit"}


def test_machines_without_a_measurement_are_not_offered():
    _, left_out = offers(MACHINE.model_copy(update={"gpus": 1, "spot_price_per_hour": None}))
    assert left_out["small"] == "the sample was labelled without a GPU; plan on such a machine"
    _, left_out = offers(estimate=replace(ESTIMATE, gpu=True))
    assert left_out["small"] == "the sample was labelled on a GPU; plan on such a machine"


def test_a_machine_with_too_little_memory_is_not_offered():
    small = MACHINE.model_copy(update={"memory_gib": 4.0})
    found, left_out = offers(small, estimate=replace(ESTIMATE, model_bytes=14 * GIB))
    assert found == {}
    why = "labelling needs 16.0 GiB of memory, and it has 4.0 GiB"
    assert left_out == {"small": why, "small, spot": why}
    assert offers(small)[0]
    assert offers(MACHINE.model_copy(update={"memory_gib": 1e-9}))[0] == {}


def test_a_machine_with_too_little_gpu_memory_is_not_offered():
    estimate = replace(ESTIMATE, gpu=True, card_bytes=80 * GIB, model_bytes=140 * GIB)
    one, three = (MACHINE.model_copy(update={"cpus": 16, "gpus": num}) for num in (1, 3))
    found, left_out = offers(one, estimate=estimate)
    assert found == {}
    assert left_out["small"] == "the model needs 177.0 GiB of GPU memory, and it has 80.0 GiB"
    assert offers(three, estimate=estimate)[0].keys() == {False, True}


def test_a_machine_no_smaller_than_the_one_that_labelled_the_sample_holds_the_model():
    """Ray names only some cards, and the size of the others is a guess."""
    estimate = replace(ESTIMATE, gpu=True, model_bytes=14 * GIB)
    machine = MACHINE.model_copy(update={"gpus": 1, "memory_gib": 1.5})
    here = ClusterResources(4, 1, 3 * GIB // 2, machine_gpus=1)
    assert len(plan_run(estimate, here, [machine], None).offers) == 2
