import gzip
import json
from pathlib import Path

import pytest

from kinescribe.labeling import tables
from kinescribe.labeling.inputs import list_clips
from kinescribe.labeling.tables import kind_of, local_table, read_table
from kinescribe.schemas.config import Limits
from kinescribe.schemas.errors import InputError
from kinescribe.storage import objects


def write(folder: Path, name: str, content: str | bytes) -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def rows(uri: str) -> list[dict[str, object]]:
    with local_table(uri) as path:
        return read_table(uri, path).to_dicts()


def refusal(uri: str) -> str:
    with pytest.raises(InputError) as refused:
        list_clips(uri, Limits())
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", "uri,end_s\na.mp4,1\nb, c.mp4,2\n".replace("b, c.mp4", '"b, c.mp4"')),
        ("m.tsv", "uri\tend_s\na.mp4\t1\nb, c.mp4\t2\n"),
        ("m.json", json.dumps([{"uri": "a.mp4", "end_s": "1"}, {"uri": "b, c.mp4", "end_s": "2"}], indent=1)),
        ("m.jsonl", '{"uri": "a.mp4", "end_s": "1"}\r\n{"uri": "b, c.mp4", "end_s": "2"}\r\n'),
        ("M.NDJSON", '{"uri": "a.mp4", "end_s": "1"}\n{"uri": "b, c.mp4", "end_s": "2"}\n'),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("packed", [False, True])
def test_each_kind_of_table_gives_the_same_rows(
    tmp_path: Path, name: str, content: str, mark: str, packed: bool
):
    data = (mark + content).encode()
    uri = (
        write(tmp_path, name + ".GZ", gzip.compress(data, mtime=0)) if packed else write(tmp_path, name, data)
    )
    assert rows(uri) == [{"uri": "a.mp4", "end_s": "1"}, {"uri": "b, c.mp4", "end_s": "2"}]


def test_a_text_file_is_a_name_per_line_without_comments_and_blank_lines(tmp_path: Path):
    text = "\ufeff# a list\n\na b.mp4\r\n   # more\n \n\tsub/c.MKV  \ncarriage\rreturn.mp4\ns3://bucket/d.mp4"
    names = ["a b.mp4", "sub/c.MKV", "carriage\rreturn.mp4", "s3://bucket/d.mp4"]
    assert [row["uri"] for row in rows(write(tmp_path, "m.txt", text))] == names
    clips = list_clips(str(tmp_path / "m.txt"), Limits())
    assert [clip.uri for clip in clips] == [*(f"{tmp_path}/{name}" for name in names[:3]), names[3]]


