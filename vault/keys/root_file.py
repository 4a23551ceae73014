"""Files with a root key or a token's PIN: how an address begins, and reading the file.

Promises: what is read could be read by its owner and nobody else. Leaves out: what is in it (`root`,
`pkcs11_address`).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from vault.errors import KeyUnavailable, RootKeyRefused
from vault.storage import secret_file
from vault.storage.durable import storage_error

PKCS11: Final = "pkcs11:"
"""How the address of a root key on a token begins (RFC 7512)."""
_MAX_FILE: Final = 4096


def read_secret(path: Path, what: str, *, credential: bool) -> bytes:
    """The content of a file that nobody but its owner could have read (at most 4097 bytes of it).

    Args:
        what: how messages call it ("root key").
        credential: whether systemd provided it (`secret_file`, rule 3).

    Raises:
        KeyUnavailable: there is none.
        RootKeyRefused: type, owner or mode are not acceptable.
        StorageFailed: it can't be read.
    """
    # O_NONBLOCK: opening a named pipe in the file's place must not hang the start.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except FileNotFoundError as error:
        raise KeyUnavailable(f"{what} {path}: expected a file, found none") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RootKeyRefused(
                f"{what} {path}: expected a regular file, found a symbolic link"
            ) from error
        raise storage_error(error, f"open the {what}", path) from error
    try:
        if fault := secret_file.fault(os.fstat(fd), credential=credential):
            raise RootKeyRefused(f"{what} {path}: {fault}")
        return os.read(fd, _MAX_FILE + 1)
    except OSError as error:
        raise storage_error(error, f"read the {what}", path) from error
    finally:
        os.close(fd)
