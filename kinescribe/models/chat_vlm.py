"""Any chat model of transformers that sees images (Qwen-VL, SmolVLM, LLaVA …) as a dynamics model.

Works on pixels. The processor is transformers' own without its video part, which would need torchvision.
Knows nothing of codecs, or of training except the batches that it makes. Shapes: B conversations, T tokens, V
vocabulary, K tokens at the end in which any conversation has a weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
    Idefics3Processor,
    LogitsProcessorList,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from kinescribe.models.chat_template import LITERAL, rendered
from kinescribe.models.checkpoint_files import quiet_progress, require_files
from kinescribe.models.dynamics import QUESTION, Description, DynamicsModel, network_details
from kinescribe.models.families import CHAT
from kinescribe.models.opening import opening, require_image_sizes, require_tokens
from kinescribe.models.sampling import AllowedTokens, SeededSampling, descriptions
from kinescribe.models.tokenizer_check import require_tokenizer
from kinescribe.models.tokens import Codes, Pair, Task, Triplet, knows_a_word
from kinescribe.schemas.config import Attention
from kinescribe.schemas.errors import ModelError
from kinescribe.storage.stored_image import stored_image

PROCESSORS = {"smolvlm": Idefics3Processor}
"""SmolVLM's own processor needs a package to spell numbers in videos; Idefics3's treats images alike."""
PLACEHOLDER = "@"
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
        self.tokenizer = processor.tokenizer
        question = _conversation("an image", "an image")
        answer = {"role": "assistant", "content": [{"type": "text", "text": PLACEHOLDER}]}
        conversations = [(question, True), ([*question, answer], False)]
        self.prompt, whole = rendered(folder, processor, conversations)
        self.before_answer, self.ends = _answer_wrapping(
            self.prompt, whole, self.tokenizer, network.generation_config
        )
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
        options = {"local_files_only": True, "trust_remote_code": False}
        chosen = {} if attention == "auto" else {"attn_implementation": attention}
        require_tokenizer(folder / "tokenizer.json")
        with opening(folder):
            network: Any = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, device_map=device, use_safetensors=True, **chosen, **options
            )
            processor = _processor(network.config, folder, options)
            require_tokens(folder, processor.tokenizer, network)
            require_image_sizes(folder, processor.image_processor)
            model = cls(network, processor, folder)
            model.batch([Triplet(LARGEST, LARGEST, PLACEHOLDER)])  # so that a wrong processor fails here
            return model

    def save(self, folder: Path) -> None:
        """Write network and processor as `load` reads them."""
        with quiet_progress("transformers"):
            self.network.save_pretrained(folder)
        self.processor.save_pretrained(folder)

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
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
    ) -> list[Description]:
        """See `DynamicsModel.describe`; the only special tokens allowed are those that end an answer."""
        inputs = self._prompts(pairs, "left").to(self.network.device, self.network.dtype)
        special = [
            token_id for token_id, token in self.tokenizer.added_tokens_decoder.items() if token.special
        ]
        words = np.setdiff1d(np.arange(len(self.tokenizer)), np.setdiff1d(special, self.ends))
        processors = LogitsProcessorList([AllowedTokens(words, self.network.device)])
        if temperature > 0:
            assert seeds is not None
            assert len(seeds) == len(pairs)
            processors.append(SeededSampling(seeds, temperature))
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
    def score(self, triplets: Sequence[Triplet[Image.Image]], task: Task = "dynamics") -> list[float]:
        """See `DynamicsModel.score`; the token that ends the answer is included."""
        assert task == "dynamics", task
        batch = self.batch(triplets)
        inputs = {name: self._placed(value) for name, value in batch.inputs.items()}
        keep = batch.weights_BT.shape[1] - int(batch.weights_BT.any(0).nonzero()[0])
        logits_BKV = self.network(**inputs, logits_to_keep=keep + 1, use_cache=False).logits[:, :-1]
        targets = inputs["input_ids"][:, -keep:].flatten()
        losses = F.cross_entropy(logits_BKV.float().flatten(0, 1), targets, reduction="none")
        weights_BK = batch.weights_BT[:, -keep:].to(losses.device)
        return (-losses.view(weights_BK.shape) * weights_BK).sum(-1).tolist()

    def batch(self, triplets: Sequence[Triplet[Image.Image]]) -> ChatBatch:
        """The conversations with their answers, padded on the right, on the CPU."""
        prompts = self._prompts([Pair(triplet.source, triplet.target) for triplet in triplets], "right")
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
        """The processor's output for both images and the question, padded to one length."""
        return self.processor.apply_chat_template(
            [_conversation(pair.source, pair.target) for pair in pairs],
            chat_template=LITERAL,
            rendered=self.prompt,
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


def _conversation(source: Image.Image | str, target: Image.Image | str) -> list[dict[str, Any]]:
    content = [{"type": "image", "image": source}, {"type": "image", "image": target}]
    return [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION}]}]


def _answer_wrapping(
    prompt: str, whole: str, tokenizer: Any, generation: GenerationConfig | None
) -> tuple[str, list[int]]:
    """The text that the chat template puts before an answer, and the tokens that end one, its own first."""
    wrapping = whole.removeprefix(prompt) if whole.startswith(prompt) else PLACEHOLDER
    before, _, after = wrapping.partition(PLACEHOLDER)
    configured = generation.eos_token_id if generation else None
    ends = [configured] if isinstance(configured, int) else [*(configured or [])]
    after_ids = tokenizer.encode(after, add_special_tokens=False)
    closing = [token_id for token_id in after_ids if token_id in ends]
    ordered = [*closing[:1], tokenizer.eos_token_id, *ends]
    return before, [*dict.fromkeys(token_id for token_id in ordered if token_id is not None)]


def _processor(config: Any, folder: Path, options: Mapping[str, Any]) -> Any:
    """The model's processor, for images only. Raises ModelError if transformers has none for it."""
    kind: Any = PROCESSORS.get(config.model_type) or PROCESSOR_MAPPING.get(type(config), None)
    if kind is None:
        raise ModelError(
            f"{folder}: transformers has no processor for {config.model_type}; name another model"
        )

    def without_video(cls: type[ProcessorMixin]) -> list[str]:
        return [name for name in kind.get_attributes() if "video" not in name]

    images_only: Any = type(kind.__name__, (kind,), {"get_attributes": classmethod(without_video)})
    return images_only.from_pretrained(folder, **options)
