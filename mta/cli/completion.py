"""``mta completion``: what a shell needs to complete commands, options, domains, users and aliases behind TAB."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mta.cli.daemon import examples

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_MTA_COMPLETE"

# bash takes "@" for the beginning of a word. So the line is divided at blanks here, and what stands in front of the
# last "@" is taken off the answers, as bash puts them in place of what begins there.
_BASH = r"""_mta_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" words word before="" type value
    read -ra words <<< "$line"
    local at=$((${#words[@]} - 1))
    [[ "$line" == *[[:space:]] ]] && at=$((at + 1))
    word="${words[at]}"
    [[ "$COMP_WORDBREAKS" == *@* && "$word" == *@* ]] && before="${word%@*}"
    COMPREPLY=()
    while IFS=, read -r type value; do
        case "$type" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done < <(COMP_WORDS="$line" COMP_CWORD="$at" _MTA_COMPLETE=bash_complete "$1")
}

complete -o nosort -F _mta_completion mta
"""


@click.command(epilog=examples("mta completion bash > /etc/bash_completion.d/mta"))
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that has SHELL complete what is typed behind `mta`.

    For bash (4.4 or later, with bash-completion) it goes into /etc/bash_completion.d/mta; for zsh into a directory of
    $fpath, as _mta; for fish into ~/.config/fish/completions/mta.fish. The next shell has it.

    Domains, users and aliases are those of --config, if it is typed before them.
    """
    if shell == "bash":
        click.echo(_BASH, nl=False)
        return
    made = get_completion_class(shell)
    assert made is not None, "click knows these shells"
    click.echo(made(ctx.find_root().command, {}, "mta", _VARIABLE).source())
