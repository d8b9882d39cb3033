"""What `mta queue` prints for people, from the answers of `mta.service.operator.queue`.

Whatever came from outside, addresses and replies, is made harmless for a terminal here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from mta.observe.log import harmless
from mta.observe.telling import duration
from mta.settings.expansion import LOCAL

_WORDS = {"waiting": "waiting", "active": "being delivered", "held": "held"}
_DESTINATION_WIDTH = 40
"""Characters of a destination's column, at most; a longer name moves its line."""
_OLDEST_WIDTH, _NEXT_WIDTH = len("23 h 59 min"), len("in 23 h 59 min")


def when(wall: float) -> str:
    """Say a wall time, with the zone of whoever looks."""
    return f"{datetime.fromtimestamp(wall).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def amount(number: int, word: str) -> str:
    """Say how many there are of something."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def destination(name: str) -> str:
    """Say where mail goes."""
    return "mailboxes here" if name == LOCAL else "smart host" if name == "*" else harmless(name)


def summary(answer: Mapping[str, Any], now: float) -> Iterator[str]:
    """Say how much is in the queue, and where it goes."""
    if not answer["messages"]:
        yield "The queue is empty."
        return
    states, largest = answer["states"], answer["largest"]
    parts = ", ".join(f"{states[state]:,} {word}" for state, word in _WORDS.items() if states[state])
    yield (
        f"{amount(answer['messages'], 'message')} for {amount(sum(states.values()), 'recipient')}: {parts}. "
        f"The oldest came {duration(now - min(answer['oldest']))} ago."
    )
    yield ""
    names = {name: destination(name) for name in largest}
    width = min(max(map(len, [*names.values(), "destination"])), _DESTINATION_WIDTH)
    last = "why most of them wait"
    yield f"{'destination':{width}}  recipients  {'oldest':{_OLDEST_WIDTH}}  {'next attempt':{_NEXT_WIDTH}}  {last}"
    ordered = sorted(largest.items(), key=lambda item: (-item[1]["recipients"], item[0]))
    for name, each in ordered:
        due = min(each["next"], default=None)
        later = "-" if due is None else "now" if due <= now else f"in {duration(due - now)}"
        oldest = duration(now - min(each["oldest"]))
        columns = f"{each['recipients']:>10,}  {oldest:{_OLDEST_WIDTH}}  {later:{_NEXT_WIDTH}}  {_why(each)}"
        yield f"{names[name]:{width}}  {columns}".rstrip()
    others = max(answer["destinations"]) - len(largest)
    if others > 0:
        yield f"and {amount(others, 'more destination')}: mta queue --destinations {min(1000, len(largest) + others)}"


def _why(each: Mapping[str, Any]) -> str:
    states = each["states"]
    marks = [f"{states[state]:,} {_WORDS[state]}" for state in ("active", "held") if states[state]]
    reasons = {text: count for text, count in each["reasons"].items() if text}
    most = max(reasons, key=lambda text: reasons[text], default="")
    return "; ".join([*marks, *([harmless(most)] if most else [])])


def listed(message: Mapping[str, Any], now: float) -> Iterator[str]:
    """Say a message and its recipients, a line each."""
    login = f"  login {harmless(message['login'])}" if message["login"] else ""
    yield (
        f"{message['queue_id']}  {when(message['accepted'])}  {amount(message['size'], 'octet')}  "
        f"<{harmless(message['sender'])}>{login}"
    )
    for each in message["recipients"]:
        yield f"    {each['state']:7}  {_recipient(each, now)}"
    if message["others"]:
        yield f"    and {amount(message['others'], 'other recipient')}"


def _recipient(each: Mapping[str, Any], now: float) -> str:
    why = f": {harmless(each['reason'])}" if each["reason"] else ""
    if each["state"] != "waiting":
        return f"{harmless(each['mailbox'])}{why}"
    later = f"next attempt in {duration(each['due'] - now)} ({when(each['due'])})"
    due = "due now" if each["due"] <= now else later
    tries = f", {amount(each['attempts'], 'attempt')} so far" if each["attempts"] else ""
    return f"{harmless(each['mailbox'])}, {due}{tries}{why}"


def shown(message: Mapping[str, Any], now: float) -> Iterator[str]:
    """Say all of a message."""
    service = {"mx": "from another server (mx)", "smtpd": "submitted (smtpd)", "bounce": "a report of ours"}
    yield message["queue_id"]
    fields = {
        "accepted": f"{when(message['accepted'])}, {duration(now - message['accepted'])} ago, "
        f"{service.get(message['service'], message['service'])}",
        "size": amount(message["size"], "octet"),
        "sender": f"<{harmless(message['sender'])}>",
        "login": harmless(message["login"]),
        "client": harmless(message["address"]),
        "session": harmless(message["session"]),
        "label": harmless(message["label"]),
        "envelope id": harmless(message["envid"]),
    }
    for name, value in fields.items():
        if value:
            yield f"  {name:12} {value}"
    for each in message["recipients"]:
        yield f"  {'recipient':12} {each['state']}: {_recipient(each, now)}"
        details = [f"to {destination(each['destination'])}"]
        if each["original"]:
            details.append(f"was {harmless(each['original'])}")
        if each["folder"]:
            details.append(f"into folder {harmless(each['folder'])}")
        if each["crashes"]:
            details.append(f"{amount(each['crashes'], 'attempt')} ended in the death of the server")
        if each["warned"]:
            details.append("the sender was told of the delay")
        yield f"  {'':12} {', '.join(details)}"
