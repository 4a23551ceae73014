"""What people attest after a destruction: that they watched it, and that a medium was sanitised.

Promises: an attestation is a statement signed with the person's own key, kept with its signature, and
listed in a follow-up certificate at once. A witness (监销人, Order 79 art. 18) is neither an approver nor
the executor. Sanitisation of a medium is a person's word: the gateway can't check it, and the certificate
says so.
"""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, insert, select

from gateway.core.admin.context import Context, account_row
from gateway.core.admin.register import READERS, act
from gateway.core.disposal import certificates
from gateway.core.disposal.batch import Batch, load
from gateway.core.disposal.signatures import WITNESSED, Medium
from gateway.core.login import accounts, enrolments
from gateway.core.login.accounts import Account
from gateway.core.login.signed import verify_signed
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import approvals, sanitisations
from vault.catalogue.states import BatchState
from vault.catalogue.store import Transaction
from vault.certificate.statements import (
    SANITISATION_NAMESPACE,
    WITNESS_NAMESPACE,
    sanitisation_statement,
    witness_statement,
)
from vault.ids import new_id
from vault.moments import stamp

WITNESS_ROLES: Final = ("officer", "archivist", "auditor")
SANITISATION_ROLES: Final = ("officer", "archivist", "admin")

Line = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class Attest(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `disposal.attestation` (what to sign) and `disposal.attest` (with the signature).

    The fields after `kind` are for `sanitised`: what was sanitised, its serial number, by which method and
    standard, on which day, where.
    """

    id: str
    account: str
    kind: Literal["witness", "sanitised"]
    medium: str = ""
    serial: str = ""
    method: str = ""
    performed_on: date | None = None
    place: str = ""
    signature: str = ""


@act("disposal.attestation", READERS)
async def attestation(context: Context, arguments: Attest) -> dict[str, Any]:
    """The text a person signs, and its namespace."""
    account = await _account(context, arguments.account)

    def look(connection: Connection) -> tuple[str, str]:
        return _text(
            connection,
            load(connection, arguments.id.upper()),
            account,
            arguments,
        )

    statement, namespace = await context.core.read(look)
    return {"statement": statement, "namespace": namespace}


@act("disposal.attest", READERS)
async def attest(context: Context, arguments: Attest) -> dict[str, Any]:
    """Record a signed attestation and certify anew."""
    core = context.core
    account = await _account(context, arguments.account)
    now = context.now
    await asyncio.to_thread(core.clock.require, now)

    def work(tx: Transaction) -> str:
        batch = load(tx.connection, arguments.id.upper())
        if batch.state != BatchState.DONE:
            raise Refusal(
                "locked", f"batch {batch.id}: expected it executed, found it {batch.state}"
            )
        text, namespace = _text(tx.connection, batch, account, arguments)
        _, blob = verify_signed(
            tx.connection,
            name=account.name,
            statement=text.encode(),
            signature=arguments.signature,
            namespace=namespace,
            subject=f"attestation on batch {batch.id}",
            now=now,
            zone=ZoneInfo(core.config.login.time_zone),
        )
        _check_key(tx.connection, batch.id, account, blob, stamp(now))
        if arguments.kind == "sanitised":
            _check_day(batch, _medium(arguments).performed_on, now.date())
        if arguments.kind == "witness":
            _witness(tx, batch, account, text, arguments.signature, blob, stamp(now))
        else:
            tx.connection.execute(
                insert(sanitisations),
                {
                    "id": new_id(now),
                    "batch_id": batch.id,
                    "account_id": account.id,
                    "recorded_at": stamp(now),
                    "facts": msgspec.json.encode(_medium(arguments)).decode(),
                    "statement": text.encode(),
                    "signature": arguments.signature,
                    "key": blob,
                    "enrolment": enrolments.stated(tx.connection, account.id, blob),
                },
            )
        core.record(tx, f"disposal.{arguments.kind}", batch.id, account.id, now)
        return str(batch.id)

    batch_id = await core.write(work)
    issued = await certificates.follow_up(context.wings.disposal, batch_id)
    return {"id": batch_id, "certificate": issued[-1] if issued else None}


def _check_day(batch: Batch, day: date, today: date) -> None:
    """Refuse a day before the destruction or in the future; one day off is allowed, for time zones."""
    begun = datetime.fromisoformat(str(batch.started_at)).date()
    if not begun - timedelta(days=1) <= day <= today + timedelta(days=1):
        raise Refusal(
            "invalid", f"sanitisation: expected a day from {begun} to {today}, found {day}"
        )


def _check_key(
    connection: Connection, batch_id: str, account: Account, key: bytes, now: str
) -> None:
    """Refuse a key that another signer used or that does not count yet: no verifier would accept it."""
    for table in (approvals, sanitisations):
        used = connection.execute(
            select(table.c.account_id).where(
                table.c.batch_id == batch_id, table.c.account_id != account.id, table.c.key == key
            )
        ).first()
        if used is not None:
            raise Refusal(
                "denied", f"batch {batch_id}: expected distinct keys, found one used twice"
            )
    counts = accounts.counts_from(connection, account.id, key)
    if counts > now:
        raise Refusal(
            "denied",
            f"attestation on batch {batch_id}: expected a key that counts by {now}, found one that counts"
            f" from {counts}",
        )


def _witness(
    tx: Transaction,
    batch: Batch,
    account: Account,
    text: str,
    signature: str,
    key: bytes,
    at: str,
) -> None:
    present = tx.connection.execute(select(approvals).where(approvals.c.batch_id == batch.id)).all()
    if account.id == batch.executor or any(row.account_id == account.id for row in present):
        raise Refusal(
            "denied",
            f"batch {batch.id}: expected a witness who neither decided on it nor executed it, found"
            f" {account.name}",
        )
    tx.connection.execute(
        insert(approvals),
        {
            "batch_id": batch.id,
            "account_id": account.id,
            "role": account.role,
            "decision": WITNESSED,
            "statement": text.encode(),
            "signature": signature,
            "key": key,
            "signed_at": at,
            "enrolment": enrolments.stated(tx.connection, account.id, key),
        },
    )


async def _account(context: Context, name: str) -> Account:
    def look(connection: Connection) -> Account:
        return accounts.describe(connection, account_row(connection, name))

    return await context.core.read(look)


def _text(
    connection: Connection, batch: Batch, account: Account, arguments: Attest
) -> tuple[str, str]:
    """The statement and its namespace (raises Refusal for who may not, or facts that are missing)."""
    wanted = WITNESS_ROLES if arguments.kind == "witness" else SANITISATION_ROLES
    if account.role not in wanted:
        raise Refusal(
            "denied",
            f"account {account.name}: expected one of {', '.join(wanted)}, found {account.role}",
        )
    slug = queries.slug_of(connection, batch.client_id)
    if arguments.kind == "witness":
        text = witness_statement(
            batch_id=batch.id,
            client=slug,
            register_digest=batch.register_digest,
            items=len(batch.register),
            account=account.name,
            role=account.role,
        )
        return text, WITNESS_NAMESPACE
    medium = _medium(arguments)
    text = sanitisation_statement(
        batch_id=batch.id,
        client=slug,
        medium=medium.medium,
        serial=medium.serial,
        method=medium.method,
        performed_on=medium.performed_on,
        place=medium.place,
        account=account.name,
    )
    return text, SANITISATION_NAMESPACE


def _medium(arguments: Attest) -> Medium:
    facts = {
        name: getattr(arguments, name)
        for name in ("medium", "serial", "method", "performed_on", "place")
    }
    for name, value in facts.items():
        if value is None:
            raise Refusal("invalid", f"sanitisation: expected {name}, found none")
        if isinstance(value, str):
            try:
                msgspec.convert(value, Line)
            except msgspec.ValidationError as error:
                raise Refusal(
                    "invalid", f"sanitisation: expected one line for {name}, found another text"
                ) from error
    return Medium(**facts)
