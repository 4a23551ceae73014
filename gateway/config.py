"""The configuration: one TOML file, decoded strictly.

Unknown keys are refused, and an error names the file and the key path, what was expected and what was
found. Relative paths are relative to the folder of the configuration file. `config.example.toml` lists
every key with its unit, its default and what changing it would let an attacker do; a test decodes it.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import tomllib
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct, field

from gateway.errors import ConfigurationError

DEFAULT_PATHS: Final = (Path("config.toml"), Path("/etc/strongroom/config.toml"))
SOCKET_PATH_LIMIT: Final = 107  # sun_path of sockaddr_un(7) less its terminating zero

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]

# No password, query or fragment: what opens a place lies in a file of its own.
_SFTP: Final = re.compile(
    r"sftp://(?P<user>[0-9A-Za-z._-]+)@(?:\[(?P<six>[0-9a-fA-F:]+)\]|(?P<host>[0-9A-Za-z.-]+))"
    r"(?::(?P<port>\d{1,5}))?(?P<path>/[^\x00-\x1f?#]*)"
)
_S3: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[0-9A-Za-z._-]+(?:/[0-9A-Za-z._-]+)*))?/?"
)
_HOST_KEY: Final = re.compile(r"([a-z0-9@.-]+) ([A-Za-z0-9+/]{40,}={0,2})(?: .*)?")
_ENDPOINT: Final = re.compile(
    r"https://[^\s/?#@]+(?:/[^\s?#]*)?|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?/?"
)
_PLACE_KEYS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    # kind: (keys it needs, keys it may have)
    "sftp": (("host_key", "key"), ()),
    "s3": (("credentials",), ("endpoint", "region")),
}


class _Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every section: immutable, unknown keys refused."""


class StoreSection(_Section, frozen=True):
    """`[store]`"""

    path: str = "vault"
    root_key: str = "root.key"
    next_root_key: str = ""
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
    inbox_days: Positive = 30


Factors = Literal["any", "key", "any+code", "key+code"]


class LoginSection(_Section, frozen=True):
    """`[login]`"""

    client: Factors = "any"
    staff: Factors = "key+code"
    time_zone: str = "UTC"
    connections_per_second: Annotated[float, Meta(ge=1, le=1000)] = 10.0
    max_unproven_per_source: Positive = 20
    max_penalty: Seconds = 600.0
    exempt: list[str] = field(default_factory=list)

    def factors(self, role: str) -> Factors:
        """What a login of that role takes."""
        return self.client if role == "client" else self.staff


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
    max_parts: Annotated[int, Meta(ge=1, le=20_000)] = (
        500  # a verdict names them all in one message
    )
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


class QuotaSection(_Section, frozen=True):
    """`[quota]`"""

    bytes: Annotated[int, Meta(ge=0)] = 0
    files: Annotated[int, Meta(ge=0)] = 0


class AccessSection(_Section, frozen=True):
    """`[access]`"""

    restricted: list[str] = field(default_factory=lambda: ["payroll", "identity-document"])
    hours: Positive = 24
    max_hours: Positive = 168
    lapse_days: Positive = 14
    max_waiting: Positive = 50


class DisposalSection(_Section, frozen=True):
    """`[disposal]`"""

    approvals: Annotated[int, Meta(ge=2)] = 2
    key_waiting_hours: Annotated[int, Meta(ge=0, le=24 * 90)] = 72
    recovery_waiting_hours: Annotated[int, Meta(ge=0, le=24 * 90)] = 168
    max_batch: Positive = 10_000

    @property
    def recovery_waiting(self) -> timedelta:
        """How long a key waits that a recovery gave; never shorter than any other key of an officer."""
        return timedelta(hours=max(self.recovery_waiting_hours, self.key_waiting_hours))


class SftpAddress(NamedTuple):
    """The parts of `sftp://user@host:port/path`; `path` is absolute, or relative to the login's folder."""

    user: str
    host: str
    port: int
    path: str


class S3Address(NamedTuple):
    """The parts of `s3://bucket/prefix`; `prefix` may be empty."""

    bucket: str
    prefix: str


