"""The `mta` command: what an operator types.

A fault of the operator's is told in one line with a sensible exit status (sysexits(3)), never with a traceback.

A command is imported when it is called: `COMMANDS` says where each stands, and what it is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from mta import __version__


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a command before it is imported."""

    place: str
    """Its module and name."""
    summary: str
    """What `mta --help` says of it, on a line of 80 columns."""


COMMANDS = {
    "alias": Entry("mta.cli.alias:alias", "Other names for users: add, remove, list."),
    "backup": Entry("mta.cli.backup:backup", "Copy the queue and the configuration."),
    "check": Entry("mta.cli.check:check", "Say what is wrong, and how to mend it."),
    "completion": Entry("mta.cli.completion:completion", "Print a script that has a shell complete what is typed."),
    "dkim": Entry("mta.cli.dkim:dkim", "The keys that mail is signed with: make, show, check, rotate."),
    "domain": Entry("mta.cli.domain:domain", "The domains whose mail is taken: add, remove, list."),
    "explain": Entry("mta.cli.explain:explain", "Tell what would become of a letter, and why; nothing is sent."),
    "import": Entry("mta.cli.importing:import_", "Begin with the configuration of Postfix."),
    "init": Entry("mta.cli.init:init", "Set the server up."),
    "log": Entry("mta.cli.log:log", "Show what happened, and follow what happens."),
    "policy": Entry("mta.cli.policy:policy", "Try out policies that you write in Python."),
    "queue": Entry("mta.cli.queue:queue", "What waits and why; try again, hold, release, return, delete."),
    "reload": Entry("mta.cli.reload:reload", "Have the daemon read its configuration anew."),
    "restore": Entry("mta.cli.restore:restore", "Make a backup the queue of this server."),
    "samples": Entry("mta.cli.samples:samples", "Say where the samples lie: etc/, units of systemd, and others."),
    "send": Entry("mta.cli.send:send", "Send a test message, and follow what becomes of it."),
    "sendmail": Entry("mta.cli.sendmail:sendmail", "Hand in a message from standard input, as programs do."),
    "top": Entry("mta.cli.top:top", "Watch the server at work."),
    "trace": Entry("mta.cli.trace:trace", "Tell what became of mail."),
    "user": Entry("mta.cli.user:user", "Users and their passwords: add, remove, list, disable."),
}


class Commands(click.Group):
    """A group whose members are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them in the order of the alphabet."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].place.split(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command), f"{COMMANDS[cmd_name].place} is no command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries, for which nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer names, for which nothing is imported: a shell does not wait."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mta")
def main() -> None:
    """Operate the mail server. The daemon itself is started with `twistd mta --config FILE`."""
