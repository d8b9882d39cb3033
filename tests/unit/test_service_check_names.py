"""The DNS as it is, compared with the list that `mta init` prints."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import dns.zone
import pytest

from mta.cli.names import finish
from mta.service.check.checks import name_checks
from mta.service.check.finding import Finding, Severity
from mta.service.check.names import check_names, check_resolver, is_special
from mta.service.published import domain_records, host_records, reverse_records
from mta.settings.directory import Directory, Domain
from mta.settings.dkim import DkimKey, parse_key
from mta.settings.problem import Problem
from mta.settings.sections import DnsSettings, Settings
from mta.settings.values import Endpoint
from tests.doubles.dkim_keys import ed25519_pem, rsa_pem
from tests.doubles.dns import Zone, ZoneResolver

HOST = "mail.example.org"
OWN = (ipaddress.ip_address("198.51.100.7"), ipaddress.ip_address("2001:db8::7"))
SERVER = Endpoint("192.0.2.53", 53)


def key(pem: bytes, selector: str = "s1") -> DkimKey:
    """A key of example.org."""
    problems: list[Problem] = []
    found = parse_key(pem, selector, "example.org", f"dkim/{selector}.pem", problems)
    assert found is not None, problems
    return found


class Site:
    """A server for example.org whose zone has all that `mta init` prints, until a test changes it."""

    def __init__(self, hostname: str = HOST, keys: Iterable[DkimKey] | None = None) -> None:
        self.keys = tuple([key(rsa_pem())] if keys is None else keys)
        domain = Domain("example.org", "domains/example.org", {}, dkim=self.keys)
        dns_settings = DnsSettings(nameservers=(SERVER,))
        self.settings = Settings(hostname, directory=Directory([domain]), dns=dns_settings)
        self.zone = Zone()
        self.zone.add("a.root-servers.net", "A", "198.41.0.4")
        self.zone.add("dnssec-failed.org", "ANY", "!SERVFAIL")
        for record in (
            *host_records(hostname, OWN, ["example.org"]),
            *reverse_records(hostname, OWN),
            *domain_records("example.org", hostname, self.keys),
        ):
            text = f'"{record.data}"' if record.type == "TXT" else record.data
            self.zone.add(record.name, record.type, text)

    def change(self, name: str, kind: str, *data: str) -> None:
        """Have these records in place of those that are there."""
        self.zone.names.setdefault(name, {}).pop(kind, None)
        for each in data:
            self.zone.add(name, kind, each)

    def look(self, own: Iterable[object] = OWN) -> list[Finding]:
        """What is found."""
        return finish(name_checks(ZoneResolver(self.zone), self.settings, tuple(own)))  # type: ignore[arg-type]

    def one(self) -> Finding:
        """The one thing that is found."""
        (finding,) = self.look()
        return finding

    def mend(self, finding: Finding) -> None:
        """Put the records that a finding says into the zone, as somebody would who copies them."""
        text = finding.mend.partition("\n")[2]
        zone = dns.zone.from_text("@ IN SOA n. h. 1 1 1 1 1\n@ IN NS n.\n" + text, origin=".", relativize=False)
        for name, _, rdata in zone.iterate_rdatas():
            kind = rdata.rdtype.name
            if kind in ("SOA", "NS"):
                continue
            data = '"' + b"".join(rdata.strings).decode() + '"' if kind == "TXT" else rdata.to_text()
            self.change(name.to_text(omit_final_dot=True), kind, data)


@pytest.mark.parametrize("hostname", [HOST, "mx.example.net", "example.org"])
def test_what_init_prints_is_right(hostname: str) -> None:
    """With all records published nothing is found, whichever zone the host is in."""
    assert Site(hostname).look() == []


@pytest.mark.parametrize(
    ("name", "kind", "severity"),
    [
        ("example.org", "MX", Severity.ERROR),
        ("example.org", "TXT", Severity.ERROR),
        ("s1._domainkey.example.org", "TXT", Severity.ERROR),
        ("_dmarc.example.org", "TXT", Severity.WARNING),
        ("_smtp._tls.example.org", "TXT", Severity.NOTE),
        ("_mta-sts.example.org", "TXT", Severity.NOTE),
        (HOST, "AAAA", Severity.WARNING),
        ("7.100.51.198.in-addr.arpa", "PTR", Severity.ERROR),
    ],
)
def test_each_missing_record_is_found_and_its_remedy_mends_it(name: str, kind: str, severity: Severity) -> None:
    """One finding, with the record to publish; who publishes it has nothing left to mend."""
    site = Site()
    site.change(name, kind)
    finding = site.one()
    assert finding.severity is severity
    assert finding.reason.source == "zone"
    site.mend(finding)
    assert site.look() == []


def test_a_host_without_an_address() -> None:
    """Nobody reaches it: an error, with the addresses of this machine where these are known."""
    site = Site()
    site.change(HOST, "A")
    site.change(HOST, "AAAA")
    found = site.look()
    assert found[0].what.startswith(f"{HOST}, our name, has no address")
    assert f"{HOST}. IN A 198.51.100.7" in found[0].mend
    unknown = site.look(own=())
    assert "the public address of this machine" in unknown[0].mend


def test_a_host_that_leads_elsewhere() -> None:
    """Both addresses of this machine are missing from the DNS: an error."""
    site = Site()
    site.change(HOST, "A", "203.0.113.9")
    site.change(HOST, "AAAA")
    first = site.look()[0]
    assert first.severity is Severity.ERROR
    assert first.reason.text == "it leads to 203.0.113.9"


def test_addresses_that_this_machine_does_not_know_are_taken_from_the_dns() -> None:
    """Behind NAT what the host name leads to is ours: its reverse DNS and SPF are looked at."""
    site = Site()
    assert site.look(own=()) == []
    site.change("7.100.51.198.in-addr.arpa", "PTR")
    (finding,) = site.look(own=())
    assert "has no name" in finding.what


def test_a_private_address_in_the_dns() -> None:
    """Nobody outside reaches it."""
    site = Site()
    site.change(HOST, "A", "10.0.0.7")
    site.change(HOST, "AAAA")
    (finding,) = site.look(own=())
    assert (finding.severity, finding.what) == (Severity.ERROR, f"{HOST} leads to 10.0.0.7")


def test_a_host_name_that_is_an_alias() -> None:
    """RFC 2181 §10.3: an MX record names no alias."""
    site = Site()
    for kind in ("A", "AAAA", "TXT"):
        site.zone.names["real.example.org"] = site.zone.names.get("real.example.org", {})
        for data in site.zone.names[HOST].pop(kind, []):
            site.zone.add("real.example.org", kind, data)
    site.zone.add(HOST, "CNAME", "real.example.org")
    assert [finding.what for finding in site.look()] == [f"{HOST} is a CNAME of real.example.org"]


def test_reverse_dns_with_another_name() -> None:
    """A name that leads back but is not ours is a warning, one that does not lead back an error."""
    site = Site()
    site.zone.add("customer7.example.net", "A", "198.51.100.7")
    site.change("7.100.51.198.in-addr.arpa", "PTR", "customer7.example.net.")
    assert site.one().severity is Severity.WARNING
    site.change("7.100.51.198.in-addr.arpa", "PTR", "stranger.example.net.")
    finding = site.one()
    assert (finding.severity, finding.what) == (
        Severity.ERROR,
        "198.51.100.7 is called stranger.example.net, which is not 198.51.100.7",
    )
    assert "7.100.51.198.in-addr.arpa. IN PTR mail.example.org." in finding.mend


def test_an_mx_record_with_another_name_of_this_machine() -> None:
    """What leads to our address is ours, and a host beside ours is nobody's mistake."""
    site = Site()
    site.zone.add("mx.example.org", "A", "198.51.100.7")
    site.change("example.org", "MX", "10 mx.example.org.")
    site.change("example.org", "TXT", '"v=spf1 a:mail.example.org ~all"')
    assert site.look() == []
    site.change("example.org", "MX", "10 other.example.net.", f"20 {HOST}.")
    assert site.look() == []


