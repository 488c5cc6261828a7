"""What is checked before a command or a function starts: packages of extras, and paths to write to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.paths import with_home, without_file_scheme

EXTRAS = {
    "train": ("deepspeed", "peft", "tensorboard"),
    "evaluate": ("bert_score", "matplotlib", "rouge_score", "sacrebleu"),
    "text": ("rapidocr",),
}
"""The packages of each extra in pyproject.toml, by their import names."""


def require_extras(command: str, *names: str) -> None:
    """Raises ConfigError if `command` needs packages of these extras that are not installed."""
    _require(command, {name: EXTRAS[name] for name in names})


def require_matplotlib(option: str) -> None:
    """Raises ConfigError if matplotlib, which draws plots, is not installed."""
    _require(option, {"evaluate": ("matplotlib",)})


def _require(command: str, packages: Mapping[str, Sequence[str]]) -> None:
    """Raises ConfigError with all packages that are missing, by their names for pip, and their extras."""
    lacking = {
        extra: [name for name in names if find_spec(name) is None] for extra, names in packages.items()
    }
    if missing := [name.replace("_", "-") for names in lacking.values() for name in names]:
        extras = ",".join(extra for extra, names in lacking.items() if names)
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(
            f"{command} needs {', '.join(missing)}, which {verb} not installed; "
            f"pip install 'kinescribe[{extras}]'"
        )


def require_folder(option: str, out: str) -> None:
    """Raises ConfigError if the folder `out` cannot be made because a file is in its place. URLs pass."""
    if "://" in out.removeprefix("file://"):
        return
    path = Path(with_home(without_file_scheme(out)))
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(f"{option} {out}: {place} is a file; name a folder")


def require_file(option: str, out: str) -> None:
    """Raises ConfigError if the file `out` cannot be written, because it is a folder or below a file."""
    if "://" in out.removeprefix("file://"):
        return
    path = Path(with_home(without_file_scheme(out)))
    if path.is_dir():
        raise ConfigError(f"{option} {out}: this is a folder; name a file")
    require_folder(option, str(path.parent))
