"""Every bound on what a peer can make the server hold or do, in one place (RFC 5321 §4.5.3).

This is the table ``[limits]`` of ``mta.toml``: the text below a field is its documentation. Sizes are octets, times
seconds. The name of a field is what the RFC calls the thing.

There is no bound on a line of the content: lines of any length are taken whole, because folding one breaks its
signature and RFC 5321 §4.5.3.1.6 (1000 octets) binds the sender; what a next hop cannot take is the relay's matter.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may send, and how long it may take."""

    command_line: int = 2048
    """Longest command, in octets with CRLF; longer: 500 5.5.2. RFC 5321 §4.5.3.1.4 asks for 512 and more for each
    extension, RFC 6531 §3.4 for more still."""
    auth_line: int = 12288
    """Longest AUTH command or line of an AUTH exchange, in octets with CRLF; longer: 500 5.5.6. RFC 4954 §4."""
    message_size: int = 50 * 1024 * 1024
    """Largest message, in octets, as SIZE tells it (RFC 1870 §3); larger: 552 5.3.4. RFC 5321 §4.5.3.1.7 asks for
    64 KiB."""
    recipients: int = 1000
    """Recipients of one message; more: 452 4.5.3, and the message goes to the accepted. RFC 5321 §4.5.3.1.8: at least
    100. The value is Postfix's smtpd_recipient_limit."""
    local_part: int = 64
    """Longest local-part of a mailbox, in octets with its quotes; longer: 501. RFC 5321 §4.5.3.1.1."""
    domain: int = 255
    """Longest domain, in octets; longer: 501. RFC 5321 §4.5.3.1.2."""
    path: int = 256
    """Longest path, in octets with its angle brackets; longer: 501. RFC 5321 §4.5.3.1.3."""
    errors: int = 20
    """Commands of one session that are no SMTP, malformed or out of order; the last gets 421 4.7.0. The value is
    Postfix's smtpd_hard_error_limit; RFC 5321 §7.8."""
    idle_commands: int = 1000
    """Commands since the last accepted message that brought none nearer: NOOP, RSET, VRFY, refused recipients; the
    next gets 421 4.7.0. It bounds floods and the search for addresses; RFC 5321 §7.8."""
    transactions: int = 1000
    """MAIL commands accepted in one session; the next gets 421 4.7.0 and the client connects anew. The value is
    Exim's smtp_accept_max_per_connection."""
    received_fields: int = 100
    """Received fields of a message (hops); more: 554 5.4.6, it runs in a circle. RFC 5321 §6.3: at least 100."""
    command_seconds: float = 300.0
    """From a reply to the end of the next command, from octets of a message to the next ones, or for the client to
    read; then 421 4.4.2. RFC 5321 §4.5.3.2.7: at least 5 minutes for a command; a part of one is none."""
    idle_seconds: float = 3600.0
    """Time since the last accepted message, or since the connection was made, in which no other message was begun;
    then 421 4.4.2. It bounds what `idle_commands` leaves to a client that says NOOP every few minutes."""
    data_seconds: float = 3600.0
    """The whole of one message's data phase; then 421 4.4.2. So that no client sends an octet a minute for ever:
    50 MiB in an hour are 15 KB/s."""
    handshake_seconds: float = 60.0
    """A TLS handshake; then the connection is aborted."""
    answer_seconds: float = 240.0
    """Our own rules, from the greeting to the commit of a message; then 451 4.3.0. Below the 5 minutes that a client
    waits for MAIL and RCPT, and well below its 10 minutes after the final dot (RFC 5321 §4.5.3.2)."""


DEFAULT = Limits()
