import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kinescribe.labeling.annotate import Annotator
from kinescribe.models.chat_vlm import ChatVLM
from kinescribe.models.dynamics import Description
from kinescribe.models.tokens import CodePair, CodeTriplet, Pair
from kinescribe.schemas.clips import ExtractedClip, KeyFrame
from kinescribe.schemas.config import Annotation
from kinescribe.schemas.outcomes import RejectCode, Status
from kinescribe.storage.rows import rows_problem
from tests.fake_clips import dropped, extracted, image, rejected
from tests.tiny_chat import tiny_chat
from tests.tiny_vlm import tiny_vlm

GREEDY = Annotation(max_new_tokens=6)
CONTRASTED = Annotation(max_new_tokens=6, scores="likelihood,contrast")
SAMPLED = Annotation(max_new_tokens=6, temperature=1.0, seed=7)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return tiny_vlm()


class CountingCodec:
    """A codec that remembers how many images each call of the encoder had."""

    def __init__(self, codec) -> None:
        self.codec, self.calls = codec, []

    def __getattr__(self, name):
        return getattr(self.codec, name)

    def encode(self, pixels_B3HW):
        self.calls.append(len(pixels_B3HW))
        return self.codec.encode(pixels_B3HW)


class FakeModel:
    """Writes `left`; raises on pairs whose source has the codes `poison`, and notes its batches.

    With contrast, it raises on those of `contrast_poison` only then.
    """

    def __init__(
        self, codec, poison=None, logprob: float = -1.5, contrast: float = 0.5, contrast_poison=None
    ) -> None:
        self.codec, self.poison, self.logprob = codec, poison, logprob
        self.value, self.contrast_poison = contrast, contrast_poison
        self.batches, self.seeds = [], []

    codec_id = None
    pairs_at_once = None

    def see(self, codes, image):
        return codes

    def describe(self, pairs, max_new_tokens, sampling, seeds):
        self.batches.append(len(pairs))
        self.seeds += seeds
        if any(self.poison is not None and (pair.source == self.poison).all() for pair in pairs):
            raise ZeroDivisionError("poison")
        return [Description("left", self.logprob, 2, "stop") for _ in pairs]

    def contrast(self, triplets):
        if any(
            self.contrast_poison is not None and (triplet.source == self.contrast_poison).all()
            for triplet in triplets
        ):
            raise ZeroDivisionError("poison")
        return [self.value for _ in triplets]


def annotate(model, clips, annotation=GREEDY, micro_batch=8):
    return Annotator(model, model.codec, annotation, micro_batch).annotate(clips)


class Wordless(FakeModel):
    """Has nothing to say of the first pair."""

    def describe(self, pairs, max_new_tokens, sampling, seeds):
        first, *others = super().describe(pairs, max_new_tokens, sampling, seeds)
        return [first._replace(text=" ."), *others]


class LengthsNoted(FakeModel):
    """Sees codes, writes as many words as the source's codes say, and notes them where it contrasts."""

    codec_id = property(lambda self: self.codec.id)

    def describe(self, pairs, max_new_tokens, sampling, seeds):
        lengths = [1 + int(pair.source.sum()) % 5 for pair in pairs]
        return [Description("left " * length, -1.5, length, "stop") for length in lengths]

    def contrast(self, triplets):
        self.batches.append([len(triplet.action.split()) for triplet in triplets])
        return [float(triplet.source[0]) for triplet in triplets]


class PaddingCounted:
    """A chat model's processor that counts the tokens that only fill a prompt up."""

    def __init__(self, processor) -> None:
        self.processor, self.num_padded = processor, 0

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def apply_chat_template(self, conversations, **options):
        prompts = self.processor.apply_chat_template(conversations, **options)
        self.num_padded += int((prompts["attention_mask"] == 0).sum())
        return prompts


def of_size(name: str, size: tuple[int, int]) -> ExtractedClip:
    """A clip of three frames of that size."""
    whole = extracted(name)
    frames = []
    for frame in whole.frames:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(frame.image)).resize(size).save(buffer, "png")
        frames.append(replace(frame, image=buffer.getvalue()))
    return replace(whole, frames=tuple(frames))


def codes_of(model, data: bytes):
    codec = model.codec
    return codec.encode(codec.preprocess([Image.open(io.BytesIO(data))])).codes_BL[0].numpy()


def test_with_a_vocabulary_each_label_is_one_of_its_actions_with_a_posterior(model):
    annotation = Annotation(vocabulary=["pan left", "pan right", "turn the ball"])
    table, outcomes = Annotator(model, model.codec, annotation).annotate([extracted("a"), extracted("b")])
    assert [outcome.status for outcome in outcomes] == [Status.KEPT] * 2
    for row in table.to_pylist():
        assert row["action"] in annotation.vocabulary
        assert row["action_runner_up"] in {*annotation.vocabulary} - {row["action"]}
        assert 1 / 3 <= row["action_probability"] <= 1
        assert row["finish_reason"] == "stop"
    assert rows_problem(table, model.codec.grid) is None


