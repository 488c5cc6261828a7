from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kinescribe
from kinescribe import Machine, evaluate
from kinescribe.arguments import StrPath, StrPaths, checked
from kinescribe.schemas.config import LabelConfig, Positive, Resources

MACHINE = Machine(name="a", cpus=8, gpus=0, memory_gib=32, boot_minutes=2, price_per_hour=1)
TRAINING = kinescribe.DynamicsTraining(data=("d",), out="o", init="embedded", steps=1)

LABEL: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "config: must be of class LabelConfig, got dict; or give its keys": (({"dynamics": "embedded"},), {}),
    "config: must be of class LabelConfig, got Resources": ((Resources(decode_workers=1),), {}),
    "resources: must be of class Resources, got dict": ((), {"resources": {"decode_workers": 1}}),
    "decode_workers: must be above 0, got 0": ((), {"decode_workers": 0}),
    "label_gpu: unknown key; did you mean label_gpus?": ((), {"label_gpu": 1}),
    "retry_reject: unknown key; did you mean retry_rejected?": ((), {"retry_reject": True}),
    "resource: unknown key; did you mean resources?": ((), {"resource": Resources()}),
    "min_interval: unknown key; did you mean keyframes.min_interval?": ((), {"min_interval": 3}),
    "keyframes.min_intervall: unknown key; did you mean keyframes.min_interval?": (
        (),
        {"keyframes": {"min_intervall": 3}},
    ),
}


@pytest.mark.parametrize("said", LABEL)
@pytest.mark.parametrize("function", [kinescribe.label, kinescribe.plan])
def test_a_wrong_option_of_labelling_is_refused(function: Callable[..., Any], said: str):
    arguments, options = LABEL[said]
    if function is kinescribe.plan and "retry_rejected" in said:
        said = "retry_reject: unknown key"
    where = ("clips", "out") if function is kinescribe.label else ("clips",)
    refused(function, said, *where, *arguments, **options)


@pytest.mark.parametrize(
    ("function", "arguments", "options", "said"),
    [
        (kinescribe.label, (None, "out"), {}, "input: must be a path, got None"),
        (kinescribe.ingest, ("a.json", ["out"]), {}, "out: must be a path, got ['out']"),
        (
            kinescribe.ingest,
            ("a.json", "out"),
            {"decode_workers": 0},
            "decode_workers: must be above 0, got 0",
        ),
        (kinescribe.ingest, ("a.json", "out"), {"decoders": 1}, "decoders: unknown key"),
        (kinescribe.status, (["dataset"],), {}, "dataset: must be a path, got ['dataset']"),
        (kinescribe.check, (b"dataset",), {}, "dataset: must be a path, got b'dataset'"),
        (kinescribe.curate, ([], "out"), {"top_k": 1}, "datasets: must not be empty, got []"),
        (kinescribe.curate, (None, "out"), {"top_k": 1}, "datasets: must be a list, got None"),
        (kinescribe.curate, (["a", 2], "out"), {"top_k": 1}, "datasets.1: must be a path, got 2"),
        (kinescribe.curate, ("a", "out"), {"top": 1}, "top: unknown key; did you mean top_k?"),
        (
            kinescribe.train,
            ("wrold", "d", "o"),
            {},
            "task: must be 'codec', 'dynamics' or 'world', got 'wrold'",
        ),
        (kinescribe.train, ("world", 3, "o"), {"init": "i", "steps": 1}, "data: must be a list, got 3"),
        (
            kinescribe.train,
            ("world", "d", "o"),
            {"init": "i"},
            "give one of steps and epochs, e.g. steps=1000",
        ),
        (
            kinescribe.train,
            ("world", "d", "o", TRAINING),
            {},
            "config: must be of class WorldTraining, got DynamicsTraining",
        ),
        (kinescribe.imagine, ("a.png", "left"), {"n": 3}, "n: unknown key; did you mean num_samples?"),
        (kinescribe.imagine, ("a.png", 3), {}, "actions: must be a list, got 3"),
        (kinescribe.imagine, ("a.png", []), {}, "actions: must not be empty, got []"),
        (kinescribe.report, ("nope", "r.html"), {"sample": 0}, "sample: must be above 0, got 0"),
        (kinescribe.report, ("nope", "r.html"), {"sample": -3}, "sample: must be above 0, got -3"),
        (kinescribe.report, ("nope", "r.txt"), {}, "out 'r.txt' is not the name of a page"),
        (
            kinescribe.export,
            ("d", "o", "lerobot"),
            {},
            "layout: must be 'webdataset' or 'hub', got 'lerobot'",
        ),
        (kinescribe.plan, ("clips",), {"deadline_h": 3}, "a deadline of 3 hours needs machines"),
        (
            kinescribe.plan,
            ("clips",),
            {"deadline_h": 0, "machines": [MACHINE]},
            "deadline_h: must be above 0",
        ),
        (kinescribe.plan, ("clips",), {"machines": "m.yaml"}, "machines: must be a list, got 'm.yaml'"),
        (
            kinescribe.plan,
            ("clips",),
            {"machines": [1]},
            "machines.0: must be a section with the keys of Machine",
        ),
        (kinescribe.plan, ("clips",), {"sample": 0}, "sample: must be at least 2, got 0"),
        (
            kinescribe.load_model,
            ("embedded", "wrold"),
            {},
            "role: must be 'unified', 'describer', 'dynamics'",
        ),
        (kinescribe.load_model, (), {"precision": "fp99"}, "precision: must be 'auto', 'bf16' or 'fp32'"),
        (kinescribe.load_model, (None,), {}, "name: must be a path, got None"),
        (evaluate.labels, ("d", None), {}, "truth: must be a path, got None"),
        (evaluate.dynamics, ("d",), {"num": "all"}, "num: must be a whole number, got 'all'"),
        (
            evaluate.world,
            (),
            {"num_samples": 4},
            "4 samples need a model that chooses the best; give dynamics",
        ),
        (evaluate.world, (), {"num": 0}, "num: must be above 0, got 0"),
        (evaluate.world, (), {"seed": -1}, "seed: must be at least 0, got -1"),
        (evaluate.world, (), {"progress": 1}, "progress: must be a function, got 1"),
        (evaluate.best_of_n, (), {"counts": [0]}, "counts.0: must be above 0, got 0"),
        (evaluate.best_of_n, (), {"counts": []}, "counts: must not be empty, got []"),
        (evaluate.best_of_n, (), {"counts": "1,2"}, "counts: must be a list, got '1,2'"),
        (evaluate.preference, ("m", "d"), {"task": "foo"}, "task: must be 'dynamics' or 'world', got 'foo'"),
    ],
)
def test_a_wrong_argument_is_refused(
    function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any], said: str
):
    refused(function, said, *arguments, **options)


