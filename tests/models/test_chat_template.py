"""Templates that a stranger wrote, in a chat model's folder."""

import time
from pathlib import Path

import pytest

from kinescribe.models import limited_process
from kinescribe.models.chat_vlm import ChatVLM
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.prompts import Prompt
from tests.tiny_chat import LLAVA, tiny_chat

TEMPLATE = "chat_template.jinja"
BILLION = 10**9
HOSTILE = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}" + LLAVA,
    "one long loop": "{% for i in range(10**9) %}{% endfor %}" + LLAVA,
    "a power": "{% if 10 ** messages|length ** 10 ** 9 %}{% endif %}{{ 10 ** (10 ** 9 * messages|length) }}"
    + LLAVA,
    "a large text": f"{{{{ 'a' * {BILLION} }}}}" + LLAVA,
    "a wide number": f"{{{{ '%{BILLION}d' % 1 }}}}" + LLAVA,
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a long prompt": "{{ 'word ' * 100000 }}" + LLAVA,
    "classes": "{{ ''.__class__.__mro__ }}" + LLAVA,
    "files": "{% include '/etc/passwd' %}" + LLAVA,
    "a long error": "{{ raise_exception('a' * 9000) }}",
    "no syntax": "{% for %}",
    "a deep expression": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "no variable": "{{ a.b.c }}",
    "arithmetic": "{{ 1 / 0 }}",
    "nothing": "",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat("llava", tmp_path_factory.mktemp("chat"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_in_one_short_line_and_little_time(folder: Path, name: str):
    (folder / TEMPLATE).write_text(HOSTILE[name])
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"chat template.*; get the model's") as refused:
        ChatVLM.load(folder)
    assert time.monotonic() - started < limited_process.TIMEOUT_S
    assert len(str(refused.value)) < 500 + len(str(folder))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("text", "message"), [("hello", "0 <image> tokens"), ("<image>" * 9, "9 <image>")])
def test_a_template_that_places_other_images_is_refused_before_anything_is_described(
    folder: Path, text: str, message: str
):
    (folder / TEMPLATE).write_text(text + "{{ messages[0]['content'][2]['text'] }}")
    with pytest.raises(ModelError, match=message):
        ChatVLM.load(folder)


def test_a_template_sees_no_environment_and_its_text_is_not_rendered_again(folder: Path):
    text = "{{ '{{ 1 + 1 }}' }} {{ environ }}"
    (folder / TEMPLATE).write_text(text + LLAVA)
    assert ChatVLM.load(folder).prompts.text(Prompt()).startswith("{{ 1 + 1 }} USER")
