"""Inspection as the core sees it: handing out work, taking verdicts, waiting, giving up.

Promises:
- A document stays RECEIVED until a verdict about the very bytes received is recorded. A worker that dies,
  hangs or runs out of memory costs one attempt; attempts are spaced by doubling delays, and after
  `inspect.max_attempts` a person decides (REVIEW, unjudged). A scanner that is away delays for ever.
- A verdict, the parts it found and the ledger entry are one transaction (`inspect.decide`).
- What is judged can't be changed afterwards: a document is handed out for inspection only once nobody has its
  sealed file open for writing. A door that keeps its descriptor keeps its document waiting, for ever if it
  has to be. (Where the file system can't tell, `strongroom doctor` says so.)

A claim lives in memory, with its connection: a lost connection is a lost claim. Whether clamd is required is
not for a verdict to say (`gateway.core.inspection.scanner`).
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, select, update

from gateway.core import backoff
from gateway.core.core import ACTOR_CORE, log, stamp
from gateway.core.filing import retention as filing_retention
from gateway.core.inspection import scanner
from gateway.core.inspection.judgement import (
    Circumstances,
    Judgement,
    code_text,
    judge,
)
from gateway.core.inspection.queue import (
    FIXITY_PATIENCE,
    SLOW,
    TIMED_OUT,
    InHand,
    Lane,
    Turns,
    head,
    waiting,
)
from gateway.core.intake import receive
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Upload
from gateway.core.reading import NoReader, NotRead
from gateway.core.reasons import UNJUDGED
from gateway.core.steps import step
from gateway.core.waiting import wait_for_work
from gateway.errors import Refusal
from gateway.names import NAME_BYTES, as_sent, safe_name
from gateway.wire.messages import Verdict, Work
from vault.catalogue import queries
from vault.catalogue.lifecycle import Event, change_state, next_state
from vault.catalogue.schema import documents
from vault.catalogue.states import DocumentState
from vault.catalogue.store import Transaction
from vault.errors import VaultError
from vault.keys.custody import DocumentMetadata

LONGEST_DELAY: Final = timedelta(hours=1)
CLAIM_WAIT: Final = 20.0  # seconds a claim waits before it is answered "no work"
MANDATORY: Final = frozenset({"yara"})
PERSISTENT_SCANS: Final = 16
STILL_OPEN: Final = "waiting:still-open"
# A door closes its file when it has read that it is durable: waiting this long (seconds) costs no attempt.
CLOSING_WAIT: Final = 0.25
CLOSING_LOOK: Final = 0.01  # seconds between two looks
FACTS_LIMIT: Final = 64
FACT_LIMIT: Final = 2000


@dataclass
class Claimed:
    """A document in a worker's hands, with the parts it has found so far."""

    row: Row[Any]
    metadata: DocumentMetadata
    mode: str
    parts: dict[str, tuple[Upload, int, bytes]] = field(default_factory=dict)


@dataclass
class Fixity:
    """A request to read a whole document and compare; the answer arrives in `result`."""

    row: Row[Any]
    result: asyncio.Future[bool]
    descriptor: int | None = None  # another file than the stored one, the asker's
    asked: float = field(default_factory=time.monotonic)


