"""Restricted classes: documents that an officer lets an account open, for a time.

Opening a document of a restricted class (`[access] restricted`) without an approval is refused and files a
request; an officer approves or denies it by a signed act. Every request, decision, opening, lapse and
revocation is in the ledger.

A container (a mail, an archive) holds the bytes of its parts, and is as closed as they are:
- a part of a restricted class restricts it as well;
- so does one that only an officer could release, unjudged or quarantined and without a class: nobody knows
  what it is;
- while a part is being inspected the container waits, and no request is filed: that ends by itself;
- a part that was judged and waits in review without a class restricts nothing: who may open the container may
  open that part, too, to say what it is.

Rules:
1. Asking again repeats the request that waits. A denial is repeated with its reason for a day; then a new
   request may be filed. An account has at most `max_waiting` requests waiting.
2. An approval is for the account that asked and the document, or the folder (client, fiscal year, class),
   until its time. It does not reach what is listed, only what is opened.
3. Nobody decides on their own request.
4. Out of a restricted class a document goes by an officer's act only (`review`), else moving would open it.

Leaves out: taking back what is open. A revocation ends the account's live sessions, and with them the files
they hold open; an approval whose time is over stops new openings, not a file that is open already.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, Row, exists, func, insert, select, update

from gateway.core.core import ACTOR_CORE, Core
from gateway.core.reasons import UNJUDGED
from gateway.errors import Refusal
from vault.catalogue.schema import access_requests, documents
from vault.catalogue.states import STORED, AccessState, DocumentState
from vault.catalogue.store import Transaction
from vault.crypto.wrapping import open_record, seal_record
from vault.errors import KeyUnavailable
from vault.ids import new_id
from vault.keys.secret_names import SECRET_PROFILE
from vault.moments import stamp

DOCUMENT: Final = "document"
FOLDER: Final = "folder"

DENIAL_STANDS: Final = timedelta(hours=24)
PURPOSE_REASON: Final = "access-denial"
LAPSE_AT_ONCE: Final = 1000


@dataclass(frozen=True)
class Answer:
    """The answer to an account that wants to open a document; `approval`: what allows it, or None."""

    approval: str | None
    sentence: str = ""


class Restriction(Enum):
    """Why a document can't be opened without an approval."""

    CLASS = "it, or a part of it, is of a restricted class"
    UNKNOWN = "a part of it could not be judged, or is quarantined, and has no class"
    INSPECTION = "a part of it is being inspected"


OF_THIS_CLASS: Final = "Documents of this class are opened with an officer's approval."
UNKNOWN_PART: Final = (
    "A part of this document could not be checked or is quarantined; until an officer has decided on that"
    " part, the whole is opened with an officer's approval."
)
INSPECTED: Final = (
    "A part of this document is still being checked; it opens as soon as that is done. Nothing has to be"
    " asked for: try again in a minute."
)


def _parts(document_id: str) -> Any:
    """All stored parts of a document, and their parts."""
    part = select(
        documents.c.id, documents.c.state, documents.c.reason, documents.c.record_class
    ).where(documents.c.state.in_(STORED))
    found = part.where(documents.c.parent_id == document_id).cte("inside", recursive=True)
    return found.union(part.where(documents.c.parent_id == found.c.id))


def restricted_by(core: Core, connection: Connection, row: Row[Any]) -> Restriction | None:
    """Why a document is restricted, by itself or by what is in it; None: it is not.

    While a document waits in review, the class that the inspector proposed counts.
    """
    classes = core.config.access.restricted
    if not classes:
        return None
    if row.record_class in classes:
        return Restriction.CLASS
    inside = _parts(row.id).c
    parts = connection.execute(select(inside.state, inside.reason, inside.record_class).distinct())
    found = {_restriction(classes, part) for part in parts}
    # What is unknown comes last: as long as a part is being inspected, that may change what is to be decided.
    for each in (Restriction.CLASS, Restriction.INSPECTION, Restriction.UNKNOWN):
        if each in found:
            return each
    return None


def _restriction(classes: list[str], part: Row[Any]) -> Restriction | None:
    if part.record_class in classes:
        return Restriction.CLASS
    if part.state == DocumentState.RECEIVED:
        return Restriction.INSPECTION
    if part.record_class is None and (
        part.state == DocumentState.QUARANTINED or part.reason.startswith(UNJUDGED)
    ):
        return Restriction.UNKNOWN
    return None


