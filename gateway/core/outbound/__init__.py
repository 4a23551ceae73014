"""What leaves the machine: copies of keyrings, the ledger's publication, backups (`backup`).

Here, from the top down: a *kind of delivery* says what is due at which place (`keyring_copies`,
`ledger_publication`, `backup.amendments`; `kinds` lists them); the `outbox` tries each until it is there; and
`transfers` is the one queue by which bytes go to a place and come back. Backups use that queue directly.
`Outbound` (`outbound`) holds what they share while the core runs.

Not here: the protocols, which the courier speaks (`gateway.courier`).

A new kind of delivery supplies what `outbox.Kind` asks for, and is added to `kinds`:

>>> class Notices(OfTable):  # doctest: +SKIP
...     name, complaint = "notice to", "notice not sent"
...     async def deliver(self, delivery): ...
"""
