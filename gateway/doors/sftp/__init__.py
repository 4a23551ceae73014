"""The sftp door: one process per connection, a hardened paramiko, our own SFTP packet loop."""
