"""Signed notes, checkpoints and proofs: how the ledger speaks to people who do not trust it.

Promises: text that any C2SP verifier reads, and verification that needs nothing but the
text and a public key:

- signed notes with Ed25519, https://c2sp.org/signed-note;
- checkpoints, https://c2sp.org/tlog-checkpoint;
- self-contained inclusion proofs, https://c2sp.org/tlog-proof.

Leaves out: other signature types (they are ignored, as the specification demands, so a
log's note may carry witnesses' cosignatures), and keeping keys.

Rules:
1. No text is looked at before a signature by the known key has been verified over it.
2. Parsing is strict: one canonical base64, decimal numbers without leading zeros, no control
   characters, no trailing bytes. Everything wrong is a NoteError.
3. A signature line with the known key's name and id must verify; a forged one spoils the note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vault.errors import VaultError
from vault.ledger.merkle import HASH, verify_inclusion

MAX_NOTE: Final = 1 << 20
"""Characters in the longest note that is looked at."""
MAX_SIGNATURES: Final = 64
MAX_PROOF: Final = 63
"""Hashes in the longest inclusion proof: a tree has fewer than 2^63 leaves."""

_ED25519: Final = b"\x01"
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_PROOF_MAGIC: Final = "c2sp.org/tlog-proof@v1"
_DASH: Final = "\u2014"


class NoteError(VaultError):
    """A note, checkpoint or proof is malformed, is not signed by the key, or proves nothing."""


def verifier_key(name: str, public_key: Ed25519PublicKey) -> str:
    """The verifier key text `name+id+key` of an Ed25519 key (C2SP signed-note).

    Raises:
        RuntimeError: a name that no note may carry.
    """
    if not _is_name(name):
        raise RuntimeError("key name: expected no space, plus or control character in it")
    encoded = _ED25519 + public_key.public_bytes_raw()
    return f"{name}+{_key_id(name, encoded).hex()}+{_base64(encoded)}"


def sign_note(text: str, name: str, private_key: Ed25519PrivateKey) -> str:
    """`text`, which must end in a newline, as a note signed under the key name `name`.

    Raises:
        NoteError: a text or name that no note may carry.
    """
    if not _is_text(text):
        raise NoteError("note text: expected lines without control characters, found other text")
    if not _is_name(name):
        raise NoteError("key name: expected no space, plus or control character in it")
    encoded = _ED25519 + private_key.public_key().public_bytes_raw()
    signature = _key_id(name, encoded) + private_key.sign(text.encode())
    return f"{text}\n{_DASH} {name} {_base64(signature)}\n"


def cosign_note(note: str, name: str, private_key: Ed25519PrivateKey) -> str:
    """Add a signature line by another key to a note (raises NoteError as `sign_note`)."""
    text, _ = _split_note(note)
    return note + sign_note(text, name, private_key).rpartition("\n\n")[2]


def verify_note(note: str, vkey: str) -> str:
    """The text of `note` once the key `vkey` is known to have signed it.

    Raises:
        NoteError: malformed note or key, no signature by the key, or one that does not verify.
    """
    name, key_id, public_key = _parse_verifier_key(vkey)
    text, signatures = _split_note(note)
    signed = False
    for signer, signature in signatures:
        if signer != name or signature[:4] != key_id:
            continue
        try:
            public_key.verify(signature[4:], text.encode())
        except InvalidSignature as error:
            raise NoteError(f"note: expected a signature by {name}, found a false one") from error
        signed = True
    if not signed:
        raise NoteError(f"note: expected a signature by {name}, found none")
    return text


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log states about its tree: C2SP tlog-checkpoint, the text without its signatures."""

    origin: str
    """The log's identity, one non-empty line."""
    size: int
    """Number of leaves, below 2^63."""
    root: bytes
    """Root hash, 32 bytes."""
    extension: tuple[str, ...] = ()
    """Further lines, none of them empty; not covered by proofs."""

    def encode(self) -> str:
        """The note text (raises RuntimeError for fields that have no encoding)."""
        lines = (self.origin, *self.extension)
        if not all(_is_line(line) for line in lines):
            raise RuntimeError("checkpoint: expected non-empty lines without control characters")
        if not 0 <= self.size < 1 << 63 or len(self.root) != HASH:
            raise RuntimeError(f"checkpoint: expected a size below 2^63 and a {HASH}-byte root")
        head = (self.origin, str(self.size), _base64(self.root))
        return "".join(f"{line}\n" for line in (*head, *self.extension))

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The checkpoint in the verified note text `text` (raises NoteError)."""
        if not _is_text(text):
            raise NoteError("checkpoint: expected lines without control characters, found others")
        lines = text[:-1].split("\n")
        if len(lines) < 3 or not all(lines):
            raise NoteError(
                f"checkpoint: expected three or more lines, none empty, found {len(lines)}"
            )
        root = _unbase64(lines[2], "checkpoint root")
        if len(root) != HASH:
            raise NoteError(f"checkpoint root: expected {HASH} bytes, found {len(root)}")
        return cls(lines[0], _decimal(lines[1], "checkpoint size"), root, tuple(lines[3:]))


@dataclass(frozen=True, slots=True)
class Proof:
    """The parts of a C2SP tlog-proof, parsed and not yet verified."""

    index: int
    """The leaf's number, from zero."""
    hashes: tuple[bytes, ...]
    """The audit path, the leaf's sibling first; 32 bytes each."""
    note: str
    """The signed checkpoint, verbatim."""
    extra: bytes | None
    """Opaque data that nothing authenticates."""


