"""The samples of each step, and token batches of labelled triplets.

The order of samples depends only on seed and step, not on the number of workers, so that a run that was
killed and resumed sees the same batches. Codes are read once and kept packed; no image is decoded here.
Shapes: N triplets, L tokens of an image, B sequences, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from kinescribe.models.tokens import Codes, CodeTriplet, Task, TokenSequence
from kinescribe.schemas.errors import ConfigError, DatasetError
from kinescribe.schemas.prompts import DEFAULT, Prompt
from kinescribe.schemas.training import Mix, TrainConfig
from kinescribe.storage.dataset import Dataset, open_datasets
from kinescribe.storage.selection import chosen_units, read_selection, require_chosen
from kinescribe.training.objective import TokenBatch, image_weights

if TYPE_CHECKING:
    from kinescribe.models.token_vlm import TokenVLM

COLUMNS = ("triplet_id", "source_codes", "target_codes", "action", "finish_reason", "importance")

Indices = NDArray[np.int64]


class Order(Protocol):
    """An endless sequence of samples that depends only on the seed."""

    def positions(self, step: int) -> range:
        """The positions in the sequence of the global batch of `step`."""
        ...

    def sample(self, position: int) -> int:
        """The index of the sample at a position."""
        ...


class SampleOrder:
    """An endless sequence of epochs, each a permutation drawn from the seed."""

    def __init__(self, num_samples: int, batch: int, seed: int) -> None:
        self.num_samples = num_samples
        self.batch = batch
        self.seed = seed
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def positions(self, step: int) -> range:
        """See `Order.positions`."""
        return range(step * self.batch, (step + 1) * self.batch)

    def sample(self, position: int) -> int:
        """See `Order.sample`."""
        epoch, place = divmod(position, self.num_samples)
        return int(self._permutation(epoch)[place])

    def _permute(self, epoch: int) -> NDArray[np.int64]:
        return np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(self.num_samples)


class MixedOrder:
    """Samples of two groups, each in its own `SampleOrder`, with the first group's share spread evenly.

    A group is the indices of its samples. Small groups are repeated, epoch after epoch, to fill their share.
    """

    def __init__(self, groups: tuple[Indices, Indices], first_share: float, batch: int, seed: int) -> None:
        self.groups = groups
        self.first_share = first_share
        self.orders = [SampleOrder(len(group), batch, seed + index) for index, group in enumerate(groups)]

    def positions(self, step: int) -> range:
        """See `Order.positions`."""
        return self.orders[0].positions(step)

    def sample(self, position: int) -> int:
        """See `Order.sample`."""
        num_first = math.floor(position * self.first_share)
        is_first = math.floor((position + 1) * self.first_share) > num_first
        group, place = (0, num_first) if is_first else (1, position - num_first)
        return int(self.groups[group][self.orders[group].sample(place)])


def mixed_order(given_N: NDArray[np.bool_], config: TrainConfig, mix: Mix | None) -> Order:
    """The order of samples of which `given_N` are supervised. Raises ConfigError if a mixed-in group is
    empty."""
    if mix is None:
        return SampleOrder(len(given_N), config.batch, config.seed)
    shares = {"supervised": mix.supervised, "labelled": mix.labelled}
    groups = np.flatnonzero(given_N), np.flatnonzero(~given_N)
    for (name, share), group in zip(shares.items(), groups, strict=True):
        if share and not len(group):
            raise ConfigError(
                f"mix.{name} is {share}, but the data has no {name} triplets; add some, or set 0"
            )
    return MixedOrder(groups, mix.supervised, config.batch, config.seed)


def num_micro_batches(batch: int, world_size: int, micro_batch: int) -> int:
    """The number of micro-batches into which each rank cuts its part of a global batch.

    None is empty, and none has more than `micro_batch` samples unless there are too few samples for that.
    """
    return min(math.ceil(batch / (world_size * micro_batch)), batch // world_size)


def rank_part(positions: range, rank: int, world_size: int, micro_batch: int) -> list[range]:
    """A rank's part of a global batch, cut into micro-batches of nearly equal size."""
    number = num_micro_batches(len(positions), world_size, micro_batch)
    cuts = [len(positions) * cut // (world_size * number) for cut in range(world_size * number + 1)]
    return [positions[start:end] for start, end in pairwise(cuts[rank * number : (rank + 1) * number + 1])]


@dataclass(frozen=True)
class PackedTriplets:
    """The columns that the training of a unified model reads, packed."""

    source_NL: Codes
    target_NL: Codes
    importance_NL: NDArray[np.float16] | None
    """None if any triplet has none."""
    actions: pa.DictionaryArray
    given_N: NDArray[np.bool_]
    """Whether the action came with the data. If not, a dynamics model wrote it."""
    codec_id: str

    def __len__(self) -> int:
        return len(self.source_NL)


def read_triplets(datasets: Sequence[str], select: str | None = None) -> PackedTriplets:
    """Every triplet of the datasets, in order. Of datasets that the selection `select` covers, the chosen
    ones.

    Raises DatasetError if codecs differ, and as `read_rows` does.
    """
    tables = read_rows(datasets, COLUMNS, select)
    first = tables[0][0]
    for dataset, _ in tables:
        if dataset.codec_id != first.codec_id:
            raise DatasetError(
                f"{dataset} holds codes of {dataset.codec_id} and {first} of {first.codec_id}; "
                "label both with one codec"
            )
    table = whole(tables)
    return PackedTriplets(
        _packed(table, "source_codes"),
        _packed(table, "target_codes"),
        _packed(table, "importance") if not table["importance"].null_count else None,
        table["action"].combine_chunks().dictionary_encode(),
        given(table),
        first.codec_id,
    )


def given(table: pa.Table) -> NDArray[np.bool_]:
    """Whether each row's action came with the data."""
    return table["finish_reason"].is_null().to_numpy()


def read_rows(
    datasets: Sequence[str], columns: Sequence[str], select: str | None = None
) -> list[tuple[Dataset, pa.Table]]:
    """Each dataset with columns of its triplets. Of datasets that the selection covers, the chosen ones.

    Raises DatasetError if the selection covers a dataset that isn't in `datasets`, if an action has no words,
    and if no triplet is left.
    """
    opened = [Dataset.open(dataset) for dataset in datasets]
    chosen = _chosen(opened, select) if select else {}
    tables = [
        (dataset, _read(dataset, columns, chosen.get(dataset.uri)))
        for dataset in opened
        if dataset.uri not in chosen or len(chosen[dataset.uri])
    ]
    if not any(len(table) for _, table in tables):
        raise DatasetError(
            f"data {[*datasets]} has no triplet to train on; name other datasets, or select more"
        )
    return tables


def whole(tables: Sequence[tuple[Dataset, pa.Table]]) -> pa.Table:
    """The rows of all datasets, in order."""
    return pa.concat_tables([table.replace_schema_metadata() for _, table in tables])


def _chosen(datasets: Sequence[Dataset], select: str) -> dict[str, pa.Table]:
    """The selection's rows by dataset."""
    selection = read_selection(select)
    by_run = open_datasets(datasets)
    for run in selection.datasets:
        if run not in by_run:
            raise DatasetError(f"{select} is a selection of a dataset (run {run}) that isn't in data; add it")
    rows = selection.rows
    return {by_run[run].uri: rows.filter(pc.field("dataset") == run) for run in selection.datasets}


def _read(dataset: Dataset, columns: Sequence[str], chosen: pa.Table | None) -> pa.Table:
    table = dataset.scan(columns).to_table() if chosen is None else _read_chosen(dataset, columns, chosen)
    _require_words(dataset, table)
    return table


def _require_words(dataset: Dataset, table: pa.Table) -> None:
    words = pc.call_function("utf8_trim_whitespace", [table["action"]])
    wordless = table["triplet_id"].filter(pc.call_function("equal", [words, pa.scalar("")]))
    if len(wordless):
        raise DatasetError(
            f"{dataset} has {len(wordless)} triplets with an empty action, first {wordless[0]}; "
            "write the actions in the source of the data, or remove the triplets"
        )


def _read_chosen(dataset: Dataset, columns: Sequence[str], chosen: pa.Table) -> pa.Table:
    rows = dataset.scan(columns, chosen_units(dataset, chosen))
    table = rows.to_table(filter=pc.field("triplet_id").isin(chosen["triplet_id"].combine_chunks()))
    require_chosen(dataset, chosen, table["triplet_id"])
    return table


def _packed(table: pa.Table, column: str) -> NDArray[Any]:
    lists = table[column].combine_chunks()
    if lists.null_count:
        raise DatasetError(f"{lists.null_count} triplets have no {column}; label them with the model's codec")
    return lists.flatten().to_numpy().reshape(len(lists), -1)


def require_importance(known: bool, floor: float | None) -> None:
    """Raise DatasetError if targets are weighted and some have no importance."""
    if floor is not None and not known:
        raise DatasetError(
            "weights=l2 needs the importance of target tokens, which some triplets of the data lack; "
            "label them with the model's codec, or set weights=none"
        )


class Batches(Protocol):
    """Makes batches of samples. Positions seed everything random about a sample."""

    def __len__(self) -> int: ...

    def batch(self, samples: Sequence[int], positions: Sequence[int]) -> Any:
        """The samples as one batch."""
        ...


class TripletBatches:
    """Token batches of one task.

    Targets of the world task are weighted by importance with a floor; if `floor` is None, all have weight 1.
    `prompt` is what the model is asked in the dynamics task.
    """

    def __init__(
        self,
        triplets: PackedTriplets,
        vlm: TokenVLM,
        task: Task,
        floor: float | None,
        prompt: Prompt = DEFAULT,
    ) -> None:
        if triplets.codec_id != vlm.codec_id:
            raise DatasetError(
                f"the dataset has codes of codec {triplets.codec_id}, the model's codec is {vlm.codec_id}; "
                "label the dataset with this model's codec"
            )
        require_importance(triplets.importance_NL is not None, floor)
        self.triplets = triplets
        self.vlm = vlm
        self.task: Task = task
        self.floor = floor
        self.prompt = prompt
        self._actions: list[str] = triplets.actions.dictionary.to_pylist()
        if too_long := [action for action in self._actions if not vlm.takes(task, action)]:
            raise DatasetError(
                f"{len(too_long)} actions of the data are too long for the model, first "
                f"{shorten(too_long[0], 80)!r}; shorten them in the source of the data, or remove them"
            )
        self._action_N: NDArray[np.int32] = triplets.actions.indices.to_numpy()

    def __len__(self) -> int:
        return len(self.triplets)

    def batch(self, samples: Sequence[int], positions: Sequence[int]) -> TokenBatch:
        """Sequences of the samples, padded on the right. Nothing in them is random."""
        columns = zip(*map(self._sequence, samples), strict=True)
        return TokenBatch(*(_padded(column) for column in columns))

    def triplet(self, sample: int) -> CodeTriplet:
        """The codes and the action of a sample."""
        rows = self.triplets
        action = self._actions[self._action_N[sample]]
        return CodeTriplet(rows.source_NL[sample], rows.target_NL[sample], action, self.prompt)

    def _sequence(self, sample: int) -> TokenSequence:
        return self.vlm.sequence(self.task, self.triplet(sample), self._weights(sample))

    def _weights(self, sample: int) -> NDArray[np.float32] | None:
        if self.floor is None:
            return None
        assert self.triplets.importance_NL is not None
        return image_weights(self.triplets.importance_NL[sample], self.floor)


def _padded(rows: Sequence[NDArray[Any]]) -> torch.Tensor:
    return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
