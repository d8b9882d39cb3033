"""What client and filter agree on."""

from __future__ import annotations

import struct

import pytest

from mta.policy.milter.option import EVERYTHING, Action, Flow, Options, Step, options_packet, read_options
from mta.policy.milter.packet import Fault


def answer(version: int = 6, actions: int = 0, flow: int = 0, lists: bytes = b"") -> Options | Fault:
    """Read a filter's answer to all that we offer."""
    return read_options(struct.pack(">III", version, actions, flow) + lists, EVERYTHING)


def agreed(version: int = 6, actions: int = 0, flow: int = 0, lists: bytes = b"") -> Options:
    """The same, where it is no fault."""
    options = answer(version, actions, flow, lists)
    assert isinstance(options, Options), options
    return options


def test_what_is_offered() -> None:
    """Version 6, all actions, and all flow but refused recipients and longer packets, in this form."""
    assert options_packet(EVERYTHING).octets.hex() == "0000000d" + "4f" + "00000006" + "000001ff" + "001ff7ff"


def test_what_a_filter_takes() -> None:
    """A filter takes a version from 2 on, and any part of actions and flow."""
    options = agreed(2, 0x11, 0x100009)
    assert options == Options(2, Action.ADD_FIELDS | Action.CHANGE_FIELDS, Flow(0x100009))
    assert [step for step in Step if options.skips(step)] == [Step.CONNECT, Step.RCPT, Step.DATA]


def test_every_step_can_be_left_out_and_left_unanswered() -> None:
    """Each NO and each NR flag means its step and no other; negotiation and end are always sent and answered."""
    no = dict(zip("CHMRTLNB", (0x1, 0x2, 0x4, 0x8, 0x200, 0x20, 0x40, 0x10), strict=True))
    silent = dict(zip("CHMRTLNB", (0x1000, 0x2000, 0x4000, 0x8000, 0x10000, 0x80, 0x40000, 0x80000), strict=True))
    for letter in "CHMRTLNB":
        options = agreed(flow=no[letter])
        assert [step.value.decode() for step in Step if options.skips(step)] == [letter]
        assert not any(options.silent(step) for step in Step)
        options = agreed(flow=silent[letter])
        assert [step.value.decode() for step in Step if options.silent(step)] == [letter]
        assert not any(options.skips(step) for step in Step)


def test_data_is_for_version_4_and_later() -> None:
    """A filter of version 3 does not know DATA; one of version 4 does."""
    assert agreed(3).skips(Step.DATA)
    assert not agreed(4).skips(Step.DATA)


@pytest.mark.parametrize(
    ("version", "actions", "flow"),
    [(1, 0, 0), (0, 0, 0), (7, 0, 0), (6, 0x200, 0), (6, 0, 0x200000), (6, 0, 1 << 31)],
)
def test_more_than_was_offered_is_a_fault(version: int, actions: int, flow: int) -> None:
    """Another version, an action or flow that was not offered: a fault that names it."""
    assert isinstance(answer(version, actions, flow), Fault)


def test_harmless_wishes_are_passed_over() -> None:
    """Refused recipients and longer packets may be asked for; they are not agreed on."""
    assert agreed(flow=0x800 | 0x30000000 | 0x400).flow == Flow.SKIP


def test_lists_of_macros() -> None:
    """A filter may name the macros that it wants at a stage, with braces or without; other stages get the usual."""
    options = agreed(lists=b"\0\0\0\0j {daemon_name}\0" + b"\0\0\0\x05\0" + b"\0\0\0\x06{i}\0")
    assert options.wants_macro(Step.CONNECT, "daemon_name")
    assert options.wants_macro(Step.CONNECT, "j")
    assert not options.wants_macro(Step.CONNECT, "v")
    assert not options.wants_macro(Step.END, "i"), "an empty list: none"
    assert options.wants_macro(Step.END_OF_HEAD, "i")
    assert options.wants_macro(Step.MAIL, "mail_addr")


@pytest.mark.parametrize(
    "lists", [b"\0", b"\0\0\0\0j", b"\0\0\0\x07j\0", b"\0\0\0\0j\0\0\0\0\0j\0", b"\xff\xff\xff\xffj\0"]
)
def test_malformed_lists_are_faults(lists: bytes) -> None:
    """A list cut short, without its end, of a stage that does not exist or comes twice."""
    assert isinstance(answer(lists=lists), Fault)


def test_a_short_answer_is_a_fault() -> None:
    """Each answer shorter than three numbers."""
    for length in range(12):
        assert isinstance(read_options(bytes(length), EVERYTHING), Fault)
