from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from kinescribe.models.catalog import known_models
from kinescribe.models.checkpoint_files import EMBEDDED, identify
from kinescribe.models.families import ASKING, ENDPOINT, FAMILIES
from kinescribe.schemas.errors import ModelError
from tests.judge_server import Answer, JudgeServer, serving
from tests.tiny_chat import tiny_chat


def test_the_embedded_models_and_every_family_are_listed():
    known = {model.name: model for model in known_models()}
    assert list(known) == [*EMBEDDED, *(family.name for family in (*FAMILIES, ENDPOINT))]
    assert known["embedded"].does == ("describe", "score")
    assert known["embedded-world"].does == ("imagine", "score")
    assert known["embedded"].codec == identify("embedded").codec.id
    assert known["chameleon"].does == ("describe", "score", "imagine")
    assert known["chameleon"].codec is None
    assert known["instruct-pix2pix"].does == ("imagine",)


def test_a_folder_is_listed_with_its_family_and_codec(family_folders: dict[str, Path]):
    folders = [str(folder) for folder in family_folders.values()]
    for model, name in zip(known_models(folders), family_folders, strict=True):
        assert (model.family, model.grid) == (name, (4, 4))
        assert model.codec == identify(model.name).codec.id


def test_the_error_for_a_folder_without_codec_names_the_command_that_writes_it(tmp_path: Path):
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / file).write_text("{}")
    with pytest.raises(ModelError, match="`kinescribe codec` writes it"):
        known_models([str(tmp_path)])


def test_a_chat_model_is_listed_with_what_it_was_tried_for(tmp_path: Path):
    (chat,) = known_models([str(tiny_chat("llava", tmp_path))])
    assert (chat.family, chat.does, chat.train) == ("chat", ("describe", "score"), ("lora", "full"))
    assert (chat.codec, chat.prompts, chat.images) == (None, ASKING, "pil")
    template = tmp_path / "chat_template.jinja"
    no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    template.write_text(no_system + template.read_text())
    assert known_models([str(tmp_path)])[0].prompts == ("question", "examples", "context_frames")


def test_a_chat_model_that_lacks_a_weight_is_not_listed(tmp_path: Path):
    weights = tiny_chat("llava", tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    tensors.pop(next(name for name in tensors if "projector" in name))
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights, such as .*projector"):
        known_models([str(tmp_path)])


def test_a_server_is_listed_if_it_answers_about_two_images():
    with serving(JudgeServer(always=Answer("nothing", finish_reason="stop"))) as server:
        (known,) = known_models([f"qwen@{server.url}"])
    assert (known.where, known.does, known.train) == (server.url, ("describe", "judge"), ())
    assert len(server.asked) == 1
    with pytest.raises(ModelError, match="can't be asked: unreachable"):
        known_models([f"qwen@{server.url}"])
