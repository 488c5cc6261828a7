"""Speed of the paper's 7B model on a GPU: labelling, codec, a LoRA step, best of N.

The model is Chameleon with its own configuration and random weights, which are as fast as trained ones. It
is saved to a folder and then loaded like any model, through the registry, annotator, training and engine.
Without a GPU, a small model takes the same path (`"size": "small"`), to show that everything runs. Shares
are relative to the measured rate of large matrix products; on a processor, attention is not counted. Prints
one line of JSON; `paper_models.json` has the last results.
"""

from __future__ import annotations

import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from diffusers.models.autoencoders.vq_model import VQModel
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from train import made
from transformers import AutoModelForImageTextToText, ChameleonConfig, ChameleonVQVAEConfig

from kinescribe.labeling.annotate import Annotator
from kinescribe.labeling.ingest import run_ingest
from kinescribe.models.checkpoint_files import CODEC
from kinescribe.models.codec import ImageCodec
from kinescribe.models.initialization import BOS, EOS, PAD, new_tokenizer
from kinescribe.models.registry import load_labeller
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.models.tokens import CodePair, CodeTriplet
from kinescribe.schemas.clips import Clip, ExtractedClip, FramePair, KeyFrame, stable_id
from kinescribe.schemas.config import Annotation, IngestConfig, LabelConfig
from kinescribe.schemas.training import WorldTraining
from kinescribe.training.engine import DeepSpeedEngine
from kinescribe.training.tasks import make_task

ACTION = "move the red ball to the left of the blue box"
ACTION_TOKENS = 15
KEYFRAMES = 6
MARKS = ("<racm3:break>", "<eoss>", "<reserved08706>")
ON_CARD = torch.cuda.is_available()


class Size(NamedTuple):
    """The size of a model and of its workload."""

    name: str
    decoder: dict[str, int]
    """Differences from Chameleon-7B; `vqgan` has those from its codec."""
    vqgan: dict[str, int]
    clips: int
    micro_batches: tuple[int, ...]
    samples: int
    matrix: int
    """Side of the matrices that measure how fast the hardware multiplies."""


FULL = Size("full", {}, {}, clips=16, micro_batches=(8, 16, 32, 64), samples=8, matrix=8192)
SMALL = Size(
    "small",
    {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "vocab_size": 10240}
    | {"num_attention_heads": 4, "num_key_value_heads": 4},
    {"resolution": 128, "base_channels": 32, "latent_channels": 32, "embed_dim": 32},
    clips=2,
    micro_batches=(2, 4, 8),
    samples=4,
    matrix=1024,
)


def write_model(folder: Path, size: Size) -> None:
    """A checkpoint in the layout of Chameleon, with its codec."""
    vqgan = ChameleonVQVAEConfig(**size.vqgan)
    tokenizer = new_tokenizer([ACTION])
    letters = (
        "".join(chr(ord("A") + int(digit)) for digit in str(code)) for code in range(vqgan.num_embeddings)
    )
    tokenizer.add_tokens([*MARKS, *(f"IMGIMG{code}Z" for code in letters)])
    vocabulary = tokenizer.get_vocab()
    ends = {"bos_token_id": vocabulary[BOS], "eos_token_id": vocabulary[EOS], "pad_token_id": vocabulary[PAD]}
    config = ChameleonConfig(vocabulary_map=vocabulary, vq_config=vqgan.to_dict(), **size.decoder, **ends)
    with torch.device("cuda" if ON_CARD else "cpu"):
        network = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    depth = len(vqgan.channel_multiplier)
    codec = VQModel(
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=[vqgan.base_channels * factor for factor in vqgan.channel_multiplier],
        layers_per_block=vqgan.num_res_blocks,
        latent_channels=vqgan.latent_channels,
        sample_size=vqgan.resolution,
        num_vq_embeddings=vqgan.num_embeddings,
        vq_embed_dim=vqgan.embed_dim,
    )
    codec.save_pretrained(folder / CODEC)


