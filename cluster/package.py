"""Kinescribe's own code as one file, the only one that is sent to a cluster.

Says what is packed and not what is left out, so that no data and no secret that lies beside the code is
sent. Knows nothing of Ray.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import ConfigError

ROOT = Path(__file__).parents[1]
ROOMS = (
    "kinescribe",
    "cluster",
    "actors",
    "labeling",
    "training",
    "evaluation",
    "models",
    "storage",
    "schemas",
)
SUFFIXES = (".py", ".json", ".safetensors", ".md", ".yaml", ".html", ".css", ".js")
"""Of files that the wheel holds."""
CONFIG = "job.yaml"
"""The configuration's name in the package, which is the folder in which the command runs."""
MOST_BYTES = 200 << 20
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_package(path: Path, config: str | None, root: Path = ROOT) -> Path:
    """Write the code, and the configuration beside it, as a zip file; the same content gives the same bytes.

    Raises ConfigError where the code's folders hold more than can be meant to be sent.
    """
    files = sorted(_files(root))
    sizes = {file: file.stat().st_size for file in files}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(files, key=lambda file: sizes[file])
        raise ConfigError(
            f"the code to send has {sum(sizes.values()) >> 20} MiB, of which {largest} has "
            f"{sizes[largest] >> 20}; keep models and data outside the folders of the code"
        )
    with zipfile.ZipFile(path, "w") as package:
        for file in files:
            _add(package, file.relative_to(root).as_posix(), file.read_bytes())
        if config is not None:
            _add(package, CONFIG, config.encode())
    return path


def _files(root: Path) -> Iterator[Path]:
    for room in ROOMS:
        for file in (root / room).rglob("*"):
            hidden = any(part.startswith((".", "__pycache__")) for part in file.relative_to(root).parts)
            if file.suffix in SUFFIXES and not hidden and file.is_file() and not file.is_symlink():
                yield file


def _add(package: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.external_attr = 0o644 << 16
    package.writestr(entry, data, zipfile.ZIP_DEFLATED)
