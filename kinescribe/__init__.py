"""Kinescribe writes down what was done in videos; this package is its command line and public API."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kinescribe.schemas.version import VERSION

if TYPE_CHECKING:
    from kinescribe.cluster.label import run_label as label
    from kinescribe.inference.imagine import imagine
    from kinescribe.labeling.curate import curate
    from kinescribe.labeling.ingest import run_ingest as ingest
    from kinescribe.models.registry import load_model
    from kinescribe.storage.audit import check, status

__version__ = VERSION
__all__ = ["check", "curate", "imagine", "ingest", "label", "load_model", "status"]

_HOMES = {
    "check": ("kinescribe.storage.audit", "check"),
    "curate": ("kinescribe.labeling.curate", "curate"),
    "imagine": ("kinescribe.inference.imagine", "imagine"),
    "ingest": ("kinescribe.labeling.ingest", "run_ingest"),
    "label": ("kinescribe.cluster.label", "run_label"),
    "load_model": ("kinescribe.models.registry", "load_model"),
    "status": ("kinescribe.storage.audit", "status"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for at its first use: importing `kinescribe` alone costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
