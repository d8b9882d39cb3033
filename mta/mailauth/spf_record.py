"""SPF records: the octets of a TXT record to a value, or what is wrong with them and where (RFC 7208 §4.5, §4.6, §5,
§6, §12). Pure.

::

    record           = version terms *SP
    version          = "v=spf1"
    terms            = *( 1*SP ( directive / modifier ) )
    directive        = [ qualifier ] mechanism
    qualifier        = "+" / "-" / "?" / "~"
    mechanism        = ( all / include / a / mx / ptr / ip4 / ip6 / exists )
    all              = "all"
    include          = "include"  ":" domain-spec
    a                = "a"        [ ":" domain-spec ] [ dual-cidr-length ]
    mx               = "mx"       [ ":" domain-spec ] [ dual-cidr-length ]
    ptr              = "ptr"      [ ":" domain-spec ]
    ip4              = "ip4"      ":" ip4-network   [ ip4-cidr-length ]
    ip6              = "ip6"      ":" ip6-network   [ ip6-cidr-length ]
    exists           = "exists"   ":" domain-spec
    modifier         = redirect / explanation / unknown-modifier
    redirect         = "redirect" "=" domain-spec
    explanation      = "exp" "=" domain-spec
    unknown-modifier = name "=" macro-string   ; where name is not any known modifier
    name             = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." )
    dual-cidr-length = [ ip4-cidr-length ] [ "/" ip6-cidr-length ]
    ip4-cidr-length  = "/" ("0" / %x31-39 0*1DIGIT)
    ip6-cidr-length  = "/" ("0" / %x31-39 0*2DIGIT)

The whole record is read before any of it is used: a fault in the last term is a permerror though the first one would
match (§4.6). Of several faults the first is told.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass

from mta.mailauth.result import SpfResult
from mta.mailauth.spf_macro import MacroString, SyntaxFault, parse_domain_spec, parse_macro_string, shown
from mta.settings.values import Network

IPV4_BITS = 32
IPV6_BITS = 128

_VERSION = b"v=spf1"
_TERM = re.compile(r"[^ ]+")
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=")
# What stands behind the mechanism's name begins with ":" or "/".
_DIRECTIVE = re.compile(r"(?P<qualifier>[-+?~]?)(?P<name>[^:/]*)(?P<rest>.*)", re.DOTALL)
_DUAL_CIDR_LENGTH = re.compile(r"(?:/(?P<ip4>[0-9]+))?(?://(?P<ip6>[0-9]+))?\Z")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")

_RESULTS = {
    "": SpfResult.PASS,
    "+": SpfResult.PASS,
    "-": SpfResult.FAIL,
    "~": SpfResult.SOFTFAIL,
    "?": SpfResult.NEUTRAL,
}


class Mechanism(enum.Enum):
    """RFC 7208 §5; the value is its name in a record."""

    ALL = "all"
    INCLUDE = "include"
    A = "a"
    MX = "mx"
    PTR = "ptr"
    IP4 = "ip4"
    IP6 = "ip6"
    EXISTS = "exists"


_MECHANISMS = {mechanism.value: mechanism for mechanism in Mechanism}


@dataclass(frozen=True, slots=True)
class Directive:
    """A mechanism, and the result if it matches."""

    text: str
    """As it is written."""
    result: SpfResult
    mechanism: Mechanism
    target: MacroString | None = None
    """The domain-spec; None where there is none: the <domain> itself."""
    ip4_length: int = IPV4_BITS
    ip6_length: int = IPV6_BITS
    network: Network | None = None
    """Of ``ip4`` and ``ip6``, and only of them."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a domain publishes. Unknown modifiers are left out (RFC 7208 §6)."""

    directives: tuple[Directive, ...] = ()
    redirect: MacroString | None = None
    exp: MacroString | None = None


def is_record(octets: bytes) -> bool:
    """Whether a TXT record has the version section of SPF (RFC 7208 §4.5)."""
    return octets[: len(_VERSION)].lower() == _VERSION and octets[len(_VERSION) : len(_VERSION) + 1] in (b"", b" ")


def parse_record(octets: bytes) -> Record | SyntaxFault:
    """Read a record that `is_record`."""
    text = octets.decode("iso-8859-1")
    directives: list[Directive] = []
    modifiers: dict[str, MacroString] = {}
    for found in _TERM.finditer(text, len(_VERSION)):
        term = found[0]
        modifier = _MODIFIER.match(term)
        parsed = _parse_modifier(modifier, modifiers) if modifier else _parse_directive(term)
        match parsed:
            case SyntaxFault():
                return SyntaxFault(parsed.text, found.start() + parsed.offset)
            case Directive():
                directives.append(parsed)
    return Record(tuple(directives), modifiers.get("redirect"), modifiers.get("exp"))


