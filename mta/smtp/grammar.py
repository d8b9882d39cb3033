"""The grammar of SMTP commands: each pattern with its ABNF beside it (RFC 5321 §4.1.2 and §4.1.3, RFC 6531 §3.3).

Patterns only; what is made of a match is the work of `address`, `parameter` and `command`. All are for text that was
decoded as UTF-8, match no control character, and take linear time on any input. Lengths are not theirs (`limits`),
but for the 63 octets of a label (RFC 1035 §2.3.4).

Classes with UTF8-non-ascii are written as what does not belong to them: `re` takes milliseconds to compile each that
names most of Unicode, and every command would wait for that.

Narrower than the RFCs on purpose:

* UTF8-non-ascii leaves out C1 controls, line separators and direction overrides, which no mailbox needs and every
  log, terminal and `str.splitlines` trips over;
* General-address-literal is left out: IANA has no tag but IPv6.

Wider on purpose: blanks after the colon of ``FROM:`` and ``TO:`` and at the end of a line (RFC 5321 §4.1.1 asks to
tolerate the latter; no client that sends the former means anything else).
"""

from __future__ import annotations

import re

# RFC 6531 §3.3: UTF8-non-ascii = UTF8-2 / UTF8-3 / UTF8-4; no C1 controls, U+2028 to U+202E, U+2066 to U+2069
UTF8_NON_ASCII = "\u00a0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\U0010ffff"

# All of Unicode beyond ASCII that is no UTF8-non-ascii: C1 controls, the separators and overrides above, surrogates
_NO_NON_ASCII = "\u0080-\u009f\u2028-\u202e\u2066-\u2069\ud800-\udfff"

# RFC 5322 §3.2.3, RFC 6531 §3.3: atext = ALPHA / DIGIT / "!" / "#" / … / "~" / UTF8-non-ascii
_ATEXT_ASCII = r"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~"
_ATEXT = rf'[^\x00- "(),.:;<>@\[\\\]\x7f{_NO_NON_ASCII}]'

# Dot-string = Atom *("." Atom); Atom = 1*atext
_DOT_STRING = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
DOT_STRING = re.compile(_DOT_STRING)

# Quoted-string = DQUOTE *QcontentSMTP DQUOTE; QcontentSMTP = qtextSMTP / quoted-pairSMTP
# qtextSMTP = %d32-33 / %d35-91 / %d93-126 / UTF8-non-ascii; quoted-pairSMTP = %d92 %d32-126
_QTEXT = rf'[^\x00-\x1f"\\\x7f{_NO_NON_ASCII}]'
_QUOTED_STRING = rf'"(?:{_QTEXT}|\\[ -~])*"'
QUOTED_PAIR = re.compile(r"\\(.)")

# sub-domain = Let-dig [Ldh-str] / U-label; Let-dig = ALPHA / DIGIT; Ldh-str = *( ALPHA / DIGIT / "-" ) Let-dig
_LET_DIG = rf"[^\x00-/:-@\[-`{{-\x7f{_NO_NON_ASCII}]"
_LET_DIG_HYP = rf"[^\x00-,./:-@\[-`{{-\x7f{_NO_NON_ASCII}]"
_SUB_DOMAIN = f"{_LET_DIG}(?:{_LET_DIG_HYP}{{0,61}}{_LET_DIG})?"
# Domain = sub-domain *("." sub-domain)
_DOMAIN = rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*"
DOMAIN = re.compile(_DOMAIN)

# address-literal = "[" ( IPv4-address-literal / IPv6-address-literal / General-address-literal ) "]"
# What stands inside is read as an address, not by pattern: `ADDRESS_LITERAL` finds tag and address.
_ADDRESS_LITERAL = r"\[[A-Za-z0-9:.]+\]"
ADDRESS_LITERAL = re.compile(r"\[(?P<tag>[Ii][Pp][Vv]6:)?(?P<address>[0-9A-Fa-f:.]+)\]")

# Local-part = Dot-string / Quoted-string; Mailbox = Local-part "@" ( Domain / address-literal )
_MAILBOX = rf"(?P<local_part>{_DOT_STRING}|{_QUOTED_STRING})@(?P<domain>{_DOMAIN}|{_ADDRESS_LITERAL})"
MAILBOX = re.compile(_MAILBOX)

# A-d-l = At-domain *( "," At-domain ); At-domain = "@" Domain
_SOURCE_ROUTE = rf"@{_DOMAIN}(?:,@{_DOMAIN})*"
# Path = "<" [ A-d-l ":" ] Mailbox ">"
PATH = re.compile(rf"<(?:(?P<route>{_SOURCE_ROUTE}):)?{_MAILBOX}>")

# mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF
# rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path ) [SP Rcpt-parameters] CRLF
# (what stands behind the verb and before the path)
MAIL_FROM = re.compile(r"[Ff][Rr][Oo][Mm]: *")
RCPT_TO = re.compile(r"[Tt][Oo]: *")
# "<Postmaster>" of rcpt, not case sensitive (RFC 5321 §4.1.1.3, §4.5.1)
POSTMASTER = re.compile(r"<[Pp][Oo][Ss][Tt][Mm][Aa][Ss][Tt][Ee][Rr]>")

# The two commands in the shape that nearly all have: ASCII, no quoting, no route, no parameter but SIZE and BODY.
# A match means what the patterns above would say, found in one step.
_PLAIN_LOCAL_PART = rf"[{_ATEXT_ASCII}]+(?:\.[{_ATEXT_ASCII}]+)*"
_PLAIN_SUB_DOMAIN = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN_DOMAIN = rf"{_PLAIN_SUB_DOMAIN}(?:\.{_PLAIN_SUB_DOMAIN})*"
PLAIN_MAIL = re.compile(
    rf"[Ff][Rr][Oo][Mm]:<(?:({_PLAIN_LOCAL_PART})@({_PLAIN_DOMAIN}))?>"
    r"(?: SIZE=([0-9]{1,20}))?(?: BODY=(7BIT|8BITMIME))?"
)
PLAIN_RCPT = re.compile(rf"[Tt][Oo]:<({_PLAIN_LOCAL_PART})@({_PLAIN_DOMAIN})>")

# esmtp-param = esmtp-keyword ["=" esmtp-value]; esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
# esmtp-value = 1*(%d33-60 / %d62-126)
PARAMETER = re.compile(r"(?P<keyword>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[!-<>-~]+))?")

# RFC 1870 §6: size-value = 1*20DIGIT
SIZE = re.compile(r"[0-9]{1,20}")

# RFC 3461 §4: xtext = *( xchar / hexchar ); xchar = %d33-42 / %d44-60 / %d62-126; hexchar = "+" 2(%x30-39 / %x41-46)
XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
HEXCHAR = re.compile(r"\+([0-9A-F]{2})")

# RFC 4954 §8: sasl-mech = 1*20mech-char; initial-response = base64 / "="
AUTH = re.compile(rb"(?P<mechanism>[A-Za-z0-9_-]{1,20})(?: +(?P<initial>[^ ]+))? *")

# RFC 5321 §2.3.8, §4.1.2: no control character stands in a command
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

# What may stand in a domain or an address literal, so that the name a client gives itself does no harm elsewhere
NOT_IN_DOMAIN = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
