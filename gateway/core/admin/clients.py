"""Clients: adding, listing, showing, changing, closing.

Leaves out: ending a client with its documents, which is a disposal (`disposal`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, exists, func, insert, select, update

from gateway.config.addresses import is_mail_address
from gateway.config.sections import ProofWord
from gateway.core.admin.context import ALL, Context, client_row
from gateway.core.admin.register import ADMIN, READERS, Nothing, OfClient, act
from gateway.core.intake import quotas, recipients, senders
from gateway.core.intake.senders import ClientProfile
from gateway.core.keys import groups
from gateway.errors import Refusal
from retention_rules.errors import RetentionError
from retention_rules.periods import check_year_end
from vault.catalogue import queries
from vault.catalogue.client_end import forget_client
from vault.catalogue.schema import clients, documents, holds
from vault.catalogue.states import STORED, ClientState
from vault.catalogue.store import Transaction
from vault.ids import new_id
from vault.keys.secret_names import SECRET_INDEX, SECRET_PROFILE
from vault.moments import stamp

SLUG: Final = r"^[a-z0-9][a-z0-9-]{0,62}\Z"
MOST: Final = 2**62  # bytes or documents that a quota can say
_EMAIL: Final = re.compile(r"[^@\s]*@[^@\s]+\.[^@\s]+|[^@\s]*@localhost")


Unproven = Literal["", "quarantine", "refuse"]
Amount = Annotated[int, Meta(ge=0, le=MOST)]


class Add(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `client.add`. `emails`: addresses or `@domain` that may send, each with `=proof,…` or not.

    `unproven`: what becomes of mail that shows nothing of that; "": as configured.

    `notice_to`: where receipts go for what it sends by SFTP; empty: nowhere.

    `quota_…`: bytes in all, documents, bytes of one document; None: as configured, 0: no limit.
    """

    slug: Annotated[str, Meta(pattern=SLUG)]
    name: str
    fiscal_year_end: Annotated[str, Meta(pattern=r"^\d{2}-\d{2}\Z")] = "12-31"
    jurisdiction: str = "cn"
    entity_type: str = "enterprise"
    custody_role: str = "working_copy"
    emails: list[str] = []
    notice_to: str = ""
    language: str = "both"
    unproven: Unproven = ""
    quota_bytes: Amount | None = None
    quota_files: Amount | None = None
    quota_file_size: Amount | None = None


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `client.change`: only what is given changes; a quota of "default": as configured."""

    slug: str
    name: str | msgspec.UnsetType = msgspec.UNSET
    emails: list[str] | msgspec.UnsetType = msgspec.UNSET
    notice_to: str | msgspec.UnsetType = msgspec.UNSET
    language: Literal["zh", "en", "both"] | msgspec.UnsetType = msgspec.UNSET
    unproven: Unproven | Literal["default"] | msgspec.UnsetType = msgspec.UNSET
    fiscal_year_end: str | msgspec.UnsetType = msgspec.UNSET
    jurisdiction: str | msgspec.UnsetType = msgspec.UNSET
    quota_bytes: Amount | Literal["default"] | msgspec.UnsetType = msgspec.UNSET
    quota_files: Amount | Literal["default"] | msgspec.UnsetType = msgspec.UNSET
    quota_file_size: Amount | Literal["default"] | msgspec.UnsetType = msgspec.UNSET


@act("client.add", ADMIN)
async def add(context: Context, arguments: Add) -> dict[str, Any]:
    """Add a client, with a keyring of its own."""
    core = context.core
    _check_year_end(arguments.fiscal_year_end)
    _check_jurisdiction(context, arguments.jurisdiction)
    if arguments.custody_role not in {"working_copy", "record_copy"}:
        raise Refusal(
            "invalid",
            f"custody role: expected working_copy or record_copy, found {arguments.custody_role!r}",
        )
    emails, proofs = _entries(arguments.emails)
    _check_notice_to(arguments.notice_to)
    client_id = new_id(context.now)
    profile = ClientProfile(
        arguments.name,
        emails,
        arguments.language,
        proofs,
        arguments.unproven,
        notice_to=arguments.notice_to,
    )

    def work(tx: Transaction) -> None:
        taken = tx.connection.execute(
            select(exists().where(clients.c.slug == arguments.slug))
        ).scalar()
        if taken:
            raise Refusal("exists", f"client {arguments.slug}: expected a new one, found it there")
        core.store.custody.create(
            tx.connection,
            client_id,
            {SECRET_INDEX: secrets.token_bytes(32), SECRET_PROFILE: secrets.token_bytes(32)},
            context.now,
        )
        tx.connection.execute(
            insert(clients),
            {
                "id": client_id,
                "slug": arguments.slug,
                "state": ClientState.OPEN,
                "jurisdiction": arguments.jurisdiction,
                "entity_type": arguments.entity_type,
                "fiscal_year_end": arguments.fiscal_year_end,
                "custody_role": arguments.custody_role,
                "profile": recipients.seal_profile(core, client_id, profile),
                "created_at": stamp(context.now),
                "quota_bytes": arguments.quota_bytes,
                "quota_files": arguments.quota_files,
                "quota_file_size": arguments.quota_file_size,
            },
        )
        core.record(tx, "client.added", client_id, context.actor, context.now)

    await core.write(work)
    return {"id": client_id, "slug": arguments.slug}


def _check_year_end(text: str) -> None:
    match = re.fullmatch(r"(\d{2})-(\d{2})", text)
    if match is None:
        raise Refusal("invalid", f"fiscal year end: expected MM-DD, found {text[:16]!r}")
    try:
        check_year_end((int(match[1]), int(match[2])))
    except RetentionError as error:
        raise Refusal("invalid", f"fiscal year end: {error}") from error


def _check_jurisdiction(context: Context, jurisdiction: str) -> None:
    known = {rule.jurisdiction for rule in context.core.rules.rules} - {"*"}
    if jurisdiction not in known:
        raise Refusal(
            "invalid",
            f"jurisdiction: expected one of {', '.join(sorted(known))} (the packs configured),"
            f" found {jurisdiction!r}",
        )


def _entries(emails: list[str]) -> tuple[list[str], dict[str, list[ProofWord]]]:
    entries, proofs = senders.entries(emails)
    if not all(each == senders.ANYBODY or _EMAIL.fullmatch(each) for each in entries):
        raise Refusal("invalid", "e-mail: expected an address or @domain, found something else")
    return entries, proofs


def _check_notice_to(address: str) -> None:
    if address and not is_mail_address(address):
        raise Refusal("invalid", "notice to: expected an address like name@example.com")


@act("client.list", READERS)
async def list_all(context: Context, arguments: Nothing) -> list[dict[str, Any]]:
    """All clients, with how many documents each has."""
    del arguments
    rows = await context.core.read(
        lambda connection: connection.execute(
            select(clients, func.count(documents.c.id).label("documents"))
            .outerjoin(
                documents,
                (documents.c.client_id == clients.c.id) & documents.c.state.in_(STORED),
            )
            .group_by(clients.c.id)
            .order_by(clients.c.slug)
        ).all()
    )
    return [
        {
            "id": row.id,
            "slug": row.slug,
            "state": row.state,
            "jurisdiction": row.jurisdiction,
            "fiscal_year_end": row.fiscal_year_end,
            "documents": row.documents,
        }
        for row in rows
    ]


@act("client.senders", READERS)
async def list_senders(context: Context, arguments: Nothing) -> list[dict[str, Any]]:
    """Whom each open client takes mail from, and what that has to show."""
    del arguments
    core = context.core
    rows = await core.read(
        lambda connection: connection.execute(
            select(clients).where(clients.c.state == ClientState.OPEN).order_by(clients.c.slug)
        ).all()
    )
    found = []
    for row in rows:
        profile = recipients.open_profile(core, row)
        unproven = profile.unproven or core.config.senders.unproven
        for entry in profile.emails:
            proofs = profile.proofs.get(entry, core.config.senders.proof)
            found.append(
                {"client": row.slug, "entry": entry, "proofs": list(proofs), "unproven": unproven}
            )
    await context.note_reading("client.senders", ALL, count=len(found))
    return found


@act("client.show", READERS)
async def show(context: Context, arguments: OfClient) -> dict[str, Any]:
    """One client with its profile, what it keeps, and its quota (0: no limit)."""
    shown = await _describe(context, arguments.slug)
    await context.note_reading("client.show", shown["id"])
    return shown


async def _describe(context: Context, slug: str) -> dict[str, Any]:

    def look(connection: Connection) -> tuple[queries.Client, quotas.Standing]:
        row = client_row(connection, slug)
        return row, quotas.standing(context.core, connection, row.id)

    row, now = await context.core.read(look)
    shown = {
        "id": row.id,
        "slug": row.slug,
        "state": row.state,
        "jurisdiction": row.jurisdiction,
        "entity_type": row.entity_type,
        "fiscal_year_end": row.fiscal_year_end,
        "custody_role": row.custody_role,
        "created_at": row.created_at,
        "used_bytes": now.bytes,
        "used_files": now.files,
        "quota_bytes": now.quota.bytes,
        "quota_files": now.quota.files,
        "quota_file_size": now.quota.file_size,
    }
    if row.state == ClientState.OPEN:
        profile = recipients.open_profile(context.core, row)
        shown |= {
            "name": profile.name,
            "emails": senders.spelt(profile),
            "language": profile.language,
            "unproven": profile.unproven,
            "tags": [{"label": each.label, "added_at": each.added_at} for each in profile.tags],
            "notice_to": profile.notice_to,
        }
    return shown


@act("client.change", ADMIN)
async def change(context: Context, arguments: Change) -> dict[str, Any]:
    """Change a client: its quota, its name and senders, and what its periods are reckoned from.

    The end of its fiscal year and its jurisdiction can change while nothing of it is stored: what is stored
    was given its period by them, and no period is to end earlier by the way.
    """
    core = context.core
    given: dict[str, Any] = {
        name: None if value == "default" else value
        for name in ("quota_bytes", "quota_files", "quota_file_size")
        if (value := getattr(arguments, name)) is not msgspec.UNSET
    }
    dated = {
        name: value
        for name in ("fiscal_year_end", "jurisdiction")
        if (value := getattr(arguments, name)) is not msgspec.UNSET
    }
    profiled = {
        name: value
        for name in ("name", "emails", "language", "unproven", "notice_to")
        if (value := getattr(arguments, name)) is not msgspec.UNSET
    }
    if not (given or dated or profiled):
        raise Refusal(
            "invalid", f"client {arguments.slug}: expected something to change, found nothing given"
        )
    if "fiscal_year_end" in dated:
        _check_year_end(dated["fiscal_year_end"])
    if "jurisdiction" in dated:
        _check_jurisdiction(context, dated["jurisdiction"])
    changed = dict(profiled)
    if "emails" in changed:
        changed["emails"], changed["proofs"] = _entries(changed["emails"])
    if changed.get("unproven") == "default":
        changed["unproven"] = ""
    _check_notice_to(profiled.get("notice_to", ""))

    def work(tx: Transaction) -> None:
        row = client_row(tx.connection, arguments.slug)
        if row.state != ClientState.OPEN:
            raise Refusal("invalid", f"client {row.slug}: expected it open, found it {row.state}")
        stored = tx.connection.execute(
            select(func.count())
            .select_from(documents)
            .where(documents.c.client_id == row.id, documents.c.state.in_(STORED))
        ).scalar_one()
        if dated and stored:
            raise Refusal(
                "locked",
                f"client {row.slug}: expected no stored documents for a change of"
                f" {' and '.join(sorted(dated))}, found {stored} whose periods follow from it",
            )
        values = given | dated
        if profiled:
            profile = msgspec.structs.replace(recipients.open_profile(core, row), **changed)
            values["profile"] = recipients.seal_profile(core, row.id, profile)
        tx.connection.execute(update(clients).where(clients.c.id == row.id).values(values))
        # The ledger holds no name and no address: of those it says that they changed.
        core.record(
            tx,
            "client.changed",
            row.id,
            context.actor,
            context.now,
            **given,
            **dated,
            **({"profile": sorted(profiled)} if profiled else {}),
        )

    await context.core.write(work)
    return await _describe(context, arguments.slug)


class OfTag(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `client.tag-add` and `client.tag-remove`."""

    slug: str
    label: Annotated[str, Meta(min_length=1, max_length=64)]