@pytest.mark.parametrize(("data", "shown"), [("10 mx.example.net.", "mx.example.net"), ("0 .", "null MX")])
def test_mail_that_goes_elsewhere(data: str, shown: str) -> None:
    """A warning: it may be meant so."""
    site = Site()
    site.change("example.org", "MX", data)
    site.change("example.org", "TXT", f'"v=spf1 a:{HOST} ~all"')
    finding = site.one()
    assert (finding.severity, finding.what) == (Severity.WARNING, "mail for example.org does not come here")
    assert shown in finding.reason.text


def test_spf_in_other_words_is_right() -> None:
    """The record is evaluated, not compared."""
    site = Site()
    site.change("example.org", "TXT", '"unrelated"', '"v=spf1 ip4:198.51.100.0/24 ip6:2001:db8::/32 -all"')
    assert site.look() == []


@pytest.mark.parametrize(
    ("record", "who", "mended"),
    [
        ("v=spf1 ip4:198.51.100.7 -all", "2001:db8::7", "v=spf1 ip6:2001:db8::7 ip4:198.51.100.7 -all"),
        ("v=spf1 -all", "198.51.100.7, 2001:db8::7", "v=spf1 ip4:198.51.100.7 ip6:2001:db8::7 -all"),
        ("v=spf1", "198.51.100.7, 2001:db8::7", "v=spf1 ip4:198.51.100.7 ip6:2001:db8::7"),
    ],
)
def test_spf_that_forgets_addresses(record: str, who: str, mended: str) -> None:
    """Those that do not pass are named, with the record that lets them; who publishes it has nothing left to mend."""
    site = Site()
    site.change("example.org", "TXT", f'"{record}"')
    finding = site.one()
    assert finding.severity is Severity.ERROR
    assert finding.what == f"mail of example.org from {who} does not pass SPF"
    assert f'example.org. IN TXT "{mended}"' in finding.mend
    site.mend(finding)
    assert site.look() == []


