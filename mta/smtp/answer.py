"""The replies that a `ServerSession` gives by itself: to what is no SMTP, out of order, or needs no rule."""

from __future__ import annotations

from mta.smtp import status
from mta.smtp.reader import ContentFault, DataReader
from mta.smtp.reply import Reply, reply

OK = reply(250, status.OK, "OK")
GOODBYE = reply(221, status.OK, "Goodbye")
HELP = reply(
    214, status.OK, "Commands: EHLO HELO MAIL RCPT DATA RSET NOOP VRFY STARTTLS AUTH HELP QUIT", "See RFC 5321"
)

# not a command (500, 501, 502)
UNKNOWN_COMMAND = reply(500, status.SYNTAX, "Command not recognized")
NOT_IMPLEMENTED = reply(502, status.INVALID_COMMAND, "Command not implemented")
CONTROL_CHARACTER = reply(501, status.SYNTAX, "Control character in the command")
LINE_TOO_LONG = reply(500, status.SYNTAX, "Line too long")
BARE_LF = reply(500, status.SYNTAX, r"Line ended by LF alone; it must end with CRLF (\r\n), RFC 5321 section 2.3.8")
OTHER_PROTOCOL = reply(421, status.TOO_MUCH, "This is SMTP")
NO_ARGUMENT = reply(501, status.INVALID_ARGUMENTS, "This command takes no argument")
ARGUMENT_NEEDED = reply(501, status.INVALID_ARGUMENTS, "This command needs an argument")

# not now (503, 554)
HELLO_FIRST = reply(503, status.INVALID_COMMAND, "Say EHLO first")
NO_SERVICE = reply(503, status.INVALID_COMMAND, "No service for you here; say QUIT")
NESTED_MAIL = reply(503, status.INVALID_COMMAND, "A transaction is open; send its data, or RSET")
MAIL_FIRST = reply(503, status.INVALID_COMMAND, "Send MAIL first")
RCPT_FIRST = reply(503, status.INVALID_COMMAND, "Send RCPT first")
NO_VALID_RECIPIENTS = reply(554, status.INVALID_COMMAND, "No valid recipients")

# too much (421, 452)
TOO_MANY_RECIPIENTS = reply(452, status.TOO_MANY_RECIPIENTS, "Too many recipients; send the rest separately")
TOO_MANY_ERRORS = reply(421, status.TOO_MUCH, "Too many errors")
TOO_MANY_COMMANDS = reply(421, status.TOO_MUCH, "Too many commands without mail")
TOO_MANY_MESSAGES = reply(421, status.TOO_MUCH, "Many messages in this session; connect again for more")

# TLS (RFC 3207 §4)
STARTTLS_NOT_OFFERED = reply(502, status.INVALID_COMMAND, "STARTTLS is not offered")
TLS_ALREADY = reply(503, status.INVALID_COMMAND, "TLS is active already")
TLS_AFTER_AUTH = reply(503, status.INVALID_COMMAND, "STARTTLS is not possible after AUTH")

# AUTH (RFC 4954 §4, §6)
AUTH_NOT_OFFERED = reply(502, status.INVALID_COMMAND, "AUTH is not offered")
AUTH_ALREADY = reply(503, status.INVALID_COMMAND, "You are logged in already")
AUTH_IN_TRANSACTION = reply(503, status.INVALID_COMMAND, "AUTH is not possible in a transaction")
ENCRYPTION_REQUIRED = reply(538, status.ENCRYPTION_REQUIRED, "Encryption required: STARTTLS first")
AUTH_SYNTAX = reply(501, status.INVALID_ARGUMENTS, "Syntax: AUTH mechanism [initial-response]")
UNKNOWN_MECHANISM = reply(504, status.INVALID_ARGUMENTS, "Authentication mechanism not offered")
AUTH_CANCELLED = reply(501, status.AUTH_CANCELLED, "Authentication cancelled")
NOT_BASE64 = reply(501, status.SYNTAX, "Cannot decode BASE64")
MALFORMED_RESPONSE = reply(501, status.SYNTAX, "Malformed authentication response")
AUTH_LINE_TOO_LONG = reply(500, status.AUTH_LINE_TOO_LONG, "Authentication exchange line is too long")

# content
MESSAGE_TOO_BIG = reply(552, status.MESSAGE_TOO_BIG, "Message is larger than SIZE permits")


def content_refusal(content: DataReader) -> Reply:
    """Say what is wrong with the content, so that who programmed the sender can mend it."""
    if content.fault is ContentFault.TOO_LARGE:
        return MESSAGE_TOO_BIG
    what = "CR without LF" if content.fault is ContentFault.BARE_CR else "LF without CR"
    return reply(
        550,
        status.BARE_LINE_END,
        rf"{what} in line {content.line} of the message; lines must end with CRLF (\r\n), RFC 5321 section 2.3.8",
    )
