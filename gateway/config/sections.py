"""The sections of the configuration, one struct each: keys, types, bounds and defaults.

Promises: a section is immutable and knows its keys; a default stands here and nowhere else.
Leaves out: where the file is and how a fault is told (`loading`), what an address means (`addresses`).

Rules:
    - What a key is for, its unit and what an attacker gains by changing it stands in `config.example.toml`.
    - Who needs a section takes the section itself; nobody copies its values into a structure of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from gateway.config.addresses import (
    S3Address,
    SftpAddress,
    is_endpoint,
    is_host_key,
    is_loopback,
    is_mail_address,
    is_token,
    is_webhook,
    parse_listen,
    parse_s3,
    parse_sftp,
)
from gateway.errors import ConfigurationError

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

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
        """The factors that a login of that role takes."""
        return self.client if role == "client" else self.staff


class SmtpSection(_Section, frozen=True):
    """`[smtp]`"""

    listen: str = "127.0.0.1:2525"
    domain: str = "intake.localhost"
    max_message_size: Positive = 100 * 1024 * 1024
    max_connections: Positive = 200
    submission_listen: str = ""
    submissions_listen: str = ""
    messages_per_minute: Annotated[int, Meta(ge=0)] = 600
    bytes_per_hour: Annotated[int, Meta(ge=0)] = 20 * 1024**3
    rate_exempt: list[str] = field(default_factory=lambda: ["127.0.0.0/8", "::1"])
    timeout: Seconds = 300.0
    resend_hours: Annotated[int, Meta(ge=0, le=24 * 30)] = 24
    tls_certificate: str = ""
    tls_key: str = ""


ProofWord = Literal["submission", "dkim", "spf", "tag", "nothing"]


class SendersSection(_Section, frozen=True):
    """`[senders]`"""

    proof: Annotated[list[ProofWord], Meta(min_length=1)] = field(
        default_factory=lambda: ["nothing"]
    )
    unproven: Literal["quarantine", "refuse"] = "quarantine"
    # The mail door waits two minutes for the core.
    patience: Annotated[float, Meta(gt=0, le=60)] = 20.0
    upstream: list[str] = field(default_factory=list)
    upstream_name: str = ""
    arc_sealers: list[str] = field(default_factory=list)


class ResolverSection(_Section, frozen=True):
    """`[resolver]`"""

    addresses: Annotated[list[str], Meta(max_length=8)] = field(default_factory=list)
    timeout: Seconds = 5.0


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
    body_text: Literal["auto", "always", "never"] = "auto"
    max_passwords: Annotated[int, Meta(ge=0, le=100)] = 16
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
        return parse_sftp(self.sftp)

    def s3_address(self) -> S3Address:
        """The parts of `s3` (raises ConfigurationError)."""
        return parse_s3(self.s3)

    def fault(self) -> str | None:
        """What the types can't express: which key is wrong, what was expected and what was found."""
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
        if self.host_key and not is_host_key(self.host_key):
            return "key host_key: expected a line like `ssh-ed25519 AAAA…`, found another"
        if self.endpoint and not is_endpoint(self.endpoint):
            return (
                "key endpoint: expected https://host (http:// on this machine only),"
                f" found {self.endpoint!r}"
            )
        return None


class MailboxSection(_Section, frozen=True, kw_only=True):
    """`[[mailbox]]`"""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    host: str
    user: str
    password: str
    tls: Literal["implicit", "starttls", "none"] = "implicit"
    authorities: str = ""
    folder: str = "INBOX"
    client: str = ""
    addresses: dict[str, str] = field(default_factory=dict)
    senders: Literal["listed", "anyone"] = "listed"
    authserv_id: str = ""
    done: Literal["seen", "move", "keep"] = "seen"
    done_folder: str = ""
    idle: bool = True
    poll_seconds: Seconds = 60.0
    timeout: Seconds = 60.0

    @property
    def server(self) -> tuple[str, int]:
        """Host and port (raises ConfigurationError)."""
        return parse_listen(self.host, f"mailbox {self.name}: key host")

    def fault(self) -> str | None:
        """What the types can't express: which key is wrong, what was expected and what was found."""
        host, _ = self.server
        if self.tls == "none" and host not in _LOOPBACK:
            return 'key tls: expected "implicit" or "starttls" beyond this machine, found "none"'
        if bool(self.client) == bool(self.addresses):
            return "expected either client or addresses, found both or none"
        if (self.done == "move") != bool(self.done_folder):
            return 'expected done_folder together with done = "move", found one of the two'
        return None


