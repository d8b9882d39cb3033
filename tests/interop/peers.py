"""Those who sign and verify: we, dkimpy, libopendkim and mailauth, behind one interface.

All know the same two keys, ``rsa._domainkey.author.test`` and ``ed._domainkey.author.test``. A verdict on DKIM is
``pass`` where a signature holds, else ``fail``: what others call a failure (fail, neutral, permerror) differs and has
no effect on anybody. A verdict on ARC is ``none``, ``pass`` or ``fail``.
"""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import dkim
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import defer

from mta.mail.reason import Reason
from mta.mailauth.arc_sign import seal_message
from mta.mailauth.arc_verify import ArcCheck
from mta.mailauth.canonical import BodyHash, BodyHashes
from mta.mailauth.dkim_sign import Signer, sign_message, want_body
from mta.mailauth.dkim_verify import DkimCheck
from mta.mailauth.keypair import generate_private_key, load_private_key, record_text
from mta.mailauth.result import Arc, Dkim
from mta.message.header import find_head
from tests.doubles.dns import ZoneResolver
from tests.doubles.sync import result

DOMAIN = "author.test"
FORMS = ("simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed")


class Keys:
    """The keys of the domain, made for one run."""

    def __init__(self) -> None:
        self.pem = {"rsa": generate_private_key("rsa"), "ed": generate_private_key("ed25519")}
        self.private = {selector: load_private_key(pem) for selector, pem in self.pem.items()}
        self.records = {f"{name}._domainkey.{DOMAIN}": record_text(pem) for name, pem in self.pem.items()}
        self.zone = "\n".join(f'{name} TXT "{record}"' for name, record in self.records.items())

    def signer(self, selector: str) -> Signer:
        """What we sign with."""
        return Signer(DOMAIN, selector, self.private[selector])

    def answer(self, name: bytes, timeout: int = 0) -> bytes | None:
        """The DNS as dkimpy asks it."""
        record = self.records.get(name.decode("latin-1").lower().rstrip("."))
        return record and record.encode()  # type: ignore[return-value]  # None, or octets


@dataclass(frozen=True, slots=True)
class Order:
    """A message to be signed or sealed."""

    message: bytes
    selector: str = "rsa"
    form: str = "relaxed/relaxed"
    length: bool = False
    """With l=, of the whole body."""
    status: str = "none"
    """For a seal: what the chain is so far."""


class Peer(Protocol):
    """An implementation. Each function takes a batch; what cannot be signed comes back as it was."""

    name: str
    version: str
    arc: bool

    @property
    def forms(self) -> Sequence[str]:
        """In which it signs."""

    @property
    def selectors(self) -> Sequence[str]:
        """Keys that it knows how to use."""

    def sign(self, orders: Sequence[Order]) -> list[bytes]:
        """Return each message with a signature on top."""

    def verify(self, messages: Sequence[bytes]) -> list[str]:
        """Return the verdict on DKIM."""

    def seal(self, orders: Sequence[Order]) -> list[bytes]:
        """Return each message with an ARC set on top."""

    def validate(self, messages: Sequence[bytes]) -> list[str]:
        """Return the verdict on ARC."""


def split(message: bytes) -> tuple[bytes, bytes]:
    """Head and body, as the server splits them."""
    head = find_head(message)
    return head.octets, message[len(head.octets) :].removeprefix(b"\r\n")


class Ours:
    """What this repository does."""

    name, version, forms, selectors, arc = "mta", "here", FORMS[3:], ("rsa", "ed"), True

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def sign(self, orders: Sequence[Order]) -> list[bytes]:
        """Sign as mail of our own users is."""
        return [self._sign(each) for each in orders]

    def verify(self, messages: Sequence[bytes]) -> list[str]:
        """Verify as mx does."""
        return ["pass" if any(each.result.value == "pass" for each in self.dkim(one)) else "fail" for one in messages]

    def seal(self, orders: Sequence[Order]) -> list[bytes]:
        """Seal what we found ourselves."""
        return [self._seal(each) for each in orders]

    def validate(self, messages: Sequence[bytes]) -> list[str]:
        """Validate as mx does."""
        return [self._arc(each).result.value for each in messages]

    def dkim(self, message: bytes) -> tuple[Dkim, ...]:
        """Return all that we say of the signatures."""
        head, body = split(message)
        check = DkimCheck(ZoneResolver(self._keys.zone), head, time.time())
        check.body(body)
        return result(defer.ensureDeferred(check.finish()))

    def _arc(self, message: bytes) -> Arc:
        head, body = split(message)
        check = ArcCheck(ZoneResolver(self._keys.zone), head)
        check.body(body)
        return result(defer.ensureDeferred(check.finish()))

    def _sign(self, order: Order) -> bytes:
        head, body = split(order.message)
        return sign_message(head, _hash(body), [self._keys.signer(order.selector)], time.time()) + order.message

    def _seal(self, order: Order) -> bytes:
        head, body = split(order.message)
        text, found = f"mx.{DOMAIN}; arc={order.status}", self._arc(order.message)
        done = seal_message(head, _hash(body), self._keys.signer("rsa"), text, found, time.time())
        return order.message if isinstance(done, Reason) else done + order.message


