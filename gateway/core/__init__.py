"""The process with the keys: the only one that opens the store, and the only one that decides.

From the top down: `main` puts it together; `server` and `sessions` answer the sockets, `schedule` the clock;
`admin` serves the command line, `views` show documents over SFTP; `wings` hands on what has state;
`disposal`, `inspection`, `intake` and `filing` move documents; `outbound`, `keys` and `login` are what these
use; `core`, `clock` and the small modules beside them are below all. Not here: any byte of a document, which
doors and inspectors carry.
"""
