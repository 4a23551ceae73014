"""The format of sealed bytes: sizes, key derivation, and sealing of what fits in memory.

Promises: C2SP chunked-encryption v1 (https://c2sp.org/chunked-encryption) with
AEAD_AES_256_GCM and SHA-512, and nothing else: salt (24) || commitment (32) || chunks, each chunk
16384 bytes of plaintext and a 16-byte tag, the last one always shorter, empty associated data.

Leaves out: files (`vault.crypto.sealed`), and the choice of keys: an input key is 32 uniformly
random bytes, and one that was used for a file is used for no other.

Rules: the commitment is checked before any chunk is opened; a length that no writer produces is
refused before that. FORMAT.md, section 2, has the layout.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from vault.errors import IntegrityError

KEY: Final = 32
CHUNK: Final = 16384
"""Plaintext bytes in every chunk but the last."""
TAG: Final = 16
SEALED_CHUNK: Final = CHUNK + TAG
SALT: Final = 24
COMMITMENT: Final = 32
HEADER: Final = SALT + COMMITMENT
MAX_CHUNKS: Final = 2**38

_NONCE: Final = 12
_INFO: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"


def document_context(document_id: str) -> bytes:
    """The context that binds a sealed document to its id (ASCII).

    Raises:
        RuntimeError: an id that is empty or not ASCII.
    """
    if not document_id or not document_id.isascii():
        raise RuntimeError("document context: expected a non-empty ASCII id, found another")
    return b"strongroom/v1/document/" + document_id.encode("ascii")


def sealed_size(plain: int) -> int:
    """The size in bytes of the sealed file of `plain` bytes of plaintext."""
    if plain < 0:
        raise RuntimeError(f"plaintext size: expected zero or more, found {plain}")
    return HEADER + plain + (plain // CHUNK + 1) * TAG


def plain_size(sealed: int) -> int:
    """The plaintext size in bytes of a finished sealed file of `sealed` bytes.

    The answer is only as trustworthy as the length; `SealedReader` authenticates it.

    Raises:
        IntegrityError: a length that no finished file has: `header`, `truncated` (ends on a chunk boundary,
            so the final chunk is missing) or `length`.
    """
    if sealed < HEADER:
        raise IntegrityError(
            f"sealed file: expected at least {HEADER + TAG} bytes, found {sealed}", kind="header"
        )
    chunks, rest = divmod(sealed - HEADER, SEALED_CHUNK)
    if rest == 0:
        raise IntegrityError(
            f"sealed file: expected a final short chunk, found {chunks} whole chunks and no more",
            kind="truncated",
        )
    if rest < TAG:
        raise IntegrityError(
            f"sealed file: expected a final chunk of at least {TAG} bytes, found {rest}",
            kind="length",
        )
    if chunks >= MAX_CHUNKS:
        raise IntegrityError(
            f"sealed file: expected at most {MAX_CHUNKS} chunks, found {chunks + 1}", kind="length"
        )
    return chunks * CHUNK + rest - TAG


def whole_chunks(sealed_length: int) -> int | None:
    """How many whole chunks an interrupted file of this length (in bytes) holds.

    None if the length is not on a chunk boundary: such a file is finished, torn, or has no header
    yet, and in none of these cases may it be continued.
    """
    if sealed_length < HEADER:
        return None
    chunks, rest = divmod(sealed_length - HEADER, SEALED_CHUNK)
    return None if rest else chunks


def seal_bytes(key: bytes, context: bytes, data: bytes) -> bytes:
    """`data` sealed in the same format as a file; for small things held in memory.

    Raises:
        RuntimeError: a key that is not 32 bytes.
    """
    salt = secrets.token_bytes(SALT)
    cipher, commitment = derive(key, salt, context)
    sealed = bytearray(sealed_size(len(data)))
    sealed[:HEADER] = salt + commitment
    plain, out = memoryview(data), memoryview(sealed)[HEADER:]
    for index in range(len(data) // CHUNK + 1):
        piece = plain[index * CHUNK : (index + 1) * CHUNK]
        at = index * SEALED_CHUNK
        cipher.seal_into(index, piece, out[at : at + len(piece) + TAG])
    return bytes(sealed)


def open_bytes(key: bytes, context: bytes, sealed: bytes) -> bytes:
    """What `seal_bytes`, or a `SealedWriter`, was given.

    Raises:
        IntegrityError: as `SealedReader`.
        RuntimeError: a key that is not 32 bytes.
    """
    size = plain_size(len(sealed))
    cipher = derive_checked(key, sealed[:HEADER], context)
    plain = bytearray(size)
    open_run(cipher, 0, memoryview(sealed)[HEADER:], memoryview(plain))
    return bytes(plain)


class ChunkCipher:
    """The key and base nonce of one file."""

    __slots__ = ("_aead", "_base")

    def __init__(self, key: bytes, base_nonce: bytes) -> None:
        self._aead = AESGCM(key)
        self._base = int.from_bytes(base_nonce, "big")

    def seal_into(self, index: int, plain: memoryview, out: memoryview) -> None:
        nonce = (self._base ^ index).to_bytes(_NONCE, "big")
        self._aead.encrypt_into(nonce, plain, None, out)

    def open_into(self, index: int, sealed: memoryview, out: memoryview) -> None:
        nonce = (self._base ^ index).to_bytes(_NONCE, "big")
        try:
            self._aead.decrypt_into(nonce, sealed, None, out)
        except InvalidTag as error:
            raise IntegrityError(
                f"sealed file: expected chunk {index} to open, found that its tag does not fit",
                kind="chunk",
            ) from error


def open_run(cipher: ChunkCipher, first: int, sealed: memoryview, plain: memoryview) -> None:
    """Open consecutive chunks, the first of them number `first`, into `plain`."""
    for at in range(-(-len(sealed) // SEALED_CHUNK)):
        cipher.open_into(
            first + at,
            sealed[at * SEALED_CHUNK : (at + 1) * SEALED_CHUNK],
            plain[at * CHUNK : (at + 1) * CHUNK],
        )


def derive(key: bytes, salt: bytes, context: bytes) -> tuple[ChunkCipher, bytes]:
    """Derive cipher and commitment (C2SP chunked-encryption, "Key derivation")."""
    if len(key) != KEY:
        raise RuntimeError(f"document key: expected {KEY} bytes, found {len(key)}")
    length = KEY + _NONCE + COMMITMENT
    info = _INFO + salt + context
    derived = HKDFExpand(algorithm=SHA512(), length=length, info=info).derive(key)
    cipher = ChunkCipher(derived[:KEY], derived[KEY : KEY + _NONCE])
    return cipher, derived[KEY + _NONCE :]


def derive_checked(key: bytes, header: bytes, context: bytes) -> ChunkCipher:
    """Derive the cipher of an existing file, once its commitment has been checked."""
    cipher, commitment = derive(key, header[:SALT], context)
    if not hmac.compare_digest(commitment, header[SALT:]):
        raise IntegrityError(
            "sealed file: expected the commitment of this key and context, found another",
            kind="commitment",
        )
    return cipher