def picture(seed: int, side: int) -> bytes:
    """Coloured noise as a JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(small).resize((side, side)).save(jpeg, "JPEG")
    return jpeg.getvalue()


def drawn_clips(num: int, side: int) -> list[ExtractedClip]:
    """Clips with as many key frames as in the paper; neighbours form pairs."""
    pairs = tuple(FramePair(index, index + 1, 1.0) for index in range(KEYFRAMES - 1))
    return [
        ExtractedClip(
            Clip(stable_id("clip", clip), f"clip{clip}"),
            tuple(
                KeyFrame(float(index), picture(clip * KEYFRAMES + index, side)) for index in range(KEYFRAMES)
            ),
            pairs,
        )
        for clip in range(num)
    ]


def timed(call: Callable[[], object], repeats: int = 3) -> float:
    """Median seconds of a call after a warm-up; CPU time if there is no GPU."""
    clock = time.perf_counter if ON_CARD else time.process_time
    call()
    took = list[float]()
    for _ in range(repeats):
        _wait()
        started = clock()
        call()
        _wait()
        took.append(clock() - started)
    return statistics.median(took)


def _wait() -> None:
    if ON_CARD:
        torch.cuda.synchronize()


def flops(call: Callable[[], object]) -> int:
    """Floating-point operations of a call's matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def peak_gib() -> float:
    """Peak memory: of the GPU since `forget_peak`, or of this process if there is no GPU."""
    if ON_CARD:
        return round(torch.cuda.max_memory_allocated() / 2**30, 2)
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20, 2)


def forget_peak() -> None:
    if ON_CARD:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def matrix_rate(side: int) -> float:
    """FLOP/s of a product of two square matrices, in the precision that published models use."""
    dtype = torch.bfloat16 if ON_CARD else torch.float32
    one, other = (torch.randn(side, side, device="cuda" if ON_CARD else "cpu", dtype=dtype) for _ in range(2))
    return 2 * side**3 / timed(lambda: one @ other, 10)


def labelling(vlm: TokenVLM, codec: ImageCodec, size: Size, rate: float) -> dict[str, Any]:
    """Pairs/s of the annotator with its codec, by micro-batch, and of the model's prefill alone."""
    clips = drawn_clips(size.clips, codec.resolution)
    annotation = Annotation(max_new_tokens=ACTION_TOKENS)
    num_pairs = size.clips * (KEYFRAMES - 1)
    pairs_per_s = dict[int, float]()
    peaks = dict[int, float]()
    for micro_batch in size.micro_batches:
        forget_peak()
        annotator = Annotator(vlm, codec, annotation, micro_batch)
        seconds = timed(partial(annotator.annotate, clips), 1)
        if annotator.batches.size == micro_batch:
            pairs_per_s[micro_batch], peaks[micro_batch] = round(num_pairs / seconds, 2), peak_gib()
    best = max(pairs_per_s, key=pairs_per_s.__getitem__)
    by_itself = Annotator(vlm, codec, annotation)
    assert by_itself.annotate(clips)[0].num_rows == num_pairs
    codes = codec.encode(
        codec.preprocess([Image.open(io.BytesIO(clips[0].frames[0].image), formats=["JPEG"])])
    )
    prefill = partial(vlm.describe, [CodePair(*[codes.stored_BL[0]] * 2)] * best, 1)
    prefill_s = timed(prefill)
    return {
        "pairs_per_s": pairs_per_s,
        "peak_gib": peaks,
        "best_micro_batch": best,
        "micro_batch_by_itself": by_itself.batches.size,
        "prefill_pairs_per_s": round(best / prefill_s, 2),
        "prefill_share_of_matrix_rate": round(flops(prefill) / prefill_s / rate, 3),
    }


