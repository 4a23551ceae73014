"""What is not as it should be: looked at again and again, and entered in the ledger as it begins and ends.

Promises: a backup that is late, copies that are behind, a key or certificate near its end, and a check that
found something each have one entry when they begin and one when they end; between the two they are in the
table `conditions`. What may pass by itself has lasted for `LASTING` before it counts.

Leaves out: whom it is told (`follow`), and mending it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from cryptography import x509
from sqlalchemy import Connection, delete, insert, select

from gateway.core.core import ACTOR_CORE, Core
from gateway.core.keys import rotation
from gateway.core.notices.notices import Notices
from gateway.core.outbound import keyring_copies, ledger_publication
from gateway.core.outbound.backup import status as backup_status
from vault.catalogue import settings
from vault.catalogue.schema import conditions
from vault.catalogue.store import Transaction
from vault.check import store as vault_check
from vault.moments import stamp

LASTING: Final = timedelta(minutes=10)
NEAR: Final = timedelta(days=30)  # before the end of a certificate or a key
LATE: Final = timedelta(days=7)  # after the day on which the job should have replaced a key
SETTING_CHECK: Final = "check.last"
SHOWN: Final = 20

NO_COPY: Final = "every copy of the keyrings"
URGENT: Final = frozenset({("check", "store"), ("copies", NO_COPY)})

Condition = tuple[str, str]  # topic and subject


class LastCheck(msgspec.Struct, frozen=True):
    """What the last check of the store found: when, how much, and of what (the first ones)."""

    at: str
    findings: int
    subjects: list[str]

    @classmethod
    def of(cls, now: datetime, findings: Sequence[vault_check.Finding]) -> LastCheck:
        return cls(stamp(now), len(findings), [each.subject for each in findings[:SHOWN]])


def last_check(connection: Connection) -> LastCheck | None:
    """The last check; None: there was none yet."""
    text = settings.value(connection, SETTING_CHECK)
    return None if text is None else msgspec.json.decode(text, type=LastCheck)


def standing(connection: Connection, topic: str = "") -> list[dict[str, Any]]:
    """The conditions that stand, the oldest first; of one topic, if it is given."""
    query = select(conditions).order_by(conditions.c.since, conditions.c.subject)
    if topic:
        query = query.where(conditions.c.topic == topic)
    return [
        {"topic": row.topic, "subject": row.subject, "since": row.since}
        for row in connection.execute(query)
    ]


async def watch(wing: Notices) -> None:
    """Look at everything, and enter what has begun or ended since the last time."""
    core = wing.core
    now = core.now()
    found = await asyncio.to_thread(_found, core, now)
    known = {(each["topic"], each["subject"]) for each in await core.read(standing)}
    wing.seen = {each: wing.seen.get(each, now) for each in found}
    begun = [
        each
        for each in sorted(found)
        if each not in known and (each[0] == "check" or now - wing.seen[each] >= LASTING)
    ]
    ended = sorted(known - found)
    if not begun and not ended:
        return

    def work(tx: Transaction) -> None:
        for topic, subject in begun:
            tx.connection.execute(
                insert(conditions), {"topic": topic, "subject": subject, "since": stamp(now)}
            )
            core.record(
                tx,
                "condition.began",
                subject,
                ACTOR_CORE,
                now,
                topic=topic,
                urgent=(topic, subject) in URGENT,
            )
        for topic, subject in ended:
            tx.connection.execute(
                delete(conditions).where(
                    conditions.c.topic == topic, conditions.c.subject == subject
                )
            )
            core.record(tx, "condition.ended", subject, ACTOR_CORE, now, topic=topic)

    await core.write(work, background=True)


def _found(core: Core, now: datetime) -> set[Condition]:
    checked = core.store.catalogue.read(last_check)
    return {
        *_behind(core),
        *_near_their_end(core, now),
        *([("check", "store")] if checked is not None and checked.findings else []),
    }


def _behind(core: Core) -> Iterator[Condition]:
    for target in backup_status.status(core)["targets"]:
        if target["overdue"] or target["failure"] or target["amendments_behind"]:
            yield "backup", target["name"]
    behind = {copy["target"] for copy in keyring_copies.overdue(core) if copy["failure"]}
    for name in sorted(behind):
        yield "copies", name
    registered = {copy.name for copy in core.config.keyring.copies}
    if registered and registered <= behind:
        yield "copies", NO_COPY  # if this disk dies now, nothing opens any more
    for place in ledger_publication.status(core):
        if place["behind_since"] or place["alarmed_at"]:
            yield "copies", f"ledger at {place['name']}"


def _near_their_end(core: Core, now: datetime) -> Iterator[Condition]:
    certificate = certificate_end(core)
    if certificate is not None and certificate - now <= NEAR:
        yield "expiry", "tls certificate"
    ages = core.store.catalogue.read(rotation.ages)
    keys = core.config.keys
    # The root key is replaced by a person; the others by a job, which then has failed.
    for kind, days, margin in (
        ("root", keys.max_root_age_days, -NEAR),
        ("ledger", keys.max_ledger_age_days, LATE),
        ("groups", keys.max_group_age_days, LATE),
    ):
        since = ages[kind]
        if days and since and now >= datetime.fromisoformat(since) + timedelta(days=days) + margin:
            yield "expiry", f"{kind} key" if kind != "groups" else "group keys"


def certificate_end(core: Core) -> datetime | None:
    """When the mail door's certificate ends; None: there is none, or it is not for the core to read."""
    if not core.config.smtp.tls_certificate:
        return None
    try:
        data = core.config.resolve(core.config.smtp.tls_certificate).read_bytes()
        return x509.load_pem_x509_certificate(data).not_valid_after_utc
    except (OSError, ValueError):
        return None  # `doctor`, which runs as its owner, says so
