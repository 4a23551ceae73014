"""Reading a stored document whole: what a reader has to do, and how it can fail.

While the gateway serves, inspectors read, for the core carries no bytes of a document; where none serves,
this process does (`gateway.core.inspection.fixity.reader_of`). What wants something read is handed a
`Reader` and need not know which.
"""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy import Row

from vault.errors import VaultError


class NotRead(VaultError):
    """A document was not read to its end: nothing is known about it, run the check again."""


class NoReader(NotRead):
    """Nobody asks for documents to read."""


class Reader(Protocol):
    """Reads documents whole."""

    async def __call__(self, row: Row[Any], descriptor: int | None = None, /) -> bool:
        """Read a document to its last byte; whether it is what was received.

        Args:
            row: of the document.
            descriptor: a sealed file to be read in the stored one's place; it stays the caller's.

        Raises:
            NotRead: nobody was there to read it, or the reader went away.
            VaultError: the document can't be opened.
        """
