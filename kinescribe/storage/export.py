"""A dataset in the layouts of other tools: WebDataset tars, and a folder to push to the Hugging Face Hub.

Both are copies of the rows, or of those in a selection, in a few large shards instead of many units. They are
not runs: they cannot be resumed, checked or curated.
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
from kinescribe.schemas.rendering import Progress
from kinescribe.storage import listing, objects, uri
from kinescribe.storage.audit import DatasetStatus, status
from kinescribe.storage.card import card, edited_header
from kinescribe.storage.dataset import Dataset, Source, no_triplets
from kinescribe.storage.selection import chosen_units, read_selection, require_chosen

SHARD_BYTES = 256 << 20
UNITS_PER_PART, PART_BYTES = 64, 16 << 20
ROWS_PER_GROUP = 256
"""In a Parquet shard: a few megabytes, which a viewer can fetch on their own."""
IMAGES = ("source", "target")
TEXTS = tuple(field.name for field in FIELDS if pa.types.is_string(field.type))
Item = TypeVar("Item")


def export_webdataset(
    source: Source, out: str, select: str | None, progress: Progress, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write tars `000000.tar`, …, each triplet as ID.source.jpg, ID.target.jpg and ID.json (or `.png`).

    In the JSON, missing text (such as the class) is empty. Raises DatasetError, also if `out` contains files
    or there are no triplets.
    """
    _require_empty(out)
    dataset = Dataset.open(source)
    identity = dataset.run["identity"]
    codec = {"id": identity["codec.id"], "grid": identity["codec.grid"]}
    rows = (row for table in _tables(dataset, select, progress, shard_bytes) for row in table.to_pylist())
    samples = (_files(row, codec) for row in rows)
    for index, shard in enumerate(_shards(samples, _size, shard_bytes)):
        _publish(f"{index:06d}.tar", out, _tar(shard))


def export_hub(
    source: Source, out: str, select: str | None, progress: Progress, shard_bytes: int = SHARD_BYTES
) -> DatasetStatus:
    """Write `data/train-00000.parquet`, … and the dataset card, which is all that the Hub needs.

    Returns the counts on the card: the status of the dataset, or the size of the selection. Raises
    DatasetError, also if `out` contains files or there are no triplets.
    """
    _require_empty(out)
    dataset = Dataset.open(source)
    clips: set[str] = set()
    num_triplets = 0
    tables = _tables(dataset, select, progress, shard_bytes)
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
    text = card(dataset.run, counts, edited_header(dataset), title)
    _publish("README.md", out, text.encode())
    return counts


def _tables(dataset: Dataset, select: str | None, progress: Progress, shard_bytes: int) -> Iterator[pa.Table]:
    """The rows, or the chosen ones, in the plan's order, in parts of several units."""
    part_bytes = min(PART_BYTES, shard_bytes)
    chosen = None if select is None else _chosen(dataset, select)
    rows = dataset.scan(units=None if chosen is None else chosen_units(dataset, chosen))
    ids = None if chosen is None else pc.field("triplet_id").isin(chosen["triplet_id"].combine_chunks())
    chunks: list[pa.Array] = []
    held: list[pa.Table] = []
    total = len(rows.files)
    for done, (_, read) in enumerate(rows.units(filter=ids), start=1):
        held.append(read())
        if done == total or len(held) == UNITS_PER_PART or sum(map(_nbytes, held)) > part_bytes:
            # A copy: a table keeps all that was read of its file, many times the size of a small unit.
            part = pa.concat_tables(held).combine_chunks()
            held.clear()
            chunks += part["triplet_id"].chunks
            if len(part):
                yield part
        progress(done, total)
    exported = pa.chunked_array(chunks, pa.string())
    if chosen is not None:
        require_chosen(dataset, chosen, exported)
    if not len(exported):
        raise no_triplets([dataset])


def _chosen(dataset: Dataset, select: str) -> pa.Table:
    """The rows of a selection from this dataset. Raises DatasetError if there are none."""
    chosen = read_selection(select).rows.filter(pc.field("dataset") == dataset.fingerprint)
    if not len(chosen):
        raise DatasetError(f"{select} has no triplet of {dataset}; name the dataset that it was made from")
    return chosen


def _files(row: dict[str, Any], codec: Mapping[str, Any]) -> dict[str, bytes]:
    """A triplet as files by name. Readers cut a name at its first dot; an id contains none."""
    images = {name: row.pop(name)["bytes"] for name in IMAGES}
    files = {f"{name}.{_extension(data)}": data for name, data in images.items()}
    # Readers take a key's type from the first samples, which may all lack a class.
    filled = row | {name: row.get(name) or "" for name in TEXTS}
    files["json"] = json.dumps({**filled, "codec": codec}, ensure_ascii=False, default=_as_json).encode()
    return {f"{row['triplet_id']}.{name}": data for name, data in files.items()}


def _as_json(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _extension(image: bytes) -> str:
    return "png" if image.startswith(b"\x89PNG") else "jpg"


def _size(files: Mapping[str, bytes]) -> int:
    return sum(map(len, files.values()))


def _nbytes(table: pa.Table) -> int:
    return table.nbytes


def _shards(items: Iterable[Item], size: Callable[[Item], int], shard_bytes: int) -> Iterator[list[Item]]:
    """The items in order, in lists of at most `shard_bytes`, or of one item if that is larger."""
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
            f"{out} already contains {found.uri.rpartition('/')[2]}, maybe from an interrupted export; "
            "name an empty folder, or remove what is there"
        )


def _publish(name: str, out: str, data: bytes) -> None:
    if not objects.create(uri.join(out, name), data):
        raise DatasetError(
            f"{uri.join(out, name)} was written by another process meanwhile; name an empty folder"
        )
