import threading

import pytest
import ray

from kinescribe.cluster.pending_resources import waiting_text, waiting_told

HEAD = {"memory": 1e9}
WORKER = {"CPU": 4.0, "memory": 1e9}


def test_where_nothing_is_asked_for_nothing_is_said():
    assert waiting_text([], [HEAD]) is None


def test_what_no_machine_has_is_named_with_what_to_do():
    text = waiting_text([({"CPU": 0.5}, 3)], [HEAD])
    assert text
    assert text.startswith("3 × (0.5 CPU) is waited for on the cluster, and no machine of it has so much")
    assert "`ray status`" in text


def test_of_several_claims_those_are_named_that_no_machine_could_meet():
    text = waiting_text([({"CPU": 1.0}, 3), ({"CPU": 0.0, "GPU": 1.0}, 2)], [HEAD, WORKER])
    assert text
    assert text.startswith("2 × (0 CPU, 1 GPU) is waited for on the cluster, and no machine of it has")


def test_what_the_machines_have_together_but_none_alone_does_not_count():
    text = waiting_text([({"CPU": 8.0}, 1)], [WORKER, WORKER])
    assert text
    assert "no machine of it" in text


def test_what_is_only_not_free_is_said_to_be_so():
    text = waiting_text([({"CPU": 4.0}, 1), ({"CPU": 1.0}, 2)], [WORKER])
    assert text
    assert text.startswith(
        "1 × (4 CPU), 2 × (1 CPU) is waited for on the cluster, whose machines have too little free"
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_it_is_told_again_and_again_until_something_comes_and_never_after():
    told, twice = list[str](), threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            twice.set()

    class Actor:
        pass

    waits = ray.remote(num_cpus=0, num_gpus=1)(Actor).remote()
    with waiting_told(tell, first_s=0.5) as came:
        assert twice.wait(60), told
        came()
    assert all(text.startswith("nothing came for ") and "1 × (1 GPU)" in text for text in told)
    ray.kill(waits)
