"""`mta.mailauth.authres`, `authres_reader` and `fieldtext`: ``robustness.md`` rows 56 and 57."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.reason import Reason
from mta.mailauth import fieldtext
from mta.mailauth.authres import authentication_results, results_text
from mta.mailauth.authres_reader import (
    FIELDS_MAXIMUM,
    IDENTIFIER_MAXIMUM,
    RESULTS_MAXIMUM,
    TEXT_MAXIMUM,
    MethodResult,
    Results,
    read_results,
    without_forged,
)
from mta.mailauth.result import (
    Arc,
    ArcResult,
    Authentication,
    Dkim,
    DkimResult,
    Dmarc,
    DmarcPolicy,
    DmarcResult,
    Iprev,
    IprevResult,
    Spf,
    SpfResult,
)
from mta.message.header import fields, values
from mta.smtp.address import Mailbox

OURS = "mx.example.org"
WHY = Reason("because", "etc/mta.toml:1")
SIGNATURE = Dkim(DkimResult.PASS, "example.net", "s1", WHY, algorithm="rsa-sha256", signature="yrYc/4Wz")
ALL = Authentication(
    iprev=Iprev(IprevResult.PASS, WHY, "mx.example.net"),
    helo=Spf(SpfResult.NONE, "helo", "mx.example.net", WHY),
    spf=Spf(SpfResult.PASS, "mailfrom", "example.net", WHY),
    dkim=(SIGNATURE, replace(SIGNATURE, result=DkimResult.FAIL, selector="s2", signature="abc")),
    dmarc=Dmarc(DmarcResult.PASS, WHY, "example.net", "example.net", policy=DmarcPolicy.REJECT),
    arc=Arc(ArcResult.PASS, WHY, 1, ("example.com",)),
)


def read(octets: bytes) -> Results:
    """Read the one field that is there, which must have no more than what a field may have."""
    assert octets.endswith(b"\r\n")
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|[^\t\r\n\x20-\x7e]", octets)
    assert [field.name for field in fields(octets)] == [b"authentication-results"]
    found = read_results(values(octets, b"authentication-results")[0].decode("ascii"))
    assert found is not None
    return found


# Written


def test_all_results() -> None:
    """Each result has its method, its comment and its properties; lines are folded below 78 characters."""
    written = authentication_results(OURS, ALL, address="192.0.2.1", sender=Mailbox("alice", "example.net"))
    assert written.decode() == (
        "Authentication-Results: mx.example.org;\r\n"
        "\tiprev=pass (because) policy.iprev=192.0.2.1;\r\n"
        "\tspf=none (because) smtp.helo=mx.example.net;\r\n"
        "\tspf=pass (because) smtp.mailfrom=alice@example.net;\r\n"
        "\tdkim=pass (because) header.d=example.net header.s=s1 header.a=rsa-sha256\r\n"
        '\theader.b="yrYc/4Wz";\r\n'
        "\tdkim=fail (because) header.d=example.net header.s=s2 header.a=rsa-sha256\r\n"
        "\theader.b=abc;\r\n"
        "\tdmarc=pass (because) header.from=example.net policy.dmarc=reject;\r\n"
        "\tarc=pass (because) smtp.remote-ip=192.0.2.1 header.oldest-pass=0\r\n"
    )
    assert all(len(line) <= 78 for line in written.split(b"\r\n"))


def test_nothing_checked() -> None:
    """Where nothing was checked it says so (RFC 8601 §2.2 no-result)."""
    assert authentication_results(OURS, Authentication()) == b"Authentication-Results: mx.example.org; none\r\n"


def test_login() -> None:
    """Mail of our own users tells the login."""
    written = read(authentication_results(OURS, Authentication(login="alice@example.org")))
    assert written.results == (MethodResult("auth", "pass", (("smtp.auth", "alice@example.org"),)),)


def test_mail_from_without_sender() -> None:
    """Without the reverse-path the domain stands alone; for <> it is that of HELO (RFC 7208 §2.4)."""
    written = read(authentication_results(OURS, Authentication(spf=ALL.spf)))
    assert written.results[0].properties == (("smtp.mailfrom", "example.net"),)


def test_ipv6() -> None:
    """An address with colons is quoted."""
    written = authentication_results(OURS, Authentication(iprev=ALL.iprev), address="2001:db8::1")
    assert b'policy.iprev="2001:db8::1"' in written
    assert read(written).results[0].value("policy.iprev") == "2001:db8::1"


def test_policy_only_where_there_is_one() -> None:
    """Without a record no policy is told."""
    for dmarc in (Dmarc(DmarcResult.NONE, WHY, "example.net"), Dmarc(DmarcResult.PERMERROR, WHY)):
        properties = dict(read(authentication_results(OURS, Authentication(dmarc=dmarc))).results[0].properties)
        assert properties == ({"header.from": "example.net"} if dmarc.domain else {})


def test_nothing_to_tell() -> None:
    """A property without a value is not written."""
    unreadable = Authentication(dkim=(Dkim(DkimResult.PERMERROR, "", "", WHY),), arc=Arc(ArcResult.FAIL, WHY))
    assert [each.properties for each in read(authentication_results(OURS, unreadable)).results] == [(), ()]


def test_source_is_not_told() -> None:
    """The source of a reason may be a file of ours: it stays here."""
    assert b"mta.toml" not in authentication_results(OURS, ALL)


def test_arc_text() -> None:
    """The text for ARC-Authentication-Results is that of the field without its name."""
    field = authentication_results(OURS, ALL, address="192.0.2.1").decode()
    assert f"Authentication-Results: {results_text(OURS, ALL, address='192.0.2.1')}\r\n" == field
    assert results_text(OURS, Authentication()) == "mx.example.org; none"


def test_name_that_cannot_be_written() -> None:
    """A name of ours that no field can hold is a bug."""
    with pytest.raises(ValueError, match="authserv-id"):
        authentication_results("mx\r\n", ALL)
    with pytest.raises(ValueError, match="authserv-id"):
        authentication_results("", ALL)


EVIL = [
    'x"; dmarc=pass header.from=bank.example',
    "x; dmarc=pass",
    "x) dmarc=pass (",
    "x\r\nAuthentication-Results: mx.example.org; dmarc=pass",
    "x\0",
    "x\x7f\x1b[31m",
    "x\\",
    "\xe9.example",
    "\udcff",
    "x\u2028y",
    "x" * 5000,
    "x y",
    "(x)",
    "",
    "=?utf-8?q?x?=",
    "dmarc=pass",
]


@pytest.mark.parametrize("evil", EVIL)
def test_hostile_values(evil: str) -> None:
    """What a peer chose cannot leave its place, in any of the values (row 57): each result stands, and no more."""
    hostile = Authentication(
        iprev=Iprev(IprevResult.FAIL, Reason(evil), evil),
        helo=Spf(SpfResult.NONE, "helo", evil, Reason(evil)),
        spf=Spf(SpfResult.FAIL, "mailfrom", evil, Reason(evil), evil),
        dkim=(Dkim(DkimResult.FAIL, evil, evil, Reason(evil), evil, evil, signature=evil),),
        dmarc=Dmarc(DmarcResult.FAIL, Reason(evil), evil, evil, evil, published=evil),
        arc=Arc(ArcResult.FAIL, Reason(evil), 1, (evil,), results=(evil,)),
        login=evil,
    )
    written = authentication_results(OURS, hostile, address=evil, sender=Mailbox(evil, evil))
    found = read(written)
    assert found.authserv_id == OURS
    expected = [
        ("iprev", "fail"),
        ("spf", "none"),
        ("spf", "fail"),
        ("dkim", "fail"),
        ("dmarc", "fail"),
        ("arc", "fail"),
    ]
    if evil:
        expected.insert(0, ("auth", "pass"))
    assert [(each.method, each.result) for each in found.results] == expected
    # Values are told as they are or not at all.
    for result in found.results:
        for name, value in result.properties:
            if name not in ("policy.dmarc", "header.oldest-pass", "smtp.mailfrom"):
                assert value == evil
    # A reader that heeds no grammar is not misled by comments.
    without_quoted = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", written)
    assert b"dmarc=pass" not in without_quoted
    assert written.count(b";") - len(re.findall(rb'"[^"]*;[^"]*"', written)) <= len(expected) + 1


def test_domains_that_are_none() -> None:
    """A d= or s= that is no domain name is left out, the result stands."""
    for evil in EVIL:
        written = authentication_results(OURS, Authentication(dkim=(replace(SIGNATURE, domain=evil, selector=evil),)))
        properties = dict(read(written).results[0].properties)
        assert properties == {"header.a": "rsa-sha256", "header.b": "yrYc/4Wz"} | (
            {"header.d": evil, "header.s": evil} if evil == "x" else {}
        )


@pytest.mark.parametrize(
    ("mailbox", "written"),
    [
        (Mailbox("alice", "example.net"), "alice@example.net"),
        (Mailbox("bounce+a=b", "example.net"), '"bounce+a=b@example.net"'),
        (Mailbox('a"b c', "example.net"), '"\\"a\\\\\\"b c\\"@example.net"'),
        (Mailbox("a;b", "example.net"), '"\\"a;b\\"@example.net"'),
        (Mailbox("alice", "[192.0.2.1]"), '"alice@[192.0.2.1]"'),
        (Mailbox("ålice", "example.net"), None),
        (Mailbox("a\r\nb", "example.net"), None),
        (Mailbox("x" * 400, "example.net"), None),
    ],
)
def test_addresses(mailbox: Mailbox, written: str | None) -> None:
    """Plain mailboxes stand without quotes; what has 8-bit or controls is not written."""
    assert fieldtext.address(mailbox) == written


def test_comment() -> None:
    """In a comment nothing has a meaning outside of it; it is bounded."""
    assert " ".join(fieldtext.comment('a=b; (c) "d" \\e <f>, g\r\nh')) == "(a:b, [c] 'd' /e [f], g??h)"
    assert fieldtext.comment("  ") == []
    assert len(" ".join(fieldtext.comment("word " * 1000))) <= fieldtext.COMMENT_MAXIMUM + 2


_text = st.text(max_size=80)
_printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=80)


@given(_printable, _printable, _printable, _text, st.sampled_from(list(DkimResult)))
def test_what_is_written_is_read(login: str, algorithm: str, signature: str, reason: str, result: DkimResult) -> None:
    """Whatever printable values there are, the reader reads exactly them; whatever the reasons say, nothing more."""
    found = read(
        authentication_results(
            OURS,
            Authentication(
                dkim=(Dkim(result, "d.example", "s.x", Reason(reason), algorithm=algorithm, signature=signature),),
                login=login,
            ),
        )
    )
    assert found == Results(
        OURS,
        1,
        (
            MethodResult("auth", "pass", (("smtp.auth", login),)),
            MethodResult(
                "dkim",
                result.value,
                (
                    ("header.d", "d.example"),
                    ("header.s", "s.x"),
                    ("header.a", algorithm),
                    ("header.b", signature),
                ),
            ),
        ),
    )


@given(_text, _text, _text, _text, _text)
def test_nothing_is_injected(domain: str, local_part: str, login: str, reason: str, signature: str) -> None:
    """Whatever text comes from peers, there is one field with the results that were given."""
    hostile = Authentication(
        spf=Spf(SpfResult.FAIL, "mailfrom", domain, Reason(reason)),
        dkim=(Dkim(DkimResult.FAIL, domain, domain, Reason(reason), signature=signature),),
        login=login,
    )
    written = authentication_results(OURS, hostile, address=reason, sender=Mailbox(local_part, domain))
    results = [(each.method, each.result) for each in read(written).results]
    assert results == ([("auth", "pass")] if login else []) + [("spf", "fail"), ("dkim", "fail")]
    assert without_forged(b"From: a@b\r\n" + written, OURS) == b"From: a@b\r\n"


# Read


def results(text: str) -> list[tuple[str, str, dict[str, str]]]:
    """Method, result and properties of each result."""
    found = read_results(text)
    assert found is not None
    return [(each.method, each.result, dict(each.properties)) for each in found.results]


def test_read_examples() -> None:
    """The examples of RFC 8601 Appendix B are read."""
    assert read_results("example.org 1; none") == Results("example.org", 1, ())
    assert results("example.com; spf=pass smtp.mailfrom=example.net") == [
        ("spf", "pass", {"smtp.mailfrom": "example.net"})
    ]
    assert results(
        "example.com; auth=pass (cram-md5) smtp.auth=sender@example.net; spf=pass smtp.mailfrom=example.net"
    ) == [
        ("auth", "pass", {"smtp.auth": "sender@example.net"}),
        ("spf", "pass", {"smtp.mailfrom": "example.net"}),
    ]
    assert results('example.com; dkim=pass reason="good signature" header.i=@mail-router.example.net') == [
        ("dkim", "pass", {"header.i": "@mail-router.example.net"})
    ]
    found = read_results(
        "foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) fail"
        " policy (A dot can go here) . (like that) expired (this surprised me) = (as I wasn't expecting it) 1362471462"
    )
    assert found == Results("foo.example.net", 1, (MethodResult("dkim", "fail", (("policy.expired", "1362471462"),)),))


def test_read_reason() -> None:
    """The reason is kept apart from the properties."""
    found = read_results('x; spf=fail reason="bad; \\"very\\"" smtp.helo=y')
    assert found == Results("x", 1, (MethodResult("spf", "fail", (("smtp.helo", "y"),), 'bad; "very"'),))


def test_read_large_providers() -> None:
    """What large providers write is read, though not all of it is of the grammar."""
    assert results(
        "mx.google.com; dkim=pass header.i=@example.net header.s=s1 header.b=ab/c+d==; spf=pass (google.com: domain of"
        " a@example.net designates 192.0.2.1 as permitted sender) smtp.mailfrom=a@example.net; dmarc=pass (p=REJECT"
        " sp=REJECT dis=NONE) header.from=example.net"
    ) == [
        ("dkim", "pass", {"header.i": "@example.net", "header.s": "s1", "header.b": "ab/c+d=="}),
        ("spf", "pass", {"smtp.mailfrom": "a@example.net"}),
        ("dmarc", "pass", {"header.from": "example.net"}),
    ]
    assert results(
        "spf.protection.outlook.com 1; spf=pass (sender IP is 2001:db8::1) smtp.remote-ip=2001:db8::1; dkim=none"
        " (message not signed) header.d=none;DMARC=Pass action=none header.from=example.net;compauth=pass reason=100"
    ) == [
        ("spf", "pass", {"smtp.remote-ip": "2001:db8::1"}),
        ("dkim", "none", {"header.d": "none"}),
        ("dmarc", "pass", {"action": "none", "header.from": "example.net"}),
        ("compauth", "pass", {}),
    ]


@pytest.mark.parametrize(
    "part",
    ["", "nonsense", "=pass", "spf=", "spf pass", 'spf="pass"', '"spf"=pass', "spf/x=pass", "spf=;", "a b=pass", "@=x"],
)
def test_what_is_no_result(part: str) -> None:
    """What is no result is passed over; those beside it stand."""
    assert results(f"x; dkim=fail; {part}; dmarc=pass")[0] == ("dkim", "fail", {})
    assert ("dmarc", "pass", {}) in results(f"x; dkim=fail; {part}; dmarc=pass")
    assert not any(method == "spf" for method, _, _ in results(f"x; dkim=fail; {part}; dmarc=pass"))


def test_what_is_no_property() -> None:
    """Neither is what has no name before its equals sign a property, nor does it get the name of another."""
    assert results("x; spf=pass a.b=c =d e @=f g.h =i j.k") == [("spf", "pass", {"a.b": "c", "g.h": "i"})]


def test_comments_and_quotes_hide_results() -> None:
    """Nothing that stands in a comment or a quoted-string is a result."""
    assert results('x; spf=fail (; dmarc=pass) smtp.helo="; dmarc=pass"') == [
        ("spf", "fail", {"smtp.helo": "; dmarc=pass"})
    ]
    assert results("x; spf=fail ((; dmarc=pass) \\) ; dmarc=pass); arc=none") == [
        ("spf", "fail", {}),
        ("arc", "none", {}),
    ]


@pytest.mark.parametrize("end", ["(", "(((a)", '"', '"\\', "\x00", "\r"])
def test_text_that_breaks_off(end: str) -> None:
    """A text that cannot be read to its end gives the whole results before; the last, broken one is none."""
    assert results(f"x; spf=fail; dmarc=pass {end}") == [("spf", "fail", {})]


@pytest.mark.parametrize(
    "text", ["", ";", "; dmarc=pass", "x y; dmarc=pass", "x/1; spf=pass", '""; spf=pass', '"x"1; spf=pass', "(x"]
)
def test_no_identifier(text: str) -> None:
    """Without an identifier nothing is read."""
    assert read_results(text) is None


def test_read_bounded() -> None:
    """So many results and characters are read, no more; a property may have any number of neighbours."""
    assert len(results("x" + "; spf=pass" * (RESULTS_MAXIMUM + 10))) == RESULTS_MAXIMUM
    assert read_results("x; " + "y" * TEXT_MAXIMUM) is None


@pytest.mark.parametrize("piece", ["(", ")", "((", '"', "\\", "a=", ";", "a.b=c ", "(a)", "=", ". ", "/", "\\("])
def test_read_takes_linear_time(piece: str) -> None:
    """Long hostile texts are read, whatever they repeat: here they only must end."""
    read_results("x; " + piece * (TEXT_MAXIMUM // len(piece) - 3))
    field = b"Authentication-Results: " + piece.encode() * (500_000 // len(piece)) + b"\r\n"
    without_forged(field, OURS)


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    """Any text is read or refused."""
    for each in (text, f"x; {text}", f"x; spf=pass {text}"):
        found = read_results(each)
        assert found is None or all(result.method and result.result for result in found.results)


# Forged (row 56)

FORGED = [
    "mx.example.org; dmarc=pass",
    "MX.Example.ORG; dmarc=pass",
    "mx.example.org;dmarc=pass",
    "mx.example.org",
    "mx.example.org.; dmarc=pass",
    "mx.example.org 1; dmarc=pass",
    "mx.example.org 999; dmarc=pass",
    "mx.example.org x; dmarc=pass",
    "mx.example.org 1 1; dmarc=pass",
    "mx.example.org/1; dmarc=pass",
    "mx.example.org dmarc=pass",
    "mx.example.org, dmarc=pass",
    "mx.example.org:25; dmarc=pass",
    '"mx.example.org"; dmarc=pass',
    '"mx\\.example\\.org"; dmarc=pass',
    '" mx.example.org "; dmarc=pass',
    '"mx.example.org x"; dmarc=pass',
    '"mx."example.org; dmarc=pass',
    "(comment) mx.example.org; dmarc=pass",
    "(a (nested) one \\) ) mx.example.org (c) ; dmarc=pass",
    "\r\n\tmx.example.org;\r\n dmarc=pass",
    "\r\n (x)\r\n\t(y) mx.example.org\r\n (z) 1; dmarc=pass",
    "mx.exa\r\n mple.org; dmarc=pass",
    "mx.exa(x)mple.org; dmarc=pass",
    "mx.exa\0mple.org; dmarc=pass",
    "mx .example.org; dmarc=pass",
    "<mx.example.org>; dmarc=pass",
    "evil.example mx.example.org; dmarc=pass",
    "; mx.example.org; dmarc=pass",
    "(mx.example.org; dmarc=pass",
    '"mx.example.org; dmarc=pass',
    "=?utf-8?q?mx.example.org?=; dmarc=pass",
    "=?utf-8?b?bXguZXhhbXBsZS5vcmc=?=; dmarc=pass",
    "ｍｘ.example.org; dmarc=pass",
    "mx\u00ad.example.org; dmarc=pass",
    "mx.example.org\u00a0; dmarc=pass",
    "mx。example。org; dmarc=pass",
    "\ufeffmx.example.org; dmarc=pass",
    "\u00ad" * 2000 + "mx.example.org; dmarc=pass",
    "é é; dmarc=pass",
    "x" + "()" * 11 + "y; dmarc=pass",
    "é" * 2000 + "; dmarc=pass",
]


@pytest.mark.parametrize("name", ["Authentication-Results:", "authentication-results :", "AUTHENTICATION-RESULTS\t:"])
@pytest.mark.parametrize("value", FORGED)
def test_forged_is_removed(name: str, value: str) -> None:
    """A field of others that claims our name, in any spelling, is removed with its folds; nothing else is."""
    before = b"Received: from x\r\n by y\r\n"
    after = b"From: a@example.net\r\nsubject :  mx.example.org\r\n"
    forged = f"{name} {value}\r\n".encode()
    assert without_forged(before + forged + after, OURS) == before + after
    assert without_forged(forged + after, OURS) == after
    assert without_forged(before + forged, OURS) == before
    assert without_forged(forged, OURS) == b""


@pytest.mark.parametrize(
    "value",
    [
        "mx.example.net; dmarc=pass",
        "x.mx.example.org; dmarc=pass",
        "example.org; dmarc=pass",
        "xmx.example.org; dmarc=pass",
        "mx.example.org.example.net; dmarc=pass",
        "mx.example.net; spf=pass (received by mx.example.org) smtp.helo=mx.example.org",
        "(mx.example.org) mx.example.net; dmarc=pass",
        "bücher.example; dmarc=pass",
        "not of the grammar at all",
        "",
    ],
)
def test_fields_of_others_stay(value: str) -> None:
    """Fields of others stay; the head comes back as the same object."""
    head = f"Authentication-Results: {value}\r\nFrom: a@example.net\r\n".encode()
    assert without_forged(head, OURS) is head


def test_only_that_field() -> None:
    """Other fields with our name stay: ARC's is sealed, and the others are nobody's business."""
    head = (
        b"ARC-Authentication-Results: i=1; mx.example.org; dmarc=pass\r\n"
        b"X-Authentication-Results: mx.example.org; dmarc=pass\r\n"
        b"Subject: Authentication-Results: mx.example.org\r\n"
        b" Authentication-Results: mx.example.org\r\n"
    )
    assert without_forged(head, OURS) is head


def test_u_label_of_ours() -> None:
    """A name of ours in U-labels is found by its A-labels, and the other way round."""
    for ours in ("bücher.example", "xn--bcher-kva.example"):
        for claimed in ("bücher.example", "BÜCHER.example", "xn--bcher-kva.example"):
            assert without_forged(f"Authentication-Results: {claimed}; dmarc=pass\r\n".encode(), ours) == b""


def test_many_fields() -> None:
    """Of so many, those with our name are removed; behind them all are."""
    field = b"Authentication-Results: mx.example.%s; dmarc=pass\r\n"
    pairs = FIELDS_MAXIMUM // 2
    assert without_forged((field % b"org" + field % b"net") * pairs, OURS) == field % b"net" * pairs
    assert without_forged((field % b"org" + field % b"net") * 5000, OURS) == field % b"net" * pairs
    others = field % b"net" * FIELDS_MAXIMUM
    assert without_forged(others, OURS) is others


def test_identifier_far_behind() -> None:
    """An identifier behind a long comment is not looked for: such a field goes if our name is in it."""
    far = f"Authentication-Results: ({'x' * IDENTIFIER_MAXIMUM}) mx.example.%s; dmarc=pass\r\n".encode()
    assert without_forged(far % b"org", OURS) == b""
    assert without_forged(far % b"net", OURS) == far % b"net"
    long = b"Authentication-Results: mx.example." + b"net" * IDENTIFIER_MAXIMUM + b".mx.example.org; dmarc=pass\r\n"
    assert without_forged(long, OURS) == b""
    cut = f"Authentication-Results: {'mx.example.org':>{IDENTIFIER_MAXIMUM}}; dmarc=pass\r\n".encode()
    assert without_forged(cut, OURS) == b""


@given(st.lists(st.sampled_from([*FORGED, "mx.example.net; spf=pass", "x", "(", "\r\n y"]), max_size=6), st.binary())
def test_octets_of_others_stay(claims: list[str], octets: bytes) -> None:
    """Whatever stands between, no octet of another field is lost or moved."""
    others = b"X: " + octets.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n"
    head = b"".join(f"Authentication-Results: {claim}\r\n".encode() + others for claim in claims)
    kept = without_forged(head, OURS)
    forged = [claim for claim in claims if claim in FORGED]
    assert kept.count(others) == head.count(others)
    assert len(kept) == len(head) - sum(len(f"Authentication-Results: {claim}\r\n".encode()) for claim in forged)
    assert without_forged(kept, OURS) is kept
