"""The field Authentication-Results, as we write it (RFC 8601 §2.2).

::

    Authentication-Results: mx.example.org;
            iprev=pass (192.0.2.1 is mx.example.net, ...) policy.iprev=192.0.2.1;
            spf=pass (...) smtp.mailfrom=alice@example.net;
            dkim=pass (...) header.d=example.net header.s=s1 header.a=rsa-sha256 header.b="yrYc/4Wz";
            dmarc=pass (...) header.from=example.net policy.dmarc=none

=========  ==========================================================================  ================================
method     properties                                                                  registered by
=========  ==========================================================================  ================================
auth       ``smtp.auth``                                                               RFC 8601 §2.7.4
iprev      ``policy.iprev``                                                            RFC 8601 §2.7.3
spf        ``smtp.helo``; ``smtp.mailfrom``, the domain alone unless all is ASCII      RFC 8601 §2.7.2
dkim       ``header.d``, ``header.s``, ``header.a``, ``header.b``                      RFC 8601 §2.7.1, RFC 6008
dmarc      ``header.from``, ``policy.dmarc``: the policy after ``sp``, ``np``, ``t``   RFC 9989 §9.1
arc        ``smtp.remote-ip``, ``header.oldest-pass``                                  RFC 8617 §10.1
=========  ==========================================================================  ================================

What a peer chose cannot leave its place (`mta.mailauth.fieldtext`): a domain or selector that is none, a value with a
control character or in 8-bit is left out, and the result stands without it. The reason of each result is its comment,
without its source, which may be a file of ours. No version is written: it is that of RFC 8601 then (§2.5).
"""

from __future__ import annotations

from collections.abc import Iterator

from mta.mail.reason import Reason
from mta.mailauth import fieldtext
from mta.mailauth.result import Arc, ArcResult, Authentication, Dkim, Dmarc, Iprev, Spf
from mta.message.header import folded
from mta.smtp.address import Mailbox


def authentication_results(
    authserv_id: str, authentication: Authentication, *, address: str = "", sender: Mailbox | None = None
) -> bytes:
    """Make the field, with its CRLF.

    `authserv_id` is our name; `address` the IP address of the peer, as text; `sender` the reverse-path, if
    ``smtp.mailfrom`` shall say all of it. Of fields of others, those with our name must have been removed
    (`mta.mailauth.authres_reader.without_forged`).
    """
    return _field(f"Authentication-Results: {_name(authserv_id)}", authentication, address, sender)


def results_text(
    authserv_id: str, authentication: Authentication, *, address: str = "", sender: Mailbox | None = None
) -> str:
    """Make what stands behind ``i=1;`` in ARC-Authentication-Results (RFC 8617 §4.1.1), folded, without a CRLF."""
    return _field(_name(authserv_id), authentication, address, sender).decode("ascii").removesuffix("\r\n")


def _field(start: str, authentication: Authentication, address: str, sender: Mailbox | None) -> bytes:
    lines = [["\t" + words[0], *words[1:]] for words in _results(authentication, address, sender)]
    if not lines:
        return f"{start}; none\r\n".encode("ascii")
    for line in lines[:-1]:
        line[-1] += ";"
    return ("\r\n".join([f"{start};", *map(folded, lines)]) + "\r\n").encode("ascii")


def _name(authserv_id: str) -> str:
    written = fieldtext.value(authserv_id)
    if not authserv_id or not written:
        raise ValueError(f"no authserv-id: {authserv_id!r}")
    return written


def _results(authentication: Authentication, address: str, sender: Mailbox | None) -> Iterator[list[str]]:
    """The words of each result."""
    if authentication.login:
        yield ["auth=pass", *_property("smtp.auth", fieldtext.value(authentication.login))]
    if authentication.iprev:
        yield _iprev(authentication.iprev, address)
    if authentication.helo:
        yield _spf(authentication.helo, None)
    if authentication.spf:
        yield _spf(authentication.spf, sender)
    for signature in authentication.dkim:
        yield _dkim(signature)
    if authentication.dmarc:
        yield _dmarc(authentication.dmarc)
    if authentication.arc:
        yield _arc(authentication.arc, address)


def _iprev(iprev: Iprev, address: str) -> list[str]:
    return [*_result("iprev", iprev.result.value, iprev.reason), *_property("policy.iprev", fieldtext.value(address))]


def _spf(spf: Spf, sender: Mailbox | None) -> list[str]:
    words = _result("spf", spf.result.value, spf.reason)
    domain = fieldtext.domain_name(spf.domain)
    if spf.identity == "helo":
        return [*words, *_property("smtp.helo", domain)]
    written = fieldtext.address(sender) if sender else None
    return [*words, *_property("smtp.mailfrom", written or domain)]


def _dkim(signature: Dkim) -> list[str]:
    return [
        *_result("dkim", signature.result.value, signature.reason),
        *_property("header.d", fieldtext.domain_name(signature.domain)),
        *_property("header.s", fieldtext.domain_name(signature.selector)),
        *_property("header.a", fieldtext.value(signature.algorithm)),
        *_property("header.b", fieldtext.value(signature.signature)),
    ]


def _dmarc(dmarc: Dmarc) -> list[str]:
    words = _result("dmarc", dmarc.result.value, dmarc.reason)
    words += _property("header.from", fieldtext.domain_name(dmarc.domain))
    return [*words, *_property("policy.dmarc", dmarc.policy.value if dmarc.policy_domain else "")]


def _arc(arc: Arc, address: str) -> list[str]:
    words = _result("arc", arc.result.value, arc.reason)
    words += _property("smtp.remote-ip", fieldtext.value(address))
    return [*words, *_property("header.oldest-pass", str(arc.oldest_pass) if arc.result is ArcResult.PASS else "")]


def _result(method: str, result: str, reason: Reason) -> list[str]:
    return [f"{method}={result}", *fieldtext.comment(reason.text)]


def _property(name: str, written: str | None) -> list[str]:
    """One property; none where there is nothing to say, or nothing that can be written."""
    return [f"{name}={written}"] if written and written != '""' else []
