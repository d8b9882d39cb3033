"""`mta.mailauth.dmarc` and `dmarc_walk`: the examples of RFC 9989, its rules, and ``robustness.md`` rows 55 and 67."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer

from mta.dns.answer import Answer, RecordType
from mta.mail.reason import Reason
from mta.mailauth.dmarc import IDENTIFIERS_MAXIMUM, DmarcCheck, author_domain, evaluate
from mta.mailauth.dmarc_walk import QUESTIONS_MAXIMUM, is_within, labels, last_labels, steps
from mta.mailauth.result import Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult, Spf, SpfResult
from tests.doubles.dns import Zone, ZoneResolver
from tests.doubles.sync import failure, result

REJECT = "v=DMARC1; p=reject"


def spf(domain: str, found: SpfResult = SpfResult.PASS, identity: str = "mailfrom") -> Spf:
    """An SPF check of MAIL FROM."""
    return Spf(found, identity, domain, Reason("test"))


def dkim(domain: str, found: DkimResult = DkimResult.PASS) -> Dkim:
    """A signature."""
    return Dkim(found, domain, "s1", Reason("test"))


def zone(records: dict[str, str], hosts: str = "") -> Zone:
    """A zone with policy records by domain; a record that begins with ``!`` is a fault of TXT."""
    made = Zone.parse(hosts)
    for domain, text in records.items():
        made.add(f"_dmarc.{domain}", "TXT", text)
    return made


def head(author: str) -> bytes:
    """A head whose author is of this domain."""
    return f"From: a@{author}\r\n".encode()


def check(
    records: dict[str, str] | ZoneResolver,
    author: str,
    mail_from: Spf | None = None,
    signatures: Sequence[Dkim] = (),
    hosts: str = "",
) -> Dmarc:
    """Evaluate mail of an author domain."""
    resolver = records if isinstance(records, ZoneResolver) else ZoneResolver(zone(records, hosts))
    return result(defer.Deferred.fromCoroutine(evaluate(resolver, head(author), mail_from, signatures)))


def asked(resolver: ZoneResolver) -> list[str]:
    """The names asked for policy records."""
    return [name for name, rdtype in resolver.asked if rdtype is RecordType.TXT]


# The walk


def test_steps_of_long_name() -> None:
    """The example of §4.10: eight questions for thirteen labels."""
    assert steps("a.b.c.d.e.f.g.h.i.j.mail.example.com") == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]


def test_steps_of_zone_cut() -> None:
    """The example of §5.1.8: a record between the author domain and the last seven labels is never seen."""
    found = steps("mail.a.b.c.d.e.f.g.example.com")
    assert found[:2] == ["mail.a.b.c.d.e.f.g.example.com", "c.d.e.f.g.example.com"]
    assert "b.c.d.e.f.g.example.com" not in found
    assert len(found) == 8


@pytest.mark.parametrize(("count", "questions"), [(1, 1), (2, 2), (7, 7), (8, 8), (9, 8), (100, 8)])
def test_number_of_steps(count: int, questions: int) -> None:
    """A domain has a question for each of its labels, eight at most."""
    domain = ".".join(["x"] * count)
    found = steps(domain)
    assert len(found) == questions <= QUESTIONS_MAXIMUM
    assert found[0] == domain
    assert [labels(each) for each in found[1:]] == list(range(questions - 1, 0, -1))


@given(st.lists(st.sampled_from(["a", "bb", "c-c"]), min_size=1, max_size=20))
def test_steps_lead_up(parts: list[str]) -> None:
    """Every step is above the one before it."""
    found = steps(".".join(parts))
    for below, above in pairwise(found):
        assert is_within(below, above)
        assert below != above
    assert found[-1] == last_labels(found[0], 1)


def test_is_within_divides_at_labels() -> None:
    """A domain that only ends with the same letters is not within another."""
    assert is_within("a.example.com", "example.com")
    assert is_within("example.com", "example.com")
    assert not is_within("evilexample.com", "example.com")
    assert not is_within("com", "example.com")


# The organizational domain


@pytest.mark.parametrize(
    ("records", "start", "organizational"),
    [
        # The three examples of §4.10.2
        ({"mail.example.com": REJECT, "example.com": REJECT}, "a.mail.example.com", "example.com"),
        ({"mail.example.com": f"{REJECT}; psd=n", "example.com": REJECT}, "a.mail.example.com", "mail.example.com"),
        ({"com": f"{REJECT}; psd=y"}, "a.mail.example.com", "example.com"),
        # The example in rule 2 of §4.10.2
        ({"example.com": f"{REJECT}; psd=y"}, "mail.example.com", "mail.example.com"),
        # Appendix B.4.3
        (
            {"giant.bank.example": REJECT, "bank.example": f"{REJECT}; psd=y"},
            "giant.bank.example",
            "giant.bank.example",
        ),
        # psd=y where the walk starts makes nothing one label below it
        ({"bank.example": f"{REJECT}; psd=y", "example": REJECT}, "bank.example", "bank.example"),
        # One label below, not the record below
        ({"x.y.example.com": REJECT, "com": f"{REJECT}; psd=y"}, "x.y.example.com", "example.com"),
        # What stands above psd=n has no say
        ({"example.com": f"{REJECT}; psd=n", "com": f"{REJECT}; psd=y"}, "a.example.com", "example.com"),
        ({"example.com": f"{REJECT}; psd=u", "com": REJECT}, "a.example.com", "com"),
    ],
)
def test_organizational_domain(records: dict[str, str], start: str, organizational: str) -> None:
    """The organizational domain is selected from the longest name to the shortest (§4.10.2)."""
    assert check(records, start).organizational_domain == organizational


def test_organizational_domain_without_records() -> None:
    """Where there are no records the domain is its own organizational domain."""
    found = check({}, "a.example.com")
    assert (found.result, found.organizational_domain) == (DmarcResult.NONE, "a.example.com")
    assert "a.example.com" in found.reason.text


def test_two_records_are_none() -> None:
    """Two records at one name are as none: the walk goes on (§4.10, row 67)."""
    made = zone({"mail.example.com": "v=DMARC1; p=none", "example.com": REJECT})
    made.add("_dmarc.mail.example.com", "TXT", "v=DMARC1; p=quarantine")
    found = check(ZoneResolver(made), "mail.example.com")
    assert (found.policy_domain, found.policy) == ("example.com", DmarcPolicy.REJECT)


def test_other_text_beside_the_record() -> None:
    """Other TXT records at the name do not count."""
    made = zone({"example.com": REJECT})
    made.add("_dmarc.example.com", "TXT", "v=spf1 -all")
    assert check(ZoneResolver(made), "example.com").policy is DmarcPolicy.REJECT


# Appendix B.4


def test_simple_example() -> None:
    """B.4.1: SPF and DKIM of other domains of the organization are aligned."""
    records = {"example.com": REJECT, "signing.example.com": "v=DMARC1; p=none"}
    found = check(records, "example.com", spf("example.com"), [dkim("signing.example.com")])
    assert found.result is DmarcResult.PASS
    assert (found.spf_aligned, found.dkim_aligned) == (True, True)
    assert (found.policy_domain, found.organizational_domain) == ("example.com", "example.com")


def test_deep_example() -> None:
    """B.4.2: the policy of a long name comes from the organization, by sp or p."""
    records = {"example.com": REJECT, "signing.example.com": "v=DMARC1; p=none"}
    resolver = ZoneResolver(zone(records))
    author = "a.b.c.d.e.f.g.h.i.j.k.example.com"
    found = check(resolver, author, spf("example.com"), [dkim("signing.example.com")])
    assert found.result is DmarcResult.PASS
    assert (found.spf_aligned, found.dkim_aligned, found.policy_domain) == (True, True, "example.com")
    assert asked(resolver) == [
        "_dmarc.a.b.c.d.e.f.g.h.i.j.k.example.com",
        "_dmarc.g.h.i.j.k.example.com",
        "_dmarc.h.i.j.k.example.com",
        "_dmarc.i.j.k.example.com",
        "_dmarc.j.k.example.com",
        "_dmarc.k.example.com",
        "_dmarc.example.com",
        "_dmarc.com",
        "_dmarc.signing.example.com",
    ]


def test_public_suffix_example() -> None:
    """B.4.3: below psd=y each label is an organization of its own."""
    records = {"bank.example": "v=DMARC1; p=none; psd=y", "giant.bank.example": REJECT}
    found = check(records, "giant.bank.example", spf("mail.giant.bank.example"), [dkim("mail.mega.bank.example")])
    assert found.result is DmarcResult.PASS
    assert (found.spf_aligned, found.dkim_aligned, found.policy_domain) == (True, False, "giant.bank.example")
    assert check(records, "giant.bank.example", None, [dkim("mail.mega.bank.example")]).result is DmarcResult.FAIL


# The policy


@pytest.mark.parametrize(
    ("records", "policy", "where"),
    [
        ({"a.example.com": "v=DMARC1; p=quarantine; sp=none; np=none"}, DmarcPolicy.QUARANTINE, "a.example.com"),
        ({"a.example.com": "v=DMARC1; p=none", "example.com": REJECT}, DmarcPolicy.NONE, "a.example.com"),
        ({"example.com": REJECT}, DmarcPolicy.REJECT, "example.com"),
        ({"example.com": f"{REJECT}; sp=quarantine"}, DmarcPolicy.QUARANTINE, "example.com"),
        ({"example.com": f"{REJECT}; sp=quarantine; np=none"}, DmarcPolicy.QUARANTINE, "example.com"),
        ({"com": f"{REJECT}; sp=quarantine; psd=y"}, DmarcPolicy.QUARANTINE, "com"),
        ({"example.com": "v=DMARC1; p=none", "com": f"{REJECT}; psd=y"}, DmarcPolicy.NONE, "example.com"),
    ],
)
def test_policy(records: dict[str, str], policy: DmarcPolicy, where: str) -> None:
    """The record of the author domain, else of the organization by sp, else of the public suffix (§4.10.1)."""
    found = check(records, "a.example.com", hosts="a.example.com A 192.0.2.1")
    assert (found.result, found.policy, found.policy_domain) == (DmarcResult.FAIL, policy, where)
    assert found.published == records[where]


@pytest.mark.parametrize(
    ("hosts", "policy"),
    [
        ("", DmarcPolicy.REJECT),
        ("a.example.com A 192.0.2.1", DmarcPolicy.NONE),
        ("a.example.com TXT something", DmarcPolicy.NONE),
        ("x.a.example.com A 192.0.2.1", DmarcPolicy.NONE),
        ("a.example.com CNAME nowhere.example", DmarcPolicy.NONE),
        ("_dmarc.a.example.com TXT nothing", DmarcPolicy.NONE),
        ("_dmarc.a.example.com CNAME nowhere.example", DmarcPolicy.NONE),
    ],
)
def test_missing_subdomain(hosts: str, policy: DmarcPolicy) -> None:
    """Np is for an author domain that is NXDOMAIN (§3.2.13); any record at it or below it makes it exist."""
    found = check({"example.com": "v=DMARC1; p=none; np=reject"}, "a.example.com", hosts=hosts)
    assert (found.result, found.policy) == (DmarcResult.FAIL, policy)


def test_missing_public_suffix() -> None:
    """Np of a public suffix counts for names below it that nobody registered."""
    records = {"com": "v=DMARC1; p=none; np=reject; psd=y"}
    assert check(records, "nobody.com").policy is DmarcPolicy.REJECT


def test_existence_is_asked_only_for_np() -> None:
    """Without np, or with the same policy for both, nobody asks whether the domain exists."""
    for text in (REJECT, f"{REJECT}; sp=none", f"{REJECT}; np=reject", f"{REJECT}; sp=none; np=none"):
        resolver = ZoneResolver(zone({"example.com": text}))
        check(resolver, "a.example.com")
        assert {rdtype for _, rdtype in resolver.asked} == {RecordType.TXT}


def test_existence_unknown() -> None:
    """If nobody can say whether the domain exists, mail that fails has no policy yet; mail that passes passes."""
    records = {"example.com": "v=DMARC1; p=none; np=reject"}
    hosts = "a.example.com A !SERVFAIL"
    assert check(records, "a.example.com", hosts=hosts).result is DmarcResult.TEMPERROR
    assert check(records, "a.example.com", spf("a.example.com"), hosts=hosts).result is DmarcResult.PASS


@pytest.mark.parametrize(
    ("text", "policy", "tested"),
    [
        ("v=DMARC1; p=reject; t=y", DmarcPolicy.QUARANTINE, True),
        ("v=DMARC1; p=quarantine; t=y", DmarcPolicy.NONE, True),
        ("v=DMARC1; p=none; t=y", DmarcPolicy.NONE, False),
        ("v=DMARC1; p=reject; t=n", DmarcPolicy.REJECT, False),
        ("v=DMARC1; p=reject; pct=0", DmarcPolicy.REJECT, False),
    ],
)
def test_testing(text: str, policy: DmarcPolicy, tested: bool) -> None:
    """t=y asks for one step less (§4.7); pct is of the past."""
    found = check({"example.com": text}, "example.com")
    assert (found.result, found.policy, found.tested) == (DmarcResult.FAIL, policy, tested)


def test_record_without_policy() -> None:
    """A record without a valid policy that wants no reports is a permerror, and leaves mail alone (§4.10.1)."""
    found = check({"example.com": "v=DMARC1; p=block"}, "example.com", spf("example.com"))
    assert (found.result, found.policy, found.domain) == (DmarcResult.PERMERROR, DmarcPolicy.NONE, "example.com")
    assert "p is no policy" in found.reason.text


def test_record_without_policy_but_reports() -> None:
    """If it wants reports it is p=none."""
    found = check({"example.com": "v=DMARC1; rua=mailto:a@example.com"}, "example.com")
    assert (found.result, found.policy) == (DmarcResult.FAIL, DmarcPolicy.NONE)


# Alignment


@pytest.mark.parametrize(
    ("text", "identifier", "aligned"),
    [
        (REJECT, "example.com", True),
        (REJECT, "EXAMPLE.com.", True),
        (REJECT, "a.b.example.com", True),
        (REJECT, "example.net", False),
        (REJECT, "evilexample.com", False),
        (REJECT, "com", False),
        (REJECT, "", False),
        (REJECT, "exam ple.com", False),
        (REJECT, "x\r\n.example.com", False),
        (REJECT, "\udcff.example.com", False),
        (f"{REJECT}; adkim=s; aspf=s", "example.com", True),
        (f"{REJECT}; adkim=s; aspf=s", "a.example.com", False),
    ],
)
def test_alignment(text: str, identifier: str, aligned: bool) -> None:
    """Relaxed: the same organizational domain; strict: the same domain; case does not count (§4.4)."""
    records = {"example.com": text}
    found = check(records, "example.com", spf(identifier))
    assert found.spf_aligned is aligned
    assert found.result is (DmarcResult.PASS if aligned else DmarcResult.FAIL)
    found = check(records, "example.com", None, [dkim(identifier)])
    assert found.dkim_aligned is aligned
    assert found.result is (DmarcResult.PASS if aligned else DmarcResult.FAIL)


def test_alignment_modes_are_apart() -> None:
    """Aspf is for SPF and adkim for DKIM."""
    found = check({"example.com": f"{REJECT}; aspf=s"}, "example.com", spf("a.example.com"), [dkim("a.example.com")])
    assert (found.spf_aligned, found.dkim_aligned, found.result) == (False, True, DmarcResult.PASS)
    found = check({"example.com": f"{REJECT}; adkim=s"}, "example.com", spf("a.example.com"), [dkim("a.example.com")])
    assert (found.spf_aligned, found.dkim_aligned, found.result) == (True, False, DmarcResult.PASS)


def test_siblings_are_aligned() -> None:
    """Two domains below one organization are aligned (§4.4, table 1), unless one of them is its own."""
    records = {"example.com": REJECT}
    assert check(records, "news.example.com", spf("foo.example.com")).result is DmarcResult.PASS
    records["foo.example.com"] = f"{REJECT}; psd=n"
    assert check(records, "news.example.com", spf("foo.example.com")).result is DmarcResult.FAIL
    records = {"example.com": REJECT, "news.example.com": f"{REJECT}; psd=n"}
    assert check(records, "news.example.com", spf("example.com")).result is DmarcResult.FAIL


def test_second_signature() -> None:
    """Any aligned signature that passes is enough (§4.4.1)."""
    signatures = [dkim("list.example.net"), dkim("example.com", DkimResult.FAIL), dkim("mail.example.com")]
    found = check({"example.com": REJECT}, "example.com", spf("list.example.net"), signatures)
    assert (found.result, found.spf_aligned, found.dkim_aligned) == (DmarcResult.PASS, False, True)
    assert "DKIM vouches for mail.example.com" in found.reason.text


@pytest.mark.parametrize("found", [each for each in SpfResult if each not in (SpfResult.PASS, SpfResult.TEMPERROR)])
def test_spf_that_does_not_pass(found: SpfResult) -> None:
    """Nothing but a pass authenticates."""
    checked = check({"example.com": REJECT}, "example.com", spf("example.com", found))
    assert (checked.result, checked.spf_aligned) == (DmarcResult.FAIL, False)


@pytest.mark.parametrize("found", [each for each in DkimResult if each not in (DkimResult.PASS, DkimResult.TEMPERROR)])
def test_signature_that_does_not_pass(found: DkimResult) -> None:
    """Nothing but a pass authenticates; a signature that policy does not take is none."""
    checked = check({"example.com": REJECT}, "example.com", None, [dkim("example.com", found)])
    assert (checked.result, checked.dkim_aligned) == (DmarcResult.FAIL, False)


def test_helo_does_not_count() -> None:
    """SPF of HELO authenticates nothing (§4.4.2)."""
    assert check({"example.com": REJECT}, "example.com", spf("example.com", identity="helo")).result is DmarcResult.FAIL


def test_unaligned_pass_is_told() -> None:
    """A failure says what passed in vain, and quotes the record."""
    found = check({"example.com": REJECT}, "example.com", spf("evil.example"), [dkim("evil.example")])
    assert found.result is DmarcResult.FAIL
    assert found.reason == Reason(
        "neither SPF nor DKIM vouches for example.com; passed: SPF for evil.example, DKIM for evil.example",
        "_dmarc.example.com TXT v=DMARC1; p=reject",
    )


def test_identifiers_bounded() -> None:
    """So many domains are walked for, no more; the same domain again costs nothing."""
    resolver = ZoneResolver(zone({"example.com": REJECT}))
    signatures = [dkim(f"{number}.example.com", DkimResult.PASS) for number in range(50)]
    check(resolver, "www.example.com", None, [*signatures, *signatures])
    assert len(asked(resolver)) == 3 + IDENTIFIERS_MAXIMUM


def test_passing_identifiers_come_first() -> None:
    """The bound falls on what had no result, not on what passed."""
    doubtful = [dkim(f"{number}.example.com", DkimResult.TEMPERROR) for number in range(50)]
    found = check({"example.com": REJECT}, "www.example.com", None, [*doubtful, dkim("mail.example.com")])
    assert found.result is DmarcResult.PASS


# No answer


@pytest.mark.parametrize("where", ["a.example.com", "example.com", "com"])
def test_no_answer_in_the_way(where: str) -> None:
    """Where no record at the author domain decides, a question without answer leaves the policy unknown (§4.10.1)."""
    found = check({"example.com": REJECT, where: "!SERVFAIL"}, "a.example.com", spf("a.example.com"))
    assert (found.result, found.policy) == (DmarcResult.TEMPERROR, DmarcPolicy.NONE)
    assert "SERVFAIL" in found.reason.text


def test_no_answer_behind_the_end() -> None:
    """What stands above psd=n or psd=y is not needed."""
    records = {"example.com": f"{REJECT}; psd=n", "com": "!SERVFAIL"}
    assert check(records, "a.example.com", spf("example.com")).result is DmarcResult.PASS
    records = {"example.com": f"{REJECT}; psd=y", "com": "!SERVFAIL"}
    assert check(records, "a.example.com", spf("b.example.com")).result is DmarcResult.FAIL


def test_no_answer_above_the_author_domain() -> None:
    """With a record at the author domain, only alignment of other domains hangs on what is above."""
    records = {"example.com": REJECT, "com": "!SERVFAIL"}
    assert check(records, "example.com", spf("example.com")).result is DmarcResult.PASS
    assert check(records, "example.com", spf("a.example.com")).result is DmarcResult.TEMPERROR
    assert check(records, "example.com", spf("example.net")).result is DmarcResult.FAIL
    assert check(records, "example.com").result is DmarcResult.FAIL
    strict = {"example.com": f"{REJECT}; aspf=s", "com": "!SERVFAIL"}
    assert check(strict, "example.com", spf("a.example.com")).result is DmarcResult.FAIL


def test_forger_cannot_make_a_temperror() -> None:
    """A passing domain of the forger whose DMARC record gets no answer does not keep mail from failing."""
    records = {"bank.example": REJECT, "evil.example": "!SERVFAIL", "a.evil.example": "!SERVFAIL"}
    forged = check(records, "bank.example", spf("evil.example"), [dkim("a.evil.example")])
    assert forged.result is DmarcResult.FAIL
    forged = check(
        records, "bank.example", spf("evil.example", SpfResult.TEMPERROR), [dkim("x.y", DkimResult.TEMPERROR)]
    )
    assert forged.result is DmarcResult.FAIL


def test_no_answer_on_the_way_of_an_identifier() -> None:
    """A domain below the organization whose walk gets no answer could be aligned: temperror, unless another is."""
    records = {"example.com": REJECT, "a.example.com": "!SERVFAIL"}
    assert check(records, "example.com", spf("a.example.com")).result is DmarcResult.TEMPERROR
    assert check(records, "example.com", spf("a.example.com"), [dkim("b.example.com")]).result is DmarcResult.PASS


def test_temperror_of_an_aligned_check() -> None:
    """SPF or DKIM that would be aligned and got no answer makes a temperror, unless something else passes (§5.3.6)."""
    records = {"example.com": REJECT}
    waiting = spf("a.example.com", SpfResult.TEMPERROR)
    assert check(records, "example.com", waiting).result is DmarcResult.TEMPERROR
    assert check(records, "example.com", None, [dkim("example.com", DkimResult.TEMPERROR)]).result is (
        DmarcResult.TEMPERROR
    )
    passed = check(records, "example.com", waiting, [dkim("example.com")])
    assert (passed.result, passed.spf_aligned, passed.dkim_aligned) == (DmarcResult.PASS, False, True)


def test_signature_without_domain() -> None:
    """A signature of which nothing is known but that there was no answer may have been aligned: temperror."""
    late = Dkim(DkimResult.TEMPERROR, "", "", Reason("no answer in time"))
    found = check({"example.com": REJECT}, "example.com", spf("evil.example"), [late])
    assert (found.result, found.reason.text) == (DmarcResult.TEMPERROR, "no answer in time")
    assert check({"example.com": REJECT}, "example.com", spf("example.com"), [late]).result is DmarcResult.PASS
    unreadable = Dkim(DkimResult.PERMERROR, "", "", Reason("no d="))
    assert check({"example.com": REJECT}, "example.com", None, [unreadable]).result is DmarcResult.FAIL


# Questions


def test_questions_start_at_once() -> None:
    """The author's walk is under way when the check is made, all of it, before SPF and DKIM are known."""
    resolver = ZoneResolver("com ANY !SILENT\n_dmarc.com ANY !SILENT\n_dmarc.example.com ANY !SILENT")
    DmarcCheck(resolver, head("example.com"))
    assert asked(resolver) == ["_dmarc.example.com", "_dmarc.com"]
    assert len(resolver.silent) == 2


