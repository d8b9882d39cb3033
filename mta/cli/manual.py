"""The manual pages, made from the commands and the settings: ``python -m mta.cli.manual DIRECTORY`` (`make man`).

``mta(1)`` and a page for each command come from what click knows of them, the examples from their epilogs, the exit
statuses from the paragraph "Exit status:" of a command's module or else from the statuses that the module names.
``mta.toml(5)`` comes from the classes of the settings, as docs/settings.md does. ``mta(8)``, the daemon's, is written
here.

They are made when they are packed and not kept in the repository: nothing to forget when a command changes.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import click

from mta.cli import COMMANDS, daemon, main
from mta.cli.mdoc import arguments, escape, example, head, literal, prose
from mta.settings.reference import Table, domains_text, tables
from mta.settings.sections import DomainSettings, Settings

STATUSES: Mapping[int, str] = {
    0: "It did what was asked.",
    1: "It was interrupted, or found what it was asked to look for.",
    2: "The command line makes no sense.",
    os.EX_USAGE: "The command line makes no sense.",
    os.EX_DATAERR: "What was asked for is not there or makes no sense, or the daemon refused.",
    os.EX_NOINPUT: "A file cannot be read.",
    os.EX_NOUSER: "There is no such user.",
    os.EX_NOHOST: "There is no such host.",
    os.EX_UNAVAILABLE: "No daemon answers.",
    os.EX_SOFTWARE: "Something broke that should not.",
    os.EX_OSERR: "The system lacks something.",
    os.EX_OSFILE: "A file of the system is missing or cannot be read.",
    os.EX_CANTCREAT: "A file cannot be written.",
    os.EX_IOERR: "Reading or writing failed.",
    os.EX_TEMPFAIL: "It may work later.",
    os.EX_PROTOCOL: "Somebody did not keep to the protocol.",
    os.EX_NOPERM: "That is not allowed to who asked.",
    os.EX_CONFIG: "The configuration cannot be used.",
}
"""What an exit status means where a command does not say more (sysexits(3))."""

_METAVARS = {"INTEGER RANGE": "NUMBER", "INTEGER": "NUMBER", "FLOAT RANGE": "NUMBER", "FLOAT": "NUMBER"}
"""click's words for what stands behind an option, and ours."""

_MANY = 5
"""Choices that are too many for the line of a synopsis; they are told in the text."""

_EXTRA = re.compile(r"(.*?)((?:\s*\[[^][]*\])*)$", re.DOTALL)
"""The text of an option, and what click adds in brackets: its default, its range, that it is required."""

_ASKING = ("EX_DATAERR", "EX_UNAVAILABLE", "EX_CONFIG")
"""What `ask_daemon` ends with."""

_FILES = """\
.Bl -tag -width Ds
.It Pa /etc/mta/mta.toml
The configuration.
.It Pa /etc/mta/domains/DOMAIN/
A domain: its
.Pa users ,
.Pa aliases ,
.Pa domain.toml
and the keys in
.Pa dkim/ .
.It Pa /var/lib/mta
The state: queue, history, control socket.
.It Pa /var/mail/mta/DOMAIN/USER/Maildir
The Maildirs.
.El"""

