"""The program that a system calls ``sendmail``, ``mailq`` and ``newaliases``; it is installed as ``mta-sendmail``.

It stands outside of `mta.cli`, whose imports would take longer than the rest of the work.
"""

from __future__ import annotations

import sys

from mta.sendmail.command import run
from mta.sendmail.options import Options


def main() -> None:
    """Carry out the command line of this process."""
    sys.exit(run(sys.argv[0], sys.argv[1:], _other))


def _other(options: Options, config: str) -> int:
    from mta.cli.mailq import carry_out

    return carry_out(options, config)
