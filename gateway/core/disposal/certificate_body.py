"""What a certificate states: the facts of a destruction, put together from what was approved and seen.

Promises: nothing is stated that was not signed, done or looked for; the claim follows from the searches and
from the state of every known copy, never from a setting. A follow-up takes nothing back. Leaves out: when a
certificate is issued, how it is bound to the ledger, and printing (`certificates`).
"""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, select

from gateway.core.core import Core
from gateway.core.disposal.batch import Batch
from gateway.core.disposal.signatures import signed
from gateway.core.keys import root
from gateway.core.login import recovery
from gateway.core.outbound.backup import places
from vault.catalogue import queries
from vault.catalogue.schema import accounts
from vault.certificate.model import (
    LEVELS,
    LIMITS,
    Body,
    Check,
    Copy,
    Executor,
    Gateway,
    Outcome,
    Recovery,
    claim_for,
    make_claim,
)
from vault.ids import new_id
from vault.keys import copies as keyring_copies


def first(
    core: Core, connection: Connection, batch: Batch, checks: tuple[Check, ...], now: datetime
) -> Body:
    """The body of a batch's first certificate."""
    assert batch.executor is not None
    assert batch.started_at is not None
    names = {
        row.id: (row.name, row.role)
        for row in connection.execute(select(accounts.c.id, accounts.c.name, accounts.c.role))
    }
    progress = batch.progress
    copies = copies_listed(core, connection, batch.client_id, now, progress.epoch)
    people = signed(connection, batch.id)
    sanitised = people.sanitisations
    destroyed_at = datetime.fromisoformat(progress.destroyed_at)
    executor, role = names[batch.executor]
    return Body(
        certificate_id=new_id(now),
        follows=None,
        issued_at=now,
        gateway=Gateway(
            origin=core.store.origin, software="strongroom", version=version("strongroom")
        ),
        client=queries.slug_of(connection, batch.client_id),
        batch_id=batch.id,
        scope=batch.scope,  # type: ignore[arg-type]  # the schema's two words
        claim=make_claim(claim_for(checks, copies, sanitised)),
        register=batch.register,
        register_digest=batch.register_digest,
        outcomes=tuple(
            Outcome(
                document_id=document_id,
                result="destroyed",
                destroyed_at=destroyed_at,
                ledger_index=progress.entries[document_id],
            )
            for document_id in batch.ids
        ),
        approvals=people.approvals,
        witnesses=people.witnesses,
        executor=Executor(account=executor, role=role),
        proposed_by=names.get(batch.proposed_by, (batch.proposed_by, ""))[0],
        proposed_at=datetime.fromisoformat(batch.proposed_at),
        executed_at=datetime.fromisoformat(batch.started_at),
        groups_ended=tuple(progress.groups),
        copies=copies,
        checks=checks,
        sanitisations=sanitised,
        limits=LIMITS,
        unreviewed_recovery=recovery_of(connection, now),
    )


def raised(
    core: Core, connection: Connection, batch: Batch, seen: tuple[Check, ...], now: datetime
) -> Body | None:
    """The body of a follow-up; None: no claim has risen, and nobody has attested anything since.

    Args:
        seen: checks that could be made only now.
    """
    body = batch.progress.certificate
    copies = copies_listed(core, connection, batch.client_id, now, batch.progress.epoch)
    now_signed = signed(connection, batch.id)
    sanitised, witnesses = now_signed.sanitisations, now_signed.witnesses
    fresh = {check.name: check for check in seen}
    checks = tuple(fresh.get(check.name, check) for check in body.checks)
    level = claim_for(checks, copies, sanitised)
    risen = LEVELS.index(level) > LEVELS.index(body.claim.level)
    attested = len(witnesses) > len(body.witnesses) or len(sanitised) > len(body.sanitisations)
    if not risen and not attested:
        return None
    # A claim once made stands: what is known of copies now is listed, and never lowers it.
    level = level if risen else body.claim.level
    return msgspec.structs.replace(
        body,
        certificate_id=new_id(now),
        follows=body.certificate_id,
        issued_at=now,
        claim=make_claim(level),
        checks=checks if risen else body.checks,
        copies=copies if claim_for(checks, copies, sanitised) == level else body.copies,
        witnesses=witnesses,
        sanitisations=sanitised,
        # What was stated once stays, reviewed or not: a follow-up takes nothing back.
        unreviewed_recovery=recovery_of(connection, now)
        if body.unreviewed_recovery is UNSET
        else body.unreviewed_recovery,
    )


def copies_listed(
    core: Core, connection: Connection, client_id: str, now: datetime, epoch: int
) -> tuple[Copy, ...]:
    """Every known copy: of the client's keyring, and of its sealed bytes in backups."""
    erased = None
    if core.store.custody.epochs_left(client_id) is not None:
        # Files from before the token are under a root key that forgets nothing.
        erased = root.root_since(connection) or ""
    keyrings = (
        Copy(place=each.place, kind="keyring", state=each.state, expires=each.expires)
        for each in keyring_copies.table(
            connection, client_id, now, epoch=epoch or None, erased_since=erased
        )
    )
    configured = {
        target.name: target.place(core.config.resolve) for target in core.config.backup.targets
    }
    # Sealed bytes and wrapped keys under groups that have ended: there is no key to them any more.
    sealed = (
        Copy(place=configured.get(name, name), kind="backup", state="keyless", expires=None)
        for name in places.places_with_backups(connection, core.config, now)
    )
    return (*keyrings, *sealed)


def recovery_of(connection: Connection, now: datetime) -> Recovery | UnsetType:
    """The recovery of a lost quorum that stands unreviewed, as certificates state it."""
    found = recovery.standing(connection, now)
    if not found:
        return UNSET
    return Recovery(
        since=datetime.fromisoformat(found[0].counts_from),
        accounts=tuple(dict.fromkeys(row.name for row in found)),
    )
