"""The effect of actions on scenes: random scenes and actions, and the states in between.

Every draw depends only on the generator that is passed in. Knows nothing of pixels or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.random import Generator

from kinescribe.simulation.actions import CAMERA, COLOURS, DIRECTIONS, Action
from kinescribe.simulation.scene import SHAPES, Camera, Scene, Thing

CLASSES = ("move", "add", "remove", "resize", "turn", "paint", "pan", "tilt", "zoom", "roll")
"""The action classes of clips; `resize` is grow and shrink."""
VECTOR = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SYMMETRY_DEG = {
    "box": 90.0,
    "triangle": 120.0,
    "cross": 90.0,
    "star": 72.0,
    "arrow": 360.0,
    "heart": 360.0,
    "moon": 360.0,
}

# The range of each action: lengths in units of the view's side, factors, degrees.
MOVE = (0.15, 0.5)
RESIZE = (1.3, 2.0)
RESIZED_RADIUS = (0.13, 0.34)
TURN = (0.28, 0.72)
"""Shares of the angle after which the object looks the same again."""
ADDED_RADIUS = (0.16, 0.23)
ADDED_ANGLE = (-12.0, 12.0)
SHIFT = (0.1, 0.4)
"""The distance that the camera pans or tilts."""
ZOOM = (1.18, 1.7)
ROLL = (9.0, 32.0)
_STEP_VERBS = ("add", "remove", "paint")


State = TypeVar("State", Thing, Camera)


class Change(NamedTuple):
    """An action, and the scenes before and after it."""

    action: Action
    before: Scene
    after: Scene


def draw_scene(rng: Generator, shapes: tuple[str, ...] = SHAPES) -> Scene:
    """One to three different objects that do not touch, in front of a textured backdrop."""
    scene = Scene((), Camera(), int(rng.integers(2**40)), shapes)
    for _ in range(int(rng.integers(1, 4))):
        thing = _draw_thing(rng, scene)
        if thing is not None:
            scene = replace(scene, things=(*scene.things, thing))
    return scene


def draw_change(rng: Generator, scene: Scene, action_class: str) -> Change | None:
    """A random change of the class, or None if the drawn one doesn't fit the scene; then draw again."""
    if action_class in CAMERA:
        return _camera_change(rng, scene, action_class)
    if action_class == "add":
        thing = _draw_thing(rng, scene) if len(scene.things) < 4 else None
        if thing is None:
            return None
        after = replace(scene, things=(*scene.things, thing))
        return Change(Action("add", thing.colour, thing.shape), scene, after)
    visible = [thing for thing in scene.things if _inside(thing, scene.camera)]
    if not visible:
        return None
    return _object_change(rng, scene, visible[int(rng.integers(len(visible)))], action_class)


def between(change: Change, progress: float) -> Scene:
    """The scene at `progress` in [0, 1]. Adding, removing and painting happen at once, at the end."""
    before, after = change.before, change.after
    if change.action.verb in _STEP_VERBS:
        return after if progress >= 1 else before
    return replace(
        before,
        things=tuple(_mix(a, b, progress) for a, b in zip(before.things, after.things, strict=True)),
        camera=_mix(before.camera, after.camera, progress),
    )


def _mix(a: State, b: State, progress: float) -> State:
    fields = ("x", "y", "radius", "angle") if isinstance(a, Thing) else ("x", "y", "zoom", "roll")
    values = {name: (1 - progress) * getattr(a, name) + progress * getattr(b, name) for name in fields}
    return replace(a, **values)


