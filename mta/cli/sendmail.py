"""``mta sendmail``: the command by which the system sends, for those who type it."""

from __future__ import annotations

import sys

import click

from mta.sendmail.command import run

_HELP = """Hand in a message from standard input, as programs of this machine do.

\b
-t           take the recipients from To, Cc and Bcc
-i           a line with a dot alone does not end the message
-f ADDRESS   the envelope sender
-F NAME      the full name in From
-C FILE      the configuration that names the socket
-bs          speak SMTP on standard input and output
-bp -bi -q   what mailq, newaliases and "mta queue retry" do
"""


@click.command(
    help=_HELP,
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    epilog="Example: printf 'To: root\\nSubject: disk\\n\\nIt is full.\\n' | mta sendmail -t",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sendmail(arguments: tuple[str, ...]) -> None:
    """Carry out the command line that stands behind ``mta sendmail``."""
    from mta.cli.mailq import carry_out

    sys.exit(run("sendmail", list(arguments), carry_out))
