"""Places outside the store: copies of keyrings, backups, checkpoints of the ledger.

Promises: says what is not configured, what can't be reached from here, what would die with the store, and
what is behind. It connects to none of them.
Leaves out: carrying anything there (`gateway.courier`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.config import Config, PlaceSection
from gateway.doctor.finding import Finding
from gateway.readable import moment
from vault.storage.secret_file import OTHERS


def keyring_copies(config: Config) -> Iterator[Finding]:
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
                f"{folder} is no folder that can be written to",
                "make or mount it",
            )


def ledger_places(config: Config) -> Iterator[Finding]:
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
                f"{config.resolve(place.directory)} is no folder",
                "make or mount it",
            )


def locations(config: Config) -> Iterator[Finding]:
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
        what = f"{path} can't be read: {error.strerror}"
        yield Finding("problem", subject, what, "put it there, or correct the configuration")
        return
    if mode & OTHERS:
        yield Finding(
            "problem",
            subject,
            f"others can read {path} (mode {stat.S_IMODE(mode):04o}): the courier refuses it",
            f"chmod 0600 {path}",
        )


def copies_behind(places: list[dict[str, Any]]) -> Iterator[Finding]:
    """Copies of keyrings that are behind, and former ones that nobody has settled."""
    for place in places:
        subject = f"keyring copies at {place['name']}"
        if place["state"] == "behind":
            yield Finding(
                "weak",
                subject,
                f"behind since {moment(place['behind_since'])} ({place['waiting']} files):"
                f" {place['failure'] or 'not carried yet'}; no certificate can claim more until it follows",
                "see that the place can be reached and written to, and that the courier runs",
            )
        elif place["state"] == "withdrawn":
            yield Finding(
                "weak",
                subject,
                f"taken out of the configuration {moment(place['withdrawn_at'])}; what lies at"
                f" {place['place']} still opens what it held, and every certificate says so",
                f"destroy the copies there, then `strongroom keys settle {place['name']}`",
            )


def ledger_behind(state: dict[str, Any]) -> Iterator[Finding]:
    """Places that lack the newest checkpoint of the ledger, or hold one of another history."""
    for place in state["ledger"]["places"]:
        subject = f"ledger at {place['name']}"
        if place["alarmed_at"]:
            yield Finding(
                "problem",
                subject,
                f"since {moment(place['alarmed_at'])} it holds another history than this"
                f" ledger: {place['failure']}",
                "keep the store and the place as they are and find out which of them was changed",
            )
        elif place["behind_since"]:
            yield Finding(
                "weak",
                subject,
                f"behind since {moment(place['behind_since'])}:"
                f" {place['failure'] or 'not carried yet'}",
                "see that the place can be reached and written to, and that core and courier run",
            )


def backups(state: dict[str, Any]) -> Iterator[Finding]:
    """Backups that are late or failed, and an installation without any."""
    targets = state["backups"]["targets"]
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
