import threading

import pytest
import ray

from kinescribe.cluster.pending_resources import pending_text, report_pending

HEAD = {"memory": 1e9}
WORKER = {"CPU": 4.0, "memory": 1e9}


def test_without_a_pending_claim_there_is_nothing_to_report():
    assert pending_text([], [HEAD]) is None


def test_a_claim_that_no_machine_can_meet_is_named_with_a_remedy():
    text = pending_text([({"CPU": 0.5}, 3)], [HEAD])
    assert text
    assert text.startswith("the run waits for 3 × (0.5 CPU), and no machine of the cluster has that much")
    assert "`ray status`" in text


def test_of_several_claims_only_the_impossible_ones_are_named():
    text = pending_text([({"CPU": 1.0}, 3), ({"CPU": 0.0, "GPU": 1.0}, 2)], [HEAD, WORKER])
    assert text
    assert text.startswith("the run waits for 2 × (0 CPU, 1 GPU), and no machine of the cluster has")


def test_the_sum_of_several_machines_meets_no_claim():
    text = pending_text([({"CPU": 8.0}, 1)], [WORKER, WORKER])
    assert text
    assert "no machine of the cluster" in text


def test_claims_that_wait_for_busy_machines_are_named():
    text = pending_text([({"CPU": 4.0}, 1), ({"CPU": 1.0}, 2)], [WORKER])
    assert text
    assert text.startswith(
        "the run waits for 1 × (4 CPU), 2 × (1 CPU), and the cluster's machines have too little free"
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_pending_claims_are_reported_repeatedly_until_there_is_progress():
    told, twice = list[str](), threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            twice.set()

    class Actor:
        pass

    waits = ray.remote(num_cpus=0, num_gpus=1)(Actor).remote()
    with report_pending(tell, first_s=0.5) as note_progress:
        assert twice.wait(60), told
        note_progress()
    assert all(text.startswith("no progress for ") and "1 × (1 GPU)" in text for text in told)
    ray.kill(waits)
