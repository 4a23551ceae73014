"""The vault: sealed files, keys, catalogue, ledger, certificates. It knows nothing of processes or networks.

`FORMAT.md` is the format, for whoever would write a second implementation. From the bottom up:
`errors`, `durable` (the one durable write), `chunked` and `sealed` (the stream), `wrapping`, `root` and
`keyring` (keys), `blobs`, `merkle` and `note` (proofs), `catalogue`, `ledger`, `copies`, `custody` (which key
wraps what), `store` (all of it, opened), `check`, and the `certificate*` modules with `sshsig` and `signing`.
"""
