from dataclasses import replace

import numpy as np
import pytest

from kinescribe.models.initialization import new_tokenizer
from kinescribe.models.tokens import CodeTriplet, TokenLayout, knows_a_word
from tests.tiny_vlm import tiny_vlm

LENGTH = 4
TRIPLET = CodeTriplet(np.arange(4, dtype=np.uint16), np.arange(4, 8, dtype=np.uint16), "pan left")


@pytest.fixture(scope="module")
def layout() -> TokenLayout:
    tokenizer = new_tokenizer(["pan left", "pan right"], 300)
    return TokenLayout(tokenizer, len(tokenizer) + np.arange(8), grid=(2, LENGTH // 2))


def named(layout: TokenLayout, ids: np.ndarray) -> list[str]:
    first = layout.code_ids[0]
    return [
        f"c{id_ - first}" if id_ >= first else layout.tokenizer.decode([id_]).strip() for id_ in ids.tolist()
    ]


def test_a_dynamics_sequence_is_both_images_then_the_action(layout: TokenLayout):
    sequence = layout.sequence("dynamics", TRIPLET)
    codes = ["<image>", "c0", "c1", "c2", "c3", "<image>", "c4", "c5", "c6", "c7"]
    assert named(layout, sequence.ids) == ["<bos>", *codes, "<action>", "pan", "left", "<eos>"]


def test_a_manipulated_triplet_keeps_its_action():
    source, target, *kept = TRIPLET
    assert TRIPLET.swapped == (target, source, *kept)
    assert TRIPLET.copied == (source, source, *kept)


def test_a_world_sequence_is_the_source_the_action_then_the_target(layout: TokenLayout):
    sequence = layout.sequence("world", TRIPLET)
    source, target = ["<image>", "c0", "c1", "c2", "c3"], ["<image>", "c4", "c5", "c6", "c7"]
    assert named(layout, sequence.ids) == ["<bos>", *source, "<action>", "pan", "left", *target]


def test_the_dynamics_task_weights_only_the_text(layout: TokenLayout):
    sequence = layout.sequence("dynamics", TRIPLET)
    assert named(layout, sequence.ids[sequence.weights > 0]) == ["pan", "left", "<eos>"]


def test_world_weighs_the_targets_tokens_by_importance(layout: TokenLayout):
    importance = np.array([0, 1, 2, 3], np.float32)
    sequence = layout.sequence("world", TRIPLET, importance)
    assert named(layout, sequence.ids[-LENGTH:]) == ["c4", "c5", "c6", "c7"]
    assert sequence.weights.tolist() == [0] * (len(sequence.ids) - LENGTH) + importance.tolist()


def test_positions_count_up(layout: TokenLayout):
    for task in ("dynamics", "world"):
        sequence = layout.sequence(task, TRIPLET)
        assert sequence.positions.tolist() == list(range(len(sequence.ids)))


def test_with_aligned_positions_a_target_token_has_the_position_of_the_next_one(layout: TokenLayout):
    aligned = replace(layout, aligned=True)
    dynamics, world = (aligned.sequence(task, TRIPLET) for task in ("dynamics", "world"))
    assert dynamics.positions.tolist() == list(range(len(dynamics.ids)))
    source, target = layout.image_starts
    length = layout.codes_per_image
    assert world.positions[: source + length].tolist() == dynamics.positions[: source + length].tolist()
    # <image> predicts the first code, and each code the next.
    assert world.positions[-length - 1 : -1].tolist() == list(range(target, target + length))
    words = [layout.tokenizer.convert_tokens_to_ids("<action>"), *layout.text("pan left")[:-1]]
    starts = [s.positions[np.isin(s.ids, words)].tolist() for s in (dynamics, world)]
    assert starts[0] == starts[1]


def test_codes_of_another_length_are_a_bug(layout: TokenLayout):
    with pytest.raises(AssertionError):
        layout.image(np.arange(3, dtype=np.uint16))


def test_a_word_is_known_if_it_is_a_single_token(layout: TokenLayout):
    assert knows_a_word(layout.tokenizer, "walk left")
    assert knows_a_word(layout.tokenizer, "pan, please")
    assert not knows_a_word(layout.tokenizer, "walk the dog")
    assert not knows_a_word(layout.tokenizer, "spanned")


def test_the_unknown_token_is_no_word():
    assert knows_a_word(tiny_vlm().layout.tokenizer, "move it")
    assert not knows_a_word(tiny_vlm().layout.tokenizer, "dance")
