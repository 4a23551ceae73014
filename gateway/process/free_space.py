"""The floor: free space on the store's file system that an upload must leave while its bytes arrive.

Promises: a writer that counts its bytes first is told before the disk has less than `least` bytes left,
give or take `CHECK` bytes for each file that is being written. Asking costs a microsecond (fstatvfs(3) on the
open file: nothing by name, so that it works inside a sandbox).

Leaves out: the look before an upload begins (`receive.begin`, `quotas.allow`), and making room
(`gateway.core.intake.pressure`).
"""

from __future__ import annotations

import os
from typing import Final

from vault.errors import StorageFull

CHECK: Final = 256 * 1024  # bytes written between two looks


class Floor:
    """Free space that must stay on the file system of an open file; 0: none."""

    def __init__(self, descriptor: int, least: int) -> None:
        self._descriptor = descriptor
        self._least = least
        self._since = 0

    def take(self, size: int) -> None:
        """Count bytes that are about to be written (raises StorageFull)."""
        self._since += size
        if not self._least or self._since < CHECK:
            return
        found = os.fstatvfs(self._descriptor)
        left = found.f_bavail * found.f_frsize - self._since
        if left < self._least:
            raise StorageFull(
                f"store: expected {self._least} bytes to stay free, found {max(0, left)} left"
            )
        self._since = 0
