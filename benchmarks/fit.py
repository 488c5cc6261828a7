"""How well a dynamics model sees actions in wide pictures, by how the codec's square is made of them.

Draws changes of the simulated world, records each in 16:9 with the scene at the left, in the middle or at the
right, and prints a line of JSON for each fit (`crop`, `pad`, `stretch`): the share of pairs whose written
action is exactly the true one, by place, for actions of objects and of the camera. `square` is the same
scene recorded in a square, the most that a fit could reach.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image
from tqdm import tqdm

from kinescribe.models.registry import load_model
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.models.tokens import CodePair
from kinescribe.schemas.codes import FITS
from kinescribe.simulation.actions import CAMERA, parse
from kinescribe.simulation.scene import Scene, render
from kinescribe.simulation.transitions import Change, draw_change, draw_scene

HEIGHT, WIDTH = 144, 256
ASPECT = WIDTH / HEIGHT
PLACES = {"left": -0.5, "middle": 0.0, "right": 0.5}
"""Where the scene is: the share of what is beside it that lies to its left, less a half."""
CLASSES = ("move", "add", "remove", "resize", "turn", "paint", "pan", "tilt", "zoom")
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--num", type=int, default=400, help="changes; each is seen ten times")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load_model(options.model)
    changes = list(drawn(options.num, options.seed))
    square = [[Image.fromarray(render(scene, HEIGHT)) for scene in (c.before, c.after)] for c in changes]
    report("square", {"middle": shares(changes, square, model)})
    for fit in FITS:
        model.codec.fit = fit
        places = {}
        for place, offset in PLACES.items():
            pairs = [[wide(scene, offset) for scene in (change.before, change.after)] for change in changes]
            places[place] = shares(changes, pairs, model)
        report(fit, places)


def drawn(num: int, seed: int) -> Iterator[Change]:
    """As many changes of each class."""
    rng = np.random.default_rng([9, seed])
    for index in range(num):
        change = None
        while change is None:
            change = draw_change(rng, draw_scene(rng), CLASSES[index % len(CLASSES)])
        yield change


def wide(scene: Scene, offset: float) -> Image.Image:
    """The scene's square view within a picture of 16:9."""
    camera = scene.camera
    beside = (ASPECT - 1) * offset / camera.zoom
    view = replace(camera, x=camera.x - beside, zoom=camera.zoom / ASPECT)
    square = render(replace(scene, camera=view), WIDTH)
    top = (WIDTH - HEIGHT) // 2
    return Image.fromarray(square[top : top + HEIGHT])


def shares(
    changes: Sequence[Change], pairs: Sequence[Sequence[Image.Image]], model: TokenVLM
) -> dict[str, float]:
    """The shares of right actions."""
    right = defaultdict[str, list[bool]](list)
    for start in tqdm(range(0, len(changes), BATCH), leave=False):
        some = pairs[start : start + BATCH]
        ends = [
            model.codec.encode(model.codec.preprocess([pair[end] for pair in some])).stored_BL
            for end in range(2)
        ]
        said = model.describe(list(map(CodePair, *ends)), 32)
        for change, words in zip(changes[start : start + BATCH], said, strict=True):
            kind = "camera" if change.action.verb in CAMERA else "objects"
            right[kind].append(parse(words.text) == change.action)
    return {kind: float(np.mean(found)) for kind, found in sorted(right.items())}


def report(fit: str, places: dict[str, dict[str, float]]) -> None:
    means = {kind: np.mean([shares[kind] for shares in places.values()]) for kind in ("objects", "camera")}
    print(json.dumps({"fit": fit, "right": places, "mean": means}), flush=True)


if __name__ == "__main__":
    main()
