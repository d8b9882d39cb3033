"""A `ServerSession` with rules that accept everything unless told otherwise: octets in, octets and events out."""

from __future__ import annotations

from collections.abc import Callable

from mta.smtp import status
from mta.smtp.event import (
    AWAITING_REPLY,
    NEED_DATA,
    Authenticate,
    Connected,
    Content,
    Data,
    EndOfData,
    Event,
    Hello,
    Mail,
    Rcpt,
    StartTLS,
    Vrfy,
)
from mta.smtp.extension import Offer
from mta.smtp.limits import Limits
from mta.smtp.reply import Reply, reply
from mta.smtp.server import ServerSession

ACCEPT: dict[type[Event], Reply] = {
    Connected: reply(220, None, "mx.example.test ESMTP"),
    Hello: reply(250, None, "welcome"),
    Mail: reply(250, status.SENDER_OK, "sender ok"),
    Rcpt: reply(250, status.RECIPIENT_OK, "recipient ok"),
    Data: reply(354, None, "go ahead"),
    EndOfData: reply(250, status.OK, "queued"),
    Authenticate: reply(235, status.SECURITY_OK, "logged in"),
    StartTLS: reply(220, status.OK, "go ahead"),
    Vrfy: reply(252, status.OK, "try it"),
}
NO_SUCH_USER = reply(550, status.BAD_MAILBOX, "no such user")
POLICY = reply(550, status.REFUSED, "policy")
LATER = reply(451, status.SYSTEM_FAULT, "later")

Rules = Callable[[Event], Reply | None]


def accept(event: Event) -> Reply | None:
    """Answer what owes a reply with the best there is."""
    return ACCEPT.get(type(event))


def refusing(*kinds: type[Event], with_: Reply = POLICY) -> Rules:
    """Rules that refuse these events and accept the rest."""
    return lambda event: with_ if type(event) in kinds else accept(event)


class Dialogue:
    """One session from the greeting on; `events` holds all that happened, adjoining content joined."""

    def __init__(
        self,
        rules: Rules = accept,
        offer: Offer | None = None,
        limits: Limits | None = None,
        tls: bool = False,
        hello: bool = True,
    ) -> None:
        self.session = ServerSession("mx.example.test", offer or Offer(), limits or Limits())
        self.rules = rules
        self.events: list[Event] = []
        if tls:
            self.session.tls_started()
        self.run()
        if hello:
            self.send(b"EHLO client.example.test\r\n")
            self.events.clear()

    def run(self) -> bytes:
        """Take and answer events until the session wants more; return what it writes."""
        while True:
            event = self.session.next_event()
            if event is NEED_DATA or event is AWAITING_REPLY:
                return self.session.output()
            if isinstance(event, Content) and self.events and isinstance(self.events[-1], Content):
                self.events[-1] = Content(self.events[-1].chunk + event.chunk)
            else:
                self.events.append(event)
            answer = self.rules(event)
            if answer is not None:
                self.session.reply(answer)

    def send(self, octets: bytes) -> bytes:
        """Receive octets in one piece; return what the session writes."""
        self.session.receive(octets)
        return self.run()

    def send_each(self, octets: bytes) -> bytes:
        """Receive octets one by one."""
        return b"".join(self.send(bytes([octet])) for octet in octets)

    def codes(self, octets: bytes) -> list[str]:
        """Receive octets; return code and enhanced status of each reply, ``"250 2.1.0"``."""
        return codes(self.send(octets))

    def start(self) -> None:
        """Go to the data phase."""
        assert self.codes(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n")[-1] == "354"
        self.events.clear()


def codes(output: bytes) -> list[str]:
    """Code and enhanced status of each reply in `output`; only the last line of a reply counts."""
    out = []
    for line in output.decode("ascii").split("\r\n")[:-1]:
        if line[3] == " ":
            first = line[4:].split(" ")[0]
            out.append(f"{line[:3]} {first}" if first.count(".") == 2 and first[0] in "245" else line[:3])
    return out
