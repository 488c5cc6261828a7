"""What loading and using a model imports: optional and slow libraries only when they are needed."""

import subprocess
import sys
from pathlib import Path

from tests.tiny_chat import tiny_chat
from tests.tiny_edit import tiny_edit

BLOCK = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_unless_blocked(cls, name, *args):
    return None if name.partition(".")[0] in {packages} else find(name, *args)
PathFinder.find_spec = classmethod(find_unless_blocked)
"""
"""Makes the interpreter behave as if `packages` were not installed."""
TRAINING = {"deepspeed", "peft", "tensorboard"}
EVALUATION = {"bert_score", "rouge_score", "sacrebleu", "scipy"}


def run_without(packages: set[str], code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCK.format(packages=packages) + code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_embedded_model_labels_without_chat_models_editors_and_servers():
    run_without(
        TRAINING | EVALUATION | {"openai"},
        """
from kinescribe.models.registry import load_labeller
from kinescribe.labeling.annotate import Annotator
from kinescribe.schemas.config import LabelConfig
config = LabelConfig()
Annotator(*load_labeller(config), config.annotation)
slow = {"diffusers.pipelines.pipeline_utils", "diffusers.models.transformers",
        "transformers.models.emu3.modeling_emu3", "transformers.models.auto.processing_auto"}
assert not slow & sys.modules.keys(), slow & sys.modules.keys()
""",
    )


def test_every_kind_of_model_imagines_or_describes_without_the_extras_for_training(tmp_path: Path):
    chat, edit = tiny_chat("llava", tmp_path / "chat"), tiny_edit(tmp_path / "edit")
    run_without(
        TRAINING | EVALUATION,
        f"""
import io
from PIL import Image
from kinescribe.inference.best_of_n import imagine_best
from kinescribe.models.registry import load
from kinescribe.models.tokens import Pair
png = io.BytesIO()
Image.new("RGB", (64, 64), "red").save(png, "PNG")
for name, samples in (("embedded-world", 2), ({str(edit)!r}, 1)):
    world, dynamics = load(name, "world"), load("embedded", "dynamics")
    source = world.encode(Image.open(png))
    assert len(imagine_best(world, dynamics, source, "pan left", samples, 0).scores_N) == samples
chat = load({str(chat)!r}, "dynamics")
frame = chat.see(None, png.getvalue)
assert chat.describe([Pair(frame, frame)], 2)[0].num_tokens
""",
    )


def test_endpoints_and_hub_models_import_without_torch_networks():
    run_without(
        TRAINING | EVALUATION | {"torch", "transformers", "diffusers"},
        """
from kinescribe.models.catalog import known_models
from kinescribe.models.endpoint_vlm import EndpointVLM
from kinescribe.models.hub import hub_model
assert known_models()
assert EndpointVLM.load("qwen@http://host/v1").codec_id is None
assert hub_model("a/b@" + "0" * 40)
""",
    )
