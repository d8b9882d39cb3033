"""The durable queue: port, SQLite behind it, content files.

`port` is what receive and relay see. `sqlite` is the embedded default; `schema` its tables and their migrations;
`shard` the ownership of a directory. The state table of a message, and what each crash leaves, is in `port`.
"""
