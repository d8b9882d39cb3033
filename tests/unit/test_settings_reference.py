"""docs/settings.md is what the classes say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mta.settings import reference, sections
from mta.smtp.limits import Limits


def test_the_reference_is_true() -> None:
    """docs/settings.md is what ``python -m mta.settings.reference`` prints."""
    assert Path("docs/settings.md").read_text() == reference.render()


def test_every_field_is_described() -> None:
    """No settings class has a field without a text below it."""
    classes = [each for each in vars(sections).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]
    assert Limits in classes
    for cls in classes:
        if cls.__module__ in (sections.__name__, Limits.__module__):
            described = reference._descriptions(cls)
            assert [f.name for f in dataclasses.fields(cls) if not described.get(f.name)] == [], cls
