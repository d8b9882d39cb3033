"""What mail authentication costs: signatures and checks alone, and mx with and without them (`make bench-mailauth`).

The message is the same everywhere: 4 KiB, signed with RSA-2048 by its author domain, SPF and DMARC pass. Its records
come from a name server on loopback, and from our cache once they are known. Postfix asks OpenDKIM, which verifies the
signature and nothing else: what it does not do (SPF, DMARC, ARC, iprev) costs it nothing here.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dkim
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import defer

from mta.mailauth.canonical import BodyHashes
from mta.mailauth.dkim_sign import Signer, sign_message, want_body
from mta.mailauth.dkim_verify import DkimCheck
from mta.mailauth.keypair import generate_private_key, load_private_key, record_text
from tests.bench.bench import fresh_work_directory
from tests.bench.measure import Figures, Work, compile_tools, run, sink
from tests.bench.report import ROOT, versions
from tests.bench.servers import Running, ours, postfix
from tests.doubles.dns import ZoneResolver
from tests.doubles.sync import result
from tests.live.peers import milters
from tests.live.peers.name_server import NameServer
from tests.live.peers.process import free_ports

AUTHOR = "client.test"
HEAD = (
    f"From: <sender@{AUTHOR}>\r\nTo: <list@{AUTHOR}>\r\nSubject: benchmark message\r\n"
    f"Date: Wed, 25 Nov 2026 10:00:00 +0000\r\nMessage-ID: <benchmark@{AUTHOR}>\r\n"
).encode()
BODY = (b"x" * 72 + b"\r\n") * 52
SECONDS = 1.0
"""For each of the rates."""


class Pair:
    """One key pair, and the message signed with it."""

    def __init__(self, algorithm: str) -> None:
        self.pem = generate_private_key(algorithm)  # type: ignore[arg-type]  # one of the two words
        self.name = f"sel._domainkey.{AUTHOR}"
        self.record = record_text(self.pem)
        self._signer = Signer(AUTHOR, "sel", load_private_key(self.pem))
        self.resolver = ZoneResolver(f'{self.name} TXT "{self.record}"')
        self.message = self.sign() + HEAD + b"\r\n" + BODY

    def sign(self) -> bytes:
        """Sign as smtpd does."""
        bodies = BodyHashes()
        body = want_body(bodies)
        bodies.update(BODY)
        bodies.finish()
        return sign_message(HEAD, body, [self._signer], time.time())

    def verify(self) -> None:
        """Verify as mx does, the key at hand."""
        head, _, body = self.message.partition(b"\r\n\r\n")
        check = DkimCheck(self.resolver, head + b"\r\n", time.time())
        check.body(body)
        [checked] = result(defer.Deferred.fromCoroutine(check.finish()))
        assert checked.result.value == "pass", checked


def rate(work: Callable[[], object]) -> float:
    """How often a second."""
    work()
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        work()
        count += 1
    return count / spent


def rates() -> list[tuple[str, float, float]]:
    """Signatures and checks a second: what, ours, dkimpy; in turn in the same run."""
    rows = []
    for algorithm, name in (("rsa", b"rsa-sha256"), ("ed25519", b"ed25519-sha256")):
        pair = Pair(algorithm)
        plain = HEAD + b"\r\n" + BODY
        key = pair.pem if algorithm == "rsa" else _seed(pair.pem)
        names = [b"from", b"to", b"subject", b"date", b"message-id"]

        def theirs(key: bytes = key, name: bytes = name, names: list[bytes] = names, plain: bytes = plain) -> object:
            relaxed = (b"relaxed", b"relaxed")
            return dkim.sign(plain, b"sel", AUTHOR.encode(), key, None, relaxed, name, include_headers=names)

        def check(pair: Pair = pair) -> object:
            answer = pair.record.encode()
            assert dkim.verify(pair.message, dnsfunc=lambda *_, **__: answer)
            return None

        rows.append((f"sign {name.decode()}", rate(pair.sign), rate(theirs)))
        rows.append((f"verify {name.decode()}", rate(pair.verify), rate(check)))
    return rows


def _seed(pem: bytes) -> bytes:
    key = load_private_key(pem)
    assert isinstance(key, Ed25519PrivateKey)
    return base64.b64encode(key.private_bytes_raw())


@contextmanager
def checked(directory: Path, far: int, pair: Pair) -> Iterator[Running]:
    """Run our server so that it checks mail from loopback too."""
    port = free_ports(1)[0]
    records = [
        f"{pair.name}. TXT {_strings(pair.record)}",
        f'{AUTHOR}. TXT "v=spf1 ip4:127.0.0.1 -all"',
        f'_dmarc.{AUTHOR}. TXT "v=DMARC1; p=reject"',
        f"1.0.0.127.in-addr.arpa. PTR mx.{AUTHOR}.",
    ]
    server = NameServer(directory.with_name(f"{directory.name}-names"), port, {AUTHOR: "127.0.0.1"}, records)
    try:
        settings = {"dns": {"nameservers": [f"127.0.0.1:{port}"]}, "mailauth": {"trusted_networks": []}}
        with ours(directory, far, settings=settings) as running:
            yield running
    finally:
        server.stop()


@contextmanager
def with_opendkim(directory: Path, far: int, pair: Pair) -> Iterator[Running]:
    """Run Postfix with OpenDKIM as its milter."""
    key = milters.Key(AUTHOR)
    key.record = pair.record
    with (
        milters.verifier(directory.with_name(f"{directory.name}-opendkim"), key) as address,
        postfix(directory, far, {"smtpd_milters": address, "milter_default_action": "tempfail"}) as running,
    ):
        yield running


def _strings(record: str) -> str:
    return " ".join(f'"{record[start : start + 250]}"' for start in range(0, len(record), 250))


def main() -> None:
    """Run the rounds, print and write `docs/benchmarks-mailauth.md`."""
    parser = argparse.ArgumentParser(prog="make bench-mailauth", description="what mail authentication costs")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--messages", type=int, default=3000, help="default 3000")
    parser.add_argument("--work", type=Path, default=ROOT / "var/bench", help="directory on the disk to measure")
    options = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("bench: run it as root: Postfix changes to users of its own")
    directory = fresh_work_directory(options.work)
    directory.chmod(0o755)
    tools = compile_tools(directory)
    pair = Pair("rsa")
    content = directory / "message"
    content.write_bytes(pair.message + b".\r\n")
    work = Work("mailauth", "", options.messages, 20, content=content)
    figures: list[Figures] = []
    for number in range(1, options.rounds + 1):
        for name, start in (
            ("mta, checks off", ours),
            ("mta, checks on", lambda place, far: checked(place, far, pair)),
            ("Postfix", postfix),
            ("Postfix with OpenDKIM", lambda place, far: with_opendkim(place, far, pair)),
        ):
            place = directory / f"{number}-{len(figures)}"
            with sink(tools, directory / "taken") as far, start(place, far.port) as running:
                got = run(name, number, tools, running, far, work)
            figures.append(got)
            print(
                f"round {number}, {name:22}: {got.messages_per_second:6.0f} msgs/s, {got.cpu_ms:.2f} ms CPU", flush=True
            )
    page = markdown(rates(), figures, versions(directory))
    (ROOT / "docs/benchmarks-mailauth.md").write_text(page)
    print(page)
    shutil.rmtree(directory)


def markdown(rows: Sequence[tuple[str, float, float]], figures: Sequence[Figures], about: dict[str, str]) -> str:
    """Write the page."""
    parts = ["# What mail authentication costs", "Written by `make bench-mailauth`.", (__doc__ or "").split("\n\n")[1]]
    lines = [
        "| alone, one core, message of 4 KiB | mta, a second | dkimpy, a second | ratio |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {what} | {us:,.0f} | {them:,.0f} | {us / them:.1f} |" for what, us, them in rows]
    parts.append("\n".join(lines))
    lines = ["| mx to Maildir, 20 sessions, 20 messages each | messages/s | CPU ms a message | p99 ms |"]
    lines.append("| --- | --- | --- | --- |")
    for name in dict.fromkeys(each.server for each in figures):
        mine = [each for each in figures if each.server == name]
        rate_, cpu, p99 = (
            statistics.median(getattr(each, key) for each in mine)
            for key in ("messages_per_second", "cpu_ms", "p99_ms")
        )
        lines.append(f"| {name} | {rate_:,.0f} | {cpu:.2f} | {p99:.1f} |")
    parts.append("\n".join(lines))
    parts.append(
        "The CPU of OpenDKIM and of the name server is not in these figures: it is that of the mail server alone."
    )
    parts.append("\n".join(f"* {name}: {value}" for name, value in about.items()))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
