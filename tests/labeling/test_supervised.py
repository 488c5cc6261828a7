import gzip
import json
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import pytest

from kinescribe.labeling.supervised import given_forbidden, list_given
from kinescribe.schemas.errors import InputError

EDIT = {"input": "images/a.jpg", "output": "images/b.jpg", "instruction": "Open the door.", "task": "ag"}


def aurora(folder: Path, *items: Any) -> str:
    (folder / "test.json").write_text(json.dumps(items))
    return str(folder / "test.json")


def table(folder: Path, text: str) -> str:
    (folder / "segments.csv").write_text(text, newline="")
    return str(folder / "segments.csv")


def refusal(input: str) -> str:
    with pytest.raises(InputError) as refused:
        list_given(input)
    return str(refused.value)


def test_an_item_of_aurora_is_two_images_and_a_sentence(tmp_path: Path):
    (triplet,) = list_given(aurora(tmp_path, {**EDIT, "caption": "A door", "id": "7"}))
    assert triplet.uris == (f"{tmp_path}/images/a.jpg", f"{tmp_path}/images/b.jpg")
    assert (triplet.action, triplet.clip.action_class) == ("Open the door.", "ag")
    assert (triplet.clip.uri, triplet.clip.start_s, triplet.clip.end_s) == (triplet.uris[0], None, None)


def test_a_row_of_a_table_is_a_segment_and_its_narration(tmp_path: Path):
    rows = (
        "uri,action_class,start_s,end_s,narration\n"
        'a.mp4,door,1,2.5,"open\n the  door "\n/far/b.mp4,,,,close it\n'
    )
    first, second = list_given(table(tmp_path, rows))
    assert (first.uris, first.action) == ((f"{tmp_path}/a.mp4",), "open the door")
    assert (first.clip.action_class, first.clip.start_s, first.clip.end_s) == ("door", 1.0, 2.5)
    assert (second.uris, second.clip.start_s, second.clip.end_s) == (("/far/b.mp4",), None, None)


@pytest.mark.parametrize("key", ["instruction", "prompt", "action"])
def test_the_action_has_the_key_of_its_file(tmp_path: Path, key: str):
    item = {"input": "a.png", "output": "b.png", key: "Close the door", "pos": "Open it", "neg": "No"}
    (triplet,) = list_given(aurora(tmp_path, item))
    assert triplet.action == "Close the door"
    assert list_given(aurora(tmp_path, {"instruction": "", **item}))[0].action == "Close the door"


PUBLISHED = {
    "ag/train.json": [
        {
            "instruction": "Leave the door while standing closer",
            "input": "data/ag/images/1K0SU.mp4_4_left.png",
            "output": "data/ag/images/1K0SU.mp4_4_right.png",
        }
    ],
    "kubric/valid.json": [
        {
            "input": "data/kubric/images/closer/6566/image0.jpg",
            "output": "data/kubric/images/closer/6566/image1.jpg",
            "prompt": "Move the bowls closer to each other.",
            "pos": "Move the bowls closer to each other.",
            "neg": "Move the bowls further apart.",
        },
        {
            "input": "data/kubric/images/rotate/1/image0.jpg",
            "output": "data/kubric/images/rotate/1/image1.jpg",
            "prompt": "push the turtle down",
        },
    ],
    "magicbrush/train.json": [
        {
            "input": "data/magicbrush/images/0-input.png",
            "mask": "0-mask.png",
            "output": "data/magicbrush/images/0-output.png",
            "instruction": "change the table for a dog",
            "img_id": "327726",
        }
    ],
}
"""Lists as in github.com/McGill-NLP/AURORA, where each is in the folder `data/NAME`."""


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("place", ["AURORA/data", "downloads"])
@pytest.mark.parametrize("are_there", [False, True])
def test_the_lists_of_aurora_are_read_as_published(tmp_path: Path, name: str, place: str, are_there: bool):
    items, list_ = PUBLISHED[name], tmp_path / place / name
    list_.parent.mkdir(parents=True)
    list_.write_text(json.dumps(items))
    images = [item[key].split("/", 2)[2] for item in items for key in ("input", "output")]
    for image in images if are_there else ():
        (list_.parent / image).parent.mkdir(parents=True, exist_ok=True)
        (list_.parent / image).touch()
    triplets = list_given(str(list_))
    uris = [uri for triplet in triplets for uri in triplet.uris]
    assert uris == [f"{list_.parent}/{image}" for image in images]
    assert [given_forbidden(str(list_), uri) for uri in uris] == [None] * len(uris)
    assert [triplet.action for triplet in triplets] == [
        item.get("instruction", item.get("prompt")) for item in items
    ]
    # Wherever the list is, and whether its images are there, a triplet has the id that it has in our form.
    keys = ("input", "output")
    plain = [{**item, **{key: item[key].split("/", 2)[2] for key in keys}} for item in items]
    ids = [triplet.clip.clip_id for triplet in list_given(aurora(tmp_path, *plain))]
    assert [triplet.clip.clip_id for triplet in triplets] == ids


