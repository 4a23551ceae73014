"""`strongroom retention`: why a document is kept, what would fall due, which rules there are."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.commands.documents import Document
from gateway.cli.support import output
from gateway.cli.support.connection import ask
from gateway.cli.support.options import ConfigPath, Json, new_group
from gateway.cli.support.output import Column

group = new_group("Retention: how long, and why.")

_PREVIEW = (
    Column("id", "ID"),
    Column("client", "CLIENT"),
    Column("state", "STATE"),
    Column("record_class", "CLASS"),
    Column("fiscal_year", "YEAR"),
    Column("eligible_at", "MAY GO", output.moment),
    Column("holds", "HOLDS"),
    Column("rule", "RULE"),
    Column("name", "NAME"),
)
_RULES = (
    Column("rule", "RULE"),
    Column("kind", "KIND"),
    Column("period", "PERIOD"),
    Column("trigger", "FROM"),
    Column("confidence", "SURE"),
    Column("verified_on", "VERIFIED"),
    Column("record_classes", "CLASSES"),
    Column("citation", "CITATION"),
)


@group.command("explain")
def explain(document: Document, config: ConfigPath = None, as_json: Json = False) -> None:
    """Say which rule keeps a document, from which trigger, until when."""
    data = ask(config, "retention.explain", {"document": document}).data
    if as_json:
        output.json_document(data)
        return
    output.heading(f"Document {data['document']} ({data['state']})")
    output.say(f"Rule: {output.plain(data['rule'])}")
    output.say(f"May go from: {output.moment(data['eligible_at'])}")
    for line in data["lines"]:
        output.say(f"  {output.plain(line)}")


@group.command("preview")
def preview(
    at: Annotated[
        str, typer.Option("--at", metavar="DATE", help="A day (to its end, UTC) or time, ISO 8601.")
    ],
    client: Annotated[str, typer.Option("--client", metavar="SLUG", help="Of this client.")] = "",
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """List what falls due by a date."""
    data = ask(config, "retention.preview", {"at": at, "client": client}).data
    output.listing(data, as_json, _PREVIEW, f"Nothing falls due by {at}.")


@group.command("rules")
def rules(config: ConfigPath = None, as_json: Json = False) -> None:
    """List the rules in force, with their legal basis and how sure it is."""
    data = ask(config, "retention.rules").data
    output.listing(data, as_json, _RULES, "No rules.")
