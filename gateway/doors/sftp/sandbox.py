"""The sandbox of the process of one connection.

Promises: after `restrict_process` the process opens nothing by name, makes no socket, starts no program
and no process, signals and traces nobody, holds no capability, and stays within its limits, whatever code
runs in it. What it holds then is all it ever has: the client's socket, its own connection to the core,
standard error, and the descriptors that the core hands it with the answers to that account's requests.

Leaves out: what the core lets an account do. The sandbox keeps a door from going round the core.

Rules: entered after the connection to the core exists and before the first byte of the client is read; the
parent has imported everything, because nothing can be imported afterwards. Where the kernel lacks a layer
the listener says so when it starts, and the others stand.
"""

from __future__ import annotations

from typing import Final

from gateway.config import Config
from gateway.process.sandbox import SandboxLimits, SandboxReport, enter_sandbox, probe_sandbox
from vault.crypto.sealed import sealed_size

DESCRIPTORS: Final = 256
CPU_SECONDS: Final = 6 * 3600  # at 100 MB/s about two terabytes: more than a day of honest work


def restrict_process(config: Config, parent: int) -> SandboxReport:
    """Restrict this process for good.

    Args:
        parent: process id of the listener; if it is gone already, the process ends.

    Raises:
        SandboxError: a layer that the kernel offers could not be set: the connection must not go on.
    """
    limits = SandboxLimits(
        memory=config.sftp.memory_limit,
        cpu_seconds=CPU_SECONDS,
        file_size=sealed_size(config.sftp.max_document_size),
        descriptors=DESCRIPTORS,
    )
    return enter_sandbox(limits, parent, readable=())


def missing_layers() -> list[str]:
    """The layers that this kernel does not offer."""
    return sorted(name for name, holds in probe_sandbox().items() if not holds)
