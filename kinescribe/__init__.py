"""Kinescribe labels video for world models: clips in, (frame, action, next frame) triplets out.

>>> import kinescribe
>>> kinescribe.label("clips", "dataset")
>>> kinescribe.curate("dataset", "best.parquet", top_k=7000)
>>> kinescribe.report("dataset", "report.html")

`dir(kinescribe)` lists the public API; other modules are internal. Each function imports what it needs when
it is called, so that `import kinescribe` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kinescribe import evaluate, review
from kinescribe.api import (
    check,
    curate,
    export,
    imagine,
    ingest,
    label,
    load_model,
    plan,
    report,
    status,
    train,
)
from kinescribe.schemas.errors import (
    ConfigError,
    DatasetError,
    InputError,
    ModelError,
    StoreError,
    UserError,
)
from kinescribe.schemas.version import VERSION

if TYPE_CHECKING:
    from kinescribe.schemas.config import CurateConfig, ImagineConfig, IngestConfig, LabelConfig, Resources
    from kinescribe.schemas.estimate import Machine
    from kinescribe.schemas.training import CodecTraining, DynamicsTraining, WorldTraining

__version__ = VERSION
__all__ = [
    "CodecTraining",
    "ConfigError",
    "CurateConfig",
    "DatasetError",
    "DynamicsTraining",
    "ImagineConfig",
    "IngestConfig",
    "InputError",
    "LabelConfig",
    "Machine",
    "ModelError",
    "Resources",
    "StoreError",
    "UserError",
    "WorldTraining",
    "check",
    "curate",
    "evaluate",
    "export",
    "imagine",
    "ingest",
    "label",
    "load_model",
    "plan",
    "report",
    "review",
    "status",
    "train",
]

_CONFIG_MODULES = {
    "CodecTraining": "kinescribe.schemas.training",
    "CurateConfig": "kinescribe.schemas.config",
    "DynamicsTraining": "kinescribe.schemas.training",
    "ImagineConfig": "kinescribe.schemas.config",
    "IngestConfig": "kinescribe.schemas.config",
    "LabelConfig": "kinescribe.schemas.config",
    "Machine": "kinescribe.schemas.estimate",
    "Resources": "kinescribe.schemas.config",
    "WorldTraining": "kinescribe.schemas.training",
}
"""Classes of pydantic, which takes a quarter of a second to import."""


def __getattr__(name: str) -> Any:
    if name not in _CONFIG_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_CONFIG_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
