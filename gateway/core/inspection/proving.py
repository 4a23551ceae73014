"""Finding out what proves a message's sender: in its text, by an inspector, and in what domains publish.

Promises: a message whose proof is still open is opened by nobody: it is RECEIVED, and no inspector is handed
it as work. Once it is known what proves it, or that nothing does, that is recorded in one transaction: then
it is inspected like any other, or it is quarantined with the reason. What could not be found out is tried
again for as long as it takes, with growing delays; it is neither lost nor taken unjudged. Of one client one
message that waits is looked at at a time, and one that was not looked at yet goes before those that are tried
again: domains that do not answer keep no other client waiting. A message that ends its reader again and again
proves nothing.

Leaves out: which proofs a client takes (`intake.senders`), what proves what (`intake.alignment`), reading a
message (`gateway.inspect.prove`), asking the network (`questions`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Row, or_, select, update

from gateway.core import backoff
from gateway.core.core import ACTOR_CORE, log
from gateway.core.filing import retention as filing_retention
from gateway.core.inspection.claims import InspectionQueue
from gateway.core.intake import alignment, recipients, senders
from gateway.core.intake.alignment import Alignment, Evidence, Judged
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Upload
from gateway.core.questions import Later
from gateway.core.reading import NotRead
from gateway.core.reasons import SENDER_UNPROVEN
from gateway.core.waiting import wait_for_work
from gateway.errors import Refusal
from gateway.wire.messages import MailReport, QuestionAnswer
from gateway.wire.messages import Proving as Means
from vault.catalogue import queries
from vault.catalogue.lifecycle import Event, change_state
from vault.catalogue.schema import clients, documents, messages
from vault.catalogue.states import PROVEN, UNDECIDED, DocumentState, Proof
from vault.catalogue.store import Transaction
from vault.errors import StorageFailed, VaultError
from vault.moments import stamp

AT_ONCE: Final = 4  # messages whose proofs are looked for, of those that wait
FIRST_DELAY: Final = timedelta(seconds=30)
LONGEST_DELAY: Final = timedelta(hours=1)
LOOK: Final = 20.0  # seconds between two looks where nothing comes
MOST_READERS: Final = 5  # that may end over a message, one after the other
_UNREADABLE: Final = frozenset({"too_large", "damaged"})


@dataclass(frozen=True)
class _Message:
    """A message as the judge needs it. `descriptor` is of its sealed file."""

    document_id: str
    client_id: str
    sender: str
    peer: str
    helo: str
    key: bytes = field(repr=False)
    size: int
    sha256: bytes
    descriptor: int
    upstream: str = ""  # whose judgement is believed besides: the host of its mailbox
    anyone: bool = False  # its mailbox takes mail from strangers


class Proving:
    """The judge of senders. The core has one."""

    def __init__(
        self,
        intake: Intake,
        queue: InspectionQueue,
        chance: Callable[[], float] = backoff.chance,
    ) -> None:
        """`chance`: see `backoff.delay`."""
        self._intake = intake
        self._core = intake.core
        self._queue = queue
        self._chance = chance
        self._networks = [ipaddress.ip_network(each) for each in self._core.config.senders.upstream]
        self._busy: dict[str, str] = {}  # document id → client id
        self._ended: dict[str, int] = {}  # document id → readers that ended over it in a row

    async def judge_upload(self, upload: Upload, size: int, sha256: bytes) -> Judged | None:
        """What proves a message that is whole and not recorded; None: it takes longer than senders wait."""
        mail = upload.mail
        assert mail is not None
        message = _Message(
            upload.document_id, upload.client_id, upload.sender, mail.peer, mail.helo,
            upload.key, size, sha256, upload.descriptor,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._core.config.senders.patience):
                return await self._judge(message)
        except (TimeoutError, Later, NotRead):
            return None

    async def run(self) -> None:
        """Judge what waits, for as long as the core runs."""
        tasks: set[asyncio.Task[None]] = set()
        while True:
            try:
                row = await wait_for_work(self._intake.unproven, self._next, LOOK)
            except VaultError as error:
                # The catalogue is away: so is everything else, which says so.
                log.error("nothing judged", error=str(error))
                await asyncio.sleep(1.0)
                continue
            except Exception as error:  # noqa: BLE001  a judge that ended would let all mail wait
                log.error("nothing judged", error=type(error).__name__)
                await asyncio.sleep(1.0)
                continue
            if row is not None:
                task = asyncio.create_task(self._attend(row))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                self._intake.unproven.set()  # there may be more

    async def _next(self) -> Any:
        """A message that is due, marked as in hand; None: there is none, or enough are in hand."""
        if len(self._busy) >= AT_ONCE:
            return None
        now = self._core.now()
        wanted = (
            select(messages.c.document_id, messages.c.client_id, messages.c.attempts)
            .where(
                or_(
                    messages.c.due_at <= stamp(now),
                    # No delay is that long: the clock was ahead then.
                    messages.c.due_at > stamp(now + 2 * LONGEST_DELAY),
                ),
                messages.c.client_id.not_in(set(self._busy.values())),
            )
            .order_by(messages.c.attempts, messages.c.due_at)
            .limit(1)
        )
        row: Any = await self._core.read(lambda connection: connection.execute(wanted).first())
        if row is not None:
            self._busy[row.document_id] = row.client_id
        return row

    async def _attend(self, row: Row[Any]) -> None:
        """Judge one message that waits, and record it; whatever fails is tried again."""
        try:
            try:
                judged = await self._judge_stored(row.document_id)
            except NotRead as error:
                if self._count_reader(row.document_id) < MOST_READERS:
                    await self._put_off(row, str(error))
                    return
                judged = Judged(Proof.FAILED, "whatever reads the message ends over it")
            except Later as error:
                self._ended.pop(row.document_id, None)
                await self._put_off(row, str(error))
                return
            except StorageFailed:
                raise
            except (VaultError, Refusal) as error:
                log.error("sender not judged", document=row.document_id, error=str(error))
                await self._put_off(row, str(error))
                return
            except Exception as error:  # noqa: BLE001  it would be raised at once again, and by no other message
                log.error("sender not judged", document=row.document_id, error=type(error).__name__)
                await self._put_off(row, type(error).__name__)
                return
            self._ended.pop(row.document_id, None)
            if judged is not None:
                found = judged
                await self._core.write(lambda tx: self._record(tx, row.document_id, found))
                self._intake.arrived.set()
        except VaultError as error:
            log.error("sender's proof not recorded", document=row.document_id, error=str(error))
            await asyncio.sleep(1.0)
        finally:
            self._busy.pop(row.document_id, None)
            self._intake.unproven.set()

    def _count_reader(self, document_id: str) -> int:
        """Count one more reader that ended over a message; a restart forgets them."""
        self._ended[document_id] = self._ended.get(document_id, 0) + 1
        return self._ended[document_id]

    async def _judge_stored(self, document_id: str) -> Judged | None:
        """What proves a message that waits; None: it waits no more (raises Later, NotRead, VaultError)."""
        core = self._core
        row = await core.read(lambda connection: queries.document(connection, document_id))
        if row is None or row.state != DocumentState.RECEIVED:
            await core.write(lambda tx: _settle(tx, document_id))
            return None
        metadata = core.store.custody.open_metadata(row)
        descriptor = await asyncio.to_thread(core.store.blobs.open, document_id)
        facts = metadata.facts
        try:
            message = _Message(
                document_id, row.client_id, metadata.sender, facts.get("peer", ""),
                facts.get("helo", ""), core.store.custody.document_key(row), row.size,
                metadata.sha256, descriptor, facts.get("upstream", ""),
                self._takes_anyone(facts.get("mailbox", "")),
            )  # fmt: skip
            return await self._judge(message)
        finally:
            os.close(descriptor)

    async def _judge(self, message: _Message) -> Judged:
        """What proves a message (raises Later, NotRead, VaultError)."""
        core = self._core
        default = core.config.senders.proof
        row = await core.read(
            lambda c: c.execute(select(clients).where(clients.c.id == message.client_id)).one()
        )
        profile = recipients.open_profile(core, row)
        # 1. What its envelope's sender has to show; the client may have changed that since.
        taken = senders.taken_from(profile, message.sender, default)
        if taken is None and not message.anyone:
            return Judged(Proof.FAILED, "the sender is none of the client's any more")
        free = taken is None or "nothing" in taken
        if free and not message.anyone and not senders.asks(profile, default):
            return Judged(Proof.NONE, "")
        if taken is not None and not free and not taken & senders.PUBLISHED:
            return Judged(Proof.FAILED, f"nothing of {', '.join(sorted(taken))}")
        # 2. What it says of itself, and whom that takes asking.
        report = await self._look(message, None)
        if report.author_fault in _UNREADABLE:
            return Judged(Proof.FAILED, f"the message is {report.author_fault.replace('_', ' ')}")
        # 3. Whether its author is one of the client's: From is what people see.
        theirs = senders.taken_from(profile, report.author, default) if report.author else taken
        if taken is None or free:
            # Who has nothing to show writes in his own name; else he shows what that name has to.
            if not report.author:
                return Judged(Proof.FAILED, f"From: {report.author_fault or 'none'}")
            if theirs is None or "nothing" in theirs:
                return Judged(Proof.NONE, "")
            taken = theirs
        if theirs is None:
            return Judged(Proof.FAILED, "From is none of the client's addresses")
        wanted = (taken if "nothing" in theirs else theirs) & senders.PUBLISHED
        if not wanted:
            return Judged(Proof.FAILED, f"From takes nothing but {', '.join(sorted(theirs))}")
        # 4. What is published.
        upstream = bool(self._upstream_of(message))
        sealers = core.config.senders.arc_sealers
        aligned = Alignment(report.author.rpartition("@")[2], self._intake.questions.texts)
        names = await alignment.that_count(report, wanted, sealers, aligned)
        records, (spf, spf_later) = await asyncio.gather(
            self._records(names),
            self._spf(message, asked="spf" in wanted and not upstream),
        )
        if report.wanted:
            report = await self._look(message, records)
        evidence = Evidence(report, spf, spf_later, upstream, sealers)
        judged = await alignment.judge(evidence, wanted, aligned)
        if judged.later:
            raise Later(judged.said)
        return judged

    async def _look(self, message: _Message, records: dict[str, list[str]] | None) -> MailReport:
        upstream = self._upstream_of(message)
        report = await self._queue.look(
            message.document_id,
            message.key,
            message.size,
            message.descriptor,
            Means(records, upstream),
        )
        if report.author_fault in _UNREADABLE:
            return report
        if (report.size, report.sha256) != (message.size, message.sha256):
            raise NotRead(
                f"message {message.document_id}: expected the bytes received, found others"
            )
        return report

    async def _records(self, names: list[str]) -> dict[str, list[str]]:
        """What the DNS has under names; one that can't be had now is missing."""

        async def ask(name: str) -> tuple[str, list[str] | None]:
            try:
                return name, await self._intake.questions.texts(name)
            except Later:
                return name, None

        found = await asyncio.gather(*(ask(name) for name in names))
        return {name: texts for name, texts in found if texts is not None}

    async def _spf(self, message: _Message, *, asked: bool) -> tuple[QuestionAnswer | None, bool]:
        """What SPF says, and whether it can't be had now."""
        if not asked or not message.peer:
            return None, False
        try:
            answer = await self._intake.questions.spf(message.peer, message.sender, message.helo)
        except Later:
            return None, True
        return answer, False

    def _takes_anyone(self, mailbox: str) -> bool:
        """Whether a mailbox of the configuration takes mail from strangers."""
        sections = {section.name: section for section in self._core.config.mailbox}
        return mailbox in sections and sections[mailbox].senders == "anyone"

    def _upstream_of(self, message: _Message) -> str:
        """The name of the host that handed the message on and is believed; "" for none."""
        if message.upstream:
            return message.upstream
        try:
            address = ipaddress.ip_address(message.peer)
        except ValueError:
            return ""
        known = any(address in network for network in self._networks)
        return self._core.config.senders.upstream_name if known else ""

    def _record(self, tx: Transaction, document_id: str, judged: Judged) -> None:
        """Write down what was found, inside a transaction, unless it was decided meanwhile."""
        core = self._core
        now = core.now()
        row = queries.document(tx.connection, document_id)
        open_ = tx.connection.execute(
            select(messages.c.document_id).where(
                messages.c.document_id == document_id,
                messages.c.proof.in_([str(each) for each in UNDECIDED]),
                messages.c.due_at.is_not(None),
            )
        ).first()
        if row is None or row.state != DocumentState.RECEIVED or open_ is None:
            return
        tx.connection.execute(
            update(messages)
            .where(messages.c.document_id == document_id)
            .values(
                proof=str(judged.proof),
                proven_at=stamp(now) if judged.proof in PROVEN else None,
                due_at=None,
            )
        )
        metadata = core.store.custody.open_metadata(row)
        metadata = msgspec.structs.replace(
            metadata, facts={**metadata.facts, "sender_proof": judged.said}
        )
        sealed = core.store.custody.seal_metadata(
            core.store.custody.document_key(row), document_id, metadata
        )
        core.record(tx, "message.judged", document_id, ACTOR_CORE, now, proof=str(judged.proof))
        if judged.proof is Proof.FAILED:
            change_state(
                tx.connection,
                [document_id],
                Event.QUARANTINE,
                stamp(now),
                reason=SENDER_UNPROVEN,
                sealed_metadata=sealed,
                **filing_retention.quarantine_columns(core, now),
            )
            return
        tx.connection.execute(
            update(documents)
            .where(documents.c.id == document_id)
            .values(sealed_metadata=sealed, reason="", next_attempt_at=stamp(now))
        )

    async def _put_off(self, row: Row[Any], why: str) -> None:
        """Try again later, for as long as it takes."""
        attempts = row.attempts + 1
        delay = backoff.delay(
            attempts, first=FIRST_DELAY, longest=LONGEST_DELAY, chance=self._chance()
        )
        due = stamp(self._core.now() + delay)
        log.warning("sender not judged yet", document=row.document_id, attempts=attempts)
        log.debug("sender not judged yet", document=row.document_id, why=why)
        await self._core.write(
            lambda tx: tx.connection.execute(
                update(messages)
                .where(messages.c.document_id == row.document_id, messages.c.due_at.is_not(None))
                .values(attempts=attempts, due_at=due)
            )
        )


def _settle(tx: Transaction, document_id: str) -> None:
    """A message that somebody decided otherwise about is not due any more."""
    tx.connection.execute(
        update(messages).where(messages.c.document_id == document_id).values(due_at=None)
    )
