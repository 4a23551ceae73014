"""The process with the keys: the only one that opens the store, and the only one that decides.

From the top down: `main` puts it together; `server` and `sessions` answer the sockets; `admin` serves the
command line, `views` show documents over SFTP; `intake`, `inspection`, `filing` and `disposal` move
documents; `outbound`, `keys` and `login` are what these use; `core`, `steps`, `reasons` and `clock` are below
all.
"""
