"""The rules of mx, from the commands of a peer to what lies in Maildirs and spool."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mta.disk.port import Free
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.receive.commit import Commit
from mta.settings.expansion import LOCAL
from mta.spool.port import Message
from mta.spool.reserve import LOOK_AGAIN
from tests.doubles.reception import RESERVE, TOML, Post, etc
from tests.doubles.spool import whole

MAIL = b"MAIL FROM:<peer@example.org>\r\n"
HELLO = b"From: peer@example.org\r\nMessage-ID: <1@example.org>\r\nSubject: hello\r\n\r\nbody\r\n"


@pytest.fixture
def post(tmp_path: Path) -> Post:
    """Make a reception."""
    return Post(etc(tmp_path))


def message(*recipients: str, content: bytes = HELLO, sender: bytes = MAIL) -> bytes:
    """Make the octets of a pipelined transaction."""
    rcpt = b"".join(f"RCPT TO:<{recipient}>\r\n".encode() for recipient in recipients)
    return sender + rcpt + b"DATA\r\n" + content + b".\r\n"


def test_the_greeting_names_the_host(post: Post) -> None:
    """220 with our host name opens the session."""
    assert post.session(hello=False).greeting == b"220 mx.example.test ESMTP\r\n"


def test_mail_for_one_mailbox_is_committed_in_its_maildir(post: Post) -> None:
    """A message for bob lies whole in his Maildir, behind trace fields, when 250 is written; not in the spool."""
    talk = post.session(tls=True)
    output = talk.send(message("bob@example.test"))
    queue_id = output.split(b"queued as ")[1].strip().decode()
    assert post.maildir("bob") == [
        (
            b"Return-Path: <peer@example.org>\n"
            b"Delivered-To: bob@example.test\n"
            b"Received: from client.example.org ([192.0.2.7])\n"
            b"\tby mx.example.test with ESMTPS id " + queue_id.encode() + b"\n"
            b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\n"
            b"\tfor <bob@example.test>; Tue, 14 Nov 2023 22:13:20 +0000\n"
        )
        + HELLO.replace(b"\r\n", b"\n")
    ]
    assert post.spool.counts().messages == 0
    [event] = post.journal.of(Kind.MESSAGE_ACCEPTED)
    assert (event.queue_id, event.session) == (queue_id, "session1")
    assert event.fields["place"] == "maildir"
    assert event.fields["message_id"] == "<1@example.org>"


def test_the_reply_comes_after_the_sync(post: Post) -> None:
    """No 250 before content and name are on stable storage (law 1)."""
    synced = []

    def watch(operation: object) -> None:
        synced.append(getattr(operation, "name", ""))

    talk = post.session()
    talk.send(message("bob@example.test"))
    post.simulated.watch = watch
    talk.send(MAIL + b"RCPT TO:<bob@example.test>\r\nDATA\r\n" + HELLO)
    assert "rename" not in synced
    assert b"250 2.0.0 queued" in talk.send(b".\r\n")
    after_rename = synced[synced.index("rename") :]
    assert {"sync_directory", "sync_volume"} & set(after_rename)
    for _, disk in post.simulated.crash_states():
        assert len(disk.files("/mail/example.test/bob/Maildir/new")) == 2


def test_mail_for_several_mailboxes_is_one_commit_in_the_spool(post: Post) -> None:
    """Two mailboxes of ours are one message in the queue, handed to the relay: a crash cannot deliver half of it."""
    talk = post.session()
    assert talk.codes(message("alice@example.test", "bob@example.test"))[-1] == "250 2.0.0"
    [queued] = post.spool.page()
    assert [(str(q.recipient.mailbox), q.destination) for q in queued.recipients] == [
        ("alice@example.test", LOCAL),
        ("bob@example.test", LOCAL),
    ]
    assert [m.queue_id for m in post.handed] == [queued.queue_id]
    content = whole(post.spool.content(queued.queue_id))
    assert content.endswith(HELLO)
    assert b"for <" not in content.split(b"\r\n\r\n")[0]


def test_an_alias_to_outside_is_queued_for_its_domain(post: Post) -> None:
    """An alias that leads elsewhere goes to the queue under the next hop's name, with the name that RCPT said."""
    talk = post.session()
    talk.send(message("outside@example.test"))
    [queued] = post.spool.page()
    [recipient] = queued.recipients
    assert (str(recipient.recipient.mailbox), recipient.destination) == ("someone@example.net", "example.net")
    assert str(recipient.recipient.named) == "outside@example.test"


