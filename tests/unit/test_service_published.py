"""The records that host and domains need in the DNS."""

from __future__ import annotations

import ipaddress

import dns.zone
import pytest

from mta.mailauth.dmarc_record import read_dmarc_records
from mta.mailauth.spf_record import Record, parse_record
from mta.service.published import (
    Purpose,
    domain_records,
    domain_snippet,
    host_records,
    host_snippet,
    reverse_records,
    zone_text,
)
from mta.settings.dkim import DkimKey, parse_key
from mta.settings.problem import Problem
from tests.doubles.dkim_keys import ed25519_pem, rsa_pem

HOST = "mail.example.org"
ADDRESSES = (ipaddress.ip_address("192.0.2.25"), ipaddress.ip_address("2001:db8::25"))
SOA = "$TTL 1\n@ IN SOA ns. h. 1 1 1 1 1\n@ IN NS ns.\n"


def key(pem: bytes, selector: str) -> DkimKey:
    """A key of example.org."""
    problems: list[Problem] = []
    found = parse_key(pem, selector, "example.org", f"{selector}.pem", problems)
    assert found is not None, problems
    return found


def test_the_host_has_addresses_and_spf() -> None:
    """A for IPv4, AAAA for IPv6, and SPF for the name that we greet with."""
    records = [(record.type, record.data) for record in host_records(HOST, ADDRESSES)]
    assert records == [("A", "192.0.2.25"), ("AAAA", "2001:db8::25"), ("TXT", "v=spf1 a ~all")]


def test_a_host_name_that_is_a_domain_has_one_spf_record() -> None:
    """Two would be a permerror (RFC 7208 §4.5)."""
    records = [*host_records("example.org", ADDRESSES, ["example.org"]), *domain_records("example.org", "example.org")]
    assert [record.data for record in records if record.data.startswith("v=spf1")] == ["v=spf1 mx ~all"]


def test_reverse_dns_names_the_host() -> None:
    """The record stands at the address, reversed (RFC 1035 §3.5, RFC 3596 §2.5)."""
    first, second = reverse_records(HOST, ADDRESSES)
    assert (first.name, first.data) == ("25.2.0.192.in-addr.arpa", "mail.example.org.")
    assert second.name.endswith(".8.b.d.0.1.0.0.2.ip6.arpa")


def test_what_a_domain_publishes_is_right_for_those_who_read_it() -> None:
    """Our own readers of SPF and DMARC find nothing wrong with it."""
    records = {record.purpose: record for record in domain_records("example.org", HOST)}
    assert isinstance(parse_record(records[Purpose.SPF].data.encode()), Record)
    dmarc = read_dmarc_records([records[Purpose.DMARC].data.encode()])
    assert dmarc is not None
    assert not dmarc.faults
    assert records[Purpose.MX].data == "10 mail.example.org."


def test_retired_keys_are_not_published_anew() -> None:
    """Keys that sign or will sign are."""
    retired = b"retired: 2026-01-01\n"
    keys = [key(rsa_pem(), "a"), key(b"next: 2026-01-01\n" + ed25519_pem(), "b"), key(retired + ed25519_pem(), "c")]
    found = [record.name for record in domain_records("example.org", HOST, keys) if record.purpose is Purpose.DKIM]
    assert found == ["a._domainkey.example.org", "b._domainkey.example.org"]


@pytest.mark.parametrize("host", [HOST, "mx.example.net", "example.org"])
def test_the_snippets_are_pieces_of_a_zone(host: str) -> None:
    """A zone parser reads them, and finds every record that the lists have and that belongs to the zone."""
    keys = [key(rsa_pem(), "a")]
    text = host_snippet(host, ADDRESSES, ["example.org"]) + domain_snippet("example.org", host, keys)
    zone = dns.zone.from_text(SOA + text, origin="example.org", relativize=False)
    read = {str(name).removesuffix(".") for name, _, _ in zone.iterate_rdatas()}
    wanted = [*host_records(host, ADDRESSES, ["example.org"]), *domain_records("example.org", host, keys)]
    assert {record.name for record in wanted if f".{record.name}".endswith(".example.org")} <= read
    [strings] = [rdata.strings for _, _, rdata in zone.iterate_rdatas("TXT") if rdata.strings[0].startswith(b"v=DKIM")]
    assert b"".join(strings).decode() == next(record.data for record in wanted if record.purpose is Purpose.DKIM)


def test_an_unknown_address_is_a_comment() -> None:
    """No made-up address gets into anybody's zone."""
    text = host_snippet(HOST, ())
    assert not [line for line in text.splitlines() if " IN A " in line and not line.startswith(";")]
    assert "--ipv4" in text


def test_text_is_escaped() -> None:
    """Quotes and backslashes stand as a zone file has them (RFC 1035 §5.1)."""
    zone = dns.zone.from_text(SOA + zone_text("x.example.org", 'a"b\\c'), origin="example.org", relativize=False)
    assert [rdata.strings for _, _, rdata in zone.iterate_rdatas("TXT")] == [(b'a"b\\c',)]