def test_the_images_of_an_aurora_list_may_be_elsewhere(tmp_path: Path):
    """As in the repository's root, whose `test.json` names all subsets, and its folder `disc_edit_data`."""
    item = {"prompt": "Open", "input": "data/ag/images/l.png", "output": "data/ag/images/r.png", "task": "ag"}
    image = tmp_path / "data" / "ag" / "images" / "l.png"
    image.parent.mkdir(parents=True)
    image.touch()
    (tmp_path / "disc_edit_data" / "ag").mkdir(parents=True)
    for folder, is_allowed in ((tmp_path, True), (tmp_path / "disc_edit_data" / "ag", False)):
        given = aurora(folder, item)
        (triplet,) = list_given(given)
        assert triplet.uris[0] == str(image)
        assert (given_forbidden(given, triplet.uris[0]) is None) == is_allowed
        assert given_forbidden(given, triplet.uris[0], [str(tmp_path)]) is None
    (tmp_path / "disc_edit_data" / "ag" / "data" / "ag" / "images").mkdir(parents=True)
    nearer = tmp_path / "disc_edit_data" / "ag" / item["input"]
    nearer.touch()
    (tmp_path / "disc_edit_data" / "ag" / "images").mkdir()
    (tmp_path / "disc_edit_data" / "ag" / "images" / "l.png").touch()
    assert list_given(aurora(tmp_path / "disc_edit_data" / "ag", item))[0].uris[0] == str(nearer)


def test_a_list_of_triplets_may_be_packed_and_begin_with_a_mark(tmp_path: Path):
    packed = gzip.compress(b"\xef\xbb\xbf" + json.dumps([EDIT]).encode(), mtime=0)
    (tmp_path / "train.json.gz").write_bytes(packed)
    (triplet,) = list_given(str(tmp_path / "train.json.gz"))
    assert given_forbidden(str(tmp_path / "train.json.gz"), triplet.uris[0]) is None
    (tmp_path / "m.tsv").write_text("uri\tnarration\na.mp4\topen it\n")
    assert list_given(str(tmp_path / "m.tsv"))[0].action == "open it"
    assert "not a list of triplets" in refusal(str(tmp_path / "m.txt"))


@pytest.mark.parametrize("words", [None, "", " \n"])
def test_an_item_without_words_is_listed_all_the_same(tmp_path: Path, words: str | None):
    (triplet,) = list_given(aurora(tmp_path, {**EDIT, "instruction": words}))
    assert triplet.action == ""


