"""TLS of our services and of our client (RFC 3207, RFC 8314, RFC 9325), with OpenSSL.

`certificate` reads our certificate and key and makes self-signed ones, `context` makes what a handshake needs on
either side and describes what it gave.

Knowingly not here: several certificates by name (SNI), MTA-STS and DANE.
"""
