"""`strongroom penalty`: sources that logins fail from, and lifting what they got for it."""

from __future__ import annotations

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, listing, sentence
from gateway.cli.support.options import argument, new_group
from gateway.cli.support.output import Column

group = new_group("Penalties: sources that logins fail from.")

_COLUMNS = (
    Column("source", "SOURCE"),
    Column("since", "SINCE", output.moment),
    Column("until", "UNTIL", output.moment),
    Column("events", "EVENTS"),
)


@command(group, act="penalty.list")
def list_all(ask: Ask) -> Shown:
    """List the sources whose penalty stands, and what for."""
    return listing(ask(), _COLUMNS, "No source is penalised.")


@command(group, act="penalty.lift", signed=True)
def lift(
    ask: Ask,
    source: str = argument("SOURCE", "An address, or a source as it is listed."),
) -> Shown:
    """Lift a source's penalty, and give back the attempts it used up."""
    data = ask(source=source)
    return sentence(data, f"{output.plain(data['source'])} starts anew.")
