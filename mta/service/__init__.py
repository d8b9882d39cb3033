"""From a configuration to running services: sockets, workers, the control socket, reload.

`parent` owns the listening sockets and the control socket and runs the workers; `worker` is the whole path of mail:
mx, smtpd, relay and one spool shard. With ``workers = 1`` one process is both.
"""
