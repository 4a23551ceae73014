"""The sftp door: one process per connection, a hardened paramiko, our own SFTP packet loop.

Here: the listener, sessions, files on their way. Not here: SSH below them (`ssh`), and what a folder holds,
which the core's views say.
"""
