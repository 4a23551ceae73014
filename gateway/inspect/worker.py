"""The life of one worker: claim one document, enter the sandbox, inspect it, send the verdict, end.

Promises: one document per process, so nothing that a hostile file does to a parser outlives it; the
sandbox is entered before the first byte of the document is read; parts are sealed here under keys of
their own and committed one by one. Leaves out: deadlines (the manager kills), retries (the core gives
the document to another worker when this connection breaks).

Rules: the worker writes nothing to its standard streams: libraries print parts of what they read.
When the core is not there, or has nothing, the worker ends or asks again; it decides nothing.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from gateway.config import InspectSection
from gateway.errors import Disconnected, Refusal, WireError
from gateway.inspect import inspection, prove
from gateway.inspect.document import MIB, Document, Limits, Unreadable
from gateway.inspect.scan.clamd import ClamdStream
from gateway.inspect.scan.yara import RuleSet
from gateway.process.free_space import Floor
from gateway.process.sandbox import SandboxError, SandboxLimits, enter_sandbox
from gateway.wire.channel import Channel
from gateway.wire.messages import (
    PATH_BYTES,
    Abandon,
    BeginPart,
    Claim,
    Commit,
    MailReport,
    NoWork,
    Verdict,
    Work,
    Writable,
)
from vault.crypto.sealed import SealedReader, SealedWriter, document_context, sealed_size
from vault.errors import VaultError

STARTED: Final = struct.Struct("!Q")  # what the manager reads: the size of the document begun

FIRST_CPU_SECONDS: Final = 1
"""Processor seconds of a first look, besides those for its size: ordinary documents take tenths of one."""
_CPU_BASE: Final = 10.0  # seconds
_CPU_PER_MIB: Final = 10.0
_CPU_MORE_PER_MIB: Final = 1.0  # what each MiB adds to the seconds that are configured as the most
EXIT_DONE: Final = 0
EXIT_NO_CORE: Final = 3
EXIT_FAILED: Final = 4


class WireParts:
    """The sink that seals parts into descriptors received from the core."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def add(self, name: str, chunks: Iterable[bytes], name_bytes: bytes = b"") -> str:
        """Seal and commit one part; its id. What `chunks` raises passes through, after `Abandon`."""
        reply, descriptors = self._channel.call(BeginPart(name, name_bytes[:PATH_BYTES]))
        if not isinstance(reply, Writable) or len(descriptors) != 1:
            raise WireError("BeginPart: expected Writable with one descriptor, found another reply")
        try:
            writer = SealedWriter(descriptors[0], reply.key, document_context(reply.document_id))
            floor = Floor(descriptors[0], reply.floor)
            digest = hashlib.sha256()
            for chunk in chunks:
                floor.take(len(chunk))
                digest.update(chunk)
                writer.write(chunk)
            size = writer.finish()
        except BaseException:
            self._channel.call(Abandon(reply.document_id))
            raise
        finally:
            os.close(descriptors[0])
        self._channel.call(Commit(reply.document_id, size, digest.digest()))
        return reply.document_id


def serve_one(
    section: InspectSection,
    socket: Path,
    rules: RuleSet,
    started: int,
    parent: int,
    readable: Sequence[Path],
) -> NoReturn:
    """Live a worker's life in this (just forked) process, and end it.

    Args:
        section: what the inspection of one document may cost.
        socket: the core's inspectors' socket.
        started: descriptor to which `STARTED` is written when work begins.
        parent: process id of the manager.
        readable: files and folders that may be read from the sandbox.
    """
    code = EXIT_FAILED
    try:
        code = _live(section, socket, rules, started, parent, readable)
    except (Disconnected, Refusal):
        code = EXIT_NO_CORE
    except (WireError, VaultError, SandboxError, OSError, MemoryError):
        pass  # the exit code says it: there is nowhere to print to
    finally:
        # Not sys.exit: the manager's handlers and buffers are not this process's to run.
        os._exit(code)