def test_each_name_once() -> None:
    """No name is asked for twice in one check, however many walks share it."""
    resolver = ZoneResolver(zone({"example.com": "v=DMARC1; p=none; np=reject"}))
    check(resolver, "a.b.example.com", spf("c.b.example.com"), [dkim("d.b.example.com"), dkim("c.b.example.com")])
    assert len(resolver.asked) == len(set(resolver.asked))


def test_unaligned_domains_are_not_asked_for() -> None:
    """What is not below the author's organization needs no walk."""
    resolver = ZoneResolver(zone({"example.com": REJECT}))
    check(resolver, "example.com", spf("a.b.c.evil.example"), [dkim("evil.example")])
    assert asked(resolver) == ["_dmarc.example.com", "_dmarc.com"]


def test_cancel() -> None:
    """A check that is dropped cancels its questions."""
    resolver = ZoneResolver("_dmarc.com ANY !SILENT\n_dmarc.example.com ANY !SILENT")
    cancelled = DmarcCheck(resolver, head("example.com"))
    cancelled.cancel()
    assert all(question.called for question in resolver.silent)


def test_cancel_while_finishing() -> None:
    """So does one that is cancelled while it waits."""
    resolver = ZoneResolver("_dmarc.com ANY !SILENT\n_dmarc.example.com ANY !SILENT")
    waiting = defer.Deferred.fromCoroutine(DmarcCheck(resolver, head("example.com")).finish(None, []))
    waiting.cancel()
    assert isinstance(failure(waiting), defer.CancelledError)
    assert all(question.called for question in resolver.silent)