_DAEMON = """\
.Sh NAME
.Nm mta
.Nd mail transfer agent
.Sh SYNOPSIS
.Nm twistd
.Fl Fl nodaemon
.Fl Fl pidfile=
.Cm mta
.Op Fl Fl config Ar FILE
.Sh DESCRIPTION
The daemon takes mail from other servers for the domains that are its own
.Pq port 25 ,
from people and programs that log in
.Pq ports 587 and 465 ,
keeps it in one durable queue, and delivers it to Maildirs and to other hosts.
.Pp
A reply of 250 to a message means that it is on stable storage.
Whatever is in doubt is answered 4xx, so that the sender tries again.
.Pp
It is never root: ports come from the service manager
.Pq Ql systemd:NAME No in Xr mta.toml 5
or by CAP_NET_BIND_SERVICE.
It stays in the foreground under a service manager, and writes one line for
each event to standard output or to a file.
.Pp
The options are:
.Bl -tag -width Ds
.It Fl Fl config Ar FILE , Fl c Ar FILE
The configuration; the directory
.Pa domains
lies beside it.
The default is
.Pa /etc/mta/mta.toml .
.El
.Pp
The whole configuration is read and checked before anything starts.
Where it cannot be used, each mistake is told with its file and line, and the
exit status is not 0.
.Sh SIGNALS
.Bl -tag -width SIGTERM
.It Dv SIGTERM , Dv SIGINT
Stop: no new connections; what is under way has ten seconds to end, and the
whole takes at most 34 seconds.
What was acknowledged is on the disk.
.It Dv SIGHUP
Read the configuration anew.
.Ql mta reload
does the same, and says what is wrong with it.
.El
.Sh FILES
{files}
.Sh SEE ALSO
.Xr mta 1 ,
.Xr mta.toml 5
.Sh STANDARDS
.Rs
.%T RFC 5321: Simple Mail Transfer Protocol
.Re
.Pp
.Rs
.%T RFC 6409: Message Submission for Mail
.Re
.Pp
Each part of the source opens with the sections that it follows and with what
it knowingly does not do."""


def pages(date: str) -> Iterator[tuple[str, str]]:
    """Yield the file name and the text of every page; `date` as mdoc wants it, "November 25, 2026"."""
    commands = _commands()
    yield "mta.1", _page("mta", 1, date, _overview(commands))
    for name, command in commands.items():
        yield f"mta-{name}.1", _page(f"mta-{name}", 1, date, _command(name, command, commands))
    yield "mta.toml.5", _page("mta.toml", 5, date, _settings())
    yield "mta.8", _page("mta", 8, date, iter([_DAEMON.format(files=_FILES)]))


def _page(name: str, section: int, date: str, lines: Iterator[str]) -> str:
    return "\n".join([*head(name, section, date), *lines]) + "\n"


def _commands() -> dict[str, click.Command]:
    context = click.Context(main, info_name="mta")
    found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None and not command.hidden}


def _summary(command: click.Command) -> str:
    """Return the first sentence of a command's help, without its full stop."""
    text = (command.help or command.short_help or "").partition("\f")[0]
    paragraph = " ".join(text.replace("\b", "").strip().partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph)[0].removesuffix(".")


# mta(1)


def _overview(commands: Mapping[str, click.Command]) -> Iterator[str]:
    yield from (".Sh NAME", ".Nm mta", ".Nd operate the mail server")
    yield from (".Sh SYNOPSIS", ".Nm", ".Op Fl Fl version", ".Op Fl Fl help", ".Ar COMMAND", ".Op Ar ARGUMENTS ...")
    yield ".Sh DESCRIPTION"
    yield from prose(
        "What an operator types. A command reads the files of the configuration, or asks the running daemon over its "
        "control socket. A mistake is told in one line, with a status of sysexits. Each command has `--help`. "
        "The daemon itself is another program, described in"
    )
    yield ".Xr mta 8 ."
    yield from (".Pp", "The commands are:", ".Bl -tag -width Ds")
    for name, command in commands.items():
        yield f".It Xr mta-{name} 1"
        yield from prose(_summary(command) + ".")
    yield ".El"
    yield from (".Sh FILES", _FILES)
    used = {number for name in commands for number in _statuses(name)}
    yield from _exit_statuses({number: STATUSES[number] for number in sorted(used)})
    yield from _see_also((".Xr mta.toml 5", ".Xr mta 8"))


# A command


def _command(name: str, command: click.Command, commands: Mapping[str, click.Command]) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=click.Context(main, info_name="mta"))
    yield from (".Sh NAME", f".Nm mta-{name}", f".Nd {escape(_lowered(_summary(command)).replace('`', ''))}")
    yield ".Sh SYNOPSIS"
    leaves = list(_leaves(command, context))
    for leaf, inner in leaves:
        yield from _synopsis(leaf, inner)
    yield ".Sh DESCRIPTION"
    yield from _help(command)
    if isinstance(command, click.Group):
        yield from _options(command, context)
        for leaf, inner in leaves:
            if leaf is not command:
                yield f".Ss {arguments(*_path(inner))}"
                yield from _help(leaf)
                yield from _options(leaf, inner)
    else:
        yield from _options(command, context)
    yield from _exit_statuses(_statuses(name))
    examples = [line for leaf, _ in [(command, context), *leaves] for line in _examples(leaf.epilog or "")]
    if examples:
        yield ".Sh EXAMPLES"
        yield from example(list(dict.fromkeys(examples)))
    yield from _see_also(tuple(f".Xr {each}" for each in ("mta 1", "mta.toml 5", "mta 8")))