class PlaceSection(_Section, frozen=True, kw_only=True):
    """What every section that names a place outside the store has in common.

    Exactly one of `directory`, `sftp` and `s3` is set (`fault` says what is wrong).
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    directory: str = ""
    sftp: str = ""
    host_key: str = ""
    key: str = ""
    s3: str = ""
    endpoint: str = ""
    region: str = ""
    credentials: str = ""

    def place(self, resolve: Callable[[str], Path]) -> str:
        """The place in words, as certificates and status show it: a folder or an address."""
        if self.directory:
            return str(resolve(self.directory))
        if self.sftp:
            return self.sftp
        return f"{self.s3} at {self.endpoint}" if self.endpoint else self.s3

    def sftp_address(self) -> SftpAddress:
        """The parts of `sftp` (raises ConfigurationError)."""
        match = _SFTP.fullmatch(self.sftp)
        port = int(match["port"] or 22) if match else 0
        if match is None or not 0 < port < 65536:
            raise ConfigurationError(
                f"key sftp: expected sftp://user@host:port/path, found {self.sftp!r}"
            )
        path = match["path"]
        # As in curl's addresses: /~/ begins at the login's own folder.
        path = path[3:] or "." if path.startswith("/~/") else path
        return SftpAddress(match["user"], match["six"] or match["host"], port, path)

    def s3_address(self) -> S3Address:
        """The parts of `s3` (raises ConfigurationError)."""
        match = _S3.fullmatch(self.s3)
        if match is None:
            raise ConfigurationError(f"key s3: expected s3://bucket/prefix, found {self.s3!r}")
        return S3Address(match["bucket"], match["prefix"] or "")

    def fault(self) -> str | None:
        """What the types can't say: which key is wrong, what was expected and what was found."""
        kinds = [name for name in ("directory", "sftp", "s3") if getattr(self, name)]
        if len(kinds) != 1:
            return (
                "expected exactly one of directory, sftp and s3,"
                f" found {' and '.join(kinds) or 'none'}"
            )
        (kind,) = kinds
        for other, (needed, allowed) in _PLACE_KEYS.items():
            for name in (*needed, *allowed):
                value = getattr(self, name)
                if other != kind and value:
                    return f"expected {name} together with {other} only, found it with {kind}"
                if other == kind and name in needed and not value:
                    return f"expected {name} together with {kind}, found none"
        try:
            if self.sftp:
                self.sftp_address()
            if self.s3:
                self.s3_address()
        except ConfigurationError as error:
            return str(error)
        if self.host_key and not _is_host_key(self.host_key):
            return "key host_key: expected a line like `ssh-ed25519 AAAA…`, found another"
        if self.endpoint and not _ENDPOINT.fullmatch(self.endpoint):
            return (
                "key endpoint: expected https://host (http:// on this machine only),"
                f" found {self.endpoint!r}"
            )
        return None


class KeyringCopy(PlaceSection, frozen=True, kw_only=True):
    """`[[keyring.copies]]`"""

    keeps_days: Annotated[int, Meta(ge=0, le=36500)] = 0


class KeyringSection(_Section, frozen=True):
    """`[keyring]`"""

    copies: list[KeyringCopy] = field(default_factory=list)


class BackupTarget(PlaceSection, frozen=True, kw_only=True):
    """`[[backup.targets]]`"""

    every_hours: Annotated[int, Meta(ge=0, le=24 * 366)] = 24
    keep_days: Annotated[int, Meta(ge=1, le=36500)] = 30
    keep_least: Annotated[int, Meta(ge=1, le=1000)] = 3


class BackupSection(_Section, frozen=True):
    """`[backup]`"""

    verify_percent: Annotated[float, Meta(gt=0, le=100)] = 5.0
    targets: list[BackupTarget] = field(default_factory=list)


class LedgerPlace(PlaceSection, frozen=True, kw_only=True):
    """`[[ledger.places]]`"""

    tiles: bool = False
    every_seconds: Annotated[int, Meta(ge=1, le=24 * 3600)] = 60

    @property
    def target(self) -> str:
        """What the courier's carries call it: no backup target can have that name."""
        return f"ledger:{self.name}"


class LedgerSection(_Section, frozen=True):
    """`[ledger]`"""

    places: list[LedgerPlace] = field(default_factory=list)


