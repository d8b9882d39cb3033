"""What all workers have to know of one another now: how much each has of something, and what was counted of a name.

`port` says what is asked; `alone` answers for one worker, from its own memory; `shared` for several, from memory that
the parent made and all of them map. Nothing here is durable, and nothing depends on it but limits.
"""
