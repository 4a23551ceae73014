"""`strongroom doctor`: what is missing or weak in this installation, and how to mend it.

Promises: it changes nothing, works whether the core runs or not, and one check that can't be made does not
hide the others. Levels: `problem` (it does not work, or a promise does not hold), `weak` (it works, and is
less safe than it could be), `note` (good to know). Exit code 1 if there is any problem.

Leaves out: the store's own consistency (`strongroom check`) and the ledger's (`strongroom ledger verify`).
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import ssl
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec
import typer

from gateway.cli.support import output
from gateway.cli.support.connection import Desk, at_desk
from gateway.cli.support.options import ConfigPath, Json
from gateway.config import Config, PlaceSection, load, parse_listen
from gateway.errors import GatewayError
from gateway.install import demonstration
from vault.crypto.sshsig import SignatureError, fingerprint
from vault.errors import StoreLocked, VaultError
from vault.keys.root import PKCS11, load_root_key
from vault.storage.secret_file import OTHERS

PROBLEM: Final = "problem"
_ROOMY: Final = 4  # times the minimum of free space under which it is worth a word
_LOOPBACK: Final = ("127.", "::1", "localhost")
_CLAMD_SECONDS: Final = 10.0
_PYTHON_HEADERS: Final = (3, 11, 15)  # CVE-2026-1299, fixed for 3.11 there
_SQLITE_WAL: Final = (3, 51, 3)


class Finding(msgspec.Struct, frozen=True):
    """One finding: how bad, of what, what it is, how to mend it."""

    level: Literal["problem", "weak", "note"]
    subject: str
    what: str
    mend: str


def doctor(config: ConfigPath = None, as_json: Json = False) -> None:
    """Say what is missing or weak here, and how to mend it; exit code 1 on a problem."""
    findings = examine(load(config), datetime.now(UTC))
    if as_json:
        output.json_document(msgspec.to_builtins(findings))
    else:
        for finding in findings:
            output.heading(f"{finding.level.upper():8} {output.plain(finding.subject)}")
            output.say(f"         {output.plain(finding.what)}")
            output.say(f"         mend: {output.plain(finding.mend)}")
        count = sum(finding.level == PROBLEM for finding in findings)
        output.say(f"Problems: {count}. Other findings: {len(findings) - count}.")
    if any(finding.level == PROBLEM for finding in findings):
        raise typer.Exit(1)


def examine(config: Config, now: datetime) -> list[Finding]:
    """All findings, the gravest first."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: _configuration(config),
        lambda: _root_key(config),
        lambda: _store(config),
        lambda: _space(config),
        lambda: _leases(config),
        lambda: _inside(config),
        lambda: _core(config),
        lambda: _clamd(config, now),
        _fences,
        _versions,
        lambda: _doors(config),
        lambda: _logins(config),
        lambda: _copies(config),
        lambda: _ledger(config),
        lambda: _where(config),
        lambda: _swap(Path("/proc/swaps"), Path("/sys/block")),
    )
    found: list[Finding] = []
    for check in checks:
        try:
            found.extend(check())
        except OSError as error:
            what = f"could not be looked at: {error.strerror}"
            found.append(Finding("note", str(error.filename or "system"), what, "try as its owner"))
    order = ("problem", "weak", "note")
    return sorted(found, key=lambda finding: order.index(finding.level))


_MEND_PKCS11: Final = "see that the module loads, the token answers and the PIN is right"


def _configuration(config: Config) -> Iterator[Finding]:
    status = config.source.stat()
    if status.st_mode & 0o022:
        yield Finding(
            "problem",
            f"configuration {config.source}",
            f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o}): they could name another"
            " store, key or rule pack",
            f"chmod go-w {config.source}",
        )


