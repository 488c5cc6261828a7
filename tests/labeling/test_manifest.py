import datetime
import json
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinescribe.labeling.manifest import read_manifest
from kinescribe.schemas.errors import InputError
from tests.forged_datasets import spoil

ROWS = [
    {"uri": "a.mp4", "action_class": "jump", "start_s": 0.5, "end_s": 2.0, "id": "first"},
    {"uri": "b.mp4", "action_class": None, "start_s": None, "end_s": 3.0, "id": None},
    {"uri": "s3://bucket/c, d.mp4", "action_class": "run", "start_s": None, "end_s": None, "id": "third"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    table = pl.DataFrame(rows, infer_schema_length=None)
    writers = {".csv": table.write_csv, ".jsonl": table.write_ndjson, ".parquet": table.write_parquet}
    writers[path.suffix](path)
    return str(path)


def refusal(manifest: str) -> str:
    with pytest.raises(InputError) as refused:
        read_manifest(manifest)
    return str(refused.value)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_each_kind_of_manifest_gives_the_same_rows(tmp_path: Path, suffix: str):
    assert read_manifest(write(tmp_path / f"m{suffix}", ROWS)).to_dicts() == ROWS


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_only_the_uri_is_needed(tmp_path: Path, suffix: str):
    (row,) = read_manifest(write(tmp_path / f"m{suffix}", [{"uri": "a.mp4"}])).to_dicts()
    assert row == {"uri": "a.mp4", "action_class": None, "start_s": None, "end_s": None, "id": None}


@pytest.mark.parametrize(
    ("suffix", "first"), [(".csv", "line 2"), (".jsonl", "line 1"), (".parquet", "row 1")]
)
def test_a_refusal_names_the_line(tmp_path: Path, suffix: str, first: str):
    rows = [{"uri": "a", "start_s": 1.0, "end_s": 0.5}, {"uri": "b", "start_s": None, "end_s": None}]
    manifest = write(tmp_path / f"m{suffix}", rows)
    assert f"{first}: end_s must be greater than start_s (0 if absent), got 0.5" in refusal(manifest)


def test_minus_zero_seconds_are_zero(tmp_path: Path):
    """Otherwise a video would have two ids, and the plan's digest would depend on their order."""
    (tmp_path / "m.csv").write_text("uri,start_s,end_s\na.mp4,-0.0,1\nb.mp4,0,1\n")
    assert list(map(str, read_manifest(str(tmp_path / "m.csv"))["start_s"])) == ["0.0", "0.0"]


def test_the_line_is_right_after_values_that_hold_line_breaks(tmp_path: Path):
    text = 'uri,action_class,end_s\na.mp4,"two\nlines",1\nb.mp4,"three\r\nmore\nlines",2\nc.mp4,run,-1\n'
    (tmp_path / "m.csv").write_text(text, newline="")
    assert "line 7: end_s must be greater than start_s" in refusal(str(tmp_path / "m.csv"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "\n\nuri,end_s\na.mp4,-1\n"),
        ("m.jsonl", '{"uri": "a"}\n\n \n{"uri": "b", "end_s": -1}\n'),
    ],
)
def test_blank_lines_are_counted(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    assert "line 4: end_s must be greater than start_s" in refusal(str(tmp_path / name))


@pytest.mark.parametrize(("name", "text"), [("m.csv", "uri\na\nä\n"), ("m.jsonl", '{"uri": "a"}\n\n"ä"\n')])
def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text, encoding="latin-1")
    assert "line 3 is not UTF-8; save it in that encoding" in refusal(str(tmp_path / name))


def test_a_quote_that_is_not_closed_is_found_where_its_row_begins(tmp_path: Path):
    (tmp_path / "m.csv").write_text('uri,action_class\na.mp4,"two\nlines"\nb.mp4,"open\nc.mp4,run\n')
    assert "the row that begins on line 4 is not CSV" in refusal(str(tmp_path / "m.csv"))


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"uri": ""}, "uri must name a video, got ''"),
        ({"uri": None}, "uri must name a video, got None"),
        ({"uri": "x\0.mp4"}, r"uri must not contain a zero byte, got 'x\x00.mp4'"),
        ({"uri": "x", "start_s": "soon"}, "start_s must be a number of seconds, got 'soon'"),
        ({"uri": "x", "start_s": "-1"}, "start_s must be at least 0, got -1.0"),
        ({"uri": "x", "start_s": "nan"}, "start_s must be at least 0, got nan"),
        ({"uri": "x", "end_s": "0"}, "end_s must be greater than start_s"),
        ({"uri": "x", "end_s": "inf"}, "end_s must be greater than start_s"),
        ({"uri": "x", "start_s": "2", "end_s": "2"}, "end_s must be greater than start_s"),
        ({"uri": "x", "id": "taken"}, "id must be unique, got 'taken'"),
        ({"uri": "ok.mp4"}, "a video and window must be listed once, or each time with an id"),
        ({"uri": "x" * 4097}, "uri must have at most 4,096 bytes, got 'xxx"),
        ({"uri": "x", "id": "y" * 4097}, "id must have at most 4,096 bytes, got 'yyy"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_invalid_row_is_refused(tmp_path: Path, suffix: str, row: dict[str, Any], rule: str):
    blank = dict.fromkeys(("uri", "start_s", "end_s", "id"))
    good = [{**blank, "uri": "ok.mp4"}, {**blank, "uri": "y", "id": "taken"}]
    assert rule in refusal(write(tmp_path / f"m{suffix}", [*good, {**blank, **row}]))


@pytest.mark.parametrize("prefix", ["{folder}/", "file://{folder}/", "file://", "./", "{folder}/././"])
def test_a_video_is_listed_once_however_it_is_spelled(tmp_path: Path, prefix: str):
    rows = [{"uri": "a.mp4"}, {"uri": prefix.format(folder=tmp_path) + "a.mp4"}]
    assert "line 2: a video and window must be listed once" in refusal(write(tmp_path / "m.csv", rows))


def test_a_window_from_0_equals_one_without_a_start(tmp_path: Path):
    rows = [{"uri": "a.mp4", "start_s": None, "end_s": 2}, {"uri": "a.mp4", "start_s": 0, "end_s": 2}]
    assert "line 2: a video and window must be listed once" in refusal(write(tmp_path / "m.csv", rows))


def test_windows_of_a_video_may_differ_in_either_end(tmp_path: Path):
    rows = [{"uri": "a", "start_s": start, "end_s": end} for start, end in ((0, 2), (0, 3), (1, 3))]
    assert read_manifest(write(tmp_path / "m.csv", rows)).height == 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_manifest_may_have_no_rows(tmp_path: Path, suffix: str):
    table = pl.DataFrame(schema={"uri": pl.String})
    {".csv": table.write_csv, ".parquet": table.write_parquet}[suffix](tmp_path / f"m{suffix}")
    assert read_manifest(str(tmp_path / f"m{suffix}")).height == 0


def test_the_same_window_may_come_twice_under_two_ids(tmp_path: Path):
    rows = [{"uri": "a", "id": "x"}, {"uri": "a", "id": "y"}]
    assert read_manifest(write(tmp_path / "m.csv", rows)).height == 2


@pytest.mark.parametrize("text", ["[" * 100_000, '{"uri": "a", "id": ' + "[" * 3000 + "]" * 3000 + "}"])
def test_json_without_a_bottom_is_refused_by_its_line(tmp_path: Path, text: str):
    (tmp_path / "m.jsonl").write_text('{"uri": "x"}\n' + text)
    assert "line 2 is nested too deeply" in refusal(str(tmp_path / "m.jsonl"))


def test_the_line_of_a_row_is_found_after_a_very_long_value(tmp_path: Path):
    (tmp_path / "m.csv").write_text(f"note,uri,start_s\n{'x' * 200_000},a.mp4,1\n,b.mp4,-1\n")
    assert "line 3: start_s must be at least 0" in refusal(str(tmp_path / "m.csv"))


@pytest.mark.parametrize("column", ["uri", "action_class", "id"])
def test_texts_that_are_not_utf8_are_refused(tmp_path: Path, column: str):
    manifest = write(tmp_path / "m.parquet", ROWS)
    spoil(Path(manifest), column)
    assert "Invalid UTF8" in refusal(manifest)


def test_a_name_of_a_column_that_is_not_utf8_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = tmp_path / "m.parquet"
    empty = pa.table({"uri": pa.nulls(0, pa.string()), "zzz": pa.nulls(0, pa.int64())})
    pq.write_table(empty, path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"zzz", b"\xff\xff\xff"))
    assert "cannot be read" in refusal(str(path))
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_manifest_without_uris_is_refused(tmp_path: Path, suffix: str):
    assert "there is no column uri" in refusal(write(tmp_path / f"m{suffix}", [{"id": "a"}]))


