"""Places of keyring copies: what is known of each, and settling one that is in use no more.

Leaves out: delivering to them (`core.outbound`).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, func, select

from gateway.core.admin.context import Context, client_row
from gateway.core.admin.register import ADMIN, OFFICER, READERS, Nothing, act
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import copy_places, copy_states, errands
from vault.catalogue.states import ClientState
from vault.catalogue.store import Transaction
from vault.crypto.wrapping import open_record, seal_record
from vault.errors import StorageFailed, VaultError
from vault.keys import copies
from vault.keys.open_keyrings import HOUSE
from vault.keys.secret_names import SECRET_ACCOUNTS
from vault.moments import stamp

PURPOSE_SETTLED: Final = "copies-settled"
_STATEMENT: Final = 2000


class Settle(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `keys.settle`: the place's name, and what the person says of it."""

    name: str
    statement: str


class Restore(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `keys.restore`: the client, and a copy of its keyring as a registered place holds it."""

    client: str
    content: Annotated[bytes, Meta(min_length=1, max_length=4 * 1024 * 1024)]


@act("keys.copies", READERS)
async def list_all(context: Context, arguments: Nothing) -> list[dict[str, Any]]:
    """Every place that holds or held copies: where, its state, what waits for it since when, and why."""
    del arguments
    key = context.core.store.custody.keyring(HOUSE).secrets[SECRET_ACCOUNTS]

    def look(connection: Connection) -> list[dict[str, Any]]:
        waiting = {
            row.target: row
            for row in connection.execute(
                select(
                    errands.c.target,
                    func.count().label("count"),
                    func.min(errands.c.created_at).label("since"),
                    func.max(errands.c.attempts).label("attempts"),
                    func.max(errands.c.failure).label("failure"),
                    func.min(errands.c.next_attempt_at).label("next"),
                )
                .where(errands.c.delivered_at.is_(None))
                .group_by(errands.c.target)
            )
        }
        delivered = {
            row.target: row.at
            for row in connection.execute(
                select(
                    copy_states.c.target, func.max(copy_states.c.delivered_at).label("at")
                ).group_by(copy_states.c.target)
            )
        }
        names = queries.account_names(connection)
        found = []
        for row in connection.execute(select(copy_places).order_by(copy_places.c.name)):
            waits = waiting.get(row.name)
            if row.settled_at is not None:
                state = "settled"
            elif row.withdrawn_at is not None:
                state = "withdrawn"
            else:
                state = "behind" if waits else "in step"
            found.append(
                {
                    "name": row.name,
                    "place": row.place,
                    "state": state,
                    "keeps_days": row.keeps_days,
                    "registered_at": row.registered_at,
                    "withdrawn_at": row.withdrawn_at,
                    "settled_at": row.settled_at,
                    "settled_by": names.get(row.settled_by, row.settled_by),
                    "statement": ""
                    if row.statement is None
                    else open_record(
                        key, row.statement, purpose=PURPOSE_SETTLED, subject=row.registered_at
                    ).decode(),
                    "delivered_at": delivered.get(row.name),
                    "waiting": waits.count if waits else 0,
                    "behind_since": waits.since if waits else None,
                    "attempts": waits.attempts if waits else 0,
                    "next_attempt_at": waits.next if waits else None,
                    "failure": waits.failure if waits else "",
                }
            )
        return found

    return await context.core.read(look)


@act("keys.restore", (*ADMIN, "officer"))
async def restore(context: Context, arguments: Restore) -> dict[str, Any]:
    """Put a registered copy in the place of a client's keyring that does not open.

    Before: the copy opens under the root key and has every group that lives. After: it was read back.
    """
    core = context.core

    def work(tx: Transaction) -> dict[str, Any]:
        row = client_row(tx.connection, arguments.client)
        if row.state != ClientState.OPEN:  # one whose end has begun gets no key back
            raise Refusal("invalid", f"client {row.slug}: expected it open, found it {row.state}")
        try:
            keyring = core.store.custody.restore(
                tx.connection, row.id, arguments.content, context.now
            )
        except RuntimeError as error:
            raise Refusal(
                "invalid",
                f"client {row.slug}: expected a keyring that does not open, found it whole",
            ) from error
        except StorageFailed:
            raise
        except VaultError as error:
            raise Refusal("invalid", f"copy: {error}") from error
        core.record(tx, "keyring.restored", row.id, context.actor, context.now, epoch=keyring.epoch)
        return {"client": row.slug, "epoch": keyring.epoch, "groups": len(keyring.groups)}

    return await core.write(work)


@act("keys.settle", OFFICER)
async def settle(context: Context, arguments: Settle) -> dict[str, Any]:
    """Take an officer's word that nothing is left at a withdrawn place.

    From here on certificates list it as destroyed. The words are kept sealed; the ledger holds the name of
    the place and the digest of the sealed words.
    """
    core = context.core
    said = arguments.statement.strip()
    if not said or len(said) > _STATEMENT:
        raise Refusal(
            "invalid",
            f"statement: expected 1 to {_STATEMENT} characters on what became of the copies,"
            f" found {len(said)}",
        )

    def work(tx: Transaction) -> None:
        row = tx.connection.execute(
            select(copy_places).where(copy_places.c.name == arguments.name)
        ).one_or_none()
        if row is None:
            raise Refusal("not_found", f"place {arguments.name}: expected one, found none")
        if row.withdrawn_at is None:
            raise Refusal(
                "invalid",
                f"place {row.name}: expected it taken out of the configuration first, found it in use",
            )
        if row.settled_at is not None:
            raise Refusal("exists", f"place {row.name}: expected it open, found it settled already")
        key = core.store.custody.keyring(HOUSE).secrets[SECRET_ACCOUNTS]
        # Bound to the registration, not to the name: a name that is taken by another place changes.
        sealed = seal_record(key, said.encode(), purpose=PURPOSE_SETTLED, subject=row.registered_at)
        copies.settle(tx.connection, row.name, context.actor, sealed, context.now)
        core.record(
            tx,
            "keyring.place-settled",
            row.name,
            context.actor,
            context.now,
            statement=hashlib.sha256(sealed).hexdigest(),
        )

    await core.write(work)
    return {"name": arguments.name, "settled_at": stamp(context.now)}
