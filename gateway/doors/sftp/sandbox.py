"""The fence around the process of one connection.

Promises: after `raise_fence` the process opens nothing by name, makes no socket, starts no program and no
process, signals and traces nobody, holds no capability, and stays within its limits, whatever code runs in
it. What it holds then is all it ever has: the client's socket, its own connection to the core, standard
error, and the descriptors that the core hands it with the answers to that account's requests.

Leaves out: what the core lets an account do. The fence keeps a door from going round the core.

Rules: raised after the connection to the core exists and before the first byte of the client is read; the
parent has imported everything, because nothing can be imported afterwards. Where the kernel lacks a fence
the listener says so when it starts, and the others stand.
"""

from __future__ import annotations

from typing import Final

from gateway.config import Config
from gateway.process.sandbox import JailLimits, JailReport, enter_jail, probe_fences
from vault.crypto.sealed import sealed_size

DESCRIPTORS: Final = 256
CPU_SECONDS: Final = 6 * 3600  # at 100 MB/s about two terabytes: more than a day of honest work


def raise_fence(config: Config, parent: int) -> JailReport:
    """Restrict this process for good.

    Args:
        parent: process id of the listener; if it is gone already, the process ends.

    Raises:
        JailError: a fence that the kernel offers could not be raised: the connection must not go on.
    """
    limits = JailLimits(
        memory=config.sftp.memory_limit,
        cpu_seconds=CPU_SECONDS,
        file_size=sealed_size(config.sftp.max_document_size),
        descriptors=DESCRIPTORS,
    )
    return enter_jail(limits, parent, readable=())


def missing_fences() -> list[str]:
    """The fences that this kernel does not offer."""
    return sorted(name for name, holds in probe_fences().items() if not holds)