def _object_change(rng: Generator, scene: Scene, thing: Thing, action_class: str) -> Change | None:
    name = (thing.colour, thing.shape)
    match action_class:
        case "move":
            direction = str(rng.choice(DIRECTIONS))
            along, across = rng.uniform(*MOVE), rng.normal(0, 0.012)
            dx, dy = VECTOR[direction]
            moved = replace(thing, x=thing.x + along * dx + across * dy, y=thing.y + along * dy + across * dx)
            return _replaced(scene, thing, moved, Action("move", *name, direction))
        case "remove":
            rest = tuple(other for other in scene.things if other is not thing)
            return Change(Action("remove", *name), scene, replace(scene, things=rest))
        case "resize":
            factor = rng.uniform(*RESIZE)
            grow = thing.radius < 0.17 or (thing.radius < 0.23 and rng.random() < 0.5)
            radius = thing.radius * factor if grow else thing.radius / factor
            if not RESIZED_RADIUS[0] <= radius <= RESIZED_RADIUS[1]:
                return None
            return _replaced(
                scene, thing, replace(thing, radius=radius), Action("grow" if grow else "shrink", *name)
            )
        case "turn":
            if thing.shape == "ball":
                return None
            degrees = rng.uniform(*TURN) * SYMMETRY_DEG[thing.shape] * rng.choice((-1, 1))
            return _replaced(scene, thing, replace(thing, angle=thing.angle + degrees), Action("turn", *name))
        case _:
            taken = {other.colour for other in scene.things if other.shape == thing.shape}
            free = [colour for colour in COLOURS if colour not in taken]
            new_colour = str(rng.choice(free))
            action = Action("paint", *name, new_colour=new_colour)
            return _replaced(scene, thing, replace(thing, colour=new_colour), action)


def _camera_change(rng: Generator, scene: Scene, verb: str) -> Change | None:
    camera = scene.camera
    direction = str(rng.choice(CAMERA[verb]))
    if verb in ("pan", "tilt"):
        dx, dy = VECTOR[direction]
        shift = rng.uniform(*SHIFT) / camera.zoom
        moved = replace(camera, x=camera.x + shift * dx, y=camera.y + shift * dy)
    elif verb == "zoom":
        factor = rng.uniform(*ZOOM)
        moved = replace(camera, zoom=camera.zoom * (factor if direction == "in" else 1 / factor))
    else:
        # If the camera rolls left (anticlockwise), the image turns clockwise: positive in image axes.
        degrees = rng.uniform(*ROLL)
        moved = replace(camera, roll=camera.roll + (degrees if direction == "left" else -degrees))
    if not within_reach(moved):
        return None
    return Change(Action(verb, direction=direction), scene, replace(scene, camera=moved))


def _replaced(scene: Scene, old: Thing, new: Thing, action: Action) -> Change | None:
    others = tuple(thing for thing in scene.things if thing is not old)
    if not fits(new, others, scene.camera):
        return None
    things = tuple(new if thing is old else thing for thing in scene.things)
    return Change(action, scene, replace(scene, things=things))


def _draw_thing(rng: Generator, scene: Scene) -> Thing | None:
    taken = {(thing.shape, thing.colour) for thing in scene.things}
    for _ in range(20):
        shape, colour = str(rng.choice(scene.shapes)), str(rng.choice(COLOURS))
        camera = scene.camera
        radius = rng.uniform(*ADDED_RADIUS)
        x, y = (rng.uniform(0.1, 0.9, 2) - 0.5) / camera.zoom + (camera.x, camera.y)
        thing = Thing(shape, colour, float(x), float(y), float(radius), float(rng.uniform(*ADDED_ANGLE)))
        if (shape, colour) not in taken and fits(thing, scene.things, camera):
            return thing
    return None


def fits(thing: Thing, others: Sequence[Thing], camera: Camera) -> bool:
    """Whether the camera sees the object and the object touches no other."""
    return _inside(thing, camera) and not any(_touch(thing, other) for other in others)


def within_reach(camera: Camera) -> bool:
    """Whether the camera still looks at the scene, not too far away, too close, or too tilted."""
    near = abs(camera.x - 0.5) < 0.6 and abs(camera.y - 0.5) < 0.6 and 0.7 < camera.zoom < 1.7
    return near and abs(camera.roll) <= 50


def _touch(a: Thing, b: Thing) -> bool:
    return bool(np.hypot(a.x - b.x, a.y - b.y) < 1.15 * (a.radius + b.radius))


def _inside(thing: Thing, camera: Camera) -> bool:
    """Whether the camera sees nearly the whole object, at any roll and large enough."""
    reach = 0.5 / camera.zoom - 0.75 * thing.radius
    size = thing.radius * camera.zoom
    return 0.13 < size < 0.36 and abs(thing.x - camera.x) < reach and abs(thing.y - camera.y) < reach