def _live(
    section: InspectSection,
    socket: Path,
    rules: RuleSet,
    started: int,
    parent: int,
    readable: Sequence[Path],
) -> int:
    # 1. Nothing of the manager but the pipe; nothing to print to.
    _silence(keep=started)
    # 2. Wait for a document. The reply takes a while: the core holds the question open.
    channel = Channel.connect(socket)
    while True:
        work, descriptors = channel.call(Claim())
        if not isinstance(work, NoWork):
            break
    if not isinstance(work, Work) or len(descriptors) != 1:
        raise WireError("Claim: expected Work with one descriptor, found another reply")
    os.write(started, STARTED.pack(work.size))
    # 3. The last connection to be made, then the sandbox.
    clamd: ClamdStream | None = None
    if work.clamd and work.mode == "inspect":
        clamd = ClamdStream.open(
            work.clamd,
            # An answer later than this would be lost with the worker.
            timeout=section.wall_seconds / 2,
            now=datetime.now(UTC),
            # 0 stands for signatures of any age.
            max_age_days=section.clamd_max_signature_age_days or None,
        )
    enter_sandbox(_limits_for(section, work), parent, readable)
    if work.proving is not None:
        channel.call(_report(work, descriptors[0], section))
        return EXIT_DONE
    # 4. Inspect. A damaged sealed file is a verdict too: one without a digest.
    channel.call(_verdict(work, descriptors[0], section, rules, clamd, channel))
    return EXIT_DONE


def _report(work: Work, descriptor: int, section: InspectSection) -> MailReport:
    assert work.proving is not None
    try:
        reader = SealedReader(descriptor, work.key, document_context(work.document_id))
        document = Document(work.document_id, reader, reader.size, work.name, work.channel)
        return prove.prove(document, Limits.of(section), work.proving)
    except Unreadable:
        return MailReport(work.document_id, work.size, b"", author_fault="too_large")
    except VaultError:
        return MailReport(work.document_id, 0, b"", author_fault="damaged")


def _verdict(
    work: Work,
    descriptor: int,
    section: InspectSection,
    rules: RuleSet,
    clamd: ClamdStream | None,
    channel: Channel,
) -> Verdict:
    try:
        reader = SealedReader(descriptor, work.key, document_context(work.document_id))
    except VaultError as error:
        return inspection.unreadable_file(work.document_id, error)
    document = Document(
        work.document_id,
        reader,
        reader.size,
        work.name,
        work.channel,
        work.depth,
    )
    if work.mode == "fixity":
        return inspection.measure(document)
    return inspection.inspect(
        document,
        Limits.of(section),
        WireParts(channel),
        rules=rules,
        clamd=clamd,
        passwords=work.passwords,
    )


def cpu_budget(size: int, most: int, per_mib: float) -> int:
    """Processor seconds for a document: in proportion to its size, and never more than is configured.

    An honest document of a few pages is judged within a second; one that keeps a worker busy for longer was
    made to, and costs its sender more bytes the more time it takes.

    Args:
        size: bytes of the document.
        most: seconds for any document, to which `per_mib` is added for each MiB.
    """
    mib = size / MIB
    return int(min(_CPU_BASE + mib * _CPU_PER_MIB, most + mib * per_mib)) + 1


def _limits_for(section: InspectSection, work: Work) -> SandboxLimits:
    seconds = cpu_budget(work.size, section.cpu_seconds, _CPU_MORE_PER_MIB)
    if not work.thorough:
        first = FIRST_CPU_SECONDS + work.size / MIB * _CPU_MORE_PER_MIB
        seconds = min(seconds, int(first) + 1)
    return SandboxLimits(
        memory=section.memory_limit,
        cpu_seconds=seconds,
        file_size=sealed_size(section.max_expanded_size),
    )


def _silence(keep: int) -> None:
    """Standard streams to /dev/null, and every other inherited descriptor but one closed."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, keep)
    os.closerange(keep + 1, limit if limit > 0 else 65536)
