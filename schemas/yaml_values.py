"""Configuration as text: a YAML file and dotted overrides become nested values, unchecked."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from kinescribe.schemas.errors import ConfigError


def read_config(path: Path | None) -> str | None:
    """The text of a configuration file. Raises ConfigError if it cannot be read."""
    if path is None:
        return None
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}; give a YAML file in UTF-8") from error


_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError)
"""What PyYAML raises: its own errors for wrong syntax, Python's for impossible dates and numbers."""


def config_values(text: str | None, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The values in YAML text and overrides, unchecked. Raises ConfigError if they can't be parsed."""
    try:
        values = yaml.safe_load(text) if text else {}
    except RecursionError as error:
        raise ConfigError("the configuration is nested too deeply to be read as YAML") from error
    except _YAML_ERRORS as error:
        raise ConfigError(f"the configuration cannot be read as YAML: {error}") from error
    if not isinstance(values or {}, dict):
        raise ConfigError(f"the configuration must be a mapping, got {type(values).__name__}")
    values = values or {}
    for override in overrides:
        set_value(values, *_parse_override(override))
    return values


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"an override has the form key=value, got {override!r}")
    try:
        return key, yaml.safe_load(text)
    except (*_YAML_ERRORS, RecursionError) as error:
        raise ConfigError(f"the value of {key} is not YAML, got {text!r}; quote it") from error


def set_value(values: dict[str, Any], path: str, value: object) -> None:
    """Set a value by its dotted key; sections are made as needed, and replaced values are not changed."""
    *parents, leaf = path.split(".")
    section: Any = values
    for key in parents:
        section[key] = copy.copy(section.get(key, {}))
        section = section[key]
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: {key} is a value, not a section")
    section[leaf] = value
