"""A machine of its own: the system that runs the tests, seen through an overlay, with systemd as its process 1.

Whatever is installed, written or removed in it stays in a directory that goes with it. It has a network of its own with
nothing but itself in it, and none of the services that are enabled outside. It needs root, systemd-nspawn, and a kernel
that lets us mount an overlay and begin namespaces, which one in a container may not: then it is skipped, also in CI.
"""

from __future__ import annotations

import functools
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.live.peers.process import DEADLINE, Process, needs_root, program

_MOUNT = """
set -e
mount --make-rprivate /
mkdir "$0/upper" "$0/work" "$0/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
"""
_TRY = (
    _MOUNT
    + """
exec systemd-nspawn --quiet --directory="$0/root" --register=no --keep-unit --private-network --pipe true
"""
)
_START = (
    _MOUNT
    + """
cd "$0/root"
rm -rf etc/systemd/system/* etc/rc?.d/* etc/resolv.conf etc/hosts etc/hostname etc/aliases
rm -rf etc/mta var/lib/mta var/mail/mta usr/sbin/policy-rc.d var/log/journal
printf '127.0.0.1 localhost\n' >etc/hosts
printf 'nameserver 127.0.0.1\n' >etc/resolv.conf
printf '%s\n' "$1" >etc/hostname
exec systemd-nspawn --quiet --directory="$0/root" --boot --console=pipe --register=no --keep-unit --private-network \
    --resolv-conf=off --timezone=off --link-journal=no --machine="$3" --hostname="$1" --bind-ro="$2" --bind-ro="$4" -- \
    systemd.show_status=no systemd.log_target=null
"""
)
_PROJECT = Path(__file__).resolve().parents[3]
_ENDED = re.compile(rb"\x1e(\d+)\n")


_UNSHARED = ("unshare", "--mount", "--propagation", "private", "bash", "-c")


@functools.cache
def _refused() -> str:
    """Why the kernel lets no machine be made; empty where it does."""
    with tempfile.TemporaryDirectory(prefix="mta-machine-") as place:
        argv = [*_UNSHARED, _TRY, place]
        try:
            tried = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            return "it does not come up"
    return "" if tried.returncode == 0 else tried.stderr.strip() or f"status {tried.returncode}"


class Machine:
    """One such machine, and a root shell in it that keeps its variables from one command to the next.

    It sees the directory `shared`, and the project, wherever these lie: /tmp in it is its own.
    """

    def __init__(self, directory: Path, host_name: str, shared: Path) -> None:
        needs_root("a machine in a container")
        program("systemd-nspawn")
        refused = _refused()
        if refused:
            pytest.skip(f"no machine in a container here: {refused}")
        place = Path(tempfile.mkdtemp(prefix="mta-machine-"))
        self.place = place
        script = [*_UNSHARED, _START, str(place)]
        self.shell: subprocess.Popen[bytes] | None = None
        name = "mta-" + place.name.rpartition("-")[2].replace("_", "0")  # systemd-nspawn keeps files by it
        argv = [*script, host_name, str(shared), name, str(_PROJECT)]
        self.process = Process(argv, directory / "machine.log", start_new_session=True)
        try:
            self._enter()
        except BaseException:
            self.stop()
            raise

    def _enter(self) -> None:
        """Wait until systemd runs in it, and start the shell."""
        first = self.process.wait_for(self._first, "a process 1 in the machine")
        self.enter = ["nsenter", "--target", str(first), "--all", "--"]
        self.process.wait_for(self._runs, "systemd running in the machine")
        self.shell = subprocess.Popen(
            [*self.enter, "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
             "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "COLUMNS=100", "bash", "--norc"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
        )  # fmt: skip
        self.run("cd /root")
        self.run(
            "ip link set lo up; ip link add wire type veth peer name rest; ip link set wire up; ip link set rest up"
        )

    def _first(self) -> int | None:
        """The process that is 1 inside: the child of systemd-nspawn that has a child named systemd."""
        try:
            children = (
                Path(f"/proc/{self.process.popen.pid}/task/{self.process.popen.pid}/children").read_text().split()
            )
        except OSError:
            return None
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        return None

    def _runs(self) -> bool:
        done = subprocess.run(
            [*self.enter, "systemctl", "is-system-running"], check=False, capture_output=True, text=True
        )
        return done.stdout.strip() in ("running", "degraded")

    def run(self, command: str, status: int | None = 0, seconds: float = DEADLINE) -> str:
        """Type a command into the shell, return what it prints; fail where its exit status is another."""
        assert self.shell is not None
        assert self.shell.stdin
        assert self.shell.stdout
        self.shell.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\x1e%d\\n' $?\n".encode())
        self.shell.stdin.flush()
        octets = b""
        end = time.monotonic() + seconds
        while not (found := _ENDED.search(octets)):
            ready, _, _ = select.select([self.shell.stdout], [], [], max(0.0, end - time.monotonic()))
            more = os.read(self.shell.stdout.fileno(), 65536) if ready else b""
            octets += more
            if not more:
                what = "the shell ended at" if ready else f"not within {seconds:.0f} s"
                pytest.fail(f"{what}: {command}\n{octets.decode(errors='replace')}", pytrace=False)
        printed = octets[: found.start()].decode(errors="replace")
        if status is not None and int(found[1]) != status:
            pytest.fail(f"status {int(found[1])}, not {status}: {command}\n{printed}", pytrace=False)
        return printed

    def write(self, path: str, text: str) -> None:
        """Put a file into it."""
        subprocess.run([*self.enter, "tee", path], input=text, text=True, check=True, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        """Switch it off."""
        if self.shell is not None:
            self.shell.kill()
            self.shell.wait()
        if self.process.popen.poll() is None:
            for _ in range(2):  # the second is: at once
                os.kill(self.process.popen.pid, signal.SIGTERM)
                time.sleep(0.2)
            try:
                self.process.popen.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.popen.kill()
                self.process.popen.wait()
        shutil.rmtree(self.place, ignore_errors=True)
