"""`strongroom retention`: why a document is kept, what would fall due, which rules there are."""

from __future__ import annotations

from gateway.cli.commands.documents import Document
from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, listing
from gateway.cli.support.options import REQUIRED, new_group, option
from gateway.cli.support.output import Column

group = new_group("Retention: how long, and why.")

_PREVIEW = (
    Column("id", "ID"),
    Column("client", "CLIENT"),
    Column("state", "STATE"),
    Column("record_class", "CLASS"),
    Column("fiscal_year", "YEAR"),
    Column("eligible_at", "ELIGIBLE", output.moment),
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


@command(group, act="retention.explain")
def explain(ask: Ask, document: Document) -> Shown:
    """Say which rule keeps a document, from which trigger, until when."""
    data = ask(document=document)

    def show() -> None:
        output.heading(f"Document {data['document']} ({data['state']})")
        output.say(f"Rule: {output.plain(data['rule'])}")
        output.say(f"May go from: {output.moment(data['eligible_at'])}")
        for line in data["lines"]:
            output.say(f"  {output.plain(line)}")

    return Shown(data, show)


@command(group, act="retention.preview")
def preview(
    ask: Ask,
    at: str = option(
        "--at", "A day (to its end, UTC) or time, ISO 8601.", REQUIRED, metavar="DATE"
    ),
    client: str = option("--client", "Of this client.", metavar="SLUG"),
) -> Shown:
    """List what falls due by a date."""
    return listing(ask(at=at, client=client), _PREVIEW, f"Nothing falls due by {at}.")


@command(group, act="retention.rules")
def rules(ask: Ask) -> Shown:
    """List the rules in force, with their legal basis and how sure it is."""
    return listing(ask(), _RULES, "No rules.")
