"""The build backend (PEP 517, PEP 660): setuptools', with one more line in an editable installation.

Twisted looks for plugins in a directory `twisted/plugins` beneath each entry of `sys.path`. A wheel carries the
plugin there (`setup.cfg`); setuptools' editable installation does not, since it answers imports by a finder and
leaves `sys.path` alone. So the editable wheel gets a `.pth` file that names this directory: `twisted/plugins` beneath
it has no `__init__.py`, which is what makes Twisted take it for a further part of its own package.

Everything else is setuptools' as it stands. The module is no part of a wheel.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

PLUGINS = Path(__file__).resolve().parent


def build_editable(
    wheel_directory: str,
    config_settings: Mapping[str, str | list[str] | None] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the editable wheel in `wheel_directory`, add the line for Twisted, return its file name (PEP 660)."""
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    _add(Path(wheel_directory, name), "mta_plugins.pth", f"{PLUGINS}\n".encode())
    return name


def _add(wheel: Path, member: str, content: bytes) -> None:
    """Put a file into a wheel, and its line into RECORD."""
    with zipfile.ZipFile(wheel) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        for info, octets in members.items():
            if info.filename.endswith(".dist-info/RECORD"):
                octets += f"{member},sha256={digest},{len(content)}\n".encode()
            archive.writestr(info, octets)
