"""Acceptance: the rules of mx and smtpd, what is kept of a message while it comes, and the commit.

`session` carries one session through its transactions; `mx` and `smtpd` are the rules in which the two services
differ; `staging` keeps content; `commit` is the one place where a message becomes ours.
"""