@pytest.mark.parametrize("kind", [pa.json_(), pa.uuid(), pa.bool8()])
def test_a_column_of_an_extension_type_is_refused(tmp_path: Path, kind: pa.DataType):
    pq.write_table(pa.table({"uri": pa.nulls(1, kind)}), tmp_path / "m.parquet")
    assert "column uri must hold text" in refusal(str(tmp_path / "m.parquet"))


@pytest.mark.parametrize(
    "value", [[1.0], {"s": 1.0}, True, datetime.datetime(2020, 1, 1), datetime.timedelta(seconds=1)]
)
def test_a_time_of_another_type_is_refused(tmp_path: Path, value: Any):
    message = refusal(write(tmp_path / "m.parquet", [{"uri": "a", "start_s": value}]))
    assert "column start_s must hold a number of seconds" in message


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hunter2@bucket/a.mp4",
        "https://hunter2@host/a.mp4",
        "https://host/a.mp4?X-Amz-Date=1&X-Amz-Signature=hunter2",
        "https://host/a.mp4?se=1&sig=hunter2",
        "s3://bucket/a.mp4?X-Amz-Security-Token=hunter2",
        "zip://a.mp4::https://host/b.zip?Access_Token=hunter2",
        "https://host/a.mp4?GoogleAccessId=a&Signature=hunter2",
    ],
)
def test_a_password_or_signature_is_refused_and_not_repeated(tmp_path: Path, url: str):
    message = refusal(write(tmp_path / "m.csv", [{"uri": "a"}, {"uri": url}]))
    assert "line 3: uri must not contain a password or a signature; set the store's" in message
    assert "hunter2" not in message