def codec_rates(codec: ImageCodec) -> dict[str, float]:
    """Frames/s in calls of sixteen frames."""
    frames = 16
    images = [
        Image.open(io.BytesIO(picture(seed, codec.resolution)), formats=["JPEG"]) for seed in range(frames)
    ]
    pixels_B3HW = codec.preprocess(images)
    codes_BL = codec.encode(pixels_B3HW).codes_BL
    return {
        "encoded_frames_per_s": round(frames / timed(lambda: codec.encode(pixels_B3HW)), 2),
        "decoded_frames_per_s": round(frames / timed(lambda: codec.decode(codes_BL)), 2),
    }


def best_of_n(vlm: TokenVLM, num: int) -> dict[str, float]:
    """Seconds of the two calls that `inference/best_of_n.py` makes."""
    source = np.zeros(vlm.layout.codes_per_image, np.uint16)
    imagine = partial(vlm.imagine, source, ACTION, num, 0)
    triplets = [CodeTriplet(source, target, ACTION) for target in imagine()]
    generation_s, scoring_s = timed(imagine, 1), timed(lambda: vlm.score(triplets))
    figures = {"generation_s": generation_s, "scoring_s": scoring_s, "ratio": scoring_s / generation_s}
    return {"n": num} | {name: round(value, 4) for name, value in figures.items()}


def lora_step(folder: Path, model: Path, side: int, rate: float) -> dict[str, float]:
    """A training step of the world model on two samples, as on each GPU in the paper."""
    num, batch = 4, 2
    for name, seed in (("source", 0), ("target", 1)):
        (folder / f"{name}.jpg").write_bytes(picture(seed, side))
    item = {"instruction": ACTION, "input": "source.jpg", "output": "target.jpg"}
    (folder / "train.json").write_text(json.dumps([item] * num))
    data = str(folder / "triplets")
    run_ingest(str(folder / "train.json"), data, IngestConfig(dynamics=str(model)), decode_workers=1)
    given = {"data": [data], "out": str(folder / "run"), "init": str(model), "batch": batch, "steps": 100}
    config = WorldTraining.model_validate(given | {"lora": {}})
    forget_peak()
    task = make_task(config)
    engine = DeepSpeedEngine(task.module, config.optimization, config.engine, 100, config.rank_micro_batch, 1)
    batches = made(task, 0)
    step_s = timed(lambda: engine.step(batches))
    return {
        "samples": batch,
        "tokens": batches[0].ids_BT.numel(),
        "step_s": round(step_s, 4),
        "share_of_matrix_rate": round(flops(lambda: engine.step(batches)) / step_s / rate, 3),
        "peak_gib": peak_gib(),
    }


def measure(folder: Path, size: Size) -> dict[str, Any]:
    write_model(folder / "model", size)
    rate = matrix_rate(size.matrix)
    vlm, codec = load_labeller(LabelConfig(dynamics=str(folder / "model")))
    assert isinstance(vlm, TokenVLM)
    figures: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in vlm.network.parameters()),
        "codes_per_image": vlm.layout.codes_per_image,
        "matrix_tflops": round(rate / 1e12, 3),
        "labelling": labelling(vlm, codec, size, rate),
        "codec": codec_rates(codec),
        "best_of_n": best_of_n(vlm, size.samples),
    }
    side = codec.resolution
    del vlm, codec  # training takes the memory
    return figures | {"world_lora_step": lora_step(folder, folder / "model", side, rate)}


def machine() -> str:
    """The name of the GPU, or else of the processor."""
    if ON_CARD:
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.machine())}, one core of {os.cpu_count()}"


def main() -> None:
    os.environ |= {"LOCAL_RANK": "0"}
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dist.init_process_group("nccl" if ON_CARD else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    size = FULL if ON_CARD else SMALL
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), size)
    dist.destroy_process_group()
    print(json.dumps({"benchmark": "paper_models", "size": size.name, "machine": machine()} | figures))


if __name__ == "__main__":
    main()
