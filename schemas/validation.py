"""Says in plain words what pydantic found wrong: the full key, what was expected, what was given.

Knows no configuration, only how pydantic describes them.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from kinescribe.schemas.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_TEXT, _WHOLE, _NUMBER, _LIST = "must be text", "must be a whole number", "must be a number", "must be a list"
_WORDS = {
    "string_type": _TEXT,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "sequence_str": _LIST,
    "model_type": "must be a section with the keys of {class_name}",
    "is_instance_of": "must be {class}",
    "invalid_key": "the key must be text",
    "callable_type": "must be a function",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must not be empty",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
}
"""By pydantic's kind of error, with the values that pydantic gives."""
_SHORT = 16
"""How many known keys a message lists at most."""


@contextmanager
def plain_errors(kind: type[BaseModel], also: Collection[str] = ()) -> Generator[None]:
    """Turns a ValidationError of `kind` into a ConfigError that names each wrong key, its value and a remedy.

    `also` are names that may be meant by an unknown key, beside the keys of `kind`.
    """
    try:
        yield
    except ValidationError as error:
        raise ConfigError("\n".join(_complaint(kind, item, also) for item in error.errors())) from None


def _complaint(kind: type[BaseModel], item: ErrorDetails, also: Collection[str]) -> str:
    path = [str(part) for part in item["loc"]]
    where = ".".join(path)
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key; {_remedy(kind, path, also)}"
    if item["type"] == "missing":
        return f"{where}: required, but not given"
    words = _WORDS[item["type"]].format(**item.get("ctx", {})) if item["type"] in _WORDS else item["msg"]
    # Checks of a whole section name its keys themselves.
    key = f"{where}: " if where and not words.startswith(where) else ""
    value = "" if isinstance(item["input"], dict | BaseModel) else f", got {item['input']!r:.200}"
    return f"{key}{words}{value}"


def _remedy(kind: type[BaseModel], path: list[str], also: Collection[str]) -> str:
    """What to write instead of an unknown key."""
    *parents, key = path
    section = kind
    for parent in parents:
        section = next(iter(_sections(section, parent)), section)
    known = sorted(section.model_fields)
    names = sorted({*known, *(() if parents else also)})
    close = get_close_matches(key, names, 1) or _begun(key, names)
    elsewhere = [name for name in _dotted(kind) if name.split(".")[-1] == key]
    if suggestion := ([".".join([*parents, name]) for name in close] or elsewhere)[:1]:
        return f"did you mean {suggestion[0]}?"
    if len(known) > _SHORT:
        return "remove it or check its spelling"
    return f"remove it, or use one of {', '.join(known)}"


def _begun(key: str, names: Collection[str]) -> list[str]:
    """The name that begins with the key, if there is only one: num_samples for n."""
    begun = [name for name in names if name.startswith(key)]
    return begun if len(begun) == 1 else []


def _sections(kind: type[BaseModel], name: str) -> Iterator[type[BaseModel]]:
    """The configuration class of a field, if it has one."""
    field = kind.model_fields.get(name)
    annotation: Any = field.annotation if field else None
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            yield candidate


def _dotted(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name in kind.model_fields:
        yield prefix + name
        for section in _sections(kind, name):
            yield from _dotted(section, f"{prefix}{name}.")
