"""The configuration of an installation: one TOML file, decoded once and strictly.

Here: the sections with their defaults, the addresses in them, and loading.
Not here: what a process does with a value; it takes the section it needs, as it is.

Usage:
    >>> config = load(Path("config.toml"))
    >>> config.sftp.listen, config.socket("sftp")
    ('127.0.0.1:2222', PosixPath('/srv/strongroom/run/sftp.sock'))
"""

from __future__ import annotations

from gateway.config.addresses import S3Address, SftpAddress, parse_listen
from gateway.config.loading import decode, load
from gateway.config.sections import (
    BackupSection,
    BackupTarget,
    Config,
    Factors,
    InspectSection,
    KeyringCopy,
    LedgerPlace,
    LoginSection,
    LogSection,
    PlaceSection,
    RelaySection,
    RetentionSection,
    StoreSection,
    WebhookSection,
)

__all__ = [
    "BackupSection",
    "BackupTarget",
    "Config",
    "Factors",
    "InspectSection",
    "KeyringCopy",
    "LedgerPlace",
    "LogSection",
    "LoginSection",
    "PlaceSection",
    "RelaySection",
    "RetentionSection",
    "S3Address",
    "SftpAddress",
    "StoreSection",
    "WebhookSection",
    "decode",
    "load",
    "parse_listen",
]
