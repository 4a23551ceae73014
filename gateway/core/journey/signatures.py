"""The signatures that a certificate lists, as they were kept: approvals, witnesses, words on media.

Promises: each with its statement, its key, and how that key was enrolled when it signed; the same each time
it is asked for, as a follow-up repeats them.

Leaves out: taking them (`dispose`, `admin.attestations`), and the rest of a certificate (`certify`).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, select

from gateway.core import enrolments
from vault import sshsig
from vault.catalogue.schema import accounts, approvals, sanitisations
from vault.certificate import Approval, Sanitisation, Witness

WITNESSED: Final = "witness"  # in `approvals.decision`


class Medium(msgspec.Struct, forbid_unknown_fields=True):
    """What a person states about a sanitised medium (`sanitisations.facts`)."""

    medium: str
    serial: str
    method: str
    performed_on: date
    place: str


def approvals_of(connection: Connection, batch_id: str) -> tuple[Approval, ...]:
    """Those who approved a batch."""
    return tuple(
        Approval(
            account=row.name,
            role=row.role,
            decision=row.decision,
            signed_at=datetime.fromisoformat(row.signed_at),
            fingerprint=sshsig.fingerprint(bytes(row.key)),
            statement=bytes(row.statement).decode(),
            signature=row.signature,
            enrolment=enrolments.read(row.enrolment),
        )
        for row in _decided(connection, batch_id, "approve")
    )


def witnesses_of(connection: Connection, batch_id: str) -> tuple[Witness, ...]:
    """Those who signed that they watched a destruction."""
    return tuple(
        Witness(
            account=row.name,
            role=row.role,
            signed_at=datetime.fromisoformat(row.signed_at),
            fingerprint=sshsig.fingerprint(bytes(row.key)),
            statement=bytes(row.statement).decode(),
            signature=row.signature,
            enrolment=enrolments.read(row.enrolment),
        )
        for row in _decided(connection, batch_id, WITNESSED)
    )


def sanitisations_of(connection: Connection, batch_id: str) -> tuple[Sanitisation, ...]:
    """The media that a person has reported sanitised for a batch."""
    rows = connection.execute(
        select(sanitisations, accounts.c.name)
        .join(accounts, accounts.c.id == sanitisations.c.account_id)
        .where(sanitisations.c.batch_id == batch_id)
        .order_by(sanitisations.c.recorded_at, sanitisations.c.id)
    ).all()
    found = []
    for row in rows:
        facts = msgspec.json.decode(row.facts, type=Medium)
        found.append(
            Sanitisation(
                medium=facts.medium,
                serial=facts.serial,
                method=facts.method,
                performed_on=facts.performed_on,
                place=facts.place,
                recorded_at=datetime.fromisoformat(row.recorded_at),
                account=row.name,
                fingerprint=sshsig.fingerprint(bytes(row.key)),
                statement=bytes(row.statement).decode(),
                signature=row.signature,
                enrolment=enrolments.read(row.enrolment),
            )
        )
    return tuple(found)


def _decided(connection: Connection, batch_id: str, decision: str) -> list[Row[Any]]:
    return list(
        connection.execute(
            select(approvals, accounts.c.name)
            .join(accounts, accounts.c.id == approvals.c.account_id)
            .where(approvals.c.batch_id == batch_id, approvals.c.decision == decision)
            .order_by(approvals.c.signed_at, accounts.c.name)
        )
    )