def test_finished_before_all_answers() -> None:
    """A record that ends the walk ends the waiting too; what is still asked is cancelled."""
    made = zone({"example.com": f"{REJECT}; psd=n"}, "_dmarc.com ANY !SILENT")
    resolver = ZoneResolver(made)
    assert check(resolver, "example.com").result is DmarcResult.FAIL
    assert [question.called for question in resolver.silent] == [True]


def test_bug_is_an_exception() -> None:
    """A resolver that fails is a bug of ours, and no result."""

    class Broken(ZoneResolver):
        def query(self, name: str, rdtype: RecordType) -> defer.Deferred[Answer]:
            return defer.fail(ZeroDivisionError())

    waiting = defer.Deferred.fromCoroutine(evaluate(Broken(""), head("com"), None, []))
    assert isinstance(failure(waiting), ZeroDivisionError)


# From (row 55)


@pytest.mark.parametrize(
    ("octets", "domain"),
    [
        (b"From: a@example.com\r\n", "example.com"),
        (b"FROM : A <a@EXAMPLE.com>\r\n", "example.com"),
        (b"From:\r\n A\r\n\t<a@example.com>\r\n", "example.com"),
        (b"From: a@example.com, b@Example.com\r\n", "example.com"),
        (b'From: "x@evil.example" <a@example.com>\r\n', "example.com"),
        (b"From: (x@evil.example) a@example.com (c)\r\n", "example.com"),
        ("From: a@bücher.example\r\n".encode(), "xn--bcher-kva.example"),
        ("From: a@BÜCHER.example, b@xn--bcher-kva.example\r\n".encode(), "xn--bcher-kva.example"),
        (b"From: a@[192.0.2.1]\r\n", "[192.0.2.1]"),
        (b"From: =?utf-8?q?evil=40bank?= <a@example.com>\r\n", "example.com"),
    ],
)
def test_author_domain(octets: bytes, domain: str) -> None:
    """One defined reading: folds, case, comments and names of people do not count; U-labels become A-labels."""
    assert author_domain(octets) == domain


