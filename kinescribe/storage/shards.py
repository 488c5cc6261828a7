"""A work unit as one Parquet object, which is also its commit: rows, and every clip's outcome in the footer.

`data/<unit id>.parquet` is published by a single create-if-absent, so no second write can be lost and nothing
is ever overwritten. Knows the layout of a dataset folder and the schema of a footer; not how rows are made,
nor which units a run has.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from kinescribe.schemas.clips import ID, WorkUnit
from kinescribe.schemas.dataset import IMAGE
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.likelihoods import Histogram, histogram
from kinescribe.schemas.outcomes import ClipOutcome, StageTime
from kinescribe.storage import credentials, listing, objects, uri
from kinescribe.storage.threads import map_in_threads

FOOTER_KEY = b"kinescribe.unit"
MAX_MESSAGE = 500
"""Characters of a clip's message that are stored: a decoder's complaints may be endless."""
TAIL_BYTES = 64 << 10
"""Size of the first read of a footer; larger footers cost a second request."""
MAX_FOOTER_BYTES = 256 << 20
MAX_ROWS = 10_000_000
"""Of one unit."""
HEX_DIGITS = "0123456789abcdef"
REMEDY = "move it out of the folder and run the command that wrote it again"


@dataclass(frozen=True, slots=True)
class UnitFooter:
    """The footer of a unit's object.

    `stages` is how long the pipeline worked on it, `likelihoods` how likely its actions were to the model
    that wrote them; footers of older versions have none.
    """

    unit_id: Annotated[str, Field(pattern=ID)]
    digest: Annotated[str, Field(pattern=ID)]
    committed_at: AwareDatetime
    outcomes: tuple[ClipOutcome, ...]
    stages: tuple[StageTime, ...] = ()
    likelihoods: Histogram | None = None


_FOOTER = TypeAdapter(UnitFooter)


def unit_uri(dataset: str, unit_id: str) -> str:
    """The object of a unit."""
    return uri.join(dataset, "data", f"{unit_id}.parquet")


def write_unit(
    dataset: str,
    unit: WorkUnit,
    table: pa.Table,
    outcomes: Sequence[ClipOutcome],
    stages: Sequence[StageTime] = (),
) -> bool:
    """Commit a unit: its rows, ordered by clip and time, with the unit's carried columns, and all outcomes.

    Returns False, and discards the rows, if the unit has been committed before.
    """
    _assert_accounted(unit, table, outcomes)
    rows = _with_carried_columns(_ordered(table, unit), unit)
    footer = {
        "unit_id": unit.unit_id,
        "digest": rows_digest(rows),
        "committed_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "outcomes": [{**asdict(end), "message": _stored_message(end.message)} for end in outcomes],
        "stages": [asdict(stage) for stage in stages],
        "likelihoods": histogram(rows["action_logprob"], rows["action_tokens"]),
    }
    data = _parquet(rows, json.dumps(footer))
    return objects.create(unit_uri(dataset, unit.unit_id), data, aside=uri.join(dataset, ".tmp"))


def read_footer(object_uri: str) -> UnitFooter:
    """The footer of a unit's object, without its rows. Raises DatasetError if it has none."""
    tail = objects.read_tail(object_uri, TAIL_BYTES)
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if needed > MAX_FOOTER_BYTES:
        raise DatasetError(f"{object_uri} is damaged: its footer has {needed} bytes; {REMEDY}")
    if needed > len(tail) == TAIL_BYTES:
        tail = objects.read_tail(object_uri, needed)
    try:
        metadata = pq.read_metadata(pa.BufferReader(tail))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{object_uri} is damaged: {error}; {REMEDY}") from error
    footer = parse_footer(object_uri, metadata.metadata)
    promised = sum(end.num_triplets for end in footer.outcomes)
    if metadata.num_rows != promised:
        rows = f"{metadata.num_rows} rows, its outcomes promise {promised}"
        raise DatasetError(f"{object_uri} is damaged: it has {rows}; {REMEDY}")
    return footer


def parse_footer(object_uri: str, metadata: Mapping[bytes, bytes] | None) -> UnitFooter:
    """The footer in the key-value metadata of a Parquet file. Raises DatasetError if there is none."""
    if not metadata or FOOTER_KEY not in metadata:
        raise DatasetError(f"{object_uri} was not written by Kinescribe; {REMEDY}")
    try:
        return _FOOTER.validate_json(metadata[FOOTER_KEY], strict=True)
    except (ValidationError, AssertionError) as error:
        raise DatasetError(f"{object_uri} has a damaged footer: {error!r:.500}; {REMEDY}") from error


