"""Mail authentication: whose mail it is, verified and signed (SPF, DKIM, DMARC, ARC, iprev).

Every check gives a value of `mta.mailauth.result` with its reason. A name server that does not answer is a
``temperror``, never an exception; an exception from here is a bug of ours, which its caller answers with 451.
"""
