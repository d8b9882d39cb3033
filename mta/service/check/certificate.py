"""Our certificate: whether it can be used, for how long, for which names, and who vouches for it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL, crypto

from mta.service.check.finding import Finding, error, note, warning
from mta.settings.problem import SettingsRefused
from mta.settings.sections import Settings
from mta.tls.certificate import read_identity

CERTIFICATE = "certificate"
_SOON_DAYS = 14
"""Let's Encrypt's last 90 days and are renewed a month before their end: at 14, renewal has failed for a while."""
_NOW_DAYS = 3
_RSA_BITS = 2048
"""RFC 9325 §4.5."""
_SELF_SIGNED = 18
"""X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT (OpenSSL's x509_vfy.h)."""
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (OpenSSL's x509_vfy.h); pyOpenSSL has no name for it."""

Vouch = Callable[[Sequence[x509.Certificate]], tuple[int, str]]
"""Verifies a chain at a time within its dates; OpenSSL's error and its text, (0, "") where all is well."""


def check_certificate(settings: Settings, now: float, vouch: Vouch | None = None) -> list[Finding]:
    """Look at the files of ``[tls]`` at wall time `now`."""
    tls = settings.tls
    if not tls.certificate:
        why = "without one others send us mail in clear text, and nobody can log in"
        mend = '[tls] certificate = "tls/certificate.pem", key = "tls/key.pem"'
        return [warning(CERTIFICATE, "there is no certificate", why, f"{settings.path}: [tls] certificate", mend)]
    try:
        identity = read_identity(tls.certificate, tls.key)
    except SettingsRefused as refused:
        mend = "put a certificate and its key there"
        return [
            error(CERTIFICATE, f"{each.file}: expected {each.expected}", f"found {each.found}", each.file, mend)
            for each in refused.problems
        ]
    first = identity.certificates[0]
    found = _dates(first, tls.certificate, now, settings.hostname)
    names = host_names(first)
    if not covers(names, settings.hostname):
        shown = ", ".join(names) or "no host"
        why = f"it names {shown}; those who check names do not send here or log in"
        what = f"the certificate is not one for {settings.hostname}"
        found.append(error(CERTIFICATE, what, why, tls.certificate, _get(settings.hostname)))
    if isinstance(identity.key, rsa.RSAPrivateKey) and identity.key.key_size < _RSA_BITS:
        what = f"the key has {identity.key.key_size} bits"
        why = f"RFC 9325 §4.5 asks for {_RSA_BITS}"
        found.append(warning(CERTIFICATE, what, why, tls.key or tls.certificate, _get(settings.hostname)))
    code, text = (vouch or openssl_vouches)(identity.certificates)
    if code == _SELF_SIGNED:
        why = "mail programs warn of it or refuse it; other servers mostly take it"
        found.append(
            warning(CERTIFICATE, "the certificate is self-signed", why, tls.certificate, _get(settings.hostname))
        )
    elif code:
        why = "is the certificate of the authority between missing in the file? It belongs behind ours"
        what = f"nobody known here vouches for the certificate: {text}"
        found.append(warning(CERTIFICATE, what, why, tls.certificate, _get(settings.hostname)))
    return found


def _dates(first: x509.Certificate, file: str, now: float, hostname: str) -> list[Finding]:
    start, end = first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()
    day = f"{datetime.datetime.fromtimestamp(end, datetime.UTC):%Y-%m-%d %H:%M} UTC"
    days = (end - now) / 86400
    if now < start:
        why = "or the clock of this machine is wrong"
        return [error(CERTIFICATE, "the certificate is not valid yet", why, file, "wait, or set the clock")]
    if days <= 0:
        why = "nobody who checks certificates sends here or logs in"
        return [error(CERTIFICATE, f"the certificate expired on {day}", why, file, _get(hostname))]
    if days <= _SOON_DAYS:
        severity = error if days <= _NOW_DAYS else warning
        why = "what renews it has not done so"
        return [
            severity(CERTIFICATE, f"the certificate expires on {day}, in {days:.0f} days", why, file, _get(hostname))
        ]
    return [note(CERTIFICATE, f"the certificate is good until {day}", f"that is {days:.0f} days", file)]


def _get(hostname: str) -> str:
    return f"certbot certonly --standalone -d {hostname}, then put it into the files of [tls] (docs/check.md)"


def host_names(certificate: x509.Certificate) -> list[str]:
    """The host names of a certificate, in Subject Alternative Name alone (RFC 6125)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def covers(names: Sequence[str], hostname: str) -> bool:
    """Whether one of `names` is the host name, or has ``*`` for its first label (RFC 9525 §6.3)."""
    above = hostname.partition(".")[2]
    return hostname in names or f"*.{above}" in names


def openssl_vouches(chain: Sequence[x509.Certificate]) -> tuple[int, str]:
    """Verify a chain with the authorities that this system knows; dates are judged elsewhere."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_default_verify_paths()
    store = context.get_cert_store()
    assert store is not None, "a context has a store"
    store.set_flags(_NO_CHECK_TIME)
    ours, *others = (crypto.X509.from_cryptography(certificate) for certificate in chain)
    try:
        crypto.X509StoreContext(store, ours, others).verify_certificate()
    except crypto.X509StoreContextError as fault:
        code, _, text = fault.errors
        return int(code), str(text)
    return 0, ""
