"""What a message says itself, without what it quotes and how it is signed: sometimes that is the document.

Promises: pure, from the words; linear in their length. Leaves out: what the words are taken for (`classify`).

Rules: lines that quote, and everything behind the mark of a signature or the head of a quoted message, are
others' words or nobody's. By the setting "auto" words become a document only if they, read by themselves, are
surely of a class of business records and dated: an order or an invoice written into a message, not a
greeting, "see attachment" or a signature. "always" takes whatever is longer than a line.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from gateway.inspect.classify import classify, text
from gateway.inspect.document import Limits

Wanted = Literal["auto", "always", "never"]

_QUOTED: Final = re.compile(r"[ \t]{0,8}[>|]")
_END: Final = re.compile(
    r"-- ?|_{5,}|-{3,}.{0,40}(?:original|forwarded|原始邮件|转发|ursprüngliche).{0,40}"
    r"|on .{5,200} wrote:|am .{5,200} schrieb.{0,80}:|(?:from|von|发件人)[:：].{0,200}",
    re.IGNORECASE,
)
_SHORT: Final = 80  # characters; a line
_SURE: Final = 0.8
_NO_RECORDS: Final = frozenset({"correspondence", "system-file"})


def own_words(words: str) -> str:
    """A message's own words."""
    kept: list[str] = []
    for line in words.splitlines():
        if kept and _END.fullmatch(line.strip()[:300]):
            break
        if not _QUOTED.match(line):
            kept.append(line.rstrip())
    return "\n".join(kept).strip()


def are_a_document(words: str, wanted: Wanted, limits: Limits) -> bool:
    """Whether a message's own words are to become a document."""
    if wanted == "never" or len(words) < _SHORT:
        return False
    if wanted == "always":
        return True
    taken, _facts = classify.classify(text.Reading(text.normalise(words, limits)), "text/plain")
    return (
        taken.record_class is not None
        and taken.record_class not in _NO_RECORDS
        and taken.confidence >= _SURE
        and taken.document_date is not None
    )
