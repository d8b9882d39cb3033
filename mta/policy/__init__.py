"""Policies: one interface for every rule that may refuse, delay, mark or redirect mail (RFC 5321 §7.9).

`facts` is what a policy is told, `verdict` what it may answer, `port` the interface itself, `chain` asks them in
order; the other modules are the built-in policies, each of which can be read by itself.
"""
