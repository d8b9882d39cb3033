"""Settings that are taken once, at the start, and what a reload makes of them: nothing.

Which these are stands at their fields in `mta.settings.sections` (`AT_START`), and nowhere else. A reload goes on with
the old value of each, so that none of them takes effect by half, and names those that wait for a restart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from mta.settings.sections import Settings
from mta.settings.table import at_start


def needs_restart(running: Settings, loaded: Settings) -> list[str]:
    """The keys whose new values only a restart will use."""
    return [key for key, fixed in keys(Settings) if fixed and _value(running, key) != _value(loaded, key)]


def go_on(running: Settings, loaded: Settings) -> Settings:
    """What holds after a reload: `loaded`, with what was taken at the start as it is."""
    kept: Settings = _go_on(running, loaded)
    return kept


def keys(cls: type, prefix: str = "", fixed: bool = False) -> Iterator[tuple[str, bool]]:
    """Every key, dotted, and whether it is taken at the start."""
    for field in dataclasses.fields(cls):
        taken = fixed or at_start(field)
        table = field.default
        if dataclasses.is_dataclass(table):
            yield from keys(type(table), f"{prefix}{field.name}.", taken)
        else:
            yield f"{prefix}{field.name}", taken


def _value(settings: Settings, key: str) -> object:
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _go_on(running: Any, loaded: Any) -> Any:
    kept = {}
    for field in dataclasses.fields(loaded):
        value = getattr(running, field.name)
        if at_start(field):
            kept[field.name] = value
        elif dataclasses.is_dataclass(field.default):
            kept[field.name] = _go_on(value, getattr(loaded, field.name))
    return dataclasses.replace(loaded, **kept)
