"""A message on its way into its sealed file: sealed, hashed, and its header read, in one pass.

Promises: what is handed over with the commit is of the very bytes that were written. Leaves out: where they
come from, and the call that makes them durable (`smtp.intake`, `mailbox.fetch`).
"""

from __future__ import annotations

import hashlib

from gateway.doors.header import Header
from gateway.process.free_space import Floor
from gateway.wire.messages import CommitMail, Writable
from vault.crypto.sealed import SealedWriter, document_context


class Sealing:
    """One message that was begun. The descriptor stays the caller's."""

    def __init__(self, begun: Writable, descriptor: int) -> None:
        self.document_id = begun.document_id
        self._hash = hashlib.sha256()
        self._header = Header()
        self._floor = Floor(descriptor, begun.floor)
        self._writer = SealedWriter(descriptor, begun.key, document_context(begun.document_id))

    def write(self, data: bytes) -> None:
        """Seal and hash the next bytes (raises StorageFull, StorageFailed, VaultError)."""
        self._floor.take(len(data))
        self._writer.write(data)
        self._hash.update(data)
        self._header.feed(data)

    def finish(self) -> CommitMail:
        """All of it is written: the request that makes it durable (raises VaultError)."""
        size = self._writer.finish()
        content = self._header.content()
        return CommitMail(
            self.document_id, size, self._hash.digest(), content, self._header.message_id
        )
