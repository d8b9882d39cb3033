"""The chain that one reading of the settings asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.policy.chain import Ruling
from mta.policy.facts import Facts, Stage
from mta.settings.problem import SettingsRefused
from mta.smtp.address import Mailbox
from tests.doubles.service import MemoryServer, demonstration

SCRIPT = "def rcpt(facts):\n    return None\n"
TOML = """\
[policy.helo]
[policy.lists]
[[policy.lists.deny]]
entries = ["198.51.100.0/24"]
[[policy.hook]]
name = "hook"
url = "http://127.0.0.1:1/"
[[policy.milter]]
name = "filter"
address = "inet:127.0.0.1:1"
"""


def server(root: Path, toml: str = "", script: str = "") -> MemoryServer:
    """A server with policies, started."""
    settings = demonstration(root, toml)
    if script:
        (root / "etc/policy").mkdir()
        (root / "etc/policy/mine.py").write_text(script)
    made = MemoryServer(root, settings)
    made.start()
    return made


def names(running: MemoryServer) -> list[str]:
    """The policies in force, in order."""
    return [policy.name for policy in running.parent._worker._policies.chain.policies]


def test_without_a_table_nobody_is_asked(tmp_path: Path) -> None:
    """A server whose file has no ``[policy]`` has an empty chain."""
    assert names(server(tmp_path)) == []


def test_built_in_policies_come_before_scripts_and_milters(tmp_path: Path) -> None:
    """The default order is: cheap built-in ones, dear ones, scripts, hooks, milters."""
    assert names(server(tmp_path, TOML, SCRIPT)) == ["lists", "helo", "mine", "hook", "filter"]


def test_what_the_order_names_comes_first(tmp_path: Path) -> None:
    """``[policy] order`` puts those that it names in front, the others keep their order behind them."""
    toml = '[policy]\norder = ["mine", "helo"]\n' + TOML
    assert names(server(tmp_path, toml, SCRIPT)) == ["mine", "helo", "lists", "hook", "filter"]


@pytest.mark.parametrize(
    ("toml", "script", "words"),
    [
        ('[policy]\norder = ["nobody"]\n', SCRIPT, 'found "nobody"'),
        (TOML.replace('"filter"', '"mine"'), SCRIPT, 'each name once, found "mine"'),
        ("", "def rcpt(:\n", "mine.py:1"),
    ],
)
def test_a_reload_with_a_mistake_keeps_the_chain(tmp_path: Path, toml: str, script: str, words: str) -> None:
    """An unknown name, a name twice and a script that does not compile are problems with their place."""
    running = server(tmp_path)
    file = tmp_path / "etc/mta.toml"
    file.write_text(file.read_text() + toml)
    (tmp_path / "etc/policy").mkdir()
    (tmp_path / "etc/policy/mine.py").write_text(script)
    with pytest.raises(SettingsRefused, match=words.replace("(", "\\(")):
        running.reload()
    assert names(running) == []


def test_a_domain_bounds_its_messages(tmp_path: Path) -> None:
    """``message_size`` of ``domain.toml`` is asked at RCPT for the size that was declared, and names the domain."""
    running = server(tmp_path)
    assert names(running) == []
    (tmp_path / "etc/domains/example.test/domain.toml").write_text('message_size = "1K"\n')
    running.reload()
    chain = running.parent._worker._policies.chain
    bob = Mailbox("bob", "EXAMPLE.test")
    for size, refused in ((1024, False), (1025, True)):
        ruling = chain.ask(Facts(Stage.RCPT, recipient=bob, size=size))
        assert isinstance(ruling, Ruling)
        assert (ruling.refusal is not None) == refused


def test_a_start_with_a_mistake_is_refused_as_a_reload_is(tmp_path: Path) -> None:
    """A name in ``[policy] order`` that no policy has keeps the server from starting, with its words."""
    with pytest.raises(SystemExit):
        server(tmp_path, '[policy]\norder = ["nobody"]\n')