def refused(function: Callable[..., Any], said: str, *arguments: Any, **options: Any):
    with pytest.raises(kinescribe.ConfigError, match=f"(?m)^{re.escape(said)}") as error:
        function(*arguments, **options)
    assert "pydantic" not in str(error.value)
    assert "--" not in str(error.value)


def test_nothing_heavy_is_imported_to_refuse_an_argument():
    probe = """
import sys, kinescribe
for call in (
    lambda: kinescribe.label("clips", "out", dynamic="x"),
    lambda: kinescribe.plan("clips", deadline_h=3),
    lambda: kinescribe.export("d", "o", "lerobot"),
    lambda: kinescribe.load_model("embedded", precision="fp99"),
    lambda: kinescribe.evaluate.world(num_samples=4),
):
    try:
        call()
    except kinescribe.ConfigError:
        print([name for name in ("ray", "torch", "polars", "pyarrow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"] * 5


def test_the_classes_of_configurations_refuse_as_the_functions_do():
    with pytest.raises(kinescribe.ConfigError, match=r"^dynamic: unknown key; did you mean dynamics\?$"):
        LabelConfig(dynamic="x")  # type: ignore[call-arg]
    with pytest.raises(kinescribe.ConfigError, match=r"^decode_workers: must be above 0, got 0$"):
        Resources(decode_workers=0)
    with pytest.raises(kinescribe.ConfigError, match=r"^keyframes.min_interval: must be above 0, got 0$"):
        LabelConfig(keyframes={"min_interval": 0})  # type: ignore[arg-type]


def test_a_path_in_a_configuration_may_be_a_path():
    config = LabelConfig(dynamics=Path("x"), roots=[Path("/a"), "/b"])  # type: ignore[arg-type]
    assert (config.dynamics, config.roots) == ("x", ("/a", "/b"))


@checked
def example(paths: StrPaths, out: StrPath, num: Positive = 3, **options: Any) -> Any:
    """Its arguments."""
    return paths, out, num, options


def test_arguments_arrive_as_their_annotations_say():
    assert example(Path("a"), Path("b"), extra=1) == (("a",), "b", 3, {"extra": 1})
    assert example(["a", Path("b")], "c", 4) == (("a", "b"), "c", 4, {})


def test_a_checked_function_keeps_its_name_and_documentation():
    assert (example.__name__, example.__doc__) == ("example", "Its arguments.")


def test_a_call_that_does_not_fit_the_signature_is_a_type_error():
    with pytest.raises(TypeError, match="out"):
        example("a")  # type: ignore[call-arg]
