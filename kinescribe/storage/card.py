"""The dataset card: the README.md that tells people, the Hub and `datasets` what is in a dataset folder.

It is derived from the folder and can be written again at any time; what people set in its front matter, such
as the licence, stays. The front matter names `data/*.parquet` as the only data, or `datasets` would read the
plan as rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from kinescribe.schemas.dataset import optional_columns, triplet_schema
from kinescribe.schemas.errors import DatasetError, UserError
from kinescribe.storage import objects, uri
from kinescribe.storage.audit import DatasetStatus, status
from kinescribe.storage.dataset import Dataset, Source
from kinescribe.storage.run import RunRecord

MAX_BYTES = 1 << 20
DERIVED = ("configs", "dataset_info")
TEXT = """\
# {title}

Pairs of frames with the action between them, written by Kinescribe {version}. A model wrote the actions that
have a `finish_reason`; the others came with the data.

| clips | kept | dropped | rejected | pending | triplets |
|---|---|---|---|---|---|
| {clips} | {kept} | {dropped} | {rejected} | {pending} | {triplets} |

{reasons}{warning}
One row is one triplet: `source` and `target` frames, the `action` between them with its summed
log-probability, and for each of the {height}×{width} image tokens of the target its code and its
`importance` (row-major). `video`, `source_time_s` and `target_time_s` say where the frames come from.

| made with | |
|---|---|
{made_with}

## Licence

The frames keep the licence of the videos or images they come from. The actions are subject to the licence of
the model that wrote them, or of the data they came with. Set `license` in the header above once you have
checked both.
"""


def write_card(source: Source) -> DatasetStatus:
    """Write README.md from the dataset, keeping what people set in its front matter; returns the status."""
    dataset = Dataset.open(source)
    counts = status(dataset)
    text = card(dataset.run, counts, edited_header(dataset), dataset.name)
    objects.replace(uri.join(dataset.uri, "README.md"), text.encode())
    return counts


def card(run: RunRecord, counts: DatasetStatus, edited: Mapping[str, Any], title: str) -> str:
    """The text of the card; `edited` is what people set in the front matter."""
    identity = run["identity"]
    height, width = identity["codec.grid"]
    made_with = {"codec": identity["codec.id"], "run": run["fingerprint"]}
    made_with |= {key: value for key, value in identity.items() if key.startswith(("models.", "config."))}
    body = TEXT.format(
        title=title,
        version=run["version"],
        clips=counts.clips,
        kept=counts.kept,
        dropped=counts.dropped,
        rejected=counts.rejected,
        pending=counts.pending,
        triplets=counts.triplets,
        warning=_warning(counts),
        reasons="".join(f"- {reason}: {number}\n" for reason, number in counts.reasons.items()),
        height=height,
        width=width,
        made_with="\n".join(f"| {key} | {_cell(value)} |" for key, value in made_with.items()),
    )
    front_matter = {
        **_front_matter(identity["codec.id"], (height, width), optional_columns(identity)),
        **edited,
    }
    if identity.get("config.columns"):  # `datasets` gets the types of carried columns from the files alone
        del front_matter["dataset_info"]
    header = yaml.safe_dump(front_matter, sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n{body}"


def edited_header(dataset: Dataset) -> dict[str, Any]:
    """What people set in the front matter of the dataset's card; empty if there is no card.

    Raises DatasetError if the card is a link that does not lead into a hub's cache: values of a stranger's
    choice would get into the next card.
    """
    name = uri.join(dataset.uri, "README.md")
    path = uri.local_path(name) if uri.is_local(name) else None
    if path and path.is_symlink() and not uri.HUB_BLOB.search(os.path.realpath(path)):
        raise DatasetError(f"{name} is a link; put the file that it should be in its place, or remove it")
    try:
        _, _, rest = objects.read_bytes(name, MAX_BYTES).decode(errors="replace").partition("---\n")
        loaded = yaml.safe_load(rest.partition("\n---")[0])
    except FileNotFoundError:
        return {}
    except UserError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError for a day that doesn't exist
        raise DatasetError(f"{name}: its front matter is not YAML; correct it or remove the file") from error
    header: dict[str, Any] = loaded if isinstance(loaded, dict) else {}
    return {key: value for key, value in header.items() if key not in DERIVED}


def _front_matter(codec_id: str, grid: tuple[int, int], optional: Sequence[str]) -> dict[str, Any]:
    described = json.loads(triplet_schema(codec_id, grid, optional).metadata[b"huggingface"])
    features = described["info"]["features"]
    return {
        "license": "unknown",
        "tags": ["kinescribe", "video", "action", "world-model"],
        "configs": [{"config_name": "default", "data_files": "data/*.parquet"}],
        "dataset_info": {"features": [_feature(*item) for item in features.items()]},
    }


def _warning(counts: DatasetStatus) -> str:
    warning = counts.familiarity and counts.familiarity.warning
    return f"\n**{warning[0].upper()}{warning[1:]}.**\n" if warning else ""


def _cell(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def _feature(name: str, feature: dict[str, Any]) -> dict[str, Any]:
    """A feature in the spelling of dataset cards, from that of the schema's metadata."""
    if feature["_type"] == "List":
        return {"name": name, "list": feature["feature"].get("dtype", "image")}
    return {"name": name, "dtype": feature.get("dtype", "image")}
