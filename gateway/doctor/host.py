"""The machine: the running core, the kernel's sandbox, antivirus, versions, swap, the clock.

Promises: looks, and changes nothing.
Leaves out: files of the installation (`store`, `keys`), and what the doors let in (`doors`).
"""

from __future__ import annotations

import socket
import sqlite3
import ssl
import struct
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from gateway.config import Config
from gateway.doctor.finding import Finding
from gateway.readable import moment

_CLAMD_SECONDS: Final = 10.0
_PYTHON_HEADERS: Final = (3, 11, 15)  # CVE-2026-1299, fixed for 3.11 there
_SQLITE_WAL: Final = (3, 51, 3)


def core(config: Config) -> Iterator[Finding]:
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


def sandbox_layers() -> Iterator[Finding]:
    from gateway.process.sandbox import probe_sandbox

    missing = sorted(name for name, there in probe_sandbox().items() if not there)
    if missing:
        yield Finding(
            "weak",
            "inspectors' jail",
            f"this kernel lacks {', '.join(missing)}: a parser that is taken over is less confined",
            "use a newer kernel (Landlock network: 6.7, scope: 6.12), or allow it in the container",
        )


def antivirus(config: Config, now: datetime) -> Iterator[Finding]:
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


def versions() -> Iterator[Finding]:
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


def archives() -> Iterator[Finding]:
    from gateway.inspect.formats import archive_stream

    if not archive_stream.available():
        yield Finding(
            "weak",
            "archives",
            f"{archive_stream.LIBRARY} is not there, or too old: 7z, rar, tar and gz, and zips with a"
            " password, are not opened and wait for a person",
            "apt install libarchive13 (libarchive13t64 from Debian 13 and Ubuntu 24.04 on)",
        )


def swap(swaps: Path, blocks: Path) -> Iterator[Finding]:
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


def clock(state: dict[str, Any]) -> Iterator[Finding]:
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
                f"it was begun at {moment(each['started_at'])}, which is in the future: made under a"
                " clock that was ahead; it does not count as the newest",
                "make another with `strongroom backup run`; this one goes when its date has passed",
            )
