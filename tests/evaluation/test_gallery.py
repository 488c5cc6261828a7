import json
from pathlib import Path

from evaluation.gallery import gallery, sampled, scores
from storage.shards import scan
from tests.tiny_dataset import build


def test_a_frame_that_pairs_share_is_in_the_page_once(tmp_path: Path):
    build(str(tmp_path), [3, 2, 4])
    rows = scan(str(tmp_path))
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


def test_columns_say_of_each_pair_what_its_row_says(tmp_path: Path):
    build(str(tmp_path), [2])
    rows = scan(str(tmp_path))
    made = gallery(rows, sampled(scores(rows), 100))
    pairs = {made.pairs["action"][place]: place for place in range(2)}
    place = pairs["move 1"]
    assert {
        name: values[place] for name, values in made.pairs.items() if name not in ("source", "target")
    } == {
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


def test_a_sample_is_the_rows_with_the_smallest_ids(tmp_path: Path):
    build(str(tmp_path), [3] * 6)
    rows = scan(str(tmp_path))
    table = scores(rows)
    ids = sorted(table["triplet_id"])
    assert sampled(table, 5)["triplet_id"].to_list() == ids[:5]
    assert len(gallery(rows, sampled(table, 5))) == 5
