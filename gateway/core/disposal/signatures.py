"""The signatures that a certificate lists, as stored: approvals, witnesses, statements on media.

Promises: each with its statement, its key, and how that key was enrolled when it signed; the same each time
it is asked for, as a follow-up repeats them.

Leaves out: taking them (`proposal`, `admin.attestations`), and the rest of a certificate (`certificates`).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Row, select

from vault.catalogue.schema import approvals, sanitisations
from vault.certificate.enrolment import Enrolment
from vault.certificate.model import Approval, Sanitisation, Witness
from vault.crypto import sshsig

WITNESSED: Final = "witness"  # in `approvals.decision`
_ACCOUNT: Final = "account: "  # the line of a statement (`vault.certificate.statements`)


class Medium(msgspec.Struct, forbid_unknown_fields=True):
    """What a person states about a sanitised medium (`sanitisations.facts`)."""

    medium: str
    serial: str
    method: str
    performed_on: date
    place: str


class Signed(NamedTuple):
    """What people have signed on a batch."""

    approvals: tuple[Approval, ...]
    witnesses: tuple[Witness, ...]
    sanitisations: tuple[Sanitisation, ...]


def signed(connection: Connection, batch_id: str) -> Signed:
    """Everything that people have signed on a batch so far."""
    return Signed(
        _approvals(connection, batch_id),
        _witnesses(connection, batch_id),
        _sanitisations(connection, batch_id),
    )


def _approvals(connection: Connection, batch_id: str) -> tuple[Approval, ...]:
    """Those who approved a batch."""
    return tuple(
        Approval(
            account=_signed_as(row.statement),
            role=row.role,
            decision=row.decision,
            signed_at=datetime.fromisoformat(row.signed_at),
            fingerprint=sshsig.fingerprint(bytes(row.key)),
            statement=bytes(row.statement).decode(),
            signature=row.signature,
            enrolment=_enrolment(row.enrolment),
        )
        for row in _decided(connection, batch_id, "approve")
    )


def _witnesses(connection: Connection, batch_id: str) -> tuple[Witness, ...]:
    """Those who signed that they watched a destruction."""
    return tuple(
        Witness(
            account=_signed_as(row.statement),
            role=row.role,
            signed_at=datetime.fromisoformat(row.signed_at),
            fingerprint=sshsig.fingerprint(bytes(row.key)),
            statement=bytes(row.statement).decode(),
            signature=row.signature,
            enrolment=_enrolment(row.enrolment),
        )
        for row in _decided(connection, batch_id, WITNESSED)
    )


def _sanitisations(connection: Connection, batch_id: str) -> tuple[Sanitisation, ...]:
    """The media that a person has reported sanitised for a batch."""
    rows = connection.execute(
        select(sanitisations)
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
                account=_signed_as(row.statement),
                fingerprint=sshsig.fingerprint(bytes(row.key)),
                statement=bytes(row.statement).decode(),
                signature=row.signature,
                enrolment=_enrolment(row.enrolment),
            )
        )
    return tuple(found)


def signers_named(connection: Connection, name: str) -> set[str]:
    """The ids of the accounts that signed something on a batch under this name."""
    return {
        row.account_id
        for table in (approvals, sanitisations)
        for row in connection.execute(select(table.c.account_id, table.c.statement))
        if _signed_as(row.statement) == name
    }


def _signed_as(statement: bytes) -> str:
    """The name that someone signed under: the statement's, as an account can have been renamed since."""
    lines = bytes(statement).decode().split("\n")
    return next(line for line in lines if line.startswith(_ACCOUNT)).removeprefix(_ACCOUNT)


def _decided(connection: Connection, batch_id: str, decision: str) -> list[Row[Any]]:
    return list(
        connection.execute(
            select(approvals)
            .where(approvals.c.batch_id == batch_id, approvals.c.decision == decision)
            .order_by(approvals.c.signed_at, approvals.c.account_id)
        )
    )


def _enrolment(text: str | None) -> Enrolment | UnsetType:
    """An enrolment that was kept; none of a signature from before, or where it is not known."""
    return UNSET if text is None else msgspec.json.decode(text, type=Enrolment)
