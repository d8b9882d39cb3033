"""The name of a message in a Maildir (pure): a function of its queue id alone.

``<seconds>.<queue id>.mta``, seconds since 1970 at acceptance, as https://cr.yp.to/proto/maildir.html asks for:
unique, no ``/`` and no ``:``. Nothing that a peer sends is in it. The same message delivered again to the same
Maildir meets its own name, so a delivery that is repeated after a crash does not make a second copy. A reader moves
the file from ``new`` to ``cur`` and appends what it knows of it: ``:2,FLAGS``, and Dovecot ``,S=…`` before that.
"""

from __future__ import annotations

from mta.mail.envelope import is_folder
from mta.mail.queueid import accepted_at

TMP = "tmp"
"""Directory of what is being written."""
NEW = "new"
"""Directory of what is delivered, and no reader has seen."""
CUR = "cur"
"""Directory of what a reader has seen."""


def message_name(queue_id: str) -> str:
    """Return the name of a message in ``tmp`` and ``new``. Raises ValueError for what is no queue id."""
    if not (queue_id.isascii() and queue_id.isalnum()):
        raise ValueError(f"not a queue id: {queue_id!r}")
    return f"{int(accepted_at(queue_id))}.{queue_id}.mta"


def folder_path(maildir: str, folder: str) -> str:
    """Return the directory of a folder below a Maildir (Maildir++, as Dovecot and Courier read it); "" is the inbox.

    What is no name of a folder is the inbox too: in doubt mail goes where it is read.
    """
    return f"{maildir}/.{folder}" if is_folder(folder) else maildir


def is_message(entry: str, name: str) -> bool:
    """Whether a directory entry, as we or a reader named it, is the message that `message_name` called `name`."""
    return entry == name or entry.startswith((name + ":", name + ","))
