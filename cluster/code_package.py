"""Packs Kinescribe's own code into one file, the only one that is sent to a cluster.

Lists what is packed instead of what is left out, so data and secrets beside the code aren't sent. Knows
nothing of Ray.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from kinescribe.schemas.errors import ConfigError

PACKAGE = Path(__file__).parents[1]
LINKED = ("actors", "cluster", "labeling", "schemas", "training")
"""The folders at the root of a checkout that are links in the package."""
SUFFIXES = (".py", ".json", ".safetensors", ".md", ".yaml", ".html", ".css", ".js", ".typed")
"""The suffixes of files in the wheel."""
CONFIG = "job.yaml"
"""The configuration's name in the package, which is the working folder of the command."""
MOST_BYTES = 200 << 20
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_package(path: Path, config: str | None, package: Path = PACKAGE) -> Path:
    """Write the code and the configuration as a zip file. The same content gives the same bytes.

    Raises ConfigError if the folders of the code hold more than `MOST_BYTES`.
    """
    files = sorted(_files(package))
    sizes = {file: file.stat().st_size for file in files}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(files, key=lambda file: sizes[file])
        raise ConfigError(
            f"the code to send has {sum(sizes.values()) >> 20} MiB, of which {largest} has "
            f"{sizes[largest] >> 20}; keep models and data outside the folders of the code"
        )
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            _add(archive, file.relative_to(package.parent).as_posix(), file.read_bytes())
        if config is not None:
            _add(archive, CONFIG, config.encode())
    return path


def _files(folder: Path) -> Iterator[Path]:
    """The code's files. Follows the five links to folders of a checkout, and no other link."""
    for entry in folder.iterdir():
        if entry.name.startswith((".", "__pycache__")):
            continue
        if entry.is_dir() and (not entry.is_symlink() or entry.name in LINKED):
            yield from _files(entry)
        elif entry.suffix in SUFFIXES and entry.is_file() and not entry.is_symlink():
            yield entry


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
