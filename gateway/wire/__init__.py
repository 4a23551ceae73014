"""The messages between processes, and the sockets they travel on.

Here: what each socket can decode, framing, and what a person signs to perform an act.
Not here: any process, and anything of the vault.

Usage:
    >>> channel = Channel.connect(config.socket("sftp"))
    >>> reply, descriptors = channel.call(List("/inbox"))
    >>> reply
    Page(entries=[], cursor='')
"""
