"""The root key: the one secret everything else hangs on.

Promises: a key is used only if nobody but its owner could have read its file, and it wraps
and unwraps small keys without ever showing itself. Its `id` tells two root keys apart and reveals
nothing about them.

Leaves out: rotation (the keyring store re-wraps), and backups of the file: those are the
operator's, on paper or in a safe, and never made by this software.

Rules:
1. The file is one line, `strongroom-root-key-v1`, a space, and the base64 of 32 random bytes.
2. `FileRootKey`: a regular file, not a link, owned by this user or root, with no access for group
   or others. Type, owner and mode are taken from the open descriptor, so nothing can be swapped in
   between. Anything else is refused with what was expected and what was found.
3. `CredentialRootKey`: a file that systemd put into $CREDENTIALS_DIRECTORY. systemd gives it mode
   0400 or 0440 and an access list for the service; others must have no access, and nobody may
   write to it but its owner.
4. What is wrapped is bound to purpose and subject, and the wrapping key is derived, so that a
   root key on a token (`vault.keys.pkcs11`) can stand behind the same `RootKey`.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Final, Protocol, Self

from vault.crypto.wrapping import KEY, derive_key, new_key, unwrap_key, wrap_key
from vault.errors import KeyUnavailable, RootKeyRefused
from vault.keys.root_file import PKCS11, read_secret
from vault.storage.durable import clear_leftovers, create_durably

CREDENTIAL: Final = "strongroom.root-key"
"""Name of the systemd credential (LoadCredential=, LoadCredentialEncrypted=)."""

_MAGIC: Final = "strongroom-root-key-v1"
_MAX_FILE: Final = 4096


class RootKey(Protocol):
    """Something that can wrap keys and that only the core can reach.

    Calls may be made from any thread. `wrap` may leave an object behind in a token, which `forget`
    removes; nothing else has a side effect.
    """

    @property
    def id(self) -> str:
        """16 hex digits that identify the key and are public."""
        ...

    def wrap(self, data: bytes, *, purpose: str, subject: str) -> bytes:
        """The 32-byte key `data` wrapped and bound to `purpose` and `subject`."""
        ...

    def unwrap(self, data: bytes, *, purpose: str, subject: str) -> bytes:
        """What `wrap` wrapped with the same arguments.

        Raises:
            IntegrityError: it was changed or is bound to something else.
            KeyUnavailable: it was forgotten.
            TokenFailed: nobody can say, for the token does not answer.
        """
        ...

    def forget(self, *, purpose: str, subject: str, but: bytes | None = None) -> None:
        """Make everything wrapped with these arguments impossible to unwrap, if this provider can.

        A key in a file can't: what it has wrapped can be unwrapped for as long as the key exists.
        May be repeated.

        Args:
            but: the one wrapping of them that is to stay.

        Raises:
            TokenFailed: the token does not answer.
        """
        ...

    def subjects(self, purpose: str, below: str = "") -> frozenset[str] | None:
        """The subjects whose wrappings can still be undone; None: this provider can't forget.

        Args:
            below: only this subject and those that continue it by one `/` and a part without one.

        Raises:
            TokenFailed: the token does not answer.
        """
        ...


class FileRootKey:
    """A root key held in a file that only its owner can read."""

    _credential = False

    def __init__(self, key: bytes) -> None:
        """Use `key`, 32 uniformly random bytes (raises RuntimeError for another size)."""
        self._wrapping = derive_key(key, "root/wrap")
        self._id = derive_key(key, "root/id")[:8].hex()

    @property
    def id(self) -> str:
        """16 hex digits, derived one-way from the key."""
        return self._id

    def wrap(self, data: bytes, *, purpose: str, subject: str) -> bytes:
        """The 32-byte key `data` wrapped (61 bytes); see `RootKey`."""
        return wrap_key(self._wrapping, data, purpose=purpose, subject=subject, group=self._id)

    def unwrap(self, data: bytes, *, purpose: str, subject: str) -> bytes:
        """What `wrap` wrapped with the same arguments (raises IntegrityError)."""
        return unwrap_key(self._wrapping, data, purpose=purpose, subject=subject, group=self._id)

    def forget(self, *, purpose: str, subject: str, but: bytes | None = None) -> None:
        """Do nothing: see `RootKey`."""

    def subjects(self, purpose: str, below: str = "") -> frozenset[str] | None:
        """None: see `RootKey`."""
        del purpose, below
        return None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new root key in a new file `path` (mode 0600), durably, and return it.

        Raises:
            StoreExists: anything is there.
            StorageFull, StorageFailed, StoreMissing: it can't be written, or there is no such directory.
        """
        # A creation that crashed may have left a file that holds a root key.
        clear_leftovers(path.parent, path.name)
        key = new_key()
        line = f"{_MAGIC} {base64.b64encode(key).decode('ascii')}\n"
        create_durably(path, line.encode("ascii"), 0o600)
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The root key in the file `path`.

        Raises:
            KeyUnavailable: there is none.
            RootKeyRefused: a file of the wrong type, owner, mode or content.
            StorageFailed: it cannot be read.
        """
        return cls(_parse(path, read_secret(path, "root key", credential=cls._credential)))


class CredentialRootKey(FileRootKey):
    """A root key that systemd handed to the service as the credential `strongroom.root-key`."""

    _credential = True

    @classmethod
    def create(cls, path: Path) -> Self:
        """Raise RuntimeError: a credential is made by systemd-creds, from a root key file."""
        raise RuntimeError(f"root key {path}: expected systemd to provide it, found a create call")


def load_root_key(where: str) -> RootKey:
    """The root key of a file, of a token (`pkcs11:…`, RFC 7512), or of the service (empty).

    Empty means the systemd credential; a path inside $CREDENTIALS_DIRECTORY is one, too.

    Raises:
        KeyUnavailable: there is none, or no path and no credential directory.
        VaultError: others, as `FileRootKey.load` and `vault.keys.pkcs11.load`.
    """
    if where.startswith(PKCS11):
        # The library of a token is loaded only where there is one.
        from vault.keys import pkcs11

        return pkcs11.load(where)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(where)
    if not where:
        if not directory:
            raise KeyUnavailable(
                f"root key: expected a configured file or the systemd credential {CREDENTIAL}, "
                "found neither"
            )
        return CredentialRootKey.load(Path(directory) / CREDENTIAL)
    if directory and path.parent == Path(directory):
        return CredentialRootKey.load(path)
    return FileRootKey.load(path)


def create_root_key(where: str) -> RootKey:
    """Make a root key in a new file, or as a new object of a token (`pkcs11:…`), and return it.

    Raises:
        StoreExists: there is one.
        VaultError: others, as `FileRootKey.create` and `vault.keys.pkcs11.create`.
    """
    if where.startswith(PKCS11):
        from vault.keys import pkcs11

        return pkcs11.create(where)
    return FileRootKey.create(Path(where))


def discard_root_key(root: RootKey) -> None:
    """Take back what `create_root_key` made on a token, and everything under it; files stay.

    For an installation that failed.

    Raises:
        TokenFailed: the token does not answer.
    """
    if not isinstance(root, FileRootKey):
        from vault.keys.pkcs11 import TokenRootKey

        if isinstance(root, TokenRootKey):
            root.destroy()


def _parse(path: Path, content: bytes) -> bytes:
    """The key in the file's one line; a missing final newline is tolerated.

    Every fault gives the same message: what is wrong with a key's text is nobody's business.
    """
    magic, _, encoded = content.removesuffix(b"\n").partition(b" ")
    key = b""
    if magic == _MAGIC.encode("ascii"):
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
    if len(key) != KEY or base64.b64encode(key) != encoded:
        raise RootKeyRefused(
            f"root key {path}: expected one line, {_MAGIC} and the base64 of {KEY} bytes, "
            "found other content"
        )
    return key
