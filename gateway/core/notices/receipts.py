"""What a receipt by mail states, and whether whoever sent a mail may be answered at all.

Promises: each document that was sent, with every part found in it: accepted, held or refused, why, and what
can be done. A name stands there only where `[relay] file_names` says so and the document was accepted, in a
class that is not restricted; of a restricted class neither name nor title does. An answer goes to an envelope
sender that was proven, that the client still lists, and that is no machine (RFC 3834, section 2); whether a
program wrote a message is known once the message was inspected, and nobody is answered before.

Leaves out: the words (`words`) and the form (`mail`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from gateway.config import Config
from gateway.config.addresses import is_mail_address
from gateway.core import reasons
from gateway.core.core import Core
from gateway.core.intake.senders import ClientProfile, taken_from
from gateway.core.notices.words import kind_of
from gateway.core.reasons import Sentence
from vault.catalogue import queries
from vault.catalogue.schema import documents, messages
from vault.catalogue.states import GONE, PROVEN, DocumentState, Proof
from vault.certificate.receipt import Title, Verdict
from vault.keys.custody import DocumentMetadata

MOST: Final = 200  # documents that one receipt lists
_MORE: Final = re.compile(r"more: (\d{1,9}) others\Z")  # `inspection` ends a long list with it
_DEPTH: Final = 16  # no limit of inspection allows as many
_NOT_AUTOMATIC: Final = "no"  # what the inspector says of a message that a person wrote
_MACHINES: Final = re.compile(
    r"(?:mailer-?daemon|postmaster|no-?_?reply|do-?_?not-?_?reply|bounces?|listserv|majordomo|.*-request|"
    r"owner-.*|.*-bounces?|notifications?|auto-?reply)(?:[+=-].*)?",
    re.IGNORECASE,
)
_VERDICTS: Final[dict[DocumentState, Verdict]] = {
    DocumentState.RECEIVED: "pending",
    DocumentState.REVIEW: "review",
    DocumentState.QUARANTINED: "refused",
    DocumentState.FILED: "accepted",
    DocumentState.ARCHIVED: "accepted",
}
# Proofs that speak of the domain in From: the envelope sender has to be of the same.
_OF_THE_DOMAIN: Final = frozenset({Proof.DKIM, Proof.SPF, Proof.UPSTREAM})


@dataclass(frozen=True)
class Line:
    """One document of a receipt. `name`: "" where it is not to be told; `title`: of its class, likewise."""

    id: str
    kind: str
    size: int
    received_at: str
    verdict: Verdict
    why: Sentence
    name: str = ""
    title: Title | None = None
    fiscal_year: int | None = None
    container: bool = False  # a mail or an archive whose parts are listed, too


@dataclass(frozen=True)
class Digest:
    """What one receipt states.

    `sent` are the ids it was asked for that are there, `pending` those of them not judged; `counts` has all
    of it by verdict, also what the lines leave out. `ignored`: how many things in it are no documents by a
    rule (pictures in a text, signatures, system files).
    """

    lines: tuple[Line, ...]
    counts: Counter[Verdict]
    sent: tuple[str, ...]
    pending: tuple[str, ...]
    left_out: int = 0
    ignored: int = 0


def digest(core: Core, connection: Connection, ids: Sequence[str]) -> Digest:
    """What became of documents and their parts; those that are gone are left out."""
    lines: list[Line] = []
    counts: Counter[Verdict] = Counter()
    pending = []
    sent = []
    left_out = ignored = 0
    for row in queries.documents_of(connection, ids).values():
        if DocumentState(row.state) in GONE:
            continue
        sent.append(row.id)
        whole = list(tree(connection, row))
        if any(each.state == DocumentState.RECEIVED for each in whole):
            pending.append(row.id)
        parents = {each.parent_id for each in whole}
        for each in whole:
            container = each.id in parents
            verdict = _VERDICTS.get(DocumentState(each.state), "pending")
            if container and verdict == "accepted":  # what was in it speaks for itself
                ignored += _ignored(core.store.custody.open_metadata(each))
                continue
            counts[verdict] += 1
            if len(lines) < MOST:
                metadata = core.store.custody.open_metadata(each)
                lines.append(_line(core, each, metadata, container=container))
                ignored += _ignored(metadata)
            else:
                left_out += 1
    return Digest(tuple(lines), counts, tuple(sent), tuple(pending), left_out, ignored)


def _ignored(metadata: DocumentMetadata) -> int:
    """How many things in a document became none; the last entry may stand for several."""
    if not metadata.ignored:
        return 0
    more = _MORE.match(metadata.ignored[-1])
    return len(metadata.ignored) + (int(more[1]) - 1 if more else 0)


def tree(connection: Connection, row: Row[Any]) -> Iterator[Row[Any]]:
    """A document and all that came out of it, each before its parts."""
    yield row
    level = [row.id]
    for _ in range(_DEPTH):
        found: list[Row[Any]] = []
        for part in queries.pages(level):
            found += connection.execute(
                select(documents).where(documents.c.parent_id.in_(part)).order_by(documents.c.id)
            ).all()
        yield from (each for each in found if DocumentState(each.state) not in GONE)
        level = [each.id for each in found]
        if not level:
            return


def _line(core: Core, row: Row[Any], metadata: DocumentMetadata, *, container: bool) -> Line:
    state = DocumentState(row.state)
    verdict = _VERDICTS.get(state, "pending")
    told = verdict in {"review", "refused"}
    known = core.rules.record_classes.get(row.record_class or "")
    # What is held or refused has no class yet, or one that was guessed: it may be a restricted one.
    open_class = (
        known is not None
        and verdict == "accepted"
        and row.record_class not in core.config.access.restricted
    )
    return Line(
        id=row.id,
        kind=kind_of(row.media_type),
        size=row.size,
        received_at=row.received_at,
        verdict=verdict,
        why=reasons.sentences(row.reason if told else "", metadata.findings),
        name=metadata.name if open_class and core.config.relay.file_names else "",
        title=Title(zh=known.title_zh, en=known.title_en)
        if known is not None and open_class
        else None,
        fiscal_year=row.fiscal_year if open_class else None,
        container=container,
    )


# ── whom ─────────────────────────────────────────────────────────────────────────────────────────


def proof_of(connection: Connection, document_id: str) -> Proof:
    """What showed that a mail comes from whom it says."""
    value = connection.execute(
        select(messages.c.proof).where(messages.c.document_id == document_id)
    ).scalar()
    return Proof.NONE if value is None else Proof(value)


def why_not(
    config: Config, profile: ClientProfile, proof: Proof, metadata: DocumentMetadata
) -> str | None:
    """Why the sender of a mail gets no answer; None: it may be answered."""
    sender, facts = metadata.sender, metadata.facts
    if proof not in PROVEN:
        return f"its sender was not proven ({proof})"
    if not sender or sender == "<>":
        return "it has no sender (<>)"
    if not is_mail_address(sender):
        return "its sender has no address in ASCII"
    automatic = facts.get("automatic", "not told")
    if automatic != _NOT_AUTOMATIC:
        return f"a program may have written it ({automatic})"
    if is_machine(sender):
        return "its sender is a machine's"
    if _is_ours(config, sender):
        return "its sender is this gateway"
    if taken_from(profile, sender, ()) is None:
        return "its sender is none of the client's any more"
    if proof in _OF_THE_DOMAIN and not _same_domain(sender, facts.get("from", "")):
        return "its sender is of another domain than the one that was proven"
    return None


def is_machine(address: str) -> bool:
    """Whether an address is by its name one that nobody reads, or that answers by itself."""
    return _MACHINES.fullmatch(address.rpartition("@")[0]) is not None


def _is_ours(config: Config, address: str) -> bool:
    address = address.lower()
    ours = {config.relay.sender.lower(), config.relay.reply_to.lower()}
    return address in ours or address.rpartition("@")[2] == config.smtp.domain.lower()


def _same_domain(sender: str, header: str) -> bool:
    """Whether whatever looks like an address in a From field is of the sender's domain, or above or below
    it."""
    found = [each.lower().rstrip(".") for each in re.findall(r"@([^\s<>,;()\"@]*)", header)]
    ours = sender.rpartition("@")[2].lower()
    return bool(found) and all(
        each == ours or each.endswith("." + ours) or ours.endswith("." + each) for each in found
    )
