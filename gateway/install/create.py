"""Making an installation: configuration, root key, empty vault, socket folder, all or nothing.

Promises: `create` never touches an installation that is there, and leaves nothing behind when it fails;
everything is made in a folder beside its place and moved in, the configuration last, because it is what
makes a folder an installation. Keys are made here and readable by their owner only. Prints nothing.

The demonstration (`demo`) adds a client, accounts with a fresh key each, and samples. It is made by the
same administrative acts as any other account, in this process. It is for a try, not for work: whoever can
read the folder holds every role's key.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.config import Config, LogSection, decode, parse_listen
from gateway.core.login import ssh_keys
from gateway.core.opening import open_core
from gateway.core.sessions.admin import AdminSession
from gateway.core.wings import Wings
from gateway.errors import ConfigurationError
from gateway.install import demonstration
from gateway.process import service
from gateway.wire.messages import AdminCall
from vault.crypto import sshsig
from vault.errors import VaultError
from vault.keys.open_keyrings import HOUSE
from vault.keys.root import RootKey, create_root_key, discard_root_key
from vault.keys.root_file import PKCS11
from vault.storage.durable import create_durably, make_directory, sync_directory, write_durably
from vault.store import Store

CONFIG: Final = "config.toml"
ROOT_KEY: Final = "root.key"
STORE: Final = "vault"
SOCKETS: Final = "run"

_PACKS: Final = 'packs = ["cn"]'
_DEMO_PACKS: Final = f'packs = ["cn", "{demonstration.PACK}"]'
_STAFF: Final = 'staff = "key+code"'
_DEMO_STAFF: Final = """\
# Weaker than the default "key+code": the demonstration's commands are pasted, and nobody types codes there.
staff = "key\""""
_TEXT: Final = f"""\
# Configuration of this Strongroom installation. Paths are relative to this file's folder.
# Every key there is, with its unit, default and risk: config.example.toml.

[store]
# Sealed documents, catalogue, ledger and wrapped keys.
path = "{STORE}"
# The one secret everything hangs on. Keep a copy in a safe place: without it nothing can be read.
root_key = "{ROOT_KEY}"

[sockets]
# Where the roles meet.
directory = "{SOCKETS}"

[sftp]
# host:port that clients and accountants reach; 0.0.0.0 for all of IPv4.
listen = "127.0.0.1:2222"

[login]
# What people of the house log in with over SFTP: a key and a one-time code (`account add --totp`).
{_STAFF}
# The firm's time zone, for allowed hours and days of expiry; a name like Europe/Berlin.
time_zone = "UTC"

[smtp]
# host:port that mail reaches; beyond this machine set tls_certificate and tls_key too.
listen = "127.0.0.1:2525"
# Mail to <client>@<domain> is taken in.
domain = "intake.localhost"

[inspect]
# auto: scan with clamd once it was seen; required: nothing passes without it; off: never.
clamd = "auto"

[retention]
# Rule packs in force.
{_PACKS}
"""


def create(folder: Path, now: datetime, *, demo: bool = False, root_key: str = "") -> Path:
    """Make an installation in `folder`, which may exist without one.

    Args:
        now: aware time of its creation.
        demo: with the demonstration.
        root_key: the address on a token (`pkcs11:…`) to make the root key at; empty: a file beside it.

    Returns:
        The path of its configuration.

    Raises:
        ConfigurationError: there is an installation already, or the folder can't be used.
        VaultError: a file could not be written.
    """
    for name in (CONFIG, ROOT_KEY, STORE, demonstration.FOLDER):
        if (folder / name).exists() or (folder / name).is_symlink():
            raise ConfigurationError(f"{folder}: expected no installation, found {name}")
    # Refused now rather than when the roles can't make their sockets.
    if root_key and not root_key.startswith(PKCS11):
        raise ConfigurationError(
            "root key: expected an address pkcs11:…, or none for a file in the folder, found another"
        )
    text = configuration(root_key) if root_key else _TEXT
    config = decode(text.encode(), folder / CONFIG)
    made = _make_folder(folder)
    moved: list[Path] = []
    staging: Path | None = None
    root: RootKey | None = None
    try:
        # 1. Everything beside its place, durably.
        staging = Path(tempfile.mkdtemp(prefix=".init-", dir=folder))
        root = create_root_key(root_key or str(staging / ROOT_KEY))
        Store.create(staging / STORE, root, now, ssh_keys.new_host_keys()).close()
        create_durably(staging / CONFIG, text.encode())
        if demo:
            _demonstrate(
                msgspec.structs.replace(config, base=staging, source=staging / CONFIG), now
            )
        # 2. Into place. Nothing is an installation before its configuration is there.
        if not (folder / SOCKETS).exists():
            make_directory(folder / SOCKETS)
            moved.append(folder / SOCKETS)
        key_file = [] if root_key else [ROOT_KEY]
        for name in (STORE, *key_file, *([demonstration.FOLDER] if demo else []), CONFIG):
            (staging / name).rename(folder / name)
            moved.append(folder / name)
        sync_directory(folder)
    except BaseException as error:
        for path in reversed(moved):
            _remove(path)
        if staging is not None:
            _remove(staging)
        if root is not None:
            # What would stay of a failed attempt on a token; should that fail, too, the first reason counts.
            with contextlib.suppress(VaultError):
                discard_root_key(root)
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
        if isinstance(error, OSError):
            raise ConfigurationError(
                f"{folder}: expected a folder to make an installation in, found {error.strerror}"
            ) from error
        raise
    staging.rmdir()
    return folder / CONFIG