def test_a_mailbox_named_twice_gets_one_copy(post: Post) -> None:
    """bob, BOB, bob+list and an alias of his are one delivery, in the Maildir."""
    talk = post.session()
    assert talk.codes(message("bob@example.test", "BOB@Example.Test", "bob+list@example.test"))[-1] == "250 2.0.0"
    assert len(post.maildir("bob")) == 1
    assert post.spool.counts().messages == 0


def test_a_subaddress_is_kept_in_the_header(post: Post) -> None:
    """What the sender named stands in X-Original-To where it is not the mailbox itself."""
    post.session().send(message("bob+list@example.test"))
    [content] = post.maildir("bob")
    assert b"Delivered-To: bob@example.test\nX-Original-To: bob+list@example.test\n" in content


def test_postmaster_without_a_domain_is_accepted(post: Post) -> None:
    """<Postmaster> in any case lands in the mailbox of the postmaster (RFC 5321 §4.5.1, row 31)."""
    assert post.session().codes(message("PostMaster"))[-1] == "250 2.0.0"
    assert len(post.maildir("alice")) == 1


def test_the_null_sender_is_accepted(post: Post) -> None:
    """Reports come from <>; they are taken like other mail."""
    assert post.session().codes(message("bob@example.test", sender=b"MAIL FROM:<>\r\n"))[-1] == "250 2.0.0"
    assert post.maildir("bob")[0].startswith(b"Return-Path: <>\n")


def test_an_unknown_mailbox_is_refused_at_rcpt(post: Post) -> None:
    """550 5.1.1 at RCPT, noted with its reason: nothing is bounced later (row 63)."""
    talk = post.session()
    assert talk.codes(MAIL + b"RCPT TO:<nobody@example.test>\r\nDATA\r\n") == ["250 2.1.0", "550 5.1.1", "554 5.5.1"]
    [event] = post.journal.of(Kind.RECIPIENT_REFUSED)
    assert event.reason is not None
    assert event.reason.text == "example.test has no such mailbox"
    assert event.fields["recipient"] == "nobody@example.test"


RELAYING = [
    "victim@example.net",
    "VICTIM@EXAMPLE.NET",
    "victim%example.net@example.test",
    "example.net!victim@example.test",
    '"victim@example.net"@example.test',
    '"victim%example.net"@example.test',
    "@example.test:victim@example.net",
    "@example.net:bob@example.test",
    "@a.example,@b.example:victim@example.net",
    "bob@example.test.example.net",
    "bob@evilexample.test",
    "bob@sub.example.test",
    "bob@[192.0.2.1]",
    "bob@[127.0.0.1]",
    "bob@[IPv6:2001:db8::1]",
    "bob%example.test@example.net",
    '"bob"@example.net',
    "example.net!example.test!bob@example.test",
]


@pytest.mark.parametrize("recipient", RELAYING)
def test_nothing_is_relayed(post: Post, recipient: str) -> None:
    """No form of address makes mx relay: each gets a 5xx of its own (rows 27, 28)."""
    for opening in (MAIL, b"MAIL FROM:<>\r\n", b"MAIL FROM:<bob@example.test>\r\n"):
        talk = post.session(tls=True)
        [_, answer] = talk.codes(opening + f"RCPT TO:<{recipient}>\r\n".encode())
        assert answer == "550 5.7.1", recipient


