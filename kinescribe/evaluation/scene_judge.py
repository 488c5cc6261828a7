"""An exact judge of imagined images, on the scale of 0 to 10 of the evaluation in arXiv:2506.06006.

The scene is known, so every possible outcome can be drawn. The judge searches the outcomes of all actions for
the one nearest to the image. Shapes: H×W pixels, P parameters of a family of outcomes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from kinescribe.simulation.actions import COLOURS, Action
from kinescribe.simulation.counterfactuals import SIDE, Family, OutcomeRenderer, Parameters, Picture, families
from kinescribe.simulation.scene import RGB, Image, Scene, project
from kinescribe.simulation.transitions import ADDED_RADIUS

NUM_REFINED = 6
"""The number of likeliest actions with refined parameters."""
_LEVELS = 4
_DISC_RADIUS = 0.15
"""Radius of an added object, for a first guess of its place."""
HALF_RIGHT = 3.0
FAITHFUL, FOREIGN = 20.0, 40.0
"""Root mean square errors, of 255: an image is untouched up to the first, foreign from the second."""


class Verdict(NamedTuple):
    """How well an image shows the requested action."""

    editing: float
    """0 to 10: whether the requested change happened."""
    minimal: float
    """0 to 10: whether everything else is unchanged."""
    nearest: Action | None
    """The action with the outcome nearest to the image; None for "nothing changed"."""

    @property
    def score(self) -> float:
        """The smaller of the two."""
        return min(self.editing, self.minimal)


class _Fit(NamedTuple):
    family: Family
    parameters: Parameters
    picture: Picture
    gain: float
    """The squared error against the source minus the squared error against this outcome."""


class Judge:
    """Judges images that were imagined from one scene. What N samples share is drawn once.

    **Editing success.** An image's place between "nothing changed" and an outcome is 0 at the source, 1 at
    the outcome, and ½ where it is as near to the one as to the other: what a codec does to both alike
    cancels out. The nearest outcome of all gives full credit if it is of the asked action, 3 of 10 if it is
    another of the same object (of the same verb where the camera moves or an object is added), else none.
    Credit counts from a place of ½ (below, the image is nearest to "nothing changed") and is full from ¾ on.

    **Minimal editing.** The root mean square error against the nearest outcome of the asked action, where
    that one looks like the source, or anywhere in what the source shows of it if the camera moved: 10 up to
    `FAITHFUL`, which the embedded codec's own error stays below in 19 pictures of 20, 0 from `FOREIGN` on,
    which is that of another scene.
    """

    def __init__(self, scene: Scene) -> None:
        self._renderer = OutcomeRenderer(scene)
        every = families(scene)
        self._added = [family for family in every if family.action.verb == "add"]
        self._drawn = [
            (family, member, picture)
            for family in every
            if family.action.verb != "add"
            for member in family.grid
            if (picture := self._renderer.picture(family, member))
        ]
        self.actions = frozenset(family.action for family in every)
        """The actions that are possible in this scene."""

    def judge(self, image: Image, asked: Action) -> Verdict:
        """Judge an image of (SIDE, SIDE, 3). `asked` must be one of `actions`."""
        assert asked in self.actions, asked
        fits = self._fits(image, asked)
        nearest = reduce(partial(_nearer, image), fits.values())
        place = self._place(nearest)
        credit = _credit(asked, nearest.family.action)
        return Verdict(
            credit * float(np.clip(4 * place - 2, 0, 1)),
            self._minimal(image, fits[asked].picture),
            nearest.family.action if place > 0.5 else None,
        )

    def _fits(self, image: Image, asked: Action) -> dict[Action, _Fit]:
        """The best outcome of each of the likeliest actions, likeliest first, and of the requested one."""
        best: dict[Action, _Fit] = {}
        for family, member, picture in (*self._drawn, *self._added_members(image)):
            gain = self._gain(image, picture)
            if family.action not in best or gain > best[family.action].gain:
                best[family.action] = _Fit(family, member, picture, gain)
        likeliest = sorted(best, key=lambda action: -best[action].gain)[:NUM_REFINED]
        return {action: self._refined(image, best[action]) for action in dict.fromkeys((*likeliest, asked))}

    def _added_members(self, image: Image) -> Iterator[tuple[Family, Parameters, Picture]]:
        """Each new object in three sizes, at the place where a disc of its colour explains the image best."""
        if not self._added:
            return
        camera = self._renderer.scene.camera
        # All new objects can be at the same places.
        places_N2 = np.array(self._added[0].grid)[:, :2]
        x_N, y_N = project(places_N2, camera, SIDE).round().astype(int).clip(0, SIDE - 1).T
        gains = _colour_gains(image, self._renderer.source, round(_DISC_RADIUS * camera.zoom * SIDE))
        for family in self._added:
            x, y = places_N2[gains[family.action.colour or ""][y_N, x_N].argmax()].tolist()
            for radius in np.linspace(*ADDED_RADIUS, 3).tolist():
                member = (x, y, radius, 0.0)
                if picture := self._renderer.picture(family, member):
                    yield family, member, picture

    def _refined(self, image: Image, start: _Fit) -> _Fit:
        """A nearer outcome, found by ever smaller steps along each parameter."""
        best, family = start, start.family
        for level, axis, sign in product(range(1, _LEVELS + 1), range(len(family.bounds)), (-1, 1)):
            moved = list(best.parameters)
            moved[axis] = float(
                np.clip(moved[axis] + sign * family.steps[axis] / 2**level, *family.bounds[axis])
            )
            picture = self._renderer.picture(family, tuple(moved))
            if picture and (gain := self._gain(image, picture)) > best.gain:
                best = _Fit(family, tuple(moved), picture, gain)
        return best

    def _gain(self, image: Image, picture: Picture) -> float:
        source = self._renderer.source
        return _distance(image, source, picture.visible) - _distance(image, picture.image, picture.visible)

    def _place(self, fit: _Fit) -> float:
        """The image's place between the source (0) and the outcome (1)."""
        length = _distance(self._renderer.source, fit.picture.image, fit.picture.visible)
        return 0.5 + 0.5 * fit.gain / max(length, 1.0)

    def _minimal(self, image: Image, asked: Picture) -> float:
        kept = asked.visible
        if kept is None:
            changed = cv2.absdiff(asked.image, self._renderer.source).max(-1) > 2
            kept = 255 - 255 * cv2.dilate(changed.astype(np.uint8), np.ones((3, 3), np.uint8))
        error = (_distance(image, asked.image, kept) / max(3 * np.count_nonzero(kept), 1)) ** 0.5
        return 10 * float(np.clip((FOREIGN - error) / (FOREIGN - FAITHFUL), 0, 1))


