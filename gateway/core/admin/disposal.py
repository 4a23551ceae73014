"""Disposal and certificates as the command line asks for them.

Leaves out: every rule of it (`core.disposal`).
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from gateway.core.admin.context import Context, account_row
from gateway.core.admin.register import READERS, ById, Nothing, act
from gateway.core.disposal import certificates as certify
from gateway.core.disposal import execution, proposal
from gateway.core.disposal.batch import Batch, load, of_row
from gateway.core.login import accounts as identity
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import accounts, approvals, batches, certificates
from vault.catalogue.states import BatchState
from vault.certificate.model import canonical
from vault.certificate.signing import SigningIdentity
from vault.certificate.statements import APPROVAL_NAMESPACE
from vault.keys.open_keyrings import HOUSE


class Propose(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `disposal.propose`.

    `documents` narrows it to these; `whole_client` proposes the end of a client: all its documents, and with
    them its keyring.
    """

    client: str = ""
    documents: list[str] = []
    whole_client: bool = False


class Statement(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `disposal.statement`: whose decision on which batch."""

    id: str
    account: str
    decision: str


class Decide(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `disposal.decide`: the decision and the signature over its statement."""

    id: str
    account: str
    decision: str
    signature: str


def _waiting_for(connection: Connection, context: Context, row: Batch) -> str:
    """Who must act next on a batch, in words."""
    if row.state == BatchState.PROPOSED:
        given = len(
            connection.execute(
                select(approvals.c.account_id).where(approvals.c.batch_id == row.id)
            ).all()
        )
        wanted = context.core.config.disposal.approvals
        return f"{wanted - given} of {wanted} approvals by distinct officers"
    if row.state == BatchState.APPROVED:
        return "execution by an officer or archivist who did not approve it"
    if row.state == BatchState.EXECUTING:
        return "the gateway, which is executing it"
    return ""


def _describe(connection: Connection, context: Context, row: Batch) -> dict[str, Any]:
    newest = certify.newest_of(connection, row.id)
    return {
        "id": row.id,
        "client": queries.slugs(connection).get(row.client_id, ""),
        "state": row.state,
        "items": len(row.register),
        "waiting_for": _waiting_for(connection, context, row),
        "proposed_at": row.proposed_at,
        "register_digest": row.register_digest,
        "scope": row.scope,
        "certificate": None if newest is None else newest.id,
    }


@act("disposal.propose", READERS)
async def propose(context: Context, arguments: Propose) -> list[dict[str, Any]]:
    """Propose batches of what is due now."""
    if arguments.whole_client:
        if not arguments.client or arguments.documents:
            raise Refusal("invalid", "offboarding: expected a client and no documents")
        made = [await proposal.propose_end(context.core, context.actor, arguments.client)]
    else:
        made = await proposal.propose(
            context.core, context.actor, arguments.client or None, arguments.documents
        )
    return await context.core.read(
        lambda c: [_describe(c, context, load(c, batch_id)) for batch_id in made]
    )


@act("disposal.list", READERS)
async def list_all(context: Context, arguments: Nothing) -> list[dict[str, Any]]:
    """All batches, newest last."""
    del arguments
    return await context.core.read(
        lambda c: [
            _describe(c, context, of_row(row))
            for row in c.execute(select(batches).order_by(batches.c.id)).all()
        ]
    )


@act("disposal.show", READERS)
async def show(context: Context, arguments: ById) -> dict[str, Any]:
    """One batch with its register and approvals."""

    def look(connection: Connection) -> dict[str, Any]:
        row = load(connection, arguments.id.upper())
        signed = connection.execute(
            select(accounts.c.name, approvals.c.role, approvals.c.decision, approvals.c.signed_at)
            .join(accounts, accounts.c.id == approvals.c.account_id)
            .where(approvals.c.batch_id == row.id)
            .order_by(approvals.c.signed_at)
        ).all()
        return _describe(connection, context, row) | {
            "register": msgspec.json.decode(canonical(row.register)),
            "approvals": [dict(entry._mapping) for entry in signed],
        }

    return await context.core.read(look)


@act("disposal.statement", READERS)
async def statement(context: Context, arguments: Statement) -> dict[str, Any]:
    """The text an officer signs to decide on a batch."""
    _check_decision(arguments.decision)

    def look(connection: Connection) -> dict[str, Any]:
        row = load(connection, arguments.id.upper())
        account = identity.describe(connection, account_row(connection, arguments.account))
        text = proposal.statement_for(connection, row, account, arguments.decision)
        return {"statement": text, "namespace": APPROVAL_NAMESPACE}

    return await context.core.read(look)


# Its own signature, over the register, proves who decides: no second one is asked for.
@act("disposal.decide", READERS)
async def decide(context: Context, arguments: Decide) -> dict[str, Any]:
    """Record an approval or rejection, proven by its own signature."""
    _check_decision(arguments.decision)

    def look(connection: Connection) -> identity.Account | None:
        row = identity.load_account(connection, arguments.account)
        return identity.describe(connection, row) if row is not None else None

    account = await context.core.read(look)
    if account is None:
        raise Refusal(
            "not_found", f"account {arguments.account}: expected an active one, found none"
        )
    state = await proposal.decide(
        context.core, arguments.id.upper(), account, arguments.decision, arguments.signature
    )
    return {"id": arguments.id.upper(), "state": state}


def _check_decision(decision: str) -> None:
    if decision not in {"approve", "reject"}:
        raise Refusal("invalid", f"decision: expected approve or reject, found {decision!r}")


@act("disposal.execute", ("officer", "archivist"))
async def execute(context: Context, arguments: ById) -> dict[str, Any]:
    """Execute an approved batch."""
    assert context.account is not None  # the console may not do this
    certificate = await execution.execute(
        context.wings.disposal, arguments.id.upper(), context.account
    )
    return {"id": arguments.id.upper(), "state": BatchState.DONE, "certificate": certificate}


@act("certificate.list", READERS)
async def certificate_list(context: Context, arguments: Nothing) -> list[dict[str, Any]]:
    """All certificates."""
    del arguments

    def look(connection: Connection) -> list[dict[str, Any]]:
        names = queries.slugs(connection)
        rows = connection.execute(
            select(
                certificates.c.id,
                certificates.c.batch_id,
                certificates.c.client_id,
                certificates.c.issued_at,
                certificates.c.level,
            ).order_by(certificates.c.id)
        )
        return [
            {
                "id": row.id,
                "batch": row.batch_id,
                "client": names.get(row.client_id, ""),
                "issued_at": row.issued_at,
                "level": row.level,
            }
            for row in rows
        ]

    return await context.core.read(look)


@act("certificate.show", READERS)
async def certificate_show(context: Context, arguments: ById) -> dict[str, Any]:
    """A certificate's JSON and its print (base64)."""
    row = await context.core.read(
        lambda c: c.execute(
            select(certificates).where(certificates.c.id == arguments.id.upper())
        ).one_or_none()
    )
    if row is None:
        raise Refusal("not_found", f"certificate {arguments.id}: expected one, found none")
    return {
        "id": row.id,
        "json": bytes(row.document).decode(),
        "pdf": base64.b64encode(row.printed).decode(),
        "vkey": context.core.store.vkey,
        # Oldest first: a certificate is signed with the key of its time.
        "vkeys": list(context.core.store.vkeys),
    }


@act("certificate.keys", READERS)
async def certificate_keys(context: Context, arguments: Nothing) -> dict[str, Any]:
    """The keys to verify certificates with: every key of the ledger, and the one that signs prints.

    The authority behind the signer (X.509, PEM) and the signer's fingerprint (SHA-256) are empty until the
    first certificate was printed.
    """
    del arguments
    store = context.core.store
    kept = store.custody.keyring(HOUSE).secrets.get(certify.SECRET_SIGNING)
    signer = SigningIdentity.load(kept) if kept is not None else None
    return {
        "vkeys": list(store.vkeys),
        "signer": "" if signer is None else signer.authority_pem,
        "fingerprint": "" if signer is None else signer.fingerprint,
    }
