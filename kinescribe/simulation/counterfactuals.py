"""All possible outcomes of actions in a scene: a family of outcomes for every action, and their images.

An action doesn't say how much is changed: "move the red ball left" is a family over distances. Knows nothing
of the image that is compared with them. Shapes: P parameters of a family, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from kinescribe.simulation.actions import CAMERA, COLOURS, DIRECTIONS, Action
from kinescribe.simulation.scene import Camera, Image, Scene, Thing, draw_thing, render, seen_before
from kinescribe.simulation.transitions import (
    ADDED_ANGLE,
    ADDED_RADIUS,
    MOVE,
    RESIZE,
    RESIZED_RADIUS,
    ROLL,
    SHIFT,
    SYMMETRY_DEG,
    TURN,
    VECTOR,
    ZOOM,
    fits,
    within_reach,
)

SIDE = 64
_RENDER_SIDE = 128
"""As for triplets: rendered larger, then averaged down, as a lens would."""
_ACROSS = (-0.04, 0.04)
"""How far a move may deviate from its direction."""
_CAMERA_STEPS, _RESIZE_STEPS, _MOVE_STEPS, _TURN_STEPS = 9, 8, 13, 5
_ADDED_GRID = np.linspace(0.05, 0.95, 13)

Parameters = tuple[float, ...]
State = Thing | Camera | None
"""The new object or camera of an outcome; None if the object is removed."""


@dataclass(frozen=True, slots=True)
class Family:
    """The outcomes of one action in one scene. An action may have two families."""

    action: Action
    place: int | None
    """The index of the object that changes; None for the camera and for a new object."""
    state: Callable[[Parameters], State]
    bounds: tuple[tuple[float, float], ...]
    """The bounds of each parameter."""
    steps: Parameters
    """The distance of neighbours in the grid, in each parameter."""
    grid: tuple[Parameters, ...]
    """Outcomes that are possible in the scene, as starting points of a search; never empty."""


class Picture(NamedTuple):
    """The image of an outcome, (SIDE, SIDE, 3), and the part of it that the source shows."""

    image: Image
    visible: Image | None
    """255 or 0, (SIDE, SIDE); None if the source shows all of it."""


def picture(scene: Scene) -> Image:
    """The scene without disturbances, at the size of the judge."""
    return shrunk(render(scene, _RENDER_SIDE))


class OutcomeRenderer:
    """Draws outcomes of one scene. Unchanged parts are drawn once."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.source = picture(scene)
        self._rest: dict[int | None, Image] = {}

    def picture(self, family: Family, parameters: Parameters) -> Picture | None:
        """The outcome with these parameters, or None if it isn't possible."""
        state = family.state(parameters)
        if not _possible(self.scene, family.place, state):
            return None
        if isinstance(state, Camera):
            visible = seen_before(self.scene.camera, state, SIDE)
            return Picture(picture(replace(self.scene, camera=state)), visible)
        image = self._without(family.place).copy()
        if state is not None:
            draw_thing(image, state, self.scene.camera)
        return Picture(shrunk(image), None)

    def _without(self, place: int | None) -> Image:
        if place not in self._rest:
            self._rest[place] = render(replace(self.scene, things=_others(self.scene, place)), _RENDER_SIDE)
        return self._rest[place]


def families(scene: Scene) -> list[Family]:
    """The families of all actions that are possible in the scene."""
    candidates = [*_camera_families(scene.camera), *_added_families(scene)]
    for place, thing in enumerate(scene.things):
        candidates += _object_families(scene, place, thing)
    return [family for family in (_possible_part(scene, family) for family in candidates) if family.grid]


def _possible_part(scene: Scene, family: Family) -> Family:
    grid = [member for member in family.grid if _possible(scene, family.place, family.state(member))]
    return replace(family, grid=tuple(grid))


def _possible(scene: Scene, place: int | None, state: State) -> bool:
    if isinstance(state, Camera):
        return within_reach(state)
    return state is None or fits(state, _others(scene, place), scene.camera)


def _others(scene: Scene, place: int | None) -> tuple[Thing, ...]:
    return tuple(thing for index, thing in enumerate(scene.things) if index != place)


def _line(
    action: Action, place: int | None, state: Callable[[float], State], bounds: tuple[float, float], num: int
) -> Family:
    """A family with one parameter."""
    grid = tuple((float(value),) for value in np.linspace(*bounds, num))
    return Family(action, place, lambda p: state(p[0]), (bounds,), (grid[1][0] - grid[0][0],), grid)


