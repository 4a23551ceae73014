"""`strongroom backup`: making, listing and proving backups, and restoring from one.

Promises: all but the restore are acts of the core. A restore needs no store: it makes one, on a machine
that has the root key and a copy of the keyrings. The configuration is written last; it is what makes a
folder an installation, so an interrupted restore goes on where it was.
Leaves out: what a backup consists of (`vault.backup`), and carrying it (`gateway.courier`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, findings, sentence
from gateway.cli.support.options import REQUIRED, argument, flag, new_group, option
from gateway.cli.support.output import Column
from gateway.config import Config, LogSection, PlaceSection
from gateway.errors import ConfigurationError
from gateway.install import create
from gateway.process import service
from vault.backup import restore as vault_restore
from vault.keys.root import load_root_key
from vault.keys.root_file import PKCS11
from vault.storage.durable import create_durably, make_directory
from vault.storage.places import Place

group = new_group("Backups: sealed, without any key; a restore needs root key and keyrings too.")

_SCHEMES: Final = ("sftp://", "s3://")
_TARGETS = (
    Column("name", "TARGET"),
    Column("made_at", "NEWEST", output.moment),
    Column("verified_at", "VERIFIED", output.moment),
    Column("overdue", "OVERDUE"),
    Column("amendments_behind", "BEHIND", right=True),
    Column("failure", "LAST FAILURE"),
)
_BACKUPS = (
    Column("id", "BACKUP"),
    Column("target", "TARGET"),
    Column("state", "STATE"),
    Column("started_at", "BEGUN", output.moment),
    Column("documents", "DOCUMENTS", right=True),
    Column("blobs", "COPIED", right=True),
    Column("bytes", "SIZE", output.size, right=True),
    Column("verified_at", "VERIFIED", output.moment),
    Column("failure", "FAILURE"),
)
_FINDINGS = (Column("subject", "SUBJECT"), Column("problem", "PROBLEM"))

Target = Annotated[
    str, typer.Argument(metavar="[TARGET]", help="A backup target's name; none for the only one.")
]


@command(group, act="backup.run", carries=True)
def run(
    ask: Ask,
    target: Target = "",
    fresh: bool = flag("--fresh", "The place is new, or was emptied: begin it anew."),
) -> Shown:
    """Make a backup now; exit code 1 if something of the store is missing in it."""
    return findings(ask(target=target, fresh=fresh), _FINDINGS, {"bytes": output.size})


@command(group, act="backup.list", carries=True)
def list_all(ask: Ask) -> Shown:
    """List the targets and their backups, the newest last."""
    data = ask()

    def show() -> None:
        output.table(
            data["targets"], _TARGETS, "No backup target is configured: [[backup.targets]]."
        )
        output.say()
        output.table(data["backups"], _BACKUPS, "No backup was made yet.")
        for name in data["former"]:
            output.say(
                f"{name} is in use no more, but was never settled: `strongroom backup settle {name}`."
            )

    return Shown(data, show)


@command(group, act="backup.verify", carries=True)
def verify(
    ask: Ask,
    target: Target = "",
    backup: str = option("--backup", "Which backup; the newest else.", metavar="ID"),
    sample: str = option("--sample", "Share of the documents to read back.", metavar="N%"),
) -> Shown:
    """Prove that a backup can be restored; exit code 1 if anything is found."""
    arguments: dict[str, Any] = {"target": target, "backup": backup}
    if sample:
        arguments["sample"] = _per_cent(sample)
    return findings(ask(**arguments), _FINDINGS)


@command(group, act="backup.settle", signed=True)
def settle(
    ask: Ask,
    name: str = argument("NAME", "The former place, as `backup list` names it."),
) -> Shown:
    """State that nothing is left at a place that is in use no more (an officer's act)."""
    data = ask(name=name)
    return sentence(data, f"Place {data['name']} settled: certificates list it no more.")


@command(group, "restore", offline=True)
def restore(
    ask: Ask,
    source: str = option(
        "--from", "A folder, sftp://user@host/path, s3://bucket.", REQUIRED, metavar="PLACE"
    ),
    into: Path = option("--into", "A new or empty folder.", REQUIRED, metavar="DIR"),
    keyrings: Path = option(
        "--keyrings", "A copy of the keyrings, whole.", REQUIRED, metavar="DIR"
    ),
    root_key: str = option(
        "--root-key",
        "The root key they are under, or its address.",
        REQUIRED,
        metavar="FILE|pkcs11:…",
    ),
    backup: str = option("--backup", "Which backup; the newest else.", metavar="ID"),
    host_key: str = option("--host-key", "sftp: the host's key, ssh-ed25519 ….", metavar="LINE"),
    login_key: str = option("--login-key", "sftp: the private key to log in with.", metavar="FILE"),
    credentials: str = option("--credentials", "s3: file with the credentials.", metavar="FILE"),
    endpoint: str = option("--endpoint", "s3: another service's address.", metavar="URL"),
    region: str = option("--region", "s3: the region.", metavar="NAME"),
) -> Shown:
    """Make an installation from a backup; the same command goes on after an interruption.

    Exit code 1: it is made, and what could not be brought back is listed.
    """
    del ask
    section = PlaceSection(
        name="restore",
        **_address(source),
        host_key=host_key,
        key=login_key,
        credentials=credentials,
        endpoint=endpoint,
        region=region,
    )
    if fault := section.fault():
        raise ConfigurationError(f"--from {source}: {fault}")
    report = _restore(_opener(section), into, keyrings, root_key, backup)
    data = {
        "backup": report.backup,
        "made_at": report.made_at,
        "ledger_size": report.ledger_size,
        "documents": report.documents,
        "blobs": report.blobs,
        "amendments": report.amendments,
        "destroyed_since": report.destroyed,
        "found": report.found,
        "findings": [
            {"subject": subject, "problem": problem} for subject, problem in report.problems
        ],
        "configuration": str(into / create.CONFIG),
    }
    return findings(data, _FINDINGS, {"made_at": output.moment}, 1 if report.found else 0)


# ── what they share ──────────────────────────────────────────────────────────────────────────────


def _per_cent(text: str) -> float:
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        raise ConfigurationError(f"--sample: expected per cent, found {text!r}") from None


def _address(source: str) -> dict[str, str]:
    for scheme in _SCHEMES:
        if source.startswith(scheme):
            return {scheme.removesuffix("://"): source}
    return {"directory": source}


def _opener(section: PlaceSection) -> Callable[[], Place]:
    from gateway.courier.places.open import open_place

    return lambda: open_place(section, lambda path: Path(path).absolute())


def _restore(
    open_place: Callable[[], Place], into: Path, keyrings: Path, root_key: str, backup: str
) -> vault_restore.Report:
    """Build the store, then the installation around it; its configuration is the commit point."""
    service.configure_logging(Config(log=LogSection(level="error")), "restore")
    service.forbid_core_dumps()
    folder, store = into.absolute(), into.absolute() / create.STORE
    kept, where = {keyrings.absolute()}, root_key
    if not root_key.startswith(PKCS11):
        key = Path(root_key).absolute()
        kept.add(key)
        where = str(key)
    _expect_free(folder, store, kept)
    root = load_root_key(where)
    if not folder.is_dir():
        make_directory(folder)
    report = vault_restore.restore(
        open_place, store, keyrings.absolute(), root, datetime.now(UTC), backup
    )
    if not (folder / create.SOCKETS).exists():
        make_directory(folder / create.SOCKETS)
    if Path(where).is_relative_to(folder):
        where = str(Path(where).relative_to(folder))
    create_durably(folder / create.CONFIG, create.configuration(where).encode())
    vault_restore.finish(store)
    return report


def _expect_free(folder: Path, store: Path, ours: set[Path]) -> None:
    """Nothing is in the folder but what was named on the command line, or an unfinished restore."""
    if (folder / create.CONFIG).exists():
        raise ConfigurationError(f"{folder}: expected no installation, found {create.CONFIG}")
    if not folder.exists() or vault_restore.is_unfinished(store):
        return
    left = [path.name for path in folder.iterdir() if path not in ours and path != store]
    if left:
        raise ConfigurationError(
            f"{folder}: expected an empty folder, found {', '.join(sorted(left))[:200]}"
        )
