"""Delivery of what is in the queue: when it is due, by which way, and what became of each recipient.

`port` is what a way of delivery gives; `remote` is SMTP to other hosts.
"""