def _hash(body: bytes) -> BodyHash:
    bodies = BodyHashes()
    wanted = want_body(bodies)
    bodies.update(body)
    bodies.finish()
    return wanted


class Dkimpy:
    """dkimpy, from PyPI; one of its exceptions is a failure of the message."""

    name, version, forms, selectors, arc = "dkimpy", metadata.version("dkimpy"), FORMS, ("rsa", "ed"), True

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        ed = keys.private["ed"]
        assert isinstance(ed, Ed25519PrivateKey)
        self._private = {"rsa": keys.pem["rsa"], "ed": base64.b64encode(ed.private_bytes_raw())}

    def sign(self, orders: Sequence[Order]) -> list[bytes]:
        """Sign."""
        return [self._sign(each) for each in orders]

    def verify(self, messages: Sequence[bytes]) -> list[str]:
        """Verify each signature."""
        return [self._verify(each) for each in messages]

    def seal(self, orders: Sequence[Order]) -> list[bytes]:
        """Seal; it reads the status of the chain in a field that we add for it."""
        return [self._seal(each) for each in orders]

    def validate(self, messages: Sequence[bytes]) -> list[str]:
        """Validate."""
        return [self._validate(each) for each in messages]

    def _sign(self, order: Order) -> bytes:
        head, _, body = order.form.encode().partition(b"/")
        algorithm = b"rsa-sha256" if order.selector == "rsa" else b"ed25519-sha256"
        try:
            field: bytes = dkim.sign(
                order.message,
                order.selector.encode(),
                DOMAIN.encode(),
                self._private[order.selector],
                canonicalize=(head, body),
                signature_algorithm=algorithm,
                length=order.length,
            )
        except Exception:
            return order.message
        return field + order.message

    def _verify(self, message: bytes) -> str:
        for index in range(message.lower().count(b"dkim-signature")):
            try:
                if dkim.DKIM(message, minkey=1024).verify(idx=index, dnsfunc=self._keys.answer):
                    return "pass"
            except Exception:  # whatever it stumbles over
                continue
        return "fail"

    def _seal(self, order: Order) -> bytes:
        host = f"mx.{DOMAIN}".encode()
        results = b"spf=pass" if order.status == "none" else b"arc=" + order.status.encode()
        # as on each host, there is one field of its own
        message = re.sub(rb"(?m)^Authentication-Results: .*\r\n", b"", order.message)
        message = b"Authentication-Results: " + host + b"; " + results + b"\r\n" + message
        try:
            return b"".join(dkim.arc_sign(message, b"rsa", DOMAIN.encode(), self._keys.pem["rsa"], host)) + message
        except Exception:
            return order.message

    def _validate(self, message: bytes) -> str:
        try:
            status, _, _ = dkim.arc_verify(message, dnsfunc=self._keys.answer)
        except Exception:
            return "fail"
        return (status or b"fail").decode()  # nothing where it could not read a field


