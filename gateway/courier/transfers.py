"""The courier's workers: one transfer each at a time, from a descriptor to a place or back.

Promises: what is put was read from the descriptor the core gave, and its size and SHA-256 are reported; what
is fetched is written into one. All of it is sealed, or signed and meant to be read (the ledger), or a
finished message for the relay or a webhook, which says nothing of what a document holds (ADR 0022); the
courier has no key of the store. A place that fails or misses a name is reported in those words; nothing is
tried again here. What a relay or a webhook has taken is not sent once more while this process lives, whoever
asks. Connections to places are let go of when there is nothing to do.

Runs as threads (`serve`), each with a connection and places of its own; or in the process of the command line
where no core runs (`beside`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol, TypeVar

import msgspec
import structlog

from gateway.config import Config, PlaceSection
from gateway.courier import relay, webhooks
from gateway.courier.places.open import open_place
from gateway.errors import ConfigurationError, Disconnected, GatewayError
from gateway.process import service
from gateway.wire.channel import Channel
from gateway.wire.messages import ClaimTransfer, Letter, Transfer, TransferReport
from vault.errors import PlaceError, PlaceMissing, VaultError
from vault.storage.durable import write_all
from vault.storage.places import Place

T = TypeVar("T")

WORKERS: Final = 8  # transfers at once: four for backups (the core's `BULK`), four for all else
PROBE: Final = 64 * 1024  # bytes of each end that a probe writes
RECONNECT_SECONDS: Final = 1.0
_PIECE: Final = 1024 * 1024
_LINES: Final = 1000
_REMEMBERED: Final = 10_000  # ids of what was sent last
MOST: Final = 1024 * 1024  # bytes of a message

log = structlog.get_logger("courier")


class Sent:
    """What relay and webhooks have taken of late, by target and id. Shared by the threads of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, str], None] = {}

    def __contains__(self, key: tuple[str, str]) -> bool:
        with self._lock:
            return key in self._ids

    def add(self, target: str, name: str) -> None:
        with self._lock:
            self._ids[target, name] = None
            if len(self._ids) > _REMEMBERED:
                del self._ids[next(iter(self._ids))]


class Places:
    """The places of the configuration by their targets, opened when first used. Belongs to one thread."""

    def __init__(self, config: Config, sent: Sent | None = None) -> None:
        self._config = config
        self.sent = Sent() if sent is None else sent
        self._sections: dict[str, PlaceSection] = {
            **{target.name: target for target in config.backup.targets},
            **{copy.target: copy for copy in config.keyring.copies},
            **{place.target: place for place in config.ledger.places},
        }
        self._open: dict[str, Place] = {}

    def expect_right(self) -> None:
        """Raises ConfigurationError: a section names no place. Connects to none."""
        for section in self._sections.values():
            open_place(section, self._config.resolve).close()

    def __getitem__(self, target: str) -> Place:
        """The place of a target (raises PlaceError: there is none, or its section is wrong)."""
        place = self._open.get(target)
        if place is None:
            section = self._sections.get(target)
            if section is None:
                raise PlaceError(f"target {target}: expected one of the configuration, found none")
            try:
                place = open_place(section, self._config.resolve)
            except ConfigurationError as error:
                raise PlaceError(str(error)) from error
            self._open[target] = place
        return place

    def send(self, target: str, name: str, content: bytes) -> None:
        """Hand a finished message to the relay or a webhook (raises as `relay.send` and `webhooks.call`)."""
        if (target, name) in self.sent:
            return
        if target == "relay" and self._config.relay.address:
            letter = msgspec.msgpack.decode(content, type=Letter)
            relay.send(self._config.relay, self._config.resolve, letter)
        else:
            for webhook in self._config.webhook:
                if webhook.target == target:
                    webhooks.call(webhook, self._config.resolve, name, content)
                    break
            else:
                raise PlaceError(f"{target}: expected it in the configuration, found none")
        self.sent.add(target, name)

    def drop(self, target: str) -> None:
        """Let go of a place that failed: the next use connects anew."""
        place = self._open.pop(target, None)
        if place is not None:
            with contextlib.suppress(VaultError):
                place.close()

    def close(self) -> None:
        for target in list(self._open):
            self.drop(target)


def perform(transfer: Transfer, descriptor: int | None, places: Places) -> TransferReport:
    """Do one transfer; every failure is in the report. The descriptor stays the caller's.

    Its position follows what has been done: that is how the core sees that a long transfer moves.
    """
    try:
        if transfer.verb == "send":
            return _hand_over(transfer, descriptor, places)
        return _do(transfer, descriptor, places[transfer.target])
    except relay.MailRefused as error:
        return TransferReport(transfer.transfer_id, "refused", detail=str(error)[:300])
    except relay.MailDeferred as error:
        return TransferReport(transfer.transfer_id, "deferred", detail=str(error)[:300])
    except PlaceMissing as error:
        return TransferReport(transfer.transfer_id, "missing", detail=str(error)[:300])
    except VaultError as error:
        places.drop(transfer.target)
        return TransferReport(transfer.transfer_id, "failed", detail=str(error)[:300])
    except OSError as error:
        return TransferReport(
            transfer.transfer_id,
            "failed",
            detail=f"{transfer.name}: expected it transferred, found {error}",
        )


