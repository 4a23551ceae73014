"""The messages between processes, and the sockets they travel on."""
