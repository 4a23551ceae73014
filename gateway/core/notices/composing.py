"""Making a message when it is carried: whom it goes to and what it says, from the catalogue as it is then.

Promises: what is said is true when it is sent, for nothing of it is written down before. A receipt waits
until everything it speaks of was judged, or until its time is up; a notice whose matter is settled is not
sent.

Leaves out: bringing it there (`kind`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, Row, func, select

from gateway.config.addresses import is_mail_address
from gateway.core.core import Core
from gateway.core.intake import recipients
from gateway.core.intake.senders import ClientProfile
from gateway.core.login import accounts as identity
from gateway.core.notices import conditions, receipts, topics
from gateway.core.notices.follow import Told, topic_of
from gateway.core.notices.mail import Mail, Section, encode
from gateway.core.notices.mail import Row as Item
from gateway.core.notices.phrases import in_chinese
from gateway.core.notices.receipts import Digest, Line
from gateway.core.notices.topics import RECEIPT, TEST, TOPICS
from gateway.core.notices.words import LANGUAGES, WORDS, Language, Words
from gateway.readable import size as readable_size
from gateway.wire.messages import Letter
from vault.catalogue import ledger, queries
from vault.catalogue.ledger import LedgerEntry
from vault.catalogue.schema import (
    access_requests,
    accounts,
    approvals,
    batches,
    documents,
    grants,
    notice_documents,
    notices,
)
from vault.catalogue.states import (
    AccessState,
    AccountState,
    BatchState,
    ClientState,
    DocumentState,
    Proof,
)
from vault.certificate.receipt import Verdict
from vault.crypto.wrapping import blind_index
from vault.errors import VaultError
from vault.keys.secret_names import SECRET_INDEX
from vault.moments import stamp

LOOK_AGAIN: Final = timedelta(seconds=30)  # while a document is being inspected; later less often
RARELY: Final = timedelta(minutes=10)
CAPPED: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
BUSY: Final = 5  # answers to an address within an hour; what follows is gathered into digests
HOUR: Final = timedelta(hours=1)
MOST_JOINED: Final = 200  # answers that one digest takes with it
INDEX_RECIPIENT: Final = "notice-recipient"
_TONES: Final = {"accepted": "good", "review": "wait", "refused": "bad", "pending": "wait"}

Outcome = Literal["withheld", "moot"]


class Postponed(VaultError):
    """It is not to be sent yet. `until`: when to look again."""

    def __init__(self, reason: str, until: datetime) -> None:
        super().__init__(reason)
        self.until = until


class Ended(VaultError):
    """It is not to be sent at all."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


@dataclass(frozen=True)
class Composed:
    """A message.

    Args:
        documents: what it speaks of, and whether that is still being inspected.
        recipient_index: of a receipt, whom it goes to, blind.
        joined: answers that are in it, by number: the address gets so many that they are gathered.
    """

    content: bytes
    documents: dict[str, bool] = field(default_factory=dict)
    recipient_index: bytes | None = None
    joined: tuple[int, ...] = ()


class Event(msgspec.Struct, frozen=True, omit_defaults=False):
    """The body of a webhook's request (docs/webhook.schema.json): what happened, without a name or content.

    `type`: `notice.` and the topic. `timestamp`: when it happened. `data.entry`: its index in the ledger, by
    which a receiver knows what it has had; `subject`: the id of the document, batch or request, or the name
    of the place or key; `client`: the id of the client, or "".
    """

    class Data(msgspec.Struct, frozen=True):
        """What it is about."""

        topic: str
        urgent: bool
        entry: int
        kind: str
        subject: str
        client: str
        roles: list[str]
        command: str

    type: str
    timestamp: str
    data: Data


def compose(core: Core, connection: Connection, row: Row[Any], now: datetime) -> Composed:
    """The message of a notice (raises Postponed, Ended, VaultError)."""
    if row.kind == RECEIPT:
        return _receipt(core, connection, row, now)
    if row.target.startswith("webhook:"):
        return Composed(_event(connection, row))
    return _notice(core, connection, row, now)


# ── receipts ─────────────────────────────────────────────────────────────────────────────────────


