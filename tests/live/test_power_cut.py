"""Power cuts of a real ext4: what was acknowledged is there after the next mount, whole.

The file system is cut off in the middle of acceptance as by a loss of power: nothing more is written, its log is not
flushed (``EXT4_IOC_SHUTDOWN``). It needs root and a loop device; where they are not given there is nothing to try, and
no peer to require: skipped, also in CI.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import termios
import textwrap
import time
from array import array
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

import pytest

from mta.disk.posix import PosixDisk
from mta.observe.journal import Journal
from mta.spool.spools import Spools
from tests.doubles.spool import whole
from tests.doubles.sync import inline

pytestmark = pytest.mark.live

CUTS = 6
ACKNOWLEDGED_MAXIMUM = 25
TREE = Path(__file__).parents[2]

_SHUTDOWN = 0x8004587D
_WITHOUT_LOG = 2

SERVER = """
    import os, sys, time
    from pathlib import Path
    from mta.disk.posix import PosixDisk
    from mta.maildir.store import MaildirStore, Ownership
    from mta.receive.commit import Commit
    from mta.spool.spools import Spools
    from tests.doubles.reception import TOML, Post, etc
    from tests.doubles.sync import inline

    root, etc_path = sys.argv[1:]
    post = Post(etc(Path(etc_path), TOML.replace('"/mail"', f'"{root}/mail"')))
    post.clock.advance(time.time() - post.clock.seconds())  # queue ids of this run are not those of the last
    disk = PosixDisk()
    spools = Spools(f"{root}/spool", disk, inline, post.journal, time.monotonic, 1e4)
    spools.open()
    disk.make_directories(f"{root}/mail")
    disk.make_directories(f"{root}/staging")
    store = MaildirStore(disk, Ownership(os.geteuid()), run_in_thread=inline, clock=post.clock, journal=post.journal)
    post.reception.disk, post.reception.staging = disk, f"{root}/staging"
    post.reception.commit = Commit(
        store, spools, disk, lambda destinations: False, lambda message: None, post.journal
    )
    talk = post.session()
    os.write(1, b"ready\\n")
    # to one Maildir; to the queue as a row; to the queue as a file of the spool; to the queue as a staged file; from
    # one to a Maildir
    kinds = [("bob", 10), ("both", 10), ("both", 100_000), ("both", 400_000), ("bob", 400_000)]
    for number in range(10_000):
        recipient, size = kinds[number % len(kinds)]
        post.clock.advance(0.001)
        talk.send(f"MAIL FROM:<>\\r\\nRCPT TO:<{recipient}@example.test>\\r\\nDATA\\r\\n".encode())
        name = f"{os.getpid()}-{number}"
        lines = b"line\\r\\n" * (size // 6)
        code = talk.codes(f"Subject: {name}\\r\\n\\r\\n".encode() + lines + f"end of {name}\\r\\n.\\r\\n".encode())
        if code != ["250 2.0.0"]:
            sys.exit(f"{code}: {[str(event.reason) for event in post.journal.events]}")
        os.write(1, name.encode() + b"\\n")
"""


class Volume:
    """An ext4 in a file, mounted on a loop device."""

    def __init__(self, place: Path) -> None:
        self.image, self.path = place / "image", place / "mounted"
        self.path.mkdir()
        with self.image.open("wb") as image:
            image.truncate(256 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True, capture_output=True)

    def mount(self) -> None:
        """Mount it; the log is replayed. Raises CalledProcessError."""
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.path)], check=True, capture_output=True)

    def unmount(self, *how: str) -> None:
        """Let go of it."""
        subprocess.run(["umount", *how, str(self.path)], check=True, capture_output=True)

    def cut(self) -> None:
        """Take its power."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
        finally:
            os.close(descriptor)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """A mounted volume."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system and cut it off")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4")
    made = Volume(tmp_path)
    try:
        made.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop mount here: {error}")
    yield made
    made.unmount("--lazy")  # after a failure a spool may be open still


def found(root: Path) -> dict[str, bytes]:
    """Every message in a Maildir or in the queue, by its subject; what is torn is not."""
    contents = [path.read_bytes().replace(b"\n", b"\r\n") for path in (root / "mail").rglob("new/*")]
    spools = Spools(f"{root}/spool", PosixDisk(), inline, Journal(time.time), time.monotonic, 1e4)
    spools.open()
    for message in spools.page(limit=1_000_000):
        with suppress(OSError):
            contents.append(whole(spools.content(message.queue_id)))
    spools.close()
    return {octets.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode(): octets for octets in contents}


def _in_pipe(pipe: BufferedReader) -> int:
    """How many octets wait in a pipe that is read from."""
    waiting = array("i", [0])
    fcntl.ioctl(pipe.fileno(), termios.FIONREAD, waiting)
    return waiting[0]


def test_a_power_cut_loses_nothing_that_was_acknowledged(volume: Volume, tmp_path: Path) -> None:
    """After each cut every message that got its 250 is in its Maildir or in the queue, to its last line."""
    chance = random.Random(11)
    acknowledged: list[str] = []
    for number in range(CUTS):
        etc = tmp_path / f"etc {number}"
        etc.mkdir()
        server = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVER), str(volume.path), str(etc)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=TREE,
            env={**os.environ, "PYTHONPATH": str(TREE)},
        )
        assert isinstance(server.stdout, BufferedReader)
        wanted = chance.randint(1, ACKNOWLEDGED_MAXIMUM)
        said = b"".join(server.stdout.readline() for _ in range(1 + wanted))
        # What is said once the cut began does not count: without power nobody would have said it, and a sync that
        # meets the aborted journal may return as if it were done.
        said += server.stdout.read1(_in_pipe(server.stdout))
        volume.cut()
        server.kill()
        _, errors = server.communicate()
        names = [line.decode().strip() for line in said.splitlines(True)[1:] if line.endswith(b"\n")]
        assert len(names) >= wanted, errors.decode()
        acknowledged += names
        volume.unmount()
        volume.mount()
        there = found(volume.path)
        lost = [name for name in acknowledged if not there.get(name, b"").endswith(f"end of {name}\r\n".encode())]
        assert lost == [], f"cut {number}"
