"""What the operator asks of a running worker over the control socket: one module for each field.

A command takes the request (a JSON object) and gives what goes into the answer, now or as a Deferred; it raises
`CommandRefused` with words for the operator. With several workers the parent asks each that is concerned and merges the
answers: numbers are added, lists joined, tables merged key by key, other values taken from the first worker.
"""