def _receipt(core: Core, connection: Connection, row: Row[Any], now: datetime) -> Composed:
    client = queries.client(connection, row.client_id)
    if client.state != ClientState.OPEN:
        raise Ended("moot", "the client is closed")
    profile = recipients.open_profile(core, client)
    told = _documents(connection, row.number)
    answers = ""
    if row.message_id is not None:
        recipient, answers = _sender(core, connection, profile, row, now)
    else:
        recipient = profile.notice_to
        if not recipient:
            raise Ended("withheld", "the client has no address for receipts any more")
    stated = receipts.digest(core, connection, list(told))
    if not stated.sent:
        raise Ended("moot", "what it was about is gone")
    waits_for = set(stated.pending)
    patience = timedelta(minutes=core.config.relay.inspection_minutes)
    patient = now - datetime.fromisoformat(row.created_at) < patience
    if waits_for and (patient or any(told[each] for each in waits_for)):
        raise Postponed("", _look_again(row, now))
    index = blind_index(
        core.store.custody.keyring(row.client_id).secrets[SECRET_INDEX],
        INDEX_RECIPIENT,
        recipient.lower(),
    )
    _expect_below_cap(core, connection, row.client_id, index, now)
    joined: list[int] = []
    if row.message_id is not None and _is_busy(core, connection, row.client_id, index, now):
        for number, more in _others(core, connection, profile, row, recipient, now):
            joined.append(number)
            told |= more
        if joined:
            answers = ""  # it answers several mails
            stated = receipts.digest(core, connection, list(told))
    languages = LANGUAGES.get(profile.language, ("zh", "en"))
    mail = Mail(
        row.id,
        recipient,
        " / ".join(_receipt_subject(language, stated) for language in languages),
        [_receipt_section(core, language, client.slug, stated) for language in languages],
        answers,
    )
    documents = {each: each in waits_for for each in told}
    return Composed(_letter(core, mail, now), documents, index, tuple(joined))


def _documents(connection: Connection, number: int) -> dict[str, bool]:
    """The documents of a receipt, and whether somebody was told that they are being inspected."""
    return {
        each.document_id: bool(each.told)
        for each in connection.execute(
            select(notice_documents)
            .where(notice_documents.c.number == number)
            .order_by(notice_documents.c.document_id)
        )
    }


def _is_busy(
    core: Core, connection: Connection, client_id: str, index: bytes, now: datetime
) -> bool:
    """Whether an address had so many answers lately that they are gathered (raises Postponed: not yet)."""
    sent = connection.execute(
        select(func.count().label("answers"), func.max(notices.c.delivered_at).label("last")).where(
            notices.c.client_id == client_id,
            notices.c.recipient_index == index,
            notices.c.outcome == "sent",
            notices.c.delivered_at > stamp(now - HOUR),
        )
    ).one()
    if sent.answers < BUSY:
        return False
    opens = datetime.fromisoformat(sent.last) + timedelta(minutes=core.config.relay.digest_minutes)
    if now < opens:
        raise Postponed("the recipient gets many: they are gathered", opens)
    return True


def _others(
    core: Core,
    connection: Connection,
    profile: ClientProfile,
    row: Row[Any],
    recipient: str,
    now: datetime,
) -> Iterator[tuple[int, dict[str, bool]]]:
    """Other answers to the same address that could be sent now: their numbers and documents."""
    waiting = connection.execute(
        select(notices)
        .where(
            notices.c.kind == RECEIPT,
            notices.c.client_id == row.client_id,
            notices.c.message_id.is_not(None),
            notices.c.delivered_at.is_(None),
            notices.c.number != row.number,
        )
        .order_by(notices.c.number)
        .limit(MOST_JOINED)
    ).all()
    for other in waiting:
        try:
            address, _ = _sender(core, connection, profile, other, now)
        except (Ended, Postponed):
            continue  # it is said by itself, or not at all
        told = _documents(connection, other.number)
        stated = receipts.digest(core, connection, list(told))
        if address.lower() == recipient.lower() and stated.sent and not stated.pending:
            yield other.number, told


def _sender(
    core: Core,
    connection: Connection,
    profile: ClientProfile,
    row: Row[Any],
    now: datetime,
) -> tuple[str, str]:
    """Whom the answer to a mail goes to, and its Message-ID (raises Ended, Postponed)."""
    message = queries.document(connection, row.message_id)
    if message is None or message.sealed_metadata is None:
        raise Ended("moot", "what it was about is gone")
    proof = receipts.proof_of(connection, message.id)
    if proof == Proof.WAITING or message.state == DocumentState.RECEIVED:
        # Who wrote it, and whether a program did, is not known yet.
        raise Postponed("", _look_again(row, now))
    metadata = core.store.custody.open_metadata(message)
    why = receipts.why_not(core.config, profile, proof, metadata)
    if why is not None:
        raise Ended("withheld", why)
    return metadata.sender, metadata.facts.get("message_id", "")


