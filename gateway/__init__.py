"""Strongroom's gateway: the processes. This page is the map and the glossary; there is no code here.

The rooms, from the top down (docs/architecture.md draws them; imports never go up):

- `cli`       the command line: the only place that prints or exits
- `doctor`    examines an installation: host, store, keys, places, doors
- `install`   makes one: `strongroom init`, the demonstration, the tour
- `core`      the process with the keys: `main` puts it together, `sessions` are the rights of each socket,
              `admin` serves the command line, `views` show documents, `intake`, `inspection`, `filing` and
              `disposal` move them, `outbound`, `keys` and `login` are used by all of these
- `doors`     the processes that face the network: `sftp` and `smtp`
- `inspect`   the sandboxed processes that open hostile files: `scan`, `unpack`, `classify`
- `courier`   the process that carries sealed things and finished messages elsewhere
- `process`   what every role is as a process: start, supervision, sandbox
- `config`, `wire`   the configuration; the messages between processes
- `names`, `readable`, `errors`   names from outside, values for people, errors

Below lie two packages that know nothing of it: `vault` (sealed store, keys, catalogue, ledger, certificates)
and `retention_rules` (what is kept how long, and why). A reader new here starts with docs/architecture.md,
then `wire/messages`, then `core/intake/receive.py`.

Glossary (ISO 15489 and 16175 for records, NIST SP 800-88 for destruction, RFC 6962 for the ledger):

act            what a person asks for at the command line, by the console or signed with their SSH key
amendment      what a backup is told later: wrappings of survivors, tombstones, closed clients
batch          the documents proposed for destruction together; its register is what officers sign
blob           the sealed file of one document
certificate    the signed statement of what was destroyed, what was looked for, and what was found
checkpoint     the ledger's size and root at a moment, signed (C2SP tlog-checkpoint)
claim          work that one connection has in hand; lost with the connection
cohort         the group of keys of one client, fiscal year and record class: it ends together
console        the operating system's user at the admin socket; not a person who signs
custody        which group wraps a document's key, and when it moves
delivery       one thing that a place is to have, tried until it is there (`core/outbound/outbox.py`)
disposal       destruction as a procedure: proposal, approvals, execution, certificate
door           a process that faces the network
epoch          the number of a keyring's file, one more at each change; former epoch keys are destroyed
finding        something a scanner saw in a file; a reason is what was made of it
fixity         that the bytes kept are the bytes received
hold           an order that nothing of a document or client may be destroyed
inspection     a worker opens a document: scan, unpack, classify; its verdict is plain data
intake         a document on its way in, until it is durable
keyring        the keys of one client (or of the house, the installation itself) in one sealed file
ledger         the append-only list of every act, a Merkle tree
partial        an interrupted upload that can be resumed; it was never acknowledged
place          where sealed things are carried to: a folder, an SFTP host, a bucket
record class   what a document is, as retention rules name it
register       the fixed list of a batch's documents (销毁清册)
root key       what every keyring is sealed under: a file, a credential or a token
tombstone      what is left of a destroyed document
wing           a room of the core with state of its own while it runs
wrapping       a key sealed under another key
"""
