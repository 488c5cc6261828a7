"""The dataset card: the README.md that tells people, the Hub and `datasets` what a dataset folder holds.

Derived from the folder, so it may be written again at any time; what people set in its front matter, as the
licence, stays. That names `data/*.parquet` as the only data, or `datasets` would take the plan for rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from kinescribe.schemas.dataset import FIELDS, triplet_schema
from kinescribe.schemas.errors import DatasetError
from kinescribe.storage import objects, uri
from kinescribe.storage.audit import DatasetStatus, status
from kinescribe.storage.run import read_run

DERIVED = ("configs", "dataset_info")
TEXT = """\
# {title}

Pairs of frames with the action between them, written by Kinescribe {version}. An action with a
`finish_reason` is a model's, not a person's; one without came with the data.

| clips | kept | dropped | rejected | pending | triplets |
|---|---|---|---|---|---|
| {clips} | {kept} | {dropped} | {rejected} | {pending} | {triplets} |

{reasons}
One row is one triplet: `source` and `target` frames, the `action` between them with its summed
log-probability, and for each of the {height}×{width} image tokens of the target its code and its
`importance` (row-major). `video`, `source_time_s` and `target_time_s` say where the frames come from.

| made with | |
|---|---|
{made_with}

## Licence

The frames keep the licence of the videos or images they were taken from. The actions are subject to that of
the model that wrote them, or of the data they came with. Set `license` in the header above once you have
settled both.
"""


def write_card(dataset: str) -> DatasetStatus:
    """Write README.md anew from what the folder holds now, and say how far it is."""
    run, counts = read_run(dataset), status(dataset)
    text = card(run, counts, given_header(dataset), title=dataset.rstrip("/").rpartition("/")[2])
    objects.replace(uri.join(dataset, "README.md"), text.encode())
    return counts


def card(run: dict[str, Any], counts: DatasetStatus, given: Mapping[str, Any], title: str) -> str:
    """The text of the card, front matter first, of which `given` is what people set."""
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
        reasons="".join(f"- {reason}: {number}\n" for reason, number in counts.reasons.items()),
        height=height,
        width=width,
        made_with="\n".join(f"| {key} | {_cell(value)} |" for key, value in made_with.items()),
    )
    front_matter = {**_front_matter(identity["codec.id"], (height, width)), **given}
    header = yaml.safe_dump(front_matter, sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n{body}"


def given_header(dataset: str) -> dict[str, Any]:
    """The front matter of the card that a dataset has, but for what is derived; empty where it has none."""
    name = uri.join(dataset, "README.md")
    try:
        _, _, rest = objects.read_bytes(name).decode(errors="replace").partition("---\n")
        found = yaml.safe_load(rest.partition("\n---")[0])
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise DatasetError(f"{name}: its front matter is no YAML; mend it or remove the file") from error
    header: dict[str, Any] = found if isinstance(found, dict) else {}
    return {key: value for key, value in header.items() if key not in DERIVED}


def _front_matter(codec_id: str, grid: tuple[int, int]) -> dict[str, Any]:
    described = json.loads(triplet_schema(codec_id, grid).metadata[b"huggingface"])
    features = described["info"]["features"]
    return {
        "license": "unknown",
        "tags": ["kinescribe", "video", "action", "world-model"],
        "configs": [{"config_name": "default", "data_files": "data/*.parquet"}],
        "dataset_info": {"features": [_feature(field.name, features[field.name]) for field in FIELDS]},
    }


def _cell(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def _feature(name: str, feature: dict[str, Any]) -> dict[str, Any]:
    """A feature as dataset cards spell it, from how the schema's metadata does."""
    if feature["_type"] == "List":
        return {"name": name, "list": feature["feature"]["dtype"]}
    return {"name": name, "dtype": feature.get("dtype", "image")}
