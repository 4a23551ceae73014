"""Receipts: the statement of facts about one received document, signed so that anyone can verify it.

Promises: two forms of the same facts, both signed with the ledger's key as C2SP signed notes
(https://c2sp.org/signed-note), and a verification that needs the file and the key's text alone.

- Text: the note itself, lines for people.
- JSON: an object with `receipt` (the facts) and `signature` (the note's signature line). The note's text is
  the canonical form of `receipt`: keys sorted, no spaces, UTF-8, and a newline; `jq -cS .receipt` prints it.

Leaves out: where the facts come from (`gateway.core.intake.receipts`), and whether they still hold: a
receipt states a document as it stood when the receipt was read.

Rules: nothing is looked at before a signature has been verified; no field more or fewer than the format has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

from vault.errors import VaultError
from vault.ledger.note import NoteError, sign_note, verify_note

FORMAT: Final = "strongroom-receipt-v1"
TITLE: Final = "Strongroom receipt"
MAX_RECEIPT: Final = 128 * 1024
"""Bytes of the longest receipt that is read: a dozen short facts, and names of up to `MAX_PARTS` parts."""

MAX_PARTS: Final = 100
"""Parts that a receipt lists."""

_SIGNATURE_TEXT: Final = 92  # base64 of a key id (4 bytes) and an Ed25519 signature (64)

Verdict = Literal["pending", "accepted", "review", "refused"]
Outcome = Literal["pending", "filed", "review", "quarantined", "destroyed", "ignored"]
Kept = Literal["undecided", "until", "permanently"]


class ReceiptError(VaultError):
    """A receipt is malformed, or no known key signed it."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what a receipt consists of."""


class Title(_Part, frozen=True, kw_only=True):
    """A record class in words."""

    zh: str
    en: str


class Same(_Part, frozen=True, kw_only=True):
    """The earliest document of the same client that had the same bytes. Time: ISO 8601 in UTC."""

    document: str
    received_at: str


class Inside(_Part, frozen=True, kw_only=True):
    """What was found inside. `outcome` "ignored": no document, by `rule`; else `document` is its id."""

    name: str
    outcome: Outcome
    document: str | None = None
    rule: str = ""


