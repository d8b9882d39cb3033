"""One message through a chain of milters on a real reactor, asked as a session asks: JSON in, JSON out.

It stands in for the server until that asks policies: `tests.live.peers.milters.ask` runs it.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from typing import Any

from twisted.internet import defer, threads

from mta.mail.reason import Reason
from mta.mailauth.result import Iprev, IprevResult
from mta.policy.chain import Chain
from mta.policy.changes import MemoryBody
from mta.policy.facts import Facts, Stage
from mta.policy.milter.client import endpoint
from mta.policy.milter.conversation import Identity
from mta.policy.milter.policy import Milter
from mta.policy.verdict import AddRecipient, ChangeSender, RemoveRecipient
from mta.settings.milter import MilterSettings, parse_milter_address
from mta.settings.values import parse_address


async def judge(chain: Chain, facts: Facts, recipients: list[str]) -> dict[str, Any]:
    """Go through the stages of one message, until a refusal."""
    said: list[list[str]] = []
    accepted: list[str] = []
    sender = str(facts.sender or "")
    held = ""

    async def ask(stage: Stage, **new: Any) -> Any:
        nonlocal facts, held, sender
        facts = dataclasses.replace(facts, stage=stage, **new)
        ruling = await defer.maybeDeferred(chain.ask, facts)
        for each in ruling.said:
            said.append([each.policy, type(each.verdict).__name__, str(each.verdict.reason)])
            match each.verdict:
                case ChangeSender(sender=changed):
                    sender = str(changed or "")
                case AddRecipient(mailbox=mailbox):
                    accepted.append(str(mailbox))
                case RemoveRecipient(mailbox=mailbox):
                    accepted.remove(str(mailbox))
        facts = ruling.facts or facts
        held = str(ruling.hold.reason) if ruling.hold else held
        return ruling.refusal.reply if ruling.refusal else None

    content = {"head": facts.head, "body": facts.body, "queue_id": facts.queue_id}
    facts = dataclasses.replace(facts, head=b"", body=None, queue_id="")
    refused = await ask(Stage.CONNECT) or await ask(Stage.HELO) or await ask(Stage.MAIL)
    if refused is None:
        for recipient in recipients:
            mailbox = parse_address(recipient)
            answer = await ask(Stage.RCPT, recipient=mailbox)
            if answer is None:
                accepted.append(recipient)
                facts = dataclasses.replace(facts, recipients=(*facts.recipients, mailbox))
            refused = answer or refused
    if accepted:
        refused = await ask(Stage.DATA, queue_id=content["queue_id"]) or await ask(Stage.HEADERS, head=content["head"])
        refused = refused or await ask(Stage.MESSAGE, body=content["body"])
    body = b"".join(facts.body.pieces()) if facts.body is not None else b""
    return {
        "reply": str(refused or "250 2.0.0 queued"),
        "content": base64.b64encode(facts.head + b"\r\n" + body).decode(),
        "sender": sender,
        "recipients": accepted,
        "held": held,
        "said": said,
    }


def main(reactor: Any) -> None:
    """Read the task, print what came of it."""
    task = json.load(sys.stdin)
    milters = [
        Milter(
            MilterSettings(**{**each, "address": parse_milter_address(each["address"])}),
            Identity("mx.example.test", "mta"),
            lambda address: endpoint(reactor, address),
            reactor,
            threads.deferToThread,
            50 * 1024 * 1024,
        )
        for each in task["milters"]
    ]
    chain = Chain(milters)
    outcomes: list[dict[str, Any]] = []

    async def run() -> None:
        for number, each in enumerate(task["messages"]):
            head, _, body = base64.b64decode(each["content"]).partition(b"\r\n\r\n")
            facts = Facts(
                Stage.CONNECT,
                session=f"session{number if each['new_session'] else 0}",
                address=each["address"],
                port=40000,
                iprev=Iprev(IprevResult.PASS, Reason("it is so"), each["name"]) if each["name"] else None,
                helo="client.test",
                extended=True,
                login=each["login"],
                mechanism="PLAIN" if each["login"] else "",
                sender=parse_address(each["sender"]) if each["sender"] else None,
                size=len(head) + 4 + len(body),
                queue_id=f"queue{number}",
                head=head + b"\r\n",
                body=MemoryBody(body),
            )
            outcomes.append(await judge(chain, facts, each["recipients"]))
            chain.reset(facts.session)
        for number in range(len(task["messages"])):
            for each in milters:
                each.closed(f"session{number}")

    def end(failure: Any) -> None:
        if failure is not None:
            failure.printTraceback(sys.stderr)
        reactor.callLater(0.2, reactor.stop)  # what was written leaves: QUIT, for one

    reactor.callWhenRunning(lambda: defer.ensureDeferred(run()).addBoth(end))
    reactor.run()
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    from twisted.internet import reactor as real

    main(real)
