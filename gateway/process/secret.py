"""Reading a file that holds a secret: a password, a key, what opens a place.

Promises: it could be read by its owner and nobody else. Leaves out: what is in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from vault.errors import PlaceError
from vault.storage import secret_file

_SECRET_LIMIT: Final = 64 * 1024


def read_secret(path: Path) -> str:
    """The text of a file that nobody else may read.

    Raises:
        PlaceError: it is not there, is no regular file, belongs to somebody else, or others can read it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            given = os.environ.get("CREDENTIALS_DIRECTORY")
            credential = given is not None and path.parent == Path(given)
            if fault := secret_file.fault(os.fstat(fd), credential=credential):
                raise PlaceError(f"{path}: {fault}")
            return file.read(_SECRET_LIMIT).decode("utf-8")
    except OSError as error:
        raise PlaceError(f"{path}: expected a readable file, found {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PlaceError(f"{path}: expected text, found other content") from error
