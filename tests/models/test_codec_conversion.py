import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from kinescribe.models.codec import ImageCodec
from kinescribe.models.codec_conversion import published_codec
from kinescribe.schemas.errors import ModelError
from tests.tiny_families import NUM_CODES, SIDE, keep_decoder, write_chameleon, write_emu3

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def vqgan(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return write_chameleon(tmp_path)


def read(vqgan: Path) -> Tensors:
    return torch.load(vqgan, weights_only=True)["state_dict"]


def random_codes() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, NUM_CODES, (3, SIDE * SIDE)))


def decoded_by_metas_names(tensors: Tensors, codes_BL: torch.Tensor) -> torch.Tensor:
    """Meta's decoder written down anew, each step with the tensors that bear its name."""

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = tensors[f"{name}.weight"]
        return F.conv2d(x, weight, tensors[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.group_norm(x, 32, tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps=1e-6)

    def block(name: str, x: torch.Tensor) -> torch.Tensor:
        hidden = conv(f"{name}.conv1", F.silu(norm(f"{name}.norm1", x)))
        hidden = conv(f"{name}.conv2", F.silu(norm(f"{name}.norm2", hidden)))
        return hidden + (conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in tensors else x)

    def attention(name: str, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (conv(f"{name}.{part}", norm(f"{name}.norm", x)).flatten(2) for part in "qkv")
        weights = (q.transpose(1, 2) @ k * q.shape[1] ** -0.5).softmax(-1)
        return x + conv(f"{name}.proj_out", (v @ weights.transpose(1, 2)).view_as(x))

    entries_BLC = tensors["quantize.embedding.weight"][codes_BL]
    x = entries_BLC.transpose(1, 2).reshape(len(codes_BL), -1, SIDE, SIDE)
    x = conv("decoder.conv_in", conv("post_quant_conv", x))
    x = block("decoder.mid.block_1", x)
    x = block("decoder.mid.block_2", attention("decoder.mid.attn_1", x))
    for level in (2, 1, 0):
        for index in range(2):
            x = block(f"decoder.up.{level}.block.{index}", x)
        if level:
            x = conv(f"decoder.up.{level}.upsample.conv", F.interpolate(x, scale_factor=2.0))
    return conv("decoder.conv_out", F.silu(norm("decoder.norm_out", x)))


def test_metas_vqgan_decodes_like_its_original(vqgan: Path):
    tensors = {name: tensor.double() for name, tensor in read(vqgan).items()}
    expected = decoded_by_metas_names(tensors, random_codes())
    codec = published_codec(vqgan)
    codec.network.double()
    torch.testing.assert_close(codec.decode(random_codes()), expected.clamp(-1, 1), rtol=0, atol=1e-9)
    assert (expected.abs() < 1).float().mean() > 0.3


@pytest.mark.parametrize("name", ["chameleon", "emu3"])
def test_codes_are_those_of_the_models_own_encoder(tmp_path: Path, name: str):
    torch.manual_seed(0)
    codec = published_codec(write_chameleon(tmp_path) if name == "chameleon" else write_emu3(tmp_path))
    vqmodel = AutoModelForImageTextToText.from_pretrained(tmp_path).model.vqmodel
    pixels_B3HW = torch.rand(3, 3, 4 * SIDE, 4 * SIDE) * 2 - 1
    with torch.no_grad():
        if name == "chameleon":
            theirs = vqmodel.encode(pixels_B3HW, return_dict=True).image_tokens.view(3, -1)
        else:
            normal = (pixels_B3HW - codec.shift) / codec.scale
            sizes = torch.full((3, 2), 4 * SIDE)
            theirs = torch.stack(vqmodel.encode(normal, sizes, return_dict=True).image_tokens).flatten(1)
    encoded = codec.encode(pixels_B3HW)
    assert encoded.codes_BL.tolist() == theirs.tolist()
    assert encoded.codes_BL.unique().numel() > 3
    assert encoded.features_BLC.shape[:2] == (3, SIDE * SIDE)


def test_emu3_decodes_as_the_model_itself_does(tmp_path: Path):
    torch.manual_seed(0)
    codec = published_codec(write_emu3(tmp_path))
    vqmodel = AutoModelForImageTextToText.from_pretrained(tmp_path).model.vqmodel
    with torch.no_grad():
        normal = vqmodel.decode(random_codes().view(-1, SIDE, SIDE))
    # CLIP's means and deviations, as the model's image processor has them.
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    expected = normal * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    torch.testing.assert_close(codec.decode(random_codes()), (2 * expected - 1).clamp(-1, 1))


def test_a_codec_that_is_written_is_the_same_codec(vqgan: Path, tmp_path: Path):
    for number, source in enumerate((vqgan, write_emu3(tmp_path / "emu3"))):
        codec = published_codec(source)
        codec.save(tmp_path / str(number))
        loaded = ImageCodec.load(tmp_path / str(number))
        assert (loaded.id, loaded.grid, loaded.num_codes) == (codec.id, (SIDE, SIDE), NUM_CODES)
        assert torch.equal(loaded.decode(random_codes()), codec.decode(random_codes()))


def test_a_checkpoint_that_kept_its_decoder_needs_no_other_file(vqgan: Path, tmp_path: Path):
    with pytest.raises(ModelError, match=r"no decoder; give Meta's vqgan.ckpt"):
        published_codec(tmp_path)
    keep_decoder(tmp_path)
    codec = published_codec(tmp_path)
    assert codec.id == published_codec(vqgan).id
    assert codec.decode(random_codes()).shape == (3, 3, 4 * SIDE, 4 * SIDE)


def lacks(tensors: Tensors) -> None:
    del tensors["decoder.up.1.upsample.conv.bias"]


def has_more(tensors: Tensors) -> None:
    tensors["decoder.more"] = torch.zeros(1)


def has_attention(tensors: Tensors) -> None:
    tensors["encoder.down.2.attn.0.q.weight"] = torch.zeros(32, 32, 1, 1)


def has_another_shape(tensors: Tensors) -> None:
    tensors["encoder.conv_in.weight"] = torch.zeros(32, 4, 3, 3)


def has_no_codebook(tensors: Tensors) -> None:
    del tensors["quantize.embedding.weight"]


@pytest.mark.parametrize("change", [lacks, has_more, has_attention, has_another_shape, has_no_codebook])
def test_a_vqgan_with_a_wrong_tensor_is_refused(vqgan: Path, change: Callable[[Tensors], None]):
    tensors = read(vqgan)
    change(tensors)
    torch.save({"state_dict": tensors}, vqgan)
    with pytest.raises(ModelError, match=r"vqgan\.ckpt (is|doesn't match)"):
        published_codec(vqgan)


@pytest.mark.parametrize("write", [write_chameleon, write_emu3])
@pytest.mark.parametrize("more", [True, False])
def test_a_checkpoint_whose_codec_has_a_wrong_tensor_is_refused(
    write: Callable[[Path], Path], more: bool, tmp_path: Path
):
    write(tmp_path)
    if write is write_chameleon:
        keep_decoder(tmp_path)
    file = next(tmp_path.glob("model*.safetensors"))
    tensors = load_file(file)
    if more:
        tensors["model.vqmodel.decoder.more"] = torch.zeros(1)
    else:
        del tensors[next(name for name in tensors if "vqmodel.decoder." in name and name.endswith("weight"))]
    published_codec(tmp_path)
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ModelError, match=f"{tmp_path} (is|doesn't match)"):
        published_codec(tmp_path)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run by the file",)


def test_a_file_that_would_run_code_is_refused(vqgan: Path, capsys: pytest.CaptureFixture[str]):
    torch.save({"state_dict": Harmful()}, vqgan)
    with pytest.raises(
        ModelError, match="is not a VQGAN: it contains other objects than tensors; give"
    ) as refused:
        published_codec(vqgan)
    assert "weights_only" not in str(refused.value)
    assert "run by the file" not in capsys.readouterr().out


def test_a_vqgan_without_its_yaml_is_refused_by_name(vqgan: Path):
    vqgan.with_suffix(".yaml").unlink()
    with pytest.raises(ModelError, match=r"vqgan\.yaml"):
        published_codec(vqgan)


def with_setting(source: Path, key: str, value: object) -> None:
    """Write another value into a folder's vq_config, or beside a checkpoint into vqgan.yaml."""
    path = source / "config.json" if source.is_dir() else source.with_suffix(".yaml")
    content = yaml.safe_load(path.read_text())
    (content["vq_config"] if source.is_dir() else content["model"]["params"]["ddconfig"])[key] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("value", [10**9, -1, "x", None, [10**9]])
@pytest.mark.parametrize(
    ("write", "key"),
    [
        (write_emu3, "embed_dim"),
        (write_emu3, "num_res_blocks"),
        (write_emu3, "codebook_size"),
        (write_emu3, "channel_multiplier"),
        (write_chameleon, "ch"),
        (write_chameleon, "num_res_blocks"),
        (write_chameleon, "z_channels"),
    ],
)
def test_a_wrong_or_absurd_setting_is_refused_in_one_line_before_a_network_is_made(
    tmp_path: Path, write: Callable[[Path], Path], key: str, value: object
):
    source = write(tmp_path)
    with_setting(source, key, value)
    with pytest.raises(ModelError) as refused:
        published_codec(source)
    if key not in ("num_res_blocks", "embed_dim"):
        assert "\n" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("content", [[1], {"state_dict": [1]}, {"state_dict": {"encoder.x": 3, 4: 5}}])
def test_a_checkpoint_without_tensors_is_refused(vqgan: Path, content: object):
    torch.save(content, vqgan)
    with pytest.raises(ModelError):
        published_codec(vqgan)


@pytest.mark.parametrize("model_type", [["chameleon"], {}, 3])
def test_a_model_type_that_is_no_text_is_refused(tmp_path: Path, model_type: object):
    write_emu3(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    with pytest.raises(ModelError, match="is neither Chameleon nor Emu3"):
        published_codec(tmp_path)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "!!python/object/apply:os.system [exit]"])
def test_a_settings_file_of_another_form_is_refused(vqgan: Path, text: str):
    vqgan.with_suffix(".yaml").write_text(text)
    with pytest.raises(ModelError):
        published_codec(vqgan)
