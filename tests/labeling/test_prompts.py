from pathlib import Path
from typing import Any

import pytest

from kinescribe.cluster.label import run_label
from kinescribe.labeling.prompts import prompt_as_sent
from kinescribe.schemas.config import LabelConfig, load_config
from kinescribe.schemas.errors import ConfigError, ModelError
from kinescribe.schemas.prompts import QUESTION, QUESTION_OF_SEVERAL
from tests.judge_server import Answer, JudgeServer, serving
from tests.tiny_chat import tiny_chat
from tests.tiny_dataset import build
from tests.tiny_families import tiny_family
from tests.videos import pan, write_video

VALUES = {"question": "What moved?", "system": "Be brief.", "examples": "a-dataset", "context_frames": 2}


def config(**values: Any) -> LabelConfig:
    return load_config(LabelConfig, values={key.replace("__", "."): value for key, value in values.items()})


def test_a_server_gets_system_images_and_question_and_is_asked_once():
    texts = {"annotation__question": "What of {action_class}?", "annotation__system": "Be brief."}
    with serving(JudgeServer(always=Answer("nothing", finish_reason="stop"))) as server:
        name = f"qwen@{server.url}"
        sent = prompt_as_sent(config(dynamics=name, **texts), {"action_class": "a dance"})
        assert len(server.asked) == 1
        assert prompt_as_sent(config(dynamics=name)) == f"user: [image] [image] {QUESTION}"
    assert sent == "system: Be brief.\nuser: [image] [image] What of a dance?"


def test_a_dataset_is_not_bound_to_a_model_that_cannot_be_used(tmp_path: Path):
    write_video(tmp_path / "pan.mp4", pan(30))
    knows = JudgeServer(always=Answer(status=404, body=b"no model qwen"), models=["llava"])
    with serving(knows), pytest.raises(ModelError, match="no model qwen; it serves llava"):
        run_label(str(tmp_path / "pan.mp4"), str(tmp_path / "out"), config(dynamics=f"qwen@{knows.url}"))
    assert not (tmp_path / "out").exists()


def test_a_chat_model_gets_its_templates_text(tmp_path: Path):
    model = str(tiny_chat("qwen", tmp_path))
    sent = prompt_as_sent(config(dynamics=model, annotation__question="What moved?"))
    assert sent.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    assert sent.endswith("What moved?<|im_end|>\n<|im_start|>assistant\n")


def test_a_chat_model_whose_template_fails_is_one_line_before_anything_starts(tmp_path: Path):
    tiny_chat("llava", tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('broken') }}")
    with pytest.raises(ModelError, match=r"its chat template cannot be used: .*broken") as refused:
        prompt_as_sent(config(dynamics=str(tmp_path)))
    assert "\n" not in str(refused.value)


def test_examples_come_before_the_question_each_with_its_own_class(tmp_path: Path):
    build(str(tmp_path / "examples"), [1, 1])
    texts = {"annotation__question": "What of {action_class}?", "annotation__examples": tmp_path / "examples"}
    with serving(JudgeServer(always=Answer("nothing", finish_reason="stop"))) as server:
        sent = prompt_as_sent(config(dynamics=f"qwen@{server.url}", **texts), {"action_class": "a dance"})
    shown = "user: [image] [image] What of jump?\nassistant: move 0\n"
    assert sent == f"{shown}{shown}user: [image] [image] What of a dance?"
    model = str(tiny_chat("qwen", tmp_path / "model"))
    text = prompt_as_sent(config(dynamics=model, **texts), {"action_class": "a dance"})
    assert text.count("What of jump?<|im_end|>\n<|im_start|>assistant\nmove 0<|im_end|>") == 2


@pytest.mark.parametrize("key", ["question", "system", "examples", "context_frames"])
def test_the_embedded_model_is_asked_nothing(key: str):
    assert prompt_as_sent(config()) == ""
    with pytest.raises(
        ConfigError, match=rf"annotation.{key}: embedded is a unified model, which is asked no"
    ):
        prompt_as_sent(config(**{f"annotation__{key}": VALUES[key]}))


@pytest.mark.parametrize("key", ["system", "examples", "context_frames"])
def test_a_published_unified_model_is_asked_a_question_alone(key: str, tmp_path: Path):
    model = str(tiny_family("liquid", tmp_path))
    sent = prompt_as_sent(config(dynamics=model, annotation__question="What moved?"))
    assert sent.startswith("<start_of_turn>user\n[image][image]\nWhat moved?<end_of_turn>")
    message = rf"annotation.{key}: .* is a unified model, which is asked only a question; leave it out"
    with pytest.raises(ConfigError, match=message):
        prompt_as_sent(config(dynamics=model, **{f"annotation__{key}": VALUES[key]}))


def test_a_model_that_sees_frames_between_is_asked_about_several(tmp_path: Path):
    with serving(JudgeServer(always=Answer("nothing", finish_reason="stop"))) as server:
        sent = prompt_as_sent(config(dynamics=f"qwen@{server.url}", annotation__context_frames=2))
    assert sent == f"user: {'[image] ' * 4}{QUESTION_OF_SEVERAL}"
    assert len(server.asked[0]["messages"][0]["content"]) == 5
    model = str(tiny_chat("qwen", tmp_path))
    assert prompt_as_sent(config(dynamics=model, annotation__context_frames=2)).count("<|image_pad|>") == 4