@pytest.mark.parametrize(
    "recipient",
    [
        "<a@example.net><bob@example.test>",
        "<a@example.net bob@example.test>",
        "<bob@example.test\tx@example.net>",
        "<bob@example.test>@example.net",
        "<bob@example.test@example.net>",
        "<bob@example.net.>",
        "bob@example.net",
        "<(comment)bob@example.net>",
        "<bob@example.test(comment)@example.net>",
        "<bob@example.net,bob@example.test>",
        "<bob;a@example.net@example.test>",
        "<victim@example.net%example.test@example.test>",
        "<bob\x00@example.net>",
        "<b\x00ob@example.test>",
        '<"a@example.net>',
        "<[bob@example.net]>",
    ],
)
def test_malformed_relaying_is_refused_too(post: Post, recipient: str) -> None:
    """Forms that are no path are 501 or 550, never accepted (rows 10, 27, 35)."""
    talk = post.session()
    [_, answer] = talk.codes(MAIL + f"RCPT TO:{recipient}\r\n".encode("latin-1"))
    assert answer[0] == "5", answer


def test_quoting_names_the_same_mailbox(post: Post) -> None:
    """A quoted local-part and a plain one are the same mailbox (row 32)."""
    assert post.session().codes(message('"bob"@example.test'))[-1] == "250 2.0.0"
    assert b"Delivered-To: bob@example.test\n" in post.maildir("bob")[0]


def test_auth_is_not_known_here(post: Post) -> None:
    """Mx offers no AUTH and answers it 502, also under TLS."""
    talk = post.session(tls=True)
    assert b"AUTH" not in talk.send(b"EHLO again.example.org\r\n")
    assert talk.codes(b"AUTH PLAIN AGEAYg==\r\n")[0][:3] in ("502", "503", "500")


@pytest.mark.parametrize(("fields", "answer"), [(30, "250 2.0.0"), (100, "250 2.0.0"), (200, "554 5.4.6")])
def test_a_message_that_went_too_far_is_refused(post: Post, fields: int, answer: str) -> None:
    """30 hops are fine, and 100; 200 are a loop, told at the end of data (row 60)."""
    content = b"Received: from a by b; x\r\n" * fields + HELLO
    assert post.session().codes(message("bob@example.test", content=content))[-1] == answer
    assert len(post.maildir("bob")) == (answer[0] == "2")


def test_a_message_that_was_here_before_is_a_loop(post: Post) -> None:
    """A Delivered-To of the very mailbox ends the circle with 554 5.4.6; another's does not."""
    content = b"Delivered-To: bob@example.test\r\n" + HELLO
    assert post.session().codes(message("bob@example.test", content=content))[-1] == "554 5.4.6"
    assert post.session().codes(message("alice@example.test", content=content))[-1] == "250 2.0.0"


def test_a_return_path_of_the_client_is_replaced(post: Post) -> None:
    """The mailbox sees exactly one Return-Path, ours (row 59)."""
    content = b"return-path: <forged@example.net>\r\nReturn-Path : <again@example.net>\r\n" + HELLO
    post.session().send(message("bob@example.test", content=content))
    [stored] = post.maildir("bob")
    assert stored.lower().count(b"return-path") == 1
    assert stored.startswith(b"Return-Path: <peer@example.org>\n")


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (b"", b""),
        (b"\r\nbody only\r\n", b"\nbody only\n"),
        (b"no header at all\r\nbut text\r\n", b"\nno header at all\nbut text\n"),
        (b"Subject: only a header\r\n", b"Subject: only a header\n"),
        (b"..dots\r\n", b"\n.dots\n"),
    ],
)
def test_odd_messages_are_stored_whole(post: Post, content: bytes, stored: bytes) -> None:
    """No header, no body, nothing: one reply, and the text stays body where it was body (row 53)."""
    assert post.session().codes(message("bob@example.test", content=content))[-1] == "250 2.0.0"
    received, _, rest = post.maildir("bob")[0].partition(b" +0000\n")
    assert b"Received:" in received
    assert rest == stored


def test_a_bare_line_end_is_refused_and_nothing_is_stored(post: Post) -> None:
    """A bare LF gets 550 5.6.11 at the true end of the data, and is noted as a refused message (law 3)."""
    talk = post.session()
    assert talk.codes(message("bob@example.test", content=b"Subject: x\n\r\ny\r\n"))[-1] == "550 5.6.11"
    assert post.maildir("bob") == []
    assert len(post.journal.of(Kind.MESSAGE_REFUSED)) == 1
    assert talk.codes(message("bob@example.test"))[-1] == "250 2.0.0"


