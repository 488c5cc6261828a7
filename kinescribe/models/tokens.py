"""How a triplet becomes one sequence of text and image tokens, and the types that carry it.

Knows only the layout: no network, no tensors. Both tasks share it (arXiv:2506.06006):

    dynamics   <bos> <image> source <image> target <action> text <eos>      p(action | source, target)
    world      <bos> <image> source <action> text <image> target            p(target | source, action)

The model family decides which tokens `<image>` and `<action>` are, what else wraps the codes of an image, and
whether there is a question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Task = Literal["dynamics", "world"]
Codes = NDArray[np.uint16]
View = TypeVar("View")
"""The form in which a model sees a frame: its codes, or its pixels."""

IMAGE, ACTION = "<image>", "<action>"
MARK = re.compile(r"(<[^<>]+>|\{source\}|\{target\})")
"""What is one token, and where the images of a prompt are."""


class Pair(NamedTuple, Generic[View]):
    """Two frames, in the form that a model sees."""

    source: View
    target: View
    prompt: Prompt = Prompt()
    """What a model is asked; the embedded ones are asked nothing."""

    context: tuple[View, ...] = ()
    """Frames between the two, which chat models may see as well."""

    @property
    def images(self) -> tuple[View, ...]:
        """All frames in their order."""
        return (self.source, *self.context, self.target)

    def triplet(self, action: str) -> Triplet[View]:
        """The pair with an action, asked the same."""
        return Triplet(self.source, self.target, action, self.prompt, self.context)


class Triplet(NamedTuple, Generic[View]):
    """Two frames, in the form that a model sees, and the action between them."""

    source: View
    target: View
    action: str
    prompt: Prompt = Prompt()
    """What a model is asked; the embedded ones are asked nothing."""

    context: tuple[View, ...] = ()
    """Frames between the two, which chat models may see as well."""

    @property
    def pair(self) -> Pair[View]:
        """The frames without the action, asked the same."""
        return Pair(self.source, self.target, self.prompt, self.context)

    @property
    def swapped(self) -> Triplet[View]:
        """The manipulated triplet with source and target swapped (arXiv:2506.06006, preference test)."""
        return self._replace(source=self.target, target=self.source, context=self.context[::-1])

    @property
    def copied(self) -> Triplet[View]:
        """The manipulated triplet with the source as its target (arXiv:2506.06006, preference test)."""
        return self._replace(target=self.source, context=(self.source,) * len(self.context))


CodePair = Pair[Codes]
CodeTriplet = Triplet[Codes]
"""Frames as codes of shape (L,)."""


class TokenSequence(NamedTuple):
    """Token ids, their positions and their weights in the loss, all of shape (T,).

    The prompt has weight 0.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Wrapping:
    """The text that a model family puts around the codes of an image, and the prompts of both tasks.

    `<…>` is one token; `{height}` and `{width}` are the size of the grid.
    """

    before: str = IMAGE
    after: str = ""
    row: str = ""
    """One token after each row of codes, or empty."""
    dynamics: str = f"{{source}}{{target}}{ACTION}"
    """The prompt that the action answers, with `{question}` if the family is asked one."""
    world: str = f"{{source}}{ACTION}{{action}}"
    """The prompt that the target answers."""

    @property
    def asks(self) -> bool:
        """Whether the model is asked a question."""
        return "{question}" in self.dynamics


