"""The `mta` command: what an operator types.

A fault of the operator's is told in one line with a sensible exit status (sysexits(3)), never with a traceback.

A command is imported when it is called: `COMMANDS` says where each stands. What `mta --help` says of it is the first
line of its docstring, for which all are imported.
"""

from __future__ import annotations

from importlib import import_module

import click
from click.shell_completion import CompletionItem

from mta import __version__

COMMANDS = {
    "alias": "mta.cli.alias:alias",
    "backup": "mta.cli.backup:backup",
    "check": "mta.cli.check:check",
    "completion": "mta.cli.completion:completion",
    "dkim": "mta.cli.dkim:dkim",
    "domain": "mta.cli.domain:domain",
    "explain": "mta.cli.explain:explain",
    "import": "mta.cli.importing:import_",
    "init": "mta.cli.init:init",
    "log": "mta.cli.log:log",
    "policy": "mta.cli.policy:policy",
    "queue": "mta.cli.queue:queue",
    "reload": "mta.cli.reload:reload",
    "restore": "mta.cli.restore:restore",
    "samples": "mta.cli.samples:samples",
    "send": "mta.cli.send:send",
    "sendmail": "mta.cli.sendmail:sendmail",
    "top": "mta.cli.top:top",
    "trace": "mta.cli.trace:trace",
    "user": "mta.cli.user:user",
}
"""Each command, and the module and name of what carries it out."""


class Commands(click.Group):
    """A group whose members are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them in the order of the alphabet."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command), f"{COMMANDS[cmd_name]} is no command"
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer names, for which nothing is imported: a shell does not wait."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mta")
def main() -> None:
    """Operate the mail server. The daemon itself is started with `twistd mta --config FILE`."""
