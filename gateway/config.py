"""The configuration: one TOML file, decoded strictly.

Unknown keys are refused, and an error names the file and the key path, what was expected and what was
found. Relative paths are relative to the folder of the configuration file. `config.example.toml` lists
every key with its unit, its default and what changing it would let an attacker do; a test decodes it.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from gateway.errors import ConfigurationError

DEFAULT_PATHS: Final = (Path("config.toml"), Path("/etc/strongroom/config.toml"))
SOCKET_PATH_LIMIT: Final = 107  # sun_path of sockaddr_un(7) less its terminating zero

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class _Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every section: immutable, unknown keys refused."""


class StoreSection(_Section, frozen=True):
    """`[store]`"""

    path: str = "vault"
    root_key: str = "root.key"
    minimum_free: Annotated[int, Meta(ge=0)] = 256 * 1024 * 1024


class SocketsSection(_Section, frozen=True):
    """`[sockets]`"""

    directory: str = "run"


class SftpSection(_Section, frozen=True):
    """`[sftp]`"""

    listen: str = "127.0.0.1:2222"
    login_grace: Seconds = 30.0
    idle_timeout: Seconds = 900.0
    max_connections: Positive = 200
    max_connections_per_source: Positive = 50
    max_attempts: Positive = 6
    memory_limit: Annotated[int, Meta(ge=256 * 1024 * 1024)] = 768 * 1024 * 1024
    max_document_size: Positive = 16 * 1024**3


class SmtpSection(_Section, frozen=True):
    """`[smtp]`"""

    listen: str = "127.0.0.1:2525"
    domain: str = "intake.localhost"
    max_message_size: Positive = 100 * 1024 * 1024
    max_connections: Positive = 200
    timeout: Seconds = 300.0
    tls_certificate: str = ""
    tls_key: str = ""


class InspectSection(_Section, frozen=True):
    """`[inspect]`"""

    workers: Positive = 2
    clamd: Literal["auto", "required", "off"] = "auto"
    clamd_address: str = "unix:/run/clamav/clamd.ctl"
    clamd_max_signature_age_days: Annotated[int, Meta(ge=0)] = 7
    memory_limit: Annotated[int, Meta(ge=256 * 1024 * 1024)] = 1024 * 1024 * 1024
    cpu_seconds: Positive = 120
    wall_seconds: Seconds = 120.0
    max_attempts: Positive = 6
    retry_seconds: Seconds = 5.0
    max_parts: Positive = 500
    max_depth: Positive = 4
    max_expanded_size: Positive = 2 * 1024**3
    yara_rules: str = ""


class RetentionSection(_Section, frozen=True):
    """`[retention]`"""

    packs: list[str] = field(default_factory=lambda: ["cn"])
    directory: str = ""
    propose_interval: Seconds = 3600.0
    partial_hours: Positive = 24
    quarantine_days: Positive = 30


class DisposalSection(_Section, frozen=True):
    """`[disposal]`"""

    approvals: Annotated[int, Meta(ge=2)] = 2
    max_batch: Positive = 10_000


class KeyringCopy(_Section, frozen=True):
    """`[[keyring.copies]]`"""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    directory: str


class KeyringSection(_Section, frozen=True):
    """`[keyring]`"""

    copies: list[KeyringCopy] = field(default_factory=list)


class LogSection(_Section, frozen=True):
    """`[log]`"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class _File(_Section, frozen=True):
    store: StoreSection = StoreSection()
    sockets: SocketsSection = SocketsSection()
    sftp: SftpSection = SftpSection()
    smtp: SmtpSection = SmtpSection()
    inspect: InspectSection = InspectSection()
    retention: RetentionSection = field(default_factory=RetentionSection)
    disposal: DisposalSection = DisposalSection()
    keyring: KeyringSection = field(default_factory=KeyringSection)
    log: LogSection = LogSection()


class Config(_File, frozen=True):
    """A decoded configuration and the folder it speaks from."""

    base: Path = Path()
    source: Path = Path()

    def resolve(self, path: str) -> Path:
        """A path of the configuration as an absolute one."""
        return (self.base / path).absolute()

    @property
    def store_path(self) -> Path:
        return self.resolve(self.store.path)

    @property
    def root_key_path(self) -> Path | None:
        """The root key's file; None: the credential that systemd hands over."""
        return self.resolve(self.store.root_key) if self.store.root_key else None

    def socket(self, role: str) -> Path:
        """Where the core listens for a role."""
        return self.resolve(self.sockets.directory) / f"{role}.sock"


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
        file = msgspec.convert(data, _File)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_sentence(path, data, str(error))) from error
    parts = {name: getattr(file, name) for name in _File.__struct_fields__}
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
    """What the types can't say."""
    for key, value in (("sftp.listen", config.sftp.listen), ("smtp.listen", config.smtp.listen)):
        parse_listen(value, f"{config.source}: key {key}")
    for role in ("sftp", "smtp", "inspect", "courier", "admin"):
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
    names = [copy.name for copy in config.keyring.copies]
    if len(set(names)) != len(names):
        raise ConfigurationError(
            f"{config.source}: key keyring.copies: expected distinct names, found {names}"
        )


def parse_listen(value: str, subject: str) -> tuple[str, int]:
    """Split `host:port` (IPv6 in brackets) into its parts (raises ConfigurationError)."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^:\[\]]+)):(\d{1,5})", value)
    if match is None or not 0 <= int(match[3]) <= 65535:
        raise ConfigurationError(f"{subject}: expected host:port, found {value!r}")
    return match[1] or match[2], int(match[3])
