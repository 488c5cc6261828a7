"""How a triplet becomes one sequence of text and image tokens, and the types that carry it.

Knows the layout only: no network, no tensors. Both tasks share it (METHOD, Terms):

    dynamics   <bos> <image> source <image> target <action> text <eos>      p(action | source, target)
    world      <bos> <image> source <action> text <image> target            p(target | source, action)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

Task = Literal["dynamics", "world"]
Codes = NDArray[np.uint16]

IMAGE, ACTION = "<image>", "<action>"


class CodePair(NamedTuple):
    """Two frames as codes of shape (L,)."""

    source_codes: Codes
    target_codes: Codes


class CodeTriplet(NamedTuple):
    """Two frames as codes of shape (L,), and what was done between them."""

    source_codes: Codes
    target_codes: Codes
    action: str

    @property
    def swapped(self) -> CodeTriplet:
        """A manipulated triplet of the paper: the same action from target to source."""
        return CodeTriplet(self.target_codes, self.source_codes, self.action)

    @property
    def copied(self) -> CodeTriplet:
        """A manipulated triplet of the paper: the same action where nothing changes."""
        return CodeTriplet(self.source_codes, self.source_codes, self.action)


class TokenSequence(NamedTuple):
    """Token ids, the position of each, and its weight as a prediction, all of shape (T,).

    Weight 0 marks what is given (the prompt).
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class TokenLayout:
    """Builds sequences for one tokenizer and one codec; image code c has the id `first_code_id + c`.

    With `aligned` positions both tasks give the two images those of the dynamics prompt: what a network with
    learned positions knows of an image's places then serves both. In a world sequence, a token of the target
    has the place of the next one, which it predicts. Else positions count up.
    """

    tokenizer: PreTrainedTokenizerFast
    first_code_id: int
    num_codes: int
    codes_per_image: int
    aligned: bool = False

    def text(self, action: str) -> NDArray[np.int64]:
        """The action's tokens, closed by the end-of-sequence token."""
        ids = self.tokenizer.encode(action, add_special_tokens=False)
        return np.asarray([*ids, self.tokenizer.eos_token_id], np.int64)

    def knows_a_word(self, action: str) -> bool:
        """Whether any word of the action is a token of its own; else the network sees them in pieces."""
        # Most vocabularies have a word with the space before it, some the word alone.
        ids = [self.text(f"{space}{word}")[:-1] for word in re.findall(r"\w+", action) for space in ("", " ")]
        return any(len(one) == 1 and one[0] != self.tokenizer.unk_token_id for one in ids)

    def image(self, codes: Codes) -> NDArray[np.int64]:
        """`<image>` and the codes' token ids."""
        assert codes.shape == (self.codes_per_image,), codes.shape
        return np.concatenate([[self._id(IMAGE)], codes.astype(np.int64) + self.first_code_id])

    def describe_prompt(self, pair: CodePair | CodeTriplet) -> NDArray[np.int64]:
        """What the dynamics model is given: both images."""
        images = [self.image(pair.source_codes), self.image(pair.target_codes)]
        return np.concatenate([self._bos, *images, [self._id(ACTION)]])

    @property
    def image_starts(self) -> tuple[int, int]:
        """Where the codes of source and target begin in `describe_prompt`."""
        return 2, self.codes_per_image + 3

    def imagine_prompt(self, source_codes: Codes, action: str) -> NDArray[np.int64]:
        """What the world model is given: the source image and the action."""
        text = self.text(action)[:-1]
        parts = [self._bos, self.image(source_codes), [self._id(ACTION)], text, [self._id(IMAGE)]]
        return np.concatenate(parts).astype(np.int64)

    def imagine_positions(self, num_tokens: int) -> NDArray[np.int64]:
        """Positions of a prompt of `imagine_prompt`, of that length; the target's tokens count on."""
        if not self.aligned:
            return np.arange(num_tokens)
        source, target = self.image_starts
        text = target + self.codes_per_image + np.arange(num_tokens - self.codes_per_image - 3)
        return np.concatenate([np.arange(source + self.codes_per_image), text, [target]])

    def sequence(
        self, task: Task, triplet: CodeTriplet, importance: NDArray[np.float32] | None = None
    ) -> TokenSequence:
        """The whole sequence of a triplet with per-token weights.

        Weights are 1 on the text of a dynamics sequence, and `importance` of shape (L,) (1 where None) on the
        target's tokens of a world sequence.
        """
        if task == "dynamics":
            prompt, completion = self.describe_prompt(triplet), self.text(triplet.action)
            positions, weights = np.arange(len(prompt)), np.ones(len(completion), np.float32)
        else:
            prompt = self.imagine_prompt(triplet.source_codes, triplet.action)
            completion = self.image(triplet.target_codes)[1:]
            positions = self.imagine_positions(len(prompt))
            weights = np.ones(len(completion), np.float32) if importance is None else importance
        return TokenSequence(
            np.concatenate([prompt, completion]),
            np.concatenate([positions, positions[-1] + 1 + np.arange(len(completion))]),
            np.concatenate([np.zeros(len(prompt), np.float32), weights]).astype(np.float32),
        )

    @property
    def _bos(self) -> NDArray[np.int64]:
        return np.asarray([self.tokenizer.bos_token_id], np.int64)

    def _id(self, token: str) -> int:
        token_id = self.tokenizer.convert_tokens_to_ids(token)
        assert isinstance(token_id, int)
        return token_id
