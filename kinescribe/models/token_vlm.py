"""A unified vision-language model: one decoder over text tokens and image codes, both tasks.

Serves the embedded models and the unified families of `models/families.py`. Knows nothing of video, of Ray,
or of training except the likelihoods that training weighs. Shapes: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from numpy.typing import NDArray
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
)

from kinescribe.models.checkpoint_files import (
    EMBEDDED,
    codec_config,
    codec_fit,
    codec_grid,
    identify_codec,
    quiet_progress,
    require_files,
    write_fit,
)
from kinescribe.models.choosing import completion_logprobs, likeliest
from kinescribe.models.codec import ImageCodec
from kinescribe.models.dynamics import Description, DynamicsModel, network_details
from kinescribe.models.families import CODEC, OWN, ROLES
from kinescribe.models.opening import opened, opening, require_tokens
from kinescribe.models.sampling import (
    AllowedTokens,
    RowEnds,
    SeededSampling,
    descriptions,
    drawing,
    sample_seeds,
)
from kinescribe.models.tokenizer_check import require_tokenizer
from kinescribe.models.tokens import (
    CodePair,
    Codes,
    CodeTriplet,
    Task,
    TokenLayout,
    TokenSequence,
    knows_a_word,
)
from kinescribe.models.world import WorldModel
from kinescribe.schemas.codes import Fit
from kinescribe.schemas.config import Attention
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.sampling import GREEDY, Sampling
from kinescribe.storage.stored_image import stored_image

LEARNED_POSITIONS = ("opt",)
"""Model types with learned positions, which need the same positions for images in both tasks."""


class TokenVLM(DynamicsModel[Codes], WorldModel):
    """A causal language model of transformers, its tokenizer, and the codec of its image codes.

    Its folder is the output of the model's `save_pretrained`, with the codec in `codec/`.
    """

    does = ROLES["unified"]

    def __init__(self, network: PreTrainedModel, layout: TokenLayout, codec: ImageCodec | Path) -> None:
        """If `codec` is a folder, the codec is loaded at its first use, which work on codes never needs."""
        self.network = network.eval()
        self.layout = layout
        self._codec = codec
        self._fit: Fit = codec_fit(codec_config(codec)) if isinstance(codec, Path) else codec.fit
        self._codec_id: str | None = None
        self._fingerprint: str | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        attention: Attention = "auto",
    ) -> Self:
        """The model in `folder`. Reads safetensors only and runs no code. Raises ModelError."""
        family = require_files(folder)
        family.require(str(folder), "unified")
        codec = codec_config(folder / CODEC)
        options = {"local_files_only": True, "trust_remote_code": False}
        chosen = {} if attention == "auto" else {"attn_implementation": attention}
        auto_class: Any = getattr(transformers, family.auto_class)
        if folder not in EMBEDDED.values():
            require_tokenizer(folder / "tokenizer.json")
        with opening(folder):
            network = opened(auto_class, folder, dtype=dtype, device_map=device, **chosen)
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            # Published checkpoints bring sampling defaults; each call here passes all of its own.
            network.generation_config = GenerationConfig.from_model_config(network.config)
            layout = TokenLayout(
                tokenizer,
                _open_codes(network, tokenizer, codec["num_vq_embeddings"]),
                codec_grid(codec),
                family.wrapping,
                aligned=network.config.model_type in LEARNED_POSITIONS,
            )
            require_tokens(folder, tokenizer, network)
            layout.text("left")  # so that a wrong tokenizer fails here
            return cls(network, layout, folder / CODEC)

    def save(self, folder: Path) -> None:
        """Write network, tokenizer and codec as `load` reads them."""
        if self.layout.wrapping == OWN.wrapping:
            self.network.config.first_code_id = int(self.layout.code_ids[0])
        with quiet_progress("transformers"):
            self.network.save_pretrained(folder)
        self.layout.tokenizer.save_pretrained(folder)
        if isinstance(self._codec, Path):
            shutil.copytree(self._codec, folder / CODEC, dirs_exist_ok=True)
            write_fit(folder / CODEC, self._fit)
        else:
            self._codec.save(folder / CODEC)

    @torch.no_grad()
    def restart_image_head(self) -> None:
        """Set the head's rows of image codes to their centred embeddings: similar codes are equally likely.

        For a model that never drew images, whose head is untrained for them. Raises ModelError if the head is
        tied to the embeddings.
        """
        network: Any = self.network
        embeddings_VD = network.get_input_embeddings().weight
        head_VD = network.get_output_embeddings().weight
        if head_VD is embeddings_VD:
            raise ModelError("the model's head is tied to its embeddings; leave new_image_head out")
        code_ids = torch.from_numpy(self.layout.code_ids)
        codes_KD = embeddings_VD[code_ids]
        head_VD[code_ids] = codes_KD - codes_KD.mean(0)

    def details(self) -> list[str]:
        """The size of an image in codes, and the network's size and placement."""
        height, width = self.layout.grid
        return [f"{height}×{width} codes of {self.layout.num_codes:,}", *network_details(self.network)]

    @property
    def codec(self) -> ImageCodec:
        """The codec, loaded at the first use to the device of the network."""
        if isinstance(self._codec, Path):
            self._codec = ImageCodec.load(self._codec)
            self._codec.to(self.network.device)
            self._codec.fit = self._fit
        return self._codec

    @property
    def fit(self) -> Fit:
        """See `ImageCodec.fit`; does not load the codec. It can be set."""
        return self._fit

    @fit.setter
    def fit(self, fit: Fit) -> None:
        self._fit, self._codec_id = fit, None
        if not isinstance(self._codec, Path):
            self._codec.fit = fit

    @property
    def codec_id(self) -> str:
        """See `ImageCodec.id`; does not load the codec."""
        if self._codec_id is None:
            codec = self._codec
            self._codec_id = identify_codec(codec, self._fit).id if isinstance(codec, Path) else codec.id
        return self._codec_id

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the labels: weights, vocabulary and codec."""
        if self._fingerprint is None:
            digest = hashlib.blake2b(self.codec_id.encode(), digest_size=8)
            digest.update(self.layout.tokenizer.backend_tokenizer.to_str().encode())
            for name, tensor in sorted(self.network.state_dict().items()):
                digest.update(name.encode() + tensor.cpu().float().numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def sequence(
        self, task: Task, triplet: CodeTriplet, importance: NDArray[np.float32] | None = None
    ) -> TokenSequence:
        """See `TokenLayout.sequence`."""
        return self.layout.sequence(task, triplet, importance)

    def see(self, codes: Codes | None, image: Callable[[], bytes]) -> Codes:
        """The codes; if there are none, the own codec encodes the image."""
        if codes is None:
            return self.encode(stored_image(image()))
        return np.asarray(codes, np.uint16)

    @property
    def resolution(self) -> int:
        """See `WorldModel.resolution`."""
        return self.codec.resolution

    def encode(self, image: Image.Image) -> Codes:
        """Codes of shape (L,)."""
        return self.codec.encode(self.codec.preprocess([image])).stored_BL[0]

    def pictures(self, frames_N: NDArray[Any]) -> list[Image.Image]:
        """See `WorldModel.pictures`."""
        return self.codec.pictures(frames_N)

    def knows_a_word(self, action: str) -> bool:
        """See `DynamicsModel.knows_a_word`."""
        return knows_a_word(self.layout.tokenizer, action)

    def takes(self, task: Task, action: str) -> bool:
        """Whether the network has a position for every token of a triplet with this action."""
        codes = np.zeros(self.layout.codes_per_image, np.uint16)
        last = self.sequence(task, CodeTriplet(codes, codes, action)).positions.max()
        return last < getattr(self.network.config.get_text_config(), "max_position_embeddings", math.inf)

    @torch.inference_mode()
    def describe(
        self,
        pairs: Sequence[CodePair],
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        seeds: Sequence[int] | None = None,
    ) -> list[Description]:
        """See `DynamicsModel.describe`; only text tokens can be drawn.

        Pairs that are asked questions of different lengths are not described together.
        """
        prompts = [self.layout.describe_prompt(pair) for pair in pairs]
        said: dict[int, Description] = {}
        for length in {len(prompt) for prompt in prompts}:
            places = [place for place, prompt in enumerate(prompts) if len(prompt) == length]
            prompts_BT = self._tensor(np.stack([prompts[place] for place in places]))
            drawn = [seeds[place] for place in places] if seeds else None
            said |= zip(places, self._described(prompts_BT, max_new_tokens, sampling, drawn), strict=True)
        return [said[place] for place in range(len(pairs))]

    def _described(
        self,
        prompts_BT: torch.Tensor,
        max_new_tokens: int,
        sampling: Sampling,
        seeds: Sequence[int] | None,
    ) -> list[Description]:
        processors = LogitsProcessorList([AllowedTokens(self.layout.text_ids, self.network.device)])
        processors += drawing(sampling, seeds, len(prompts_BT))
        output = self._generate(prompts_BT, max_new_tokens, processors, output_logits=True)
        ids_BT, end = output.sequences[:, prompts_BT.shape[1] :], self.layout.tokenizer.eos_token_id
        assert isinstance(end, int)
        return descriptions(self.layout.tokenizer, ids_BT, output.logits, [end])

    @torch.inference_mode()
    def choose(self, pairs: Sequence[CodePair], actions: Sequence[str]) -> list[Description]:
        """See `DynamicsModel.choose`."""
        completions = [self.layout.text(action) for action in actions]
        prompts = ({"input_ids": self._tensor(self.layout.describe_prompt(pair)[None])} for pair in pairs)
        logprobs = (completion_logprobs(self.network, prompt, completions) for prompt in prompts)
        return [likeliest(actions, logprobs_A, [*map(len, completions)]) for logprobs_A in logprobs]

    @torch.inference_mode()
    def score(self, triplets: Sequence[CodeTriplet], task: Task = "dynamics") -> list[float]:
        """log p of each triplet's completion, summed over its tokens.

        The dynamics task gives log p(action | source, target), the world task log p(target | source, action).
        """
        sequences = [self.sequence(task, triplet) for triplet in triplets]
        ids_BT, positions_BT, weights_BT = (
            _pad(column).to(self.network.device) for column in zip(*sequences, strict=True)
        )
        keep = ids_BT.shape[1] - min(int(np.argmax(sequence.weights > 0)) for sequence in sequences)
        return (self._logprobs(ids_BT, positions_BT, keep) * weights_BT[:, -keep:]).sum(-1).tolist()

    def _logprobs(self, ids_BT: torch.Tensor, positions_BT: torch.Tensor, keep: int) -> torch.Tensor:
        """log p of each sequence's last `keep` tokens given those before, float32 of shape (B, keep).

        Sequences are padded on the right, where a causal model needs no mask.
        """
        logits_BKV = self.network(
            input_ids=ids_BT, position_ids=positions_BT, logits_to_keep=keep + 1, use_cache=False
        ).logits[:, :-1]
        targets = ids_BT[:, -keep:].flatten()
        losses = F.cross_entropy(logits_BKV.float().flatten(0, 1), targets, reduction="none")
        return -losses.view(len(ids_BT), keep)

    @torch.inference_mode()
    def imagine(
        self, source: Codes, action: str, num_samples: int, seed: int, temperature: float = 1.0
    ) -> NDArray[np.uint16]:
        """Codes of shape (num_samples, L); see `WorldModel.imagine`.

        Only image tokens can be drawn; the samples share the prompt's prefill.
        """
        prompt = self.layout.imagine_prompt(source, action)
        positions = self.layout.imagine_positions(len(prompt))
        prompt_1T, positions_1T = self._tensor(prompt[None]), self._tensor(positions[None])
        processors = LogitsProcessorList([AllowedTokens(self.layout.code_ids, self.network.device)])
        if self.layout.row_end is not None:
            processors.append(RowEnds(self.layout.row_end, self.layout.grid[1], len(prompt)))
        processors.append(SeededSampling(sample_seeds(seed, num_samples), temperature))
        cache = DynamicCache(config=self.network.config)
        self.network(
            input_ids=prompt_1T[:, :-1],
            position_ids=positions_1T[:, :-1],
            past_key_values=cache,
            logits_to_keep=1,
        )
        cache.batch_repeat_interleave(num_samples)
        output = self._generate(
            prompt_1T.expand(num_samples, -1),
            len(self.layout.target(source)),
            processors,
            position_ids=positions_1T.expand(num_samples, -1),
            past_key_values=cache,
        )
        return self.layout.codes(output.sequences[:, len(prompt) :].cpu().numpy())

    def _generate(
        self, prompts_BT: torch.Tensor, max_new_tokens: int, processors: LogitsProcessorList, **given: Any
    ) -> Any:
        """The output of transformers, whose `sequences` are prompt, completion and padding."""
        return self.network.generate(  # pyright: ignore[reportCallIssue]
            inputs=prompts_BT,
            attention_mask=torch.ones_like(prompts_BT),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            logits_processor=processors,
            pad_token_id=self.layout.tokenizer.pad_token_id,
            eos_token_id=self.layout.tokenizer.eos_token_id,
            return_dict_in_generate=True,
            **given,
        )

    def _tensor(self, array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.network.device)


def _open_codes(network: Any, tokenizer: Any, num_codes: int) -> NDArray[np.int64]:
    """The token id of each image code. Also stops Chameleon from masking their likelihood.

    Chameleon and Emu3 map codes by the names of their tokens. In other models the codes are consecutive, from
    `first_code_id` of config.json or else after the tokenizer's tokens. Raises ModelError if the codec has
    another number of codes, or if the network lacks a token for one.
    """
    if mapping := getattr(network.model, "vocabulary_mapping", None):
        code_ids = mapping.img2bpe_mapping_tensor.long().numpy()
        mapping.image_tokens = []  # after the mapping, which is made from it
        network.model.vqmodel.requires_grad_(False)
    else:
        first = getattr(network.config, "first_code_id", len(tokenizer))
        code_ids = first + np.arange(num_codes)
    num_tokens = network.get_input_embeddings().num_embeddings
    if len(code_ids) != num_codes or code_ids.min() < 0 or code_ids.max() >= num_tokens:
        raise ModelError(
            f"the model has tokens for {len(code_ids[code_ids < num_tokens])} image codes and its codec has "
            f"{num_codes}; give it the codec that it was trained with"
        )
    return code_ids


def _pad(rows: Sequence[NDArray[Any]]) -> torch.Tensor:
    return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
