"""mta.board: what several workers know of one another, over the memory that they share."""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
import sys
import textwrap
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from mta.board.alone import Alone, Draft, NoOthers, OwnTable
from mta.board.port import Board, Table
from mta.board.shared import SETS, WAYS, Layout, SharedBoard

LAYOUT = Layout(3, ("attempts", "connections"), {"rates": 2, "guesses": 3})


class Crew:
    """Three workers with one board, in one process."""

    def __init__(self) -> None:
        self.now = 0.0
        self.parent = SharedBoard.make(LAYOUT, lambda: self.now)
        self.workers = [SharedBoard(self.parent.descriptor, LAYOUT, number, lambda: self.now) for number in range(3)]


@pytest.fixture
def crew() -> Crew:
    """Three workers."""
    return Crew()


def test_others_are_all_but_oneself(crew: Crew) -> None:
    """Each sees what the others have, not its own; names and kinds of shares are apart."""
    shares = [board.shares("attempts") for board in crew.workers]
    for number, each in enumerate(shares):
        each.put("example.net", number + 1)
    assert [sorted(each.others("example.net")) for each in shares] == [[2, 3], [1, 3], [1, 2]]
    assert sum(shares[0].others("example.org")) == 0
    assert sum(crew.workers[0].shares("connections").others("example.net")) == 0
    shares[1].put("example.net", 0)
    assert sum(shares[0].others("example.net")) == 3


def test_what_a_dead_worker_had_is_taken_off(crew: Crew) -> None:
    """The parent clears what is its; what the others have stays, and so do tables."""
    shares = [board.shares("attempts") for board in crew.workers]
    for each in shares:
        each.put("example.net", 5)
    crew.workers[1].table("rates").put("alice", (1.0, 2.0))
    crew.parent.died(1)
    assert sum(shares[0].others("example.net")) == 5
    assert crew.workers[0].table("rates").get("alice") == (1.0, 2.0)
    reborn = SharedBoard(crew.parent.descriptor, LAYOUT, 1, lambda: 0.0).shares("attempts")
    reborn.put("example.net", 2)
    assert sum(shares[0].others("example.net")) == 7


def test_a_row_is_free_again_when_nobody_has_anything(crew: Crew) -> None:
    """Twice as many names as there are rows, one after the other, are all counted."""
    mine, others = crew.workers[0].shares("attempts"), crew.workers[1].shares("attempts")
    for number in range(2 * SETS * WAYS):
        name = f"name{number}"
        mine.put(name, 1)
        assert sum(others.others(name)) == 1
        mine.put(name, 0)


def test_a_flood_of_names_goes_uncounted_and_harms_none(crew: Crew) -> None:
    """When all rows of a set are in use, one more name is not shared; those that are stay right."""
    mine, others = crew.workers[0].shares("attempts"), crew.workers[1].shares("attempts")
    names = [f"name{number}" for number in range(SETS * WAYS * 2)]
    for name in names:
        mine.put(name, 1)
    counted = [name for name in names if sum(others.others(name))]
    assert SETS * WAYS // 2 < len(counted) <= SETS * WAYS
    for name in names:
        mine.put(name, 0)
    assert not [name for name in names if sum(others.others(name))]


def test_a_table_is_the_same_for_all(crew: Crew) -> None:
    """What one puts the others get, also in a process that comes later; forgotten is forgotten by all."""
    one, other = crew.workers[0].table("guesses"), crew.workers[2].table("guesses")
    assert other.get("bob") is None
    one.put("bob", (1.0, 2.5, -3.0))
    assert other.get("bob") == (1.0, 2.5, -3.0)
    other.forget("bob")
    assert one.get("bob") is None
    other.forget("bob")


def test_the_name_that_was_quiet_the_longest_goes(crew: Crew) -> None:
    """Of the names of one set the one that was written the longest ago makes room."""
    table = crew.workers[0].table("rates")
    names = []
    for number in range(SETS * WAYS * 2):
        crew.now += 1
        table.put(name := f"name{number}", (float(number), 0.0))
        names.append(name)
    kept = [number for number, name in enumerate(names) if table.get(name) is not None]
    assert len(kept) <= SETS * WAYS
    assert kept[-1] == len(names) - 1
    assert sum(kept) / len(kept) > len(names) * 0.7, "the late ones are kept"


