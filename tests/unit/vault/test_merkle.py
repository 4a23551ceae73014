"""The ledger's tree against RFC 6962's published answers, a naive tree, and other logs' files."""

import hashlib
import itertools
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vectors.corpus import corpus_file
from vault.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from vault.ledger.note import Checkpoint

# The test leaves of the Certificate Transparency reference implementation and the roots of the
# trees of the first one, two, … of them.
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657",
                 "606162636465666768696a6b6c6d6e6f")
]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves):
    """RFC 6962, 2.1, as it is written."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(naive_root(leaves[:split]), naive_root(leaves[split:]))


class Tree:
    """A stored tree, as the ledger keeps one."""

    def __init__(self, leaves):
        self.leaves = list(leaves)
        self.nodes = {}
        self.frontier = Frontier()
        self.roots = [self.frontier.root()]
        for leaf in self.leaves:
            for level, index, value in self.frontier.append(leaf):
                assert (level, index) not in self.nodes
                self.nodes[level, index] = value
            self.roots.append(self.frontier.root())

    def node(self, level, index):
        return self.nodes[level, index]


TREE = Tree(leaf_hash(bytes([n])) for n in range(70))


def test_the_reference_trees_have_the_published_roots():
    """Empty tree to eight leaves."""
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    assert frontier.root().hex() == ROOTS[0]
    for leaf, root in zip(LEAVES, ROOTS[1:], strict=True):
        frontier.append(leaf_hash(leaf))
        assert frontier.root().hex() == root


def test_the_reference_tree_has_the_published_proofs():
    """Two inclusion proofs and one consistency proof of the same test set."""
    tree = Tree(map(leaf_hash, LEAVES))
    assert [value.hex() for value in inclusion_proof(5, 8, tree.node)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [value.hex() for value in inclusion_proof(2, 3, tree.node)] == [ROOTS[2]]
    assert [value.hex() for value in consistency_proof(2, 5, tree.node)] == [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]


def test_roots_are_those_of_the_naive_tree():
    """Every size up to 70."""
    for size in range(len(TREE.leaves) + 1):
        assert TREE.roots[size] == naive_root(TREE.leaves[:size])


def test_append_reports_every_complete_subtree_once():
    """The nodes are exactly the complete subtrees, with their hashes."""
    for (level, index), value in TREE.nodes.items():
        start = index << level
        assert value == naive_root(TREE.leaves[start : start + (1 << level)])
    size = len(TREE.leaves)
    assert len(TREE.nodes) == sum(size >> level for level in range(size.bit_length()))


def test_every_inclusion_proof_verifies_for_its_leaf_place_and_size_only():
    """Wrong leaf, place, size, root, order, or one hash more or less: refused."""
    for size in range(1, 40):
        root = TREE.roots[size]
        for index in range(size):
            leaf = TREE.leaves[index]
            proof = inclusion_proof(index, size, TREE.node)
            assert verify_inclusion(leaf, index, size, proof, root)
            bad = [
                (TREE.leaves[index + 1], index, size, proof, root),
                (leaf, index, size, proof, TREE.roots[size + 1]),
                (leaf, index, size, [*proof, leaf], root),
                (leaf, index + size, size, proof, root),
                (leaf, index - size, size, proof, root),
                (leaf, index, 0, proof, root),
            ]
            if proof:
                bad += [
                    (leaf, index, size, proof[:-1], root),
                    (leaf, index, size, proof[1:], root),
                    (leaf, index ^ 1, size, proof, root),
                    (leaf, index, size, [proof[0][:31], *proof[1:]], root),
                    (leaf, index, size, [bytes(32), *proof[1:]], root),
                ]
            for arguments in bad:
                assert not verify_inclusion(*arguments)


def test_every_consistency_proof_verifies_for_its_sizes_and_roots_only():
    """All pairs of sizes up to 40, and each kind of wrong argument."""
    for new in range(1, 40):
        for old in range(new + 1):
            proof = consistency_proof(old, new, TREE.node)
            a, b = TREE.roots[old], TREE.roots[new]
            assert verify_consistency(old, new, proof, a, b)
            bad = [
                (old, new, [*proof, a], a, b),
                (old, new, proof, bytes(32), b),
                (new + 1, new, proof, a, b),
                (-1, new, proof, a, b),
                (old, new, proof, a[:31], b),
            ]
            if old != 0:
                # The empty tree is a prefix of anything, whatever its root.
                bad.append((old, new, proof, a, bytes(32)))
            if proof:
                bad += [
                    (old, new, [], a, b),
                    (old, new, proof[:-1], a, b),
                    (old, new, proof[1:], a, b),
                    (old, new, [bytes(32), *proof[1:]], a, b),
                    (old, new, [*proof[:-1], bytes(32)], a, b),
                    (old, new, [*proof[:-1], proof[-1][:31]], a, b),
                ]
            for arguments in bad:
                assert not verify_consistency(*arguments), arguments


def test_a_proof_of_the_wrong_length_for_the_claimed_place_is_refused():
    """Index and sizes fix how many hashes a proof has; a true root does not make up for it."""
    sizes = range(1, 17)
    places = [(index, size) for size in sizes for index in range(size)]
    for index, size in places:
        proof = inclusion_proof(index, size, TREE.node)
        for claim in places:
            if len(inclusion_proof(*claim, TREE.node)) != len(proof):
                assert not verify_inclusion(TREE.leaves[index], *claim, proof, TREE.roots[size])
    pairs = list(itertools.combinations(sizes, 2))
    for old, new in pairs:
        proof = consistency_proof(old, new, TREE.node)
        for claim in pairs:
            if len(consistency_proof(*claim, TREE.node)) != len(proof):
                assert not verify_consistency(*claim, proof, TREE.roots[old], TREE.roots[new])


def test_a_rewritten_history_has_no_consistency_proof():
    """Changing one old leaf makes every proof from the old root fail."""
    changed = list(TREE.leaves)
    changed[3] = leaf_hash(b"rewritten")
    other = Tree(changed)
    for old, new in itertools.combinations((4, 5, 8, 13, 32, 33, 70), 2):
        proof = consistency_proof(old, new, other.node)
        assert not verify_consistency(old, new, proof, TREE.roots[old], other.roots[new])


def test_a_proof_asks_for_few_nodes():
    """Logarithmic work, whatever the size: nodes of a tree of a billion leaves are only asked for."""
    asked = []

    def node(level, index):
        asked.append((level, index))
        return leaf_hash(b"%d/%d" % (level, index))

    size = 1_000_000_007
    assert len(inclusion_proof(123_456_789, size, node)) <= 30
    assert len(asked) <= 60
    asked.clear()
    consistency_proof(999_999_999, size, node)
    assert len(asked) <= 90
    asked.clear()
    Frontier.from_nodes(size, node)
    assert len(asked) == size.bit_count()


def test_a_frontier_restored_from_nodes_goes_on_like_the_original():
    """After a restart the ledger continues with the same roots."""
    for size in range(len(TREE.leaves)):
        frontier = Frontier.from_nodes(size, TREE.node)
        assert frontier.size == size
        assert frontier.root() == TREE.roots[size]
        frontier.append(TREE.leaves[size])
        assert frontier.root() == TREE.roots[size + 1]


def test_a_copy_of_a_frontier_is_independent():
    """A transaction that is taken back leaves the frontier as it was."""
    frontier = Frontier.from_nodes(13, TREE.node)
    copy = frontier.copy()
    copy.append(TREE.leaves[0])
    assert (frontier.size, frontier.root()) == (13, TREE.roots[13])
    assert copy.size == 14


def test_questions_without_an_answer_are_misuse():
    """Producers do not guess."""
    for call in (
        lambda: inclusion_proof(0, 0, TREE.node),
        lambda: inclusion_proof(5, 5, TREE.node),
        lambda: inclusion_proof(-1, 5, TREE.node),
        lambda: consistency_proof(6, 5, TREE.node),
        lambda: consistency_proof(-1, 5, TREE.node),
        lambda: Frontier.from_nodes(-1, TREE.node),
        lambda: Frontier().append(b"data, not its hash"),
    ):
        with pytest.raises(RuntimeError):
            call()


def test_empty_trees_are_consistent_with_themselves_only():
    """An empty tree has one root."""
    assert verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    assert not verify_consistency(0, 0, [], bytes(32), bytes(32))
    assert not verify_consistency(0, 5, [], bytes(32), TREE.roots[5])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_proofs_never_verify(data):
    """Hashes that came from nowhere lead nowhere."""
    size = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, size - 1))
    proof = [os.urandom(32) for _ in range(data.draw(st.integers(1, 8)))]
    assert not verify_inclusion(TREE.leaves[index], index, size, proof, TREE.roots[size])
    old = data.draw(st.integers(1, 70))
    new = data.draw(st.integers(old, 70))
    assert not verify_consistency(old, new, proof, TREE.roots[old], TREE.roots[new])


@pytest.mark.parametrize("size", range(1, 15))
def test_another_logs_tile_gives_the_root_of_its_checkpoint(size):
    """Tessera's test log: leaf hashes in a tile, the root in a signed checkpoint."""
    note = corpus_file(f"crypto-vectors/tessera/log/checkpoint.{size}").read_text()
    checkpoint = Checkpoint.parse(note.split("\n\n")[0] + "\n")
    tile = corpus_file(f"crypto-vectors/tessera/log/tile/0/000.p/{size}").read_bytes()
    tree = Tree(tile[at : at + 32] for at in range(0, len(tile), 32))
    assert (checkpoint.size, checkpoint.root) == (size, tree.frontier.root())


def test_a_mirrored_logs_tiles_give_its_root():
    """Sunlight's mirror: 300 leaves in two tiles, and the node of the first 256 in a third."""
    base = next(corpus_file("crypto-vectors/sunlight/witness/mirror").iterdir())
    note = (base / "checkpoint").read_text()
    checkpoint = Checkpoint.parse(note.split("\n\n")[0] + "\n")
    tile = (base / "tile/0/000").read_bytes() + (base / "tile/0/001.p/44").read_bytes()
    tree = Tree(tile[at : at + 32] for at in range(0, len(tile), 32))
    assert (checkpoint.size, checkpoint.root) == (300, tree.frontier.root())
    assert (base / "tile/1/000.p/1").read_bytes() == tree.node(8, 0)
