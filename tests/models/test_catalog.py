from pathlib import Path

import pytest

from kinescribe.models.catalog import known_models
from kinescribe.models.checkpoint_files import EMBEDDED, identify
from kinescribe.models.families import ENDPOINT, FAMILIES
from kinescribe.schemas.errors import ModelError
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


def test_models_that_see_images_have_no_codec(tmp_path: Path):
    chat, server = known_models([str(tiny_chat("llava", tmp_path)), "qwen@http://host/v1"])
    assert (chat.family, chat.does, chat.train, chat.codec) == (
        "chat",
        ("describe", "score"),
        ("lora", "full"),
        None,
    )
    assert (server.where, server.does, server.train) == ("http://host/v1", ("describe", "judge"), ())
