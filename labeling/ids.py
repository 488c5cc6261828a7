"""Lists of triplets in text files, one id per line, as the report exports them."""

from __future__ import annotations

import re

from kinescribe.schemas.clips import ID
from kinescribe.schemas.errors import InputError
from kinescribe.storage import objects


def read_ids(file: str) -> list[str]:
    """The ids in their order, each once; blank lines are ignored. Raises InputError."""
    try:
        text = objects.read_list(file).decode()
    except OSError as error:
        raise InputError(f"ids {file} cannot be read: {error.strerror or error}; name a text file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"ids {file} is not a text file; give one with an id per line") from error
    ids = dict[str, None]()
    for number, line in enumerate(text.splitlines(), 1):
        if not (id_ := line.strip()):
            continue
        if not re.fullmatch(ID, id_):
            raise InputError(
                f"ids {file}, line {number}: {id_!r:.80} is not the id of a triplet; give one per line, as a "
                "report exports them"
            )
        ids[id_] = None
    if not ids:
        raise InputError(f"ids {file} has no id; give one per line")
    return list(ids)