@pytest.mark.parametrize(
    "octets",
    [
        b"Subject: no From\r\n",
        b"From: a@example.com\r\nFrom: a@example.com\r\n",
        b"From: a@example.com\r\nfrom : b@evil.example\r\n",
        b"From: a@example.com, b@example.net\r\n",
        b"From: \r\n",
        b"From: nobody\r\n",
        b"From: <>\r\n",
        b"From: undisclosed:;\r\n",
        b"From: group: a@example.com;\r\n",
        b"From: a@example.com b@example.net\r\n",
        b"From: a@example.com <b@example.net>\r\n",
        b"From: <a@example.com\r\n",
        b"From: a@example.com>\r\n",
        b"From: a@example.com@example.net\r\n",
        b"From: <@evil.example:a@example.com>\r\n",
        b"From: a@example.com.\r\n",
        b"From: a@exam ple.com\r\n",
        b"From: a@example!x.com\r\n",
        b"From: a@" + b"x" * 64 + b".com\r\n",
        b"From: a@" + b"x." * 127 + b"com\r\n",
        b"From: =?utf-8?q?a=40example.com?=\r\n",
        b"From: a@=?utf-8?q?example.com?=\r\n",
        b"From: a@example.com\0\r\n",
        b"From: a@example.com\nFrom: b@evil.example\r\n",
        b"From: a@\xffexample.com\r\n",
        "From: a@\u2024\u2024.com\r\n".encode(),
        b"garbage\r\nFrom: a@example.com\r\n",
    ],
)
def test_author_domain_in_doubt(octets: bytes) -> None:
    """Whatever readers may take differently has no author domain: permerror, with an empty domain; nothing is asked."""
    resolver = ZoneResolver(zone({"example.com": REJECT}))
    found = result(defer.Deferred.fromCoroutine(evaluate(resolver, octets, spf("example.com"), [dkim("example.com")])))
    assert (found.result, found.domain, found.policy) == (DmarcResult.PERMERROR, "", DmarcPolicy.NONE)
    assert found.reason.text
    assert resolver.asked == []


