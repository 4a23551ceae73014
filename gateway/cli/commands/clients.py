"""`strongroom client`: add, list, show, change, close; passwords for the locked files a client sends."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final, Literal

import typer

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, listing, record, sentence
from gateway.cli.support.options import REQUIRED, argument, new_group, option
from gateway.cli.support.output import Column
from gateway.cli.support.secrets import secret_line

group = new_group("Clients: whose documents they are.")

passwords = new_group("Passwords for locked files that a client sends.")
group.add_typer(passwords, name="password")
tags = new_group("Addresses with a secret part, for senders that can show nothing else.")
group.add_typer(tags, name="tag")

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
Unproven = Annotated[
    str,
    typer.Option(
        "--unproven",
        metavar="quarantine|refuse",
        help="What becomes of mail that shows nothing of what its entry takes; default: as configured.",
    ),
]
_PASSWORD_COLUMNS = (
    Column("id", "ID"),
    Column("label", "LABEL"),
    Column("used", "OPENED", right=True),
    Column("used_at", "LAST", output.moment),
    Column("added_at", "ADDED", output.moment),
    Column("added_by", "BY"),
)
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
_SENDERS = (
    Column("client", "CLIENT"),
    Column("entry", "FROM"),
    Column(
        "proofs", "TAKES ANY OF", lambda value: ", ".join(value) if isinstance(value, list) else ""
    ),
    Column("unproven", "ELSE"),
)
_SHOW: Final[dict[str, Callable[[object], str]]] = {
    "created_at": output.moment,
    "unproven": lambda value: str(value) if value else "as configured",
    "tags": lambda value: (
        ", ".join(each["label"] for each in value) if isinstance(value, list) else ""
    ),
    "used_bytes": output.size,
    "quota_bytes": lambda value: output.size(value) if value else "no limit",
    "quota_files": lambda value: output.plain(value) if value else "no limit",
    "quota_file_size": lambda value: output.size(value) if value else "as the doors take",
}


@command(group, act="client.add", signed=True)
def add(
    ask: Ask,
    slug: Slug,
    name: str = option("--name", "The client's full name (kept sealed).", REQUIRED),
    fiscal_year_end: str = option(
        "--fiscal-year-end", "Last day of its fiscal year.", "12-31", metavar="MM-DD"
    ),
    jurisdiction: str = option(
        "--jurisdiction", "Whose retention rules apply, by rule pack.", "cn"
    ),
    email: list[str] | None = option(
        "--email",
        "An address, or @domain, that may send; with =PROOF,… what it has to show; repeatable.",
        None,
        metavar="ADDRESS[=PROOF,…]",
    ),
    notice_to: str = option(
        "--notice-to",
        "Where receipts go for what it sends by SFTP.",
        metavar="ADDRESS",
    ),
    language: Literal["zh", "en", "both"] = option("--language", "Of what it is sent.", "both"),
    unproven: Unproven = "default",
    custody_role: Literal["working_copy", "record_copy"] = option(
        "--custody-role", "Whether the house keeps the client's own record copy.", "working_copy"
    ),
    entity_type: str = option("--entity-type", "What it is in law.", "enterprise"),
    quota_bytes: QuotaBytes = _DEFAULT,
    quota_files: QuotaFiles = _DEFAULT,
    quota_file_size: QuotaFileSize = _DEFAULT,
) -> Shown:
    """Add a client, with a keyring of its own."""
    quotas = _quotas(quota_bytes, quota_files, quota_file_size)
    data = ask(
        slug=slug,
        name=name,
        fiscal_year_end=fiscal_year_end,
        jurisdiction=jurisdiction,
        entity_type=entity_type,
        custody_role=custody_role,
        emails=list(email or []),
        notice_to=notice_to,
        language=language,
        unproven="" if unproven == _DEFAULT else unproven,
        **{name: value for name, value in quotas.items() if value != _DEFAULT},
    )
    return sentence(data, f"Client {slug} added ({data['id']}).")


@command(group, act="client.list")
def list_all(ask: Ask) -> Shown:
    """List the clients."""
    return listing(ask(), _COLUMNS, "No clients yet; `strongroom client add` adds one.")


@command(group, act="client.senders")
def list_senders(ask: Ask) -> Shown:
    """List whom each client takes mail from, and what that has to show."""
    return listing(ask(), _SENDERS, "No client takes mail from anybody.")


@command(group, act="client.show")
def show(ask: Ask, slug: Slug) -> Shown:
    """Show a client with its profile, what it has stored, and its quota."""
    return record(ask(slug=slug), show=_SHOW)


@command(group, act="client.change", signed=True)
def change(
    ask: Ask,
    slug: Slug,
    name: str = option("--name", "Its name in full."),
    email: list[str] | None = option(
        "--email",
        "An address, or @domain, that may send, with =PROOF,… or not; all of them anew; repeatable.",
        None,
        metavar="ADDRESS[=PROOF,…]",
    ),
    notice_to: str = option(
        "--notice-to",
        "Where receipts go for what it sends by SFTP; `none`: nowhere any more.",
        metavar="ADDRESS",
    ),
    language: str = option("--language", "Of what it is sent: zh, en, both."),
    unproven: Unproven = "",
    fiscal_year_end: str = option(
        "--fiscal-year-end",
        "Last day of its fiscal year; only while nothing of it is stored.",
        metavar="MM-DD",
    ),
    jurisdiction: str = option(
        "--jurisdiction", "Whose retention rules apply; only while nothing of it is stored."
    ),
    quota_bytes: QuotaBytes = "",
    quota_files: QuotaFiles = "",
    quota_file_size: QuotaFileSize = "",
) -> Shown:
    """Change a client: only what is given changes, from the next document on."""
    given = {
        "name": name,
        "emails": list(email or []),
        "language": language,
        "unproven": unproven,
        "fiscal_year_end": fiscal_year_end,
        "jurisdiction": jurisdiction,
    }
    changed: dict[str, object] = {
        **_quotas(quota_bytes, quota_files, quota_file_size),
        **{name: value for name, value in given.items() if value},
    }
    if notice_to:
        changed["notice_to"] = "" if notice_to == "none" else notice_to
    return record(ask(slug=slug, **changed), show=_SHOW)


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


@command(tags, "add", act="client.tag-add", signed=True)
def add_tag(
    ask: Ask,
    slug: Slug,
    label: str = option("--label", "What it is for: a scanner, a supplier.", REQUIRED),
) -> Shown:
    """Give a client an address with a secret part, shown now and never again."""
    data = ask(slug=slug, label=label)
    return sentence(data, f"{data['address']}\nKeep it where it is used: it is not shown again.")


@command(tags, "remove", act="client.tag-remove", signed=True)
def remove_tag(
    ask: Ask,
    slug: Slug,
    label: str = option("--label", "Which one, as `client show` has it.", REQUIRED),
) -> Shown:
    """End an address with a secret part."""
    return sentence(ask(slug=slug, label=label), f"Tag {label} of {slug} ended.")


@command(passwords, "add", act="password.add", signed=True)
def add_password(
    ask: Ask,
    slug: Slug,
    label: str = option("--label", "What it is for (kept sealed)."),
) -> Shown:
    """Deposit a password for files the client sends (asked for, or a line of input)."""
    data = ask(slug=slug, label=label, password=secret_line("Password of the files: "))
    return sentence(data, f"Password {data['id']} deposited for client {slug}.")


@command(passwords, "list", act="password.list", signed=True)
def list_passwords(ask: Ask, slug: Slug) -> Shown:
    """List a client's deposited passwords: what each opened, never what it is."""
    return listing(ask(slug=slug), _PASSWORD_COLUMNS, "No passwords are deposited.")


@command(passwords, "remove", act="password.remove", signed=True)
def remove_password(
    ask: Ask,
    slug: Slug,
    password: str = argument("ID", "The password's id, from the list."),
) -> Shown:
    """Forget a deposited password."""
    data = ask(slug=slug, id=password)
    return sentence(data, f"Password {data['id']} of client {slug} is forgotten.")


@command(group, act="client.close", signed=True)
def close(ask: Ask, slug: Slug) -> Shown:
    """Close a client that has no stored documents left; its keys end for good."""
    return sentence(ask(slug=slug), f"Client {slug} closed; its keyring is ended.")
