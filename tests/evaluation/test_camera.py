import io
import math
from pathlib import Path

import matplotlib.figure
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from kinescribe import evaluate
from kinescribe.evaluation.camera import clear_motion, said_of_camera
from kinescribe.evaluation.label_accuracy import Rate
from kinescribe.media.camera_motion import CameraMotion
from kinescribe.schemas.clips import WorkUnit, stable_id
from kinescribe.schemas.errors import InputError
from kinescribe.schemas.outcomes import DropReason
from kinescribe.simulation.actions import CAMERA
from kinescribe.simulation.scene import render
from kinescribe.simulation.transitions import draw_change, draw_scene
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.shards import write_unit
from tests.command_line import run
from tests.tiny_dataset import SCHEMA, build, clip, outcome, row, run_of

OPPOSITE = {"left": "right", "up": "down", "in": "out"} | {"right": "left", "down": "up", "out": "in"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pan left", "pan left"),
        ("The camera pans slowly to the right.", "pan right"),
        ("Panning left, the room appears", "pan left"),
        ("zoomed in on the cup", "zoom in"),
        ("tilt the camera up", "tilt up"),
        ("The camera moves to the left", "pan left"),
        ("the camera is moving down", "tilt down"),
        ("roll right", "roll right"),
        ("pan up", None),
        ("move the red ball left", None),
        ("put the frying pan left of the stove", None),
        ("pan left, then pan right", None),
        ("rolled the ball in", None),
        ("", None),
    ],
)
def test_a_sentence_names_a_motion_of_the_camera(text: str, said: str | None):
    found = said_of_camera(text)
    assert (None if found is None else str(found)) == said


@pytest.mark.parametrize(
    ("measured", "motion", "shift"),
    [
        (CameraMotion(0.1, 0.01, 1, 0), "pan left", 0.1),
        (CameraMotion(-0.1, 0.0, 1, 0), "pan right", 0.1),
        (CameraMotion(0, 0.06, 1, 0), "tilt up", 0.06),
        (CameraMotion(0, 0, math.exp(0.1), 0), "zoom in", 0.05),
        (CameraMotion(0, 0, math.exp(-0.1), 0), "zoom out", 0.05),
        (CameraMotion(0, 0, 1, 18), "roll left", math.pi / 20),
        (CameraMotion(0.1, 0.06, 1, 0), None, 0.1),
        (CameraMotion(0.004, 0, 1, 0), None, 0.004),
    ],
)
def test_a_motion_stands_out_if_it_is_twice_as_far(measured: CameraMotion, motion: str | None, shift: float):
    found = clear_motion(measured)
    assert (None if found.action is None else str(found.action)) == motion
    assert found.shift == pytest.approx(shift)
    assert found.is_still == (shift < 0.005)


def jpeg(picture: np.ndarray) -> dict:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95)
    return {"bytes": buffer.getvalue(), "path": None}


def simulated(folder: Path) -> tuple[int, int]:
    """Labelled pairs of every camera motion, right ones and opposite ones, and of still cameras."""
    random = np.random.default_rng(0)
    one = clip("a")
    rows: list[dict] = []
    for verb in CAMERA:
        for _ in range(3):
            change = None
            while change is None:
                change = draw_change(random, draw_scene(random), verb)
            before, after = (jpeg(render(scene, 256)) for scene in (change.before, change.after))
            action = str(change.action)
            wrong = f"{change.action.verb} {OPPOSITE[change.action.direction or '']}"
            for text, target in ((action, after), (wrong, after), ("move the red ball left", before)):
                rows.append({"source": before, "target": target, "action": text})
    unit = WorkUnit(stable_id("unit"), (one,))
    bind(str(folder), run_of([one]))
    write_plan(str(folder), [unit])
    table = pa.Table.from_pylist([row(one, place) | new for place, new in enumerate(rows)], SCHEMA)
    write_unit(str(folder), unit, table, [outcome(one, len(rows))])
    return len(rows), len(rows) // 3


def test_labels_of_simulated_cameras_are_right_or_opposite(tmp_path: Path):
    num, third = simulated(tmp_path)
    seen: list[int] = []
    scores = evaluate.camera(tmp_path, progress=lambda done, total: seen.append(done))
    assert seen == [*range(1, num + 1)]
    assert scores.pairs == num
    assert scores.unmeasured <= 3
    assert scores.mixed == 0
    assert scores.still_called_moving == Rate(0, third)
    assert scores.simulated_objects == Rate(third, num)
    measured = sum(shares.right.total for shares in scores.by_shift.values())
    assert measured >= 2 * third - 3
    for groups in (scores.by_shift, scores.by_motion):
        for shares in groups.values():
            assert shares.right.hits == shares.opposite.hits
            assert shares.other.hits == shares.none.hits == 0
    assert scores.by_shift["from 8 %"].right.total > third
    assert any("opposite" in table.columns for table in scores.tables())
    scores.draw(matplotlib.figure.Figure())


def test_the_first_pairs_alone_may_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    simulated(tmp_path / "dataset")
    assert evaluate.camera(tmp_path / "dataset", num=2).pairs == 2
    plot = tmp_path / "camera.png"
    run("evaluate", "camera", tmp_path / "dataset", "--num", 5, "--plot", plot)
    assert "opposite" in capsys.readouterr().out
    assert plot.stat().st_size > 10_000


def test_a_dataset_without_triplets_has_no_labels(tmp_path: Path):
    build(str(tmp_path), [DropReason.STATIC])
    with pytest.raises(InputError, match="has no triplet"):
        evaluate.camera(tmp_path)