def _look_again(row: Row[Any], now: datetime) -> datetime:
    """When to look again at what is being inspected: the longer it has taken, the less often."""
    age = now - datetime.fromisoformat(row.created_at)
    return now + min(max(LOOK_AGAIN, age / 4), RARELY)


def _expect_below_cap(
    core: Core, connection: Connection, client_id: str, index: bytes, now: datetime
) -> None:
    """Raises Postponed: the recipient has had as much as anybody gets in a day."""
    most = core.config.relay.max_per_recipient
    sent = connection.execute(
        select(func.count())
        .select_from(notices)
        .where(
            notices.c.client_id == client_id,
            notices.c.recipient_index == index,
            notices.c.outcome == "sent",
            notices.c.delivered_at > stamp(now - DAY),
        )
    ).scalar_one()
    if sent >= most:
        raise Postponed(f"the recipient has had {most} in a day, as many as it gets", now + CAPPED)


def _receipt_subject(language: Language, stated: Digest) -> str:
    words = WORDS[language]
    counts = stated.counts
    if language == "zh":
        rest = "".join(
            f"，{counts[verdict]} 份{words.verdicts[verdict]}"
            for verdict in ("refused", "review", "pending")
            if counts[verdict]
        )
    else:
        short: dict[Verdict, str] = {
            "refused": "refused",
            "review": "held",
            "pending": "being inspected",
        }
        rest = "".join(
            f", {counts[verdict]} {name}" for verdict, name in short.items() if counts[verdict]
        )
    total = sum(counts.values())
    return words.receipt_subject.format(received=total, accepted=counts["accepted"], rest=rest)


def _receipt_section(core: Core, language: Language, slug: str, stated: Digest) -> Section:
    words = WORDS[language]
    verdicts = set(stated.counts)
    opening = words.receipt_all_in
    if "pending" in verdicts:
        opening = words.receipt_pending
    elif verdicts - {"accepted"}:
        opening = words.receipt_some
    closing = [words.receipt_end, words.automatic]
    if stated.ignored:
        closing.insert(0, words.ignored.format(count=stated.ignored))
    if stated.left_out:
        closing.insert(0, words.more.format(count=stated.left_out))
    return Section(
        language,
        (opening, words.client.format(slug=slug)),
        tuple(_item(core, language, number, line) for number, line in enumerate(stated.lines, 1)),
        closing=tuple(closing),
    )


def _item(core: Core, language: Language, number: int, line: Line) -> Item:
    words = WORDS[language]
    what = line.name or (
        words.mail_itself
        if line.container and line.kind == "mail"
        else words.document.format(number=number)
    )
    below = []
    if line.title is not None:
        title = line.title.zh if language == "zh" else line.title.en
        year = words.year.format(year=line.fiscal_year) if line.fiscal_year else ""
        below.append(words.comma.join(filter(None, (title, year))))
    why, to_do = line.why
    if language == "zh":
        why, to_do = in_chinese(why), in_chinese(to_do)
    if why:
        below.append(why)
    if to_do:
        below.append(words.what_to_do + to_do)
    at = moment(core, line.received_at)
    below.append(f"{words.received.format(at=at)}{words.comma}{words.reference} {line.id}")
    heading = words.heading.format(
        what=what, kind=words.kinds[line.kind], size=readable_size(line.size)
    )
    return Item(heading, words.verdicts[line.verdict], _TONES[line.verdict], tuple(below))


def moment(core: Core, at: str) -> str:
    """A moment by the firm's clock, to the minute."""
    zone = core.config.login.time_zone
    return f"{datetime.fromisoformat(at).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"


# ── notices ──────────────────────────────────────────────────────────────────────────────────────


