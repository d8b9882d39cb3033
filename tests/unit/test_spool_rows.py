"""Values as rows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.smtp.address import Mailbox
from mta.spool.rows import parse_stored

LOCAL_PARTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text('a."\\@ ', max_size=8)
DOMAINS = st.sampled_from(["example.net", "xn--bcher-kva.example", "bücher.example", "[192.0.2.1]", "[ipv6:::1]", ""])


@settings(max_examples=300, deadline=None)
@given(LOCAL_PARTS, DOMAINS)
def test_a_mailbox_is_read_as_it_was_written(local_part: str, domain: str) -> None:
    """`parse_stored` gives back the value that ``str`` was made of, whatever quoting it needed."""
    mailbox = Mailbox(local_part, domain)
    assert parse_stored(str(mailbox)) == mailbox