def _parse_modifier(found: re.Match[str], known: dict[str, MacroString]) -> SyntaxFault | None:
    """Read a modifier, and add it to `known` if it is one that this RFC defines."""
    name = found[1].lower()
    defined = name in ("redirect", "exp")
    if name in known:
        return SyntaxFault(f"a second {name}=", 0)
    value = (parse_domain_spec if defined else parse_macro_string)(found.string[found.end() :])
    if isinstance(value, SyntaxFault):
        return SyntaxFault(f"{shown(found[0])}: {value.text}", found.end() + value.offset)
    if defined:
        known[name] = value
    return None


def _parse_directive(term: str) -> Directive | SyntaxFault:
    found = _DIRECTIVE.fullmatch(term)
    assert found is not None
    mechanism = _MECHANISMS.get(found["name"].lower())
    if mechanism is None:
        return SyntaxFault(f"{shown(term)} is no mechanism", 0)
    match mechanism:
        case Mechanism.ALL if found["rest"]:
            return SyntaxFault("nothing may stand behind all", found.start("rest"))
        case Mechanism.ALL:
            return Directive(term, _RESULTS[found["qualifier"]], mechanism)
        case Mechanism.IP4 | Mechanism.IP6:
            return _parse_network(found, mechanism)
    return _parse_target(found, mechanism)


def _parse_network(found: re.Match[str], mechanism: Mechanism) -> Directive | SyntaxFault:
    bits = IPV4_BITS if mechanism is Mechanism.IP4 else IPV6_BITS
    address, slash, digits = found["rest"].removeprefix(":").partition("/")
    length = _length(digits, bits) if slash else bits
    if length is None:
        return SyntaxFault(f"{shown(found[0])}: /{shown(digits)} is no length of 0 to {bits}", 0)
    network = _network(mechanism, address, length)
    if network is None:
        return SyntaxFault(f"{shown(found[0])}: no IPv{4 if mechanism is Mechanism.IP4 else 6} address", 0)
    return Directive(found[0], _RESULTS[found["qualifier"]], mechanism, network=network)


def _network(mechanism: Mechanism, address: str, length: int) -> Network | None:
    # ipaddress takes a zone (``%eth0``), RFC 4291 §2.2 does not.
    if "%" in address:
        return None
    family = ipaddress.IPv4Network if mechanism is Mechanism.IP4 else ipaddress.IPv6Network
    try:
        return family((address, length), strict=False)
    except ValueError:
        return None


def _parse_target(found: re.Match[str], mechanism: Mechanism) -> Directive | SyntaxFault:
    rest, start = found["rest"], found.start("rest")
    ip4_length: int | None = IPV4_BITS
    ip6_length: int | None = IPV6_BITS
    if mechanism in (Mechanism.A, Mechanism.MX):
        lengths = _DUAL_CIDR_LENGTH.search(rest)
        assert lengths is not None
        rest = rest[: lengths.start()]
        ip4_length = _length(lengths["ip4"] or "32", IPV4_BITS)
        ip6_length = _length(lengths["ip6"] or "128", IPV6_BITS)
    if ip4_length is None or ip6_length is None:
        return SyntaxFault(f"{shown(found[0])}: a length is at most {IPV4_BITS}, behind // at most {IPV6_BITS}", 0)
    target: MacroString | None = None
    if rest.startswith(":"):
        parsed = parse_domain_spec(rest[1:])
        if isinstance(parsed, SyntaxFault):
            return SyntaxFault(f"{shown(found[0])}: {parsed.text}", start + 1 + parsed.offset)
        target = parsed
    elif rest:
        return SyntaxFault(f"{shown(found[0])}: {shown(rest)} cannot stand here", start)
    elif mechanism in (Mechanism.INCLUDE, Mechanism.EXISTS):
        return SyntaxFault(f"{shown(found[0])} needs a domain", 0)
    return Directive(found[0], _RESULTS[found["qualifier"]], mechanism, target, ip4_length, ip6_length)


def _length(digits: str, bits: int) -> int | None:
    """Read a CIDR length; None for what is none."""
    if not _LENGTH.fullmatch(digits) or int(digits) > bits:
        return None
    return int(digits)