@act("client.tag-add", ADMIN)
async def tag_add(context: Context, arguments: OfTag) -> dict[str, Any]:
    """Give a client an address with a secret part; it is shown now and never again."""
    token, tag = senders.new_tag(arguments.label, stamp(context.now))

    def change(profile: ClientProfile) -> list[senders.Tag]:
        if any(each.label == arguments.label for each in profile.tags):
            raise Refusal("exists", f"tag {arguments.label}: expected a new label, found it there")
        if len(profile.tags) >= senders.MOST_TAGS:
            raise Refusal("full", f"tags: expected at most {senders.MOST_TAGS}, found as many")
        return [*profile.tags, tag]

    await _change_tags(context, arguments, "client.tag-added", change)
    address = f"{arguments.slug}+{token}@{context.core.config.smtp.domain}"
    return {"slug": arguments.slug, "label": arguments.label, "address": address}


@act("client.tag-remove", ADMIN)
async def tag_remove(context: Context, arguments: OfTag) -> dict[str, Any]:
    """End an address with a secret part: what is sent there shows nothing any more."""

    def change(profile: ClientProfile) -> list[senders.Tag]:
        left = [each for each in profile.tags if each.label != arguments.label]
        if len(left) == len(profile.tags):
            raise Refusal("not_found", f"tag {arguments.label}: expected one, found none")
        return left

    await _change_tags(context, arguments, "client.tag-removed", change)
    return {"slug": arguments.slug, "label": arguments.label}


