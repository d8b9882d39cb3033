"""Listening sockets: our own, systemd's, and what is said when one cannot be had."""

from __future__ import annotations

import socket

import pytest

from mta.service.sockets import CannotListen, close, inherited, listens, open_sockets
from mta.settings.sections import MxSettings, Settings, SmtpdSettings
from mta.settings.values import Endpoint, Listen, SystemdSocket


def settings(*listen: Listen, submissions: tuple[Listen, ...] = ()) -> Settings:
    """Make settings that listen there."""
    smtpd = SmtpdSettings(enabled=bool(submissions), submission=(), submissions=submissions)
    return Settings("mx.example.test", mx=MxSettings(enabled=bool(listen), listen=listen), smtpd=smtpd)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_sockets_listen_where_the_settings_say() -> None:
    """Each endpoint gets its socket, which takes connections, and knows its service."""
    here, there = Endpoint("127.0.0.1", free_port()), Endpoint("127.0.0.2", free_port())
    opened = open_sockets(settings(here, submissions=(there,)), {})
    try:
        assert [(each.service, each.implicit_tls, each.name) for each in opened] == [
            ("mx", False, str(here)),
            ("smtpd", True, str(there)),
        ]
        for each in opened:
            with socket.create_connection(each.socket.getsockname()[:2]):
                pass
    finally:
        close(opened)


def test_ipv6_leaves_ipv4_alone() -> None:
    """The wildcards of both families stand side by side on one port."""
    port = free_port()
    opened = open_sockets(settings(Endpoint("127.0.0.1", port), Endpoint("::1", port)), {})
    assert [each.socket.family for each in opened] == [socket.AF_INET, socket.AF_INET6]
    close(opened)


def test_a_switched_off_service_listens_nowhere() -> None:
    """With mx off only smtpd is opened."""
    there = Endpoint("127.0.0.1", free_port())
    opened = open_sockets(settings(submissions=(there,)), {})
    assert [each.service for each in opened] == ["smtpd"]
    close(opened)


def test_a_socket_of_systemd_is_taken_by_its_name() -> None:
    """The descriptor that systemd named mx is used as it is."""
    taken = socket.create_server(("127.0.0.1", 0))
    [listening] = open_sockets(settings(SystemdSocket("mx")), {"mx": [taken.detach()]})
    assert listening.name == "systemd:mx"
    with socket.create_connection(listening.socket.getsockname()):
        pass
    close([listening])


def test_every_socket_that_cannot_be_had_is_named() -> None:
    """All problems are told at once, with service, address and cause; what was opened is closed again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = Endpoint("127.0.0.1", taken.getsockname()[1])
        fine = Endpoint("127.0.0.1", free_port())
        with pytest.raises(CannotListen) as refused:
            open_sockets(settings(fine, busy, SystemdSocket("mx")), {"other": [3]})
    lines = str(refused.value).splitlines()
    assert lines == [
        f"mx cannot listen on {busy}: Address already in use; `ss -ltnp` says by whom, "
        "and the settings may name another port",
        "mx cannot listen on systemd:mx: systemd handed over no socket of that name (it has: other)",
    ]
    with socket.create_server((fine.host, fine.port)):
        pass


def test_sockets_of_systemd_are_found_by_name() -> None:
    """Descriptors count from 3; one name may have several; those of another process are none of ours."""
    environment = {"LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "mx:mx:submission"}
    assert inherited(environment, 7) == {"mx": [3, 4], "submission": [5]}
    assert inherited(environment, 8) == {}
    assert inherited({}, 7) == {}


def test_sockets_of_systemd_whose_number_twisted_took_away() -> None:
    """Names alone tell where there is a socket that listens for each: Twisted took the rest out of the environment."""
    environment = {"LISTEN_FDNAMES": "mx:mx:submission"}
    assert inherited(environment, 7, {3, 4, 5}.__contains__) == {"mx": [3, 4], "submission": [5]}
    assert inherited(environment, 7, {3, 5}.__contains__) == {}
    assert inherited({**environment, "LISTEN_PID": "8"}, 7, {3, 4, 5}.__contains__) == {}
    assert inherited({"LISTEN_FDNAMES": ""}, 7, {3}.__contains__) == {}


def test_what_listens() -> None:
    """A socket that listens does; another one, a file and a number that is none do not."""
    with socket.socket() as made, open("/dev/null") as file:
        assert not listens(made.fileno())
        made.bind(("127.0.0.1", 0))
        made.listen()
        assert listens(made.fileno())
        assert not listens(file.fileno())
    assert not listens(1 << 20)
