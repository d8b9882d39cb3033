"""A mail transfer agent on Twisted: submission, acceptance, one durable queue, delivery, and the reason for each step."""

__version__ = "0.1.0"
