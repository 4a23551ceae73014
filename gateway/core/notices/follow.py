"""Following the ledger: what it has since the last look becomes notices that wait.

Promises: every entry is looked at once, in the ledger's order, and what follows from it is durable together
with how far it was followed: a crash repeats nothing and leaves out nothing. A receipt waits for its mail's
inspection, or gathers what a client sends by SFTP; a notice by mail gathers what concerns one person, and is
sent at most once in `DIGEST` for a topic, or once in `URGENT` where it can't wait. A webhook is called for
each entry by itself.

Leaves out: what a notice says (`composing`), and sending it (`kind`). What happened before anything was
configured is not told.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from gateway.core.core import Core
from gateway.core.intake import recipients
from gateway.core.intake.upload import MAIL
from gateway.core.notices import receipts
from gateway.core.notices.notices import RELAY, Notices
from gateway.core.notices.topics import RECEIPT, TOPICS
from gateway.core.outbound.backup import status as backup_status
from gateway.core.steps import step
from vault.catalogue import ledger, queries, settings
from vault.catalogue.ledger import LedgerEntry
from vault.catalogue.schema import accounts, conditions, grants, notice_documents, notices
from vault.catalogue.states import AccountState, ClientState, DocumentState, Proof
from vault.catalogue.store import Transaction
from vault.errors import VaultError
from vault.ids import new_id
from vault.moments import stamp

DIGEST: Final = timedelta(days=1)
URGENT: Final = timedelta(hours=1)
PAGE: Final = 500  # entries of one look
UNSAVED: Final = (
    5000  # entries without anything to tell after which the position is kept all the same
)
SETTING: Final = "notices.position"
_decode: Final = msgspec.json.Decoder(LedgerEntry).decode
_HARMFUL: Final = ("found:", "integrity:")


@dataclass(frozen=True)
class Told:
    """What an entry of the ledger is to make known."""

    entry: LedgerEntry
    topic: str
    urgent: bool
    client_id: str | None = None


@dataclass(frozen=True)
class _Look:
    """What one look found."""

    position: int
    sent: list[
        tuple[LedgerEntry, Row[Any]]
    ]  # documents that were received, whose senders may be answered
    told: list[Told]
    settled: list[Row[Any]]  # documents as sent, of which a person has decided all that was held
    unlocked: list[Row[Any]]  # the same, opened with a password: what was inside is being inspected


def topic_of(entry: LedgerEntry) -> tuple[str, bool] | None:
    """The topic of an entry and whether it can't wait; None: nobody has to be told."""
    facts = entry.facts
    match entry.kind:
        case "document.inspected" if facts.get("outcome") == DocumentState.REVIEW:
            return "review", False
        case "document.inspected" if facts.get("outcome") == DocumentState.QUARANTINED:
            return "quarantine", str(facts.get("reason", "")).startswith(_HARMFUL)
        case "message.judged" if facts.get("proof") == Proof.FAILED:
            return "quarantine", False  # put aside unopened
        case "disposal.proposed":
            return "disposal", False
        case "access.requested":
            return "access", False
        case "store.fixity" | "store.checked" if facts.get("findings"):
            return "check", True
        case "store.changed-at-rest" | "ledger.place-contradicts":
            return "check", True
        case "condition.began":
            return str(facts["topic"]), bool(facts["urgent"])
    return None


async def follow(wing: Notices) -> None:
    """Look at what the ledger has since the last time, until there is no more."""
    core = wing.core
    if wing.position is None:
        await prepare(wing)
    while wing.position is not None and wing.position != core.store.catalogue.ledger.size:
        start = wing.position
        look = await core.read(lambda c, at=start: _look(wing, c, at))  # type: ignore[misc]
        if look.position == start:
            return  # what has been appended is not committed yet
        saved = int(await core.read(lambda c: settings.value(c, SETTING)) or 0)
        new = look.sent or look.told or look.settled or look.unlocked
        if new or look.position - saved >= UNSAVED:
            now = core.now()
            with step("notice.note"):
                await core.write(
                    lambda tx, what=look, at=now: _note(wing, tx, what, at),  # type: ignore[misc]
                    background=True,
                )
        wing.position = look.position


async def prepare(wing: Notices) -> None:
    """Before anybody is served: where to go on from, or, where nothing is configured, from nowhere.

    What comes from now on is told; what came while nothing was configured never is. In a store that was
    restored, what waited when its backup was made has been sent since, or is out of date: it ends.
    """
    core = wing.core
    now = core.now()
    saved, restored = await core.read(
        lambda c: (settings.value(c, SETTING), backup_status.restored_at_size(c))
    )
    if saved is not None and restored is not None and int(saved) <= restored:
        await core.write(lambda tx: _forget(tx, now))
        saved = None
    if not wing.targets:
        if saved is not None:
            await core.write(_rest)
        return
    wing.position = await core.read(_begin)
    if saved is None:
        at = str(wing.position)
        await core.write(lambda tx: settings.put(tx.connection, SETTING, at))