class KeyringCopy(PlaceSection, frozen=True, kw_only=True):
    """`[[keyring.copies]]`"""

    keeps_days: Annotated[int, Meta(ge=0, le=36500)] = 0

    @property
    def target(self) -> str:
        """Its name in transfers: no backup target can have that name."""
        return f"keyring:{self.name}"


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
        """Its name in transfers: no backup target can have that name."""
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


class RelaySection(_Section, frozen=True):
    """`[relay]`"""

    address: str = ""
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    tls_ca: str = ""
    user: str = ""
    credentials: str = ""
    sender: str = ""
    sender_name: str = "Strongroom"
    reply_to: str = ""
    language: Literal["zh", "en", "both"] = "both"
    file_names: bool = False
    digest_minutes: Annotated[int, Meta(ge=0, le=24 * 60)] = 15
    inspection_minutes: Annotated[int, Meta(ge=1, le=24 * 60)] = 60
    max_per_minute: Annotated[int, Meta(ge=1, le=10_000)] = 60
    max_per_recipient: Annotated[int, Meta(ge=1, le=10_000)] = 50
    dkim_key: str = ""
    dkim_selector: str = ""
    dkim_domain: str = ""

    def fault(self) -> str | None:
        """What the types can't express: which key is wrong, what was expected and what was found."""
        if not self.address:
            return None
        try:
            host, _ = parse_listen(self.address, "key address")
        except ConfigurationError as error:
            return str(error)
        if self.tls == "none" and not is_loopback(host):
            return f"key tls: expected none for a relay on this machine only, found it for {host!r}"
        if bool(self.user) != bool(self.credentials):
            return "expected user together with credentials, found one of the two"
        if not is_mail_address(self.sender):
            return (
                f"key sender: expected an address like receipts@example.com, found {self.sender!r}"
            )
        if self.reply_to and not is_mail_address(self.reply_to):
            return f"key reply_to: expected an address, found {self.reply_to!r}"
        if not self.sender_name.isprintable():
            return "key sender_name: expected printable characters, found others"
        given = [bool(each) for each in (self.dkim_key, self.dkim_selector, self.dkim_domain)]
        if any(given) and not all(given):
            return "expected dkim_key, dkim_selector and dkim_domain together, found some of them"
        return None


class WebhookSection(_Section, frozen=True, kw_only=True):
    """`[[webhook]]`"""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    url: str
    secret: str
    tls_ca: str = ""

    @property
    def target(self) -> str:
        """Its name in transfers: no place can have that name."""
        return f"webhook:{self.name}"

    def fault(self) -> str | None:
        """What the types can't express."""
        if not is_webhook(self.url):
            return (
                "key url: expected https://host/path (http:// on this machine only), without a user in it,"
                f" found {self.url.partition('?')[0]!r}"
            )
        if not self.secret:
            return "key secret: expected a file, found none"
        return None


class LogSection(_Section, frozen=True):
    """`[log]`"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class File(_Section, frozen=True):
    """The whole file: its sections, in the order of `config.example.toml`."""

    store: StoreSection = StoreSection()
    sockets: SocketsSection = SocketsSection()
    sftp: SftpSection = SftpSection()
    login: LoginSection = field(default_factory=LoginSection)
    smtp: SmtpSection = field(default_factory=SmtpSection)
    mailbox: list[MailboxSection] = field(default_factory=list)
    senders: SendersSection = field(default_factory=SendersSection)
    resolver: ResolverSection = field(default_factory=ResolverSection)
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
    relay: RelaySection = RelaySection()
    webhook: list[WebhookSection] = field(default_factory=list)
    log: LogSection = LogSection()


class Config(File, frozen=True):
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
        return value if not value or is_token(value) else str(self.resolve(value))

    def socket(self, role: str) -> Path:
        """The socket at which the core listens for a role."""
        return self.resolve(self.sockets.directory) / f"{role}.sock"