def test_ids_depend_on_the_given_values_and_not_on_their_place(tmp_path: Path):
    ids = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        items = [EDIT, {**EDIT, "instruction": "Close it."}, {**EDIT, "task": "mb"}, EDIT, EDIT]
        ids.append([triplet.clip.clip_id for triplet in list_given(aurora(folder, *items))])
    assert ids[0] == ids[1]
    # An item that is listed three times is three triplets: none is lost.
    assert len(set(ids[0])) == 5


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[{}", "Invalid JSON"),
        ('{"input": 1}', "give a list of objects with instruction, input and output"),
        (json.dumps([EDIT, "x"]), "item 2: "),
        (json.dumps([EDIT, {"output": "b.jpg"}]), "item 2: input: Field required"),
        (json.dumps([{**EDIT, "output": ""}]), "item 1: output: "),
        (json.dumps([{**EDIT, "instruction": ["a"]}]), "item 1: instruction: Input should be a valid string"),
        (
            json.dumps([{**EDIT, "input": "s3://key:hunter2@b/a.jpg"}]),
            "item 1: a path must not contain",
        ),
        ("[]", "contains no triplet"),
        ("[" * 100_000, "Invalid JSON"),
    ],
)
def test_invalid_json_is_refused(tmp_path: Path, text: str, complaint: str):
    (tmp_path / "test.json").write_text(text)
    message = refusal(str(tmp_path / "test.json"))
    assert complaint in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("uri,start_s,end_s\na,0,1\n", "there is no column narration"),
        (
            'uri,start_s,end_s,narration\na,0,1,"two\nlines"\nb,0,1,x\nc,2,1,y\n',
            "line 5: end_s must be greater",
        ),
        ('uri,start_s,end_s,narration\na,0,1,"x\n\ny"\nb,soon,1,x\n', "line 5: start_s must be a number"),
        ("uri,start_s,end_s,narration\n", "contains no triplet"),
        (
            "uri,narration\nhttps://host/a.mp4?sig=a,x\n",
            "line 2: uri must not contain a password",
        ),
    ],
)
def test_an_invalid_table_is_refused_by_its_line(tmp_path: Path, text: str, complaint: str):
    assert complaint in refusal(table(tmp_path, text))


def test_another_kind_of_file_is_refused(tmp_path: Path):
    assert "not a list of triplets" in refusal(str(tmp_path / "clips"))
    assert "cannot be read" in refusal(str(tmp_path / "absent.json"))
    assert "cannot be read" in refusal(str(tmp_path / "absent.csv"))


def test_an_image_must_be_in_the_folder_of_its_json(tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.jpg").touch()
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    names = ["a.jpg", "x/../a.jpg", f"{folder}/a.jpg", f"file://{folder}/a.jpg", "loop.jpg"]
    names += ["../secret.jpg", f"{tmp_path}/secret.jpg", "link.jpg", "s3://bucket/a.jpg", "http://host/a.jpg"]
    names += [f"file://{tmp_path}/secret.jpg", "a\0.jpg", f"{folder}/../secret.jpg"]
    input = aurora(folder, *({**EDIT, "input": name} for name in names))
    verdicts = [given_forbidden(input, triplet.uris[0]) for triplet in list_given(input)]
    assert [verdict is None for verdict in verdicts] == [True] * 5 + [False] * 8
    roots = [str(tmp_path)]
    verdicts = [given_forbidden(input, triplet.uris[0], roots) for triplet in list_given(input)]
    stay_out = {"s3://bucket/a.jpg", "http://host/a.jpg", "a\0.jpg"}
    assert [verdict is None for verdict in verdicts] == [name not in stay_out for name in names]


def test_a_table_may_name_videos_in_stores_and_below_its_roots(tmp_path: Path):
    input = table(tmp_path, "uri,narration\na.mp4,x\n/far/b.mp4,x\ns3://bucket/c.mp4,x\n../d.mp4,x\n")
    uris = [triplet.uris[0] for triplet in list_given(input)]
    assert [given_forbidden(input, uri) is None for uri in uris] == [True, False, True, False]
    assert [given_forbidden(input, uri, ["/far"]) is None for uri in uris] == [True, True, True, False]


def test_other_columns_of_a_table_are_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    assert len(list_given(table(tmp_path, "uri,narration,verb\na,x,y\n"))) == 1
    assert "ignoring 'verb'; known are uri, action_class, start_s, end_s, narration" in caplog.text


def test_millions_of_mistakes_take_no_more_memory_than_one(tmp_path: Path):
    (tmp_path / "test.json").write_text("[" + "1," * 5_000_000 + "1]")
    before = getrusage(RUSAGE_SELF).ru_maxrss
    assert "item 1: " in refusal(str(tmp_path / "test.json"))
    assert getrusage(RUSAGE_SELF).ru_maxrss - before < 500 << 10  # kibibytes; all mistakes take gigabytes
