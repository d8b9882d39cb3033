"""DKIM and ARC beside other implementations (`make interop`): what one signs all verify, and changes are judged alike.

Each message is composed from a seed, signed by one of the peers, or by hand with unusual tags, then changed or not, and
every peer says whether a signature holds. Each disagreement must be one of `tests.interop.causes`, else the run fails.
The figures go to docs/mailauth-interop.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from tests.interop.causes import UNEXPLAINED, Case, Seen, cause
from tests.interop.messages import CHANGES, compose, craft
from tests.interop.peers import Dkimpy, Keys, Mailauth, OpenDkim, Order, Ours, Peer
from tests.interop.report import Figures, write

BY_HAND = "by hand"
ROUNDS = 3
"""Hops of the longest ARC chain."""


def available(keys: Keys, directory: Path, mailauth: Path) -> list[Peer]:
    """Return who is installed, and say so."""
    found: list[Peer] = [Ours(keys), Dkimpy(keys)]
    makers: list[tuple[str, Callable[[], Peer]]] = [
        ("libopendkim", lambda: OpenDkim(keys, directory)),
        ("mailauth", lambda: Mailauth(keys, mailauth)),
    ]
    for name, make in makers:
        try:
            found.append(make())
        except OSError as missing:
            print(f"{name}: left out; {missing}", file=sys.stderr)
    for peer in found:
        print(f"{peer.name}: {peer.version}", file=sys.stderr)
    return found


def signed(random: Random, keys: Keys, peers: Sequence[Peer], count: int) -> list[Case]:
    """Compose messages and have them signed, each by one of the peers or by hand."""
    cases, orders = [], defaultdict[str, list[Order]](list)
    for _ in range(count):
        message = compose(random)
        peer = random.choice([None, *peers])
        if peer is None:
            unusual, message = craft(random, keys, message)
            cases.append(Case("DKIM", BY_HAND, unusual, message))
        else:
            selector, form = random.choice(peer.selectors), random.choice(peer.forms)
            orders[peer.name].append(Order(message, selector, form, random.random() < 0.2))
    for peer in peers:
        given = orders[peer.name]
        for order, message in zip(given, peer.sign(given) if given else (), strict=True):
            if message != order.message:
                cases.append(Case("DKIM", peer.name, order.form, message))
    return cases


def sealed(random: Random, peers: Sequence[Peer], count: int) -> list[Case]:
    """Compose messages that go from hop to hop, each sealed by one of the peers."""
    sealers = [peer for peer in peers if peer.arc]
    cases = [Case("ARC", "", "", compose(random)) for _ in range(count)]
    hops = [random.randint(1, ROUNDS) for _ in cases]
    for hop in range(ROUNDS):
        turns = defaultdict[str, list[int]](list)
        for at, wanted in enumerate(hops):
            if wanted > hop:
                turns[random.choice(sealers).name].append(at)
        for peer in sealers:
            orders = [Order(cases[at].message, status="pass" if hop else "none") for at in turns[peer.name]]
            for at, order, message in zip(turns[peer.name], orders, peer.seal(orders), strict=True):
                if message != order.message:
                    signer = f"{cases[at].signer}, {peer.name}".removeprefix(", ")
                    cases[at] = replace(cases[at], signer=signer, message=message)
    return [each for each in cases if each.signer]


def change(random: Random, cases: Iterable[Case]) -> list[Case]:
    """Let half of the messages go as they are, and change the others on their way."""
    changed = []
    for each in cases:
        name = random.choice(list(CHANGES)) if random.random() < 0.6 else "none"
        changed.append(replace(each, change=name, message=CHANGES[name](random, each.message)))
    return changed


def judge(peers: Sequence[Peer], cases: Sequence[Case], figures: Figures) -> list[tuple[Case, dict[str, str]]]:
    """Ask all peers about all cases; returns the disagreements without a known cause."""
    kind = cases[0].kind
    messages = [each.message for each in cases]
    verdicts = {
        peer.name: peer.verify(messages) if kind == "DKIM" else peer.validate(messages)
        for peer in peers
        if kind == "DKIM" or peer.arc
    }
    unknown = []
    for at, case in enumerate(cases):
        said = {name: verdict[at] for name, verdict in verdicts.items()}
        first = case.signer if kind == "DKIM" else case.signer.rpartition(", ")[2]
        figures.judged[kind] += 1
        figures.changes[kind, case.change] += 1
        figures.held[kind, case.change] += said["mta"] == "pass"
        seen = Seen(case.message)
        if case.change == "none" and case.signer != BY_HAND and seen.sound:
            figures.whole[kind, first] += 1
            for name, verdict in said.items():
                figures.passed[kind, first, name] += verdict == "pass"
        if len(set(said.values())) == 1:
            figures.alike[kind, case.change] += 1
            continue
        found = {name: cause(seen, name, verdict) for name, verdict in said.items() if verdict != said["mta"]}
        figures.disagree[kind] += 1
        for name, why in found.items():
            figures.causes[why, name] += 1
        if len(found) == len(said) - 1:
            figures.alone.update(set(found.values()))
        if UNEXPLAINED in found.values():
            unknown.append((case, said))
    return unknown


def main() -> int:
    """Run, write the report, and keep what nobody can explain."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--messages", type=int, default=4000, help="with DKIM signatures; a quarter as many with ARC")
    words.add_argument("--mailauth", type=Path, default=Path("var/interop"), help="where npm installed it")
    words.add_argument("--report", type=Path, help="the document to write")
    words.add_argument("--keep", type=Path, help="a directory for messages whose disagreement has no known cause")
    given = words.parse_args()
    random, keys, figures = Random(given.seed), Keys(), Figures()
    with tempfile.TemporaryDirectory() as directory:
        peers = available(keys, Path(directory), given.mailauth.absolute())
        unknown = []
        for cases in (signed(random, keys, peers, given.messages), sealed(random, peers, given.messages // 4)):
            unknown += judge(peers, change(random, cases), figures)
    for at, (case, said) in enumerate(unknown):
        print(f"unexplained {at}: {case.kind}, {case.signer}, {case.unusual}, {case.change}: {said}", file=sys.stderr)
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / str(at)).write_bytes(case.message)
    text = write(peers, figures, given.seed)
    if given.report:
        given.report.write_text(text)
    else:
        print(text)
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