def test_address_literal() -> None:
    """An address literal publishes no policy."""
    resolver = ZoneResolver("")
    found = check(resolver, "[192.0.2.1]", spf("example.com"))
    assert (found.result, found.domain) == (DmarcResult.NONE, "[192.0.2.1]")
    assert resolver.asked == []


def test_single_label() -> None:
    """A domain of one label has one question."""
    resolver = ZoneResolver(zone({"localhost": REJECT}))
    assert check(resolver, "localhost").policy is DmarcPolicy.REJECT
    assert asked(resolver) == ["_dmarc.localhost"]


@given(st.binary(max_size=60), st.text(max_size=30), st.text(max_size=30))
def test_any_input(octets: bytes, spf_domain: str, dkim_domain: str) -> None:
    """Whatever stands in From and comes from SPF and DKIM, there is a result."""
    resolver = ZoneResolver(zone({"example.com": REJECT}))
    for value in (octets, b"a@" + octets, b"a@example.com"):
        run = evaluate(resolver, b"From: " + value + b"\r\n", spf(spf_domain), [dkim(dkim_domain)])
        found = result(defer.Deferred.fromCoroutine(run))
        assert found.result is not DmarcResult.PASS or found.domain


@given(
    st.dictionaries(
        st.sampled_from(["com", "example.com", "a.example.com", "b.a.example.com", "c.example.com"]),
        st.sampled_from([REJECT, f"{REJECT}; psd=n", f"{REJECT}; psd=y", "!SERVFAIL", "v=DMARC1"]),
    ),
    st.sampled_from(["example.com", "a.example.com", "b.a.example.com", "x.c.example.com"]),
    st.sampled_from(["example.com", "a.example.com", "b.a.example.com", "x.c.example.com", "com", "example.net"]),
)
def test_alignment_is_that_of_two_whole_walks(records: dict[str, str], author: str, identifier: str) -> None:
    """The questions that are spared change nothing: two whole walks, where both succeed, say the same."""
    found = check(records, author, spf(identifier))
    whole = check(records, author), check(records, identifier)
    if found.result in (DmarcResult.PASS, DmarcResult.FAIL) and all(each.organizational_domain for each in whole):
        same = whole[0].organizational_domain == whole[1].organizational_domain
        assert (found.result is DmarcResult.PASS) is same
