"""The public addresses of this machine."""

from __future__ import annotations

import ipaddress
import socket

from mta.service.addresses import own_addresses, source_address


def test_public_addresses_are_found_and_private_ones_are_not() -> None:
    """One that only a private network knows is no address that others reach."""
    answers = {socket.AF_INET: "10.0.0.5", socket.AF_INET6: "2a01:4f8::1"}
    assert own_addresses(lambda family, far: answers[family]) == (ipaddress.ip_address("2a01:4f8::1"),)


def test_a_family_without_a_way_out_is_left_out() -> None:
    """No route is no address, and no error."""

    def source(family: socket.AddressFamily, far: str) -> str:
        if family is socket.AF_INET6:
            raise OSError(101, "Network is unreachable")
        return "8.8.4.4"

    assert own_addresses(source) == (ipaddress.ip_address("8.8.4.4"),)


def test_the_kernel_is_asked_about_the_way() -> None:
    """To a loopback address one sends from loopback."""
    assert source_address(socket.AF_INET, "127.0.0.9") == "127.0.0.1"
