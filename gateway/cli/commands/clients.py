"""`strongroom client`: add, list, show, change, close."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import typer

from gateway.cli.support import output, signing
from gateway.cli.support.connection import ask
from gateway.cli.support.options import As, ConfigPath, Json, Key, new_group
from gateway.cli.support.output import Column

group = new_group("Clients: whose documents they are.")

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="The client's short name.")]

QuotaBytes = Annotated[
    str,
    typer.Option(
        "--quota-bytes",
        metavar="BYTES",
        help="What it may have stored in all, like 50G; 0: no limit; default: as configured.",
    ),
]
QuotaFiles = Annotated[
    str,
    typer.Option(
        "--quota-files",
        metavar="NUMBER",
        help="How many documents it may have stored; 0: no limit; default: as configured.",
    ),
]
QuotaFileSize = Annotated[
    str,
    typer.Option(
        "--quota-file-size",
        metavar="BYTES",
        help="The largest document it may send; 0 or default: as the doors take.",
    ),
]
_DEFAULT: Final = "default"
_AMOUNT: Final = re.compile(r"(\d{1,18})(?:([KMGT])(?:i?B)?)?", re.IGNORECASE)

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
    quota_bytes: QuotaBytes = _DEFAULT,
    quota_files: QuotaFiles = _DEFAULT,
    quota_file_size: QuotaFileSize = _DEFAULT,
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Add a client, with a keyring of its own."""
    arguments: dict[str, Any] = {
        "slug": slug,
        "name": name,
        "fiscal_year_end": fiscal_year_end,
        "jurisdiction": jurisdiction,
        "entity_type": entity_type,
        "custody_role": custody_role,
        "emails": list(email or []),
        "language": language,
    }
    quotas = _quotas(quota_bytes, quota_files, quota_file_size)
    arguments |= {name: value for name, value in quotas.items() if value != _DEFAULT}
    data = ask(config, "client.add", arguments, signing.person(as_name, key)).data
    output.outcome(data, as_json, f"Client {slug} added ({data['id']}).")


@group.command("list")
def list_all(config: ConfigPath = None, as_json: Json = False) -> None:
    """List the clients."""
    data = ask(config, "client.list").data
    output.listing(data, as_json, _COLUMNS, "No clients yet; `strongroom client add` adds one.")


@group.command("show")
def show(slug: Slug, config: ConfigPath = None, as_json: Json = False) -> None:
    """Show a client with its profile, what it has stored, and its quota."""
    _show(ask(config, "client.show", {"slug": slug}).data, as_json)


@group.command("change")
def change(
    slug: Slug,
    name: Annotated[str, typer.Option("--name", help="Its name in full.")] = "",
    email: Annotated[
        list[str] | None,
        typer.Option(
            "--email", help="An address, or @domain, that may send; all of them anew; repeatable."
        ),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", help="Of what it is sent: zh, en, both.")
    ] = "",
    fiscal_year_end: Annotated[
        str,
        typer.Option(
            "--fiscal-year-end",
            metavar="MM-DD",
            help="Last day of its fiscal year; only while nothing of it is stored.",
        ),
    ] = "",
    jurisdiction: Annotated[
        str,
        typer.Option(
            "--jurisdiction",
            help="Whose retention rules apply; only while nothing of it is stored.",
        ),
    ] = "",
    quota_bytes: QuotaBytes = "",
    quota_files: QuotaFiles = "",
    quota_file_size: QuotaFileSize = "",
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Change a client: only what is given changes, from the next document on."""
    arguments: dict[str, Any] = {
        "slug": slug,
        **_quotas(quota_bytes, quota_files, quota_file_size),
    }
    given = {
        "name": name,
        "emails": list(email or []),
        "language": language,
        "fiscal_year_end": fiscal_year_end,
        "jurisdiction": jurisdiction,
    }
    arguments |= {key_: value for key_, value in given.items() if value}
    _show(ask(config, "client.change", arguments, signing.person(as_name, key)).data, as_json)


def _show(data: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.json_document(data)
        return
    output.details(
        data,
        {
            "created_at": output.moment,
            "used_bytes": output.size,
            "quota_bytes": lambda value: output.size(value) if value else "no limit",
            "quota_files": lambda value: output.plain(value) if value else "no limit",
            "quota_file_size": lambda value: output.size(value) if value else "as the doors take",
        },
    )


def _quotas(in_all: str, files: str, file_size: str) -> dict[str, int | str]:
    """The quotas that were given, as the act takes them (raises typer.BadParameter)."""
    given = {"quota_bytes": in_all, "quota_files": files, "quota_file_size": file_size}
    return {name: _amount(name, text) for name, text in given.items() if text}


def _amount(name: str, text: str) -> int | str:
    if text == _DEFAULT:
        return text
    match = _AMOUNT.fullmatch(text)
    if match is None or (match[2] and name == "quota_files"):
        option = f"--{name.replace('_', '-')}"
        raise typer.BadParameter(f"{option}: expected a number like 5000 or 50G, found {text!r}")
    power: int = " KMGT".index((match[2] or " ").upper())
    return int(match[1]) * int(1024**power)


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
    output.outcome(data, as_json, f"Client {slug} closed; its keyring is ended.")