def test_old_devices_of_named_networks_may_send_bare_line_ends(tmp_path: Path) -> None:
    """For an exempt network the content is made canonical before it is stored."""
    post = Post(etc(tmp_path, TOML + '[mx]\nlenient_line_ends = ["192.0.2.0/28"]\n'))
    content = b"Subject: x\n\nold\r\n"
    assert post.session().codes(message("bob@example.test", content=content))[-1] == "250 2.0.0"
    assert post.maildir("bob")[0].endswith(b"Subject: x\n\nold\n")
    other = post.session(address="192.0.2.99")
    assert other.codes(message("bob@example.test", content=content))[-1] == "550 5.6.11"


def test_little_space_is_told_at_mail(post: Post) -> None:
    """Below the reserve MAIL gets 452 4.3.1, and the next MAIL works when there is space again."""
    talk = post.session()
    free(post, -5)
    assert talk.codes(MAIL) == ["452 4.3.1"]
    free(post, 0)
    assert talk.codes(MAIL) == ["250 2.1.0"]


def test_a_message_that_is_too_large_for_the_space_is_told_at_mail(post: Post) -> None:
    """The declared SIZE must fit beside the reserve (RFC 1870 §6.1)."""
    free(post, 5000)
    talk = post.session()
    assert talk.codes(b"MAIL FROM:<peer@example.org> SIZE=5001\r\n") == ["452 4.3.1"]
    assert talk.codes(b"MAIL FROM:<peer@example.org> SIZE=5000\r\n") == ["250 2.1.0"]


def test_space_is_looked_at_again_at_data_and_while_content_comes(post: Post) -> None:
    """What was there at MAIL may be taken by others: 452 at DATA, or at the end of the data; nothing stays behind."""
    talk = post.session()
    assert talk.codes(MAIL.replace(b">", b"> SIZE=1000000") + b"RCPT TO:<bob@example.test>\r\n")[-1] == "250 2.1.5"
    free(post, 500_000)
    assert talk.codes(b"DATA\r\n") == ["452 4.3.1"]
    free(post, 1_000_000)
    assert talk.codes(b"DATA\r\n")[0][:3] == "354"
    talk.send(HELLO + b"line\r\n" * 100_000)
    assert len(post.simulated.files("/state/staging")) == 1
    free(post, 1000)
    assert talk.codes(b"line\r\n" * 100_000 + b".\r\n") == ["452 4.3.1"]
    assert post.simulated.files("/state/staging") == {}
    assert post.spool.counts().messages == 0


def free(post: Post, octets: int) -> None:
    """Leave so many octets beside the reserve, and let the last look at the disk grow old."""
    post.simulated.free_space = Free(RESERVE + octets, 1000)
    post.clock.advance(LOOK_AGAIN)


def test_a_commit_that_breaks_leaves_no_file(post: Post) -> None:
    """A bug in the commit is 451, noted, and the staged file is removed."""

    def broken(destinations: object) -> bool:
        raise ZeroDivisionError

    post.reception.commit = Commit(post.store, post.spool, post.disk, broken, post.handed.append, post.journal)
    content, both = HELLO + b"line\r\n" * 100_000, ("bob@example.test", "alice@example.test")
    assert post.session().codes(message(*both, content=content))[-1] == "451 4.3.0"
    assert post.simulated.files("/state/staging") == {}
    assert len(post.journal.of(Kind.FAULT)) == 1


def test_a_second_hello_ends_the_transaction(post: Post) -> None:
    """After EHLO in a transaction a new one begins with its own recipients (RFC 5321 §4.1.4)."""
    talk = post.session()
    talk.send(MAIL + b"RCPT TO:<alice@example.test>\r\n")
    talk.send(b"EHLO again.example.org\r\n")
    assert talk.session._transaction is None
    assert talk.codes(message("bob@example.test"))[-1] == "250 2.0.0"
    assert (post.maildir("alice"), len(post.maildir("bob"))) == ([], 1)