def test_spf_with_a_mistake() -> None:
    """A misspelt mechanism makes all of it useless: one error, whatever the addresses."""
    site = Site()
    site.change("example.org", "TXT", '"v=spf1 ipv4:198.51.100.7 mx -all"')
    finding = site.one()
    assert (finding.severity, finding.what) == (Severity.ERROR, "the SPF record of example.org has a mistake")


def test_spf_that_nobody_can_evaluate() -> None:
    """A name server that does not answer for an include is a warning for each address."""
    site = Site()
    site.change("example.org", "TXT", '"v=spf1 include:other.example -all"')
    site.zone.add("other.example", "TXT", "!SERVFAIL")
    assert [finding.severity for finding in site.look()] == [Severity.WARNING] * 2


def test_two_spf_records() -> None:
    """RFC 7208 §4.5: as good as none."""
    site = Site()
    site.change("example.org", "TXT", '"v=spf1 mx ~all"', '"v=spf1 -all"')
    assert site.one().what == "example.org has 2 SPF records"


def test_another_dkim_key_in_the_dns() -> None:
    """A signature that others find wrong is an error; that of a key to come is a note."""
    site = Site(keys=[key(ed25519_pem(), "s1")])
    other = next(r.data for r in domain_records("example.org", HOST, [key(rsa_pem())]) if "k=rsa" in r.data)
    site.change("s1._domainkey.example.org", "TXT", f'"{other}"')
    assert site.one().severity is Severity.ERROR
    waiting = Site(keys=[key(rsa_pem(), "s1"), key(b"next: 2026-01-01\n" + ed25519_pem(), "s2")])
    waiting.change("s2._domainkey.example.org", "TXT")
    assert waiting.one().severity is Severity.NOTE


def test_mail_that_is_not_signed() -> None:
    """Without a key that signs there is a warning, with the command that makes or uses one."""
    assert Site(keys=[]).one().mend == "mta dkim keygen example.org"
    waiting = Site(keys=[key(b"next: 2026-01-01\n" + ed25519_pem())])
    assert waiting.one().mend == "mta dkim rotate example.org"


