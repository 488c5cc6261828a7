from pathlib import Path

import pytest
from PIL import Image

from kinescribe.models.chat_prompt import QUESTION, SYSTEM, ChatPrompts, conversation
from kinescribe.models.chat_vlm import ChatVLM, chat_prompts
from kinescribe.models.tokens import Pair, Triplet
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.prompts import Example, Prompt
from tests.tiny_chat import CHATS, LLAVA, tiny_chat
from tests.tiny_dataset import image

TEMPLATE = "chat_template.jinja"
RED, BLUE = (image(colour)["bytes"] for colour in ("red", "blue"))
ASKED = [
    Prompt(),
    Prompt("What moved?"),
    Prompt("What moved?", "You see {two} pictures."),
    Prompt(system="Be brief."),
    Prompt("What moved?", examples=(Example((RED, BLUE), "What moved?", "nothing"),)),
    Prompt(
        "What moved?",
        "Be brief.",
        (
            Example((BLUE, RED), "What of it?", "pan right"),
            Example((RED, BLUE, RED), "What moved?", "nothing"),
        ),
    ),
]


@pytest.fixture(scope="module", params=CHATS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ChatVLM:
    return ChatVLM.load(tiny_chat(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.mark.parametrize("num_images", [2, 4])
@pytest.mark.parametrize("prompt", ASKED)
def test_a_prompt_is_the_text_that_transformers_makes_of_it(model: ChatVLM, prompt: Prompt, num_images: int):
    text = model.processor.apply_chat_template(
        conversation(["an image"] * num_images, prompt), add_generation_prompt=True, enable_thinking=False
    )
    assert model.prompts.text(prompt, num_images) == text


def test_each_pair_of_a_batch_has_its_own_prompt(model: ChatVLM):
    images = [Image.new("RGB", (40, 32), colour) for colour in ("red", "blue")]
    triplets = [Triplet(*images, "pan left", prompt) for prompt in ASKED]
    together = model.score(triplets)
    assert together == pytest.approx([model.score([one])[0] for one in triplets], abs=1e-3)
    assert len({round(score, 3) for score in together}) == len(ASKED)
    pairs = [Pair(*images, prompt) for prompt in ASKED]
    said = model.describe(pairs, 4)
    assert [one.text for one in said] == [model.describe([pair], 4)[0].text for pair in pairs]
    assert triplets[2].swapped.prompt == triplets[2].copied.prompt == ASKED[2]


def test_a_prompt_is_not_searched_for_marks_again(model: ChatVLM):
    text = model.prompts.text(Prompt(f"What of {SYSTEM}?", f"Not {QUESTION}."))
    assert f"What of {SYSTEM}?" in text
    assert f"Not {QUESTION}." in text


def opened(template: str, folder: Path) -> ChatPrompts:
    tiny_chat("llava", folder)
    (folder / TEMPLATE).write_text(template)
    return chat_prompts(folder)


@pytest.mark.parametrize("text", ["hello", LLAVA + LLAVA, "{{ messages[0]['content'][2]['text'] | upper }}"])
def test_a_template_that_changes_the_question_is_refused(text: str, tmp_path: Path):
    with pytest.raises(ModelError, match="does not show once the question; get the model's own"):
        opened(text, tmp_path)


NO_SYSTEM = {
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}": "no system",
    "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}": "leave annotation",
}


@pytest.mark.parametrize("start", NO_SYSTEM)
def test_a_template_without_a_system_prompt_takes_questions_alone(start: str, tmp_path: Path):
    prompts = opened(start + LLAVA, tmp_path)
    assert "What moved?" in prompts.text(Prompt("What moved?"))
    with pytest.raises(ModelError, match=NO_SYSTEM[start]):
        prompts.text(Prompt("What moved?", "Be brief."))


def test_a_template_that_shows_no_earlier_turns_takes_no_examples(tmp_path: Path):
    prompts = opened("{% set messages = messages[-2:] %}" + LLAVA, tmp_path)
    with pytest.raises(ModelError, match=r"the texts of examples; leave annotation.examples out"):
        prompts.text(ASKED[4])


def test_the_images_of_examples_are_seen(model: ChatVLM):
    images = [Image.new("RGB", (40, 32), colour) for colour in ("red", "blue")]
    given, other = (
        Prompt("What moved?", examples=(Example((RED, second), "What moved?", "nothing"),))
        for second in (BLUE, RED)
    )
    scores = model.score([Triplet(*images, "pan left", prompt) for prompt in (given, other)])
    assert abs(scores[0] - scores[1]) > 1e-4


def test_frames_between_are_seen_and_turn_with_a_swapped_pair(model: ChatVLM):
    red, blue, green = (Image.new("RGB", (40, 32), colour) for colour in ("red", "blue", "green"))
    first, other = (Triplet(red, blue, "pan left", context=context) for context in ((green, red), (red, red)))
    scores = model.score([first, other])
    assert abs(scores[0] - scores[1]) > 1e-4
    assert scores == pytest.approx([model.score([one])[0] for one in (first, other)], abs=1e-3)
    assert first.swapped.pair.images == (blue, red, green, red)
    assert first.copied.pair.images == (red, red, red, red)
    said = model.describe([first.pair, other.pair], 4)
    assert [one.text for one in said] == [model.describe([one.pair], 4)[0].text for one in (first, other)]


def test_a_thinking_model_is_asked_not_to(tmp_path: Path):
    thinking = "{% if enable_thinking is not defined or enable_thinking %}{{ '<think>\n' }}{% endif %}"
    assert "<think>" not in opened(LLAVA + thinking, tmp_path).text(Prompt())
