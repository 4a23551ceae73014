"""SSH below the SFTP session: transport, packets, channels, authentication (RFC 4251 to 4254).

Here: what paramiko leaves open or leaves to threads. Not here: SFTP itself.
"""
