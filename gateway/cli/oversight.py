"""`strongroom status`, `check` and `ledger …`: what is there, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli import output, signing
from gateway.cli.connection import Desk, ask, at_desk
from gateway.cli.options import As, ConfigPath, Json, Key, new_group
from gateway.cli.output import Column
from gateway.config import load

ledger = new_group("The ledger: every act, tamper-evident.")

_LEDGER_PAGE: Final = 2000
_FINDINGS = (
    Column("subject", "SUBJECT"),
    Column("problem", "PROBLEM"),
    Column("action", "WHAT TO DO"),
)


def status(config: ConfigPath = None, as_json: Json = False) -> None:
    """Show in one screen what is there, what waits, and what is behind."""
    data = ask(config, "status").data
    if as_json:
        output.json_document(data)
        return
    output.details(
        {
            "gateway": "serving" if data["serving"] else "not running (the store is at rest)",
            "documents": _counts(data["documents"]),
            "waiting": _counts(data["waiting"]),
            "in_review": data["documents"].get("REVIEW", 0),
            "disposal_batches": _counts(data["batches"]),
            "holds": data["holds"],
            "clients": data["clients"],
            "antivirus": _antivirus(data["clamd"]),
            "backups": _backups(data["backups"]),
            "fixity": _fixity(data["fixity"]),
            "key_copies_behind": data["copies_behind"],
            "ledger": f"{data['ledger']['entries']} entries, {data['ledger']['origin']}",
            "free_space": output.size(data["free_bytes"]),
            "now": output.moment(data["now"]),
        }
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _backups(state: dict[str, Any]) -> list[str]:
    """A line for each target, and one for a restore."""
    lines = []
    for target in state["targets"]:
        made = output.moment(target["made_at"]) if target["made_at"] else "none yet"
        notes = [f"{target['name']}: {made}"]
        if target["overdue"]:
            notes.append("OVERDUE")
        if target["failure"]:
            notes.append(f"last run failed: {target['failure']}")
        if target["amendments_behind"]:
            notes.append(f"{target['amendments_behind']} amendments behind since"
                         f" {output.moment(target['behind_since'])}")  # fmt: skip
        lines.append(", ".join(notes))
    if state["restored_at_size"] is not None:
        lines.append(
            f"this store was restored from a backup of {state['restored_at_size']} entries"
        )
    return lines or ["none configured"]


def _fixity(run: dict[str, Any] | None) -> str:
    if run is None:
        return "nothing read yet"
    found = run["findings"]
    return (
        f"{run['documents']} documents ({output.size(run['bytes'])}) read"
        f" {output.moment(run['at'])}, "
        + ("all as received" if not found else f"{len(found)} FINDINGS: run `strongroom check`")
    )


def _antivirus(clamd: dict[str, Any]) -> str:
    policy = str(clamd["policy"])
    if policy == "off":
        return "clamd off by configuration"
    if clamd["adopted_at"]:
        return f"clamd {policy}, in use since {output.moment(clamd['adopted_at'])}"
    return f"clamd {policy}, not seen yet"


def check(
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Also decrypt and re-hash every document.")
    ] = False,
    acknowledge: Annotated[
        bool,
        typer.Option(
            "--acknowledge",
            help="Answer, as an officer, for a change of the catalogue's file while it was closed.",
        ),
    ] = False,
    as_name: As = "",
    key: Key = None,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Check every invariant of the store; exit code 1 if anything is found."""
    arguments = {"read_data": read_data, "acknowledge": acknowledge}
    answer = ask(config, "check", arguments, signing.person(as_name, key))
    data = answer.data
    if as_json:
        output.json_document(data)
    else:
        output.details({name: value for name, value in data.items() if name != "findings"})
        output.say()
        output.table(data["findings"], _FINDINGS, "Everything is as it should be.")
    raise typer.Exit(answer.exit_code)


@ledger.command("verify")
def verify(
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="FILE", help="A checkpoint kept elsewhere; repeatable."),
    ] = None,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Recompute the ledger and hold it against its checkpoints; exit code 1 if they disagree."""
    texts = [output.read_text(path) for path in against or []]
    answer = ask(config, "ledger.verify", {"against": texts})
    data = answer.data
    if as_json:
        output.json_document(data)
    else:
        output.details(data)
        output.say("The ledger is whole." if not data["findings"] else "THE LEDGER IS NOT WHOLE.")
    raise typer.Exit(answer.exit_code)


@ledger.command("checkpoint")
def checkpoint(config: ConfigPath = None, as_json: Json = False) -> None:
    """Print the newest signed checkpoint: keep a copy elsewhere."""
    data = ask(config, "ledger.checkpoint").data
    if as_json:
        output.json_document(data)
    else:
        output.write_text(data["checkpoint"])


@ledger.command("export")
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, one entry a line.")],
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Write every ledger entry, as it is hashed, to a new file (JSON lines)."""
    count = 0

    def lines(desk: Desk) -> Iterator[bytes]:
        nonlocal count
        while True:
            page = desk.act("ledger.export", {"start": count, "limit": _LEDGER_PAGE}).data
            count += len(page["entries"])
            yield b"".join(entry.encode() + b"\n" for entry in page["entries"])
            if len(page["entries"]) < _LEDGER_PAGE:
                return

    with at_desk(load(config)) as desk:
        output.write_pieces(file, lines(desk))
    if as_json:
        output.json_document({"file": str(file), "entries": count})
    else:
        output.say(f"{count} entries written to {file}.")


def add_to(app: typer.Typer) -> None:
    """Give the program these commands."""
    app.command("status")(status)
    app.command("check")(check)
    app.add_typer(ledger, name="ledger")
