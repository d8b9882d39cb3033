"""The durable queue: port, SQLite behind it, content files.

`port` is what receive and relay see, with the state table of a message and what each crash leaves. `spools` is the
whole of it for one worker: it opens shards (`shard`: whose a directory is), recovers them (`recovery`), and goes on in
the next when one becomes suspect. `sqlite` writes a shard, `reading` reads it, `rows` and `schema` are its rows and
tables, `content` its files. `reserve` says when no more mail may be taken.
"""