def _root_key(config: Config) -> Iterator[Finding]:
    following = config.next_root_key
    if following.startswith(PKCS11):
        from vault.keys import pkcs11

        try:
            pkcs11.exists(following)
        except VaultError as error:
            yield Finding("problem", "next root key", str(error), _MEND_PKCS11)
    where = config.root_key
    if not where:
        if not os.environ.get("CREDENTIALS_DIRECTORY"):
            yield Finding(
                "note",
                "root key",
                "it is a systemd credential, which only the service can see",
                "nothing to do; to look at it, run doctor with the same credential",
            )
        return
    try:
        load_root_key(where)
    except VaultError as error:
        yield Finding(
            "problem",
            "root key",
            str(error),
            _MEND_PKCS11
            if where.startswith(PKCS11)
            else f"chmod 0600 {where}; put the right file back from its safe copy if it is another",
        )
        return
    if where.startswith(PKCS11):
        return
    path = Path(where)
    former = path.with_name(f"{path.name}.old")
    if former.exists():
        yield Finding(
            "weak",
            "former root key",
            f"{former} is still there; with an old copy of keyrings it opens what they held",
            "copy the new key to its safe places, wait until no copy is behind, then remove this one",
        )
    if config.store_path.exists() and path.stat().st_dev == config.store_path.stat().st_dev:
        yield Finding(
            "weak",
            "root key",
            "it lies on the file system of the store: whoever copies that disk can read everything",
            "hand it over as a systemd credential (LoadCredentialEncrypted=), or keep it elsewhere",
        )


def _store(config: Config) -> Iterator[Finding]:
    from vault.store import missing

    path = config.store_path
    if not (path / "catalogue.sqlite3").is_file():
        yield Finding(
            "problem",
            f"store {path}",
            "expected a store that is whole, found none",
            missing(path),
        )
        return
    for place in (path, *sorted(path.iterdir())):
        status = place.lstat()
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & OTHERS:
            yield Finding(
                "problem",
                f"store {place}",
                f"others have access (mode {stat.S_IMODE(status.st_mode):04o})",
                f"chmod go-rwx {place}",
            )
    if path.stat().st_uid == 0:
        yield Finding(
            "weak",
            f"store {path}",
            "it belongs to root, so the gateway runs as root: a fault in a door reaches everything",
            "run the gateway as a user of its own (see systemd/) and give it the store",
        )


def _space(config: Config) -> Iterator[Finding]:
    if not config.store_path.exists():
        return
    free, least = shutil.disk_usage(config.store_path).free, config.store.minimum_free
    if free < least * _ROOMY:
        yield Finding(
            "problem" if free < least else "weak",
            "free space",
            f"{output.size(free)} are left; below {output.size(least)} nothing is taken in",
            "make room, or move the store to a larger disk",
        )


def _leases(config: Config) -> Iterator[Finding]:
    from vault.storage.leases import tells_writers

    path = config.store_path / "blobs" / "objects"
    if path.is_dir() and not tells_writers(path):
        yield Finding(
            "weak",
            "leases",
            f"the file system of {path} does not tell who has a file open for writing: a door that was taken"
            " over could change what it received after it was judged",
            "keep the store on a local file system (ext4, XFS, Btrfs)",
        )


def _inside(config: Config) -> Iterator[Finding]:
    """What only the core, or the store opened in its place, can tell."""
    try:
        with at_desk(config) as desk:
            yield from _clock(desk)
            yield from _quorum(desk)
            yield from _checked(desk)
            yield from _mismatches(desk)
            yield from _demonstration(config, desk)
            yield from _shut_out(desk)
            yield from _places(desk)
            yield from _published(desk)
            yield from _ages(desk)
            yield from _backups(desk)
    except StoreLocked as error:
        yield Finding(
            "note", "core", f"{error}; some checks were left out", "try again in a moment"
        )
        return
    except (GatewayError, VaultError) as error:
        yield Finding(
            "problem", "installation", str(error), "mend what it says; no core can start before"
        )
        return


def _shut_out(desk: Desk) -> Iterator[Finding]:
    """Accounts without what their role's login takes."""
    for account in desk.act("account.list").data:
        if account["state"] == "active" and account["lacks"]:
            yield Finding(
                "note",
                f"account {account['name']}",
                f"it can't log in over SFTP without {' and '.join(account['lacks'])}",
                f"`strongroom account totp {account['name']}`, or `account key`; or another policy"
                " in [login]",
            )


