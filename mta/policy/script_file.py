"""Files of an administrator's policies: read, compiled and looked through, never run here.

What is found here is what a child is given: a file that is edited counts from the next reload on, also where a child is
started anew in between.
"""

from __future__ import annotations

import ast
import difflib
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

from mta.policy.facts import Stage
from mta.settings.domains import read_text
from mta.settings.problem import Problem, quoted

SOURCE_MAXIMUM = 1 << 20
"""Octets of one file."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_STAGES = {stage.value: stage for stage in Stage}


@dataclass(frozen=True, slots=True)
class ScriptFile:
    """One file that compiles."""

    path: str
    text: str = field(repr=False)
    functions: Mapping[Stage, int]
    """The stages it has a function for, each with the line that the function begins at."""

    @property
    def name(self) -> str:
        """The name of the policy: that of the file without ``.py``."""
        return os.path.basename(self.path).removesuffix(".py")


def read_scripts(directory: str, problems: list[Problem]) -> tuple[ScriptFile, ...]:
    """Read all policies of a directory, in the order of the alphabet; none where there is no such directory."""
    try:
        entries = sorted(os.listdir(directory))
    except FileNotFoundError:
        return ()
    except OSError as error:
        problems.append(Problem(directory, 0, "a directory that can be read", f"{error.strerror}"))
        return ()
    names = [entry for entry in entries if entry.endswith(".py") and entry[0] not in "_."]
    found = [read_script(os.path.join(directory, name), problems) for name in names]
    return tuple(script for script in found if script is not None)


def check(path: str) -> Problem | None:
    """Say what is wrong with a file; None: nothing that can be seen without running it."""
    problems: list[Problem] = []
    read_script(path, problems)
    return problems[0] if problems else None


def read_script(path: str, problems: list[Problem]) -> ScriptFile | None:
    """Read one file; None, and a problem, where it cannot be used."""
    name = os.path.basename(path).removesuffix(".py")
    if not _NAME.fullmatch(name) or not path.endswith(".py"):
        problems.append(Problem(path, 0, "a name of letters, digits, - and _, at most 40, and .py", quoted(name)))
        return None
    text = read_text(path, problems)
    if text is None:
        return None
    if len(text) > SOURCE_MAXIMUM:
        problems.append(Problem(path, 0, f"at most {SOURCE_MAXIMUM:,} octets", f"{len(text):,}"))
        return None
    tree = _parsed(path, text, problems)
    if tree is None:
        return None
    functions: dict[Stage, int] = {}
    before = len(problems)
    for statement in tree.body:
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) or statement.name not in _STAGES:
            continue
        wrong = _wrong(statement)
        if wrong:
            problems.append(Problem(path, statement.lineno, f"def {statement.name}(facts)", wrong))
        functions[_STAGES[statement.name]] = statement.lineno
    if not functions:
        problems.append(_no_function(path, tree))
    return ScriptFile(path, text, functions) if len(problems) == before else None


def _parsed(path: str, text: str, problems: list[Problem]) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, path)
            # What the grammar does not tell, a `return` outside a function, only the compiler does
            compile(tree, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        problems.append(Problem(path, error.lineno or 0, "Python", f"{error.msg}"))
    except (ValueError, RecursionError, MemoryError) as error:
        problems.append(Problem(path, 0, "Python", str(error) or "it is nested too deeply"))
    else:
        return tree
    return None


def _wrong(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Say why a function cannot be called with the facts alone; empty: it can."""
    if isinstance(function, ast.AsyncFunctionDef):
        return "async def"
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    needed = len(positional) - len(arguments.defaults)
    named = [each for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None]
    if named or needed > 1 or not (positional or arguments.vararg):
        return f"{len(positional) + len(named)} arguments"
    return ""


def _no_function(path: str, tree: ast.Module) -> Problem:
    names = {each.name: each.lineno for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    for name, line in names.items():
        near = difflib.get_close_matches(name, _STAGES, n=1)
        if near:
            return Problem(path, line, f'a function named by a stage; did you mean "{near[0]}"?', quoted(name))
    return Problem(path, 0, f"a function named {', '.join(_STAGES)}", ", ".join(names) or "no function")
