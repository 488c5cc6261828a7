import numpy as np
import torch

from models.fresh import new_codec, new_token_vlm, new_tokenizer
from models.tokens import CodePair

SENTENCES = ["move the red ball left", "paint the box blue"]


def test_known_words_are_one_token_and_any_other_text_comes_back():
    tokenizer = new_tokenizer(SENTENCES, 320)
    assert len(tokenizer.encode("move the red ball left")) == 5
    for text in ("zebra crossing", "jouer à l'été", "  odd   spaces"):
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text.strip()


def test_codes_that_look_alike_start_alike():
    torch.manual_seed(0)
    codec = new_codec(resolution=32, channels=(8, 16), num_codes=64, dims=4)
    vlm = new_token_vlm(codec, new_tokenizer(SENTENCES, 320), hidden=128, layers=1, heads=2)
    entries = codec.network.quantize.embedding.weight.detach()
    rows = vlm.network.get_input_embeddings().weight.detach()[vlm.layout.first_code_id :]
    distances = torch.stack([torch.pdist(entries), torch.pdist(rows)])
    assert torch.corrcoef(distances)[0, 1] > 0.9


def test_a_new_model_looks_for_what_has_the_same_place_or_the_same_look():
    torch.manual_seed(0)
    codec = new_codec(resolution=32, patch=4, channels=(8,), num_codes=64, dims=4)
    vlm = new_token_vlm(codec, new_tokenizer(SENTENCES, 320), hidden=128, layers=1, heads=2)
    codes_L = torch.randperm(64).numpy().astype(np.uint16)
    ids = vlm.layout.describe_prompt(CodePair(codes_L, np.roll(codes_L, 5)))
    vlm.network.set_attn_implementation("eager")
    with torch.no_grad():
        output = vlm.network(torch.from_numpy(ids)[None], output_attentions=True)
    source, target = (slice(start, start + 64) for start in vlm.layout.image_starts)
    places_LL, looks_LL = output.attentions[0][0][:, target, source]
    # By chance it would be one in 64.
    assert (places_LL.argmax(-1) == torch.arange(64)).float().mean() > 0.5
    assert (looks_LL.argmax(-1) == (torch.arange(64) - 5) % 64).float().mean() > 0.3


def test_every_step_of_channels_but_the_first_halves_the_grid():
    assert new_codec(resolution=64, patch=4, channels=(8, 16)).grid == (8, 8)
    assert new_codec(resolution=64, patch=1, channels=(8, 8, 8, 8)).grid == (8, 8)
    assert new_codec(resolution=64, patch=4, channels=(8,)).grid == (16, 16)
