"""Parameters of MAIL and RCPT (RFC 5321 §4.1.1.11): syntax, and those of the extensions we offer.

=========  ===============================  ==========================================================
parameter  of                               refused
=========  ===============================  ==========================================================
SIZE       RFC 1870 §6                      501 no number; 552 5.3.4 above `Limits.message_size`
BODY       RFC 6152 §2                      501 no value; 555 neither 7BIT nor 8BITMIME
SMTPUTF8   RFC 6531 §3.4                    501 with a value; 555 not offered
AUTH       RFC 4954 §5                      501 no mailbox in xtext; 555 AUTH not offered
any other                                   555
=========  ===============================  ==========================================================

A malformed or repeated parameter gets 501. RCPT has no parameter here. After HELO parameters are taken as after EHLO:
who sends them means them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mta.smtp import grammar, status
from mta.smtp.address import Mailbox, parse_mailbox
from mta.smtp.extension import Offer
from mta.smtp.reply import Reply, reply

MALFORMED = reply(501, status.INVALID_ARGUMENTS, "Malformed parameter")
REPEATED = reply(501, status.INVALID_ARGUMENTS, "Parameter given twice")
BAD_VALUE = reply(501, status.INVALID_ARGUMENTS, "Malformed parameter value")
UNKNOWN = reply(555, status.INVALID_ARGUMENTS, "Parameter not recognized or not offered")
UNKNOWN_BODY = reply(555, status.INVALID_ARGUMENTS, "BODY is 7BIT or 8BITMIME here")
TOO_BIG = reply(552, status.MESSAGE_TOO_BIG, "Message is larger than SIZE permits")


@dataclass(slots=True)
class MailParameters:
    """What the parameters of one MAIL command said."""

    size: int | None = None
    body: str = "7BIT"
    smtputf8: bool = False
    auth: str | None = None


def parse_mail_parameters(text: str, offer: Offer, maximum: int) -> MailParameters | Reply:
    """Read what stands behind the reverse-path; return the refusal if it cannot stand.

    `maximum` is the largest SIZE taken, in octets.
    """
    given = split(text)
    if isinstance(given, Reply):
        return given
    parameters = MailParameters()
    for keyword, value in given.items():
        read = _MAIL.get(keyword)
        fault = read(parameters, value, offer) if read else UNKNOWN
        if fault is not None:
            return fault
    if parameters.size is not None and parameters.size > maximum:
        return TOO_BIG
    return parameters


def parse_rcpt_parameters(text: str) -> Reply | None:
    """Read what stands behind the forward-path; return the refusal if it cannot stand."""
    given = split(text)
    if isinstance(given, Reply):
        return given
    return UNKNOWN if given else None


def split(text: str) -> dict[str, str | None] | Reply:
    """Split ``" KEYWORD=value KEYWORD"``; keywords come out in upper case, None is no value."""
    if text and text[0] != " ":
        return MALFORMED
    given: dict[str, str | None] = {}
    for word in text.split(" "):
        if not word:
            continue
        found = grammar.PARAMETER.fullmatch(word)
        if found is None:
            # "KEYWORD=" is well known to be meant as a parameter without its value
            return BAD_VALUE if word.endswith("=") else MALFORMED
        keyword = found["keyword"].upper()
        if keyword in given:
            return REPEATED
        given[keyword] = found["value"]
    return given


def _size(parameters: MailParameters, value: str | None, offer: Offer) -> Reply | None:
    if value is None or not grammar.SIZE.fullmatch(value):
        return BAD_VALUE
    parameters.size = int(value)
    return None


def _body(parameters: MailParameters, value: str | None, offer: Offer) -> Reply | None:
    if value is None:
        return BAD_VALUE
    body = value.upper()
    if body not in ("7BIT", "8BITMIME"):
        return UNKNOWN_BODY
    parameters.body = body
    return None


def _smtputf8(parameters: MailParameters, value: str | None, offer: Offer) -> Reply | None:
    if not offer.smtputf8:
        return UNKNOWN
    if value is not None:
        return BAD_VALUE
    parameters.smtputf8 = True
    return None


def _auth(parameters: MailParameters, value: str | None, offer: Offer) -> Reply | None:
    if not offer.mechanisms:
        return UNKNOWN
    decoded = decode_xtext(value or "")
    if decoded != "<>" and not isinstance(parse_mailbox(decoded or ""), Mailbox):
        return BAD_VALUE
    parameters.auth = decoded
    return None


_MAIL: dict[str, Callable[[MailParameters, str | None, Offer], Reply | None]] = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": _smtputf8,
    "AUTH": _auth,
}


def decode_xtext(text: str) -> str | None:
    """Decode xtext (RFC 3461 §4); None where it is none."""
    if not grammar.XTEXT.fullmatch(text):
        return None
    return grammar.HEXCHAR.sub(lambda found: chr(int(found[1], 16)), text)
