"""The Merkle tree of the ledger: RFC 6962, section 2.1, with SHA-256. Pure: no input, no output.

Promises: roots, inclusion proofs and consistency proofs that any RFC 6962 verifier
accepts, and verifiers that accept those and nothing else.

Leaves out: storage. A tree of n leaves is known by its complete subtrees: the one of
2^level leaves that starts at leaf index * 2^level is *node (level, index)*. They never change
once they exist, so a store only ever adds them. `Frontier` says which came into being with a leaf;
the proof functions ask for the ones they need, a number logarithmic in the size of the tree.

Rules:
1. Leaves and inner nodes are hashed with different prefixes (0x00, 0x01), so that neither can be
   passed off as the other.
2. Verifiers return False for whatever is wrong with what they are given, lengths included; they
   are meant for proofs from anyone. Producers raise RuntimeError for a question that has no
   answer, such as a leaf beyond the tree.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

HASH: Final = 32
"""Bytes of a hash (SHA-256)."""
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of the tree without leaves."""

NodeSource: TypeAlias = Callable[[int, int], bytes]
"""`node(level, index)`: the hash of the complete subtree of 2^level leaves from index * 2^level."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf: SHA-256 of 0x00 and its data (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256 of 0x01 and both children (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: all that is needed to append to it and to know its root.

    Holds one hash for each one-bit of its size, largest subtree first.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self) -> None:
        """Start with the empty tree."""
        self._size = 0
        self._hashes: list[bytes] = []

    @classmethod
    def from_nodes(cls, size: int, node: NodeSource) -> Frontier:
        """The frontier of a stored tree of `size` leaves.

        Raises:
            RuntimeError: a negative size; whatever `node` raises.
        """
        if size < 0:
            raise RuntimeError(f"tree size: expected zero or more, found {size}")
        frontier = cls()
        frontier._size = size
        start = 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                frontier._hashes.append(node(level, start >> level))
                start += 1 << level
        return frontier

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add the leaf whose hash is `leaf`; return the nodes (level, index, hash) it completed.

        The first is the leaf itself at level 0; each further one is the parent of the one before.

        Raises:
            RuntimeError: `leaf` is not 32 bytes (a leaf's data instead of its hash).
        """
        if len(leaf) != HASH:
            raise RuntimeError(f"leaf hash: expected {HASH} bytes, found {len(leaf)}")
        index = self._size
        nodes = [(0, index, leaf)]
        level, current = 0, leaf
        # As in adding one to a binary number: each trailing one-bit is a subtree that now has a
        # sibling of the same size.
        while index >> level & 1:
            current = node_hash(self._hashes.pop(), current)
            level += 1
            nodes.append((level, index >> level, current))
        self._hashes.append(current)
        self._size += 1
        return nodes

    def root(self) -> bytes:
        """The tree's root hash (EMPTY_ROOT for the empty tree)."""
        if not self._hashes:
            return EMPTY_ROOT
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = node_hash(left, root)
        return root

    def copy(self) -> Frontier:
        """An independent frontier of the same tree."""
        other = Frontier()
        other._size = self._size
        other._hashes = list(self._hashes)
        return other


def inclusion_proof(index: int, size: int, node: NodeSource) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves (RFC 6962, 2.1.1).

    The sibling of the leaf comes first, the child of the root last.

    Raises:
        RuntimeError: unless 0 <= index < size; whatever `node` raises.
    """
    if not 0 <= index < size:
        raise RuntimeError(f"inclusion proof: expected a leaf below {size}, found {index}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start = middle
    path.reverse()
    return path


def consistency_proof(old: int, new: int, node: NodeSource) -> list[bytes]:
    """The proof that the tree of `old` leaves is a prefix of that of `new` (RFC 6962, 2.1.2).

    Empty if the sizes are equal, or if the old tree is empty.

    Raises:
        RuntimeError: unless 0 <= old <= new; whatever `node` raises.
    """
    if not 0 <= old <= new:
        raise RuntimeError(f"consistency proof: expected an old size up to {new}, found {old}")
    if old in {0, new}:
        return []
    path: list[bytes] = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start = middle
    # The old root is known to the verifier; any other subtree that ends there is not.
    if start:
        path.append(_subtree(start, end, node))
    path.reverse()
    return path


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether `proof` shows that the leaf hash `leaf` is number `index` of the tree `root`.

    The algorithm is that of RFC 9162, 2.1.3.2.

    Args:
        size: the number of leaves.
    """
    if not 0 <= index < size or not _are_hashes(leaf, root, *proof):
        return False
    node, last = index, size - 1
    current = leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while node and not node & 1:
                node >>= 1
                last >>= 1
        else:
            current = node_hash(current, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and hmac.compare_digest(current, root)


def verify_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> bool:
    """Whether `proof` shows that the tree `old_root` of `old` leaves is a prefix of `new_root`.

    The algorithm is that of RFC 9162, 2.1.4.2; equal sizes need equal roots, and the empty tree is
    a prefix of every tree, both with an empty proof.
    """
    if not 0 <= old <= new or not _are_hashes(old_root, new_root, *proof):
        return False
    if old == new:
        return not proof and old_root == new_root and (old > 0 or old_root == EMPTY_ROOT)
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old & (old - 1) == 0:
        # The old tree is a complete subtree of the new one, and its root opens the path.
        path.insert(0, old_root)
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old_hash = new_hash = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old_hash = node_hash(sibling, old_hash)
            new_hash = node_hash(sibling, new_hash)
            while node and not node & 1:
                node >>= 1
                last >>= 1
        else:
            new_hash = node_hash(new_hash, sibling)
        node >>= 1
        last >>= 1
    return (
        last == 0
        and hmac.compare_digest(old_hash, old_root)
        and hmac.compare_digest(new_hash, new_root)
    )


def _split(count: int) -> int:
    """The largest power of two smaller than `count` (at least 2)."""
    return 1 << (count - 1).bit_length() - 1


def _subtree(start: int, end: int, node: NodeSource) -> bytes:
    """The root of the leaves from `start` to `end`, built from complete subtrees.

    `start` is a multiple of the largest power of two up to `end - start`, as in every split.
    """
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(count)
    return node_hash(_subtree(start, middle, node), _subtree(middle, end, node))


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH for value in values)
