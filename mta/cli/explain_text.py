"""An explanation for people: what was said, by whom it was decided, and where the message goes.

A rule that had no opinion is named in one line with the others like it; what decides stands on a line of its own, with
the file and line that it stands in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from mta.cli.page import Page, columns
from mta.observe.event import Event, Kind
from mta.observe.log import harmless
from mta.observe.story import Story, addresses, with_session
from mta.observe.telling import Mood, count, duration, mailbox, octets

TIMES_SHOWN = 6
"""Attempts of the schedule that are told; the others come at the longest interval."""

_OUTCOMES = {
    "accepted": ("The message would be accepted.", Mood.GOOD),
    "discarded": ("The client would be told that the message is accepted, and it would be discarded.", Mood.BAD),
    "deferred": ("The client would be told to try again.", Mood.SLOW),
    "refused": ("The message would be refused.", Mood.BAD),
}
_STAGES = {"connect": "(connects)", "message": "(the message)"}
_DECISION = {
    Kind.MESSAGE_CHECKED,
    Kind.MESSAGE_ACCEPTED,
    Kind.MESSAGE_DISCARDED,
    Kind.MESSAGE_REFUSED,
    Kind.POLICY_SAID,
}
_MOODS = {"maildir": Mood.GOOD, "remote": Mood.GOOD, "held": Mood.SLOW, "waits": Mood.SLOW}


class Text:
    """Prints."""

    def __init__(self) -> None:
        self._page = Page(time.time, columns())

    def letter(self, explained: Mapping[str, Any]) -> None:
        """Print what would become of a letter."""
        client, service, sender = explained["address"], explained["service"], explained["sender"]
        click.echo(harmless(f"A letter from {mailbox(sender)}, brought to {service} by {client}"))
        click.echo()
        for step in explained["steps"]:
            self._step(step)
        self._checks(explained["checks"])
        if explained["sample"] and any(step["stage"] == "message" for step in explained["steps"]):
            self._page.line(
                "", "The message is a sample, without a signature: say FILE to have yours judged.", faint=True
            )
        click.echo()
        text, mood = _OUTCOMES[explained["outcome"]]
        left_out = [step["command"] for step in explained["steps"] if step["stage"] == "rcpt" and _negative(step)]
        if explained["outcome"] == "accepted" and left_out:
            names = ", ".join(command.partition("<")[2].rpartition(">")[0] for command in left_out)
            text, mood = f"The message would be accepted, but not for {names}: see RCPT above.", Mood.SLOW
        decided = _decided(explained)
        if decided is not None:
            text = f"{text} {decided['rule']} decides that: {decided['reason']}{_where(decided)}"
        self._page.line("", harmless(text), mood)
        self.ahead(explained)

    def decided(self, queue_id: str, events: Sequence[Event], of_session: Sequence[Event]) -> None:
        """Print what was decided of a message when it came."""
        if not events:
            return
        story = _story(queue_id, events)
        self._page.title(f"Message {queue_id}", story.began)
        self._page.line("  ", addresses(story))
        self._page.events([event for event in with_session(story, of_session) if event.kind in _DECISION])

    def ended(self, queue_id: str, events: Sequence[Event]) -> None:
        """Print that nothing follows."""
        story = _story(queue_id, events)
        self._page.line("", f"Nothing lies ahead of it here: {story.outcome()}", story.mood)

    # The session

    def _step(self, step: Mapping[str, Any]) -> None:
        command = _STAGES.get(step["stage"]) or step["command"]
        refused = step["reply"][:1] in ("4", "5")
        click.echo(click.style(harmless(command), bold=True))
        self._page.line("  ", harmless(_reply(step["reply"])), Mood.BAD if refused else Mood.PLAIN)
        silent = list(dict.fromkeys(each["rule"] for each in step["asked"] if _is_silent(each)))
        for each in step["asked"]:
            if not _is_silent(each):
                self._rule(each, step)
        decided = step["decided"]
        if decided and not any(_same(each, decided) for each in step["asked"]):
            self._rule({"answer": "refuse", **decided}, step)
        if silent:
            self._page.line("     ", f"no opinion: {', '.join(map(harmless, silent))}", faint=True)
        if step["unasked"]:
            self._page.line("     ", f"not asked any more: {', '.join(map(harmless, step['unasked']))}", faint=True)
        if step.get("tree") and step["tree"]["below"]:
            self._tree(step["tree"], "     ")

    def _rule(self, said: Mapping[str, Any], step: Mapping[str, Any]) -> None:
        decided = step["decided"]
        mark = "=>" if decided and _same(said, decided) else "  "
        what = f" {said['what']}" if said.get("what") and said["what"] not in step["reply"] else ""
        text = f"{said['rule']}: {said['answer']}{what}: {said['reason']}{_where(said)}"
        self._page.line(f"  {mark} ", harmless(text))

    def _tree(self, tree: Mapping[str, Any], lead: str) -> None:
        self._page.line(lead, harmless(f"{tree['name']}{_source(tree['source'])}"))
        for below in tree["below"]:
            self._tree(below, lead + "  ")

    def _checks(self, checks: Mapping[str, Any]) -> None:
        if checks:
            click.echo(click.style("Whose mail it is", bold=True))
        for name, said in checks.items():
            self._page.line("  ", harmless(f"{name:5}  {said}"))

    # What lies ahead

    def ahead(self, explained: Mapping[str, Any]) -> None:
        """Print where copies end, and what limits and times hold for them."""
        if explained["recipients"]:
            click.echo()
            click.echo(click.style("Where it goes", bold=True))
        for place in explained["recipients"]:
            self._place(place, "  ")
        if explained["limits"]:
            click.echo()
            click.echo(click.style("Limits in force", bold=True))
        for limit in explained["limits"]:
            self._limit(limit)
        elsewhere = [place for place in explained["recipients"] if place["place"] in ("remote", "waits")]
        if elsewhere:
            click.echo()
            self._schedule(elsewhere[0].get("schedule") or explained["schedule"], explained.get("expires"))

    def _place(self, place: Mapping[str, Any], lead: str) -> None:
        named = f" (for {place['named']})" if place["named"] != place["recipient"] else ""
        where = _PLACES[place["place"]].format(**place)
        text = f"{place['recipient']}{named}: {where}{place['reason']}{_source(place['source'])}"
        self._page.line(lead, harmless(text), _MOODS.get(place["place"], Mood.BAD))
        for each in place.get("asked", ()):
            if not _is_silent(each):
                self._page.line(lead + "  ", harmless(f"{each['rule']}: {each['answer']}: {each['reason']}"))
        for host in place.get("route", ()):
            self._page.line(lead + "  ", harmless(_host(host)))
        for each in place.get("report", ()):
            self._place(each, lead + "  ")
        if place.get("state") == "waiting":
            self._page.line(lead + "  ", harmless(self._waiting(place)))

    def _waiting(self, place: Mapping[str, Any]) -> str:
        attempts = f"after {count(place['attempts'], 'attempt')}" if place["attempts"] else "the first one"
        last = f"; last: {place['last']}" if place["last"] else ""
        return f"next attempt {self._page.date(place['due'])}, {attempts}{last}"

    def _limit(self, limit: Mapping[str, Any]) -> None:
        size = limit["limit"].startswith("octets")
        value = octets(limit["value"]) if size else f"{limit['value']:g}"
        what = limit["limit"].removeprefix("octets of ") if size else limit["limit"]
        now = f", {limit['now']:g} now" if limit["now"] is not None else ""
        waiting = f", {limit['waiting']} waiting" if limit.get("waiting") else ""
        rests = f", which rests for {duration(limit['rests'])}" if limit.get("rests") else ""
        self._page.line("  ", harmless(f"{what}: {value}{now}{waiting}{rests}{_key(limit)}"))

    def _schedule(self, schedule: Mapping[str, Any], expires: float | None) -> None:
        times = schedule["again_after"]
        told = ", ".join(duration(at) for at in times[:TIMES_SHOWN])
        longest = times[-1] - times[-2] if len(times) > 1 else 0
        more = f" and then every {duration(longest)}" if len(times) > TIMES_SHOWN else ""
        heading = "If it is not taken elsewhere at once" if expires is None else "If the next attempt fails"
        click.echo(click.style(heading, bold=True))
        jitter = f", each earlier or later by up to {schedule['jitter']:.0%}" if schedule["jitter"] else ""
        self._page.line("  ", f"tried again after {told}{more}{jitter} (queue.first_retry, longest_retry, jitter)")
        self._page.line("  ", f"the sender is told after {duration(schedule['warn_after'])} (queue.warn_after)")
        end = f"after {duration(schedule['lifetime'])}" if expires is None else f"on {self._page.date(expires)}"
        self._page.line("  ", f"returned to the sender {end} (queue.lifetime)")


def _negative(step: Mapping[str, Any]) -> bool:
    return str(step["reply"])[:1] in ("4", "5")


def _story(queue_id: str, events: Sequence[Event]) -> Story:
    story = Story(queue_id)
    for event in events:
        story.add(event)
    return story


_PLACES = {
    "maildir": "{path}, ",
    "remote": "",
    "waits": "waits, ",
    "held": "held until it is released, ",
    "report": "fails with {status}, and the sender gets a report: ",
    "ended": "ends here, ",
}


def _host(host: Mapping[str, Any]) -> str:
    preference = f"MX {host['preference']} " if host["preference"] is not None else ""
    login = f", logging in as {host['login']}" if host["login"] else ""
    tls = f"; TLS {host['tls']}: {host['tls_reason']}{_source(host['tls_source'])}"
    return f"{preference}{host['host']} ({', '.join(host['addresses'])}), port {host['port']}{login}{tls}"


def _same(said: Mapping[str, Any], decided: Mapping[str, Any]) -> bool:
    return all(said[key] == decided[key] for key in ("rule", "reason", "source"))


def _is_silent(said: Mapping[str, Any]) -> bool:
    return bool(said["reason"] == said["answer"] == "no opinion")


def _decided(explained: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What decided the outcome, where the message is not accepted."""
    digits = {"deferred": "4", "refused": "5", "discarded": "2"}.get(explained["outcome"], "-")
    steps = [step for step in explained["steps"] if step["reply"].startswith(digits) and step["decided"]]
    decided: Mapping[str, Any] | None = steps[-1]["decided"] if steps else None
    return decided


def _key(limit: Mapping[str, Any]) -> str:
    """The key that sets a limit, and where it stands."""
    key = limit["source"].replace("[", "").replace("] ", ".")
    return f" ({key}, {limit.get('at') or 'the default'})"


def _reply(wire: str) -> str:
    """A reply in one line."""
    lines = wire.splitlines()
    if not lines:
        return "(the connection ends)"
    return f"{lines[-1][:3]} {', '.join(line[4:] for line in lines)}"


def _where(said: Mapping[str, Any]) -> str:
    """What decided, and where that stands."""
    source, at = said["source"], said.get("at", "")
    return _source(f"{source} at {at}" if at and source and at != source else at or source)


def _source(source: str) -> str:
    return f" [{source}]" if source else ""
