"""The arguments of public functions: checked before anything starts, options made into configurations.

Imports pydantic when a function is called, not before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from kinescribe.schemas.errors import ConfigError

if TYPE_CHECKING:
    from kinescribe.schemas.config import Config, LabelConfig, Resources

    AnyConfig = TypeVar("AnyConfig", bound=Config)

StrPath = str | os.PathLike[str]
StrPaths = StrPath | Sequence[StrPath]
P = ParamSpec("P")
Result = TypeVar("Result")
IN_CONFIGURATION = frozenset({"actions", "config", "data", "resources"})
"""Arguments that are checked with the configuration that they are part of."""


def checked(function: Callable[P, Result]) -> Callable[P, Result]:
    """The function, which raises ConfigError for arguments that don't fit its annotations, before it starts.

    `StrPath` is a path, `StrPaths` a path or a list of at least one. Unknown options are the function's to
    refuse.
    """

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> Result:
        bound = signature(function).bind(*args, **options)
        model = _arguments(function)
        given = model(**{name: bound.arguments[name] for name in bound.arguments.keys() & model.model_fields})
        bound.arguments |= {name: getattr(given, name) for name in given.model_fields_set}
        return function(*bound.args, **bound.kwargs)

    return call


@cache
def _arguments(function: Callable[..., Any]) -> type[Config]:
    """The arguments of a function as a configuration."""
    from pydantic import BeforeValidator, Field, create_model

    from kinescribe.schemas import config, config_base, estimate

    path = Annotated[str, BeforeValidator(_require_path)]
    paths = Annotated[tuple[path, ...], BeforeValidator(listed), Field(min_length=1)]
    known = vars(config_base) | vars(config) | vars(estimate) | function.__globals__
    known |= {"StrPath": path, "StrPaths": paths}
    fields: dict[str, Any] = {
        name: (eval(parameter.annotation, known), None)
        for name, parameter in signature(function).parameters.items()
        if parameter.kind is not Parameter.VAR_KEYWORD and name not in IN_CONFIGURATION
    }
    return create_model(function.__name__, __base__=config_base.Config, **fields)


def _require_path(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a path")
    return value


def listed(value: Any) -> Any:
    """A single text or path as a list of one."""
    return [value] if isinstance(value, str | os.PathLike) else value


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


def label_settings(
    function: Callable[..., Any],
    config: LabelConfig | None,
    resources: Resources | None,
    options: Mapping[str, Any],
) -> tuple[LabelConfig, Resources]:
    """The configuration and the resources, with the options instead of their own values."""
    from kinescribe.schemas.config import LabelConfig, Resources

    keys = options.keys() & Resources.model_fields
    speed = {key: options[key] for key in keys}
    rest = {key: options[key] for key in options.keys() - keys}
    settings = configured(function, LabelConfig, config, rest, also=Resources)
    return settings, configured(function, Resources, resources, speed, "resources")


def configured(
    function: Callable[..., Any],
    kind: type[AnyConfig],
    config: Config | None,
    options: Mapping[str, Any],
    argument: str = "config",
    also: type[Config] | None = None,
) -> AnyConfig:
    """The configuration with the options instead of its own values. Raises ConfigError.

    An unknown option may be meant as a parameter of the function, or as a key of `also`.
    """
    from kinescribe.schemas.config import load_config

    if config is not None and not isinstance(config, kind):
        wanted, got = kind.__name__, type(config).__name__
        raise ConfigError(f"{argument}: must be of class {wanted}, got {got}; or give its keys as keywords")
    given = {key: value for key, value in _dotted(options) if value is not None}
    if config is not None and not given:
        return config
    own = {} if config is None else config.model_dump(exclude_unset=True, by_alias=False)
    known = [name for name in signature(function).parameters if name != "options"]
    known += also.model_fields if also else ()
    return load_config(kind, values=dict(_dotted(own)) | given, also=known)


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted key."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
