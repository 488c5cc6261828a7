"""Writes the triplets of a selection as a dataset of their own.

Its plan has the clips with chosen triplets, in the order of the datasets' plans, in units of about a thousand
triplets. Copies rows as they are; knows no scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.dataset import (
    LIKELIHOODS,
    OPTIONAL,
    is_carried,
    optional_columns,
    triplet_schema,
)
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import ClipOutcome, Status
from kinescribe.schemas.version import VERSION
from kinescribe.storage import objects, uri
from kinescribe.storage.card import write_card
from kinescribe.storage.dataset import Dataset, Source, open_datasets
from kinescribe.storage.plan import plan_digest, write_plan
from kinescribe.storage.rows import unit_ids
from kinescribe.storage.run import MODELS, RUN, Run, bind, fingerprints, read_run, require_unclaimed
from kinescribe.storage.selection import Selection, chosen_units, read_selection, require_chosen
from kinescribe.storage.shards import committed_units, write_unit
from kinescribe.storage.threads import map_in_threads

TRIPLETS_PER_UNIT = 1024
ROWS_PER_PART = 1 << 20


def require_materialized(out: str) -> None:
    """Raises DatasetError unless the folder `out` is new or has been begun by `write_chosen`."""
    require_unclaimed(out)
    if objects.exists(uri.join(out, RUN)) and "config.selection" not in read_run(out)["identity"]:
        raise DatasetError(f"{out} belongs to another run; choose another output folder")


class _Share(NamedTuple):
    """A unit to write, and the units of a dataset that its rows come from."""

    unit: WorkUnit
    dataset: Dataset
    sources: list[str]


class _Found(NamedTuple):
    """The unit with a clip's triplets, perhaps that of a retry, and how many of them are chosen."""

    unit_id: str
    num: int