def configuration(root_key: str) -> str:
    """The text of a configuration whose root key lies at `root_key` (relative to it, or absolute)."""
    line = f'root_key = "{ROOT_KEY}"'
    return _TEXT.replace(line, f"root_key = {msgspec.json.encode(root_key).decode()}")


def _make_folder(folder: Path) -> list[Path]:
    """Make the folder and its parents where missing; what was made, innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            make_directory(path)
    except VaultError as error:
        raise ConfigurationError(f"{folder}: {error}") from error
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: expected a folder, found a file")
    return missing


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# ── the demonstration ────────────────────────────────────────────────────────────────────────────


def _demonstrate(config: Config, now: datetime) -> None:
    """Accounts, keys, samples and the rule pack; `config.base` is where they go."""
    # 1. The rule pack and what logins take, as lines of the configuration.
    text = config.source.read_text("utf-8")
    for key, line, other in (
        ("retention.packs", _PACKS, _DEMO_PACKS),
        ("login.staff", _STAFF, _DEMO_STAFF),
    ):
        if text.count(line) != 1:
            raise ConfigurationError(
                f"{config.source}: key {key}: expected the line {line}, found another"
            )
        text = text.replace(line, other)
    config = msgspec.structs.replace(
        config,
        retention=msgspec.structs.replace(config.retention, packs=["cn", demonstration.PACK]),
        login=msgspec.structs.replace(config.login, staff="key"),
        # The acts are not this program's log: only what goes wrong is worth a line.
        log=LogSection(level="error"),
    )
    demo = config.base / demonstration.FOLDER
    try:
        # 2. A key for each account.
        make_directory(demo)
        lines = {name: _new_key(demo / name, name) for name in demonstration.ACCOUNTS}
        # 3. The client and the accounts, by the console's acts.
        service.configure_logging(config, "setup")
        core = open_core(config, lambda: now)
        wings = Wings.around(core)
        try:
            asyncio.run(_add_accounts(wings, lines))
            host_key = ssh_keys.HostKeyPair.load(
                core.store.custody.keyring(HOUSE).secrets["ssh-host-ed25519"]
            ).public_line()
        finally:
            wings.close()
            core.close()
        # 4. What a client needs to know the gateway by, and something to send.
        host, port = parse_listen(config.sftp.listen, "sftp.listen")
        create_durably(demo / "known_hosts", f"[{host}]:{port} {host_key}\n".encode())
        _write_samples(demo / demonstration.SAMPLES, config.smtp.domain, f"{now:%Y-%m-%d}")
        write_durably(config.source, text.encode())
    except BaseException:
        _remove(demo)
        raise


async def _add_accounts(wings: Wings, lines: dict[str, str]) -> None:
    session = AdminSession(wings, None)
    session.attach((os.getpid(), os.getuid(), os.getgid()))

    async def act(name: str, arguments: dict[str, Any]) -> None:
        await session.handle(AdminCall(name, arguments))

    await act(
        "client.add",
        {
            "slug": demonstration.CLIENT,
            "name": "Acme Demonstration Ltd",
            "emails": [demonstration.SENDER, "@example.com"],
            "jurisdiction": "cn",
            "fiscal_year_end": "12-31",
        },
    )
    for name, role in demonstration.ACCOUNTS.items():
        client = demonstration.CLIENT if role == "client" else ""
        await act(
            "account.add", {"name": name, "role": role, "client": client, "keys": [lines[name]]}
        )
    await act("account.grant", {"name": "accountant", "client": demonstration.CLIENT})


def _new_key(path: Path, name: str) -> str:
    """A new key pair in OpenSSH's form at `path` and `path`.pub; the public line."""
    key = Ed25519PrivateKey.generate()
    line = f"{sshsig.public_line(key)} {name}@strongroom-demonstration"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    create_durably(path, private)
    create_durably(path.with_name(f"{path.name}.pub"), f"{line}\n".encode(), 0o644)
    return line


def _write_samples(folder: Path, domain: str, day: str) -> None:
    make_directory(folder)
    create_durably(folder / demonstration.NOTE, demonstration.note(day), 0o644)
    create_durably(
        folder / demonstration.INVOICE,
        demonstration.invoice("DEMO-2026-0001", "2026-11-02", "2026-12-02"),
        0o644,
    )
    attachment = demonstration.invoice("DEMO-2026-0002", "2026-11-16", "2026-12-16")
    mail = demonstration.message(
        demonstration.SENDER, f"{demonstration.CLIENT}@{domain}", "invoice-2.xml", attachment
    )
    create_durably(folder / demonstration.MESSAGE, mail, 0o644)