def approval(connection: Connection, account_id: str, row: Row[Any], now: datetime) -> str | None:
    """The approval under which an account may open a document now, or None."""
    asked = access_requests.c
    in_folder = (
        (asked.scope == FOLDER)
        & (asked.client_id == row.client_id)
        & (asked.record_class == row.record_class)
        & (asked.fiscal_year == row.fiscal_year)
    )
    found = connection.execute(
        select(asked.id)
        .where(
            asked.account_id == account_id,
            asked.state == AccessState.APPROVED,
            asked.until > stamp(now),
            (asked.document_id == row.id) | in_folder,
        )
        .order_by(asked.id)
        .limit(1)
    ).scalar()
    return str(found) if found is not None else None


def ask(core: Core, tx: Transaction, account_id: str, row: Row[Any], now: datetime) -> Answer:
    """Whether an account may open a restricted document; files a request if an officer has to decide.

    Inside a transaction, which is to be committed whatever the answer is: the caller refuses afterwards.
    """
    granted = approval(tx.connection, account_id, row, now)
    if granted is not None:
        return Answer(granted)
    why = restricted_by(core, tx.connection, row)
    if why is Restriction.INSPECTION:
        return Answer(None, INSPECTED)
    by_approval = UNKNOWN_PART if why is Restriction.UNKNOWN else OF_THIS_CLASS
    asked = access_requests.c
    last = tx.connection.execute(
        select(access_requests)
        .where(asked.account_id == account_id, asked.document_id == row.id)
        .order_by(asked.id.desc())
        .limit(1)
    ).one_or_none()
    if last is not None and last.state == AccessState.WAITING:
        return Answer(None, by_approval + _filed(core, last.id, last.requested_at))
    if last is not None and last.state == AccessState.DENIED and _stands(last, now):
        return Answer(None, _denied(core, last))
    waiting = tx.connection.execute(
        select(func.count())
        .select_from(access_requests)
        .where(asked.account_id == account_id, asked.state == AccessState.WAITING)
    ).scalar_one()
    if waiting >= core.config.access.max_waiting:
        return Answer(
            None,
            f"{by_approval} {waiting} requests of yours wait already, so that none was filed for this one.",
        )
    request_id = new_id(now)
    tx.connection.execute(
        insert(access_requests),
        {
            "id": request_id,
            "account_id": account_id,
            "client_id": row.client_id,
            "document_id": row.id,
            "record_class": row.record_class,
            "fiscal_year": row.fiscal_year,
            "state": AccessState.WAITING,
            "scope": DOCUMENT,
            "requested_at": stamp(now),
        },
    )
    core.record(tx, "access.requested", request_id, account_id, now, document=row.id)
    return Answer(None, by_approval + _filed(core, request_id, stamp(now)))


def _filed(core: Core, request_id: str, requested_at: str) -> str:
    return (
        f" Request {request_id} was filed on {requested_at[:10]}; an officer decides it within"
        f" {core.config.access.lapse_days} days, then open the file again."
    )


def _stands(row: Row[Any], now: datetime) -> bool:
    return bool(row.decided_at > stamp(now - DENIAL_STANDS))


def _denied(core: Core, row: Row[Any]) -> str:
    again = datetime.fromisoformat(row.decided_at) + DENIAL_STANDS
    return (
        f"An officer denied request {row.id} on {row.decided_at[:10]}: {reason_of(core, row)}"
        f" From {again:%Y-%m-%d %H:%M} UTC on it can be asked for again."
    )


def reason_of(core: Core, row: Row[Any]) -> str:
    """The reason of a denial as a sentence; "" where there is none, or its client has ended."""
    if row.reason is None:
        return ""
    try:
        key = core.store.custody.keyring(row.client_id).secrets[SECRET_PROFILE]
    except KeyUnavailable:
        return ""
    text = open_record(key, row.reason, purpose=PURPOSE_REASON, subject=row.id).decode()
    return text if text.endswith((".", "!", "?", "。")) else f"{text}."


# ── decisions ──


def _row(tx: Transaction, request_id: str, state: AccessState) -> Row[Any]:
    row = tx.connection.execute(
        select(access_requests).where(access_requests.c.id == request_id)
    ).one_or_none()
    if row is None or row.state != state:
        found = "none" if row is None else f"it {row.state}"
        raise Refusal("not_found", f"request {request_id}: expected it {state}, found {found}")
    return row


def _not_own(row: Row[Any], actor: str) -> None:
    if row.account_id == actor:
        raise Refusal(
            "denied", f"request {row.id}: expected another person to decide, found who asked"
        )


