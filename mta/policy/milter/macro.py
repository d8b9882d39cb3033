"""Macros: what a milter is told beside the commands, under the names that Sendmail gave it.

============  =========================================================================================================
step          macros
============  =========================================================================================================
connect       ``j`` our name, ``v`` our version, ``{daemon_name}``, ``_`` name and address of the client,
              ``{client_addr}``, ``{client_name}``, ``{client_ptr}``, ``{client_port}``
helo          ``{tls_version}``, ``{cipher}``, ``{cipher_bits}``, under TLS
mail          ``{auth_authen}``, ``{auth_type}``, after a login; ``{mail_addr}``
rcpt          ``{rcpt_addr}``
data, end     ``i`` the queue id: there is none before DATA, as with Postfix
of head, end
============  =========================================================================================================

Knowingly not here: client certificates (``{cert_subject}``), ``{rcpt_mailer}`` and its like, which name parts of
Sendmail's own configuration.
"""

from __future__ import annotations

from collections.abc import Mapping

from mta.mailauth.result import IprevResult
from mta.policy.facts import Facts
from mta.policy.milter.option import Step


def client_name(facts: Facts) -> str:
    """Name the client as milters expect it: its confirmed name, or its address in brackets (xxfi_connect)."""
    if facts.iprev is not None and facts.iprev.result is IprevResult.PASS:
        return facts.iprev.name
    return f"[{facts.address}]"


def macros(step: Step, facts: Facts, hostname: str, version: str, daemon_name: str) -> Mapping[str, str]:
    """Return the macros of a step by their names without braces; `version` is ours."""
    match step:
        case Step.CONNECT:
            name = client_name(facts)
            literal = f"[{facts.address}]"
            # Sendmail and Postfix say "unknown" in place of a name here, and rspamd knows that word
            known = "unknown" if name == literal else name
            return {
                "j": hostname,
                "v": version,
                "daemon_name": daemon_name,
                "_": literal if name == literal else f"{name} {literal}",
                "client_addr": facts.address,
                "client_name": known,
                "client_ptr": known,
                "client_port": str(facts.port),
            }
        case Step.HELO if facts.tls is not None:
            return {
                "tls_version": facts.tls.version,
                "cipher": facts.tls.cipher,
                "cipher_bits": str(facts.tls.bits),
            }
        case Step.MAIL:
            login = {"auth_authen": facts.login, "auth_type": facts.mechanism} if facts.login else {}
            return {**login, "mail_addr": str(facts.sender or "")}
        case Step.RCPT:
            return {"rcpt_addr": str(facts.recipient or "")}
        case Step.DATA | Step.END_OF_HEAD | Step.END if facts.queue_id:
            return {"i": facts.queue_id}
    return {}