def _lowered(text: str) -> str:
    """Begin a summary in lower case, as the index of pages has it, unless it begins with a name."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _leaves(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Yield a command, or those below it that do something."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _leaves(inner, click.Context(inner, info_name=name, parent=context))


def _path(context: click.Context) -> list[str]:
    return context.command_path.split()


def _synopsis(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f".Nm {arguments(' '.join(context.command_path.split()))}"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            names, metavar = _option(parameter, context)
            flag = f"{_flag(names[0])}{f' {_metavar(metavar)}' if metavar else ''}"
            yield f".{flag}" if parameter.required else f".Op {flag}{' ...' if parameter.multiple else ''}"
    for piece in command.collect_usage_pieces(context):
        if piece != "[OPTIONS]":
            yield _usage(piece)


def _usage(piece: str) -> str:
    """Give an argument as click's usage has it: FILE, [FILE], FILES..., [FILES]..."""
    many = piece.endswith("...")
    name = piece.removesuffix("...")
    optional = name.startswith("[") and name.endswith("]")
    words = f"Ar {arguments(name.strip('[]') if optional else name)}{' ...' if many else ''}"
    return f".Op {words}" if optional else f".{words}"


def _option(option: click.Option, context: click.Context) -> tuple[list[str], str]:
    """The names of an option, and what stands behind them."""
    names = sorted(option.opts, key=lambda name: not name.startswith("--")) + list(option.secondary_opts)
    record = option.get_help_record(context)
    left = record[0] if record else ""
    words = [word for word in re.split(r"\s+", left) if word.rstrip(",") not in (*names, "/")]
    metavar = " ".join(words)
    if metavar.count("|") >= _MANY:
        metavar = (option.name or "").upper()
    return names, _METAVARS.get(metavar, metavar)


def _flag(name: str) -> str:
    bare = name.lstrip("-")
    return f"Fl Fl {literal(bare)}" if name.startswith("--") else f"Fl {literal(bare)}"


def _metavar(text: str) -> str:
    if text.startswith("[") and "|" in text:
        return "Cm " + arguments(text.strip("[]"))
    return "Ar " + arguments(text)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    shown = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if not shown:
        return
    yield from (".Pp", "Its options:", ".Bl -tag -width Ds")
    for option in shown:
        names, metavar = _option(option, context)
        tail = f" {_metavar(metavar)}" if metavar else ""
        yield ".It " + " , ".join(f"{_flag(name)}{tail}" for name in names)
        yield from prose(_text(option, context))
    yield ".El"


def _text(option: click.Option, context: click.Context) -> str:
    """What the help says of an option; what click adds in brackets becomes sentences."""
    record = option.get_help_record(context)
    text, extra = _EXTRA.match(record[1] if record else "").groups()  # type: ignore[union-attr]  # it always matches
    if isinstance(option.type, click.Choice) and len(option.type.choices) > _MANY:
        text += " One of " + ", ".join(f"`{each}`" for each in option.type.choices) + "."
    default = re.search(r"default: ([^];]*)", extra or "")
    return f"{text} The default is `{default[1]}`.".strip() if default else text.strip()


def _help(command: click.Command) -> Iterator[str]:
    text = inspect.cleandoc((command.help or "").partition("\f")[0])
    first = True
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.startswith("\b"):
            yield from example(paragraph.lstrip("\b\n").split("\n"))
        else:
            if not first:
                yield ".Pp"
            yield from prose(paragraph)
        first = False


def _examples(epilog: str) -> list[str]:
    """The commands of an epilog: "Example: …", "Examples: …; …", or lines that click is told not to fill."""
    text = re.sub(r"^\s*\\?\x08?\s*Examples?:\s*", "", epilog.strip().replace("\b", ""))
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) == 1:
        lines = [line.strip() for line in re.split(r"; (?=mta )", lines[0])]
    return [re.sub(r"^Examples?:\s*", "", line) for line in lines]


