import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinescribe.models.checkpoint_files import (
    EMBEDDED,
    WEIGHTS,
    CodecIdentity,
    codec_folder,
    identify,
    weight_bytes,
)
from kinescribe.models.codec import ImageCodec
from kinescribe.models.families import FILES, SHARDS
from kinescribe.models.registry import load, load_model
from kinescribe.schemas.errors import ConfigError, ModelError
from tests.tiny_chat import tiny_chat
from tests.tiny_vlm import tiny_vlm


@pytest.fixture
def folder(tmp_path):
    tiny_vlm().save(tmp_path)
    return tmp_path


def test_the_identity_from_files_equals_that_of_the_loaded_codec(folder):
    codec = ImageCodec.load(folder / "codec")
    identity = identify(str(folder))
    assert identity.codec == CodecIdentity(codec.id, codec.grid)


def test_other_weights_are_another_model(folder):
    first = identify(str(folder))
    assert identify(str(folder)) == first
    tiny_vlm(seed=1).save(folder)
    assert identify(str(folder)).fingerprint != first.fingerprint


def test_the_size_of_a_models_weights_is_that_of_its_files_and_its_codecs(folder):
    files = [folder / WEIGHTS, folder / "codec" / "diffusion_pytorch_model.safetensors"]
    assert weight_bytes(str(folder)) == sum(file.stat().st_size for file in files) > 0
    assert weight_bytes("qwen@http://host/v1") == 0


@pytest.mark.parametrize("name", FILES)
def test_a_folder_without_one_of_its_files_is_refused_by_name(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        identify(str(folder))


def test_a_folder_of_something_else_is_named_with_what_is_needed(tmp_path):
    dataset, run = tmp_path / "dataset", tmp_path / "run"
    (dataset / "data").mkdir(parents=True)
    (run / "export").mkdir(parents=True)
    for name, remedy in {
        dataset: "is a dataset, not a model: config.json is missing; name a folder with the model's",
        run: f"is not a model but a training run; name its export, {run}/export",
    }.items():
        with pytest.raises(ModelError, match=remedy):
            identify(str(name))


@pytest.mark.parametrize("name", [WEIGHTS, "codec/diffusion_pytorch_model.safetensors", "codec/config.json"])
def test_a_file_that_is_cut_off_is_refused(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-10])
    for use in (identify, load_model):
        with pytest.raises(ModelError, match="is damaged"):
            use(str(folder))
    if path.parent.name == "codec":
        with pytest.raises(ModelError, match="is damaged"):
            ImageCodec.load(path.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sample_size": 32}', "lacks block_out_channels, in_channels, num_vq_embeddings"),
        ("[]", "is damaged"),
    ],
)
def test_a_codec_with_an_incomplete_configuration_is_refused(folder, text, message):
    (folder / "codec" / "config.json").write_text(text)
    for use in (identify, load_model):
        with pytest.raises(ModelError, match=message):
            use(str(folder))
    with pytest.raises(ModelError, match=message):
        ImageCodec.load(folder / "codec")


def test_weights_in_several_files_are_one_model_and_none_may_be_missing(folder):
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    index = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(tensors)}
    for part in set(index.values()):
        save_file(
            {name: tensors[name] for name in index if index[name] == part}, folder / part, {"format": "pt"}
        )
    (folder / SHARDS).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    assert identify(str(folder)).codec == CodecIdentity(ImageCodec.load(folder / "codec").id, (4, 4))
    assert torch.equal(
        load_model(str(folder)).network.state_dict()["lm_head.weight"], tensors["lm_head.weight"]
    )
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks part-1\.safetensors"):
        identify(str(folder))
    (folder / SHARDS).write_text("{}")
    with pytest.raises(ModelError, match=f"{SHARDS} is damaged"):
        identify(str(folder))


@pytest.mark.parametrize("way", ["../{name}", "{folder}/{name}"])
def test_an_index_names_only_files_beside_it(folder, way):
    elsewhere = folder.parent / "elsewhere.safetensors"
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).rename(elsewhere)
    name = way.format(folder=folder.parent, name=elsewhere.name)
    (folder / SHARDS).write_text(json.dumps({"weight_map": dict.fromkeys(tensors, name)}))
    for use in (identify, load_model):
        with pytest.raises(ModelError, match="weight_map must name files of its folder"):
            use(str(folder))


def test_an_adapter_that_no_fingerprint_would_cover_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")
    for use in (identify, load_model):
        with pytest.raises(ModelError, match="has an adapter"):
            use(str(folder))


def test_a_configuration_without_a_bottom_is_refused(folder):
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"config\.json is damaged"):
        identify(str(folder))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no model"):
        identify(str(tmp_path / "absent"))


def test_another_chat_template_is_another_model(tmp_path):
    chat = tiny_chat("llava", tmp_path)
    first = identify(str(chat))
    assert first.codec is None
    (chat / "chat_template.jinja").write_text("{{ messages }}")
    assert identify(str(chat)).fingerprint != first.fingerprint


def test_a_unified_model_uses_its_own_codec_and_other_models_a_chosen_one(folder, tmp_path):
    chat, other, server = str(tiny_chat("llava", tmp_path / "chat")), str(folder), "m@http://host/v1"
    assert codec_folder(other) == codec_folder(chat, other) == codec_folder(server, other) == folder / "codec"
    assert codec_folder(chat) == codec_folder(server) == EMBEDDED["embedded"] / "codec"
    with pytest.raises(ModelError, match="leave codec out"):
        codec_folder(other, "embedded")
    with pytest.raises(ModelError, match="has no codec"):
        codec_folder(server, chat)


def test_a_malformed_endpoint_is_refused_and_a_server_scores_nothing():
    with pytest.raises(ConfigError, match="MODEL@URL"):
        identify("@http://host/v1")
    with pytest.raises(ModelError, match="can't score a given action"):
        load("m@http://host/v1", "dynamics")
