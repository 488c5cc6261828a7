"""The embedded weights: complete, small, and as good as their card says."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from kinescribe.models.checkpoint_files import EMBEDDED
from kinescribe.models.registry import load_model
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.models.tokens import CodePair
from kinescribe.simulation.actions import Action, parse
from kinescribe.simulation.triplets import draw_chain, split_rng

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def embedded() -> TokenVLM:
    return load_model("embedded")


def drawn(model: TokenVLM, num_chains: int) -> Iterator[tuple[CodePair, Action]]:
    """Pairs of a test draw that neither training nor card used."""
    for index in range(num_chains):
        chain = draw_chain(split_rng("test", 4711, index))
        images = [Image.fromarray(frame) for frame in chain.frames]
        codes_BL = model.codec.encode(model.codec.preprocess(images)).codes_BL.numpy().astype(np.uint16)
        for i, change in enumerate(chain.changes):
            yield CodePair(codes_BL[i], codes_BL[i + 1]), change.action


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_package_stays_small_and_has_a_card(name: str):
    files = [path for path in EMBEDDED[name].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25 * MEGABYTE
    assert "make embedded" in (EMBEDDED[name] / "README.md").read_text()


@pytest.mark.slow
def test_it_names_what_was_done_in_the_simulated_world(embedded: TokenVLM):
    pairs, actions = zip(*drawn(embedded, 24), strict=True)
    said = [parse(one.text) for one in embedded.describe(pairs, max_new_tokens=12)]
    camera = [one == true for one, true in zip(said, actions, strict=True) if true.is_camera]
    verbs = [one is not None and one.verb == true.verb for one, true in zip(said, actions, strict=True)]
    assert np.mean(camera) > 0.9
    assert np.mean(verbs) > 0.9
    assert np.mean([one == true for one, true in zip(said, actions, strict=True)]) > 0.85
