import pytest
import torch

from kinescribe.models.initialization import new_codec, new_token_vlm, new_tokenizer
from kinescribe.schemas.errors import ConfigError

SENTENCES = ["move the red ball left", "paint the box blue"]


def test_known_words_are_single_tokens_and_other_text_round_trips():
    tokenizer = new_tokenizer(SENTENCES, 320)
    assert len(tokenizer.encode("move the red ball left")) == 5
    for text in ("zebra crossing", "jouer à l'été", "  odd   spaces"):
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text.strip()


def test_similar_codes_start_with_similar_embeddings():
    torch.manual_seed(0)
    codec = new_codec(resolution=32, channels=(8, 16), num_codes=64, dims=4)
    vlm = new_token_vlm(codec, new_tokenizer(SENTENCES, 320), hidden=128, layers=1, heads=2)
    entries = codec.network.quantize.embedding.weight.detach()
    rows = vlm.network.get_input_embeddings().weight.detach()[vlm.layout.code_ids]
    distances = torch.stack([torch.pdist(entries), torch.pdist(rows)])
    assert torch.corrcoef(distances)[0, 1] > 0.7


def test_heads_too_narrow_for_the_codec_are_refused():
    codec = new_codec(resolution=32, channels=(8, 16), num_codes=64, dims=8)
    with pytest.raises(ConfigError, match="4 heads over 32 dimensions"):
        new_token_vlm(codec, new_tokenizer(SENTENCES, 320), hidden=32, layers=1, heads=4)


def test_every_step_of_channels_but_the_first_halves_the_grid():
    assert new_codec(resolution=64, patch=4, channels=(8, 16)).grid == (8, 8)
    assert new_codec(resolution=64, patch=1, channels=(8, 8, 8, 8)).grid == (8, 8)
    assert new_codec(resolution=64, patch=4, channels=(8,)).grid == (16, 16)
