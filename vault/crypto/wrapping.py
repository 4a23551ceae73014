"""Keys that wrap keys, keys that seal small records, and names one can look up without reading.

Promises: everything sealed here is bound to its purpose and to the thing it belongs to.
A wrapped document key moved to another document, another group or another use does not open.

Leaves out: streams (`vault.crypto.sealed`), and where keys live (`vault.keys.keyring`,
`vault.keys.root`). Python cannot wipe `bytes`: keys stay in memory until the interpreter reuses the space.
That is why the process that holds them parses no document.

Rules:
1. AES-256-GCM with a random 96-bit nonce (NIST SP 800-38D, 8.2.2). One key may seal at most 2^32
   times; a group key wraps as many keys as its cohort has documents, far below.
2. Associated data is the version byte and the length-prefixed fields: two different sets of
   fields never encode to the same bytes.
3. A key used for more than one thing is never used directly: HKDF-Expand (RFC 5869, SHA-512) with
   the purpose gives each use a key of its own. Input keys are uniformly random, so there is
   nothing to extract.
4. A failure says which purpose failed and never for which subject: subjects may be names.

The byte layouts are in FORMAT.md, sections 3 to 5.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from vault.errors import IntegrityError

KEY: Final = 32
"""Every symmetric key of the vault, in bytes (AES-256, and HKDF or HMAC input)."""

NONCE: Final = 12
TAG: Final = 16
BLIND_INDEX: Final = 16
"""Bytes kept of the HMAC: enough that no two values of one client meet by chance."""

_WRAPPED: Final = b"\x01"
_RECORD: Final = b"\x02"
WRAPPED_KEY: Final = 1 + NONCE + KEY + TAG
"""Size of a wrapped 32-byte key: 61 bytes."""

_DERIVE: Final = b"strongroom/v1/derive/"


def new_key() -> bytes:
    """32 bytes from the operating system's generator."""
    return secrets.token_bytes(KEY)


def derive_key(key: bytes, purpose: str) -> bytes:
    """The 32-byte key that `key` has for `purpose` (HKDF-Expand with SHA-512, RFC 5869).

    Raises:
        RuntimeError: a key that is not 32 bytes.
    """
    _check_key(key)
    info = _DERIVE + purpose.encode()
    return HKDFExpand(algorithm=SHA512(), length=KEY, info=info).derive(key)


def wrap_key(wrapping_key: bytes, key: bytes, *, purpose: str, subject: str, group: str) -> bytes:
    """Seal the 32-byte `key` under the 32-byte `wrapping_key`; return 61 bytes.

    Purpose, subject and group must be given again to unwrap.

    Args:
        purpose: a fixed word of the caller's ("document-key").
        subject: the id of what the key belongs to.
        group: the id of the wrapping key.

    Raises:
        RuntimeError: keys that are not 32 bytes.
    """
    _check_key(wrapping_key)
    _check_key(key)
    return _seal(wrapping_key, key, _WRAPPED, (purpose, subject, group))


def wrapped_form(nonce: bytes, sealed: bytes) -> bytes:
    """A wrapped key from what another AES-GCM made with `associated_data`: a token's, say.

    Raises:
        RuntimeError: other sizes than 12 and 48 bytes.
    """
    if (len(nonce), len(sealed)) != (NONCE, KEY + TAG):
        raise RuntimeError(
            f"wrapped key: expected 12 and 48 bytes, found {len(nonce), len(sealed)}"
        )
    return _WRAPPED + nonce + sealed


def split_wrapped(wrapped: bytes, purpose: str) -> tuple[bytes, bytes]:
    """Nonce and ciphertext with tag of a wrapped key (raises IntegrityError as `unwrap_key`)."""
    if len(wrapped) != WRAPPED_KEY or wrapped[:1] != _WRAPPED:
        raise IntegrityError(
            f"wrapped key ({purpose}): expected version {_WRAPPED[0]} and {WRAPPED_KEY} bytes, found"
            f" another form of {len(wrapped)} bytes",
            kind="format" if len(wrapped) == WRAPPED_KEY else "length",
        )
    return wrapped[1 : 1 + NONCE], wrapped[1 + NONCE :]


def associated_data(*, purpose: str, subject: str, group: str) -> bytes:
    """What a wrapped key is bound to, encoded (FORMAT.md, section 3)."""
    return _WRAPPED + _fields(purpose, subject, group)


def unwrap_key(
    wrapping_key: bytes, wrapped: bytes, *, purpose: str, subject: str, group: str
) -> bytes:
    """The key that `wrap_key` sealed with the same arguments.

    Raises:
        IntegrityError: `format` for another version, `length` for another size, `chunk` if it was changed
            or is bound to something else.
        RuntimeError: a wrapping key of another size.
    """
    _check_key(wrapping_key)
    if len(wrapped) != WRAPPED_KEY:
        raise IntegrityError(
            f"wrapped key ({purpose}): expected {WRAPPED_KEY} bytes, found {len(wrapped)}",
            kind="length",
        )
    return _open(wrapping_key, wrapped, _WRAPPED, (purpose, subject, group))


