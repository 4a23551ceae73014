"""Opening the places that the configuration names: folders, SFTP hosts, S3 buckets.

Promises: `open_place` makes the adapter; it connects when it is first used. What opens a place (a private
key, the credentials of a bucket) lies in a file of its own, never in the configuration, and is refused when
others can read it: the rule of OpenSSH, and for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.config import LedgerPlace, PlaceSection
from gateway.errors import ConfigurationError
from vault.storage.places import DirectoryPlace, Place


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
    # Imported here: an installation with folders only never loads a network client.
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