class InspectionDesk:
    """Who inspects what. One for the core; every inspector connection asks it."""

    def __init__(self, intake: Intake, chance: Callable[[], float] = backoff.chance) -> None:
        """`chance`: see `backoff.delay`."""
        self._intake = intake
        self._core = intake.core
        self._chance = chance
        self._busy: dict[str, InHand] = {}
        self._turns = Turns()
        self._asking = 0  # connections that wait for a document
        self._fixity: list[Fixity] = []
        self._asked_at = time.monotonic()  # when an inspector last asked for work

    def wake(self) -> None:
        """There may be something to inspect."""
        self._intake.arrived.set()

    async def claim(self) -> tuple[Work, int, Claimed, Fixity | None] | None:
        """The next document due for inspection, with a read-only descriptor the caller closes.

        Returns:
            None when there was nothing for `CLAIM_WAIT` seconds.
        """
        self._asking += 1
        try:
            return await wait_for_work(self._intake.arrived, self._next, CLAIM_WAIT)
        finally:
            self._asking -= 1

    async def _next(self) -> tuple[Work, int, Claimed, Fixity | None] | None:
        core = self._core
        now = core.now()
        self._asked_at = time.monotonic()
        fixity = self._overdue_fixity()
        row: Row[Any] | None = None
        if fixity is None:
            row = await self._whose_turn(now)
            if row is not None and row.id in self._busy:
                self._intake.arrived.set()  # another connection took it while this one read
                return None
            if row is None:
                fixity = self._free_fixity()
        if fixity is not None:
            self._fixity.remove(fixity)
            row = fixity.row
        if row is None:
            return None
        marked = row.id
        self._busy[marked] = InHand(
            row.client_id, row.lane, row.reason == TIMED_OUT, fixity is not None
        )
        try:
            if fixity is None:
                # The rows were read before this one was marked: a verdict may have come in between. What is
                # read now is true as long as it is marked, since nobody else takes or judges it.
                fresh = await core.read(lambda c: _still_due(c, marked, now))
                if fresh is None:
                    self._busy.pop(marked, None)
                    self._intake.arrived.set()  # there may be others
                    return None
                row = fresh
            if fixity is None and await self._is_being_written(row.id):
                await self._put_off(row)
                return None
            with step("inspect.claim"):
                metadata = core.store.custody.open_metadata(row)
                key = core.store.custody.document_key(row)
                if fixity is None or fixity.descriptor is None:
                    descriptor = await asyncio.to_thread(core.store.blobs.open, row.id)
                else:
                    descriptor = _read_only(fixity.descriptor)
        except VaultError as error:
            if fixity is not None:
                self._busy.pop(marked, None)
                fixity.result.set_exception(error)
                return None
            log.error("document can't be opened", document=row.id, error=str(error))
            try:
                await self._postpone(row, "integrity:unopenable", for_ever=False)
            finally:
                self._busy.pop(marked, None)  # last: until it is put off it is still due
            return None
        except BaseException:
            self._busy.pop(marked, None)
            raise
        mode = "fixity" if fixity else "inspect"
        work = Work(
            mode=mode,  # type: ignore[arg-type]
            document_id=row.id,
            key=key,
            size=row.size,
            name=metadata.name,
            channel=row.channel,
            depth=row.depth,
            attempt=row.attempts,
            clamd=await self._clamd_address(),
            thorough=row.reason == TIMED_OUT or fixity is not None,
        )
        return work, descriptor, Claimed(row, metadata, mode), fixity

    async def _put_off(self, row: Row[Any]) -> None:
        """Let a document wait whose sealed file can still be changed; others are not held up by it."""
        await self._postpone(row, STILL_OPEN, for_ever=True)
        self._busy.pop(row.id, None)
        self._intake.arrived.set()

    async def _is_being_written(self, document_id: str) -> bool:
        """Whether someone could still change a document's sealed file, who had time to close it."""
        deadline = time.monotonic() + CLOSING_WAIT
        while await asyncio.to_thread(self._core.store.blobs.is_being_written, document_id):
            if time.monotonic() > deadline:
                return True
            await asyncio.sleep(CLOSING_LOOK)
        return False

    async def fixity(self, row: Row[Any], descriptor: int | None = None) -> bool:
        """Have a document read whole by an inspector; whether it still is what was received.

        Args:
            descriptor: a sealed file to be read in the stored one's place; it stays the caller's.

        Raises:
            NotRead: no inspector asks for work, or the one that read it went away.
            VaultError: the document can't be opened.
        """
        request = Fixity(row, asyncio.get_running_loop().create_future(), descriptor)
        self._fixity.append(request)
        self._intake.arrived.set()
        try:
            while True:
                done, _ = await asyncio.wait([request.result], timeout=5.0)
                if done:
                    return request.result.result()
                if request in self._fixity and time.monotonic() - self._asked_at > 2 * CLAIM_WAIT:
                    raise NoReader(
                        f"document {row.id}: expected an inspector to read it, found none running"
                    )
        finally:
            # Nobody else may be handed a file that its asker has closed.
            if request in self._fixity:
                self._fixity.remove(request)

    async def begin_part(self, claimed: Claimed, name: str, name_bytes: bytes = b"") -> Upload:
        """Begin a document found inside the claimed one (raises Refusal).

        Args:
            name_bytes: its name as it stood there, where that was not UTF-8.
        """
        if claimed.mode != "inspect":
            raise Refusal("denied", "fixity: expected reading only, found a part")
        if len(claimed.parts) >= self._core.config.inspect.max_parts:
            raise Refusal("full", f"parts: expected at most {len(claimed.parts)}, found more")
        row = claimed.row
        return await receive.begin(
            self._core,
            self._core.now(),
            client_id=row.client_id,
            channel="part",
            name=safe_name(name),
            facts=as_sent(name_bytes),
            submitter=row.submitter,
            parent_id=row.id,
            depth=row.depth + 1,
            lane=row.lane,
        )

    async def verdict(self, claimed: Claimed, verdict: Verdict, fixity: Fixity | None) -> None:
        """Record what an inspector said and act on it."""
        row = claimed.row
        if verdict.document_id != row.id:
            raise Refusal("denied", f"verdict: expected one on {row.id}, found another's")
        self._note_cost(row.id)
        if fixity is not None:
            fixity.result.set_result(
                verdict.size == row.size and verdict.sha256 == claimed.metadata.sha256
            )
            self.put_back(row.id)
            return
        try:
            judgement = judge(verdict, await self._circumstances(claimed))
            if judgement.event is None:
                await self.drop_parts(claimed)
                await self._postpone(row, judgement.reason, for_ever=judgement.retry_for_ever)
                return
            with step("inspect.decide"):
                await self._core.write(
                    lambda tx: self._decide(tx, claimed, verdict, judgement, self._core.now())
                )
            for upload, _size, _digest in claimed.parts.values():
                await receive.settle(self._core, upload)
            claimed.parts.clear()
            self._intake.arrived.set()
        finally:
            self.put_back(row.id)

    def put_back(self, document_id: str) -> None:
        """A document is in nobody's hands any more."""
        self._busy.pop(document_id, None)

    def _note_cost(self, document_id: str) -> float:
        """Seconds that a worker had a document, put on its sender's account."""
        held = self._busy.get(document_id)
        return 0.0 if held is None else self._turns.returned(held)

    async def lost(self, claimed: Claimed, fixity: Fixity | None, *, seen: bool) -> None:
        """A worker went away without a verdict: crash, timeout or memory limit.

        Args:
            seen: whether it ever got the document; if not, no attempt is counted.
        """
        took = self._note_cost(claimed.row.id)
        if fixity is not None:
            self._busy.pop(claimed.row.id, None)
            if not fixity.result.done():
                fixity.result.set_exception(
                    NotRead(f"document {claimed.row.id}: expected it read, found its reader ended")
                )
            return
        try:
            await self.drop_parts(claimed)
            if seen:
                # What was ended after a while ran into a limit, most likely, and will again.
                reason = TIMED_OUT if took > SLOW else "inspection-failed"
                await self._postpone(claimed.row, reason, for_ever=False)
        finally:
            # Last: until it is put off it is still due, and whoever asked would get it at once.
            self._busy.pop(claimed.row.id, None)
            self._intake.arrived.set()

    async def _whose_turn(self, now: datetime) -> Row[Any] | None:
        """The next document of the one whose turn it is."""
        known = self._turns.known()
        if known is not None and (row := await self._first_of(known, now)) is not None:
            return row
        lanes = await self._core.read(lambda connection: waiting(connection, now))
        self._turns.remember(lanes)
        return await self._first_of(lanes, now)

    async def _first_of(self, lanes: list[Lane], now: datetime) -> Row[Any] | None:
        workers = max(1, self._asking) + len(self._busy)
        for lane in self._turns.order(lanes, self._busy, workers, now):
            look = functools.partial(head, lane=lane, now=now, busy=set(self._busy))
            row = await self._core.read(look)
            if row is not None:
                return row
            self._turns.forget(lane)
        return None

    def _overdue_fixity(self) -> Fixity | None:
        """The first request to read that has waited long enough, if no worker reads for fixity now."""
        if any(each.fixity for each in self._busy.values()):
            return None
        free = self._free_fixity()
        return free if free and time.monotonic() - free.asked > FIXITY_PATIENCE else None

    def _free_fixity(self) -> Fixity | None:
        """The first request to read a document that is in nobody's hands."""
        return next((each for each in self._fixity if each.row.id not in self._busy), None)

    async def drop_parts(self, claimed: Claimed) -> None:
        """Forget the parts of an attempt that came to nothing."""
        for upload, _size, _digest in claimed.parts.values():
            await receive.unstage(self._core, upload)
        claimed.parts.clear()

    # ── inside ──

    def _decide(
        self,
        tx: Transaction,
        claimed: Claimed,
        verdict: Verdict,
        judgement: Judgement,
        now: datetime,
    ) -> None:
        """COMMIT POINT of an inspection: parts, state, retention, ledger."""
        core = self._core
        event = judgement.event
        assert event is not None
        row = tx.connection.execute(select(documents).where(documents.c.id == claimed.row.id)).one()
        state = next_state(DocumentState(row.state), event)
        for document_id in verdict.parts:
            if document_id not in claimed.parts:
                raise Refusal("denied", "verdict: expected parts of this document, found another")
        for upload, size, digest in claimed.parts.values():
            receive.record(core, tx, upload, size, digest, now)
        scans = [
            {
                "scanner": code_text(scan.scanner),
                "outcome": scan.outcome,
                "version": code_text(scan.version),
            }
            for scan in verdict.scans[:PERSISTENT_SCANS]
        ]
        key = core.store.custody.document_key(row)
        facts = {
            key[:FACT_LIMIT]: value[:FACT_LIMIT]
            for key, value in list(verdict.facts.items())[:FACTS_LIMIT]
            if key != NAME_BYTES
        }
        # As the row has it now: the one who sent it may have renamed it since it was claimed.
        metadata = core.store.custody.open_metadata(row)
        metadata = msgspec.structs.replace(
            metadata,
            facts={**metadata.facts, **facts},
            findings=_findings(verdict),
            reasons=verdict.classification.reasons,
        )
        more: dict[str, Any] = {}
        if row.channel == "smtp" and verdict.suggested_name:
            name = safe_name(verdict.suggested_name)
            metadata = msgspec.structs.replace(metadata, name=name)
            more["name_index"] = core.store.custody.name_index(row.client_id, name)
        more |= {
            "sealed_metadata": core.store.custody.seal_metadata(key, row.id, metadata),
            "media_type": verdict.media_type[:128],
            "lane": 0,
            "scans": msgspec.json.encode(scans).decode(),
        }
        core.record(
            tx,
            "document.inspected",
            row.id,
            ACTOR_CORE,
            now,
            outcome=str(state),
            reason=judgement.reason,
            scanners=[f"{scan['scanner']}={scan['outcome']}" for scan in scans],
            parts=len(claimed.parts),
        )
        if event is Event.FILE:
            assert judgement.record_class is not None
            assert judgement.fiscal_year is not None
            filing_retention.file(
                core,
                tx,
                row,
                event,
                now,
                ACTOR_CORE,
                record_class=judgement.record_class,
                fiscal_year=judgement.fiscal_year,
                document_date=judgement.document_date,
                confidence=verdict.classification.confidence,
                confirmed=False,
                **more,
            )
            return
        retention = (
            filing_retention.quarantine_columns(core, now) if event is Event.QUARANTINE else {}
        )
        day = judgement.document_date
        change_state(
            tx.connection,
            [row.id],
            event,
            stamp(now),
            **more,
            **retention,
            reason=judgement.reason,
            record_class=judgement.record_class,
            document_date=day.isoformat() if day else None,
            confidence=verdict.classification.confidence,
            next_attempt_at=None,
        )

    async def _postpone(self, row: Row[Any], reason: str, *, for_ever: bool) -> None:
        """Try again later, or give up and ask a person."""
        core = self._core
        now = core.now()
        attempts = row.attempts + 1
        delay = backoff.delay(
            attempts,
            first=timedelta(seconds=core.config.inspect.retry_seconds),
            longest=LONGEST_DELAY,
            chance=self._chance(),
        )
        twice = reason == TIMED_OUT and row.reason == TIMED_OUT
        give_up = (twice or attempts >= core.config.inspect.max_attempts) and not for_ever

        def work(tx: Transaction) -> None:
            if not give_up:
                tx.connection.execute(
                    update(documents)
                    .where(documents.c.id == row.id, documents.c.state == DocumentState.RECEIVED)
                    .values(
                        attempts=attempts,
                        next_attempt_at=stamp(now + delay),
                        reason=reason[:64],
                    )
                )
                return
            changed = change_state(
                tx.connection,
                [row.id],
                Event.QUESTION,
                stamp(now),
                where_possible=True,  # somebody has judged it meanwhile
                attempts=attempts,
                next_attempt_at=None,
                lane=0,
                reason=f"{UNJUDGED}{reason}"[:64],
            )
            if changed:  # the ledger says what happened, and nothing else
                core.record(
                    tx,
                    "document.inspected",
                    row.id,
                    ACTOR_CORE,
                    now,
                    outcome=DocumentState.REVIEW,
                    reason=f"{UNJUDGED}{reason}"[:64],
                    attempts=attempts,
                )

        log.warning(
            "inspection postponed",
            document=row.id,
            reason=reason,
            attempt=attempts,
            gave_up=give_up,
        )
        await core.write(work)

    async def _circumstances(self, claimed: Claimed) -> Circumstances:
        core = self._core
        row = claimed.row
        client = await core.read(lambda connection: queries.client(connection, row.client_id))
        received = datetime.fromisoformat(row.received_at)
        return Circumstances(
            size=row.size,
            sha256=claimed.metadata.sha256,
            received_on=filing_retention.local_day(received, client.jurisdiction),
            year_end=filing_retention.year_end(client.fiscal_year_end),
            known_classes=frozenset(core.rules.record_classes),
            scanners=MANDATORY,
            clamd=await scanner.policy(core),
        )

    async def _clamd_address(self) -> str:
        settings_ = self._core.config.inspect
        return "" if settings_.clamd == "off" else settings_.clamd_address


def _read_only(descriptor: int) -> int:
    """A descriptor of the same file that lets nobody write; the caller's to close."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)


def _still_due(connection: Connection, document_id: str, now: datetime) -> Row[Any] | None:
    """The row of a document as it is now, if it still waits for its inspection."""
    return connection.execute(
        select(documents).where(
            documents.c.id == document_id,
            documents.c.state == DocumentState.RECEIVED,
            documents.c.next_attempt_at <= stamp(now),
        )
    ).one_or_none()


def _findings(verdict: Verdict) -> list[str]:
    """What the scanners had to say, whole; the row and the ledger have the first of it, cut short."""
    found = [
        f"{scan.scanner}: {scan.outcome} {scan.detail}".rstrip()
        for scan in verdict.scans
        if scan.outcome not in {"clean", "skipped"}
    ]
    return [*found, *([f"unreadable: {verdict.unreadable}"] if verdict.unreadable else [])]