@dataclass(frozen=True)
class TokenLayout:
    """Builds sequences for one tokenizer and one codec with `grid` (height, width) codes per image.

    Image code c has the token id `code_ids[c]`. Raises ModelError if the tokenizer lacks a wrapping token.

    With `aligned`, both tasks give the two images the positions of the dynamics prompt, so that a network
    with learned positions uses what it learned about image positions for both. In a world sequence, a token
    of the target has the position of the next one, which it predicts. Without `aligned`, positions count up.
    """

    tokenizer: PreTrainedTokenizerFast
    code_ids: NDArray[np.int64]
    grid: tuple[int, int]
    wrapping: Wrapping = Wrapping()
    aligned: bool = False

    def __post_init__(self) -> None:
        assert self._wrapping_ids  # both raise if a token is missing
        assert len(self.text_ids)
        if self.tokenizer.bos_token_id is None:
            raise ModelError("the model's tokenizer has no token that begins a sequence; restore it")

    @property
    def num_codes(self) -> int:
        """The size of the codebook."""
        return len(self.code_ids)

    @property
    def codes_per_image(self) -> int:
        """L, the number of cells in the grid."""
        return self.grid[0] * self.grid[1]

    @property
    def row_end(self) -> int | None:
        """The token id after each row of codes, or None if the family has none."""
        return self._wrapping_ids["row"][0] if self.wrapping.row else None

    @cached_property
    def text_ids(self) -> NDArray[np.int64]:
        """The tokens that an action may contain: all except those of images."""
        found = MARK.findall("".join(astuple(self.wrapping)))
        marks = [self._mark(mark) for mark in found if mark.startswith("<")]
        return np.setdiff1d(np.arange(len(self.tokenizer)), np.concatenate([self.code_ids, marks]))

    def text(self, action: str) -> NDArray[np.int64]:
        """The action's tokens, closed by the end-of-sequence token."""
        ids = self.tokenizer.encode(action, add_special_tokens=False)
        return np.asarray([*ids, self.tokenizer.eos_token_id], np.int64)

    def image(self, codes: Codes) -> NDArray[np.int64]:
        """The codes' token ids in their wrapping."""
        before, after = self._wrapping_ids["before"], self._wrapping_ids["after"]
        return np.concatenate([before, self._grid(codes), after]).astype(np.int64)

    def target(self, codes: Codes) -> NDArray[np.int64]:
        """The completion of the world task: the token ids of the codes, with the marks between their rows."""
        grid = self._grid(codes)
        return grid if self.row_end is None else grid[:-1]

    def codes(self, target_NT: NDArray[np.int64]) -> Codes:
        """The codes, shape (N, L), of N completions in the form that `target` returns."""
        height, width = self.grid
        if self.row_end is not None:
            ends_N1 = np.full((len(target_NT), 1), self.row_end)
            rows = np.concatenate([target_NT, ends_N1], 1).reshape(-1, height, width + 1)
            target_NT = rows[..., :-1].reshape(len(target_NT), -1)
        order = np.argsort(self.code_ids)
        return order[np.searchsorted(self.code_ids, target_NT, sorter=order)].astype(np.uint16)

    def describe_prompt(self, pair: CodePair | CodeTriplet) -> NDArray[np.int64]:
        """The prompt of the dynamics task: both images, and the question if the family is asked one."""
        images = {"{source}": pair.source, "{target}": pair.target}
        return self._prompt(self.wrapping.dynamics, images, "{question}", pair.prompt.question)

    @property
    def image_starts(self) -> tuple[int, int]:
        """The positions at which the codes of source and target begin in `describe_prompt`."""
        return 2, self.codes_per_image + 3

    def imagine_prompt(self, source_codes: Codes, action: str) -> NDArray[np.int64]:
        """The prompt of the world task: the source image and the action."""
        prompt = self._prompt(self.wrapping.world, {"{source}": source_codes}, "{action}", action)
        return np.concatenate([prompt, self._wrapping_ids["before"]]).astype(np.int64)

    def imagine_positions(self, num_tokens: int) -> NDArray[np.int64]:
        """The positions of a prompt of `imagine_prompt` with that length; those of the target follow."""
        if not self.aligned:
            return np.arange(num_tokens)
        source, target = self.image_starts
        text = target + self.codes_per_image + np.arange(num_tokens - self.codes_per_image - 3)
        return np.concatenate([np.arange(source + self.codes_per_image), text, [target]])

    def sequence(
        self, task: Task, triplet: CodeTriplet, importance: NDArray[np.float32] | None = None
    ) -> TokenSequence:
        """The whole sequence of a triplet with per-token weights.

        The weights are 1 on the text of a dynamics sequence, and `importance` of shape (L,), by default 1, on
        the target tokens of a world sequence.
        """
        if task == "dynamics":
            prompt, completion = self.describe_prompt(triplet), self.text(triplet.action)
            positions, weights = np.arange(len(prompt)), np.ones(len(completion), np.float32)
        else:
            prompt = self.imagine_prompt(triplet.source, triplet.action)
            completion = self.target(triplet.target)
            positions = self.imagine_positions(len(prompt))
            weights = np.zeros(len(completion), np.float32)
            weights[completion != self.row_end] = 1 if importance is None else importance
        return TokenSequence(
            np.concatenate([prompt, completion]),
            np.concatenate([positions, positions[-1] + 1 + np.arange(len(completion))]),
            np.concatenate([np.zeros(len(prompt), np.float32), weights]).astype(np.float32),
        )

    @cached_property
    def _wrapping_ids(self) -> dict[str, list[int]]:
        """The token ids of what is around the codes of an image."""
        height, width = self.grid
        parts = {name: getattr(self.wrapping, name) for name in ("before", "after", "row")}
        return {name: self._ids(text.format(height=height, width=width)) for name, text in parts.items()}

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in MARK.split(text):
            ids += [self._mark(part)] if MARK.fullmatch(part) else self._encode(part)
        return ids

    def _prompt(self, template: str, images: Mapping[str, Codes], slot: str, text: str) -> NDArray[np.int64]:
        """The template's tokens, with images for their names and the text in the slot."""
        ids: list[Any] = [[self.tokenizer.bos_token_id]]
        for part in MARK.split(template):
            if part in images:
                ids.append(self.image(images[part]))
            elif MARK.fullmatch(part):
                ids.append([self._mark(part)])
            else:
                ids.append(self._encode(part.replace(slot, text)))
        return np.concatenate(ids).astype(np.int64)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def _mark(self, token: str) -> int:
        token_id = self.tokenizer.convert_tokens_to_ids(token)
        if not isinstance(token_id, int) or token_id == self.tokenizer.unk_token_id:
            raise ModelError(
                f"the model's tokenizer has no token {token}, so it isn't one of its family; restore it"
            )
        return token_id

    def _grid(self, codes: Codes) -> NDArray[np.int64]:
        """The token ids of the codes, each row with its end mark."""
        assert codes.shape == (self.codes_per_image,), codes.shape
        rows = self.code_ids[codes].reshape(self.grid)
        if self.row_end is not None:
            rows = np.concatenate([rows, np.full((len(rows), 1), self.row_end)], 1)
        return rows.flatten()


def knows_a_word(tokenizer: PreTrainedTokenizerFast, action: str) -> bool:
    """Whether any word of the action is a single token. If not, a network sees all words in pieces."""
    # Most vocabularies store a word with the space before it, some without.
    words = [f"{space}{word}" for word in re.findall(r"\w+", action) for space in ("", " ")]
    ids = [tokenizer.encode(word, add_special_tokens=False) for word in words]
    return any(len(tokens) == 1 and tokens[0] != tokenizer.unk_token_id for tokens in ids)
