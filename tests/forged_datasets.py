"""Datasets that a stranger changed: a valid one with other values, types and sizes in any of its files.

Whatever was changed, a command that reads the dataset gives an answer or an error in words.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from PIL import Image

import kinescribe
from kinescribe.labeling.curate import curate
from kinescribe.labeling.materialize import write_chosen
from kinescribe.reports.comparison import write_comparison
from kinescribe.reports.report import write_report
from kinescribe.reports.review import write_review
from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.outcomes import DropReason, RejectCode
from kinescribe.storage.audit import check, rejects, status
from kinescribe.storage.export import export_hub, export_webdataset
from kinescribe.storage.selection import read_selection
from kinescribe.training.batches import read_rows, read_triplets
from kinescribe.training.images import read_images
from tests.tiny_dataset import build

ROWS = ["triplet_id", "source", "target", "action"]
Draw = Callable[[st.SearchStrategy[Any]], Any]
NAMES = ("../../../escaped", "/escaped", "a/b", "", "\0", "x" * 300, "\x1b[2J\u202e", "<script>")
VALUES: list[Any] = [
    None, True, -1, 0, 3.5, 2**31, 10**9, 10**18, 10**30, float("nan"), float("inf"), [], [[]], {}, {"a": 1},
    *NAMES, [10**9, 10**9], [2, 3, 4], ["2", "3"], [-1, 1], [0, 0], "9999-99-99T00:00:00Z", "0001-01-01",
]  # fmt: skip
HEADERS = [
    "day: 2026-13-99", "{" * 5000, "a: &a [" + "*a, " * 9 + "]", "- " * 3000,
    "license: !!python/name:os.system", "? [1]\n: 2",
    "license: [1, 2]\ntags: 5", "\x00", "dataset_info: 7\nconfigs: x", "a: 1e999999",
]  # fmt: skip


def _bomb() -> bytes:
    data = io.BytesIO()
    Image.new("L", (20_000, 20_000)).save(data, "PNG")
    return data.getvalue()


IMAGES = [None, b"", b"GIF89a", b"\xff\xd8\xff\xe0" + b"x" * 40, b"\x89PNG\r\n\x1a\n" + b"x" * 20, _bomb()]


def build_labelled(dataset: str) -> None:
    build(dataset, [2, RejectCode.TIMEOUT, 3, DropReason.STATIC])


def forged(folder: Path, draw: Draw, build: Callable[[str], object] = build_labelled) -> str:
    """A dataset with up to four changes."""
    shutil.rmtree(folder, ignore_errors=True)
    dataset = str(folder / "dataset")
    build(dataset)
    changes = [change_run, change_card, change_plan, change_footer, change_rows, change_schema]
    for change in draw(st.lists(st.sampled_from(changes), max_size=3)):
        change(Path(dataset), draw)
    if draw(st.integers(0, 3)) == 0:
        change_bytes(Path(dataset), draw)
    return dataset


def change_run(dataset: Path, draw: Draw) -> None:
    path = dataset / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(changed(record, draw)))


def change_card(dataset: Path, draw: Draw) -> None:
    (dataset / "README.md").write_text(f"---\n{draw(st.sampled_from(HEADERS))}\n---\n")


def change_plan(dataset: Path, draw: Draw) -> None:
    path = dataset / "plan" / "clips.parquet"
    pq.write_table(with_other_column(pq.read_table(path), draw), path)


def change_rows(dataset: Path, draw: Draw) -> None:
    path = unit(dataset, draw)
    rows = pq.read_table(path)
    pq.write_table(with_other_column(rows, draw).replace_schema_metadata(rows.schema.metadata), path)


def change_footer(dataset: Path, draw: Draw) -> None:
    path = unit(dataset, draw)
    rows = pq.read_table(path)
    if not (metadata := dict(rows.schema.metadata or {})):
        return
    key = draw(st.sampled_from(sorted(metadata)))
    metadata[key] = json.dumps(changed(json.loads(metadata[key]), draw)).encode()
    pq.write_table(rows.replace_schema_metadata(metadata), path)


def change_schema(dataset: Path, draw: Draw) -> None:
    path = unit(dataset, draw)
    rows = pq.read_table(path)
    name = draw(st.sampled_from(rows.column_names))
    if draw(st.booleans()):
        pq.write_table(rows.drop_columns([name]), path)
    else:
        pq.write_table(
            rows.rename_columns([f"{old}2" if old == name else old for old in rows.column_names]), path
        )


def change_bytes(dataset: Path, draw: Draw) -> None:
    path = draw(st.sampled_from(sorted(path for path in dataset.rglob("*") if path.is_file())))
    data = bytearray(path.read_bytes())
    for place, value in draw(
        st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8)
    ):
        data[int(place * len(data))] = value
    path.write_bytes(data)


def unit(dataset: Path, draw: Draw) -> Path:
    return draw(st.sampled_from(sorted((dataset / "data").glob("*.parquet"))))


def changed(value: Any, draw: Draw) -> Any:
    """The JSON with another value at a random place."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: changed(value[key], draw)}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], changed(value[index], draw), *value[index + 1 :]]
    return draw(st.sampled_from(VALUES))