# Exit statuses


def _statuses(name: str) -> dict[int, str]:
    """What a command may end with, from its module."""
    module = import_module(COMMANDS[name].place.partition(":")[0])
    said = re.search(r"Exit status[^:.]*: (.*?)(?:\n\n|$)", inspect.getdoc(module) or "", re.DOTALL)
    if said:
        pieces = re.findall(r"(?:^|[;,] )(\d+) (.*?)(?=[;,] \d+ |$)", " ".join(said[1].split()).removesuffix("."))
        found = {int(number): text[:1].upper() + text[1:] + "." for number, text in pieces}
        return {0: STATUSES[0], 2: STATUSES[2]} | found
    source = inspect.getsource(module)
    names = set(re.findall(r"\bEX_[A-Z]+\b", source)) | (set(_ASKING) if "ask_daemon" in source else set())
    numbers = {getattr(daemon, each) for each in names if hasattr(daemon, each)}
    return {number: STATUSES[number] for number in sorted({0, 2} | numbers)}


def _exit_statuses(statuses: Mapping[int, str]) -> Iterator[str]:
    yield from (".Sh EXIT STATUS", ".Bl -tag -width Ds")
    for number, text in sorted(statuses.items()):
        yield f".It {number}"
        yield from prose(text)
    yield ".El"


def _see_also(references: tuple[str, ...]) -> Iterator[str]:
    yield ".Sh SEE ALSO"
    for reference in references[:-1]:
        yield f"{reference} ,"
    yield references[-1]


# mta.toml(5)


def _settings() -> Iterator[str]:
    yield from (".Sh NAME", ".Nm mta.toml", ".Nd configuration of the mail server")
    yield from (".Sh SYNOPSIS", ".Pa /etc/mta/mta.toml")
    yield ".Sh DESCRIPTION"
    yield from prose(
        "The file is TOML. Everything has a default but `hostname`. An unknown key, a wrong type or a value out of "
        "bounds is refused with its file and line, all of them at once, and what ran before goes on running.\n\n"
        'Sizes are text with a unit, in steps of 1,024: `"64K"`, `"50M"`, `"1G"`; a bare number is octets. '
        'Times are text with a unit: `"30s"`, `"5m"`, `"1h30m"`, `"5d"`. Paths are relative to the directory of the '
        "file. What counts from the start on is not changed by `mta reload`, which names it; it needs a restart."
    )
    for table in tables(Settings):
        yield from _table(table, "Top of the file")
    yield ".Sh DOMAINS"
    yield from prose(domains_text())
    yield ".Sh DOMAIN.TOML"
    for table in tables(DomainSettings):
        yield from _table(table, "Top of domain.toml")
    yield from (".Sh FILES", _FILES)
    yield ".Sh EXAMPLES"
    yield "The least that works:"
    yield from example(
        [
            'hostname = "mail.example.org"',
            "",
            "[tls]",
            'certificate = "tls/certificate.pem"',
            'key = "tls/key.pem"',
        ]
    )
    yield from _see_also((".Xr mta 1", ".Xr mta 8"))


def _table(table: Table, top: str) -> Iterator[str]:
    yield f".Ss {arguments(table.heading or top)}"
    yield from prose(table.summary)
    if not table.keys:
        return
    yield ".Bl -tag -width Ds"
    for key in table.keys:
        yield f".It Ic {arguments(key.name)}"
        yield from prose(key.description)
        default = f" Default: {key.default}." if key.default else ""
        yield from prose(f"Takes {key.takes}.{default}{' Counts from the start on.' if key.at_start else ''}")
    yield ".El"


def write(directory: Path, when: float) -> list[str]:
    """Write all pages, remove those of commands that are gone, return the names. `when` is what they are dated."""
    moment = time.gmtime(when)
    date = f"{time.strftime('%B', moment)} {moment.tm_mday}, {moment.tm_year}"
    directory.mkdir(parents=True, exist_ok=True)
    written = dict(pages(date))
    for old in directory.glob("mta*.[158]"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        (directory / name).write_text(text)
    return list(written)


if __name__ == "__main__":
    write(Path(sys.argv[1]), float(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
