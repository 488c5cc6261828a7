"""What a labelling run is expected to take and to give, and what machines for it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from kinescribe.schemas.config import Config


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("Input should be a number")  # as pydantic puts it; to Python, a boolean is one
    return value


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]
Price = Annotated[Number, Field(ge=0, le=1e6)]
"""The bounds of a machine's values lie far above what there is: they keep slips out, and sums finite."""


def _not_blank(name: str) -> str:
    if not name.strip():
        raise ValueError("a machine's name must not be blank; give it one")
    return name.strip()


class Machine(Config):
    """A kind of machine that can be rented, at the prices that the user found for it."""

    name: Annotated[str, AfterValidator(_not_blank)]
    cpus: Annotated[Whole, Field(gt=0, le=100_000)]
    gpus: Annotated[Whole, Field(ge=0, le=1000)]
    memory_gib: Annotated[Number, Field(gt=0, le=1e6)]
    boot_minutes: Annotated[Number, Field(ge=0, le=1e4)]
    """From the request until Ray runs on it."""
    price_per_hour: Price
    spot_price_per_hour: Price | None = None
    interruptions_per_hour: Annotated[Number, Field(ge=0, le=1e4)] | None = None
    """How often a spot machine is taken away, per hour that it runs."""

    @property
    def offered_as(self) -> dict[bool, str]:
        """What it is called in a plan, by whether it is a spot machine."""
        return {False: self.name} | ({} if self.spot_price_per_hour is None else {True: f"{self.name}, spot"})

    @model_validator(mode="after")
    def _spot_is_whole(self) -> Self:
        if (self.spot_price_per_hour is None) != (self.interruptions_per_hour is None):
            raise ValueError("give both spot_price_per_hour and interruptions_per_hour, or none of them")
        return self


class Machines(Config):
    """The file of `kinescribe plan --machines`."""

    machines: tuple[Machine, ...]

    @model_validator(mode="after")
    def _there_are_some(self) -> Self:
        # A bound of the field would count only the entries that are right, and complain of a wrong one twice.
        if not self.machines:
            raise ValueError("machines: give at least 1 machine, got an empty list")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = Counter(name for machine in self.machines for name in machine.offered_as.values())
        if twice := [name for name, num in names.items() if num > 1]:
            raise ValueError(
                f"machines: each needs a name of its own, got {', '.join(map(repr, twice))} more than once"
            )
        return self


@dataclass(frozen=True, slots=True)
class Interval:
    """What is expected of a number, and the 95 % interval around it."""

    expected: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a whole run takes and gives, from a sample of its clips.

    `stage_s` is the seconds that one core (to label, one GPU where `gpu`) would work in all.
    """

    fingerprint: str
    """Of the run that is planned."""
    clips: int
    units: int
    sampled: int
    """Clips in the sample."""
    rejected: float
    """Expected share of the clips."""
    triplets: Interval
    size_bytes: int
    stage_s: Mapping[str, float]
    gpu: bool
    card_bytes: int
    """Memory of the GPU that labelled the sample; where none did, what is taken for that of others."""
    model_bytes: int
    """Size of the model's weights."""
    startup_s: float
    """Until the models are loaded, on a machine that runs."""


@dataclass(frozen=True, slots=True)
class Offer:
    """So many machines of a kind label everything in so many hours, at this cost."""

    machine: str
    spot: bool
    count: int
    hours: float
    cost: float
    bottleneck: str
    """The stage that more or faster machines would have to speed up first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An estimate, the time on the machine that made it, and what others would take."""

    estimate: Estimate
    here_hours: float
    bottleneck: str
    offers: tuple[Offer, ...]
    left_out: Mapping[str, str]
    """Machines that get no offer, and why."""