def _point(action: Action, place: int, state: State) -> Family:
    """A family with one outcome."""
    return Family(action, place, lambda _: state, (), (), ((),))


def _camera_families(camera: Camera) -> Iterator[Family]:
    for verb, bounds in (("pan", SHIFT), ("tilt", SHIFT), ("zoom", ZOOM), ("roll", ROLL)):
        for direction in CAMERA[verb]:
            action = Action(verb, direction=direction)
            yield _line(action, None, _camera_state(camera, action), bounds, _CAMERA_STEPS)


def _camera_state(camera: Camera, action: Action) -> Callable[[float], Camera]:
    direction = action.direction or ""
    if action.verb == "zoom":
        power = 1 if direction == "in" else -1
        return lambda factor: replace(camera, zoom=camera.zoom * factor**power)
    if action.verb == "roll":
        sign = 1 if direction == "left" else -1
        return lambda degrees: replace(camera, roll=camera.roll + sign * degrees)
    dx, dy = (part / camera.zoom for part in VECTOR[direction])
    return lambda shift: replace(camera, x=camera.x + shift * dx, y=camera.y + shift * dy)


def _added_families(scene: Scene) -> Iterator[Family]:
    """The families of new objects, with free place, radius and angle."""
    camera = scene.camera
    taken = {(thing.colour, thing.shape) for thing in scene.things}
    if len(scene.things) >= 4:
        return
    bounds = ((-2.0, 3.0), (-2.0, 3.0), ADDED_RADIUS, ADDED_ANGLE)
    steps = (0.08 / camera.zoom, 0.08 / camera.zoom, 0.035, 12.0)
    places = [((x - 0.5) / camera.zoom + camera.x) for x in _ADDED_GRID]
    rows = [((y - 0.5) / camera.zoom + camera.y) for y in _ADDED_GRID]
    grid = tuple((float(x), float(y), ADDED_RADIUS[0], 0.0) for y in rows for x in places)
    for colour in COLOURS:
        for shape in scene.shapes:
            if (colour, shape) not in taken:
                action = Action("add", colour, shape)
                yield Family(action, None, lambda p, s=shape, c=colour: Thing(s, c, *p), bounds, steps, grid)


def _object_families(scene: Scene, place: int, thing: Thing) -> Iterator[Family]:
    name = (thing.colour, thing.shape)
    yield from (_moves(place, thing, direction) for direction in DIRECTIONS)
    yield _point(Action("remove", *name), place, None)
    low, high = RESIZED_RADIUS
    for verb, factors in (("grow", RESIZE), ("shrink", (1 / RESIZE[1], 1 / RESIZE[0]))):
        bounds = (max(thing.radius * factors[0], low), min(thing.radius * factors[1], high))
        if bounds[0] <= bounds[1]:
            yield _line(Action(verb, *name), place, partial(_resized, thing), bounds, _RESIZE_STEPS)
    yield from _turns(place, thing)
    taken = {other.colour for other in scene.things if other.shape == thing.shape}
    for colour in COLOURS:
        if colour not in taken:
            yield _point(Action("paint", *name, new_colour=colour), place, replace(thing, colour=colour))


def _resized(thing: Thing, radius: float) -> Thing:
    return replace(thing, radius=radius)


def _moves(place: int, thing: Thing, direction: str) -> Family:
    dx, dy = VECTOR[direction]

    def moved(parameters: Parameters) -> Thing:
        along, across = parameters
        return replace(thing, x=thing.x + along * dx + across * dy, y=thing.y + along * dy + across * dx)

    distances = np.linspace(*MOVE, _MOVE_STEPS)
    grid = tuple((float(along), 0.0) for along in distances)
    steps = (float(distances[1] - distances[0]), 0.03)
    action = Action("move", thing.colour, thing.shape, direction)
    return Family(action, place, moved, (MOVE, _ACROSS), steps, grid)


def _turns(place: int, thing: Thing) -> Sequence[Family]:
    """Turns to both sides. A ball looks the same after any turn, so it has none."""
    if thing.shape not in SYMMETRY_DEG:
        return ()
    period = SYMMETRY_DEG[thing.shape]
    action = Action("turn", thing.colour, thing.shape)
    return [
        _line(
            action,
            place,
            lambda share, sign=sign: replace(thing, angle=thing.angle + sign * share * period),
            TURN,
            _TURN_STEPS,
        )
        for sign in (1, -1)
    ]


def shrunk(image: Image) -> Image:
    """A square image at the size of the judge."""
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