class KeyWrapper:
    """`wrap_key` and `unwrap_key` for many keys under one wrapping key: its cipher is set up once."""

    def __init__(self, wrapping_key: bytes, *, purpose: str, group: str) -> None:
        """`wrapping_key`: 32 bytes; `purpose` and `group` as in `wrap_key` (raises RuntimeError)."""
        _check_key(wrapping_key)
        self._cipher = AESGCM(wrapping_key)
        self._purpose = purpose
        self._before = _WRAPPED + _fields(purpose)
        self._after = _fields(group)

    def wrap(self, key: bytes, subject: str) -> bytes:
        """As `wrap_key`."""
        _check_key(key)
        nonce = secrets.token_bytes(NONCE)
        bound = self._before + _field(subject) + self._after
        return _WRAPPED + nonce + self._cipher.encrypt(nonce, key, bound)

    def unwrap(self, wrapped: bytes, subject: str) -> bytes:
        """As `unwrap_key` (raises IntegrityError)."""
        if len(wrapped) != WRAPPED_KEY or wrapped[:1] != _WRAPPED:
            raise IntegrityError(
                f"wrapped key ({self._purpose}): expected version {_WRAPPED[0]} and {WRAPPED_KEY}"
                f" bytes, found another form of {len(wrapped)} bytes",
                kind="format" if len(wrapped) == WRAPPED_KEY else "length",
            )
        bound = self._before + _field(subject) + self._after
        try:
            return self._cipher.decrypt(wrapped[1 : 1 + NONCE], wrapped[1 + NONCE :], bound)
        except InvalidTag as error:
            raise IntegrityError(
                f"sealed value ({self._purpose}): expected it to open with this key for this"
                " subject, found that its tag does not fit",
                kind="chunk",
            ) from error


def seal_record(key: bytes, data: bytes, *, purpose: str, subject: str) -> bytes:
    """Seal the small record `data` under what `key` derives for `purpose`; adds 29 bytes.

    Args:
        subject: the id of what the record is about.

    Raises:
        RuntimeError: a key that is not 32 bytes.
    """
    return _seal(derive_key(key, f"record/{purpose}"), data, _RECORD, (purpose, subject))


def open_record(key: bytes, sealed: bytes, *, purpose: str, subject: str) -> bytes:
    """The data that `seal_record` sealed with the same arguments.

    Raises:
        IntegrityError: as `unwrap_key`.
        RuntimeError: a key that is not 32 bytes.
    """
    return _open(derive_key(key, f"record/{purpose}"), sealed, _RECORD, (purpose, subject))


def blind_index(key: bytes, purpose: str, value: str) -> bytes:
    """16 bytes under which `value` can be looked up, but only with `key`.

    HMAC-SHA-256 (RFC 2104) over the length-prefixed purpose and value, truncated. The value is
    normalised to NFC first, so that two ways of typing one name meet; letter case is the
    caller's business. Equal values give equal indexes: an index reveals repetition.

    Raises:
        RuntimeError: a key that is not 32 bytes.
    """
    _check_key(key)
    message = _fields(purpose, unicodedata.normalize("NFC", value))
    return hmac.new(key, message, hashlib.sha256).digest()[:BLIND_INDEX]


def blind_number(key: bytes, value: str) -> int:
    """The 48-bit number that stands for a value; whoever has no key learns nothing of it but repetition.

    BLAKE2b, keyed (RFC 7693).

    Args:
        key: at least one byte; of a longer one the first 64 count.
    """
    return int.from_bytes(hashlib.blake2b(value.encode(), key=key[:64], digest_size=6).digest())


def _seal(key: bytes, data: bytes, version: bytes, bound: tuple[str, ...]) -> bytes:
    nonce = secrets.token_bytes(NONCE)
    return version + nonce + AESGCM(key).encrypt(nonce, data, version + _fields(*bound))


def _open(key: bytes, sealed: bytes, version: bytes, bound: tuple[str, ...]) -> bytes:
    purpose = bound[0]
    if len(sealed) < 1 + NONCE + TAG:
        raise IntegrityError(
            f"sealed value ({purpose}): expected at least {1 + NONCE + TAG} bytes, "
            f"found {len(sealed)}",
            kind="length",
        )
    if sealed[:1] != version:
        raise IntegrityError(
            f"sealed value ({purpose}): expected version {version[0]}, found {sealed[0]}",
            kind="format",
        )
    nonce, body = sealed[1 : 1 + NONCE], sealed[1 + NONCE :]
    try:
        return AESGCM(key).decrypt(nonce, body, version + _fields(*bound))
    except InvalidTag as error:
        raise IntegrityError(
            f"sealed value ({purpose}): expected it to open with this key for this subject, "
            "found that its tag does not fit",
            kind="chunk",
        ) from error


def _fields(*values: str) -> bytes:
    """Encode text fields so that no two lists share an encoding: u32 length, then UTF-8, each.

    Names from a network may hold lone surrogates; they keep an encoding of their own.
    """
    return b"".join(map(_field, values))


def _field(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(4, "big") + encoded


def _check_key(key: bytes) -> None:
    if len(key) != KEY:
        raise RuntimeError(f"symmetric key: expected {KEY} bytes, found {len(key)}")
