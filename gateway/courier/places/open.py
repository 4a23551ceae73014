"""Opening the places that the configuration names: folders, SFTP hosts, S3 buckets.

`open_place` makes the adapter; it connects when it is first used. What opens a place (a private key, the
credentials of a bucket) lies in a file of its own, never in the configuration, and is refused when others can
read it: the rule of OpenSSH, and for the same reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.config import LedgerPlace, PlaceSection
from gateway.errors import ConfigurationError
from vault.errors import PlaceError
from vault.storage import secret_file
from vault.storage.places import DirectoryPlace, Place

_SECRET_LIMIT: Final = 64 * 1024


def open_place(section: PlaceSection, resolve: Callable[[str], Path]) -> Place:
    """The place that a section of the configuration names.

    Args:
        section: a checked one (`PlaceSection.fault` finds nothing).
        resolve: makes a path of the configuration absolute.

    Raises:
        ConfigurationError: the section names no place.
    """
    if fault := section.fault():
        raise ConfigurationError(f"place {section.name}: {fault}")
    if section.directory:
        public = isinstance(section, LedgerPlace)
        return DirectoryPlace(resolve(section.directory), public=public)
    # Imported here: whoever has folders only never loads a network client.
    if section.sftp:
        from gateway.courier.places.sftp import SftpPlace

        return SftpPlace(section.sftp_address(), section.host_key, resolve(section.key))
    from gateway.courier.places.s3 import S3Place

    return S3Place(
        section.s3_address(),
        resolve(section.credentials),
        endpoint=section.endpoint,
        region=section.region,
    )


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
