"""What a message says about documents that it does not hold. Pure, from its words.

Promises: one question: whether a message offers an invoice behind a link. The link ends some day, and what
was filed then is a letter about an invoice, and no invoice. Leaves out: following a link; nothing connects.

Rules: an invoice and taking it are named close together, and there is a link; a number of a fully digital
invoice (数电票, 20 digits) beside a link says as much.
"""

from __future__ import annotations

import html
import re
from itertools import islice
from typing import Final

_MARK: Final = " [link] "  # what stands in the words of a message for the target of a link
_TARGET: Final = re.compile(r"<(?:a|area)\s[^>]*?href\s*=\s*[\"']?\s*https?:", re.IGNORECASE)
_LINK: Final = re.compile(r"\[link\]|https?://", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"https?://[^\s<>\"'\x00-\x1f\x7f]{1,1000}", re.IGNORECASE)
_INVOICE: Final = re.compile(
    r"发\s?票|数电票|\b(?:e-?)?invoices?\b|\b(?:e-)?rechnung(?:en)?\b|\b(?:e-)?factures?\b|\bfatture?a?\b",
    re.IGNORECASE,
)
_TAKE: Final = re.compile(
    r"下载|查看|点击|领取|获取|提取|扫码|查验|\b(?:download|view|access|retrieve|click|herunterladen|abrufen|ansehen"
    r"|einsehen|télécharger|consulter|scarica|descargar)\b",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"发\s?票\s?号\s?码[\s:：]{0,4}\d{20}(?!\d)")
_NEAR: Final = 120  # characters
_LOOKS: Final = 200


def in_place_of(tag: re.Match[str]) -> str:
    """A space for a tag of a message in HTML, and a mark for one that leads elsewhere."""
    return _MARK if _TARGET.match(tag[0]) else " "


def targets(text: str) -> list[str]:
    """Where a text or its markup leads, as addresses to be read and not to be followed; each once."""
    found = (html.unescape(match[0]) for match in islice(_ADDRESS.finditer(text), _LOOKS))
    return list(dict.fromkeys(found))


def offers_invoice_by_link(text: str) -> bool:
    """Whether a message offers an invoice behind a link."""
    if not _LINK.search(text):
        return False
    if _NUMBER.search(text):
        return True
    return any(
        _TAKE.search(text, max(0, match.start() - _NEAR), match.end() + _NEAR)
        for match in islice(_INVOICE.finditer(text), _LOOKS)
    )