def test_two_processes_count_as_one() -> None:
    """Under the lock, two processes that count up the same name a thousand times each make two thousand."""
    board = SharedBoard.make(LAYOUT, lambda: 0.0)
    code = textwrap.dedent("""
        import sys
        from mta.board.shared import Layout, SharedBoard
        table = SharedBoard(int(sys.argv[1]), Layout(3, ("attempts", "connections"), {"rates": 2, "guesses": 3}), 1,
                            lambda: 0.0).table("rates")
        for _ in range(1000):
            with table.hold():
                count, other = table.get("a") or (0.0, 0.0)
                table.put("a", (count + 1, other))
    """)
    command = [sys.executable, "-c", code, str(board.descriptor)]
    started = [subprocess.Popen(command, pass_fds=[board.descriptor]) for _ in range(2)]
    assert [each.wait(60) for each in started] == [0, 0]
    assert board.table("rates").get("a") == (2000.0, 0.0)


def test_nobody_waits_for_a_lock_whose_holder_is_stopped(crew: Crew) -> None:
    """A process that holds the lock and does not go on keeps no other: it goes on without."""
    code = (
        "import fcntl, sys\nfcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    descriptor = crew.parent.descriptor
    command = [sys.executable, "-c", code, str(descriptor)]
    with subprocess.Popen(
        command, pass_fds=[descriptor], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        table = crew.workers[0].table("rates")
        with table.hold():
            table.put("a", (1.0, 1.0))
        assert table.get("a") == (1.0, 1.0)
        assert holder.stdin is not None
        holder.stdin.close()


def test_memory_is_freed_with_the_descriptor() -> None:
    """The memory is of no file that could be left behind."""
    board = SharedBoard.make(LAYOUT, lambda: 0.0)
    assert os.readlink(f"/proc/self/fd/{board.descriptor}").startswith("/memfd:mta-board")
    assert os.fstat(board.descriptor).st_size == LAYOUT.size


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "forget", "get"]), st.sampled_from("abcdefgh"), st.floats(-1e9, 1e9)),
    max_size=40,
)


@example_settings(max_examples=50, deadline=None)
@given(STEPS)
def test_all_tables_behave_alike(steps: list[tuple[str, str, float]]) -> None:
    """A worker's own table, a shared one and a draft do the same as a dictionary as long as there is room."""
    shared = Crew().workers[1].table("rates")
    tables: list[Table] = [OwnTable(), shared, Draft(OwnTable())]
    model: dict[str, tuple[float, ...]] = {}
    for step, name, value in steps:
        if step == "put":
            model[name] = (value, 1.0)
        elif step == "forget":
            model.pop(name, None)
        for table in tables:
            if step == "put":
                with table.hold():
                    table.put(name, (value, 1.0))
            elif step == "forget":
                table.forget(name)
            assert table.get(name) == model.get(name)


def test_a_draft_changes_nothing() -> None:
    """What is put into a draft, and forgotten there, stays as it was in the table."""
    table = OwnTable()
    table.put("a", (1.0,))
    draft = Draft(table)
    draft.put("a", (2.0,))
    draft.put("b", (2.0,))
    assert (draft.get("a"), draft.get("b")) == ((2.0,), (2.0,))
    draft.forget("a")
    assert draft.get("a") is None
    assert (table.get("a"), table.get("b")) == ((1.0,), None)


def test_one_worker_alone_has_no_others() -> None:
    """Its shares are nobody's business; a table asked for twice is one."""
    board: Board = Alone()
    shares = board.shares("attempts")
    assert isinstance(shares, NoOthers)
    shares.put("a", 5)
    assert shares.others("a") == ()
    board.table("rates").put("a", (1.0,))
    assert board.table("rates").get("a") == (1.0,)
    assert board.table("other").get("a") is None


def test_a_table_of_its_own_is_bounded() -> None:
    """The name that was put the longest ago goes first."""
    table = OwnTable(2)
    for name in "abac":
        table.put(name, (1.0,))
    assert [table.get(name) is not None for name in "abc"] == [True, False, True]
    assert len(table) == 2


def test_nobody_outside_can_tell_which_names_share_a_set(crew: Crew) -> None:
    """Peers choose names (logins that they guess at): with a few chosen well they do not drive another's name out."""

    def place(name: str) -> int:
        return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) % SETS

    table = crew.workers[0].table("guesses")
    table.put("alice@example.org", (9.0, 9.0, 9.0))
    names = (f"x{number}@example.org" for number in itertools.count())
    for name in itertools.islice((each for each in names if place(each) == place("alice@example.org")), WAYS):
        crew.now += 1.0
        table.put(name, (1.0, 1.0, 1.0))
    assert table.get("alice@example.org") == (9.0, 9.0, 9.0)
    assert crew.workers[1].table("guesses").get("alice@example.org") == (9.0, 9.0, 9.0)
