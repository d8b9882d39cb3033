"""Enhanced mail system status codes (RFC 3463, registry of RFC 5248), each under a name that spells itself.

`Status(5, 1, 1)` renders as ``5.1.1``. The constants hold what a status *means*; whether it is transient or
permanent is its class, so most exist once and `transient()` / `permanent()` give the other form.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# RFC 3463 §2: status-code = class "." subject "." detail; class = "2" / "4" / "5"; subject, detail = 1*3digit
_STATUS = re.compile(rb"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9.])")


class Status(NamedTuple):
    """One enhanced status code."""

    class_: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.class_}.{self.subject}.{self.detail}"

    def transient(self) -> Status:
        """Return the 4.x.x form."""
        return self._replace(class_=4)

    def permanent(self) -> Status:
        """Return the 5.x.x form."""
        return self._replace(class_=5)

    @classmethod
    def parse(cls, text: bytes) -> Status | None:
        """Read the status at the start of a reply's text; None where there is none (RFC 2034 §4)."""
        found = _STATUS.match(text)
        return cls(*map(int, found.groups())) if found else None


# 2.x.x
OK = Status(2, 0, 0)
SENDER_OK = Status(2, 1, 0)
RECIPIENT_OK = Status(2, 1, 5)
CONTENT_OK = Status(2, 6, 0)
SECURITY_OK = Status(2, 7, 0)

# X.0.X other
OTHER = Status(5, 0, 0)

# X.1.X addressing
BAD_MAILBOX = Status(5, 1, 1)  # destination mailbox does not exist
BAD_SYSTEM = Status(5, 1, 2)  # destination system (domain) does not exist
BAD_DESTINATION_SYNTAX = Status(5, 1, 3)
BAD_SENDER_SYNTAX = Status(5, 1, 7)
BAD_SENDER_SYSTEM = Status(5, 1, 8)
NULL_MX = Status(5, 1, 10)  # RFC 7505 §4.1
MOVED = Status(5, 1, 6)

# X.2.X mailbox
MAILBOX_DISABLED = Status(5, 2, 1)
MAILBOX_FULL = Status(5, 2, 2)

# X.3.X mail system
SYSTEM_FULL = Status(4, 3, 1)
NOT_ACCEPTING = Status(4, 3, 2)
MESSAGE_TOO_BIG = Status(5, 3, 4)
SYSTEM_FAULT = Status(4, 3, 0)

# X.4.X network and routing
NO_ANSWER = Status(4, 4, 1)
BAD_CONNECTION = Status(4, 4, 2)
DIRECTORY_FAILURE = Status(4, 4, 3)  # a name server did not answer
NO_ROUTE = Status(4, 4, 4)
CONGESTION = Status(4, 4, 5)
LOOP = Status(5, 4, 6)
EXPIRED = Status(5, 4, 7)  # delivery time expired (RFC 3463 §3.5: 4.4.7 in warnings, 5.4.7 when final)

# X.5.X protocol
PROTOCOL = Status(5, 5, 0)
INVALID_COMMAND = Status(5, 5, 1)
SYNTAX = Status(5, 5, 2)
TOO_MANY_RECIPIENTS = Status(4, 5, 3)
INVALID_ARGUMENTS = Status(5, 5, 4)
AUTH_LINE_TOO_LONG = Status(5, 5, 6)  # RFC 4954 §6

# X.6.X content
CONVERSION_NEEDED = Status(5, 6, 3)  # conversion required but not supported
NON_ASCII_ADDRESS = Status(5, 6, 7)  # RFC 6531 §3.5
UTF8_REPLY_NEEDED = Status(5, 6, 8)
BARE_LINE_END = Status(5, 6, 11)  # "invalid characters": a bare CR or LF
HEADER_FAULT = Status(5, 6, 0)

# X.7.X security and policy
REFUSED = Status(5, 7, 1)  # delivery not authorized, message refused
AUTH_REQUIRED = Status(5, 7, 0)  # RFC 4954 §6
AUTH_CANCELLED = Status(5, 7, 0)
AUTH_FAILED = Status(5, 7, 8)
AUTH_TEMPORARY = Status(4, 7, 0)
ENCRYPTION_REQUIRED = Status(5, 7, 11)
TLS_MISSING = Status(4, 7, 4)  # "security features not supported": the next hop offers no STARTTLS
TLS_FAILURE = Status(4, 7, 5)  # "cryptographic failure"
USER_DISABLED = Status(5, 7, 13)  # RFC 5248: told after a right password alone
MECHANISM_TOO_WEAK = Status(5, 7, 9)
TOO_MUCH = Status(4, 7, 0)
