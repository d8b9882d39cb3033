"""The thin Twisted protocols that drive the sessions of `mta.smtp`: transports, deadlines, back-pressure, STARTTLS.

`server` answers peers, `client` speaks to them. Every decision about SMTP itself is made in the pure session.
"""
