"""mta.smtp.status"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp import status
from mta.smtp.status import Status


@given(st.builds(Status, st.sampled_from([2, 4, 5]), st.integers(0, 999), st.integers(0, 999)))
def test_a_status_is_what_its_text_says(value: Status) -> None:
    """Reading the rendered form gives the status back (RFC 3463 §2)."""
    assert Status.parse(str(value).encode() + b" text") == value


@pytest.mark.parametrize("text", [b"", b"3.0.0 x", b"5.1 x", b"5.1.1234", b"5.1.1.1", b" 5.1.1", b"queued as 2.0.0"])
def test_what_is_no_status_is_none(text: bytes) -> None:
    """A text that does not begin with a status has none."""
    assert Status.parse(text) is None


def test_the_class_tells_transient_from_permanent() -> None:
    """A status has a transient and a permanent form."""
    assert str(status.BAD_MAILBOX.transient()) == "4.1.1"
    assert status.BAD_MAILBOX.transient().permanent() == status.BAD_MAILBOX
