"""The document that a run writes: docs/mailauth-interop.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.interop.causes import CAUSES, UNEXPLAINED
from tests.interop.peers import Peer

HEAD = """\
# Mail authentication beside other implementations

Written by `make interop` (`tests/interop`, run by hand): do not edit. Each message is composed from a seed, signed by
one of the implementations, or by hand with unusual tags, then changed on its way or not; each implementation says
whether a signature holds. What is not judged alike must have a known cause, else the run fails.

Left out is what libopendkim signs with Ed25519 over a simple head: that verifies with nobody, itself included. A `we`
below is our reading of the RFC. Many of the causes are faults that no program makes: they are there to be found.

    apt-get install opendkim
    npm install --prefix var/interop mailauth
    make interop
"""


@dataclass
class Figures:
    """What came of a run."""

    judged: Counter[str] = field(default_factory=Counter)
    """Messages by kind."""
    disagree: Counter[str] = field(default_factory=Counter)
    """Those of them that not all judged alike."""
    whole: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Messages that were not changed and are sound, by kind and signer."""
    passed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Those of them that pass, by kind, signer and verifier."""
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Messages by kind and change."""
    alike: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Those of them that all judged alike."""
    held: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Those of them that we say pass."""
    causes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Verdicts that are not ours, by cause and peer."""
    alone: Counter[str] = field(default_factory=Counter)
    """Messages by cause that nobody judged as we did."""


def write(peers: Sequence[Peer], figures: Figures, seed: int) -> str:
    """Return the document."""
    names = [peer.name for peer in peers]
    parts = [HEAD, "Seed " + str(seed) + "; " + ", ".join(f"{each.name} {each.version}" for each in peers[1:]) + ".\n"]
    for kind in figures.judged:
        known = [peer.name for peer in peers if kind == "DKIM" or peer.arc]
        total, differ = figures.judged[kind], figures.disagree[kind]
        parts.append(f"## {kind}\n\n{total} messages; {differ} were not judged alike by all, for the causes below.\n")
        parts.append("Unchanged messages as SMTP carries them, and who says that they pass:\n")
        rows = [
            [signer, str(count), *(str(figures.passed[kind, signer, name]) for name in known)]
            for (of, signer), count in sorted(figures.whole.items())
            if of == kind
        ]
        parts.append(_table(["signed by", "messages", *known], rows))
        parts.append("What became of them on the way:\n")
        rows = [
            [change, str(count), str(figures.alike[kind, change]), str(figures.held[kind, change])]
            for (of, change), count in sorted(figures.changes.items())
            if of == kind
        ]
        parts.append(_table(["change", "messages", "judged alike", "pass with us"], rows))
    parts.append("## Causes\n\nVerdicts that are not ours, and messages that nobody judged as we did:\n")
    rows = []
    for each in CAUSES:
        counts = [str(figures.causes[each.text, name] or "") for name in names[1:]]
        if any(counts):
            rows.append([each.text, *counts, str(figures.alone[each.text] or ""), each.rule, each.right])
    unknown = [str(figures.causes[UNEXPLAINED, name] or "") for name in names[1:]]
    if any(unknown):
        rows.append([UNEXPLAINED, *unknown, "", "", ""])
    parts.append(_table(["cause", *names[1:], "we alone", "what the RFC says", "who is right"], rows))
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
