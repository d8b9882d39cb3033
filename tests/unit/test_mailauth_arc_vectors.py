"""`mta.mailauth.arc_verify` and `arc_sign` on the suites that the authors of RFC 8617 keep: every case.

Where RFC 8617 or RFC 6376 decides otherwise than the suite, `DIFFERENT` says so. The suites are those of the drafts.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet import defer

from mta.dns.answer import Answer, Found, NoSuchName, RecordType
from mta.mailauth.algorithm import verify
from mta.mailauth.arc_set import FORM, MESSAGE, RESULTS, SEAL, has_arc
from mta.mailauth.arc_sign import seal_message
from mta.mailauth.arc_verify import ArcCheck
from mta.mailauth.canonical import BodyHashes, signed_octets
from mta.mailauth.dkim_sign import HeaderPolicy, Signer, want_body
from mta.mailauth.result import Arc, ArcResult
from mta.mailauth.tags import read_base64, read_tags
from mta.message.header import Field, fields, find_head
from tests.doubles.sync import result
from tests.vectors import ROOT, vectors

VALIDATION = "arc/arc-draft-validation-tests.yml"
SIGN = "arc/arc-draft-sign-tests.yml"
CASES = {VALIDATION: 171, SIGN: 17}

_NOT_FOLDED = re.compile(r"\bb=[^;]*")

UNDECIDED = "the suite leaves the result open; a seal with cv=fail makes the chain fail (RFC 8617 §5.2 steps 2 and 3)"
DIFFERENT = {
    "cv_fail_i1_as_cv_fail": ("fail", UNDECIDED),
    "cv_fail_i2_as2_fail": ("fail", UNDECIDED),
    "cv_fail_i2_as1_fail": ("fail", UNDECIDED),
    "ams_fields_h_empty": (
        "fail",
        "h= MUST NOT be empty (RFC 6376 §3.5), From MUST be signed (§5.4) and verified to be (§6.1.1); an "
        "ARC-Message-Signature has the syntax and semantics of a DKIM-Signature but for v= and i= (RFC 8617 §4.1.2)",
    ),
    "ams_fields_c_na": (
        "fail",
        "without c= the forms are simple/simple (RFC 6376 §3.5), also here (RFC 8617 §4.1.2); the suite signed relaxed",
    ),
}
"""Result and reason of cases that are decided otherwise than the suite says."""


class SuiteResolver:
    """A `mta.dns.resolver.Resolver` over the ``txt-records`` of a scenario."""

    def __init__(self, records: dict[str, str]) -> None:
        self._records = records

    def query(self, name: str, rdtype: RecordType) -> defer.Deferred[Answer]:
        """Answer at once."""
        assert rdtype is RecordType.TXT
        if name not in self._records:
            return defer.succeed(NoSuchName(name, 300, False, "suite"))
        record = self._records[name].replace("\n", "").encode()
        return defer.succeed(Found(name, (record,), 300, False, "suite"))


@functools.cache
def scenarios(suite: str) -> list[dict[str, Any]]:
    """Read a suite."""
    with vectors(suite).open(encoding="utf-8") as file:
        return [scenario for scenario in yaml.safe_load_all(file) if scenario]


def cases(suite: str) -> list[Any]:
    """Give each case as a parameter; none where the suite is missing, which `test_all_cases_are_there` tells."""
    return [
        pytest.param(number, name, id=name)
        for number, scenario in enumerate(scenarios(suite) if (ROOT / suite).exists() else ())
        for name in scenario["tests"]
    ]


def divided(message: str) -> tuple[bytes, bytes]:
    """Head and body of a message of a suite, whose lines end with LF."""
    content = message.replace("\n", "\r\n").encode()
    head = find_head(content).octets
    return head, content[len(head) :].removeprefix(b"\r\n")


def validated(records: dict[str, str], head: bytes, body: bytes) -> Arc:
    """Validate the chain of a message."""
    check = ArcCheck(SuiteResolver(records), head)
    check.body(body)
    return result(defer.Deferred.fromCoroutine(check.finish()))


@pytest.mark.parametrize("suite", [VALIDATION, SIGN])
def test_all_cases_are_there(suite: str) -> None:
    """The suites are whole, and each exception is about a case of theirs."""
    names = [name for scenario in scenarios(suite) for name in scenario["tests"]]
    assert len(names) == CASES[suite]
    if suite == VALIDATION:
        assert DIFFERENT.keys() <= set(names)


@pytest.mark.parametrize(("number", "name"), cases(VALIDATION))
def test_validation(number: int, name: str) -> None:
    """The chain validation status is that of the suite, but for the cases that the RFC decides otherwise."""
    scenario = scenarios(VALIDATION)[number]
    case = scenario["tests"][name]
    expected = case["cv"].lower()
    if name in DIFFERENT:
        assert expected != DIFFERENT[name][0], "the suite agrees now"
        expected = DIFFERENT[name][0]
    arc = validated(scenario["txt-records"], *divided(case["message"]))
    assert arc.result.value == expected, arc.reason


def results_of(head: bytes, authserv_id: str) -> str:
    """What the sealer of the suite found: the fields Authentication-Results with its name, as one."""
    found = []
    for field in fields(head):
        name, _, results = field.value.decode().partition(";")
        if field.name == b"authentication-results" and name.strip() == authserv_id:
            found.append(results.strip())
    return f"{authserv_id}; {'; '.join(found)}"


def words(text: str) -> str:
    """A text without what canonical form does not keep: folds, and runs of white space."""
    return " ".join(text.split())


def tags_without_signature(value: bytes) -> dict[str, str]:
    """The tags of a field, but b=, in which the order of tags and the folds of other fields show."""
    tags = read_tags(value)
    assert isinstance(tags, dict), tags
    del tags["b"]
    return tags


@pytest.mark.parametrize(("number", "name"), cases(SIGN))
def test_sign(number: int, name: str) -> None:
    """The set has the tags of the suite, and so have the suite's own fields: each of both verifies.

    b= itself depends on the order of tags and on folds, which are free (RFC 6376 §3.2), so it is verified, not
    compared. What the suite's seals cover is the message signature with a b= that has no folds.
    """
    scenario = scenarios(SIGN)[number]
    case, records = scenario["tests"][name], scenario["txt-records"]
    head, body = divided(case["message"])
    key = load_pem_private_key(scenario["privatekey"].encode(), None)
    signer = Signer(scenario["domain"], scenario["sel"], key)  # type: ignore[arg-type]  # it is an RSA key
    bodies = BodyHashes()
    wanted = want_body(bodies)
    bodies.update(body)
    bodies.finish()
    before = validated(records, head, body)
    policy = HeaderPolicy((), (), tuple(case["sig-headers"].split(":")))
    sealed = seal_message(head, wanted, signer, results_of(head, case["srv-id"]), before, int(case["t"]), policy)
    if not case["AS"].strip():
        assert not isinstance(sealed, bytes)
        return
    assert isinstance(sealed, bytes), sealed
    ours = {field.name: field for field in fields(sealed)}
    assert list(ours) == [SEAL, MESSAGE, RESULTS]
    theirs = {
        each: Field(each, each + b": " + _NOT_FOLDED.sub(lambda b: "".join(b[0].split()), words(case[tag])).encode())
        for each, tag in ((SEAL, "AS"), (MESSAGE, "AMS"), (RESULTS, "AAR"))
    }
    for each in (SEAL, MESSAGE):
        assert tags_without_signature(ours[each].value) == tags_without_signature(theirs[each].value)
    assert words(ours[RESULTS].value.decode()) == words(theirs[RESULTS].value.decode())
    for fields_of in (ours, theirs):
        added = b"".join(fields_of[each].raw.removesuffix(b"\r\n") + b"\r\n" for each in (SEAL, MESSAGE, RESULTS))
        after = validated(records, added + head, body)
        if before.result is not ArcResult.FAIL:
            assert after.result is ArcResult.PASS, after.reason
            assert after.instances == before.instances + 1
        else:
            assert after.result is ArcResult.FAIL
            tags = read_tags(fields_of[SEAL].value)
            assert isinstance(tags, dict)
            covered = signed_octets([fields_of[RESULTS], fields_of[MESSAGE]], fields_of[SEAL], FORM)
            assert verify(key.public_key(), covered, read_base64(tags["b"]) or b"")  # type: ignore[arg-type]


def test_messages_without_arc_are_passed_over() -> None:
    """What makes the check do nothing is right for every message of the suite."""
    for scenario in scenarios(VALIDATION):
        for case in scenario["tests"].values():
            head, _ = divided(case["message"])
            assert has_arc(head) == (case["cv"] != "None")
