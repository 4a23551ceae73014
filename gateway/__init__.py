"""Strongroom's gateway: the processes. This page is the map; there is no code here.

- `cli`          the command line: the only place that prints or exits
- `config`, `setup`, `service`, `supervisor`   configuration, making an installation, what every role does
                 as a process, and `strongroom run`
- `wire`         the messages between processes, and the sockets they travel on
- `core`         the process with the keys: `main` starts it, `server` and `sessions` answer the sockets,
                 `journey` moves documents, `views` show them, `admin` serves the command line
- `doors.sftp`, `doors.smtp`   the processes that face the network
- `inspect`      the jailed processes that open hostile files
- `jail`         what they, and the sftp door's processes, lock themselves into
- `courier`      the process that carries sealed things elsewhere

Below it lie two packages that know nothing of it: `vault` (sealed store, keys, catalogue, ledger,
certificates) and `retention_rules` (what is kept how long, and why). A reader new here starts with
docs/architecture.md, then `wire/messages/`, then `core/journey`.
"""
