"""`strongroom client`: add, list, show, close."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from gateway.cli import output, signing
from gateway.cli.connection import ask
from gateway.cli.options import As, ConfigPath, Json, Key, new_group
from gateway.cli.output import Column

group = new_group("Clients: whose documents they are.")

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="The client's short name.")]

_COLUMNS = (
    Column("slug", "CLIENT"),
    Column("state", "STATE"),
    Column("jurisdiction", "LAW"),
    Column("fiscal_year_end", "YEAR END"),
    Column("documents", "DOCUMENTS", right=True),
    Column("id", "ID"),
)


@group.command("add")
def add(
    slug: Slug,
    name: Annotated[str, typer.Option("--name", help="The client's full name (kept sealed).")],
    fiscal_year_end: Annotated[
        str, typer.Option("--fiscal-year-end", metavar="MM-DD", help="Last day of its fiscal year.")
    ] = "12-31",
    jurisdiction: Annotated[
        str, typer.Option("--jurisdiction", help="Whose retention rules apply, by rule pack.")
    ] = "cn",
    email: Annotated[
        list[str] | None,
        typer.Option("--email", help="An address, or @domain, that may send; repeatable."),
    ] = None,
    language: Annotated[
        Literal["zh", "en", "both"], typer.Option("--language", help="Of what it is sent.")
    ] = "both",
    custody_role: Annotated[
        Literal["working_copy", "record_copy"],
        typer.Option(
            "--custody-role", help="Whether the house keeps the client's own record copy."
        ),
    ] = "working_copy",
    entity_type: Annotated[
        str, typer.Option("--entity-type", help="What it is in law.")
    ] = "enterprise",
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Add a client, with a keyring of its own."""
    arguments = {
        "slug": slug,
        "name": name,
        "fiscal_year_end": fiscal_year_end,
        "jurisdiction": jurisdiction,
        "entity_type": entity_type,
        "custody_role": custody_role,
        "emails": list(email or []),
        "language": language,
    }
    data = ask(config, "client.add", arguments, signing.person(as_name, key)).data
    if as_json:
        output.json_document(data)
    else:
        output.say(f"Client {slug} added ({data['id']}).")


@group.command("list")
def list_all(config: ConfigPath = None, as_json: Json = False) -> None:
    """List the clients."""
    data = ask(config, "client.list").data
    if as_json:
        output.json_document(data)
    else:
        output.table(data, _COLUMNS, "No clients yet; `strongroom client add` adds one.")


@group.command("show")
def show(slug: Slug, config: ConfigPath = None, as_json: Json = False) -> None:
    """Show a client with its profile."""
    data = ask(config, "client.show", {"slug": slug}).data
    if as_json:
        output.json_document(data)
    else:
        output.details(data, {"created_at": output.moment})


@group.command("close")
def close(
    slug: Slug,
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Close a client that has no stored documents left; its keys end for good."""
    data = ask(config, "client.close", {"slug": slug}, signing.person(as_name, key)).data
    if as_json:
        output.json_document(data)
    else:
        output.say(f"Client {slug} closed; its keyring is ended.")