def with_other_column(rows: pa.Table, draw: Draw) -> pa.Table:
    """The rows with other values in a column, of its type or of another."""
    name = draw(st.sampled_from(rows.column_names))
    place, type_ = rows.column_names.index(name), rows.schema.field(name).type
    if name in ("source", "target"):
        value: Any = {"bytes": draw(st.sampled_from(IMAGES)), "path": None}
    elif pa.types.is_list(type_):
        value = draw(st.sampled_from([None, [], [1], [1] * 5000, [float("nan")] * 6, [None] * 6, [-1.0] * 6]))
    else:
        value = draw(st.sampled_from([value for value in VALUES if value != {}]))
    values = rows[name].to_pylist()
    values[: draw(st.integers(1, max(1, len(values))))] = [value] * len(values[:1])
    for kind in (type_, None, pa.string()):
        try:
            column = pa.array(
                [str(item) for item in values] if kind == pa.string() != type_ else values, kind
            )
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            continue
        if len(column) == len(rows):
            return rows.set_column(place, pa.field(name, column.type), column)
    return rows


def not_utf8(length: int) -> pa.Array:
    """Texts that are not UTF-8, which nothing checks while they are written."""
    texts = pa.array([b"\xff\xfe\xf0"] * length)
    return pa.StringArray.from_buffers(length, *texts.buffers()[1:])


def spoil(path: Path, column: str) -> None:
    """Give a Parquet file such texts in a column."""
    rows = pq.read_table(path)
    place = rows.column_names.index(column)
    pq.write_table(rows.set_column(place, column, [not_utf8(len(rows))]), path)


def progress(done: int, total: int) -> None: ...


def select(dataset: str, folder: Path) -> str:
    """A selection of three rows."""
    selection = f"{folder}/selection.parquet"
    Path(selection).unlink(missing_ok=True)
    curate([dataset], selection, CurateConfig(top_k=3))
    return selection


COMMANDS: dict[str, Callable[[str, Path], object]] = {
    "status": lambda dataset, folder: status(dataset),
    "status --rejects": lambda dataset, folder: list(rejects(dataset)),
    "check": lambda dataset, folder: check(dataset),
    "check --frames": lambda dataset, folder: kinescribe.check(dataset, frames=5, roots=folder),
    "report": lambda dataset, folder: write_report(dataset, f"{folder}/report.html"),
    "report --compare": lambda dataset, folder: write_comparison(dataset, dataset, f"{folder}/c.html", 5),
    "review build": lambda dataset, folder: write_review(
        dataset, f"{folder}/review.html", 5, "random", 0, progress
    ),
    "curate": lambda dataset, folder: read_selection(select(dataset, folder)),
    "curate --materialize": lambda dataset, folder: write_chosen(
        [dataset], select(dataset, folder), f"{folder}/chosen"
    ),
    "export hub": lambda dataset, folder: export_hub(dataset, f"{folder}/hub", None, progress),
    "export webdataset": lambda dataset, folder: export_webdataset(dataset, f"{folder}/web", None, progress),
    "train": lambda dataset, folder: read_triplets([dataset]),
    "train dynamics": lambda dataset, folder: read_rows(
        [dataset], ["triplet_id", "source", "target", "action"]
    ),
    "codec train": lambda dataset, folder: read_images([dataset]),
}