def _credit(asked: Action, done: Action) -> float:
    if done == asked:
        return 10.0
    anew = asked.is_camera or asked.verb == "add"
    return HALF_RIGHT if (done.verb == asked.verb if anew else done.object == asked.object) else 0.0


def _nearer(image: Image, a: _Fit, b: _Fit) -> _Fit:
    """The nearer of two outcomes, compared where both are visible in the source."""
    mask = _both(a.picture.visible, b.picture.visible)
    nearer = _distance(image, b.picture.image, mask) < _distance(image, a.picture.image, mask)
    return b if nearer else a


def _both(a: Image | None, b: Image | None) -> Image | None:
    if a is None or b is None:
        return b if a is None else a
    return np.minimum(a, b)


def _distance(a: Image, b: Image, mask: Image | None) -> float:
    """The sum of squared differences where the mask is set."""
    return cv2.norm(a, b, cv2.NORM_L2SQR, mask)


def _colour_gains(image: Image, source: Image, radius: int) -> dict[str, NDArray[np.float32]]:
    """For each colour (H, W): how much more a disc of it explains than the source does."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.float32)
    pixels = image.astype(np.float32)
    error_HW = np.square(pixels - source).sum(-1)
    colours = {colour: np.array(RGB[colour], np.float32) for colour in COLOURS}
    return {
        colour: np.asarray(cv2.filter2D(error_HW - np.square(pixels - rgb).sum(-1), -1, disc), np.float32)
        for colour, rgb in colours.items()
    }