class Receipt(_Part, frozen=True, kw_only=True):
    """The facts. Times are ISO 8601 in UTC, sizes are bytes, `sha256` is hex.

    `channel`: how it came; "part": out of the document `part_of`. `verdict`: "pending" while it is checked,
    "review" while a person is to look at it; "refused" with `reason_code`, `reason` and `what_to_do`. `kept`
    "until" goes with `kept_until`, before which it is not destroyed. `parts` is there if something was found
    inside, at most `MAX_PARTS` of it; `parts_more` counts the others.
    """

    format: Literal["strongroom-receipt-v1"] = FORMAT
    client: str
    document: str
    name: str
    size: Annotated[int, Meta(ge=0)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    received_at: str
    channel: Literal["sftp", "smtp", "imap", "part"]
    part_of: str | None = None
    same_bytes_as: Same | None = None
    state: str
    state_since: str
    verdict: Verdict
    reason_code: str = ""
    reason: str = ""
    what_to_do: str = ""
    record_class: str | None = None
    record_class_title: Title | None = None
    fiscal_year: int | None = None
    kept: Kept = "undecided"
    kept_until: str | None = None
    # Left out where there are none: receipts from before there were any stay what was signed.
    parts: list[Inside] | msgspec.UnsetType = msgspec.UNSET
    parts_more: int | msgspec.UnsetType = msgspec.UNSET


class _File(_Part, frozen=True, kw_only=True):
    receipt: Receipt
    signature: str


_encode: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder(_File).decode


def canonical(receipt: Receipt) -> str:
    """The text that is signed: one line of JSON, keys sorted, no spaces, and a newline."""
    return _encode(receipt).decode() + "\n"


def lines(receipt: Receipt) -> str:
    """The facts as lines for people."""
    rows = [
        TITLE,
        "",
        f"document: {receipt.document}",
        f"client: {receipt.client}",
        f"name: {receipt.name}",
        f"size: {receipt.size}",
        f"sha256: {receipt.sha256}",
        f"received: {receipt.received_at}",
        f"by: {receipt.channel}",
    ]
    if receipt.part_of:
        rows.append(f"part of: document {receipt.part_of}")
    if receipt.same_bytes_as:
        same = receipt.same_bytes_as
        rows.append(f"same bytes as: document {same.document}, received {same.received_at}")
    rows += [
        f"state: {receipt.state} ({_STATES.get(receipt.state, 'stored')})",
        f"since: {receipt.state_since}",
        f"verdict: {receipt.verdict}",
    ]
    if receipt.reason:
        rows += [f"reason: {receipt.reason}", f"what to do: {receipt.what_to_do}"]
    if receipt.record_class:
        title = receipt.record_class_title
        words = f" ({title.zh} / {title.en})" if title else ""
        rows.append(f"class: {receipt.record_class}{words}, fiscal year {receipt.fiscal_year}")
    if receipt.kept == "permanently":
        rows.append("kept: permanently")
    elif receipt.record_class:
        rows.append(f"kept until: {receipt.kept_until or 'not set'}")
    for number, each in enumerate(receipt.parts or (), 1):
        where = f", document {each.document}" if each.document else ""
        rule = f" by rule: {each.rule}" if each.rule else ""
        rows.append(f"part {number}: {each.outcome}{rule}{where}, {each.name}")
    if receipt.parts_more:
        rows.append(f"parts not listed: {receipt.parts_more}")
    # Names come from outside: nothing in one may end a line of what is signed.
    return "".join(" ".join(row.splitlines()) + "\n" for row in rows)


_STATES: Final = {
    "RECEIVED": "received and stored; it is being checked",
    "REVIEW": "received and stored; a person will look at it",
    "QUARANTINED": "received and set apart: it was refused",
    "FILED": "received, checked and filed",
    "ARCHIVED": "received, checked, filed and archived",
}


def text_file(receipt: Receipt, origin: str, key: Ed25519PrivateKey) -> bytes:
    """A receipt as a signed note for people."""
    return sign_note(lines(receipt), origin, key).encode()


def json_file(receipt: Receipt, origin: str, key: Ed25519PrivateKey) -> bytes:
    """A receipt as JSON for machines."""
    note = sign_note(canonical(receipt), origin, key)
    return _json(receipt, note.rpartition("\n\n")[2].rstrip("\n"))


def text_size(receipt: Receipt, origin: str) -> int:
    """The length of `text_file` in bytes, without a signature made for it: listings need many."""
    return len(f"{lines(receipt)}\n{_unsigned(origin)}\n".encode())


def json_size(receipt: Receipt, origin: str) -> int:
    """The length of `json_file` in bytes."""
    return len(_json(receipt, _unsigned(origin)))


def _unsigned(origin: str) -> str:
    return f"\u2014 {origin} {'A' * _SIGNATURE_TEXT}"


def _json(receipt: Receipt, signature: str) -> bytes:
    file = _File(receipt=receipt, signature=signature)
    return msgspec.json.format(_encode(file), indent=2) + b"\n"


def verify_receipt(data: bytes, vkeys: Sequence[str]) -> dict[str, Any]:
    """What a receipt file states, once one of the keys is known to have signed it.

    Args:
        data: the file, text or JSON.
        vkeys: verifier keys of the ledger, as `/ledger/ledger.vkeys` has them.

    Returns:
        The facts by name; of a text receipt its lines, cut at the first colon.

    Raises:
        ReceiptError: it is none, or none of the keys signed it.
    """
    if len(data) > MAX_RECEIPT:
        raise ReceiptError(f"receipt: expected at most {MAX_RECEIPT} bytes, found {len(data)}")
    if data.lstrip().startswith(b"{"):
        return _verify_json(data, vkeys)
    try:
        note = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ReceiptError("receipt: expected UTF-8, found other bytes") from error
    text = _signed(note, vkeys)
    title, _, facts = text.partition("\n\n")
    if title != TITLE:
        raise ReceiptError(f"receipt: expected it to begin with {TITLE!r}, found another note")
    pairs = (line.partition(": ") for line in facts.splitlines())
    return {name.replace(" ", "_"): value for name, _, value in pairs}


def _verify_json(data: bytes, vkeys: Sequence[str]) -> dict[str, Any]:
    try:
        file = _decode(data)
    except msgspec.ValidationError as error:
        raise ReceiptError(f"receipt: expected format {FORMAT}: {error}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ReceiptError("receipt: expected JSON, found other bytes") from error
    _signed(f"{canonical(file.receipt)}\n{file.signature}\n", vkeys)
    found: dict[str, Any] = msgspec.to_builtins(file.receipt)
    return found


def _signed(note: str, vkeys: Sequence[str]) -> str:
    """The text of a note that one of the keys signed (raises ReceiptError)."""
    problem = "no key was given"
    for vkey in vkeys:
        try:
            return verify_note(note, vkey)
        except NoteError as error:
            problem = str(error)
    raise ReceiptError(f"receipt: expected a signature by a key of the ledger: {problem}")


def json_schema() -> bytes:
    """The form of a JSON receipt in JSON Schema (draft 2020-12), indented, with a newline."""
    schema = msgspec.json.schema(_File)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = FORMAT
    # \\Z is Python's; in the regular expressions of JSON Schema (ECMA 262), $ is the very end.
    text = _encode(schema).replace(rb"\\Z", b"$")
    return msgspec.json.format(text, indent=2) + b"\n"
