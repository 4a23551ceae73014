"""Receipts: what a client can hold in its hands about a document it sent.

A receipt is a C2SP signed note: a text a person can read, signed with the gateway's ledger key, so that
it can be verified offline (`strongroom ledger` prints the key). It is made from the catalogue each time it
is read, and so states the document's present state.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy import Row

from gateway.core.journey.judgement import UNJUDGED
from gateway.core.journey.lifecycle import State
from gateway.core.runtime import Core
from vault.custody import DocumentMetadata
from vault.note import sign_note

_NAME: Final = re.compile(r"\d{8}-([0-9A-Z]{26})\.txt")

_STATES: Final = {
    State.RECEIVED: "received and stored; it is being checked",
    State.REVIEW: "received and stored; a person will look at it",
    State.QUARANTINED: "received and set apart: it was refused",
    State.FILED: "received, checked and filed",
    State.ARCHIVED: "received, checked, filed and archived",
}


def file_name(row: Row[Any]) -> str:
    """The name of a document's receipt: day of receipt and id."""
    return f"{row.received_at[:10].replace('-', '')}-{row.id}.txt"


def document_of(name: str) -> str | None:
    """The document id in a receipt's name, or None."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def reason_sentence(reason: str) -> str:
    """A reason code as a sentence for the person who sent the document."""
    code = reason.removeprefix(UNJUDGED)
    if code.startswith("found:"):
        return "A scanner found something harmful in it. Please check the computer it came from."
    if code.startswith("suspect:"):
        return "It holds active content (macros, scripts or links to programs)."
    if code.startswith("integrity:"):
        return "The stored bytes are not those that arrived. The firm has been told."
    sentences = {
        "encrypted": "It is protected by a password and could not be checked. Tell the firm the password.",
        "over_limit": "It is too large inside to be checked by the machine.",
        "malformed": "It is damaged or not of the kind its name says.",
        "ambiguous": "It can be read in more than one way.",
        "rejected": "A person at the firm rejected it.",
        "": "",
    }
    return sentences.get(code, "It could not be classified with certainty.")


def render(core: Core, row: Row[Any], metadata: DocumentMetadata) -> bytes:
    """The receipt of a document as a signed note."""
    state = State(row.state)
    lines = [
        "Strongroom receipt",
        "",
        f"document: {row.id}",
        f"name: {metadata.name}",
        f"size: {row.size}",
        f"sha256: {metadata.sha256.hex()}",
        f"received: {row.received_at}",
        f"by: {row.channel}",
        f"state: {state} ({_STATES.get(state, 'stored')})",
    ]
    if state in {State.REVIEW, State.QUARANTINED} and row.reason:
        lines.append(f"reason: {reason_sentence(row.reason)}")
    if row.record_class and state in {State.FILED, State.ARCHIVED}:
        known = core.rules.record_classes.get(row.record_class)
        title = f" ({known.title_zh} / {known.title_en})" if known else ""
        lines.append(f"class: {row.record_class}{title}, fiscal year {row.fiscal_year}")
        lines.append(f"kept until: {row.eligible_at or 'not set'}")
    # Names come from outside: nothing in one may end a line of what is signed.
    text = "\n".join(" ".join(line.splitlines()) for line in lines) + "\n"
    return sign_note(text, core.store.origin, core.store.ledger_key).encode()