def _places(desk: Desk) -> Iterator[Finding]:
    """Copies of keyrings that are behind, and former ones that nobody has settled."""
    for place in desk.act("keys.copies").data:
        subject = f"keyring copies at {place['name']}"
        if place["state"] == "behind":
            yield Finding(
                "weak",
                subject,
                f"behind since {output.moment(place['behind_since'])} ({place['waiting']} files):"
                f" {place['failure'] or 'not carried yet'}; no certificate can claim more until it follows",
                "see that the place can be reached and written to, and that the courier runs",
            )
        elif place["state"] == "withdrawn":
            yield Finding(
                "weak",
                subject,
                f"taken out of the configuration {output.moment(place['withdrawn_at'])}; what lies at"
                f" {place['place']} still opens what it held, and every certificate says so",
                f"destroy the copies there, then `strongroom keys settle {place['name']}`",
            )


def _ages(desk: Desk) -> Iterator[Finding]:
    """Keys that are over their age limit. All but the root key are replaced by a job."""
    for age in desk.act("keys.status").data["ages"]:
        if age["over"]:
            yield Finding(
                "weak",
                f"{age['what']} key" if age["what"] != "groups" else "group keys",
                f"{age['days']} days old, {age['limit_days']} allowed",
                f"strongroom keys rotate {age['what']}"
                + ("; keep a copy of the new one in a safe place" if age["what"] == "root" else ""),
            )


def _backups(desk: Desk) -> Iterator[Finding]:
    """Backups that are late or failed, and an installation without any."""
    targets = desk.act("status").data["backups"]["targets"]
    if not targets:
        yield Finding(
            "weak",
            "backup",
            "no target is configured: a dead disk ends every document",
            "add [[backup.targets]], as config.example.toml shows",
        )
    for target in targets:
        late = target["failure"]
        if not late and target["overdue"]:
            late = (
                "the newest backup is older than it may be"
                if target["newest"]
                else "no backup has been made yet"
            )
        if late:
            yield Finding(
                "problem" if target["newest"] or target["failure"] else "weak",
                f"backup target {target['name']}",
                late,
                "see that the place can be reached and written to; `strongroom backup run`",
            )


def _published(desk: Desk) -> Iterator[Finding]:
    """Places that lack the newest checkpoint of the ledger, or hold one of another history."""
    for place in desk.act("status").data["ledger"]["places"]:
        subject = f"ledger at {place['name']}"
        if place["alarmed_at"]:
            yield Finding(
                "problem",
                subject,
                f"since {output.moment(place['alarmed_at'])} it holds another history than this"
                f" ledger: {place['failure']}",
                "keep the store and the place as they are and find out which of them was changed",
            )
        elif place["behind_since"]:
            yield Finding(
                "weak",
                subject,
                f"behind since {output.moment(place['behind_since'])}:"
                f" {place['failure'] or 'not carried yet'}",
                "see that the place can be reached and written to, and that core and courier run",
            )


def _clock(desk: Desk) -> Iterator[Finding]:
    state = desk.act("status").data
    clock = state["clock"]
    if not clock["believed"]:
        yield Finding(
            "problem",
            "clock",
            f"it is not believed, and nothing is ended or removed: {clock['reason']}",
            "set it and keep it set (NTP); then an officer signs `strongroom clock confirm`",
        )
    elif clock["moved_hours"] is not None:
        yield Finding(
            "weak",
            "clock",
            f"it went {clock['moved_hours']} hours further than the machine while the core was stopped",
            "see that it is right, and keep it set by NTP",
        )
    for target in state["backups"]["targets"]:
        for each in target["from_the_future"]:
            yield Finding(
                "weak",
                f"backup {each['id']} at {target['name']}",
                f"it was begun at {output.moment(each['started_at'])}, which is in the future: made under a"
                " clock that was ahead; it does not count as the newest",
                "make another with `strongroom backup run`; this one goes when its date has passed",
            )


