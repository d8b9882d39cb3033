"""Who may submit: passwords against the verifiers of ``etc/domains/*/users``, off the reactor thread, guessing slowed.

`checker.Checker` is the door; `verifier` checks one password, `pool` shares the threads fairly among networks,
`guesses` remembers wrong passwords.
"""
