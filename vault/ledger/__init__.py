"""The ledger's mathematics: Merkle trees, signed notes, tiles. Pure.

Here: RFC 6962 hashes and proofs, C2SP checkpoints and tiles. Not here: entries in the catalogue
(`vault.catalogue.ledger`), and verifying a store (`vault.check.ledger`).
"""