def _quorum(desk: Desk) -> Iterator[Finding]:
    """Whether two officers can sign, and what a recovery has done about it."""
    quorum = desk.act("status").data["quorum"]
    for each in quorum["recoveries"]:
        about = f"{each['name']} has a key ({each['fingerprint']}) by the root key and {each['begun_by']}"
        if each["counts"]:
            yield Finding(
                "weak",
                "recovery of the quorum",
                f"{about}, which counts since {output.moment(each['counts_from'])}; certificates say so",
                "two officers, neither of them recovered, sign `strongroom account review-recovery`",
            )
        else:
            yield Finding(
                "weak",
                "recovery of the quorum",
                f"{about}, which counts from {output.moment(each['counts_from'])}",
                f"if you know nothing of it: `strongroom account cancel-recovery {each['name']}`",
            )
    if quorum["lost"] and all(each["counts"] for each in quorum["recoveries"]):
        yield Finding(
            "problem",
            "officers",
            f"{quorum['can_sign']} can sign, and nothing is destroyed or released by fewer than two",
            "`account enable` or `account change` by the one who is left; else `strongroom account recover`",
        )


def _checked(desk: Desk) -> Iterator[Finding]:
    """What the last check of the store found, and what is plain without one."""
    state = desk.act("status").data
    if state["ledger"]["fault"]:
        yield Finding(
            "problem",
            "ledger",
            state["ledger"]["fault"],
            "`strongroom ledger verify`, then `strongroom backup restore` into another folder",
        )
    for each in state["keyrings_broken"]:
        yield Finding(
            "problem",
            f"keyring of client {each['client']}",
            f"it does not open: {each['problem']}",
            "run `strongroom check`: it says where copies are, and how to bring one back",
        )
    if state["changed_at_rest"] is not None:
        yield Finding(
            "problem",
            "catalogue",
            f"it changed while it was closed: {state['changed_at_rest']}",
            "run `strongroom check`: it says what to do",
        )
    last = state["check"]
    if last is not None and last["findings"]:
        yield Finding(
            "problem",
            "store",
            f"the check of {output.moment(last['at'])} found {last['findings']} things wrong:"
            f" {', '.join(last['subjects'][:3])}",
            "run `strongroom check`: it says of each what to do",
        )


def _mismatches(desk: Desk) -> Iterator[Finding]:
    """Programs that could not connect: at the client, somebody thinks that documents were sent."""
    for each in desk.act("status").data["mismatches"]:
        yield Finding(
            "weak",
            f"{each['program'] or 'a program'} at {each['source']}",
            f"it could not connect {each['count']} times, last {output.moment(each['last_at'])}: it has no"
            f" {each['lacking']} in common with the door; it offers {each['offered'][:200] or 'none'}",
            "have its owner update it, or send by mail; docs/clients.md lists programs that work",
        )


def _demonstration(config: Config, desk: Desk) -> Iterator[Finding]:
    if demonstration.PACK in config.retention.packs:
        yield Finding(
            "weak",
            "demonstration pack",
            "its rules let demonstration classes go within days",
            'take "demo" out of retention.packs before real documents come',
        )
    folder = config.base / demonstration.FOLDER
    known: set[str] = set()
    for path in sorted(folder.glob("*.pub")):
        try:
            known.add(fingerprint(path.read_text("utf-8")))
        except (SignatureError, UnicodeDecodeError):
            continue
    names = [
        account["name"]
        for account in desk.act("account.list").data
        if account["state"] == "active" and known.intersection(account["keys"])
    ]
    if names:
        yield Finding(
            "weak",
            "demonstration accounts",
            f"{', '.join(names)} can be used by whoever reads {folder}",
            "`strongroom account disable` each before real documents come, and remove the folder",
        )