async def _change_tags(
    context: Context,
    arguments: OfTag,
    entry: str,
    change: Callable[[ClientProfile], list[senders.Tag]],
) -> None:
    core = context.core

    def work(tx: Transaction) -> None:
        row = client_row(tx.connection, arguments.slug)
        if row.state != ClientState.OPEN:
            raise Refusal("invalid", f"client {row.slug}: expected it open, found it {row.state}")
        profile = recipients.open_profile(core, row)
        profile = msgspec.structs.replace(profile, tags=change(profile))
        tx.connection.execute(
            update(clients)
            .where(clients.c.id == row.id)
            .values(profile=recipients.seal_profile(core, row.id, profile))
        )
        core.record(tx, entry, row.id, context.actor, context.now)

    await core.write(work)


@act("client.close", ADMIN)
async def close(context: Context, arguments: OfClient) -> dict[str, Any]:
    """Close a client: no intake, no sight of it; its keyring ends once nothing of it is stored."""
    core = context.core

    def work(tx: Transaction) -> str:
        row = client_row(tx.connection, arguments.slug)
        if row.state != ClientState.OPEN:
            raise Refusal("invalid", f"client {row.slug}: expected it open, found it {row.state}")
        left = tx.connection.execute(
            select(func.count())
            .select_from(documents)
            .where(documents.c.client_id == row.id, documents.c.state.in_(STORED))
        ).scalar_one()
        held = tx.connection.execute(
            select(exists().where(holds.c.client_id == row.id, holds.c.released_at.is_(None)))
        ).scalar()
        if left or held:
            raise Refusal(
                "locked",
                f"client {row.slug}: expected no stored documents and no hold,"
                f" found {left} documents{' and a hold' if held else ''}; dispose of them first",
            )
        forget_client(tx.connection, row.id)
        core.record(tx, "client.closed", row.id, context.actor, context.now)
        return str(row.id)

    client_id = await core.write(work)

    def end(tx: Transaction) -> None:
        core.store.custody.end(tx.connection, client_id, context.now)
        groups.notify_backups(core, tx, [], context.now)
        core.record(tx, "keyring.ended", client_id, context.actor, context.now)

    await core.write(end)
    return {"id": client_id, "slug": arguments.slug, "state": ClientState.CLOSED}
