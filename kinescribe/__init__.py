"""Kinescribe writes down what was done in videos; this package is its command line and public API."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from schemas.version import VERSION

if TYPE_CHECKING:
    from cluster.label import run_label as label
    from evaluation.imagine import imagine
    from labeling.curate import curate
    from labeling.ingest import run_ingest as ingest
    from models.registry import load_model
    from storage.audit import check, status

__version__ = VERSION
__all__ = ["check", "curate", "imagine", "ingest", "label", "load_model", "status"]

_HOMES = {
    "check": ("storage.audit", "check"),
    "curate": ("labeling.curate", "curate"),
    "imagine": ("evaluation.imagine", "imagine"),
    "ingest": ("labeling.ingest", "run_ingest"),
    "label": ("cluster.label", "run_label"),
    "load_model": ("models.registry", "load_model"),
    "status": ("storage.audit", "status"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for at its first use: importing `kinescribe` alone costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
