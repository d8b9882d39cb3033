"""RFC 5322 text: the head of a message, what is put before it, and reports about it (pure; octets with CRLF).

`header` finds the head and reads its fields; `trace` and `identify` make the octets that go before it; `address`
reads address lists; `report` writes delivery status notifications. Content is never changed: what we add is
prepended, and the one thing ever taken out is a foreign Return-Path at final delivery.
"""
