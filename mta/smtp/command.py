"""From the arguments of a command line to an event, or to the reply that refuses them (RFC 5321 §4.1.1).

Everything here is syntax: what a command may say, not when, and not whether we like it. The verb is split off by
`ServerSession`; arguments come as octets, without control characters unless a pattern here refuses them.
"""

from __future__ import annotations

from mta.smtp import grammar, status
from mta.smtp.address import POSTMASTER, AddressFault, Mailbox, address_literal, parse_path
from mta.smtp.event import Mail, Rcpt
from mta.smtp.extension import Offer
from mta.smtp.limits import Limits
from mta.smtp.parameter import TOO_BIG, MailParameters, parse_mail_parameters, parse_rcpt_parameters
from mta.smtp.reply import Reply, reply

NOT_UTF8 = reply(501, status.SYNTAX, "Command is not valid UTF-8")
MAIL_SYNTAX = reply(501, status.INVALID_ARGUMENTS, "Syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX = reply(501, status.INVALID_ARGUMENTS, "Syntax: RCPT TO:<address>")
HELLO_SYNTAX = reply(501, status.INVALID_ARGUMENTS, "Syntax: EHLO or HELO, and your host name")
UTF8_SENDER = reply(553, status.NON_ASCII_ADDRESS, "Address is not ASCII, and MAIL came without SMTPUTF8")
UTF8_RECIPIENT = reply(553, status.NON_ASCII_ADDRESS, "Address is not ASCII, and MAIL came without SMTPUTF8")
_BAD_SENDER = {fault: reply(501, status.BAD_SENDER_SYNTAX, f"Sender: {fault.value}") for fault in AddressFault}
_BAD_RECIPIENT = {
    fault: reply(501, status.BAD_DESTINATION_SYNTAX, f"Recipient: {fault.value}") for fault in AddressFault
}


def parse_hello(argument: bytes, limits: Limits) -> str | Reply:
    """Return what the client calls itself, harmless (see `mta.smtp.event.Hello`)."""
    name = argument.decode("ascii", "replace").strip(" ")
    if not name:
        return HELLO_SYNTAX
    literal = address_literal(name)
    if literal is not None:
        return literal
    return grammar.NOT_IN_DOMAIN.sub("?", name[: limits.domain])


def parse_mail(argument: bytes, offer: Offer, limits: Limits) -> Mail | Reply:
    """Read ``FROM:<reverse-path> parameters``."""
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    plain = grammar.PLAIN_MAIL.fullmatch(text)
    if plain is not None:
        local_part, domain, digits, body = plain.groups()
        if local_part is None:
            sender = None
        elif _fits(local_part, domain, limits):
            sender = Mailbox(local_part, domain.lower())
        else:
            return _mail(text, offer, limits)
        if digits is None:
            return Mail(sender, None, body or "7BIT")
        size = int(digits)
        return Mail(sender, size, body or "7BIT") if size <= limits.message_size else TOO_BIG
    return _mail(text, offer, limits)


def _mail(text: str, offer: Offer, limits: Limits) -> Mail | Reply:
    found = grammar.MAIL_FROM.match(text)
    if found is None:
        return MAIL_SYNTAX
    start = found.end()
    sender: Mailbox | None = None
    if text.startswith("<>", start):
        end = start + len("<>")
    else:
        path = parse_path(text, start, limits)
        if isinstance(path, AddressFault):
            return _BAD_SENDER[path]
        sender, _, end = path
    given = parse_mail_parameters(text[end:], offer, limits.message_size)
    if not isinstance(given, MailParameters):
        return given
    if not given.smtputf8 and not text.isascii():
        return UTF8_SENDER
    return Mail(sender, given.size, given.body, given.smtputf8, given.auth)


def parse_rcpt(argument: bytes, smtputf8: bool, limits: Limits) -> Rcpt | Reply:
    """Read ``TO:<forward-path>``; `smtputf8` is what MAIL said."""
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    plain = grammar.PLAIN_RCPT.fullmatch(text)
    if plain is not None:
        local_part, domain = plain.groups()
        if _fits(local_part, domain, limits):
            return Rcpt(Mailbox(local_part, domain.lower()))
    found = grammar.RCPT_TO.match(text)
    if found is None:
        return RCPT_SYNTAX
    start = found.end()
    postmaster = grammar.POSTMASTER.match(text, start)
    if postmaster is not None:
        recipient, source_route, end = POSTMASTER, False, postmaster.end()
    else:
        path = parse_path(text, start, limits)
        if isinstance(path, AddressFault):
            return _BAD_RECIPIENT[path]
        recipient, source_route, end = path
    fault = parse_rcpt_parameters(text[end:])
    if fault is not None:
        return fault
    if not smtputf8 and not text.isascii():
        return UTF8_RECIPIENT
    return Rcpt(recipient, source_route)


def _fits(local_part: str, domain: str, limits: Limits) -> bool:
    """Whether a mailbox of ASCII is within the limits (RFC 5321 §4.5.3.1)."""
    local, whole = len(local_part), len(domain)
    return local <= limits.local_part and whole <= limits.domain and local + whole + len("<@>") <= limits.path
