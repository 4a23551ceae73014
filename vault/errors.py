"""The errors of the vault: one root, a shallow tree.

What this module promises: whatever goes wrong with data, keys or storage inside `vault` is
raised as a subclass of `VaultError`, so that a caller needs one `except` clause and never sees
an `OSError`, a `binascii.Error` or a cryptographic library's exception. The type says what may
be done about it; nothing has to be read out of the text.

Leaves out: misuse by the programmer (a key of the wrong size, a write after `finish`)
is a `RuntimeError` and is not meant to be caught.

Rules for the messages: the subject, what was expected, what was found. Never a key, a name or
any text of a document; the identifiers in them are the vault's own.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Damage: TypeAlias = Literal[
    "header", "commitment", "chunk", "truncated", "trailing", "length", "format"
]


class VaultError(Exception):
    """The root of everything the vault raises about bad data, missing keys or failing storage."""

    owner: str | None = None
    """Whose keyring did not open, where that is what went wrong (`vault.keys.open_keyrings`)."""


class IntegrityError(VaultError):
    """Stored bytes are not what was written, or were written for something else.

    Fatal for the object concerned: reading it again gives the same answer.

    `kind` says where the damage shows:

    - `header`: too short to hold a header;
    - `commitment`: the header was not made with this key and context (wrong key, wrong document,
      or a changed header; these cannot be told apart);
    - `chunk`: an authentication tag does not fit (changed, moved, or sealed for something else);
    - `truncated`: the end is missing, or the file was never finished;
    - `trailing`: bytes follow where the format ends;
    - `length`: a length that no writer produces;
    - `format`: an unknown version, or text that is not in its one canonical form.
    """

    def __init__(self, message: str, *, kind: Damage) -> None:
        super().__init__(message)
        self.kind: Damage = kind


class KeyUnavailable(VaultError):
    """A key, group, epoch or keyring is not there, or not there any more.

    For a destroyed group this is the normal and final answer.
    """


class WrongRootKey(VaultError):
    """The root key at hand is not the one this was wrapped with: a configuration fault."""


class RootKeyRefused(VaultError):
    """The root key file is there, but its type, owner, mode or content is not acceptable."""


class TokenFailed(VaultError):
    """The token that holds the root key does not answer, or answered with an error.

    Retryable: the next operation opens a new session. It never means that a key is gone.
    """


class BlobMissing(VaultError):
    """No blob of that id is stored (or spooled). Final for a destroyed document."""


class StoreMissing(VaultError):
    """A store was expected and is not there. The daemon never creates one by itself."""


class StoreExists(VaultError):
    """Something was to be created and is already there. Nothing was changed."""


class StoreLocked(VaultError):
    """Another process holds the store."""


class StorageFull(VaultError):
    """No space, quota or allowed file size is left (ENOSPC, EDQUOT, EFBIG).

    Retryable from the start of the operation, once there is room.
    """


class StorageFailed(VaultError):
    """A write or an fsync failed. Final: the same operation is never retried.

    After a failed fsync the kernel may have dropped the data and may report success the next
    time, so nothing that shares the descriptor can be trusted any more.
    """


class PlaceError(VaultError):
    """A place outside the store can't be reached, refuses, is full, or is not what was expected.

    Retryable: the same operation may succeed later.
    """


class PlaceMissing(VaultError):
    """The place answered, and has nothing of that name."""
