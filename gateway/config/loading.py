"""Reading the configuration: one TOML file, decoded strictly.

Promises: unknown keys are refused; an error names the file and the key path, what was expected and what was
found; what the types can't say (two keys that contradict each other) is checked here too.
Leaves out: the keys and their types (`sections`).
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from gateway.config.addresses import parse_listen, server_address
from gateway.config.sections import Config, File, PlaceSection, WebhookSection
from gateway.errors import ConfigurationError

DEFAULT_PATHS: Final = (Path("config.toml"), Path("/etc/strongroom/config.toml"))
SOCKET_PATH_LIMIT: Final = 107  # sun_path of sockaddr_un(7) less its terminating zero


def load(path: Path | None = None) -> Config:
    """Read and decode the configuration.

    Args:
        path: the file; None looks at `./config.toml`, then `/etc/strongroom/config.toml`.

    Raises:
        ConfigurationError: there is none, it is not TOML, or a key is unknown or out of its range.
    """
    if path is None:
        path = next((candidate for candidate in DEFAULT_PATHS if candidate.is_file()), None)
        if path is None:
            places = " or ".join(str(candidate) for candidate in DEFAULT_PATHS)
            raise ConfigurationError(
                f"configuration: expected a file at {places}, found none; `strongroom init` makes one"
            )
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{path}: expected a readable configuration, found {error.strerror}"
        ) from error
    return decode(raw, path)


def decode(raw: bytes, path: Path) -> Config:
    """Decode the bytes of a configuration file (errors as `load`)."""
    try:
        data = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected TOML in UTF-8, found {error}") from error
    try:
        file = msgspec.convert(data, File)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_sentence(path, data, str(error))) from error
    parts = {name: getattr(file, name) for name in File.__struct_fields__}
    config = Config(**parts, base=path.parent.absolute(), source=path)
    _check(config)
    return config


def _sentence(path: Path, data: dict[str, Any], message: str) -> str:
    """Turn msgspec's message into subject, expected, found."""
    text, _, place = message.partition(" - at `$")
    key = place.rstrip("`").lstrip(".")
    unknown = re.match(r"Object contains unknown field `(.+)`", text)
    if unknown:
        where = f"{key}.{unknown[1]}" if key else unknown[1]
        return f"{path}: key {where}: expected a known key, found an unknown one"
    found: Any = data
    for step in re.findall(r"[^.\[\]]+", key):
        try:
            found = found[int(step)] if isinstance(found, list) else found[step]
        except (KeyError, IndexError, ValueError, TypeError):
            break
    expected = re.sub(r"^Expected ", "", text)
    expected = expected.split(", got")[0]
    return f"{path}: key {key or '(top level)'}: expected {expected}, found {found!r}"


def _check(config: Config) -> None:
    """Check what the types can't express."""
    smtp = config.smtp
    for key, value in (
        ("sftp.listen", config.sftp.listen),
        ("smtp.listen", smtp.listen),
        ("smtp.submission_listen", smtp.submission_listen),
        ("smtp.submissions_listen", smtp.submissions_listen),
    ):
        if value or key in {"sftp.listen", "smtp.listen"}:
            parse_listen(value, f"{config.source}: key {key}")
    for role in ("sftp", "smtp", "inspect", "courier", "resolver", "mailbox", "admin"):
        where = str(config.socket(role))
        if len(where.encode()) > SOCKET_PATH_LIMIT:
            raise ConfigurationError(
                f"{config.source}: key sockets.directory: expected a socket path of at most"
                f" {SOCKET_PATH_LIMIT} bytes, found {len(where.encode())} ({where})"
            )
    if bool(config.smtp.tls_certificate) != bool(config.smtp.tls_key):
        raise ConfigurationError(
            f"{config.source}: key smtp.tls_certificate: expected it together with smtp.tls_key,"
            " found one of the two"
        )
    _check_senders(config)
    for key in ("submission_listen", "submissions_listen"):
        if getattr(smtp, key) and not smtp.tls_certificate:
            raise ConfigurationError(
                f"{config.source}: key smtp.{key}: expected it together with smtp.tls_certificate, because a"
                " password is taken over TLS only, found none"
            )
    _check_networks(f"{config.source}: key smtp.rate_exempt", smtp.rate_exempt)
    if config.access.hours > config.access.max_hours:
        raise ConfigurationError(
            f"{config.source}: key access.hours: expected at most access.max_hours"
            f" ({config.access.max_hours}), found {config.access.hours}"
        )
    _check_login(config)
    _check_places(config.source, "keyring.copies", config.keyring.copies)
    _check_places(config.source, "backup.targets", config.backup.targets)
    _check_places(config.source, "ledger.places", config.ledger.places)
    if fault := config.relay.fault():
        raise ConfigurationError(f"{config.source}: key relay: {fault}")
    _check_places(config.source, "webhook", config.webhook)


def _check_senders(config: Config) -> None:
    where = f"{config.source}: key"
    for text in config.senders.upstream:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigurationError(
                f"{where} senders.upstream: expected networks like 192.0.2.25/32, found {text!r}"
            ) from error
    if bool(config.senders.upstream) != bool(config.senders.upstream_name):
        raise ConfigurationError(
            f"{where} senders.upstream: expected it together with senders.upstream_name, found one of"
            " the two"
        )
    for text in config.resolver.addresses:
        server_address(text)
    names = [section.name for section in config.mailbox]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"{where} mailbox: expected distinct names, found {names}")
    for section in config.mailbox:
        if fault := section.fault():
            raise ConfigurationError(f"{where} mailbox ({section.name}): {fault}")


def _check_login(config: Config) -> None:
    where = f"{config.source}: key login"
    try:
        ZoneInfo(config.login.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"{where}.time_zone: expected a name like Europe/Berlin, found {config.login.time_zone!r}"
        ) from error
    _check_networks(f"{where}.exempt", config.login.exempt)


def _check_networks(where: str, texts: Sequence[str]) -> None:
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigurationError(
                f"{where}: expected networks like 192.0.2.0/24, found {text!r}"
            ) from error


def _check_places(
    source: Path, key: str, sections: Sequence[PlaceSection | WebhookSection]
) -> None:
    """Distinct names, and places and webhooks that make sense (raises ConfigurationError)."""
    names = [section.name for section in sections]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"{source}: key {key}: expected distinct names, found {names}")
    for section in sections:
        if fault := section.fault():
            raise ConfigurationError(f"{source}: key {key} ({section.name}): {fault}")
