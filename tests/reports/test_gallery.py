import json
import math
from pathlib import Path

import pytest

from kinescribe.labeling.units import plan_units
from kinescribe.reports.gallery import gallery, sampled, scores
from kinescribe.schemas.clips import stable_id
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.shards import write_unit
from tests.tiny_dataset import build, clip, outcome, row, run_of, table


def test_a_frame_that_pairs_share_is_in_the_page_once(tmp_path: Path):
    build(str(tmp_path), [3, 2, 4])
    rows = Dataset.open(str(tmp_path)).scan()
    made = gallery(rows, sampled(scores(rows), 100))
    assert len(made) == 9
    assert len({*made.pairs["source"]}) == len({*made.pairs["target"]}) == len({*made.pairs["heat"]}) == 1
    (pictures,) = made.blocks
    assert [picture.partition(";")[0] for picture in pictures] == [
        "data:image/webp",
        "data:image/webp",
        "data:image/png",
    ]
    assert made.num_bytes == sum(map(len, pictures))


def test_columns_have_the_values_of_the_rows(tmp_path: Path):
    build(str(tmp_path), [2])
    rows = Dataset.open(str(tmp_path)).scan()
    made = gallery(rows, sampled(scores(rows), 100))
    pairs = {made.pairs["action"][place]: place for place in range(2)}
    place = pairs["move 1"]
    assert {
        name: values[place] for name, values in made.pairs.items() if name not in ("source", "target")
    } == {
        "id": stable_id(clip("0").clip_id, 1),
        "action": "move 1",
        "class": "jump",
        "video": "videos/0.mp4",
        "times": [0.5, 1.0],
        "score": -0.25,
        "tokens": 2,
        "motion": 1.5,
        "heat": made.pairs["heat"][place],
    }
    json.dumps(made.pairs, allow_nan=False)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_score_that_is_not_finite_is_null(tmp_path: Path, value: float):
    clips = [clip("a")]
    (unit,) = plan_units(clips, 1, run_of(clips).fingerprint)
    bind(str(tmp_path), run_of(clips))
    write_plan(str(tmp_path), [unit])
    odd = {**row(clips[0], 0), "action_logprob": value, "motion": value}
    write_unit(str(tmp_path), unit, table([odd]), [outcome(clips[0], 1)])
    rows = Dataset.open(str(tmp_path)).scan()
    found = scores(rows)
    assert (found["score"].to_list(), found["motion"].to_list()) == ([None], [None])
    json.dumps(gallery(rows, found).pairs, allow_nan=False)


def test_a_sample_is_the_rows_with_the_smallest_ids(tmp_path: Path):
    build(str(tmp_path), [3] * 6)
    rows = Dataset.open(str(tmp_path)).scan()
    every = scores(rows)
    ids = sorted(every["triplet_id"])
    assert sampled(every, 5)["triplet_id"].to_list() == ids[:5]
    assert len(gallery(rows, sampled(every, 5))) == 5