def test_a_json_list_of_names_is_a_list_of_clips(tmp_path: Path):
    assert rows(write(tmp_path, "m.json", '["a.mp4", "b.webm"]')) == [{"uri": "a.mp4"}, {"uri": "b.webm"}]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "m.txt",
            "a.mp4\n# x\nThis is a note.\n",
            "line 3: 'This is a note.' does not end like a video's name",
        ),
        (
            "m.txt",
            "v.avi 1\n",
            "line 1: 'v.avi 1' does not end like a video's name; give names of videos alone",
        ),
        ("m.txt", "\ufeff# x\nc\rr.mp4\n\n\xa0\n", r"line 4: '\xa0' does not end like a video's name"),
        ("m.txt", "a.mp4\n", "contains no video"),
        ("m.txt", "a.mp4\n\xe4.mp4\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("m.json", '["a.mp4", "run"]', "item 2: 'run' does not end like a video's name"),
        ("m.json", '["a.mp4", {"uri": "b.mp4"}]', "item 1: it is not an object; give a list of objects"),
        ("m.json", '[{"uri": "a.mp4"}, 7]', "item 2: it is not an object"),
        ("m.json", '[{"uri": "a.mp4"}, {"uri": "b.mp4", "end_s": -1}]', "item 2: end_s must be greater"),
        ("m.json", '{"uri": "a.mp4"}', "is not a JSON list; give a list of objects with a uri, or of names"),
        ("m.json", '["a.mp4",\n oops]', "line 2 is not JSON"),
        ("m.json", "[" * 100_000, "nested too deeply"),
        ("m.json", "[]", "contains no video"),
        ("m.json", b'["\xe4.mp4"]', "line 1 is not UTF-8"),
        ("m.json", '["\\ud800.mp4"]', "surrogates not allowed; write it again"),
        ("m.tsv", "uri\tend_s\na.mp4\t1\nb.mp4\t1\t2\n", "line 3 has 3 fields, the header 2; quote tabs"),
        ("m.tsv", 'id\turi\tend_s\nx\t"a\nb.mp4"\t1\ny\tb.mp4\t-1\n', "line 4: end_s must be greater"),
        ("m.csv", "uri,end_s,\xe4\na.mp4,-1,x\n".encode("latin-1"), "line 2: end_s must be greater"),
        ("m.csv", "uri;end_s\na,b.mp4;1\n", "line 1: its columns are separated by semicolons; use commas"),
        ("m.csv", "uri\tend_s\n", "separated by tabs; use commas, or name it .tsv"),
        ("m.tsv", "uri,end_s\n", "separated by commas; use tabs, or name it .csv"),
        ("m.csv", "uri\ra.mp4\r", "its lines end in \\r alone; save it with \\n"),
        ("m.xlsx", "PK", "no video, and no list of clips that is read: give .csv, .tsv, .jsonl"),
        ("m.mp4.gz", gzip.compress(b"x", mtime=0), "no video, and no list of clips that is read"),
        ("m.parquet.gz", gzip.compress(b"x", mtime=0), "no video, and no list of clips that is read"),
    ],
)
def test_what_is_no_list_is_refused_by_name_and_place(
    tmp_path: Path, name: str, content: str | bytes, complaint: str
):
    if complaint == "contains no video":
        content = content.replace("a.mp4", "# a.mp4") if isinstance(content, str) else content
    assert complaint in refusal(write(tmp_path, name, content))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"uri\na.mp4\n", "is damaged: Not a gzipped file"),
        (gzip.compress(b"uri\na.mp4\n", mtime=0)[:-9], "is damaged: Compressed file ended before"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"junk" * 9, "is damaged"),
    ],
)
def test_a_damaged_gzip_file_is_refused(tmp_path: Path, content: bytes, complaint: str):
    assert complaint in refusal(write(tmp_path, "m.csv.gz", content))


def test_a_list_that_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_UNPACKED_BYTES", 4 << 20)
    fits = gzip.compress(b"uri\na.mp4\n".ljust(4 << 20, b"\n"), mtime=0)
    bomb = gzip.compress(b"uri\na.mp4\n".ljust((4 << 20) + 1, b"\n"), mtime=0)
    with local_table(write(tmp_path, "m.csv.gz", fits)) as path:
        assert path.stat().st_size == 4 << 20
    message = refusal(write(tmp_path, "m.csv.gz", bomb))
    assert "m.csv.gz unpacks to more than 4,194,304 bytes; store it unpacked" in message


def test_a_json_list_that_is_too_large_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(objects, "MAX_LIST_BYTES", 1 << 20)
    assert rows(write(tmp_path, "m.json", b'["a.mp4"]'.ljust(1 << 20))) == [{"uri": "a.mp4"}]
    too_large = write(tmp_path, "m.json", b" " * ((1 << 20) + 1))
    assert "m.json has more than 1 MiB; split it" in refusal(too_large)


def test_a_key_of_any_item_is_a_column(tmp_path: Path):
    items = [*({"uri": f"{index}.mp4"} for index in range(500)), {"uri": "x.mp4", "id": "y"}]
    assert rows(write(tmp_path, "m.json", json.dumps(items)))[-1] == items[-1]


def test_the_kind_of_a_list_is_its_ending_without_gz():
    kinds = {
        name: kind_of(f"s3://bucket/{name}") for name in ("a.CSV.gz", "a.b.ndjson", "a.txt", "a.mp4", "gz")
    }
    assert kinds == {"a.CSV.gz": ".csv", "a.b.ndjson": ".jsonl", "a.txt": ".txt", "a.mp4": None, "gz": None}


def test_a_list_in_a_store_is_unpacked(bucket: str):
    objects.create(f"{bucket}/m.csv.gz", gzip.compress(b"uri\na.mp4\n", mtime=0))
    assert rows(f"{bucket}/m.csv.gz") == [{"uri": "a.mp4"}]
