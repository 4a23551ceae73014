"""The core: the only process with the root key, the keyrings and the catalogue. It has no network socket.

`main` opens and serves; `server` accepts on the unix sockets; `sessions` are the rights of each socket;
`identity` and `ssh_keys` say who someone is; `tree` and `views` what they see; `journey` what becomes of a
document; `mail`, `receipts`, `errands` and `admin` what their names say; `jobs` is the clock.
"""