def _rest(tx: Transaction) -> None:
    """Nobody looks any more: neither a position nor a condition is kept that would grow stale."""
    settings.drop(tx.connection, SETTING)
    tx.connection.execute(delete(conditions))


def _forget(tx: Transaction, now: datetime) -> None:
    settings.drop(tx.connection, SETTING)
    tx.connection.execute(
        update(notices)
        .where(notices.c.delivered_at.is_(None))
        .values(delivered_at=stamp(now), outcome="moot", failure="the store was restored")
    )


def _begin(connection: Connection) -> int:
    """Where to go on; without a position, at the end."""
    saved = settings.value(connection, SETTING)
    size = ledger.size_of(connection)
    return min(int(saved), size) if saved is not None else size


def _look(wing: Notices, connection: Connection, start: int) -> _Look:
    stop = min(ledger.size_of(connection), start + PAGE)
    core = wing.core
    received: list[LedgerEntry] = []
    found: list[tuple[LedgerEntry, str, bool]] = []
    decided: list[str] = []
    unlocked: list[str] = []
    for data in ledger.entries(connection, start, stop):
        entry = _decode(data)
        if entry.kind == "document.received":
            if entry.facts.get("channel") in {"sftp", *MAIL} and not entry.facts.get("parent"):
                received.append(entry)
        elif _is_decision(entry):
            decided.append(entry.subject)
        elif entry.kind == "document.unlocked":
            unlocked.append(entry.subject)
        elif (topic := topic_of(entry)) is not None:
            found.append((entry, *topic))
    about = [each.subject for each in received] + [
        entry.subject for entry, topic, _ in found if topic in {"review", "quarantine"}
    ]
    rows = queries.documents_of(connection, about)
    senders = {rows[each.subject].client_id for each in received if each.subject in rows}
    mailable = set(_with_notice_address(core, connection, senders))
    relay = bool(core.config.relay.address)
    return _Look(
        stop,
        [
            (entry, row)
            for entry in received
            if relay
            and (row := rows.get(entry.subject)) is not None
            and (row.channel in MAIL or row.client_id in mailable)
        ],
        [
            Told(entry, topic, urgent, rows[entry.subject].client_id)
            if entry.subject in rows
            else Told(entry, topic, urgent)
            for entry, topic, urgent in found
        ],
        _settled(connection, decided) if relay else [],
        _settled(connection, unlocked, {DocumentState.REVIEW}) if relay else [],
    )


def _is_decision(entry: LedgerEntry) -> bool:
    """Whether a person decided on a document that was held."""
    if entry.kind == "document.filed":
        return bool(entry.facts.get("confirmed"))
    return entry.kind in {"document.released", "document.rejected"}


def _settled(
    connection: Connection,
    decided: list[str],
    open_states: Collection[DocumentState] = frozenset(
        {DocumentState.RECEIVED, DocumentState.REVIEW}
    ),
) -> list[Row[Any]]:
    """What these documents came in, where nothing in it is held any more."""
    roots: dict[str, Row[Any]] = {}
    for row in queries.documents_of(connection, decided).values():
        root: Row[Any] | None = row
        while root is not None and root.parent_id is not None:
            root = queries.document(connection, root.parent_id)
        if root is not None:
            roots[root.id] = root
    return [
        root
        for root in roots.values()
        if not any(each.state in open_states for each in receipts.tree(connection, root))
    ]


def _with_notice_address(core: Core, connection: Connection, ids: set[str]) -> list[str]:
    found = []
    for client_id in sorted(ids):
        client = queries.client(connection, client_id)
        try:
            if client.state == ClientState.OPEN and recipients.open_profile(core, client).notice_to:
                found.append(client_id)
        except VaultError:
            continue  # its keyring does not open: `check` and `status` say so
    return found


def _note(wing: Notices, tx: Transaction, look: _Look, now: datetime) -> None:
    """COMMIT POINT of a look: what it found, and how far it came."""
    core = wing.core
    for entry, row in look.sent:
        _receipt(core, tx, entry, row, now)
    for row in look.settled:
        _settle(core, tx, row, now)
    for row in look.unlocked:
        _settle(core, tx, row, now, pending=True)
    for told in look.told:
        for webhook in core.config.webhook:
            add(tx, webhook.target, told.topic, now, now, urgent=told.urgent, entry=told.entry.seq)
    if core.config.relay.address:
        for told in look.told:
            for account_id in concerned(tx.connection, told.topic, told.client_id, now):
                _digest(core, tx, account_id, told, now)
    settings.put(tx.connection, SETTING, str(look.position))


def add(tx: Transaction, target: str, kind: str, now: datetime, due: datetime, **more: Any) -> int:
    """Note something that is to be said from a moment on; returns its number."""
    values = {"urgent": False, "events": 1, "outcome": "", "failure": "", **more}
    done = tx.connection.execute(
        insert(notices),
        {
            "id": new_id(now),
            "target": target,
            "kind": kind,
            "created_at": stamp(now),
            "attempts": 0,
            "next_attempt_at": stamp(due),
            **values,
        },
    )
    key = done.inserted_primary_key
    assert key is not None
    return int(key[0])


