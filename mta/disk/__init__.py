"""Durable file operations: the port, the operating system behind it, and lanes that share one sync among many.

`port` is what everything above writes files through; `posix` is the real one; tests bring faulty, recording and
forgetful ones. `lane` is group commit.
"""
