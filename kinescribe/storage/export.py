"""A dataset in the layouts that others read: WebDataset tars, and a folder to push to the Hugging Face Hub.

Both are copies of the rows, or of those that a selection names, in a few large shards instead of many units.
They know nothing of runs: neither can be resumed, checked or curated.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kinescribe.schemas.dataset import FIELDS
from kinescribe.schemas.errors import DatasetError
from kinescribe.storage import listing, objects, uri
from kinescribe.storage.audit import DatasetStatus, status
from kinescribe.storage.card import card, given_header
from kinescribe.storage.run import read_run
from kinescribe.storage.selection import chosen_units, read_selection, require_chosen
from kinescribe.storage.shards import readable, scan

SHARD_BYTES = 256 << 20
ROWS_PER_GROUP = 256
"""Of a Parquet shard: a few megabytes that a viewer can fetch on their own."""
IMAGES = ("source", "target")
TEXTS = tuple(field.name for field in FIELDS if pa.types.is_string(field.type))
Progress = Callable[[int, int], None]
Item = TypeVar("Item")


def export_webdataset(
    dataset: str, out: str, select: str | None, progress: Progress, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write tars `000000.tar`, …, each triplet as ID.source.jpg, ID.target.jpg and ID.json (or `.png`).

    In the JSON, text that a triplet has not, as a class, is empty.
    Raises DatasetError, also where `out` holds files already or there is no triplet.
    """
    _require_empty(out)
    codec = json.loads(scan(dataset).schema.metadata[b"kinescribe.codec"])
    rows = (row for table in _tables(dataset, select, progress) for row in table.to_pylist())
    samples = (_files(row, codec) for row in rows)
    for index, shard in enumerate(_shards(samples, _size, shard_bytes)):
        _publish(f"{index:06d}.tar", out, _tar(shard))


def export_hub(
    dataset: str, out: str, select: str | None, progress: Progress, shard_bytes: int = SHARD_BYTES
) -> DatasetStatus:
    """Write `data/train-00000.parquet`, … and the dataset card, which is all that the Hub needs.

    Returns what the card counts: how far the dataset is, or what the selection holds.

    Raises DatasetError, also where `out` holds files already or there is no triplet.
    """
    _require_empty(out)
    clips: set[str] = set()
    num_triplets = 0
    tables = _tables(dataset, select, progress)
    for index, shard in enumerate(_shards(tables, _nbytes, shard_bytes)):
        rows = pa.concat_tables(shard)
        clips |= set(rows["clip_id"].to_pylist())
        num_triplets += len(rows)
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, row_group_size=ROWS_PER_GROUP, compression="zstd", write_page_index=True)
        _publish(f"data/train-{index:05d}.parquet", out, sink.getvalue().to_pybytes())
    chosen = DatasetStatus(len(clips), len(clips), 0, 0, 0, num_triplets, {})
    counts = status(dataset) if select is None else chosen
    title = out.rstrip("/").rpartition("/")[2]
    text = card(read_run(dataset), counts, given_header(dataset), title)
    _publish("README.md", out, text.encode())
    return counts


def _tables(dataset: str, select: str | None, progress: Progress) -> Iterator[pa.Table]:
    """The rows, or those that were chosen, by unit in the plan's order; units without any are left out."""
    chosen = None if select is None else _chosen(dataset, select)
    rows = scan(dataset, units=None if chosen is None else chosen_units(dataset, chosen))
    ids = None if chosen is None else pc.field("triplet_id").isin(chosen["triplet_id"].combine_chunks())
    chunks: list[pa.Array] = []
    for done, unit in enumerate(rows.get_fragments(), start=1):
        with readable(dataset):
            table = unit.to_table(schema=rows.schema, filter=ids)
        chunks += table["triplet_id"].chunks
        if len(table):
            yield table
        progress(done, len(rows.files))
    exported = pa.chunked_array(chunks, pa.string())
    if chosen is not None:
        require_chosen(dataset, chosen, exported)
    if not len(exported):
        raise DatasetError(f"{dataset} has no triplets so far; `kinescribe status` says how its clips ended")


def _chosen(dataset: str, select: str) -> pa.Table:
    """The rows of a selection that are of this dataset. Raises DatasetError where there are none."""
    fingerprint = read_run(dataset)["fingerprint"]
    chosen = read_selection(select).rows.filter(pc.field("dataset") == fingerprint)
    if not len(chosen):
        raise DatasetError(f"{select} chooses no triplet of {dataset}; name the dataset it was made of")
    return chosen


def _files(row: dict[str, Any], codec: Mapping[str, Any]) -> dict[str, bytes]:
    """A triplet as files by their names. An id holds no dot, at which readers would cut a name."""
    images = {name: row.pop(name)["bytes"] for name in IMAGES}
    files = {f"{name}.{_extension(data)}": data for name, data in images.items()}
    # Readers take a key's type from the first samples, and none of those may have a class.
    said = row | {name: row[name] or "" for name in TEXTS}
    files["json"] = json.dumps({**said, "codec": codec}, ensure_ascii=False).encode()
    return {f"{row['triplet_id']}.{name}": data for name, data in files.items()}


def _extension(image: bytes) -> str:
    return "png" if image.startswith(b"\x89PNG") else "jpg"


def _size(files: Mapping[str, bytes]) -> int:
    return sum(map(len, files.values()))


def _nbytes(table: pa.Table) -> int:
    return table.nbytes


def _shards(items: Iterable[Item], size: Callable[[Item], int], shard_bytes: int) -> Iterator[list[Item]]:
    """The items in order, in lists of `shard_bytes` or, if one item is larger than that, of one."""
    shard: list[Item] = []
    held = 0
    for item in items:
        if shard and held + size(item) > shard_bytes:
            yield shard
            shard, held = [], 0
        shard.append(item)
        held += size(item)
    if shard:
        yield shard


def _tar(samples: Iterable[Mapping[str, bytes]]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in ((name, data) for files in samples for name, data in files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def _require_empty(out: str) -> None:
    if found := next(iter(listing.list_files(out)), None):
        raise DatasetError(
            f"{out} holds {found.uri.rpartition('/')[2]} already, maybe of an export that was cut off; "
            "name an empty folder, or remove what is there"
        )


def _publish(name: str, out: str, data: bytes) -> None:
    if not objects.create(uri.join(out, name), data):
        raise DatasetError(
            f"{uri.join(out, name)} was written meanwhile by somebody else; name an empty folder"
        )
