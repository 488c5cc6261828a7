import pytest

from schemas.config import load_config
from schemas.errors import ConfigError
from schemas.estimate import Machines

VALUES = {"cpus": "2", "gpus": "0", "memory_gib": "8", "boot_minutes": "1", "price_per_hour": "1"}
SPOT = {"spot_price_per_hour": "0.5", "interruptions_per_hour": "0.1"}


def entry(**values: str) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in (VALUES | values).items()) + "}"


def refusal(*entries: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_config(Machines, f"machines: [{', '.join(entries)}]")
    return str(refused.value)


def test_machines_of_one_name_are_refused_by_that_name():
    refused = refusal(entry(name="big"), entry(name="small"), entry(name="' big'"))
    assert refused.endswith("machines: each needs a name of its own, got 'big' more than once")


def test_no_machine_is_called_as_another_ones_spot_machine():
    assert "got 'big, spot' more than once" in refusal(entry(name="big", **SPOT), entry(name="'big, spot'"))
    assert load_config(Machines, f"machines: [{entry(name='big')}, {entry(name=repr('big, spot'))}]")


@pytest.mark.parametrize("name", ["''", "'  '"])
def test_a_machine_without_a_name_is_refused(name: str):
    assert "machines.0.name: a machine's name must not be blank; give it one" in refusal(entry(name=name))
    assert refusal(entry(name=name)).endswith(f"got {name}")
