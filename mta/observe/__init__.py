"""What happened, told once: an event is logged, counted and written to the history from the same value.

`event` is the schema; `journal` hands events to sinks; `log` prints them one a line; `history` keeps them.
"""
