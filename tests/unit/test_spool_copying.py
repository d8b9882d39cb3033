"""mta.spool.copying: a copy of a shard that is in use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.disk.posix import PosixDisk
from mta.mail.reason import Reason
from mta.spool import copying
from mta.spool.copying import Copied, copy_shard, fault_of, hold_all, link_or_copy
from mta.spool.port import Ended, State
from mta.spool.search import EVERYTHING, find
from mta.spool.view import View
from tests.doubles.queue import Queue
from tests.doubles.spool import whole
from tests.doubles.sync import result

LARGE = b"Subject: large\r\n\r\n" + b"x" * 100_000 + b"\r\n"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """A queue that is in use."""
    queue = Queue(tmp_path)
    yield queue
    queue.close()


def copy(queue: Queue, target: Path) -> Copied:
    """Copy its shard."""
    return copy_shard(f"{queue.root}/0", f"{target}/0", lambda done, total: None)


def contents(root: Path) -> dict[str, bytes]:
    """The content of each message in copies below a directory."""
    view = View(str(root), PosixDisk())
    found = {each.queue_id: whole(view.content(each.queue_id)) for each in find(view.paths, EVERYTHING)}
    view.close()
    return found


def test_a_copy_has_all_that_is_in_the_queue(queue: Queue, tmp_path: Path) -> None:
    """Small and large messages with their octets, counted; nothing of the live shard changes."""
    small, large = queue.add("bob@a.test", "carol@b.test"), queue.add(content=LARGE)
    assert copy(queue, tmp_path / "copy") == Copied(2, 3)
    assert contents(tmp_path / "copy") == {small: b"Subject: x\r\n\r\nbody\r\n", large: LARGE}
    assert fault_of(f"{tmp_path}/copy/0") == ""
    assert sorted(os.listdir(tmp_path / "copy/0")) == ["content", "queue.db"]
    assert whole(queue.spool.content(large)) == LARGE


def test_a_copy_is_one_moment(queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes and goes while it is made is not in it, or in it as it was when it began."""
    monkeypatch.setattr(copying, "_PAGES", 1)
    before = queue.add()

    def meanwhile(done: int, total: int) -> None:
        if not came:
            came.append(queue.add())
            result(queue.spool.record(before, [Ended(0, Reason("delivered"))]))

    came: list[str] = []
    assert copy_shard(f"{queue.root}/0", f"{tmp_path}/copy/0", meanwhile) == Copied(1, 1)
    assert came
    assert list(contents(tmp_path / "copy")) == [before]


def test_what_is_finished_meanwhile_does_no_harm(queue: Queue, tmp_path: Path) -> None:
    """A large message whose file is gone before it is linked was finished: it is not in the copy; the others are."""
    gone, left = queue.add(content=LARGE), queue.add(content=LARGE)

    def link(old: str, new: str) -> None:
        if old.endswith(gone):
            result(queue.spool.record(gone, [Ended(0, Reason("delivered"))]))
        link_or_copy(old, new)

    copied = copy_shard(f"{queue.root}/0", f"{tmp_path}/copy/0", lambda done, total: None, link)
    assert copied == Copied(1, 1, finished=1)
    assert contents(tmp_path / "copy") == {left: LARGE}


def test_what_had_lost_its_file_before_stays(queue: Queue, tmp_path: Path) -> None:
    """A message without its file that is still in the queue was not finished: the operator is to see it there too."""
    lost = queue.add(content=LARGE)
    os.unlink(f"{queue.root}/0/content/{lost}")
    assert copy(queue, tmp_path / "copy") == Copied(1, 1)


def test_files_are_copied_where_they_cannot_be_linked(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another volume link(2) fails, and the octets are copied."""

    def link(*arguments: object, **more: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    large = queue.add(content=LARGE)
    copy(queue, tmp_path / "copy")
    assert contents(tmp_path / "copy") == {large: LARGE}


def test_a_damaged_copy_is_found(queue: Queue, tmp_path: Path) -> None:
    """A content file of another length, a database that is none."""
    large = queue.add(content=LARGE)
    copy(queue, tmp_path / "copy")
    os.unlink(f"{tmp_path}/copy/0/content/{large}")
    Path(f"{tmp_path}/copy/0/content/{large}").write_bytes(LARGE[:-1])
    assert "is torn" in fault_of(f"{tmp_path}/copy/0")
    Path(f"{tmp_path}/copy/0/queue.db").write_bytes(b"nothing of the kind" * 1000)
    assert "cannot be read" in fault_of(f"{tmp_path}/copy/0")


def test_all_of_a_copy_is_held(queue: Queue, tmp_path: Path) -> None:
    """Whatever state a recipient was in it is held, with the words and the last delay; held before: its own reason."""
    waiting, active, held = queue.add(reason="450 busy"), queue.add(active=True), queue.add(held="looks odd")
    copy(queue, tmp_path / "copy")
    assert hold_all(f"{tmp_path}/copy/0", "restored", "mta restore") == (2, 1)
    view = View(str(tmp_path / "copy"), PosixDisk())
    found = {each: view.get(each) for each in (waiting, active, held)}
    view.close()
    told = {
        each: (message.recipients[0].state, str(message.recipients[0].reason))
        for each, message in found.items()
        if message
    }
    assert told == {
        waiting: (State.HELD, "restored; before that: 450 busy [mta restore]"),
        active: (State.HELD, "restored [mta restore]"),
        held: (State.HELD, "looks odd [policy]"),
    }
