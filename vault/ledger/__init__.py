"""The ledger's mathematics: Merkle trees, signed notes, tiles. Pure.

Here: RFC 6962 hashes and proofs, C2SP checkpoints and tiles. Not here: entries in the catalogue
(`vault.catalogue.ledger`), and verifying a store (`vault.check.ledger`).

Usage:
    >>> from vault.ledger.merkle import Frontier, inclusion_proof, leaf_hash, verify_inclusion
    >>> tree, nodes = Frontier(), {}
    >>> for entry in (b"one", b"two", b"three"):
    ...     for level, index, hashed in tree.append(leaf_hash(entry)):
    ...         nodes[level, index] = hashed
    >>> proof = inclusion_proof(1, 3, lambda level, index: nodes[level, index])
    >>> verify_inclusion(leaf_hash(b"two"), 1, 3, proof, tree.root())
    True
"""