def test_a_shared_frame_is_encoded_once(model):
    codec = CountingCodec(model.codec)
    annotate(FakeModel(codec), [extracted("a", 4), extracted("b", 3)])
    assert sum(codec.calls) == 7


def test_frames_are_encoded_together_up_to_the_micro_batch(model):
    codec = CountingCodec(model.codec)
    annotate(FakeModel(codec), [extracted("a", 3), extracted("b", 3), extracted("c", 3)], micro_batch=4)
    assert codec.calls == [4, 4, 1]


def test_a_frame_without_a_pair_is_not_encoded(model):
    whole = extracted("a", 4)
    clip = ExtractedClip(whole.clip, whole.frames, whole.pairs[:1])
    codec = CountingCodec(model.codec)
    annotate(FakeModel(codec), [clip])
    assert sum(codec.calls) == 2


def test_rows_hold_the_models_description_of_the_stored_images(model):
    clips = [extracted("a", 3)]
    table, _ = annotate(model, clips)
    row = table.to_pylist()[1]
    source, target = (codes_of(model, image("a", index)) for index in (1, 2))
    assert row["source_codes"] == source.tolist()
    assert row["target_codes"] == target.tolist()
    assert row["source"] == {"bytes": image("a", 1), "path": None}
    (described,) = model.describe([CodePair(source.astype(np.uint16), target.astype(np.uint16))], 6)
    assert (row["action"], row["action_tokens"], row["finish_reason"]) == (
        described.text,
        described.num_tokens,
        described.finish_reason,
    )
    assert row["action_logprob"] == pytest.approx(described.logprob, abs=1e-4)


def test_the_log_probability_is_the_score_of_the_written_action(model):
    table, _ = annotate(model, [extracted("a", 5)])
    stopped = [row for row in table.to_pylist() if row["finish_reason"] == "stop"]
    assert stopped
    for row in stopped:
        codes = (np.asarray(row[name], np.uint16) for name in ("source_codes", "target_codes"))
        assert row["action_logprob"] == pytest.approx(
            model.score([CodeTriplet(*codes, row["action"])])[0], abs=1e-3
        )


def test_contrast_is_written_if_it_is_configured(model):
    clips = [extracted("a", 5), extracted("b", 3)]
    plain, table = (annotate(model, clips, annotation)[0] for annotation in (GREEDY, CONTRASTED))
    assert plain["action_contrast"].to_pylist() == [None] * 6
    assert table.drop_columns("action_contrast") == plain.drop_columns("action_contrast")
    rows = table.to_pylist()
    codes = [[np.asarray(row[name], np.uint16) for name in ("source_codes", "target_codes")] for row in rows]
    triplets = [CodeTriplet(*pair, row["action"]) for pair, row in zip(codes, rows, strict=True)]
    np.testing.assert_allclose(table["action_contrast"], model.contrast(triplets), atol=1e-4)


def test_importance_is_the_squared_feature_distance_on_the_codecs_grid(model):
    table, _ = annotate(model, [extracted("a", 2)])
    images = [Image.open(io.BytesIO(image("a", index))) for index in (0, 1)]
    features_2LC = model.codec.encode(model.codec.preprocess(images)).features_BLC
    expected_L = (features_2LC[0] - features_2LC[1]).square().sum(-1)
    importance = table["importance"][0].as_py()
    assert len(importance) == model.codec.grid[0] * model.codec.grid[1]
    np.testing.assert_allclose(importance, expected_L, rtol=2e-3)
    assert max(importance) > 0


def test_the_schema_names_the_codec_and_its_grid(model):
    table, _ = annotate(model, [rejected("r")])
    assert table.num_rows == 0
    assert json.loads(table.schema.metadata[b"kinescribe.codec"]) == {"id": model.codec.id, "grid": [4, 4]}


def test_labels_do_not_depend_on_the_rest_of_the_batch(model):
    clips = [extracted(name, 4) for name in "abcd"]
    for annotation in (GREEDY, SAMPLED, CONTRASTED):
        together, _ = annotate(model, clips, annotation, micro_batch=16)
        for micro_batch in (1, 3):
            apart, _ = annotate(model, clips, annotation, micro_batch)
            assert_same_labels(together, apart)
        alone = [annotate(model, [clip], annotation)[0] for clip in reversed(clips)]
        rows = sorted((row for table in alone for row in table.to_pylist()), key=triplet_id)
        assert [label(row) for row in rows] == [
            label(row) for row in sorted(together.to_pylist(), key=triplet_id)
        ]


def test_pairs_with_prompts_of_the_same_length_share_a_batch(model, tmp_path):
    chat = ChatVLM.load(tiny_chat("qwen", tmp_path))
    chat.processor = counted = PaddingCounted(chat.processor)
    clips = [of_size(name, size) for name, size in zip("abcdef", [(16, 16), (32, 32)] * 3, strict=True)]

    def labels(micro_batch: int):
        annotator = Annotator(chat, model.codec, CONTRASTED, micro_batch)
        return annotator.annotate(clips)[0]

    together = labels(6)
    assert counted.num_padded == 0
    assert_same_labels(together, labels(1))
    frames = [chat.see(None, lambda image=clip.frames[0].image: image) for clip in clips[:2]]
    chat.describe([Pair(frame, frame) for frame in frames], 1)
    assert counted.num_padded > 0


