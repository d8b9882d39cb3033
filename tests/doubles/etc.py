"""A directory ``etc`` of a test: files as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MINIMAL = 'hostname = "mail.example.org"\n[smtpd]\nenabled = false\n'
"""The least that loads beside one domain."""

USERS = "alice:!::::::\nbob:!\n"
ALIASES = "postmaster: alice\n"


def write_etc(root: Path, toml: str = MINIMAL, domains: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Write ``mta.toml`` and the files of each domain below `root`; gives the path of ``mta.toml``.

    Without `domains` there is example.org with alice, who is its postmaster, and bob.
    """
    if domains is None:
        domains = {"example.org": {"users": USERS, "aliases": ALIASES}}
    (root / "domains").mkdir(parents=True, exist_ok=True)
    for name, files in domains.items():
        (root / "domains" / name).mkdir(exist_ok=True)
        for file, text in files.items():
            (root / "domains" / name / file).write_bytes(text.encode())
    (root / "mta.toml").write_bytes(toml.encode())
    return str(root / "mta.toml")