def test_a_url_that_only_looks_secret_is_accepted(tmp_path: Path):
    names = ["a?token=1.mp4", "s3://bucket/a:b@c.mp4", "abfs://clips@account.dfs.core.windows.net/a.mp4"]
    names += ["s3://bucket/key=1/a.mp4", "s3://bucket/2024-??/a.mp4", "hf://datasets/a/b@main/c.mp4"]
    assert read_manifest(write(tmp_path / "m.csv", [{"uri": name} for name in names])).height == len(names)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("m.jsonl", '{"uri": "a"}\n{"uri": "b"\n', "line 2 is not JSON"),
        ("m.jsonl", '{"uri": "a"}\n["b"]\n', "line 2 is not a JSON object"),
        ("m.csv", "uri,action_class\na,b\nc,d,e\n", "line 3 has 3 fields, the header 2"),
        ("m.csv", "uri,action_class\na,b,c\n", "line 2 has 3 fields, the header 2"),
        ("m.csv", 'uri,"class"x\na,b,c\n', "the row that begins on line 1 is not CSV"),
        ("m.csv", "", "it is empty; its first line must name the columns"),
        ("m.jsonl", "", "it is empty; write one object per line"),
        ("m.jsonl", '{"uri": "a", "end_s": true}\n{"uri": "b", "end_s": 1}', "write it again"),
        ("m.parquet", "not parquet", "write it again"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, text: str, complaint: str):
    (tmp_path / name).write_text(text)
    assert complaint in refusal(str(tmp_path / name))


def test_a_byte_order_mark_and_numbers_as_ids_are_taken(tmp_path: Path):
    (tmp_path / "m.csv").write_text("﻿uri,id,start_s\na.mp4,7,1\n", encoding="utf-8")
    (row,) = read_manifest(str(tmp_path / "m.csv")).to_dicts()
    assert (row["uri"], row["id"], row["start_s"]) == ("a.mp4", "7", 1.0)


def test_whole_numbers_and_fractions_mix(tmp_path: Path):
    (tmp_path / "m.jsonl").write_text('{"uri": "a", "end_s": 1}\n{"uri": "b", "end_s": 1.5}\n')
    assert read_manifest(str(tmp_path / "m.jsonl"))["end_s"].to_list() == [1.0, 1.5]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_other_columns_are_ignored_with_a_warning(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
):
    name = write(tmp_path / f"m{suffix}", [{"uri": "a", "fps": 25, "la\nbel": "x"}])
    assert read_manifest(name).columns == ["uri", "action_class", "start_s", "end_s", "id"]
    (warning,) = caplog.messages
    assert warning == (
        f"manifest {name}: ignoring 'fps', 'la\\nbel'; known are uri, action_class, start_s, end_s, id; "
        "--columns NAME,… carries others into the dataset"
    )


@pytest.mark.parametrize("name", ["__index_level_0__", "Unnamed: 0", "Unnamed: 12", ""])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_index_of_pandas_is_ignored_without_a_word(
    tmp_path: Path, suffix: str, name: str, caplog: pytest.LogCaptureFixture
):
    manifest = write(tmp_path / f"m{suffix}", [{name: "7", "uri": "a"}, {name: "8", "uri": "b"}])
    assert read_manifest(manifest)["uri"].to_list() == ["a", "b"]
    assert caplog.messages == []
    if name:
        assert read_manifest(manifest, [name])[name].to_list() == ["7", "8"]
    assert read_manifest(write(tmp_path / "n.csv", [{"uri": "a", "Unnamed": 1}])).height == 1
    assert "ignoring 'Unnamed'" in caplog.text