@dataclass(frozen=True, slots=True)
class Inclusion:
    """What a verified proof has shown: leaf number `index` is in the tree of `checkpoint`."""

    index: int
    checkpoint: Checkpoint


def encode_proof(
    index: int, proof: Sequence[bytes], checkpoint_note: str, extra: bytes | None = None
) -> str:
    """The tlog-proof text of an audit path and the signed checkpoint it leads to.

    Raises:
        RuntimeError: values that have no encoding.
    """
    if not 0 <= index < 1 << 63 or len(proof) > MAX_PROOF:
        raise RuntimeError("proof: expected an index below 2^63 and at most 63 hashes")
    if any(len(value) != HASH for value in proof):
        raise RuntimeError(f"proof: expected hashes of {HASH} bytes, found others")
    lines = [_PROOF_MAGIC]
    if extra is not None:
        lines.append(f"extra {_base64(extra)}")
    lines.append(f"index {index}")
    lines.extend(_base64(value) for value in proof)
    return "\n".join(lines) + "\n\n" + checkpoint_note


def parse_proof(text: str) -> Proof:
    """The parts of a tlog-proof. Nothing in it is verified yet (raises NoteError)."""
    if len(text) > MAX_NOTE:
        raise NoteError(f"proof: expected at most {MAX_NOTE} characters, found {len(text)}")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != _PROOF_MAGIC:
        raise NoteError(f"proof: expected it to begin with {_PROOF_MAGIC}, found another text")
    extra: bytes | None = None
    if lines and lines[0].startswith("extra "):
        extra = _unbase64(lines.pop(0).removeprefix("extra "), "proof extra data")
    if not lines or not lines[0].startswith("index "):
        raise NoteError("proof: expected an index line, found none")
    index = _decimal(lines.pop(0).removeprefix("index "), "proof index")
    if len(lines) > MAX_PROOF:
        raise NoteError(f"proof: expected at most {MAX_PROOF} hashes, found {len(lines)}")
    hashes = tuple(_unbase64(line, "proof hash") for line in lines)
    if any(len(value) != HASH for value in hashes):
        raise NoteError(f"proof: expected hashes of {HASH} bytes, found another length")
    return Proof(index, hashes, note, extra)