def test_a_circle_of_one_mailbox_refuses_the_message_for_all(post: Post) -> None:
    """Mail for an alias whose head has the Delivered-To of one of its mailboxes is refused, so nobody gets a bounce."""
    content = b"Delivered-To: Alice@example.test\r\n" + HELLO
    for named in ("team@example.test", "both@example.test"):
        expected = "554 5.4.6" if named.startswith("team") else "250 2.0.0"
        assert post.session().codes(message(named, content=content))[-1] == expected
    assert post.spool.counts().messages == 1


@pytest.mark.parametrize(
    ("operation", "error", "answer"),
    [
        ("write_new", errno.ENOSPC, "452 4.3.1"),
        ("write_new", errno.EDQUOT, "452 4.3.1"),
        ("write_new", errno.EIO, "451 4.3.0"),
        ("write_new", errno.EACCES, "451 4.3.0"),
        ("write_new", errno.EMFILE, "451 4.3.0"),
        ("write_new", errno.EROFS, "451 4.3.0"),
        ("rename", errno.EIO, "451 4.3.0"),
    ],
)
def test_a_fault_of_the_disk_is_a_4xx_and_passes(post: Post, operation: str, error: int, answer: str) -> None:
    """What the disk fails with is answered 451 or 452, never 5xx, and the next message is taken (row 86)."""
    talk = post.session()
    assert talk.codes(message("bob@example.test"))[-1] == "250 2.0.0"
    post.disk.fail = {operation: OSError(error, "injected")}
    assert talk.codes(message("bob@example.test"))[-1] == answer
    post.disk.fail = {}
    assert talk.codes(message("bob@example.test"))[-1] == "250 2.0.0"
    assert len(post.maildir("bob")) == 2
    [event] = post.journal.of(Kind.MESSAGE_REFUSED)
    assert event.level is Level.ALERT
    assert post.journal.of(Kind.FAULT) == []


def test_a_spool_that_cannot_be_written_is_451(post: Post) -> None:
    """A queue that fails refuses for now, and nothing is handed over."""
    post.spool.fault = OSError(errno.ENOSPC, "No space left on device")
    talk = post.session()
    assert talk.codes(message("both@example.test"))[-1] == "452 4.3.1"
    assert post.handed == []
    post.spool.fault = None
    assert talk.codes(message("both@example.test"))[-1] == "250 2.0.0"


def test_a_fault_behind_the_commit_is_not_answered(post: Post) -> None:
    """A bug in handing a committed message to the relay is noted; the peer gets its 250 and sends no second copy."""

    def broken(committed: Message) -> None:
        raise ZeroDivisionError

    post.reception.commit = Commit(post.store, post.spool, post.disk, lambda destinations: True, broken, post.journal)
    assert post.session().codes(message("both@example.test"))[-1] == "250 2.0.0"
    assert post.spool.counts().messages == 1
    [fault] = post.journal.of(Kind.FAULT)
    [accepted] = post.journal.of(Kind.MESSAGE_ACCEPTED)
    assert fault.queue_id == accepted.queue_id


def test_a_large_message_is_staged_in_a_file_and_nothing_is_left(post: Post) -> None:
    """A message past the memory bound, for several, goes through a file in staging to the spool; that is gone then."""
    content = HELLO + b"x" * 78 + b"\r\n" + b"line\r\n" * 100_000
    talk = post.session()
    assert talk.codes(message("bob@example.test", "alice@example.test", content=content))[-1] == "250 2.0.0"
    [queued] = post.spool.page()
    stored = whole(post.spool.content(queued.queue_id))
    assert stored.endswith(content)
    assert stored.startswith(b"Received: ")
    assert queued.size == len(stored)
    assert post.simulated.files("/state/staging") == {}


@pytest.mark.parametrize("begins", [HELLO, b"no field\r\n", b"Return-Path: <evil@example.net>\r\n" + HELLO])
def test_a_large_message_for_one_mailbox_is_committed_there(post: Post, begins: bytes) -> None:
    """It is copied from staging into the Maildir, with one Return-Path; no queue has it, and nothing is left behind."""
    body = b"x" * 78 + b"\r\n" + b"line\r\n" * 100_000
    assert post.session().codes(message("bob@example.test", content=begins + body))[-1] == "250 2.0.0"
    assert post.spool.counts().messages == 0
    assert post.handed == []
    [stored] = post.maildir("bob")
    assert stored.startswith(b"Return-Path: <peer@example.org>\nDelivered-To: bob@example.test\nReceived: from ")
    assert stored.endswith(
        b"\n"
        + begins.removeprefix(b"Return-Path: <evil@example.net>\r\n").replace(b"\r", b"")
        + body.replace(b"\r", b"")
    )
    assert stored.count(b"Return-Path: ") == 1
    assert post.simulated.files("/state/staging") == post.simulated.files("/mail/example.test/bob/Maildir/tmp") == {}
    [event] = post.journal.of(Kind.MESSAGE_ACCEPTED)
    assert event.fields["place"] == "maildir"