def _hand_over(transfer: Transfer, descriptor: int | None, places: Places) -> TransferReport:
    if descriptor is None:
        raise VaultError("transfer send: expected a descriptor beside it, found none")
    content = os.pread(descriptor, MOST + 1, 0)
    if len(content) > MOST:
        raise VaultError(f"message: expected at most {MOST} bytes, found more")
    try:
        places.send(transfer.target, transfer.name, content)
    except msgspec.DecodeError as error:
        raise VaultError("message: expected a mail and its envelope, found other bytes") from error
    return TransferReport(
        transfer.transfer_id, "done", len(content), hashlib.sha256(content).digest()
    )


def _do(transfer: Transfer, descriptor: int | None, place: Place) -> TransferReport:
    if transfer.verb == "remove":
        place.remove(transfer.name)
        return TransferReport(transfer.transfer_id, "done")
    if descriptor is None:
        raise VaultError(f"transfer {transfer.verb}: expected a descriptor beside it, found none")
    digest = hashlib.sha256()
    size = 0
    match transfer.verb:
        case "put":

            def pieces() -> Iterator[bytes]:
                nonlocal size
                while piece := os.pread(descriptor, _PIECE, size):
                    digest.update(piece)
                    size += len(piece)
                    os.lseek(descriptor, size, os.SEEK_SET)
                    yield piece

            place.put(transfer.name, pieces())
        case "get":
            for piece in place.get(transfer.name):
                digest.update(piece)
                size = write_all(descriptor, [piece], size, transfer.name)
        case "probe":
            size = _probe(place.get(transfer.name), descriptor, digest.update, transfer.name)
        case "names":
            lines: list[bytes] = []
            for name, length in place.names(transfer.name):
                lines.append(f"{length} {name}\n".encode())
                if len(lines) == _LINES:
                    size = write_all(descriptor, [b"".join(lines)], size, transfer.name)
                    lines.clear()
            size = write_all(descriptor, [b"".join(lines)], size, transfer.name)
    return TransferReport(transfer.transfer_id, "done", size, digest.digest())


def _probe(
    pieces: Iterator[bytes], descriptor: int, update: Callable[[bytes], None], name: str
) -> int:
    """Read everything, write both ends at their places in a file with a hole between; returns the size."""
    size = 0
    tail = b""
    for piece in pieces:
        update(piece)
        if size < PROBE:
            write_all(descriptor, [piece[: PROBE - size]], size, name)
        size += len(piece)
        os.lseek(descriptor, size, os.SEEK_SET)
        tail = (tail + piece)[-PROBE:]
    write_all(descriptor, [tail], size - len(tail), name)
    os.ftruncate(descriptor, size)
    return size


# ── as the courier ───────────────────────────────────────────────────────────────────────────────


def serve(config: Config, stop: threading.Event) -> None:
    """Do transfers in several threads, this one among them, until `stop` is set."""
    sent = Sent()
    for number in range(1, WORKERS):
        threading.Thread(
            target=_serve, args=(config, stop, sent), name=f"transfers-{number}", daemon=True
        ).start()
    _serve(config, stop, sent)


def _serve(config: Config, stop: threading.Event, sent: Sent) -> None:
    places = Places(config, sent)
    while not stop.is_set():
        try:
            channel = Channel.connect(config.socket("courier"))
        except Disconnected:
            stop.wait(RECONNECT_SECONDS)
            continue
        try:
            say: ClaimTransfer | TransferReport = ClaimTransfer()
            while not stop.is_set():
                # Any one of the threads: it is the whole process that must not hang.
                service.notify("WATCHDOG=1")
                say = _next(channel, places, say)
        except Disconnected:
            stop.wait(RECONNECT_SECONDS)
        except GatewayError as error:
            log.error("transfer failed", error=str(error))
            stop.wait(RECONNECT_SECONDS)
        finally:
            channel.close()
            places.close()


def _next(
    channel: Channel, places: Places, say: ClaimTransfer | TransferReport
) -> ClaimTransfer | TransferReport:
    """Report or claim, and do the transfer that is the answer, if there is one; returns what to say next."""
    transfer, descriptors = channel.call(say)
    try:
        if isinstance(transfer, Transfer):
            return perform(transfer, descriptors[0] if descriptors else None, places)
        places.close()  # a connection that idles is one that breaks unseen
        return ClaimTransfer()
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


# ── in the process of the command line ───────────────────────────────────────────────────────────


class Worker(Protocol):
    """Who does transfers, as the queue knows it."""

    async def claim(self) -> tuple[Transfer, int | None] | None:
        """The next transfer, or None after a while."""


class Queue(Protocol):
    """Where transfers wait (`gateway.core.outbound.transfers.TransferQueue`)."""

    def worker(self) -> Worker:
        """One more who does them."""

    def report(self, report: TransferReport) -> None:
        """Take a report."""


async def beside(queue: Queue, config: Config, work: Awaitable[T]) -> T:
    """Run `work`, and do what it has transferred, in this process."""
    workers = [asyncio.create_task(_transfer_here(queue, config)) for _ in range(WORKERS)]
    try:
        return await work
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _transfer_here(queue: Queue, config: Config) -> None:
    places, worker = Places(config), queue.worker()
    try:
        while True:
            claimed = await worker.claim()
            if claimed is None:
                places.close()
                continue
            transfer, descriptor = claimed
            doing = asyncio.create_task(asyncio.to_thread(perform, transfer, descriptor, places))
            try:
                queue.report(await asyncio.shield(doing))
            finally:
                # Cancelled or not: the thread uses the descriptor until it is done with it.
                await asyncio.wait([doing])
                if descriptor is not None:
                    os.close(descriptor)
    finally:
        places.close()
