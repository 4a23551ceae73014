"""The sandbox of the mail door's process.

Promises: after `restrict_process` the process opens nothing by name, makes no socket and connects to nothing,
starts no program and no process, signals and traces nobody, holds no capability, and stays within its
limits, whatever code runs in it. What it has then: its listener and whom that lets in, connections to the
core's socket for the mail door and three words to its supervisor (`broker`), standard error, and a descriptor
and a key for each message under way.

Leaves out: one sender's message from another's. All connections are served by one process, so hostile code
in it sees the plaintext of every message that arrives from then on, until the door is restarted; it sees
nothing that was stored before. What the core lets a mail door do is the core's to say.

Rules: entered when the listener, the certificate of STARTTLS and the broker exist, and before a byte of an
unknown sender is read. Everything is imported by then, because nothing can be afterwards; a renewed
certificate comes from the broker, in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateway.config import Config
from gateway.process.sandbox import (
    MIB,
    UNLIMITED,
    SandboxError,
    SandboxLimits,
    SandboxReport,
    enter_sandbox,
    file_limit,
)
from vault.crypto.sealed import sealed_size

MEMORY: Final = 512 * MIB
MEMORY_EACH: Final = 4 * MIB  # of a connection: what is read, sealed, decrypted and queued at once
DESCRIPTORS: Final = 256
DESCRIPTORS_EACH: Final = 4  # the peer, the core, a message; and one that is lingering
CALLS: Final = frozenset({"accept", "accept4"})  # of what listens already: `listen` stays denied


def restrict_process(config: Config) -> SandboxReport:
    """Restrict this process for good.

    Raises:
        SandboxError: a layer that the kernel offers could not be set, or there are threads it would miss.
    """
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise SandboxError(f"mail door: expected one thread before its sandbox, found {threads}")
    places = config.smtp.max_connections
    limits = SandboxLimits(
        memory=MEMORY + places * MEMORY_EACH,
        cpu_seconds=UNLIMITED,
        file_size=file_limit(sealed_size(config.smtp.max_message_size)),
        descriptors=DESCRIPTORS + places * DESCRIPTORS_EACH,
    )
    return enter_sandbox(limits, None, readable=(), calls=CALLS)
