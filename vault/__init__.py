"""The vault: sealed files, keys, catalogue, ledger, certificates. It knows nothing of processes or networks,
and nothing of why a document is kept or goes.

`FORMAT.md` is the format, precise enough for a second implementation. The rooms, from the top down:

- `backup`, `check`      bringing a store back; judging one
- `store`                all of it, opened
- `keys`, `certificate`  who keeps which key; what is stated and signed
- `crypto`, `catalogue`  ciphers and streams; the database and the ledger's rows
- `storage`, `ledger`    durable files and places; the ledger's mathematics
- `ids`, `errors`        what everything else uses

Usage (`folder` is a `Path`):
    >>> from datetime import UTC, datetime
    >>> from vault.check.store import check
    >>> from vault.keys.root import create_root_key
    >>> from vault.store import Store
    >>> root = create_root_key(str(folder / "root.key"))
    >>> store = Store.create(folder / "store", root, datetime.now(UTC), {})
    >>> store.close()
    >>> store = Store.open(folder / "store", root)
    >>> check(store).findings
    []
    >>> store.close()
"""