def committed_units(dataset: str) -> set[str]:
    """The ids of the committed units, from a listing alone."""
    return set(committed_sizes(dataset))


def committed_sizes(dataset: str) -> dict[str, int]:
    """The ids of the committed units, and the sizes of their objects in bytes, from a listing alone."""
    # A store lists a thousand names per page, one page after another; the sixteen possible first digits are
    # listed at the same time.
    prefixes = [""] if uri.is_local(dataset) else HEX_DIGITS
    listings = map_in_threads(partial(_list_units, uri.join(dataset, "data")), prefixes)
    return dict(pair for pairs in listings for pair in pairs)


def _list_units(folder: str, prefix: str) -> list[tuple[str, int]]:
    files = (
        (info.uri.removeprefix(f"{folder}/"), info.size_bytes) for info in listing.list_files(folder, prefix)
    )
    return [
        (name.removesuffix(".parquet"), size or 0)
        for name, size in files
        if name.endswith(".parquet") and "/" not in name
    ]


def rows_digest(rows: pa.Table) -> str:
    """A hash of names, types and values, the same however the rows are chunked, encoded or compressed."""
    digest = hashlib.blake2b(digest_size=16)
    for name in rows.column_names:
        column = rows[name].combine_chunks()
        digest.update(name.encode())
        _feed(digest, column)
    return digest.hexdigest()


def _feed(digest: hashlib.blake2b, values: Any) -> None:
    # Parquet renames the items of a list, so a nested type is not named as Arrow prints it.
    kind = values.type
    shape = "nested" if pa.types.is_nested(kind) else str(kind)
    digest.update(f":{shape}:{len(values)};".encode())
    digest.update(np.packbits(values.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    values = values.drop_null()
    if pa.types.is_struct(kind):
        for child in values.flatten():
            _feed(digest, child)
    elif pa.types.is_list(kind):
        _feed(digest, values.value_lengths())
        _feed(digest, values.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        _feed(digest, pc.call_function("binary_length", [values]))
        for value in values.cast(pa.binary()):
            digest.update(value.as_buffer())
    else:
        digest.update(values.to_numpy(zero_copy_only=False).tobytes())


def _stored_message(message: str) -> str:
    """The start of a message, without secrets and without lone surrogates, which could not be read back."""
    return credentials.redact(message)[:MAX_MESSAGE].encode(errors="replace").decode()


def _assert_accounted(unit: WorkUnit, table: pa.Table, outcomes: Sequence[ClipOutcome]) -> None:
    assert [end.clip_id for end in outcomes] == [clip.clip_id for clip in unit.clips], unit.unit_id
    rows = Counter(table["clip_id"].to_pylist())
    assert rows == Counter({end.clip_id: end.num_triplets for end in outcomes if end.num_triplets})


def _ordered(table: pa.Table, unit: WorkUnit) -> pa.Table:
    rank = {clip.clip_id: index for index, clip in enumerate(unit.clips)}
    ranked = table.append_column("rank", pa.array([rank[id_] for id_ in table["clip_id"].to_pylist()]))
    order = ("rank", "source_time_s", "target_time_s", "triplet_id")
    return ranked.sort_by([(name, "ascending") for name in order]).drop_columns("rank")


def _with_carried_columns(rows: pa.Table, unit: WorkUnit) -> pa.Table:
    """The rows, each with the carried columns of its clip."""
    if unit.columns is None:
        return rows
    places = {clip.clip_id: index for index, clip in enumerate(unit.clips)}
    carried = unit.columns.take(pa.array([places[id_] for id_ in rows["clip_id"].to_pylist()], pa.int64()))
    for field in carried.schema:
        rows = rows.append_column(field, carried[field.name])
    return rows


def _parquet(rows: pa.Table, footer: str) -> bytes:
    """The bytes of a Parquet file: images as they are, since they are compressed, the rest with zstd."""
    leaves = [_leaf(field) for field in rows.schema if field.type != IMAGE]
    options: dict[str, Any] = {
        "compression": dict.fromkeys(leaves, "zstd"),
        "use_dictionary": [field.name for field in rows.schema if field.type == pa.string()],
        # Minima and maxima are useless in an object this small, and the digest would not cover them.
        "write_statistics": False,
        # With checksums every reader notices damage, not only `check`.
        "write_page_checksum": True,
    }
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, rows.schema, **options) as writer:
        if rows.num_rows:  # datasets cannot read a row group without rows, only a file without row groups
            writer.write_table(rows)
        writer.add_key_value_metadata({FOOTER_KEY.decode(): footer})
    return sink.getvalue().to_pybytes()


def _leaf(field: pa.Field) -> str:
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
