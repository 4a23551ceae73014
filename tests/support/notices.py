"""A house whose core says things by itself, carried by the courier's own code to a relay or a webhook."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select

from gateway.config import RelaySection, WebhookSection
from gateway.core.intake import receive
from gateway.core.intake.upload import Mail
from gateway.core.notices import conditions, follow
from gateway.core.notices.kind import Messages
from gateway.core.outbound import outbox
from gateway.courier import transfers
from gateway.wire.messages import Classification, Scan, Verdict
from tests.support.house import House
from tests.support.mail_sink import MailSink
from vault.catalogue import queries
from vault.catalogue.schema import notices
from vault.catalogue.states import Proof
from vault.crypto.sealed import SealedReader, SealedWriter, document_context

LETTER = Classification("correspondence", 0.95, None)
FACTS = {
    "automatic": "no",
    "from": "Owner <owner@acme.example>",
    "message_id": "<one@acme.example>",
    "subject": "invoices 12,345.67",
}


async def told_house(
    folder: Any, sink: MailSink | None, *webhooks: WebhookSection, **more: Any
) -> House:
    """A house with a relay, or webhooks; nothing of its founding is told."""
    folder.mkdir(exist_ok=True)
    house = House(folder)
    await house.settle()
    relay = RelaySection(**sink.section(**more)) if sink is not None else RelaySection()
    house.config = msgspec.structs.replace(house.config, relay=relay, webhook=list(webhooks))
    house.close()
    house.open()
    await follow.follow(house.wings.notices)
    return house


async def tick(house: House, minutes: float = 0) -> None:
    """What the jobs do at one moment: follow the ledger, look at conditions, deliver what is due."""
    house.clock.advance(minutes=minutes)
    wing = house.wings.notices
    await conditions.watch(wing)
    await follow.follow(wing)

    async def work() -> None:
        for task in await outbox.due(house.wings.outbound, [Messages(wing)]):
            await task

    await transfers.beside(house.wings.outbound.transfers, house.config, work())


async def mail(
    house: House,
    proof: Proof = Proof.DKIM,
    sender: str = "owner@acme.example",
    client: str = "acme",
    data: bytes = b"From: x\r\n\r\ntext\r\n",
) -> str:
    """A message that was received; returns its id."""
    known = house.core.store.catalogue.read(lambda c: queries.client_named(c, client))
    upload = receive.begin(
        house.wings.intake,
        house.clock(),
        client_id=known.id,
        channel="smtp",
        name="message.eml",
        sender=sender,
        mail=Mail("<one@acme.example>", proof),
    )
    return await house.finish(upload, data)


async def judge_with_parts(
    house: House, *parts: str, ignored: Sequence[str] = (), **facts: str
) -> list[str]:
    """Inspect the next message, in which files of these names were found; returns their ids, not judged yet."""
    found = await house.queue._next()
    assert found is not None
    work, descriptor, claimed, fixity = found.work, found.descriptor, found.claimed, found.fixity
    context = document_context(work.document_id)
    with SealedReader(descriptor, work.key, context, close_fd=True) as reader:
        data = reader.readall()
    for name in parts:
        part = await house.queue.begin_part(claimed, name)
        writer = SealedWriter(part.descriptor, part.key, document_context(part.document_id))
        writer.write(name.encode())
        digest = hashlib.sha256(name.encode()).digest()
        await receive.stage(house.core, part, writer.finish(), digest)
        claimed.parts[part.document_id] = (part, len(name.encode()), digest)
    verdict = Verdict(
        work.document_id,
        len(data),
        hashlib.sha256(data).digest(),
        media_type="message/rfc822",
        scans=[Scan("yara", "clean")],
        parts=list(claimed.parts),
        classification=LETTER,
        facts=FACTS | facts,
        ignored=list(ignored),
    )
    made = list(claimed.parts)
    await house.queue.verdict(claimed, verdict, fixity)
    return made


def rows(house: House) -> list[Any]:
    """What is noted, the oldest first."""
    return house.core.store.catalogue.read(
        lambda c: c.execute(select(notices).order_by(notices.c.number)).all()
    )


def outcomes(house: House) -> list[str]:
    return [row.outcome or "waiting" for row in rows(house)]