def test_a_name_with_a_carriage_return_is_kept(tmp_path: Path):
    names = ["a\rb.mp4", "\rc.mp4", "d\r\ne.mp4", "f.mp4\r"]
    for suffix in (".jsonl", ".parquet"):
        rows = read_manifest(write(tmp_path / f"m{suffix}", [{"uri": name} for name in names]))
        assert rows["uri"].to_list() == names
    (tmp_path / "m.csv").write_text("\r\n".join(["uri", *(f'"{name}"' for name in names)]), newline="")
    assert read_manifest(str(tmp_path / "m.csv"))["uri"].to_list() == names


def test_a_key_on_any_line_is_a_column(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    lines = [json.dumps({"uri": str(index)}) for index in range(500)]
    (tmp_path / "m.jsonl").write_text("\n".join([*lines, '{"uri": "x", "labl": "y"}']))
    assert read_manifest(str(tmp_path / "m.jsonl"), ["labl"])["labl"].to_list() == [None] * 500 + ["y"]
    assert caplog.messages == []


def test_carried_columns_keep_values_and_types(tmp_path: Path):
    frame = pl.DataFrame(
        {
            "uri": ["a", "b"],
            "take": pl.Series([1, None], dtype=pl.Int16),
            "at": [datetime.datetime(2020, 1, 1), None],
            "pose": pl.Series([[0.5, 1.0], []], dtype=pl.List(pl.Float32)),
        }
    )
    frame.write_parquet(tmp_path / "m.parquet")
    rows = read_manifest(str(tmp_path / "m.parquet"), ["pose", "take", "at"])
    assert rows.select("take", "at", "pose").equals(frame.select("take", "at", "pose"))
    assert rows.schema["take"] == pl.Int16
    assert rows.columns[-3:] == ["pose", "take", "at"]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (["robot"], "there is no column robot, only 'uri', 'extra'; add it"),
        (["extra"], "column extra cannot be carried into the dataset, as it has the type"),
    ],
)
def test_a_column_that_cannot_be_carried_is_refused(tmp_path: Path, columns: list[str], complaint: str):
    (tmp_path / "m.jsonl").write_text('{"uri": "a", "extra": {"b": 1}}')
    with pytest.raises(InputError, match=complaint):
        read_manifest(str(tmp_path / "m.jsonl"), columns)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_a_line_of_many_megabytes_is_refused_before_it_is_parsed(tmp_path: Path, suffix: str):
    manifest = tmp_path / f"m.{suffix}"
    with manifest.open("w") as file:
        file.write("uri\na.mp4\n" + "x" * (50 << 20))
    before = getrusage(RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"line [123]: it has more than 1 MiB"):
        read_manifest(str(manifest))
    assert getrusage(RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_a_manifest_of_many_megabytes_may_have_many_lines(tmp_path: Path):
    num = 150_000
    with (tmp_path / "m.csv").open("w") as file:
        file.write("uri\n")
        file.writelines(f"clips/{index:012}.mp4\n" for index in range(num))
    assert read_manifest(str(tmp_path / "m.csv")).height == num
    with (tmp_path / "m.csv").open("a") as file:
        file.write("x" * (3 << 20))
    assert f"line {num + 2}: it has more than 1 MiB" in refusal(str(tmp_path / "m.csv"))


def test_of_a_hundred_thousand_columns_a_message_names_a_few(tmp_path: Path, caplog):
    names = [f"c{index}" for index in range(100_000)]
    (tmp_path / "m.csv").write_text("\n".join([",".join(["uri", *names]), "a.mp4" + "," * len(names)]))
    assert len(read_manifest(str(tmp_path / "m.csv"))) == 1
    assert "ignoring 'c0', 'c1', " in caplog.text
    assert " and 99,980 more; known are uri" in caplog.text
    (tmp_path / "m.csv").write_text(",".join(names) + "\n" + "," * (len(names) - 1) + "\n")
    with pytest.raises(InputError, match="and 99,980 more; add it") as refused:
        read_manifest(str(tmp_path / "m.csv"))
    assert len(str(refused.value)) < 2000


@given(places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_parquet_file_with_other_bytes_is_read_or_refused_in_words(
    tmp_path: Path, places: list[tuple[float, int]]
):
    data = bytearray(Path(write(tmp_path / "m.parquet", ROWS)).read_bytes())
    for place, value in places:
        data[int(place * len(data))] = value
    (tmp_path / "m.parquet").write_bytes(data)
    with suppress(InputError):
        read_manifest(str(tmp_path / "m.parquet"))


def test_a_small_file_of_very_many_rows_is_refused_before_it_is_unpacked(tmp_path: Path):
    path = tmp_path / "m.parquet"
    rows = pa.RecordBatch.from_pydict({"uri": pa.DictionaryArray.from_arrays(np.zeros(10**7, "i1"), ["a"])})
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for _ in range(11):
            writer.write_batch(rows, row_group_size=10**7)
    assert path.stat().st_size < 1 << 20
    assert "has 110,000,000 rows; split it, 100,000,000 at most" in refusal(str(path))