def approve(
    core: Core,
    tx: Transaction,
    request_id: str,
    actor: str,
    hours: int,
    scope: str,
    now: datetime,
    permit: Callable[[Transaction, Row[Any]], bool],
) -> datetime | None:
    """An officer lets an account open a document (or what lies in its folder); returns until when.

    Args:
        permit: whether one officer is enough; if not, nothing is done and None returned.

    Raises:
        Refusal: no such request waits, it is the officer's own, its document is gone or is in no folder of
            a restricted class, or it is for longer than `access.max_hours`.
    """
    row = _row(tx, request_id, AccessState.WAITING)
    _not_own(row, actor)
    if hours > core.config.access.max_hours:
        raise Refusal(
            "invalid",
            f"hours: expected at most {core.config.access.max_hours} (access.max_hours), found {hours}",
        )
    document = tx.connection.execute(
        select(documents).where(documents.c.id == row.document_id, documents.c.state.in_(STORED))
    ).one_or_none()
    if document is None:
        raise Refusal("not_found", f"request {row.id}: expected its document, found it gone")
    if scope == FOLDER and (
        document.record_class not in core.config.access.restricted or document.fiscal_year is None
    ):
        raise Refusal(
            "invalid",
            f"request {row.id}: expected a document in a folder of a restricted class,"
            " found none; approve it without --folder",
        )
    if not permit(tx, row):
        return None
    until = now + timedelta(hours=hours)
    tx.connection.execute(
        update(access_requests)
        .where(access_requests.c.id == row.id)
        .values(
            state=AccessState.APPROVED,
            scope=scope,
            decided_at=stamp(now),
            decided_by=actor,
            until=stamp(until),
            # As the officer saw them now: the document may have been classified since it was asked for.
            record_class=document.record_class,
            fiscal_year=document.fiscal_year,
        )
    )
    core.record(
        tx,
        "access.approved",
        row.id,
        actor,
        now,
        account=row.account_id,
        document=row.document_id,
        scope=scope,
        until=stamp(until),
    )
    return until


def deny(
    core: Core, tx: Transaction, request_id: str, actor: str, reason: str, now: datetime
) -> None:
    """An officer denies a request; the one who asked reads the reason at the next try (raises Refusal)."""
    row = _row(tx, request_id, AccessState.WAITING)
    _not_own(row, actor)
    key = core.store.custody.keyring(row.client_id).secrets[SECRET_PROFILE]
    sealed = seal_record(key, reason.encode(), purpose=PURPOSE_REASON, subject=row.id)
    tx.connection.execute(
        update(access_requests)
        .where(access_requests.c.id == row.id)
        .values(state=AccessState.DENIED, decided_at=stamp(now), decided_by=actor, reason=sealed)
    )
    core.record(tx, "access.denied", row.id, actor, now, document=row.document_id)


def revoke(core: Core, tx: Transaction, request_id: str, actor: str, now: datetime) -> str:
    """Take an approval back; returns the account, whose live sessions the caller ends (raises Refusal)."""
    row = _row(tx, request_id, AccessState.APPROVED)
    tx.connection.execute(
        update(access_requests)
        .where(access_requests.c.id == row.id)
        .values(state=AccessState.REVOKED, ended_at=stamp(now), ended_by=actor)
    )
    core.record(
        tx, "access.revoked", row.id, actor, now, account=row.account_id, document=row.document_id
    )
    return str(row.account_id)


async def lapse(core: Core, now: datetime) -> int:
    """End the requests that nobody decided in time; returns how many."""
    limit = stamp(now - timedelta(days=core.config.access.lapse_days))
    overdue = (access_requests.c.state == AccessState.WAITING) & (
        access_requests.c.requested_at < limit
    )
    if not await core.read(lambda c: c.execute(select(exists().where(overdue))).scalar()):
        return 0
    return await core.write(functools.partial(_lapse, core, overdue, now))


def _lapse(core: Core, overdue: Any, now: datetime, tx: Transaction) -> int:
    found = tx.connection.execute(
        select(access_requests.c.id)
        .where(overdue)
        .order_by(access_requests.c.id)
        .limit(LAPSE_AT_ONCE)
    ).scalars()
    ended = list(found)
    for request_id in ended:
        tx.connection.execute(
            update(access_requests)
            .where(access_requests.c.id == request_id)
            .values(state=AccessState.LAPSED, ended_at=stamp(now), ended_by=ACTOR_CORE)
        )
        core.record(tx, "access.lapsed", request_id, ACTOR_CORE, now)
    return len(ended)
