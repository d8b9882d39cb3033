"""Names: what the domain name system says (RFC 1034, 1035), and where a domain's mail goes (RFC 5321 §5.1).

`answer` holds the values, `wire` reads and writes messages (dnspython's wire format), `transport` asks name servers
over UDP and TCP on the reactor, `cache` remembers, `resolver` is the port that the rest of the server sees, `routing`
orders MX hosts and applies static routes.

Knowingly not here: DNSSEC validation (left to a validating resolver on this host, see `answer.Found.authenticated`)
and walking from the root (the server needs a recursive resolver).
"""
