"""What every role does as a process: start, logging, notices to the supervisor, its sandbox.

Here: the operating system's side (sockets, signals, priority, prctl, seccomp, free space).
Not here: what a role is for (`gateway.core`, `gateway.doors`, `gateway.inspect`, `gateway.courier`).

Usage:
    >>> service.configure_logging(config, "sftp")
    >>> listener = listen_tcp(config.sftp.listen, "sftp.listen")
    >>> service.ready()
"""
