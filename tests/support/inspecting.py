"""An inspector for a house: real inspection of what is next, in this process."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os

import msgspec

from gateway.core.sessions.admin import AdminSession
from gateway.core.sessions.inspector import InspectSession
from gateway.inspect import inspection
from gateway.inspect.document import Document, Limits
from gateway.inspect.formats import archive_stream
from gateway.inspect.scan import yara
from gateway.wire.messages import AdminCall, BeginPart, Claim, Commit, Verdict, Work
from tests.support.parts import Parts
from vault.crypto.sealed import SealedReader, SealedWriter, document_context


@functools.cache
def _rules():
    archive_stream.preload()
    return yara.RuleSet.load()


async def inspect(house) -> Verdict:
    """Claim the next document and inspect it as a worker does."""
    session = InspectSession(house.wings.intake, house.queue)
    work, descriptor = await session.handle(Claim())
    assert isinstance(work, Work), "nothing to inspect"
    parts = Parts()
    with SealedReader(
        descriptor, work.key, document_context(work.document_id), close_fd=True
    ) as reader:
        verdict = inspection.inspect(
            Document(work.document_id, reader, work.size, work.name, work.channel, work.depth),
            Limits.of(house.config.inspect),
            parts,
            rules=_rules(),
            clamd=None,
            passwords=work.passwords,
        )
    ids = []
    for (name, content), raw in zip(parts.taken, parts.name_bytes, strict=True):
        begun, into = await session.handle(BeginPart(name, raw))
        writer = SealedWriter(into, begun.key, document_context(begun.document_id))
        writer.write(content)
        size = writer.finish()
        os.close(into)
        digest = hashlib.sha256(content).digest()
        await session.handle(Commit(begun.document_id, size, digest))
        ids.append(begun.document_id)
    verdict = msgspec.structs.replace(verdict, parts=ids)
    await session.handle(verdict)
    await session.close()
    return verdict


async def act_while_inspecting(house, act_name, turns=1, **arguments):
    """Perform an act from the console while an inspector works: its answer."""
    session = AdminSession(house.wings, house.queue)
    session.attach((1, 1000, 1000))
    asked = asyncio.create_task(session.handle(AdminCall(act_name, arguments)))
    for _ in range(turns):
        await inspect(house)
    answer, _ = await asked
    return answer.data
