"""``mta sendmail``: the command by which the system sends, for those who type it.

Exit status: 0 the message is on stable storage; 64 the command line makes no sense; 65 the message or an address cannot
be read; 67 there is no such recipient; 68 there is no such domain; 69 the server refuses the message; 75 not now,
nothing is kept, try again; 77 the sender is not the user's; 78 the configuration that was named cannot be used.
"""

from __future__ import annotations

import sys

import click

from mta.cli.daemon import examples
from mta.sendmail.command import run

_HELP = """Hand in a message from standard input, as programs of this machine do.

It is installed as mta-sendmail too. A link to that called mailq prints the queue, one called newaliases reads the
aliases of this machine again. The message goes to all recipients or to none, in the name of the user who calls.

\b
-t           take the recipients from To, Cc and Bcc
-i           a line with a dot alone does not end the message
-f ADDRESS   the envelope sender
-F NAME      the full name in From
-C FILE      the configuration that names the socket
-bs          speak SMTP on standard input and output
-v           show the dialogue
-bp -bi -q   what mailq, newaliases and "mta queue retry" do
-q[IRS]TEXT  the same for a part of queue id, recipient or sender
--           what follows are recipients
"""


@click.command(
    help=_HELP,
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    epilog=examples("printf 'To: root\\nSubject: disk\\n\\nIt is full.\\n' | mta sendmail -t"),
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sendmail(arguments: tuple[str, ...]) -> None:
    """Carry out the command line that stands behind ``mta sendmail``."""
    from mta.cli.mailq import carry_out

    sys.exit(run("sendmail", list(arguments), carry_out))
