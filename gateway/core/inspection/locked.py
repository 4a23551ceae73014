"""Locked documents and the passwords for them: deposited by a client, or given once by a person.

Promises:
- A password is handed to a worker only for a document of the client that deposited it, and only once a
  verdict has said that the document is locked: its second turn. No more are handed over than
  `inspect.max_passwords`, those first that opened something last.
- A password is never accepted by mail, never shown, and in no log, no ledger and no error. One that is given
  without being deposited lives in memory until the document's next verdict.
- The ledger says when one was deposited and removed, and which document it opened.

Leaves out: opening files (`gateway.inspect.unlock`), sealing (`vault.keys.deposited`), who may (`admin`).

Rules: a row in RECEIVED with the reason `LOCKED` waits for its second turn, and there is no third. A crash
in between forgets a password that was given once, and nothing else: the document is tried with what is
deposited.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, exists, func, insert, select, update

from gateway.core.core import ACTOR_CORE, Core
from gateway.core.inspection.judgement import Judgement
from gateway.core.reasons import LOCKED as WHY_LOCKED
from gateway.core.reasons import UNJUDGED
from gateway.errors import Refusal
from gateway.wire.messages import Lock, Verdict
from vault.catalogue.lifecycle import Event, change_state
from vault.catalogue.schema import deposited_passwords, documents
from vault.catalogue.states import DocumentState
from vault.catalogue.store import Transaction
from vault.errors import IntegrityError, KeyUnavailable
from vault.ids import new_id
from vault.keys import deposited
from vault.keys.deposited import Deposited
from vault.moments import stamp

LOCKED: Final = "locked"
"""The reason of a document that waits for its second turn."""
OPENABLE: Final[frozenset[Lock]] = frozenset({"pdf", "office", "zip", "7z"})
MOST: Final = 100  # passwords of one client
LONGEST: Final = 200  # characters of a password, and of a label
WAITING: Final = tuple(f"{UNJUDGED}{WHY_LOCKED}:{lock}" for lock in sorted(OPENABLE))
"""The reasons of documents in review that a password may open."""


# ── what is deposited ────────────────────────────────────────────────────────────────────────────


def add(
    core: Core,
    tx: Transaction,
    client_id: str,
    label: str,
    password: str,
    actor: str,
    now: datetime,
) -> str:
    """Deposit a password; its id (raises Refusal)."""
    check_password(password)
    if len(label) > LONGEST:
        raise Refusal("invalid", f"label: expected at most {LONGEST} characters, found more")
    held = tx.connection.execute(
        select(func.count()).where(deposited_passwords.c.client_id == client_id)
    ).scalar_one()
    if held >= MOST:
        raise Refusal("full", f"passwords: expected at most {MOST} of one client; remove some")
    record = new_id(now)
    tx.connection.execute(
        insert(deposited_passwords),
        {
            "id": record,
            "client_id": client_id,
            "sealed": deposited.seal(
                core.store.custody, client_id, record, Deposited(label, password)
            ),
            "added_at": stamp(now),
            "added_by": actor,
            "used": 0,
        },
    )
    core.record(tx, "password.deposited", client_id, actor, now, password=record)
    return record


def remove(
    core: Core, tx: Transaction, client_id: str, record: str, actor: str, now: datetime
) -> None:
    """Forget a deposited password (raises Refusal)."""
    gone = tx.connection.execute(
        delete(deposited_passwords).where(
            deposited_passwords.c.id == record, deposited_passwords.c.client_id == client_id
        )
    )
    if not gone.rowcount:
        raise Refusal("not_found", f"password {record}: expected one of this client, found none")
    core.record(tx, "password.removed", client_id, actor, now, password=record)


def listed(core: Core, connection: Connection, client_id: str) -> list[dict[str, Any]]:
    """The passwords of a client by label, without themselves."""
    return [
        {
            "id": row.id,
            "label": _label(core, row),
            "added_at": row.added_at,
            "added_by": row.added_by,
            "used": row.used,
            "used_at": row.used_at,
        }
        for row in connection.execute(
            select(deposited_passwords)
            .where(deposited_passwords.c.client_id == client_id)
            .order_by(deposited_passwords.c.id)
        )
    ]


def _label(core: Core, row: Row[Any]) -> str:
    try:
        return deposited.open_deposited(core.store.custody, row).label
    except (IntegrityError, KeyUnavailable):
        return ""  # `strongroom check` says what is wrong with it


def check_password(password: str) -> None:
    """Refuse what no program takes for a password (raises Refusal)."""
    if not password or len(password) > LONGEST or any(c in password for c in "\0\r\n"):
        raise Refusal("invalid", f"password: expected one line of 1 to {LONGEST} characters")


# ── trying them ──────────────────────────────────────────────────────────────────────────────────


class Locked:
    """What is to be tried on documents in inspection. The queue has one."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._given: dict[str, str] = {}
        self._handed: dict[str, list[str]] = {}  # ids of what a worker has, "" for one given

    def give(self, document_id: str, password: str) -> None:
        """Take a password for one document, for its next verdict only (raises Refusal: it has one)."""
        if document_id in self._given:
            raise Refusal(
                "invalid", f"document {document_id}: expected no password on trial, found one"
            )
        self._given[document_id] = password

    def take_back(self, document_id: str) -> None:
        """What was given is not to be tried: the document was not put back before the inspectors."""
        self._given.pop(document_id, None)

    def forget(self, document_id: str) -> None:
        """A document was judged: what was given for it goes."""
        self._given.pop(document_id, None)
        self._handed.pop(document_id, None)

    def to_try(self, connection: Connection, row: Row[Any]) -> list[str]:
        """The passwords for a document's second turn, in the order in which they are tried."""
        given = self._given.get(row.id)
        found: list[tuple[str, str]] = []
        for each in connection.execute(
            select(deposited_passwords)
            .where(deposited_passwords.c.client_id == row.client_id)
            .order_by(
                deposited_passwords.c.used_at.desc().nulls_last(), deposited_passwords.c.id.desc()
            )
            .limit(self._core.config.inspect.max_passwords)
        ):
            try:
                opened = deposited.open_deposited(self._core.store.custody, each)
            except (IntegrityError, KeyUnavailable):
                continue  # `strongroom check` says what is wrong with it
            found.append((each.id, opened.password))
        if given is not None:
            # First of all; as the deposited one that it may be.
            known = next((record for record, password in found if password == given), "")
            others = [each for each in found if each[1] != given]
            found = [(known, given), *others]
        found = found[: max(1, self._core.config.inspect.max_passwords)]
        self._handed[row.id] = [record for record, _ in found]
        return [password for _, password in found]

    async def keep_for_second_turn(
        self, row: Row[Any], verdict: Verdict, judgement: Judgement
    ) -> bool:
        """Have a document inspected again with passwords, if its lock is all that is wrong with it.

        Returns:
            False: there is nothing to try, or it was tried; the verdict counts.
        """
        if row.reason == LOCKED or verdict.lock not in OPENABLE:
            return False
        if judgement.reason != f"{UNJUDGED}{WHY_LOCKED}:{verdict.lock}":
            return False

        def any_deposited(connection: Connection) -> bool:
            return self._core.config.inspect.max_passwords > 0 and bool(
                connection.execute(
                    select(exists().where(deposited_passwords.c.client_id == row.client_id))
                ).scalar()
            )

        if row.id not in self._given and not await self._core.read(any_deposited):
            return False
        again = (
            update(documents)
            .where(documents.c.id == row.id, documents.c.state == DocumentState.RECEIVED)
            .values(reason=LOCKED, next_attempt_at=stamp(self._core.now()))
        )
        await self._core.write(lambda tx: tx.connection.execute(again), background=True)
        return True

    def note_use(self, tx: Transaction, row: Row[Any], verdict: Verdict, now: datetime) -> None:
        """Record which password opened a document."""
        handed = self._handed.get(row.id, [])
        if not 0 <= verdict.opened_with < len(handed):
            return
        record = handed[verdict.opened_with]
        if record:
            tx.connection.execute(
                update(deposited_passwords)
                .where(deposited_passwords.c.id == record)
                .values(used=deposited_passwords.c.used + 1, used_at=stamp(now))
            )
        self._core.record(
            tx, "document.unlocked", row.id, ACTOR_CORE, now, password=record or "given"
        )


def try_again(core: Core, tx: Transaction, row: Row[Any], actor: str, now: datetime) -> None:
    """Put a locked document back before the inspectors (raises Refusal, IllegalTransition)."""
    if row.state != DocumentState.REVIEW or row.reason not in WAITING:
        raise Refusal(
            "invalid",
            f"document {row.id}: expected a locked PDF, Office file, zip or 7z in review,"
            f" found it {row.state}{f' ({row.reason})' if row.reason else ''}",
        )
    change_state(
        tx.connection,
        [row.id],
        Event.UNLOCK,
        stamp(now),
        reason=LOCKED,
        attempts=0,
        next_attempt_at=stamp(now),
    )
    core.record(tx, "document.unlocking", row.id, actor, now)
