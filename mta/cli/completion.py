"""``mta completion``: what a shell needs to complete commands, options, domains, users and aliases behind TAB."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_MTA_COMPLETE"


@click.command(epilog="Example: mta completion bash > /etc/bash_completion.d/mta")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print a script that has SHELL complete what is typed behind `mta`.

    \b
    bash  4.4 or later, with bash-completion: into /etc/bash_completion.d/mta
    zsh   into a directory of $fpath, as _mta
    fish  into ~/.config/fish/completions/mta.fish

    The next shell has it. Domains, users and aliases are those of --config, if it is typed before them.
    """
    made = get_completion_class(shell)
    assert made is not None, "click knows these shells"
    script = made(ctx.find_root().command, {}, "mta", _VARIABLE)
    # Not `source`, which would ask this machine's bash for its version: the script may be for another.
    click.echo(script.source_template % script.source_vars())
