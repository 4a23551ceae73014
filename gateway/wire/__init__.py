"""The messages between processes, and the sockets they travel on.

Here: what each socket can decode, and framing. Not here: any process, and anything of the vault.
"""