class OpenDkim:
    """OpenDKIM's library, which its milter is a shell around: here no milter protocol changes white space."""

    name, forms, arc = "libopendkim", FORMS, False
    selectors: Sequence[str] = ("rsa", "ed")

    def __init__(self, keys: Keys, directory: Path) -> None:
        path = ctypes.util.find_library("opendkim")
        if path is None:
            raise OSError("the library is not installed: apt-get install opendkim")
        self._so = so = ctypes.CDLL(path)
        for function in ("dkim_init", "dkim_verify", "dkim_sign"):
            getattr(so, function).restype = ctypes.c_void_p
        self._lib = ctypes.c_void_p(so.dkim_init(None, None))
        number = so.dkim_libversion()
        self.version = f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}"
        if not so.dkim_libfeature(self._lib, 11):  # DKIM_FEATURE_ED25519
            self.selectors = ("rsa",)
        self._keys = keys
        records = directory / "keys"
        records.write_text("".join(f"{name} {record}\n" for name, record in keys.records.items()))
        method, where = ctypes.c_int(1), ctypes.create_string_buffer(bytes(records))  # DKIM_QUERY_FILE
        so.dkim_options(self._lib, 1, 6, ctypes.byref(method), ctypes.c_size_t(ctypes.sizeof(method)))
        so.dkim_options(self._lib, 1, 7, where, ctypes.c_size_t(len(where.value) + 1))

    def sign(self, orders: Sequence[Order]) -> list[bytes]:
        """Sign."""
        return [self._sign(each) for each in orders]

    def verify(self, messages: Sequence[bytes]) -> list[str]:
        """Verify each signature."""
        return [self._verify(each) for each in messages]

    def seal(self, orders: Sequence[Order]) -> list[bytes]:
        """It knows no ARC."""
        raise NotImplementedError

    def validate(self, messages: Sequence[bytes]) -> list[str]:
        """It knows no ARC."""
        raise NotImplementedError

    def _feed(self, handle: ctypes.c_void_p, message: bytes) -> bool:
        text = ctypes.create_string_buffer(message, len(message))
        so = self._so
        told = (
            so.dkim_chunk(handle, text, ctypes.c_size_t(len(message))),
            so.dkim_chunk(handle, None, ctypes.c_size_t(0)),
        )
        return told == (0, 0)

    def _sign(self, order: Order) -> bytes:
        so, status, out, size = self._so, ctypes.c_int(), ctypes.c_void_p(), ctypes.c_size_t()
        head, body = (int(form == "relaxed") for form in order.form.split("/"))
        if order.selector == "ed" and not head:
            return order.message  # what it signs so, it does not verify itself
        handle = ctypes.c_void_p(
            so.dkim_sign(
                self._lib,
                b"id",
                None,
                self._keys.pem[order.selector],
                order.selector.encode(),
                DOMAIN.encode(),
                head,
                body,
                1 if order.selector == "rsa" else 2,
                ctypes.c_ssize_t(-1 if not order.length else len(split(order.message)[1])),
                ctypes.byref(status),
            )
        )
        if handle.value is None:
            return order.message
        try:
            if not self._feed(handle, order.message) or so.dkim_eom(handle, None) != 0:
                return order.message
            # it folds behind a name of this length, and signs what it folds
            so.dkim_getsighdr_d(handle, ctypes.c_size_t(len("DKIM-Signature: ")), ctypes.byref(out), ctypes.byref(size))
            value = ctypes.string_at(out.value or 0, size.value).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            return b"DKIM-Signature: " + value + b"\r\n" + order.message
        finally:
            so.dkim_free(handle)

    def _verify(self, message: bytes) -> str:
        so, status, found, count = self._so, ctypes.c_int(), ctypes.POINTER(ctypes.c_void_p)(), ctypes.c_int()
        handle = ctypes.c_void_p(so.dkim_verify(self._lib, b"id", None, ctypes.byref(status)))
        try:
            if not self._feed(handle, message):
                return "fail"
            so.dkim_eom(handle, None)
            if so.dkim_getsiglist(handle, ctypes.byref(found), ctypes.byref(count)) != 0:
                return "fail"
            return "pass" if any(self._holds(handle, found[at]) for at in range(count.value)) else "fail"
        finally:
            so.dkim_free(handle)

    def _holds(self, handle: ctypes.c_void_p, address: int | None) -> bool:
        so, signature = self._so, ctypes.c_void_p(address)
        so.dkim_sig_process(handle, signature)
        passed = so.dkim_sig_getflags(signature) & 4  # DKIM_SIGFLAG_PASSED
        faults = (so.dkim_sig_getbh(signature), so.dkim_sig_geterror(signature))
        return bool(passed) and faults == (0, 0)


class Mailauth:
    """mailauth on Node, one process for each batch."""

    name, forms, selectors, arc = "mailauth", FORMS, ("rsa", "ed"), True

    def __init__(self, keys: Keys, directory: Path) -> None:
        modules = directory / "node_modules"
        node = shutil.which("node")
        if node is None or not (modules / "mailauth").is_dir():
            raise OSError(f"it is not in {modules}: npm install --prefix {directory} mailauth")
        self.version = json.loads((modules / "mailauth/package.json").read_text())["version"]
        self._argv = [node, str(Path(__file__).with_name("mailauth.cjs"))]
        self._environment = {**os.environ, "NODE_PATH": str(modules)}
        self._keys = keys

    def sign(self, orders: Sequence[Order]) -> list[bytes]:
        """Sign."""
        return self._written("sign", orders, lambda each: {"form": each.form, "length": _whole(each)})

    def verify(self, messages: Sequence[bytes]) -> list[str]:
        """Verify each signature."""
        return self._verdicts("verify", messages)

    def seal(self, orders: Sequence[Order]) -> list[bytes]:
        """Seal, and tell it the status of the chain."""
        return self._written("seal", orders, lambda each: {"cv": each.status, "results": f"mx.{DOMAIN}; spf=pass"})

    def validate(self, messages: Sequence[bytes]) -> list[str]:
        """Validate."""
        return self._verdicts("arc", messages)

    def _verdicts(self, do: str, messages: Sequence[bytes]) -> list[str]:
        said = self._run([{"do": do, "message": _base64(each)} for each in messages])
        return ["fail" if each.startswith("error") else each for each in said]

    def _written(self, do: str, orders: Sequence[Order], more: Callable[[Order], dict[str, Any]]) -> list[bytes]:
        tasks = [
            {"do": do, "message": _base64(each.message), "domain": DOMAIN, "selector": each.selector, **more(each)}
            for each in orders
        ]
        said = zip(self._run(tasks), orders, strict=True)
        return [(b"" if text.startswith("error") else text.encode("latin-1")) + each.message for text, each in said]

    def _run(self, tasks: Sequence[dict[str, Any]]) -> list[str]:
        pems = {name: pem.decode() for name, pem in self._keys.pem.items()}
        given = json.dumps({"keys": self._keys.records, "pems": pems, "tasks": tasks})
        done = subprocess.run(self._argv, input=given.encode(), capture_output=True, check=True, env=self._environment)
        said: list[str] = json.loads(done.stdout)
        return said


def _whole(order: Order) -> int | None:
    return len(split(order.message)[1]) if order.length else None


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