def test_a_policy_of_the_domain_above_counts() -> None:
    """DMARC is looked for up to the organizational domain (RFC 9989 §4.10)."""
    site = Site()
    domain = Domain("lists.example.org", "domains/lists.example.org", {}, dkim=())
    settings = Settings(HOST, directory=Directory([domain]))
    for record in domain_records("lists.example.org", HOST):
        if not record.name.startswith("_dmarc"):
            site.zone.add(record.name, record.type, f'"{record.data}"' if record.type == "TXT" else record.data)
    found = finish(check_names(ZoneResolver(site.zone), settings, OWN))
    assert [finding.what for finding in found] == ["mail of lists.example.org is not signed (DKIM)"]


@pytest.mark.parametrize(
    ("records", "severity", "what"),
    [
        (['"v=DMARC1; p=none"', '"v=DMARC1; p=reject"'], Severity.ERROR, "_dmarc.example.org has 2 policies"),
        (
            ['"v=DMARC1; p=nothing; rua=mailto:a@example.org"'],
            Severity.WARNING,
            "the DMARC policy at _dmarc.example.org has mistakes",
        ),
    ],
)
def test_a_policy_that_others_cannot_use(records: list[str], severity: Severity, what: str) -> None:
    """Two are none, and a mistake is named."""
    site = Site()
    site.change("_dmarc.example.org", "TXT", *records)
    finding = site.one()
    assert (finding.severity, finding.what) == (severity, what)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (HOST, "A"),
        ("example.org", "MX"),
        ("s1._domainkey.example.org", "TXT"),
        ("_dmarc.example.org", "TXT"),
        ("_mta-sts.example.org", "TXT"),
        ("7.100.51.198.in-addr.arpa", "PTR"),
    ],
)
def test_no_answer_is_a_warning(name: str, kind: str) -> None:
    """Nobody knows: nothing is said to be missing."""
    site = Site()
    site.change(name, kind, "!SERVFAIL")
    found = [finding for finding in site.look() if finding.what.startswith("nobody knows")]
    assert len(found) == 1
    assert found[0].severity is Severity.WARNING
    assert not any("has no" in finding.what for finding in site.look())


# The resolver


def test_name_servers_that_do_not_answer() -> None:
    """An error, and nothing more is asked."""
    site = Site()
    site.change("a.root-servers.net", "A", "!SERVFAIL")
    finding = site.one()
    assert (finding.severity, finding.check) == (Severity.ERROR, "resolver")


def test_name_servers_without_the_world() -> None:
    """In a closed network the names of ours are looked at all the same."""
    site = Site()
    del site.zone.names["a.root-servers.net"]
    site.change("_dmarc.example.org", "TXT")
    assert [finding.check for finding in site.look()] == ["resolver", "names"]


def test_name_servers_that_do_not_validate() -> None:
    """Who resolves a name whose signature is wrong believes forgeries: a note."""
    zone = Zone.parse("a.root-servers.net A 198.41.0.4\ndnssec-failed.org A 192.0.2.1\n")
    (finding,) = finish(check_resolver(ZoneResolver(zone), [SERVER]))
    assert (finding.severity, finding.what) == (Severity.NOTE, "192.0.2.53:53 does not validate DNSSEC")


# Names for tests


def test_names_that_no_dns_has_are_not_looked_for() -> None:
    """A demonstration has nothing to publish, and asks nobody."""
    settings = Settings("mx.example.test", directory=Directory([Domain("example.test", "x", {})]))
    resolver = ZoneResolver("")
    (finding,) = finish(name_checks(resolver, settings, OWN))
    assert finding.severity is Severity.NOTE
    assert resolver.asked == []


def test_a_domain_for_tests_beside_others() -> None:
    """Only that one is left out."""
    site = Site()
    domains = [*site.settings.directory.domains.values(), Domain("example.test", "x", {})]
    settings = Settings(HOST, directory=Directory(domains), dns=site.settings.dns)
    found = finish(name_checks(ZoneResolver(site.zone), settings, OWN))
    assert [finding.what for finding in found] == ["example.test is a name for tests and private networks"]


def test_special_names() -> None:
    """By their top-level label alone."""
    assert is_special("mx.corp.internal")
    assert is_special("localhost")
    assert not is_special("test.example.org")
