"""The Simple Mail Transfer Protocol without input and output: octets in, events out (RFC 5321 and its extensions).

Nothing here knows a socket, a clock or Twisted. `ServerSession` and `ClientSession` are state machines in the
manner of h11; readers, grammar and replies are what both are made of.
"""
