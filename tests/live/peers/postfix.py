"""A real Postfix with directories of its own: accepts for its domain into Maildirs, relays the rest as it is told.

Debian's package is used where it lies; its configuration and its queue are not touched. The live tests exchange mail
with it, the benchmark measures it: virtual(8) delivery into Maildirs, no limits that loopback would meet.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.live.peers.process import NOBODY, Process, needs_root, program

SERVICES = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

SETTINGS = """
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.{domain}
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = hash:{directory}/etc/mailboxes
virtual_uid_maps = static:{nobody}
virtual_gid_maps = static:{nobody}
virtual_mailbox_limit = 0
message_size_limit = 20000000
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
"""

MAIL_STATES = "active bounce corrupt defer deferred flush hold incoming private saved trace"


class Postfix:
    """Postfix below `directory`, which others must be able to enter (its daemons become `postfix` and `nobody`)."""

    def __init__(
        self, directory: Path, port: int, domain: str, users: Iterable[str], settings: Mapping[str, str] | None = None
    ) -> None:
        needs_root("Postfix")
        self.directory, self.port, self.domain = directory, port, domain
        owner = pwd.getpwnam("postfix").pw_uid
        for name, mode in (("etc", 0o755), ("spool", 0o755), ("spool/pid", 0o755), ("mail", 0o755)):
            (directory / name).mkdir(mode=mode, parents=True, exist_ok=True)
        for name in MAIL_STATES.split():
            _owned(directory / "spool" / name, owner, 0o700)
        _owned(directory / "spool/maildrop", owner, 0o730)
        _owned(directory / "spool/public", owner, 0o710)
        _owned(directory / "data", owner, 0o700)
        for user in users:
            for part in ("", "tmp", "new", "cur"):
                _owned(self.maildir(user) / part, NOBODY, 0o700)
        lines = SETTINGS.format(directory=directory, domain=domain, nobody=NOBODY)
        lines += "".join(f"{name} = {value}\n" for name, value in (settings or {}).items())
        (directory / "etc/main.cf").write_text(lines)
        (directory / "etc/master.cf").write_text(SERVICES.format(port=port))
        mailboxes = directory / "etc/mailboxes"
        mailboxes.write_text("".join(f"{user}@{domain} {user}/\n" for user in users))
        subprocess.run([program("postmap"), "-c", directory / "etc", f"hash:{mailboxes}"], check=True)
        asked = [program("postconf"), "-c", directory / "etc", "-h", "daemon_directory"]
        daemons = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        self.process = Process([f"{daemons}/master", "-d", "-c", str(directory / "etc")], directory / "output")
        self.process.wait_for_greeting(port)

    def maildir(self, user: str) -> Path:
        """Where mail for a user of its domain lands."""
        return self.directory / "mail" / user

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.directory / "maillog").read_text(errors="replace")

    def stop(self) -> None:
        """End it; its children end with it."""
        self.process.stop()


def _owned(directory: Path, owner: int, mode: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    os.chown(directory, owner, -1)
    directory.chmod(mode)
