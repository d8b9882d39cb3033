"""``mta policy``: an administrator's own policies, tried out (docs/policies.md).

The functions are asked in a process like the daemon's, with its limits, so what goes wrong here would go wrong there.

Exit status: 0 every function answered, whatever it said; 65 the facts make no sense; 66 a file cannot be read; 70 a
function raised, took too long, or said what makes no sense; 78 the policy cannot be loaded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from twisted.internet import defer, task
from twisted.python.failure import Failure

from mta.cli.daemon import EX_CONFIG, EX_DATAERR, EX_NOINPUT, EX_SOFTWARE, examples, fail
from mta.cli.example import EXAMPLE, KNOWN_FROM, read_message
from mta.policy import facts_json, verdict_json
from mta.policy.facts import Facts, Stage
from mta.policy.script import Script
from mta.policy.script_file import ScriptFile, read_script
from mta.policy.script_process import SystemProcesses
from mta.policy.verdict import Defer, Opinion, Verdict
from mta.settings.problem import Problem
from mta.settings.script import ScriptSettings
from mta.settings.units import parse_octets
from mta.settings.values import parse_wait
from mta.smtp.address import Mailbox, parse_mailbox
from mta.smtp.reply import printable

_INTERRUPTED = 130

_STAGES = [stage.value for stage in Stage]
_FILE = click.Path(path_type=Path, dir_okay=False)
_FILE_OR_INPUT = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


class _Kind(click.ParamType):  # type: ignore[type-arg]  # click 8.1 takes no arguments
    """A value with a text form of its own."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Called by click."""
        try:
            return self._parse(value)
        except ValueError:
            self.fail(f"{value!r} is no {self.name}", param, ctx)


def _mailbox(text: str) -> Mailbox:
    found = parse_mailbox(text)
    if not isinstance(found, Mailbox):
        raise ValueError(found.value)
    return found


def _reverse_path(text: str) -> Mailbox | None:
    return None if text in ("", "<>") else _mailbox(text)


@click.group()
def policy() -> None:
    """Try out policies that you write in Python."""


@policy.command("facts", epilog=examples("mta policy facts --stage rcpt > facts.json"))
@click.option("--stage", type=click.Choice(_STAGES), default="message", show_default=True)
def facts_(stage: str) -> None:
    """Print an example of facts.

    A file for `mta policy test --facts` may begin with it.
    """
    written = facts_json.write(_at(Stage(stage), EXAMPLE), EXAMPLE.size, lines=True)
    click.echo(json.dumps(written, indent=2, ensure_ascii=False))


