"""The language of the simulated world: actions as text, and text as actions.

A sentence names one change of an object ("move the red ball left") or of the camera ("pan left"). Camera
words are those of film: if the camera pans left, the image shifts right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kinescribe.simulation.scene import NEW_SHAPES, SHAPES

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
DIRECTIONS = ("left", "right", "up", "down")
CAMERA: dict[str, tuple[str, ...]] = {
    "pan": ("left", "right"),
    "tilt": ("up", "down"),
    "zoom": ("in", "out"),
    "roll": ("left", "right"),
}
OBJECT_VERBS = ("move", "add", "remove", "grow", "shrink", "turn", "paint")
VERBS = (*OBJECT_VERBS, *CAMERA)

_OPPOSITE = {"left": "right", "up": "down", "in": "out"} | {"right": "left", "down": "up", "out": "in"}
_INVERSE_VERB = {"add": "remove", "remove": "add", "grow": "shrink", "shrink": "grow"}
_PATTERN = re.compile(
    r"(?:(?P<move>move) the (?P<o1>\w+ \w+) (?P<d1>left|right|up|down)"
    r"|(?P<add>add) a (?P<o2>\w+ \w+)"
    r"|(?P<remove>remove) the (?P<o3>\w+ \w+)"
    r"|make the (?P<o4>\w+ \w+) (?P<size>bigger|smaller)"
    r"|(?P<turn>turn) the (?P<o5>\w+ \w+)"
    r"|(?P<paint>paint) the (?P<o6>\w+ \w+) (?P<new>\w+)"
    r"|(?P<camera>pan|tilt|zoom|roll) (?P<d2>\w+))"
)


@dataclass(frozen=True, slots=True)
class Action:
    """One change: a verb, its object, and a direction or a new colour."""

    verb: str
    colour: str | None = None
    shape: str | None = None
    direction: str | None = None
    new_colour: str | None = None

    def __str__(self) -> str:
        thing = f"{self.colour} {self.shape}"
        match self.verb:
            case "move":
                return f"move the {thing} {self.direction}"
            case "add":
                return f"add a {thing}"
            case "grow" | "shrink":
                return f"make the {thing} {'bigger' if self.verb == 'grow' else 'smaller'}"
            case "remove" | "turn":
                return f"{self.verb} the {thing}"
            case "paint":
                return f"paint the {thing} {self.new_colour}"
            case _:
                return f"{self.verb} {self.direction}"

    @property
    def is_camera(self) -> bool:
        """Whether the camera moves rather than an object."""
        return self.verb in CAMERA

    @property
    def object(self) -> tuple[str | None, str | None]:
        """Colour and shape of the object, or (None, None) for the camera."""
        return self.colour, self.shape

    def inverse(self) -> Action:
        """The action that undoes this one. Turning is its own inverse."""
        direction = _OPPOSITE.get(self.direction or "", self.direction)
        verb = _INVERSE_VERB.get(self.verb, self.verb)
        if self.verb == "paint":
            return Action(verb, self.new_colour, self.shape, direction, self.colour)
        return Action(verb, self.colour, self.shape, direction)


def parse(text: str) -> Action | None:
    """The action of a sentence, or None if `text` isn't a sentence of the language."""
    match = _PATTERN.fullmatch(" ".join(text.lower().split()))
    if match is None:
        return None
    groups = {key: value for key, value in match.groupdict().items() if value is not None}
    direction = groups.get("d1") or groups.get("d2")
    if camera := groups.get("camera"):
        return Action(camera, direction=direction) if direction in CAMERA[camera] else None
    colour, shape = next(groups[key] for key in groups if key.startswith("o")).split()
    verb = {"bigger": "grow", "smaller": "shrink"}.get(groups.get("size", "")) or next(
        verb for verb in OBJECT_VERBS if verb in groups
    )
    new_colour = groups.get("new")
    if colour not in COLOURS or shape not in SHAPES + NEW_SHAPES or new_colour not in (None, *COLOURS):
        return None
    return Action(verb, colour, shape, direction, new_colour)


def all_actions() -> Iterator[Action]:
    """Every sentence of the language with the usual shapes, once."""
    for verb, directions in CAMERA.items():
        yield from (Action(verb, direction=direction) for direction in directions)
    for colour in COLOURS:
        for shape in SHAPES:
            yield from (Action("move", colour, shape, direction) for direction in DIRECTIONS)
            yield from (Action(verb, colour, shape) for verb in ("add", "remove", "grow", "shrink"))
            if shape != "ball":
                yield Action("turn", colour, shape)
            yield from (Action("paint", colour, shape, None, new) for new in COLOURS if new != colour)