def write_chosen(
    sources: Sequence[Source],
    selection: str,
    out: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the rows of a selection to the dataset folder `out`; run again to resume.

    Raises DatasetError if the datasets lack a chosen triplet, or have codes of different codecs.
    """
    write_rows(sources, read_selection(selection), out, progress)


def write_rows(
    sources: Sequence[Source],
    chosen: Selection,
    out: str,
    progress: Callable[[int, int], None],
    actions: Mapping[str, str] | None = None,
) -> None:
    """The same, of a selection that need not be in a file.

    With `actions`, by the ids of triplets, the rows are supervised ones: each action is given, the row's own
    if it is not among them, and there are no likelihoods.
    """
    datasets = [dataset for _, dataset in sorted(open_datasets(sources).items())]
    codec = _same_codec(datasets)
    parts = {
        dataset.fingerprint: chosen.rows.filter(pc.field("dataset") == dataset.fingerprint)
        for dataset in datasets
    }
    shares = [
        share for dataset in datasets for share in _shares(dataset, parts[dataset.fingerprint], chosen.digest)
    ]
    optional = [name for name in _optional(datasets) if actions is None or name != "vocabulary"]
    schema = _schema(codec, datasets, optional)
    for field in OPTIONAL["vocabulary"] if actions is not None else ():
        if field.name in schema.names:
            schema = schema.remove(schema.get_field_index(field.name))
    plan = plan_digest(clip for share in shares for clip in share.unit.clips)
    columns = [name for name in schema.names if is_carried(name)]
    config = {
        "curate": chosen.options,
        "selection": chosen.digest,
        "columns": columns,
        "quality": optional,
    }
    bind(out, Run(VERSION, config, _models(datasets), *codec, plan))
    write_plan(out, [share.unit for share in shares])
    done = committed_units(out)
    for index, share in enumerate(shares):
        if share.unit.unit_id not in done:
            _write(out, share, parts[share.dataset.fingerprint], schema, actions)
        progress(index + 1, len(shares))
    write_card(out)


def _same_codec(datasets: Sequence[Dataset]) -> tuple[str, tuple[int, int]]:
    """The codec and its grid. Raises DatasetError if the datasets have different ones."""
    (first, codec), *others = ((dataset, _codec(dataset)) for dataset in datasets)
    for dataset, other in others:
        if other != codec:
            raise DatasetError(
                f"{first} has codes of {codec} and {dataset} of {other}, which cannot be in one dataset; "
                "curate each on its own"
            )
    return codec


def _codec(dataset: Dataset) -> tuple[str, tuple[int, int]]:
    identity = dataset.run["identity"]
    height, width = identity["codec.grid"]
    return identity["codec.id"], (height, width)


def _models(datasets: Iterable[Dataset]) -> dict[str, str]:
    """The fingerprints of the models by role; several of a role if the datasets differ."""
    roles: dict[str, set[str]] = {}
    for dataset in datasets:
        for key, value in fingerprints(dataset.run["identity"]).items():
            roles.setdefault(key.removeprefix(MODELS), set()).add(value)
    return {role: ", ".join(sorted(values)) for role, values in roles.items()}


def _shares(dataset: Dataset, chosen: pa.Table, digest: str) -> Iterator[_Share]:
    """Units of about `TRIPLETS_PER_UNIT`, each of the chosen clips of whole units of the dataset."""
    if not len(chosen):
        return
    found = _found_clips(dataset, chosen)
    clips: list[Clip] = []
    for unit in dataset.plans[0].units():
        clips += [clip for clip in unit.clips if clip.clip_id in found]
        if sum(found[clip.clip_id].num for clip in clips) >= TRIPLETS_PER_UNIT:
            yield _share(dataset, clips, found, digest)
            clips = []
    if clips:
        yield _share(dataset, clips, found, digest)


def _share(dataset: Dataset, clips: Sequence[Clip], found: Mapping[str, _Found], digest: str) -> _Share:
    unit_id = stable_id(digest, *(clip.clip_id for clip in clips))
    sources = list(dict.fromkeys(found[clip.clip_id].unit_id for clip in clips))
    return _Share(WorkUnit(unit_id, tuple(clips)), dataset, sources)


def _found_clips(dataset: Dataset, chosen: pa.Table) -> dict[str, _Found]:
    """Where the chosen triplets of each clip are. Raises DatasetError if the dataset lacks one."""
    rows = dataset.scan(["triplet_id", "clip_id"], chosen_units(dataset, chosen))
    ids = pl.DataFrame(chosen.select(["triplet_id"]))
    parts = rows.parts(ROWS_PER_PART)
    found = pl.concat(part.join(ids, on="triplet_id", how="semi") for part in parts)
    require_chosen(dataset, chosen, found["triplet_id"].to_arrow())
    clips = found.group_by("clip_id").agg(pl.col("object").first(), num=pl.len())
    clips = clips.with_columns(object=unit_ids(clips["object"]))
    return {clip_id: _Found(unit_id, num) for clip_id, unit_id, num in clips.iter_rows()}


def _write(
    out: str, share: _Share, chosen: pa.Table, schema: pa.Schema, actions: Mapping[str, str] | None
) -> None:
    ids = chosen.filter(pc.field("unit_id").isin(share.sources))["triplet_id"].combine_chunks()
    units = map_in_threads(share.dataset.read_unit, share.sources)
    # The unit of a retry may have clips of several shares.
    clips = pa.array([clip.clip_id for clip in share.unit.clips])
    mine = pc.field("triplet_id").isin(ids) & pc.field("clip_id").isin(clips)
    table = pa.concat_tables([_conform(unit.filter(mine), schema) for unit in units])
    if actions is not None:
        table = _with_given(table, actions)
    counts = Counter(table["clip_id"].to_pylist())
    ends = [ClipOutcome(clip.clip_id, Status.KEPT, counts[clip.clip_id]) for clip in share.unit.clips]
    write_unit(out, share.unit, table, ends)


def _optional(datasets: Iterable[Dataset]) -> list[str]:
    """The optional columns of at least one of the datasets."""
    return sorted({name for dataset in datasets for name in optional_columns(dataset.run["identity"])})


def _with_given(rows: pa.Table, actions: Mapping[str, str]) -> pa.Table:
    """The rows with given actions, and without what a model said of its own."""
    pairs = zip(rows["triplet_id"].to_pylist(), rows["action"].to_pylist(), strict=True)
    given = pa.array([actions.get(triplet_id, action) for triplet_id, action in pairs], pa.string())
    columns = {name: pa.nulls(len(rows), rows.schema.field(name).type) for name in LIKELIHOODS}
    for name, values in {"action": given, **columns}.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), values)
    return rows


def _schema(
    codec: tuple[str, tuple[int, int]], datasets: Sequence[Dataset], optional: Sequence[str]
) -> pa.Schema:
    """The schema of the rows, with the carried columns of all datasets. Raises DatasetError."""
    schema = triplet_schema(*codec, optional)
    for dataset in datasets:
        for field in dataset.scan().schema:
            place = schema.get_field_index(field.name)
            if place < 0:
                schema = schema.append(field)
            elif field.type != schema.field(place).type:
                raise DatasetError(
                    f"{dataset} has the column {field.name} as {field.type}, another dataset as "
                    f"{schema.field(place).type}; curate each on its own"
                )
    return schema


def _conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows in the schema, with nulls in the carried columns that they lack."""
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(schema.names).cast(schema)
