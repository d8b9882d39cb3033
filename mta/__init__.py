"""A mail transfer agent on Twisted: submission, acceptance, one durable queue, delivery, and the reasons for it all."""

__version__ = "0.1.0"