def test_actions_of_like_length_are_contrasted_together_and_keep_their_rows(model):
    clips = [extracted(name, 5) for name in "abc"]
    noting = LengthsNoted(model.codec)
    rows = annotate(noting, clips, CONTRASTED, micro_batch=3)[0].to_pylist()
    assert all(row["action_contrast"] == row["source_codes"][0] for row in rows)
    given = [row["action_tokens"] for row in rows]
    in_order = [given[start : start + 3] for start in range(0, len(given), 3)]
    assert num_padded(noting.batches) < num_padded(in_order)
    assert sorted(size for batch in noting.batches for size in batch) == sorted(given)


def num_padded(batches):
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)


def triplet_id(row):
    return row["triplet_id"]


def label(row):
    return row["triplet_id"], row["action"], row["source_codes"], row["target_codes"]


def assert_same_labels(labels, other):
    exact = ["triplet_id", "clip_id", "action", "finish_reason", "source_codes", "target_codes"]
    assert labels.select(exact) == other.select(exact)
    for column in ("action_logprob", "importance", "action_contrast"):
        values = [np.concatenate([np.ravel(v) for v in t[column].to_pylist()]) for t in (labels, other)]
        np.testing.assert_allclose(*(value.astype(float) for value in values), rtol=2e-3, atol=1e-4)


def test_sampling_follows_the_seed(model):
    clips = [extracted(name, 4) for name in "abcd"]
    actions = [
        annotate(model, clips, Annotation(max_new_tokens=6, temperature=1.0, seed=seed))[0][
            "action"
        ].to_pylist()
        for seed in (1, 1, 2)
    ]
    assert actions[0] == actions[1] != actions[2]


def test_every_pair_has_a_seed_of_its_own_that_fits_in_63_bits(model):
    fake = FakeModel(model.codec)
    annotate(fake, [extracted("a", 9)])
    assert len(set(fake.seeds)) == 8
    assert max(fake.seeds) < 1 << 63


def test_triplet_ids_differ_and_are_the_same_in_every_run(model):
    clips = [extracted("a", 4), extracted("b", 4)]
    ids = annotate(model, clips)[0]["triplet_id"].to_pylist()
    assert len(set(ids)) == 6
    assert annotate(tiny_vlm(seed=1), clips)[0]["triplet_id"].to_pylist() == ids


def test_outcomes_are_in_the_order_of_the_clips_and_keep_earlier_ones(model):
    clips = [rejected("r"), extracted("a", 3), dropped("d")]
    table, outcomes = annotate(model, clips)
    assert outcomes[0] is clips[0].outcome
    assert outcomes[2] is clips[2].outcome
    kept = outcomes[1]
    assert (kept.status, kept.num_triplets, kept.pair_drops) == (Status.KEPT, 2, {"static": 1})
    assert table.num_rows == 2


@pytest.mark.parametrize("when", ["poison", "contrast_poison"])
def test_a_pair_on_which_the_model_raises_rejects_only_its_clip(model, when: str):
    clips = [extracted(name, 3) for name in "abc"]
    fake = FakeModel(model.codec, **{when: codes_of(model, image("b", 1))})
    table, outcomes = annotate(fake, clips, CONTRASTED)
    assert [outcome.status for outcome in outcomes] == [Status.KEPT, Status.REJECTED, Status.KEPT]
    assert outcomes[1].reason is RejectCode.MODEL_FAILED
    assert "ZeroDivisionError: poison" in outcomes[1].message
    assert set(table["clip_id"].to_pylist()) == {clips[0].clip.clip_id, clips[2].clip.clip_id}


def test_an_image_that_cannot_be_encoded_rejects_only_its_clip(model):
    broken = extracted("b", 3)
    frames = (*broken.frames[:2], KeyFrame(1.6, b"no image"))
    fake = FakeModel(model.codec)
    clips = [extracted("a", 3), ExtractedClip(broken.clip, frames, broken.pairs)]
    _, outcomes = annotate(fake, clips)
    assert [outcome.status for outcome in outcomes] == [Status.KEPT, Status.REJECTED]
    assert fake.batches == [2]


def test_an_action_without_words_rejects_the_clip(model):
    table, outcomes = annotate(Wordless(model.codec), [extracted("a"), extracted("b")])
    assert [outcome.reason for outcome in outcomes] == [RejectCode.MODEL_FAILED, None]
    assert outcomes[0].message == "the action ' .' has no words"
    assert set(table["clip_id"].to_pylist()) == {outcomes[1].clip_id}


@pytest.mark.parametrize(
    ("score", "message"),
    [("logprob", "the likelihood of the action 'left' is nan"), ("contrast", "the contrast of the action")],
)
def test_a_score_that_is_not_finite_rejects_the_clip(model, score: str, message: str):
    fake = FakeModel(model.codec, **{score: float("nan")})
    _, outcomes = annotate(fake, [extracted("a")], CONTRASTED)
    assert outcomes[0].reason is RejectCode.MODEL_FAILED
    assert message in outcomes[0].message
