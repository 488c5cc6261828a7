"""How the dynamics model of a run gets its prompt, and whether it can be asked.

Opens a model's template and processor, never its weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from kinescribe.models.checkpoint_files import family_named, model_folder
from kinescribe.models.families import CHAT, ENDPOINT
from kinescribe.schemas.config import LabelConfig


def prompt_as_sent(config: LabelConfig, values: Mapping[str, object] | None = None) -> str:
    """The text that the dynamics model gets for a clip with these values, with marks for the images.

    Empty if the model is asked nothing. A server is asked once. Raises ConfigError if the model is asked
    nothing but the configuration has a prompt, and ModelError if a chat model's template or processor can't
    be used, or if a server is away or refuses to answer.
    """
    annotation, name = config.annotation, config.dynamics
    family = family_named(name)
    annotation.require_asked("annotation.", name, family.noun, family.asked)
    prompt = annotation.prompt(values or {})
    if family is CHAT:
        from kinescribe.models.chat_vlm import chat_prompts  # imports torch

        return chat_prompts(model_folder(name)).text(prompt)
    if family is ENDPOINT:
        from kinescribe.models.endpoint_vlm import EndpointVLM

        EndpointVLM.load(name).require_answer(prompt, annotation.max_new_tokens)
        system = f"system: {prompt.system}\n" if prompt.system else ""
        return f"{system}user: [image] [image] {prompt.question}"
    return ""
