"""Any chat model of transformers that sees images (Qwen-VL, SmolVLM, LLaVA …) as a dynamics model.

Works on pixels. Knows nothing of codecs, or of training except the batches that it makes. Shapes: B
conversations, T tokens, V vocabulary, K tokens at the end in which any conversation has a weight.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
)

from kinescribe.models.chat_processor import images_only
from kinescribe.models.chat_prompt import ANSWER, ChatPrompts, conversation
from kinescribe.models.chat_template import LITERAL
from kinescribe.models.checkpoint_files import quiet_progress, require_files
from kinescribe.models.choosing import completion_logprobs, likeliest
from kinescribe.models.dynamics import Description, DynamicsModel, network_details
from kinescribe.models.families import CHAT
from kinescribe.models.folder_files import processor_files
from kinescribe.models.opening import opened, opening, require_tokens
from kinescribe.models.sampling import AllowedTokens, descriptions, drawing
from kinescribe.models.tokenizer_check import require_tokenizer
from kinescribe.models.tokens import Codes, Pair, Task, Triplet, knows_a_word
from kinescribe.schemas.config import Attention
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.sampling import GREEDY, Sampling
from kinescribe.storage.examples import MOST_EXAMPLES
from kinescribe.storage.stored_image import stored_image

LARGEST = Image.new("RGB", (512, 512))
"""The largest image that the default of `StoredImage.max_side` stores."""


class ChatBatch(NamedTuple):
    """Inputs of the network for B conversations, padded on the right, and the weight of each token."""

    inputs: Mapping[str, torch.Tensor]
    weights_BT: torch.Tensor
    """float32, 1 on the answer, 0 on prompt and padding."""

    @property
    def total_weight(self) -> float:
        """Σ w, this batch's part of the divisor of its step's sums."""
        return float(self.weights_BT.sum())


class ChatVLM(DynamicsModel[Image.Image]):
    """A network, its processor, and the way in which its chat template wraps an answer."""

    does = CHAT.does

    def __init__(self, network: PreTrainedModel, processor: Any, folder: Path) -> None:
        self.network = network.eval()
        self.processor = processor
        self.folder = folder
        self.tokenizer = processor.tokenizer
        self.prompts = ChatPrompts(folder, processor)
        self.before_answer, after_answer = self.prompts.around_answer
        self.ends = _ends(after_answer, self.tokenizer, network.generation_config)
        if not self.ends:
            raise ModelError(f"{folder} has no token that ends an answer; restore tokenizer_config.json")
        # Published checkpoints bring sampling defaults; each call here passes all of its own.
        network.generation_config = GenerationConfig.from_model_config(network.config)
        network.generation_config.eos_token_id = self.ends

    @classmethod
    def load(
        cls,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        attention: Attention = "auto",
    ) -> Self:
        """The model in `folder`. Reads safetensors only and runs no code. Raises ModelError."""
        if (family := require_files(folder)) is not CHAT:
            raise ModelError(f"{folder} is {family.noun}, not a chat model; name a chat model")
        chosen = {} if attention == "auto" else {"attn_implementation": attention}
        require_tokenizer(folder / "tokenizer.json")
        with opening(folder):
            network = opened(AutoModelForImageTextToText, folder, dtype=dtype, device_map=device, **chosen)
            processor = images_only(network.config, folder)
            require_tokens(folder, processor.tokenizer, network)
            model = cls(network, processor, folder)
            model.batch([Triplet(LARGEST, LARGEST, ANSWER)])  # so that a wrong processor fails here
            return model

    def save(self, folder: Path) -> None:
        """Write the network, and the source's files of tokenizer, processor and template unchanged.

        The processor here has no video part, which servers want, and writes its files as its own version of
        transformers does.
        """
        with quiet_progress("transformers"):
            self.network.save_pretrained(folder)
        for path in processor_files(self.folder):
            shutil.copyfile(path, folder / path.name)

    def details(self) -> list[str]:
        """The network's size and placement."""
        return network_details(self.network)

    @property
    def codec_id(self) -> None:
        """None: it sees images."""

    def see(self, codes: Codes | None, image: Callable[[], bytes]) -> Image.Image:
        """The image, RGB."""
        return stored_image(image())

    def knows_a_word(self, action: str) -> bool:
        """See `DynamicsModel.knows_a_word`."""
        return knows_a_word(self.tokenizer, action)

    def takes(self, task: Task, action: str) -> bool:
        """Whether the network has a position for every token of two large images with this action."""
        num_tokens = self.batch([Triplet(LARGEST, LARGEST, action)]).weights_BT.shape[1]
        return num_tokens <= getattr(
            self.network.config.get_text_config(), "max_position_embeddings", math.inf
        )

    @torch.inference_mode()
    def describe(
        self,
        pairs: Sequence[Pair[Image.Image]],
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        seeds: Sequence[int] | None = None,
    ) -> list[Description]:
        """See `DynamicsModel.describe`; the only special tokens allowed are those that end an answer."""
        inputs = self._prompts(pairs, "left").to(self.network.device, self.network.dtype)
        special = [
            token_id for token_id, token in self.tokenizer.added_tokens_decoder.items() if token.special
        ]
        words = np.setdiff1d(np.arange(len(self.tokenizer)), np.setdiff1d(special, self.ends))
        processors = LogitsProcessorList([AllowedTokens(words, self.network.device)])
        processors += drawing(sampling, seeds, len(pairs))
        network: Any = self.network
        output = network.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            logits_processor=processors,
            pad_token_id=self._pad_id,
            return_dict_in_generate=True,
            output_logits=True,
        )
        ids_BT = output.sequences[:, inputs["input_ids"].shape[1] :]
        return descriptions(self.tokenizer, ids_BT, output.logits, self.ends)

    @torch.inference_mode()
    def choose(self, pairs: Sequence[Pair[Image.Image]], actions: Sequence[str]) -> list[Description]:
        """See `DynamicsModel.choose`."""
        completions = [self._answer(action).numpy() for action in actions]
        prompts = (self._prompts([pair], "left") for pair in pairs)
        placed = ({name: self._placed(value) for name, value in prompt.items()} for prompt in prompts)
        logprobs = (completion_logprobs(self.network, prompt, completions) for prompt in placed)
        return [likeliest(actions, logprobs_A, [*map(len, completions)]) for logprobs_A in logprobs]

    @torch.inference_mode()
    def score(self, triplets: Sequence[Triplet[Image.Image]], task: Task = "dynamics") -> list[float]:
        """See `DynamicsModel.score`; the token that ends the answer is included."""
        assert task == "dynamics", task
        batch = self.batch(triplets)
        inputs = {name: self._placed(value) for name, value in batch.inputs.items()}
        keep = batch.weights_BT.shape[1] - int(batch.weights_BT.any(0).nonzero()[0])
        # Not every network keeps only those that are asked for.
        logits_BKV = self.network(**inputs, logits_to_keep=keep + 1, use_cache=False).logits[
            :, -keep - 1 : -1
        ]
        targets = inputs["input_ids"][:, -keep:].flatten()
        losses = F.cross_entropy(logits_BKV.float().flatten(0, 1), targets, reduction="none")
        weights_BK = batch.weights_BT[:, -keep:].to(losses.device)
        return (-losses.view(weights_BK.shape) * weights_BK).sum(-1).tolist()

    def batch(self, triplets: Sequence[Triplet[Image.Image]]) -> ChatBatch:
        """The conversations with their answers, padded on the right, on the CPU."""
        prompts = self._prompts([one.pair for one in triplets], "right")
        mask_BT = prompts["attention_mask"].bool()
        answers = [self._answer(triplet.action) for triplet in triplets]
        fills: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "input_ids": lambda answer: answer,
            "attention_mask": torch.ones_like,
        }
        inputs = dict(prompts)
        for name, value_BT in prompts.items():
            if value_BT.shape == mask_BT.shape:
                fill = fills.get(name, torch.zeros_like)
                rows = zip(value_BT, mask_BT, answers, strict=True)
                whole = [torch.cat([row[mask], fill(answer)]) for row, mask, answer in rows]
                padding = self._pad_id if name == "input_ids" else 0
                inputs[name] = pad_sequence(whole, batch_first=True, padding_value=padding)
        lengths = zip(mask_BT.sum(1).tolist(), answers, strict=True)
        weights = [torch.cat([torch.zeros(num), torch.ones(len(answer))]) for num, answer in lengths]
        return ChatBatch(inputs, pad_sequence(weights, batch_first=True))

    def _prompts(self, pairs: Sequence[Pair[Image.Image]], padding_side: str) -> Any:
        """The processor's output for the images and the question, padded to one length."""
        conversations = [conversation(pair.images, pair.prompt, _example_image) for pair in pairs]
        for pair, (first, *_) in zip(pairs, conversations, strict=True):
            first["rendered"] = self.prompts.text(pair.prompt, len(pair.images))
        return self.processor.apply_chat_template(
            conversations,
            chat_template=LITERAL,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": padding_side},
        )

    def _answer(self, action: str) -> torch.Tensor:
        """The action's tokens, with the token that ends an answer."""
        ids = self.tokenizer.encode(self.before_answer + action, add_special_tokens=False)
        return torch.tensor([*ids, self.ends[0]])

    @property
    def _pad_id(self) -> int:
        return self.ends[0] if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    def _placed(self, value: torch.Tensor) -> torch.Tensor:
        dtype = self.network.dtype if value.is_floating_point() else value.dtype
        return value.to(self.network.device, dtype)


@lru_cache(maxsize=2 * MOST_EXAMPLES)
def _example_image(data: bytes) -> Image.Image:
    return stored_image(data)


def _ends(after_answer: str, tokenizer: Any, generation: GenerationConfig | None) -> list[int]:
    """The tokens that end an answer, the chat template's own first."""
    configured = generation.eos_token_id if generation else None
    ends = [configured] if isinstance(configured, int) else [*(configured or [])]
    after_ids = tokenizer.encode(after_answer, add_special_tokens=False)
    closing = [token_id for token_id in after_ids if token_id in ends]
    ordered = [*closing[:1], tokenizer.eos_token_id, *ends]
    return [*dict.fromkeys(token_id for token_id in ordered if token_id is not None)]


def chat_prompts(folder: Path) -> ChatPrompts:
    """The prompts of the chat model in `folder`. Raises ModelError if the model can't be used.

    Everything is opened as for labelling and tried on a pair of blank images, but no weights are read.
    """
    return ChatVLM.load(folder, device=torch.device("meta")).prompts