def _core(config: Config) -> Iterator[Finding]:
    """The running core, by what the kernel says of the process behind its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(config.socket("admin")))
        except OSError as error:
            what = f"no core listens ({error.strerror}): nothing is taken in, nothing falls due"
            yield Finding("note", "core", what, "`strongroom run`, or start its service")
            return
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, _gid = struct.unpack("iII", raw)
    if uid == 0:
        yield Finding(
            "weak",
            "core",
            "it runs as root",
            "run it as a user of its own (see systemd/)",
        )
    limits = Path(f"/proc/{pid}/limits").read_text("ascii", "replace")
    cores = next((line for line in limits.splitlines() if line.startswith("Max core file")), "")
    if cores and cores.split()[4] != "0":
        yield Finding(
            "problem",
            "core dumps",
            f"the core may leave a core dump ({cores.split()[4]} bytes), which would hold keys",
            "set LimitCORE=0 for its service, or ulimit -c 0",
        )


def _clamd(config: Config, now: datetime) -> Iterator[Finding]:
    section = config.inspect
    if section.clamd == "off":
        yield Finding(
            "weak",
            "antivirus",
            "clamd is off by configuration: known malware is told only by structure and rules",
            'set inspect.clamd to "required"',
        )
        return
    from gateway.inspect.scan.clamd import ClamdStream

    # An empty stream asks everything that matters: the socket, the version, the signatures' age.
    scan = ClamdStream.open(
        section.clamd_address,
        timeout=_CLAMD_SECONDS,
        now=now,
        max_age_days=section.clamd_max_signature_age_days or None,
    ).finish()
    required = section.clamd == "required" or not section.clamd_address.startswith("unix:")
    if scan.outcome == "clean":
        if not required:
            yield Finding(
                "note",
                "antivirus",
                f"{scan.version} answers, but is not required: what comes before it was first seen"
                " passes without",
                'set inspect.clamd to "required"',
            )
        return
    yield Finding(
        "problem" if required else "weak",
        "antivirus",
        f"clamd at {section.clamd_address}: {scan.outcome}, {scan.detail}"
        + ("; every document waits" if required else ""),
        "start clamd and freshclam, or set inspect.clamd_address",
    )


def _fences() -> Iterator[Finding]:
    from gateway.process.sandbox import probe_fences

    missing = sorted(name for name, there in probe_fences().items() if not there)
    if missing:
        yield Finding(
            "weak",
            "inspectors' jail",
            f"this kernel lacks {', '.join(missing)}: a parser that is taken over is less confined",
            "use a newer kernel (Landlock network: 6.7, scope: 6.12), or allow it in the container",
        )


def _versions() -> Iterator[Finding]:
    python = sys.version_info[:3]
    shown = ".".join(str(part) for part in python)
    if python[:2] == _PYTHON_HEADERS[:2] and python < _PYTHON_HEADERS:
        yield Finding(
            "note",
            f"Python {shown}",
            "its e-mail library lets header injection through (CVE-2026-1299); the gateway puts no"
            " stranger's text into a header",
            "update to 3.11.15 or later",
        )
    if sqlite3.sqlite_version_info < _SQLITE_WAL:
        yield Finding(
            "note",
            f"SQLite {sqlite3.sqlite_version}",
            "two writing connections can corrupt it (fixed in 3.51.3); the gateway has one writer",
            "never open the catalogue with another program while the gateway runs",
        )
    if ssl.OPENSSL_VERSION_INFO < (3, 0):
        yield Finding(
            "weak", ssl.OPENSSL_VERSION, "it gets no fixes any more", "update the system's OpenSSL"
        )


def _logins(config: Config) -> Iterator[Finding]:
    """What logins over SFTP take, where it is less than the default."""
    if not config.login.staff.endswith("+code"):
        yield Finding(
            "weak",
            "logins of staff",
            f'login.staff is "{config.login.staff}": a stolen key or password is enough to read documents',
            'set login.staff to "key+code", and enrol codes with `strongroom account totp NAME`',
        )


def _doors(config: Config) -> Iterator[Finding]:
    host, _port = parse_listen(config.smtp.listen, "smtp.listen")
    if not host.startswith(_LOOPBACK) and not config.smtp.tls_certificate:
        yield Finding(
            "weak",
            "e-mail door",
            f"it listens on {config.smtp.listen} without TLS: mail can be read on its way",
            "set smtp.tls_certificate and smtp.tls_key, or listen on the loopback behind a relay",
        )
    for name in ("tls_certificate", "tls_key"):
        value = getattr(config.smtp, name)
        if value and not os.access(config.resolve(value), os.R_OK):
            yield Finding(
                "problem",
                f"smtp.{name}",
                f"expected a readable file at {config.resolve(value)}, found none",
                "put it there, or correct the configuration",
            )


def _copies(config: Config) -> Iterator[Finding]:
    if not config.keyring.copies:
        yield Finding(
            "weak",
            "keyring copies",
            "none is configured: if this disk dies, backups of documents can't be opened",
            "add [[keyring.copies]] with a folder on another disk or machine",
        )
    for copy in config.keyring.copies:
        subject = f"keyring copy {copy.name}"
        if secret := copy.key or copy.credentials:
            # The courier reads it; whoever asks may not be allowed to, and the mode is what matters.
            yield from _secret(subject, config.resolve(secret))
        if not copy.directory:
            continue
        folder = config.resolve(copy.directory)
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            yield Finding(
                "problem",
                subject,
                f"expected a folder to write to at {folder}, found none",
                "make or mount it",
            )


def _ledger(config: Config) -> Iterator[Finding]:
    """Places that the ledger's checkpoints are to go to."""
    if not config.ledger.places:
        yield Finding(
            "weak",
            "ledger",
            "no copy of a checkpoint leaves this machine: a rewritten history would not show",
            "add [[ledger.places]] with a folder or host that somebody else keeps",
        )
    for place in config.ledger.places:
        if secret := place.key or place.credentials:
            yield from _secret(f"ledger at {place.name}", config.resolve(secret))
        if place.directory and not config.resolve(place.directory).is_dir():
            yield Finding(
                "problem",
                f"ledger at {place.name}",
                f"expected a folder at {config.resolve(place.directory)}, found none",
                "make or mount it",
            )