def attach(tx: Transaction, number: int, ids: Sequence[str], *, told: bool = False) -> None:
    """Let a receipt speak of these documents, too."""
    if ids:
        tx.connection.execute(
            insert(notice_documents),
            [{"number": number, "document_id": each, "told": told} for each in ids],
        )


def _settle(
    core: Core, tx: Transaction, row: Row[Any], now: datetime, *, pending: bool = False
) -> None:
    """Who was told that something is held hears how it ended, once all of it was decided.

    Args:
        pending: a part of it may still be inspected, and is waited for.
    """
    receipt = (
        select(notices.c.number)
        .join(notice_documents, notice_documents.c.number == notices.c.number)
        .where(notice_documents.c.document_id == row.id)
        .limit(1)
    )
    told = tx.connection.execute(receipt.where(notices.c.outcome == "sent")).scalar()
    waits = tx.connection.execute(receipt.where(notices.c.delivered_at.is_(None))).scalar()
    if told is None or waits is not None:
        return  # whoever was told nothing is told nothing; what waits says how it stands then
    number = add(
        tx,
        RELAY,
        RECEIPT,
        now,
        now + timedelta(minutes=core.config.relay.digest_minutes),
        client_id=row.client_id,
        message_id=row.id if row.channel in MAIL else None,
    )
    attach(tx, number, [row.id], told=pending)


def _receipt(core: Core, tx: Transaction, entry: LedgerEntry, row: Row[Any], now: datetime) -> None:
    """Of a mail a receipt of its own; what comes by SFTP goes to the one that gathers."""
    number = None
    if row.channel == "sftp":
        number = tx.connection.execute(
            select(notices.c.number).where(
                notices.c.kind == RECEIPT,
                notices.c.client_id == row.client_id,
                notices.c.message_id.is_(None),
                notices.c.delivered_at.is_(None),
                notices.c.entry.is_not(None),  # it gathers; what follows up on one does not
                notices.c.attempts == 0,
                notices.c.next_attempt_at > stamp(now),  # it is not on its way
            )
        ).scalar()
    if number is None:
        gather = timedelta(minutes=core.config.relay.digest_minutes)
        number = add(
            tx,
            RELAY,
            RECEIPT,
            now,
            now if row.channel in MAIL else now + gather,
            client_id=row.client_id,
            message_id=row.id if row.channel in MAIL else None,
            entry=entry.seq,
        )
    attach(tx, number, [row.id])


def concerned(
    connection: Connection, topic: str, client_id: str | None, now: datetime
) -> list[str]:
    """The accounts with an address that a topic concerns, by their role; none that may not log in any
    more."""

    def of(*roles: str) -> Any:
        return (
            select(accounts.c.id)
            .where(
                accounts.c.state == AccountState.ACTIVE,
                accounts.c.email.is_not(None),
                or_(accounts.c.expires_at.is_(None), accounts.c.expires_at > stamp(now)),
                accounts.c.role.in_(roles),
            )
            .order_by(accounts.c.id)
        )

    if topic == "review":
        seen = of("accountant").where(
            accounts.c.id.in_(select(grants.c.account_id).where(grants.c.client_id == client_id))
        )
        return list(connection.execute(seen).scalars()) or list(
            connection.execute(of("officer")).scalars()
        )
    return list(connection.execute(of(*TOPICS[topic].roles)).scalars())


def _digest(core: Core, tx: Transaction, account_id: str, told: Told, now: datetime) -> None:
    """Put an entry to the notice that gathers for this person and topic, or begin one."""
    mine = (notices.c.account_id == account_id, notices.c.kind == told.topic)
    waiting = tx.connection.execute(
        select(notices).where(*mine, notices.c.delivered_at.is_(None))
    ).first()
    last = tx.connection.execute(
        select(func.max(notices.c.delivered_at)).where(
            *mine, notices.c.outcome == "sent", *([notices.c.urgent] if told.urgent else [])
        )
    ).scalar()
    pause = URGENT if told.urgent else DIGEST
    gather = timedelta(0) if told.urgent else timedelta(minutes=core.config.relay.digest_minutes)
    due = now + gather
    if last is not None:
        due = max(due, datetime.fromisoformat(last) + pause)
    if waiting is None:
        add(tx, RELAY, told.topic, now, due, account_id=account_id, urgent=told.urgent)
        return
    values: dict[str, Any] = {"events": waiting.events + 1}
    if told.urgent and not waiting.urgent:
        values["urgent"] = True
        if not waiting.attempts:
            values["next_attempt_at"] = min(waiting.next_attempt_at, stamp(due))
    tx.connection.execute(update(notices).where(notices.c.number == waiting.number).values(values))