def verify_proof(text: str, leaf_hash: bytes, vkey: str, origin: str | None = None) -> Inclusion:
    """Verify a tlog-proof for the leaf with hash `leaf_hash` and return what it shows.

    1. The checkpoint is signed by `vkey`. 2. It is the log `origin`'s (by default the key's own
    name, which logs use as their origin). 3. The audit path leads from the leaf to its root.

    Raises:
        NoteError: any of these fails or the text is malformed.
    """
    proof = parse_proof(text)
    checkpoint = Checkpoint.parse(verify_note(proof.note, vkey))
    expected = _parse_verifier_key(vkey)[0] if origin is None else origin
    if checkpoint.origin != expected:
        raise NoteError(f"proof: expected origin {expected}, found another")
    if not verify_inclusion(leaf_hash, proof.index, checkpoint.size, proof.hashes, checkpoint.root):
        raise NoteError(
            f"proof: expected a path from leaf {proof.index} to the root of size "
            f"{checkpoint.size}, found one that does not lead there"
        )
    return Inclusion(proof.index, checkpoint)


def _split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Split a note into its text and its (key name, key id and signature) pairs."""
    if len(note) > MAX_NOTE:
        raise NoteError(f"note: expected at most {MAX_NOTE} characters, found {len(note)}")
    # The text may hold empty lines: the last one separates.
    head, blank, tail = note.rpartition("\n\n")
    text = head + "\n"
    if not blank or not tail or not _is_text(note) or not _is_text(text):
        raise NoteError("note: expected text, an empty line and signature lines, found others")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"note: expected at most {MAX_SIGNATURES} signatures, found {len(lines)}")
    signatures: list[tuple[str, bytes]] = []
    for line in lines:
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        if dash != _DASH or not _is_name(name):
            raise NoteError("note: expected a signature line, found another")
        signature = _unbase64(encoded, "note signature")
        if len(signature) < 5:
            raise NoteError("note signature: expected a key id and a signature, found less")
        signatures.append((name, signature))
    return text, signatures


def _parse_verifier_key(vkey: str) -> tuple[str, bytes, Ed25519PublicKey]:
    """Name, key id and key. Base64 may hold plus signs; names and ids may not."""
    parts = vkey.split("+", 2)
    if len(parts) != 3 or not _is_name(parts[0]) or not re.fullmatch("[0-9a-f]{8}", parts[1]):
        raise NoteError("verifier key: expected name+id+key, found another form")
    encoded = _unbase64(parts[2], "verifier key")
    if len(encoded) != 33 or encoded[:1] != _ED25519:
        raise NoteError("verifier key: expected an Ed25519 key, found another")
    key_id = _key_id(parts[0], encoded)
    if key_id.hex() != parts[1]:
        raise NoteError(f"verifier key: expected id {key_id.hex()}, found {parts[1]}")
    return parts[0], key_id, Ed25519PublicKey.from_public_bytes(encoded[1:])


def _key_id(name: str, encoded: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + encoded).digest()[:4]


def _is_name(name: str) -> bool:
    return _is_line(name) and "+" not in name and not any(char.isspace() for char in name)


def _is_line(line: str) -> bool:
    return bool(line) and "\n" not in line and _is_text(line + "\n")


def _is_text(text: str) -> bool:
    """Whether `text` is valid UTF-8 in waiting, ends in a newline and has no control characters."""
    return (
        text.endswith("\n")
        and not any(char < " " and char != "\n" for char in text)
        and not any("\ud800" <= char <= "\udfff" for char in text)
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unbase64(text: str, subject: str) -> bytes:
    """Decode standard base64 in its one canonical form (no stray bits, no missing padding)."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"{subject}: expected base64, found other text") from error
    if _base64(data) != text:
        raise NoteError(f"{subject}: expected canonical base64, found another form")
    return data


def _decimal(text: str, subject: str) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) >= 1 << 63:
        raise NoteError(f"{subject}: expected a decimal number below 2^63, found other text")
    return int(text)