def _where(config: Config) -> Iterator[Finding]:
    """Copies, backups and checkpoints that would die with the store, or are carried in clear."""
    places: list[tuple[str, PlaceSection]] = [
        *((f"keyring copy {each.name}", each) for each in config.keyring.copies),
        *((f"backup target {each.name}", each) for each in config.backup.targets),
        *((f"ledger at {each.name}", each) for each in config.ledger.places),
    ]
    for subject, place in places:
        folder = config.resolve(place.directory) if place.directory else None
        if (
            folder is not None
            and folder.is_dir()
            and config.store_path.exists()
            and folder.stat().st_dev == config.store_path.stat().st_dev
        ):
            yield Finding(
                "weak",
                subject,
                "it lies on the store's own file system and would die with it",
                "use a folder on another disk or machine",
            )
        if place.endpoint.startswith("http://"):
            yield Finding(
                "weak",
                subject,
                f"its endpoint {place.endpoint} is not encrypted: what goes there can be watched",
                "use https://, also on this machine if others share it",
            )


def _secret(subject: str, path: Path) -> Iterator[Finding]:
    """A file that opens a place and that others can read, or that is not there."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        what = f"expected a readable file at {path}, found {error.strerror}"
        yield Finding("problem", subject, what, "put it there, or correct the configuration")
        return
    if mode & OTHERS:
        yield Finding(
            "problem",
            subject,
            f"others can read {path} (mode {stat.S_IMODE(mode):04o}): the courier refuses it",
            f"chmod 0600 {path}",
        )


def _swap(swaps: Path, blocks: Path) -> Iterator[Finding]:
    for line in swaps.read_text("utf-8").splitlines()[1:]:
        device = Path(line.split()[0])
        name = device.resolve().name if device.exists() else device.name
        uuid = blocks / name / "dm" / "uuid"
        encrypted = uuid.is_file() and uuid.read_text("utf-8").startswith("CRYPT-")
        if not encrypted and not name.startswith("zram"):
            yield Finding(
                "weak",
                f"swap {device}",
                "it is not encrypted: keys and parts of documents can be written to it",
                "encrypt it (crypttab with a random key), or turn it off (swapoff)",
            )