class KeysSection(_Section, frozen=True):
    """`[keys]`"""

    max_group_age_days: Annotated[int, Meta(ge=0)] = 365
    max_ledger_age_days: Annotated[int, Meta(ge=0)] = 730
    max_root_age_days: Annotated[int, Meta(ge=0)] = 730
    host_announce_days: Annotated[int, Meta(ge=0, le=3650)] = 30


class ClockSection(_Section, frozen=True):
    """`[clock]`"""

    longest_absence_days: Annotated[int, Meta(ge=1, le=3650)] = 30


class FixitySection(_Section, frozen=True):
    """`[fixity]`"""

    share_per_day: Annotated[float, Meta(ge=0, le=1)] = 0.01


class LogSection(_Section, frozen=True):
    """`[log]`"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class _File(_Section, frozen=True):
    store: StoreSection = StoreSection()
    sockets: SocketsSection = SocketsSection()
    sftp: SftpSection = SftpSection()
    login: LoginSection = field(default_factory=LoginSection)
    smtp: SmtpSection = SmtpSection()
    inspect: InspectSection = InspectSection()
    retention: RetentionSection = field(default_factory=RetentionSection)
    quota: QuotaSection = QuotaSection()
    access: AccessSection = field(default_factory=AccessSection)
    disposal: DisposalSection = DisposalSection()
    keyring: KeyringSection = field(default_factory=KeyringSection)
    keys: KeysSection = KeysSection()
    clock: ClockSection = ClockSection()
    fixity: FixitySection = FixitySection()
    backup: BackupSection = field(default_factory=BackupSection)
    ledger: LedgerSection = field(default_factory=LedgerSection)
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
    def root_key(self) -> str:
        """The root key: a file's path, a `pkcs11:` address; empty: the credential systemd hands over."""
        return self._key(self.store.root_key)

    @property
    def next_root_key(self) -> str:
        """The root key that is to replace it, in the same form; empty: none."""
        return self._key(self.store.next_root_key)

    def _key(self, value: str) -> str:
        return str(self.resolve(value)) if value and not value.startswith("pkcs11:") else value

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
    if config.access.hours > config.access.max_hours:
        raise ConfigurationError(
            f"{config.source}: key access.hours: expected at most access.max_hours"
            f" ({config.access.max_hours}), found {config.access.hours}"
        )
    _check_login(config)
    check_places(config.source, "keyring.copies", config.keyring.copies)
    check_places(config.source, "backup.targets", config.backup.targets)
    check_places(config.source, "ledger.places", config.ledger.places)


def _check_login(config: Config) -> None:
    where = f"{config.source}: key login"
    try:
        ZoneInfo(config.login.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"{where}.time_zone: expected a name like Europe/Berlin, found {config.login.time_zone!r}"
        ) from error
    for text in config.login.exempt:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigurationError(
                f"{where}.exempt: expected networks like 192.0.2.0/24, found {text!r}"
            ) from error


def check_places(source: Path, key: str, sections: Sequence[PlaceSection]) -> None:
    """Distinct names, and places that make sense (raises ConfigurationError)."""
    names = [section.name for section in sections]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"{source}: key {key}: expected distinct names, found {names}")
    for section in sections:
        if fault := section.fault():
            raise ConfigurationError(f"{source}: key {key} ({section.name}): {fault}")


def _is_host_key(line: str) -> bool:
    """Whether `line` is a public key of OpenSSH's: type, base64 that names the same type, comment."""
    match = _HOST_KEY.fullmatch(line)
    if match is None:
        return False
    try:
        blob = base64.b64decode(match[2], validate=True)
    except ValueError:
        return False
    name = match[1].encode()
    return blob.startswith(len(name).to_bytes(4, "big") + name)


def parse_listen(value: str, subject: str) -> tuple[str, int]:
    """Split `host:port` (IPv6 in brackets) into its parts (raises ConfigurationError)."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^:\[\]]+)):(\d{1,5})", value)
    if match is None or not 0 <= int(match[3]) <= 65535:
        raise ConfigurationError(f"{subject}: expected host:port, found {value!r}")
    return match[1] or match[2], int(match[3])
