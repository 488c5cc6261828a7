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
