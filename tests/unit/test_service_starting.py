"""Tests of `mta.service.starting`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mta.service.starting import WrongUser, hold_user


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
def test_root_does_not_serve_in_the_place_of_another(tmp_path: Path) -> None:
    """What root made there would be closed to the server's own user: it is told how to start as that."""
    state = tmp_path / "state"
    hold_user(str(state), "/etc/mta/mta.toml")
    state.mkdir()
    hold_user(str(state), "/etc/mta/mta.toml")
    os.chown(state, 65534, 65534)
    with pytest.raises(WrongUser, match="belongs to nobody") as refused:
        hold_user(str(state), "/etc/mta/mta.toml")
    assert str(refused.value).splitlines()[1].strip().startswith("setpriv --reuid nobody --regid ")
