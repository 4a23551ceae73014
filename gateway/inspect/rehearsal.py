"""A rehearsal in the manager: what is set up at first use is set up once, and not in every worker.

Promises: after `rehearse` the parsers, their caches and lazily imported modules are as a worker leaves them
that has seen a note, an invoice, a message and a PDF. The documents are made here; nothing that came from
outside is opened in the manager.
Leaves out: the pattern rules. Their first scan starts a thread that ends the long ones, and a thread does not
come along to forked processes: a worker starts its own.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterable
from email.message import EmailMessage
from typing import Final, cast

from gateway.inspect import inspection
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan.yara import RuleSet
from vault.crypto.sealed import SealedReader, SealedWriter, document_context

_ID: Final = "rehearsal"
_NOTE: Final = b"Invoice\nInvoice number: 1\nDate: 2026-01-31\nTotal: 1.00 EUR\n"
_INVOICE: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"'
    b' xmlns:cbc="urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2">'
    b"<cbc:ID>1</cbc:ID><cbc:IssueDate>2026-01-31</cbc:IssueDate></Invoice>"
)


class _NoRules:
    """Rules that match nothing."""

    version = ""

    def match(self, data: bytes, *, first: bool) -> list[tuple[str, bool]]:
        del data, first
        return []


class _NoParts:
    """A sink that reads parts and keeps none."""

    def add(self, name: str, chunks: Iterable[bytes], name_bytes: bytes = b"") -> str:
        del name, name_bytes
        for _chunk in chunks:
            pass
        return "part"


def rehearse() -> None:
    """Inspect a specimen of each common kind."""
    rules = cast("RuleSet", _NoRules())
    context = document_context(_ID)
    key = secrets.token_bytes(32)
    for name, content in specimens().items():
        # Sealed like any: the ciphers' library looks up what it has at first use.
        descriptor = os.memfd_create("specimen", os.MFD_CLOEXEC)
        writer = SealedWriter(descriptor, key, context)
        writer.write(content)
        writer.finish()
        with SealedReader(descriptor, key, context, close_fd=True) as reader:
            document = Document(_ID, reader, reader.size, name)
            inspection.inspect(document, Limits(), _NoParts(), rules=rules, clamd=None)


def specimens() -> dict[str, bytes]:
    """Small documents of the kinds that come most, by name."""
    message = EmailMessage()
    message["From"], message["To"] = "a@example.org", "b@example.org"
    message["Subject"], message["Date"] = "Invoice", "Sat, 31 Jan 2026 00:00:00 +0000"
    message["Message-ID"] = "<1@example.org>"
    message.set_content(_NOTE.decode())
    message.add_attachment(_NOTE, maintype="application", subtype="octet-stream", filename="a.txt")
    return {
        "note.txt": _NOTE,
        "invoice.xml": _INVOICE,
        "message.eml": message.as_bytes(),
        "page.pdf": _pdf(),
    }


def _pdf() -> bytes:
    import pikepdf

    made = pikepdf.new()
    page = made.add_blank_page()
    font = pikepdf.Dictionary(
        Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica
    )
    page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=made.make_indirect(font)))
    shown = b"".join(b"(%s) Tj 0 -14 Td " % line for line in _NOTE.splitlines())
    page.Contents = made.make_stream(b"BT /F1 12 Tf 72 720 Td " + shown + b"ET")
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()
