"""What a labelling run is expected to take and give, and what machines for it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from kinescribe.schemas.config import Config
from kinescribe.schemas.rendering import (
    BLUE,
    DURATIONS,
    ORANGE,
    SIZES,
    Figure,
    Table,
    measure,
    panels,
    unit_of,
)


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # to Python, a boolean is a number
    return value


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]
Price = Annotated[Number, Field(ge=0, le=1e6)]
"""The bounds of a machine's values are far above real ones. They catch slips and keep sums finite."""


def _not_blank(name: str) -> str:
    if not name.strip():
        raise ValueError("a machine's name must not be blank; give it one")
    return name.strip()


class Machine(Config):
    """A kind of machine that can be rented, with its prices."""

    name: Annotated[str, AfterValidator(_not_blank)]
    cpus: Annotated[Whole, Field(gt=0, le=100_000)]
    gpus: Annotated[Whole, Field(ge=0, le=1000)]
    memory_gib: Annotated[Number, Field(gt=0, le=1e6)]
    boot_minutes: Annotated[Number, Field(ge=0, le=1e4)]
    """Minutes from the request until Ray runs on it."""
    price_per_hour: Price
    spot_price_per_hour: Price | None = None
    interruptions_per_hour: Annotated[Number, Field(ge=0, le=1e4)] | None = None
    """How often a spot machine is interrupted, per hour."""

    @property
    def offered_as(self) -> dict[bool, str]:
        """Its names in a plan, by whether it is a spot machine."""
        return {False: self.name} | ({} if self.spot_price_per_hour is None else {True: f"{self.name}, spot"})

    @model_validator(mode="after")
    def _spot_is_whole(self) -> Self:
        if (self.spot_price_per_hour is None) != (self.interruptions_per_hour is None):
            raise ValueError("give both spot_price_per_hour and interruptions_per_hour, or neither")
        return self


class Machines(Config):
    """The file of `kinescribe plan --machines`."""

    machines: tuple[Machine, ...]

    @model_validator(mode="after")
    def _there_are_some(self) -> Self:
        # A bound of the field would count only valid entries, and so report an invalid one twice.
        if not self.machines:
            raise ValueError("machines: give at least 1 machine, got an empty list")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = Counter(name for machine in self.machines for name in machine.offered_as.values())
        if twice := [name for name, num in names.items() if num > 1]:
            raise ValueError(
                f"machines: each needs another name, got {', '.join(map(repr, twice))} more than once"
            )
        return self


@dataclass(frozen=True, slots=True)
class Interval:
    """An expected number and its 95 % interval."""

    expected: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a whole run takes and gives, estimated from a sample of its clips.

    `stage_s` are the total seconds of each stage on one core; of labelling on one GPU if `gpu`.
    """

    fingerprint: str
    """The fingerprint of the planned run."""
    clips: int
    units: int
    sampled: int
    """The number of clips in the sample."""
    rejected: float
    """The expected share of rejected clips."""
    triplets: Interval
    size_bytes: int
    stage_s: Mapping[str, float]
    gpu: bool
    card_bytes: int
    """Memory of the GPU that labelled the sample, or a default if none did."""
    model_bytes: int
    """The size of the model's weights."""
    startup_s: float
    """Seconds until the models are loaded, on a running machine."""

    def tables(self) -> Iterable[Table]:
        """What the run gives and takes."""
        low, high = f"{self.triplets.low:,}", f"{self.triplets.high:,}"
        stages = [
            (stage, *measure(seconds, DURATIONS), f"of one {self._worker(stage)}")
            for stage, seconds in self.stage_s.items()
        ]
        yield Table(
            [
                ("clips", f"{self.clips:,}", "", f"of which {self.sampled:,} were labelled"),
                ("triplets", f"{self.triplets.expected:,}", "", f"{low} to {high} (95 %)"),
                ("rejected clips", f"{self.rejected:.1%}", "", ""),
                ("storage", *measure(self.size_bytes, SIZES), ""),
                *stages,
            ]
        )

    def _worker(self, stage: str) -> str:
        return "GPU" if stage == "label" and self.gpu else "core"


@dataclass(frozen=True, slots=True)
class Offer:
    """A number of machines of one kind, and the hours and the cost in which they label everything."""

    machine: str
    spot: bool
    count: int
    hours: float
    cost: float
    bottleneck: str
    """The stage that limits the speed."""


@dataclass(frozen=True, slots=True)
class CostPlan:
    """An estimate, the time on the machine that made it, and offers of other machines."""

    estimate: Estimate
    here_hours: float
    bottleneck: str
    offers: tuple[Offer, ...]
    left_out: Mapping[str, str]
    """Machines without an offer, and the reason."""

    def tables(self) -> Iterable[Table]:
        """The estimate, then what each kind of machine takes and costs."""
        here = (*measure(3600 * self.here_hours, DURATIONS), f"most of it to {self.bottleneck}")
        for table in self.estimate.tables():
            yield Table([*table.rows, ("on this machine", *here)])
        if self.offers:
            yield Table([_offer_row(offer) for offer in self.offers], "machines", _OFFER)
        if self.left_out:
            yield Table([(f"{name}: {why}",) for name, why in self.left_out.items()], "without an offer")

    def draw(self, figure: Figure) -> None:
        """The work of each stage and, if there are offers, the time and cost of each."""
        stages, *others = panels(figure, 2, 10.0) if self.offers else panels(figure, 1, 5.0)
        stage_s = self.estimate.stage_s
        unit, unit_s = ("hours", 3600) if sum(stage_s.values()) >= 3600 else ("seconds", 1)
        bars = stages.bar(list(stage_s), [seconds / unit_s for seconds in stage_s.values()], color=BLUE)
        stages.bar_label(bars, fmt="%.3g")
        stages.set(ylabel=f"{unit} of one core" + (", to label of one GPU" if self.estimate.gpu else ""))
        for costs in others:
            self._draw_offers(costs)

    def _draw_offers(self, costs: Any) -> None:
        for offer in self.offers:
            colour, marker = (ORANGE, "o") if offer.spot else (BLUE, "s")
            costs.scatter(offer.hours, offer.cost, color=colour, marker=marker)
            name = f" {offer.count:,} {offer.machine}{', spot' if offer.spot else ''}"
            costs.annotate(name, (offer.hours, offer.cost), fontsize=8)
        costs.set(xlabel="hours until all is done", ylabel="cost")
        costs.set_xlim(0, 1.5 * max(offer.hours for offer in self.offers))  # room for the names
        costs.set_ylim(0, 1.1 * max(offer.cost for offer in self.offers) or 1.0)


_OFFER = ("machine", "", "number", "time", "", "cost", "bottleneck")


def _offer_row(offer: Offer) -> tuple[str, ...]:
    size, unit = unit_of(3600 * offer.hours, DURATIONS)
    return (
        offer.machine,
        "spot" if offer.spot else "on demand",
        f"{offer.count:,}",
        f"{3600 * offer.hours / size:.2f}",
        unit,
        f"{offer.cost:,.2f}",
        offer.bottleneck,
    )