@pytest.mark.parametrize(
    ("call", "number", "reply"),
    [
        ("write_new", errno.ENOSPC, "452 4.3.1"),
        ("size", errno.ENOENT, "451 4.3.0"),
        ("read", errno.EIO, "451 4.3.0"),
        ("check", errno.EIO, "451 4.3.0"),
        ("sync", errno.EIO, "451 4.3.0"),
        ("rename", errno.EACCES, "451 4.3.0"),
        ("unlink", errno.EIO, "250 2.0.0"),
    ],
)
def test_a_large_message_whose_copy_fails_is_nowhere(post: Post, call: str, number: int, reply: str) -> None:
    """At whichever step: the peer sends it again, and neither staging nor the Maildir keeps any of it.

    Where only the staged file cannot be removed the message is taken; the next start removes the file.
    """
    post.disk.fail = {call: OSError(number, "injected")}
    content = HELLO + b"line\r\n" * 100_000
    assert post.session().codes(message("bob@example.test", content=content))[-1] == reply
    post.disk.fail = {}
    assert post.spool.counts().messages == 0
    assert len(post.maildir("bob")) == (reply == "250 2.0.0")
    assert len(post.simulated.files("/state/staging")) == (call == "unlink")
    assert post.simulated.files("/mail/example.test/bob/Maildir/tmp") == {}


def test_a_large_message_is_dropped_with_its_connection(post: Post) -> None:
    """A peer that goes away in the middle of a staged message leaves no file (row 76)."""
    talk = post.session()
    talk.send(MAIL + b"RCPT TO:<bob@example.test>\r\nDATA\r\n" + HELLO + b"line\r\n" * 100_000)
    assert len(post.simulated.files("/state/staging")) == 1
    talk.session.lost(Reason("the connection was closed"))
    assert post.simulated.files("/state/staging") == {}
    assert post.maildir("bob") == []


def test_staging_that_cannot_be_written_is_told_at_the_end(post: Post) -> None:
    """When the staging file fails the data is read to its end and answered 452 there."""
    post.disk.fail = {"create": OSError(errno.ENOSPC, "No space left on device")}
    talk = post.session()
    answers = talk.codes(message("bob@example.test", content=HELLO + b"line\r\n" * 100_000) + b"NOOP\r\n")
    assert answers[-2:] == ["452 4.3.1", "250 2.0.0"]


def test_a_header_too_large_for_memory_is_refused(post: Post) -> None:
    """A header of more than 256 KiB gets 552; one of 200 KiB is taken (row 54)."""
    field = b"X-Filler: " + b"y" * 60 + b"\r\n"
    talk = post.session()
    assert talk.codes(message("bob@example.test", content=field * 2_800 + HELLO))[-1] == "250 2.0.0"
    assert talk.codes(message("bob@example.test", content=field * 7_000 + HELLO))[-1] == "552 5.3.4"


def test_a_session_that_ends_is_noted_with_what_it_did(post: Post) -> None:
    """One line a session: who, how protected, how many accepted and refused."""
    talk = post.session(tls=True)
    talk.send(message("bob@example.test") + MAIL + b"RCPT TO:<nobody@example.test>\r\n")
    talk.session.lost(Reason("the connection was closed"))
    [event] = post.journal.of(Kind.SESSION_CLOSED)
    assert event.fields["address"] == "192.0.2.7"
    assert event.fields["tls"] == "TLSv1.3 TLS_AES_256_GCM_SHA384"
    assert (event.fields["accepted"], event.fields["refused"]) == (1, 1)
