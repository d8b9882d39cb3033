"""What the tests of policies share: settings as text, and facts of a stranger's session."""

from __future__ import annotations

import tomllib
from typing import Any

from mta.mail.reason import Reason
from mta.mailauth.result import Dkim, DkimResult, Iprev, IprevResult, Spf, SpfResult
from mta.policy.changes import MemoryBody
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import Defer, Reject
from mta.settings.locate import locate
from mta.settings.policy import PolicySettings
from mta.settings.policy_reading import complete_policy
from mta.settings.problem import Problem
from mta.settings.table import Reading
from mta.smtp.address import Mailbox

STRANGER = "192.0.2.7"
ALICE = Mailbox("alice", "example.org")
SENDER = Mailbox("sender", "sender.example")


def read_policy(toml: str, file: str = "mta.toml") -> tuple[PolicySettings, list[Problem]]:
    """Read the tables below ``[policy]``, which stand in `toml` with their whole names."""
    problems: list[Problem] = []
    reading = Reading(file, locate(toml), problems)
    table = tomllib.loads(toml).get("policy", {})
    return complete_policy(reading, reading.table(PolicySettings, table, ("policy",))), sorted(problems)


def policy_settings(toml: str, file: str = "mta.toml") -> PolicySettings:
    """Read settings that are right."""
    settings, problems = read_policy(toml, file)
    assert problems == []
    return settings


def facts(stage: Stage, **known: Any) -> Facts:
    """What is known of a session of a stranger at mx: from `STRANGER`, by `SENDER`, for `ALICE`."""
    usual: dict[str, Any] = {"session": "s1", "address": STRANGER, "helo": "mail.sender.example", "sender": SENDER}
    if stage is Stage.RCPT:
        usual["recipient"] = ALICE
    if stage in (Stage.DATA, Stage.HEADERS, Stage.MESSAGE):
        usual["recipients"] = (ALICE,)
    return Facts(stage, **{**usual, **known})


def message(content: bytes, **known: Any) -> Facts:
    """The facts at the end of a message."""
    head, _, body = content.partition(b"\r\n\r\n")
    return facts(Stage.MESSAGE, head=head + b"\r\n", body=MemoryBody(body), **known)


def spf(result: str = "pass", domain: str = "sender.example") -> Spf:
    """A result of SPF."""
    return Spf(SpfResult(result), "mailfrom", domain, Reason("v=spf1", "test"))


def dkim(domain: str, result: str = "pass") -> Dkim:
    """A result of DKIM."""
    return Dkim(DkimResult(result), domain, "s1", Reason("a signature", "test"))


def iprev(name: str, result: str = "pass") -> Iprev:
    """A confirmed name."""
    return Iprev(IprevResult(result), Reason("PTR", "test"), name)


def said(verdict: Any) -> tuple[str, str, str]:
    """Reply, reason and its source of a refusal; of anything else its kind stands in place of the reply."""
    kind = str(verdict.reply) if isinstance(verdict, Reject | Defer) else type(verdict).__name__
    return kind, verdict.reason.text, verdict.reason.source
