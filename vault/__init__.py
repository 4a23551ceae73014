"""The vault: sealed files, keys, catalogue, ledger, certificates. It knows nothing of processes or networks.

`FORMAT.md` is the format, for whoever would write a second implementation. The rooms, from the top down:

- `backup`, `check`      bringing a store back; judging one
- `store`                all of it, opened
- `keys`, `certificate`  who keeps which key; what is stated and signed
- `crypto`, `catalogue`  ciphers and streams; the database and the ledger's rows
- `storage`, `ledger`    durable files and places; the ledger's mathematics
- `ids`, `errors`        what everything else uses
"""
