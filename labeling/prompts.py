"""How the dynamics model of a run gets its prompt, and whether it can be asked.

Opens a model's template and processor, never its weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from kinescribe.models.checkpoint_files import family_named, model_folder
from kinescribe.models.families import CHAT, ENDPOINT
from kinescribe.schemas.config import LabelConfig
from kinescribe.storage.examples import read_examples


def prompt_as_sent(config: LabelConfig, values: Mapping[str, object] | None = None) -> str:
    """The text that the dynamics model gets for a clip with these values, with marks for the images.

    Empty if the model is asked nothing. A server is asked once. Raises ConfigError if the model is asked
    nothing but the configuration has a prompt, ModelError if a chat model's template or processor can't be
    used, or if a server is away or refuses to answer, and DatasetError if the examples can't be read.
    """
    annotation, name = config.annotation, config.dynamics
    family = family_named(name)
    annotation.require_asked("annotation.", name, family.noun, family.asks)
    prompt = annotation.prompt(values or {}, read_examples(annotation))
    num_images = 2 + annotation.context_frames
    if family is CHAT:
        from kinescribe.models.chat_vlm import chat_prompts  # imports torch

        return chat_prompts(model_folder(name)).text(prompt, num_images)
    if family is ENDPOINT:
        from kinescribe.models.endpoint_vlm import EndpointVLM

        EndpointVLM.load(name).require_answer(prompt, annotation.max_new_tokens, num_images)
        lines = [f"system: {prompt.system}"] if prompt.system else []
        for one in prompt.examples:
            lines += [f"user: {'[image] ' * len(one.images)}{one.question}", f"assistant: {one.action}"]
        return "\n".join([*lines, f"user: {'[image] ' * num_images}{prompt.question}"])
    if family.asks:
        values = {"source": "[image]", "target": "[image]", "question": prompt.question}
        return family.wrapping.dynamics.format_map(values)
    return ""
