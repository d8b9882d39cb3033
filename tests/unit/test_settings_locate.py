"""Lines of the keys of a TOML text."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.settings.locate import Path, line_of, locate

TEXT = "\n".join(
    [
        '# a comment = "with [brackets]"',
        'hostname = "a"   # [not.a.table]',
        "list = [",
        '  "x]", # ]',
        '  """y',
        ']""",',
        "]",
        "after = 'it'",
        '"quoted key" = { inner = 1, "b" = [1, 2] }',
        'a . b = """',
        "[not.a.header]",
        "key = 1",
        '""\\""""',
        "",
        "[mx]",
        'listen = ["]"]',
        "[[ smtpd.network ]]",
        "name = '[[x]]'",
        "[[smtpd.network]]",
        'name = "b"',
        "[smtpd.network.rights]",
        "all = true",
        "[dns]",
        "",
    ]
)


def test_each_key_is_found_at_its_line() -> None:
    """Strings, arrays, inline tables and comments hide nothing and invent nothing."""
    tomllib.loads(TEXT)
    assert locate(TEXT) == {
        ("hostname",): 2,
        ("list",): 3,
        ("after",): 8,
        ("quoted key",): 9,
        ("a",): 10,
        ("a", "b"): 10,
        ("mx",): 15,
        ("mx", "listen"): 16,
        ("smtpd",): 17,
        ("smtpd", "network"): 17,
        ("smtpd", "network", 0): 17,
        ("smtpd", "network", 0, "name"): 18,
        ("smtpd", "network", 1): 19,
        ("smtpd", "network", 1, "name"): 20,
        ("smtpd", "network", 1, "rights"): 21,
        ("smtpd", "network", 1, "rights", "all"): 22,
        ("dns",): 23,
    }


@pytest.mark.parametrize(
    ("path", "line"),
    [(("quoted key", "inner"), 9), (("list", 1), 3), (("mx", "nothing"), 15), (("nothing", 0), 0), ((), 0)],
)
def test_what_has_no_line_is_where_its_holder_is(path: Path, line: int) -> None:
    """A key in an inline table, an element, a key that is missing: the line of what holds it, or none."""
    assert line_of(locate(TEXT), path) == line


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n", "a=1", "a=1\r\nb=2\r\n", "a=[\r\n1,\r\n]\r\nb=2"])
def test_short_texts(text: str) -> None:
    """Texts without a last line end, with CRLF, or with nothing in them are read to their end."""
    assert {path[0] for path in locate(text)} == set(tomllib.loads(text))


_STRINGS = st.text(st.sampled_from("ab]}[{=#,.\"'\\\n"), max_size=8)


@settings(max_examples=100)
@given(st.lists(st.lists(_STRINGS, max_size=3), min_size=1, max_size=5))
def test_values_of_any_text_do_not_mislead(values: list[list[str]]) -> None:
    """Whatever stands in strings and arrays, each key is found, at the line that begins with it."""
    lines = []
    for number, strings in enumerate(values):
        shown = [
            '"' + s.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
            if n % 2
            else f'"""{_long(s)}"""'
            for n, s in enumerate(strings)
        ]
        lines.append(f"key{number} = [" + ", # x ]\n".join(shown) + "]\n")
    text = "".join(lines)
    assert tomllib.loads(text)
    found = locate(text)
    assert set(found) == {(f"key{number}",) for number in range(len(values))}
    for (key,), line in found.items():
        assert text.split("\n")[line - 1].startswith(f"{key} = ")


def _long(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
