"""The settings of an administrator's own policies in Python: ``[policy.scripts]``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from mta.settings.values import Count, Octets, Path, Seconds, Within


@dataclass(frozen=True, slots=True)
class ScriptSettings:
    """Policies in Python that you write: each file ``NAME.py`` of a directory is the policy ``NAME``, see
    policies.md. Its functions run in a process of their own, which is killed where it takes too long.
    """

    directory: Path = "policy"
    """Where the files are, beside ``mta.toml`` unless written otherwise. Those whose names begin with ``_`` or ``.``
    are left alone."""
    children: Annotated[int, Within(1, 16)] = 1
    """Processes for each file. One question at a time is asked in each; what a function keeps in memory, it keeps in
    one of them, so a function that counts needs just one."""
    deadline: Annotated[Seconds, Within(0.05, 60)] = 5.0
    """For the answer to one question; then 451 4.7.1, and the process is killed."""
    patience: Annotated[Seconds, Within(0.05, 120)] = 20.0
    """How long a question waits for its turn; then 451 4.7.1."""
    waiting: Count = 100
    """Questions that wait for their turn, for each file; more get 451 4.7.1 at once."""
    memory: Annotated[Octets, Within(64 << 20)] = 256 << 20
    """Address space of one process (setrlimit(2), ``RLIMIT_AS``); Python itself takes some 20 MiB of it."""
    body_maximum: Annotated[Octets, Within(0, 4 << 20)] = 64 << 10
    """How much of a body a function is told: the beginning."""

    def place(self, toml: str) -> str:
        """The path of the directory, given that of ``mta.toml``."""
        return os.path.join(os.path.dirname(toml), self.directory)
