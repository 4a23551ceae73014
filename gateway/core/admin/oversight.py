"""Oversight: the check of the whole store, and the state of things.

Leaves out: what is checked (`vault.check`), and findings about the machine (`gateway.doctor`).
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from gateway.core.admin import account_keys, broken_keyrings, clock, penalties, second_officer
from gateway.core.admin.context import Context
from gateway.core.admin.register import READERS, Nothing, act
from gateway.core.inspection import fixity, scanner
from gateway.core.intake import fetched, quotas
from gateway.core.login import recovery
from gateway.core.notices import conditions, listing
from gateway.core.outbound import keyring_copies, ledger_publication
from gateway.core.outbound.backup import status as backup_status
from gateway.core.reasons import SENDER_UNPROVEN
from gateway.errors import Refusal
from gateway.wire.messages import AdminAnswer
from vault.catalogue import ledger, settings
from vault.catalogue.schema import access_requests, batches, clients, documents, holds, messages
from vault.catalogue.states import OPEN_BATCHES, AccessState, ClientState, DocumentState
from vault.check import store as vault_check
from vault.moments import stamp


class Check(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `check`; `acknowledge`: someone answers for a change of the catalogue at rest."""

    read_data: bool = False
    acknowledge: bool = False


def _last_check(connection: Connection) -> dict[str, Any] | None:
    last = conditions.last_check(connection)
    return None if last is None else msgspec.structs.asdict(last)


@act("check", READERS)
async def check(context: Context, arguments: Check) -> AdminAnswer:
    """Check every invariant; with `read_data` also every byte of every document."""
    core = context.core
    if arguments.acknowledge:
        if context.account is None or context.account.role != "officer":
            raise Refusal(
                "denied", "check: expected an officer to acknowledge a change, found another"
            )
        await core.write(quotas.recount)
        if await asyncio.to_thread(core.store.acknowledge_change):
            await core.write(
                lambda tx: core.record(
                    tx, "store.change-acknowledged", "store", context.actor, context.now
                )
            )
    report = await asyncio.to_thread(vault_check.check, core.store)
    findings = list(report.findings or [])
    findings.extend(await ledger_publication.findings(core))
    findings.extend(await core.read(quotas.findings))
    read = 0
    if arguments.read_data:
        reading = await fixity.read_everything(core, context.queue)
        read = reading.documents
        findings.extend(reading.findings)
    data = {
        "documents": report.documents,
        "blobs": report.blobs,
        "groups": report.groups,
        "ledger_entries": report.ledger_entries,
        "certificates": report.certificates,
        "documents_read": read,
        "findings": [asdict(finding) for finding in findings],
    }
    last = msgspec.json.encode(conditions.LastCheck.of(context.now, findings)).decode()
    await core.write(lambda tx: settings.put(tx.connection, conditions.SETTING_CHECK, last))
    if arguments.read_data and not core.store.catalogue.ledger.fault:
        outcome = len(findings)
        await core.write(
            lambda tx: core.record(
                tx,
                "store.checked",
                "store",
                context.actor,
                context.now,
                documents=report.documents,
                read=read,
                findings=outcome,
            )
        )
    return AdminAnswer(data, 1 if findings else 0)


def _mail(connection: Connection) -> dict[str, Any]:
    """How many messages wait for what proves them, since when, and how many proved nothing."""
    waiting = connection.execute(
        select(func.count().label("count"), func.min(documents.c.received_at).label("since"))
        .select_from(messages.join(documents, documents.c.id == messages.c.document_id))
        .where(messages.c.due_at.is_not(None))
    ).one()
    unproven = connection.execute(
        select(func.count())
        .select_from(documents)
        .where(
            documents.c.state == DocumentState.QUARANTINED, documents.c.reason == SENDER_UNPROVEN
        )
    ).scalar_one()
    return {"waiting": waiting.count, "waiting_since": waiting.since, "unproven": unproven}


@act("status", READERS)
async def status(context: Context, arguments: Nothing) -> dict[str, Any]:
    """How many of what, what waits for whom, and what is behind."""
    del arguments
    core = context.core

    def look(connection: Connection) -> dict[str, Any]:
        states = {
            row.state: row.count
            for row in connection.execute(
                select(documents.c.state, func.count().label("count")).group_by(documents.c.state)
            )
        }
        waiting = {
            row.reason: row.count
            for row in connection.execute(
                select(documents.c.reason, func.count().label("count"))
                .where(documents.c.state == DocumentState.RECEIVED, documents.c.attempts > 0)
                .group_by(documents.c.reason)
            )
        }
        return {
            "documents": states,
            "waiting": waiting,
            "clients": connection.execute(
                select(func.count()).select_from(clients).where(clients.c.state == ClientState.OPEN)
            ).scalar_one(),
            "holds": connection.execute(
                select(func.count()).select_from(holds).where(holds.c.released_at.is_(None))
            ).scalar_one(),
            "batches": {
                row.state: row.count
                for row in connection.execute(
                    select(batches.c.state, func.count().label("count"))
                    .where(batches.c.state.in_(OPEN_BATCHES))
                    .group_by(batches.c.state)
                )
            },
            "access_requests": connection.execute(
                select(func.count())
                .select_from(access_requests)
                .where(access_requests.c.state == AccessState.WAITING)
            ).scalar_one(),
            "mail": _mail(connection),
            "ledger": {
                "entries": ledger.size_of(connection),
                "origin": core.store.origin,
            },
            "clamd": scanner.seen(connection),
            "second_signatures": second_officer.waiting(connection, context.now),
            "quorum": recovery.state(connection, context.now),
            "now": stamp(context.now),
        }

    data = await core.read(look)
    data["clamd"] = {"policy": core.config.inspect.clamd, "adopted_at": data["clamd"]}
    data["backups"] = await asyncio.to_thread(backup_status.status, core)
    data["fixity"] = await core.read(fixity.last_run)
    data["copies_behind"] = await asyncio.to_thread(keyring_copies.overdue, core)
    data["ledger"]["places"] = await asyncio.to_thread(ledger_publication.status, core)
    data["penalised"] = penalties.standing(context.wings.logins)
    data["mismatches"] = context.wings.logins.records.mismatches.listed(context.now)
    data["mailboxes"] = await core.read(lambda c: fetched.standing(context.wings.intake, c))
    data["free_bytes"] = core.store.blobs.free_bytes()
    data["enrolments"] = await account_keys.enrolments(core, context.now)
    data["ledger"]["fault"] = core.store.catalogue.ledger.fault
    data["keyrings_broken"] = await core.read(lambda c: broken_keyrings.known(core, c))
    data["changed_at_rest"] = core.store.changed_at_rest
    data["notices"] = await core.read(lambda c: listing.state(context.wings.notices, c))
    data["conditions"] = await core.read(conditions.standing)
    data["check"] = await core.read(_last_check)
    data["serving"] = context.queue is not None
    data["clock"] = await asyncio.to_thread(clock.state, core, context.now)
    return data
