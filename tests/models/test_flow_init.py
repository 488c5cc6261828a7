import numpy as np
import pytest
import torch

from kinescribe.models.initialization import new_codec, new_token_vlm, new_tokenizer
from kinescribe.models.tokens import CodePair

SIDE = 8
INSIDE = [row * SIDE + column for row in range(1, SIDE - 1) for column in range(1, SIDE - 1)]


@pytest.fixture(scope="module")
def vlm():
    torch.manual_seed(0)
    codec = new_codec(resolution=32, patch=4, channels=(8,), num_codes=64, dims=4)
    model = new_token_vlm(codec, new_tokenizer(["pan left"], 300), hidden=128, layers=2, heads=4)
    model.network.set_attn_implementation("eager")
    return model


def looked_at(vlm, source: np.ndarray, target: np.ndarray) -> torch.Tensor:
    """How much each target token of the first layer looks at each source token: (heads, L, L)."""
    ids = vlm.layout.describe_prompt(CodePair(source.ravel(), target.ravel()))
    with torch.no_grad():
        output = vlm.network(torch.from_numpy(ids)[None], output_attentions=True)
    in_source, in_target = (slice(start, start + SIDE**2) for start in vlm.layout.image_starts)
    return output.attentions[0][0][:, in_target, in_source]


def test_the_first_head_finds_the_same_place_or_its_neighbour(vlm):
    source, target = np.random.default_rng(0).permutation(128).reshape(2, SIDE, SIDE).astype(np.uint16) % 64
    places_LL = looked_at(vlm, source, target)[0]
    found, place = places_LL.argmax(-1), torch.arange(SIDE**2)
    rows_away, columns_away = (found // SIDE - place // SIDE).abs(), (found % SIDE - place % SIDE).abs()
    assert (torch.maximum(rows_away, columns_away) <= 1).float().mean() > 0.85
    assert places_LL.diagonal().mean() > 10 / SIDE**2


@pytest.mark.parametrize(("down", "right"), [(0, 1), (-1, 0), (1, 1)])
def test_the_second_head_finds_where_a_look_came_from(vlm, down: int, right: int):
    source = np.random.default_rng(0).permutation(64).reshape(SIDE, SIDE).astype(np.uint16)
    flow_LL = looked_at(vlm, source, np.roll(source, (down, right), (0, 1)))[1]
    came_from = torch.arange(SIDE**2) - down * SIDE - right
    assert (flow_LL.argmax(-1) == came_from)[INSIDE].float().mean() > 0.9


def test_a_panned_picture_shows_in_the_first_layers_output(vlm):
    """What a training has to find: on average the target's tokens say which way the picture went."""
    rng = np.random.default_rng(0)
    means, ways = [], []
    for index in range(40):
        way = 1 if index % 2 else -1
        source = rng.permutation(64).reshape(SIDE, SIDE).astype(np.uint16)
        ids = vlm.layout.describe_prompt(CodePair(source.ravel(), np.roll(source, way, 1).ravel()))
        with torch.no_grad():
            states = vlm.network(torch.from_numpy(ids)[None], output_hidden_states=True).hidden_states[1][0]
        start = vlm.layout.image_starts[1]
        means.append(states[start : start + SIDE**2].mean(0))
        ways.append(float(way))
    features, truth = torch.stack(means).double(), torch.tensor(ways).double()
    ridge = features[:20].T @ features[:20] + 0.1 * torch.eye(features.shape[1])
    weights = torch.linalg.solve(ridge, features[:20].T @ truth[:20])
    assert ((features[20:] @ weights).sign() == truth[20:]).double().mean() > 0.9
