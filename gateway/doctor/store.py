"""The store and the configuration beside it: who has access, what room is left, what the last check found.

Promises: looks, and changes nothing; a store that is not there is not made.
Leaves out: the check itself (`strongroom check`, `vault.check`), and the root key (`keys`).
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from typing import Any, Final

from gateway.config import Config
from gateway.doctor.finding import Finding
from gateway.readable import moment, size
from vault.storage.secret_file import OTHERS

_ROOMY: Final = 4  # times the minimum of free space under which it is worth a word


def configuration(config: Config) -> Iterator[Finding]:
    status = config.source.stat()
    if status.st_mode & 0o022:
        yield Finding(
            "problem",
            f"configuration {config.source}",
            f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o}): they could name another"
            " store, key or rule pack",
            f"chmod go-w {config.source}",
        )


def store(config: Config) -> Iterator[Finding]:
    from vault.store import missing

    path = config.store_path
    if not (path / "catalogue.sqlite3").is_file():
        yield Finding(
            "problem",
            f"store {path}",
            "there is no store, or only parts of one",
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


def free_space(config: Config) -> Iterator[Finding]:
    if not config.store_path.exists():
        return
    free, least = shutil.disk_usage(config.store_path).free, config.store.minimum_free
    if free < least * _ROOMY:
        yield Finding(
            "problem" if free < least else "weak",
            "free space",
            f"{size(free)} are left; below {size(least)} nothing is taken in",
            "make room, or move the store to a larger disk",
        )


def leases(config: Config) -> Iterator[Finding]:
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


def last_check(state: dict[str, Any]) -> Iterator[Finding]:
    """What the last check of the store found, and what is plain without one."""
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
            f"the check of {moment(last['at'])} found {last['findings']} things wrong:"
            f" {', '.join(last['subjects'][:3])}",
            "run `strongroom check`: it says of each what to do",
        )
