"""The Maildir store: one file a message, complete before it is named, named by its queue id.

`name` and `content` are what a message is called and looks like there (pure); `volume` makes batches of files durable
and watches the health of what they lie on; `store` is what receive and relay call.
"""