@policy.command(epilog=examples("mta policy test etc/policy/x.py --from a@example.net --message letter.eml"))
@click.argument("file", type=_FILE)
@click.option("--facts", "recorded", type=_FILE_OR_INPUT, help="JSON: facts, or a list of them, asked in turn.")
@click.option("--stage", type=click.Choice(_STAGES), help="Ask this function alone.")
@click.option("--service", type=click.Choice(("mx", "smtpd")), help="Who asks; mx by default.")
@click.option("--ip", "address", help="The peer's address.")
@click.option("--helo", help="What the peer calls itself.")
@click.option("--login", help="Who has logged in.")
@click.option("--from", "sender", type=_Kind("mailbox", _reverse_path), help="The reverse-path; '<>' for none.")
@click.option(
    "--to", "recipients", type=_Kind("mailbox", _mailbox), multiple=True, help="A recipient; may be repeated."
)
@click.option("--message", type=_FILE_OR_INPUT, help="A message; any line ends will do.")
@click.option("--deadline", type=_Kind("time", parse_wait), default="5s", show_default=True, help="For one answer.")
@click.option("--memory", type=_Kind("size", parse_octets), default="256M", show_default=True, help="For the process.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def test(context: click.Context, /, file: Path, stage: str | None, **options: Any) -> None:
    """Ask the functions of FILE, and print what each says and why.

    Without --stage all of them are asked, in the order of the stages. Facts of a file are asked at their own stage;
    what other options say is put over them.
    """
    problems: list[Problem] = []
    script = read_script(str(file), problems)
    if script is None:
        missing = EX_CONFIG if file.exists() else EX_NOINPUT
        fail("\n".join(map(str, problems)), missing)
    names = {each.name for each in fields(Facts)} & options.keys()
    given = {name: options[name] for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if options["message"]:
        given |= read_message(_octets(options["message"]))
    asked = list(_questions(script, options["recorded"], Stage(stage) if stage else None, given))
    if not asked:
        fail(f"{file} has no function for the stage of these facts", EX_DATAERR)
    settings = ScriptSettings(deadline=options["deadline"], memory=options["memory"])
    sys.exit(_Trial(script, settings, options["as_json"]).run(asked))


# Facts


def _questions(
    script: ScriptFile, recorded: Path | None, stage: Stage | None, given: dict[str, Any]
) -> Iterator[Facts]:
    """Give what is to be asked, in order."""
    if recorded is not None:
        for facts in _recorded(recorded):
            chosen = replace(facts, stage=stage or facts.stage, **given)
            if chosen.stage in script.functions:
                yield chosen
        return
    for each in Stage if stage is None else (stage,):
        if each not in script.functions:
            continue
        facts = _at(each, Facts(each, session="test", **{"address": "192.0.2.1", **given}))
        recipients: Sequence[Mailbox] = given.get("recipients", ())
        if each is Stage.RCPT:
            for number, recipient in enumerate(recipients):
                yield replace(facts, recipient=recipient, recipients=tuple(recipients[:number]))
            if recipients:
                continue
        yield facts


def _at(stage: Stage, facts: Facts) -> Facts:
    """What of `facts` is known at a stage."""
    order = list(Stage)
    defaults = Facts(stage)
    unknown = [name for later, names in KNOWN_FROM.items() if order.index(later) > order.index(stage) for name in names]
    if stage is not Stage.RCPT:
        unknown.append("recipient")
    return replace(facts, stage=stage, **{name: getattr(defaults, name) for name in unknown})


def _recorded(path: Path) -> Iterator[Facts]:
    try:
        value = json.loads(_octets(path))
        for number, each in enumerate(value if isinstance(value, list) else [value]):
            try:
                yield facts_json.read(each)
            except ValueError as error:
                where = f"facts {number + 1}: " if isinstance(value, list) else ""
                fail(f"{path}: {where}{error}", EX_DATAERR)
    except json.JSONDecodeError as error:
        fail(f"{path}:{error.lineno}: no JSON: {error.msg}", EX_DATAERR)
    except (UnicodeDecodeError, RecursionError) as error:
        fail(f"{path}: no JSON: {error}", EX_DATAERR)


def _octets(path: Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path}: {error.strerror}", EX_NOINPUT)


# Asking


class _Trial:
    """Asks one file, and prints what comes of it."""

    def __init__(self, script: ScriptFile, settings: ScriptSettings, as_json: bool) -> None:
        self._script = script
        self._settings = settings
        self._as_json = as_json
        self._printed: list[str] = []

    def run(self, asked: Sequence[Facts]) -> int:
        """Ask all; gives the exit status."""
        # A reactor of the command's own, for as long as this takes
        from twisted.internet.selectreactor import SelectReactor

        reactor: Any = SelectReactor()
        outcome: list[Any] = [_INTERRUPTED]

        def end(ended: Any) -> None:
            outcome[0] = ended
            reactor.stop()

        reactor.callWhenRunning(lambda: defer.Deferred.fromCoroutine(self._ask(reactor, asked)).addBoth(end))
        reactor.run()
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return int(outcome[0])

    async def _ask(self, reactor: Any, asked: Sequence[Facts]) -> int:
        status = 0
        script = self._started(reactor)
        for facts in asked:
            opinion = await script.ask(facts)
            # What it printed before it answered is in another pipe: two turns see to that
            for _ in range(2):
                await task.deferLater(reactor, 0)
            # A deferral alone, not in a list, is what is said for a function that gave no answer
            failed = isinstance(opinion, Defer)
            status = EX_SOFTWARE if failed else status
            self._tell(facts, opinion, failed)
            self._printed.clear()
            if failed:
                # With another process, as if nothing had been: the daemon would rest after some failures
                await script.stop()
                script = self._started(reactor)
        await script.stop()
        return status

    def _started(self, reactor: Any) -> Script:
        processes = SystemProcesses(reactor)
        return Script(self._script, self._settings, processes, reactor, lambda _, line: self._printed.append(line))

    def _tell(self, facts: Facts, opinion: Opinion, failed: bool) -> None:
        verdicts: Sequence[Verdict] = opinion if isinstance(opinion, Sequence) else [opinion] if opinion else []
        recipient = str(facts.recipient) if facts.stage is Stage.RCPT and facts.recipient else None
        if self._as_json:
            click.echo(json.dumps({
                "stage": facts.stage.value,
                "recipient": recipient,
                "failed": str(verdicts[0].reason) if failed else None,
                "verdicts": [] if failed else [verdict_json.write(each) for each in verdicts],
                "printed": self._printed,
            }))  # fmt: skip
            return
        for line in self._printed:
            _echo(f"    | {line}")
        place = f"{facts.stage.value} {recipient}" if recipient else facts.stage.value
        if failed:
            _echo(f"{place}: no answer: {verdicts[0].reason}")
        elif not verdicts:
            _echo(f"{place}: no opinion")
        else:
            for each in verdicts:
                _echo(f"{place}: {_in_words(each)}")


def _in_words(verdict: Verdict) -> str:
    """Say what a verdict decides, why where that is more, and which line made it."""
    written = verdict_json.write(verdict)
    word, reason, source = written.pop("verdict"), str(written.pop("reason")), written.pop("source")
    said = " ".join(str(value) for value in (word, *written.values()) if value is not None)
    why = "" if reason.startswith(str(word)) else f": {reason}"
    return f"{said}{why} [{source}]"


def _echo(text: str) -> None:
    click.echo(printable(text, utf8=True))
