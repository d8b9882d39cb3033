"""A real Dovecot that serves our Maildirs over IMAP from our own `users` files, as the documentation promises."""

from __future__ import annotations

from pathlib import Path

from tests.live.peers.process import Process, needs_root, program

SETTINGS = """
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
listen = 127.0.0.1
protocols = imap
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain scram-sha-256
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = username_format=%n {etc}/domains/%d/users
}}
userdb {{
  driver = static
  args = uid={owner} gid={group} home={directory}/home/%n
}}
mail_location = maildir:{mail}/%d/%n/Maildir
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service auth {{
  user = root
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


class Dovecot:
    """Dovecot below `directory` for the server whose `etc` and Maildir root are given; reads mail as their owner."""

    def __init__(self, directory: Path, port: int, etc: Path, mail: Path) -> None:
        needs_root("Dovecot")
        self.port = port
        owner = mail.stat()
        for name in ("run", "state"):
            (directory / name).mkdir(parents=True)
        settings = directory / "dovecot.conf"
        settings.write_text(
            SETTINGS.format(directory=directory, etc=etc, mail=mail, port=port, owner=owner.st_uid, group=owner.st_gid)
        )
        self._log = directory / "log"
        self.process = Process([program("dovecot"), "-F", "-c", str(settings)], directory / "output")
        self.process.wait_for_greeting(port, b"* OK")

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def stop(self) -> None:
        """End it; its children end with it."""
        self.process.stop()
