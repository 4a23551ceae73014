"""`strongroom document` and `strongroom hold`: what was received, and what must not be destroyed.

Promises: `document export` receives the sealed file and its key from the core and opens it here. The
plain bytes exist nowhere but in the file that was asked for, which is made new and readable by its owner
only.
Leaves out: why a document is kept (`retention`), and its end (`disposal`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, listing, record, sentence
from gateway.cli.support.connection import Console
from gateway.cli.support.options import REQUIRED, argument, flag, new_group, option
from gateway.cli.support.output import Column
from gateway.cli.support.secrets import secret_line
from gateway.errors import ConfigurationError, GatewayError, WireError
from vault.crypto.sealed import SealedReader, document_context

group = new_group("Documents: what was received and what became of it.")
holds = new_group("Holds: what must not be destroyed, whatever the rules say.")

Document = Annotated[
    str,
    typer.Argument(metavar="DOC", help="A document's id, or six or more of its last characters."),
]
RecordClass = Annotated[str, typer.Option("--class", metavar="CLASS", help="A record class.")]
Year = Annotated[int, typer.Option("--year", metavar="YYYY", help="A fiscal year.")]

_PAGE = 1000
_READ = 1 << 20
_COLUMNS = (
    Column("id", "ID"),
    Column("client", "CLIENT"),
    Column("state", "STATE"),
    Column("record_class", "CLASS"),
    Column("fiscal_year", "YEAR"),
    Column("received_at", "RECEIVED", output.moment),
    Column("eligible_at", "ELIGIBLE", output.moment),
    Column("size", "SIZE", output.size, right=True),
    Column("name", "NAME"),
)
_RESTORED = (
    Column("id", "ID"),
    Column("outcome", "OUTCOME"),
    Column("detail", "FOUND IN ITS PLACE, OR WHY NOT"),
)
_HOLD_COLUMNS = (
    Column("id", "ID"),
    Column("client", "CLIENT"),
    Column("document", "DOCUMENT"),
    Column("placed_at", "PLACED", output.moment),
    Column("placed_by", "BY"),
    Column("released_at", "RELEASED", output.moment),
    Column("reason", "REASON"),
)


@command(group, "list")
def list_some(
    ask: Ask,
    client: str = option("--client", "Of this client.", metavar="SLUG"),
    state: str = option("--state", "In this state (FILED, REVIEW, …)."),
    record_class: RecordClass = "",
    year: Year = 0,
    after: str = option(
        "--after", "Only those received after this one (a whole id).", metavar="DOC"
    ),
    limit: int = option("--limit", "At most so many; 0 for all there are.", 0, min=0),
) -> Shown:
    """List documents in order of arrival."""
    filters = {"client": client, "state": state, "record_class": record_class, "fiscal_year": year}
    with ask.console() as console:
        rows = _all_pages(console, filters, after, limit)
    return listing(rows, _COLUMNS, "No documents.")


def _all_pages(
    console: Console, filters: dict[str, Any], after: str, limit: int
) -> list[dict[str, Any]]:
    """Page by page, so that a long list is whole and no message too large."""
    rows: list[dict[str, Any]] = []
    while True:
        wanted = min(_PAGE, limit - len(rows)) if limit else _PAGE
        page = console.act("document.list", {**filters, "after": after, "limit": wanted}).data
        rows += page
        if len(page) < wanted or len(rows) == limit:
            return rows
        after = page[-1]["id"]


@command(group, act="document.show")
def show(ask: Ask, document: Document) -> Shown:
    """Show everything known about one document."""
    data = ask(document=document)
    moments = ("received_at", "eligible_at", "state_since", "next_attempt_at", "destroyed_at")
    return record(data, show={**dict.fromkeys(moments, output.moment), "size": output.size})


@command(group, act="document.release", signed=True)
def release(
    ask: Ask,
    document: Document,
    record_class: RecordClass = "",
    year: Year = 0,
) -> Shown:
    """Release a quarantined document, or one that could not be checked (two officers sign the same)."""
    return _state(ask(document=document, record_class=record_class, fiscal_year=year))


@command(group, act="document.reject", signed=True)
def reject(ask: Ask, document: Document) -> Shown:
    """Reject a document in review: it goes into quarantine (an officer's act)."""
    return _state(ask(document=document))


@command(group, act="document.reclassify", signed=True)
def reclassify(
    ask: Ask,
    document: Document,
    record_class: RecordClass,
    year: Year,
) -> Shown:
    """Classify a document, or change its class (an accountant's or officer's act)."""
    return _state(ask(document=document, record_class=record_class, fiscal_year=year))


def _state(data: dict[str, Any]) -> Shown:
    return sentence(
        data,
        f"Document {data['id']} stays as it is until another officer signs the same within seven days."
        if data.get("waiting")
        else f"Document {data['id']} is now {data['state']}.",
    )


@command(group, act="document.unlock", signed=True)
def unlock(
    ask: Ask,
    document: Document,
    deposited: bool = flag("--deposited", "Ask for none; try what the client deposited."),
    deposit: bool = flag("--deposit", "Deposit the password for the client's other files."),
    label: str = option("--label", "What a deposited password is for (kept sealed)."),
) -> Shown:
    """Try a password (asked for, or a line of input) on a locked document in review.

    What was locked in it becomes a document of its own. Exit code 1 if it stays locked.
    """
    given = "" if deposited else secret_line("Password of the document: ")
    if not deposited and not given:
        raise ConfigurationError("password: expected one, found an empty line")
    data = ask(document=document, password=given, deposit=deposit, label=label)
    if data["waiting"]:
        text = f"Document {data['id']} is being tried; `strongroom document show` will say."
    elif data["unlocked"]:
        text = (
            f"Document {data['id']} was opened and is now {data['state']}; parts: {data['parts']}."
        )
    else:
        text = f"Document {data['id']} stays locked: the password does not open it."
    shown = sentence(data, text)
    return Shown(shown.data, shown.show, 0 if data["unlocked"] or data["waiting"] else 1)


@command(group, act="document.restore", signed=True, carries=True)
def restore(
    ask: Ask,
    which: list[str] = argument(
        "DOC...", "Documents: ids, or six or more of their last characters."
    ),
    source: str = option("--from", "A backup target; none for the only one.", metavar="TARGET"),
) -> Shown:
    """Bring back documents whose stored file is missing or damaged from a backup.

    A stored file that is whole is left alone. Exit code 1 if one of them was not brought back.
    """
    data = ask(documents=which, target=source)
    return Shown(data, lambda: output.table(data["documents"], _RESTORED, "Nothing to bring back."))


@command(group, "export", signed=True)
def export(
    ask: Ask,
    document: Document,
    to: Path = option("--output", "A new file for its bytes.", REQUIRED, metavar="FILE"),
) -> Shown:
    """Write a document's original bytes to a new file (an accountant's or officer's act)."""
    with ask.console() as console:
        opened, descriptor = console.open("document.export", {"document": document}, ask.person)
    try:
        if opened.key is None or opened.document_id is None:
            raise WireError("document export: expected a sealed document, found plain bytes")
        # Opening proves key, document and length; each read proves the bytes it gives.
        reader = SealedReader(descriptor, opened.key, document_context(opened.document_id))
        if reader.size != opened.size:
            raise GatewayError(
                f"document {opened.document_id}: expected {opened.size} bytes, found {reader.size}"
            )
        digest = hashlib.sha256()
        output.write_pieces(to, _pieces(reader, digest), 0o600)
    finally:
        os.close(descriptor)
    data = {
        "id": opened.document_id,
        "output": str(to),
        "size": opened.size,
        "sha256": digest.hexdigest(),
    }
    return sentence(data, f"Document {opened.document_id}: {opened.size} bytes written to {to}.")


def _pieces(reader: SealedReader, digest: Any) -> Iterator[bytes]:
    offset = 0
    while piece := reader.read_at(offset, _READ):
        digest.update(piece)
        offset += len(piece)
        yield piece


@command(holds, act="hold.place", signed=True)
def place(
    ask: Ask,
    reason: str = option("--reason", "Why (kept sealed).", REQUIRED),
    document: str = option("--document", "Hold this document.", metavar="DOC"),
    client: str = option("--client", "Hold all of this client.", metavar="SLUG"),
) -> Shown:
    """Place a hold: destruction stops at once."""
    data = ask(reason=reason, document=document, client=client)
    return sentence(data, f"Hold {data['id']} placed.")


@command(holds, act="hold.release", signed=True)
def release_hold(
    ask: Ask,
    hold: str = argument("ID", "The hold's id."),
) -> Shown:
    """Release a hold (two officers sign the same)."""
    data = ask(hold=hold)
    return sentence(
        data,
        f"Hold {data['id']} stays until another officer signs the same within seven days."
        if data["waiting"]
        else f"Hold {data['id']} released.",
    )


@command(holds, act="hold.list")
def list_holds(
    ask: Ask,
    released: bool = flag("--released", "Also those released."),
) -> Shown:
    """List the holds in force."""
    return listing(ask(released=released), _HOLD_COLUMNS, "No holds.")
