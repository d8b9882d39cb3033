"""One answer to the operator from the answers of all workers: merged by their form, whatever the command.

=================  ================================================================
values             become
=================  ================================================================
numbers            their sum
lists              one, in the order of the workers
tables             merged key by key
truths             true where one is
others             that of the first worker
=================  ================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any


def merge(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the answers of the workers, at least one, in their order."""
    merged: dict[str, Any] = reduce(_merged, answers, {})
    return merged


def _merged(one: Any, other: Any) -> Any:
    match one, other:
        case bool(), bool():
            return one or other
        case int() | float(), int() | float():
            return one + other
        case list(), list():
            return one + other
        case Mapping(), Mapping():
            both = {**one, **other}
            return {key: _merged(one[key], other[key]) if key in one and key in other else both[key] for key in both}
    return one