def _notice(core: Core, connection: Connection, row: Row[Any], now: datetime) -> Composed:
    account = connection.execute(
        select(accounts).where(accounts.c.id == row.account_id)
    ).one_or_none()
    if account is None or account.state != AccountState.ACTIVE or account.email is None:
        raise Ended("withheld", "the account has no address any more, or is disabled")
    if account.expires_at is not None and account.expires_at <= stamp(now):
        raise Ended("withheld", "the account has expired")
    languages = LANGUAGES[core.config.relay.language]
    if row.kind == TEST:
        sections = [
            Section(language, (WORDS[language].test,), closing=(WORDS[language].automatic,))
            for language in languages
        ]
        subject = " / ".join(WORDS[language].test_subject for language in languages)
    else:
        count, about = _matter(connection, row.kind, account)
        if not count:
            raise Ended("moot", "the matter is settled")
        sections = [_notice_section(core, each, row, count, about) for each in languages]
        subject = " / ".join(_headline(WORDS[each], row, count) for each in languages)
    mail = Mail(row.id, identity.open_email(core, account), subject, sections, urgent=row.urgent)
    return Composed(_letter(core, mail, now))


def _headline(words: Words, row: Row[Any], count: int) -> str:
    if not row.urgent:
        return words.topics[row.kind].format(count=count)
    said = words.topics.get(f"{row.kind}-urgent", words.topics[row.kind])
    return words.urgent + said.format(count=count)


def _notice_section(
    core: Core, language: Language, row: Row[Any], count: int, about: Sequence[dict[str, Any]]
) -> Section:
    words = WORDS[language]
    first = _headline(words, row, count)
    return Section(
        language,
        (first + ("。" if language == "zh" else "."), words.run),
        tuple(
            Item(each["subject"], below=(words.since.format(at=moment(core, each["since"])),))
            for each in about
        ),
        (TOPICS[row.kind].command,),
        (words.notice_end,),
    )


def _matter(
    connection: Connection, topic: str, account: Row[Any]
) -> tuple[int, list[dict[str, Any]]]:
    """How much of a topic there is for an account now; and which conditions stand, where it is about
    those."""

    def count(table: Any, *where: Any) -> int:
        return int(
            connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
        )

    match topic:
        case "review" | "quarantine":
            state = DocumentState.REVIEW if topic == "review" else DocumentState.QUARANTINED
            where = [documents.c.state == state]
            if account.role == "accountant":
                mine = select(grants.c.client_id).where(grants.c.account_id == account.id)
                where.append(documents.c.client_id.in_(mine))
            return count(documents, *where), []
        case "disposal":
            # Those that wait for this one: what it has signed waits for others.
            mine = select(approvals.c.batch_id).where(approvals.c.account_id == account.id)
            waits = (batches.c.state == BatchState.PROPOSED, batches.c.id.not_in(mine))
            return count(batches, *waits), []
        case "access":
            return count(access_requests, access_requests.c.state == AccessState.WAITING), []
        case "check":
            return 1, []  # what was found is looked at, whatever became of it
    standing = conditions.standing(connection, topic)
    return len(standing), standing


def _letter(core: Core, mail: Mail, now: datetime) -> bytes:
    if not is_mail_address(mail.recipient):
        raise Ended("withheld", "its address is none in ASCII")
    relay = core.config.relay
    return msgspec.msgpack.encode(Letter(relay.sender, mail.recipient, encode(relay, mail, now)))


# ── webhooks ─────────────────────────────────────────────────────────────────────────────────────


def _event(connection: Connection, row: Row[Any]) -> bytes:
    if row.kind == TEST:
        data = Event.Data(TEST, False, -1, "notice.test", "", "", [], "strongroom notice list")
        return msgspec.json.encode(Event("notice.test", row.created_at, data))
    entry = msgspec.json.decode(ledger.entry(connection, row.entry), type=LedgerEntry)
    return event_of(connection, entry)


def event_of(connection: Connection, entry: LedgerEntry) -> bytes:
    """The body of the request that tells of a ledger entry."""
    found = topic_of(entry)
    if found is None:
        raise RuntimeError(f"entry {entry.seq}: expected one that is told, found {entry.kind}")
    told = Told(entry, *found)
    topic = topics.TOPICS[told.topic]
    document = queries.document(connection, entry.subject)
    data = Event.Data(
        topic=topic.name,
        urgent=told.urgent,
        entry=entry.seq,
        kind=entry.kind,
        subject=entry.subject,
        client=document.client_id if document is not None else "",
        roles=list(topic.roles),
        command=topic.command,
    )
    return msgspec.json.encode(Event(f"notice.{topic.name}", entry.at, data))


def json_schema() -> bytes:
    """The form of a webhook's body in JSON Schema (draft 2020-12), indented, with a newline."""
    schema = msgspec.json.schema(Event)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "strongroom-webhook-v1"
    text = msgspec.json.encode(schema, order="sorted")
    return msgspec.json.format(text, indent=2) + b"\n"
