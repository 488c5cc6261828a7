import pytest

from kinescribe.schemas.config import load_config
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.estimate import Machines

VALUES = {"cpus": "2", "gpus": "0", "memory_gib": "8", "boot_minutes": "1", "price_per_hour": "1"}
SPOT = {"spot_price_per_hour": "0.5", "interruptions_per_hour": "0.1"}


def entry(**values: str) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in (VALUES | values).items()) + "}"


def refusal(*entries: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_config(Machines, f"machines: [{', '.join(entries)}]")
    return str(refused.value)


def test_machines_with_the_same_name_are_refused():
    refused = refusal(entry(name="big"), entry(name="small"), entry(name="' big'"))
    assert refused.endswith("machines: each needs another name, got 'big' more than once")


def test_no_machine_has_the_name_of_another_spot_machine():
    assert "got 'big, spot' more than once" in refusal(entry(name="big", **SPOT), entry(name="'big, spot'"))
    assert load_config(Machines, f"machines: [{entry(name='big')}, {entry(name=repr('big, spot'))}]")


@pytest.mark.parametrize("name", ["''", "'  '"])
def test_a_machine_without_a_name_is_refused(name: str):
    assert "machines.0.name: a machine's name must not be blank; give it one" in refusal(entry(name=name))
    assert refusal(entry(name=name)).endswith(f"got {name}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("cpus", "100001"), ("cpus", "1.0e+24"), ("gpus", "1001"), ("memory_gib", "1.0e+300")],
        *[("boot_minutes", "1.0e+300"), ("price_per_hour", "1.0e+300"), ("price_per_hour", ".inf")],
        *[("memory_gib", ".nan"), ("spot_price_per_hour", "1000001"), ("interruptions_per_hour", "10001")],
        *[("cpus", "true"), ("gpus", "no"), ("memory_gib", "yes"), ("price_per_hour", "false")],
        *[("cpus", "1" * 5000), ("memory_gib", "-1"), ("memory_gib", "0"), ("cpus", "1.5")],
    ],
)
def test_impossible_values_of_a_machine_are_refused(field: str, value: str):
    refused = refusal(entry(name="big", **(SPOT | {field: value})))
    assert refused.startswith(f"machines.0.{field}: ") or "Exceeds the limit" in refused
    assert len(refused.splitlines()) == 1
