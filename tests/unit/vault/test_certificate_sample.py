"""A complete certificate with real keys, signatures and a real tree, for the other certificate tests.

The names below are fixtures' material; the one test here says that the material is sound.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from vault.certificate.enrolment import Enroller, Enrolment
from vault.certificate.model import (
    CERTIFIED,
    CIPHERTEXT_ABSENT,
    DIGEST_FIELD,
    FORMAT,
    KEY_ABSENT,
    LIMITS,
    Approval,
    Body,
    Certificate,
    Check,
    Copy,
    Executor,
    Gateway,
    LedgerProof,
    Outcome,
    RegisterEntry,
    Sanitisation,
    Text,
    Witness,
    certificate_to_json,
    claim_for,
    digest,
    make_claim,
    register_digest,
)
from vault.certificate.statements import (
    APPROVAL_NAMESPACE,
    SANITISATION_NAMESPACE,
    WITNESS_NAMESPACE,
    approval_statement,
    sanitisation_statement,
    witness_statement,
)
from vault.certificate.verify import verify_certificate
from vault.crypto.sshsig import PrivateKey, fingerprint, public_line, sign
from vault.ledger.merkle import Frontier, inclusion_proof, leaf_hash
from vault.ledger.note import Checkpoint, encode_proof, sign_note, verifier_key

ORIGIN = "vault.example.org/ledger"
LOG_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VKEY = verifier_key(ORIGIN, LOG_KEY.public_key())
OFFICERS: dict[str, PrivateKey] = {
    "officer-chen": ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32),
    "officer-li": ec.derive_private_key(7, ec.SECP256R1()),
}
SHANGHAI = timezone(timedelta(hours=8))
PROPOSED = datetime(2056, 2, 1, 1, 0, tzinfo=UTC)
ENROLLED = PROPOSED - timedelta(days=400)


def account_id(account: str) -> str:
    """The id of an account of the sample."""
    return f"01A{account.upper().replace('-', '')[:23]:0>23}"


def enrolment(account: str, *by: str, key: PrivateKey | None = None, **changes: Any) -> Enrolment:
    """The enrolment of a key of `account` by these accounts; by none: in the founding days."""
    people = tuple(Enroller(account=name, account_id=account_id(name)) for name in by)
    base: dict[str, Any] = {
        "account_id": account_id(account),
        "fingerprint": fingerprint(public_line(key or OFFICERS[account])),
        "added_at": ENROLLED,
        "counts_from": ENROLLED + timedelta(days=3) if by else ENROLLED,
        "enrolled_by": people or "founding",
    }
    return Enrolment(**{**base, **changes})


def register(count: int = 3) -> tuple[RegisterEntry, ...]:
    """`count` vouchers of FY2025, eligible since 2056-01-01 in Shanghai."""
    eligible = datetime(2056, 1, 1, tzinfo=SHANGHAI)
    return tuple(
        RegisterEntry(
            document_id=f"01JD{number:022d}",
            record_class="invoice",
            title=Text(en="Invoice", zh="发票"),
            fiscal_year=2025,
            received_on=date(2025, 3, 1 + number % 28),
            size=48_211 + 977 * number,
            rule="cn-order79-01-source-vouchers@1",
            legal_basis="会计档案管理办法(财政部 国家档案局令第79号)附表1 第1项",
            trigger="fiscal_year_end",
            trigger_on=date(2025, 12, 31),
            period="P30Y",
            retained_until=eligible,
            eligible_at=eligible,
            commitment=f"{number:064x}",
        )
        for number in range(count)
    )


def outcomes(entries: tuple[RegisterEntry, ...]) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(
            document_id=item.document_id,
            result="destroyed",
            destroyed_at=PROPOSED + timedelta(hours=5, seconds=number % 1800),
            ledger_index=40 + number,
        )
        for number, item in enumerate(entries)
    )


def approval(
    account: str,
    entries: tuple[RegisterEntry, ...],
    *,
    key: PrivateKey | None = None,
    decision: Literal["approve", "reject"] = "approve",
    **changes: Any,
) -> Approval:
    statement = approval_statement(
        batch_id="B-2056-0001",
        client="acme",
        register_digest=register_digest(entries),
        items=len(entries),
        scope="documents",
        decision=decision,
        account=account,
        role="officer",
    )
    key = key or OFFICERS[account]
    base: dict[str, Any] = {
        "account": account,
        "role": "officer",
        "decision": decision,
        "signed_at": PROPOSED + timedelta(hours=2),
        "fingerprint": fingerprint(public_line(key)),
        "statement": statement,
        "signature": sign(key, statement.encode(), APPROVAL_NAMESPACE),
    }
    return Approval(**{**base, **changes})


WITNESS_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x03" * 32)


def witness(entries: tuple[RegisterEntry, ...], **changes: Any) -> Witness:
    """A person who watched, and signed half an hour after the destruction."""
    facts: dict[str, Any] = {"account": "auditor-zhao", "role": "auditor"}
    facts.update({key: changes.pop(key) for key in ("account", "role") if key in changes})
    statement = witness_statement(
        batch_id="B-2056-0001",
        client="acme",
        register_digest=register_digest(entries),
        items=len(entries),
        **facts,
    )
    key = changes.pop("key", WITNESS_KEY)
    base: dict[str, Any] = {
        **facts,
        "signed_at": PROPOSED + timedelta(hours=5, minutes=30),
        "fingerprint": fingerprint(public_line(key)),
        "statement": statement,
        "signature": sign(key, statement.encode(), WITNESS_NAMESPACE),
    }
    return Witness(**{**base, **changes})


def sanitisation(**changes: Any) -> Sanitisation:
    """An officer's word that a disk was purged on the day of the destruction."""
    facts: dict[str, Any] = {
        "medium": "NVMe SSD, 2 TB",
        "serial": "S6Z1NX0T123456",
        "method": "IEEE 2883 Purge (cryptographic erase)",
        "performed_on": date(2056, 2, 1),
        "place": "Shanghai, room 3",
        "account": "officer-chen",
    }
    facts.update({key: changes.pop(key) for key in tuple(facts) if key in changes})
    key = changes.pop("key", OFFICERS["officer-chen"])
    statement = sanitisation_statement(batch_id="B-2056-0001", client="acme", **facts)
    base: dict[str, Any] = {
        **facts,
        "recorded_at": PROPOSED + timedelta(hours=5, minutes=45),
        "fingerprint": fingerprint(public_line(key)),
        "statement": statement,
        "signature": sign(key, statement.encode(), SANITISATION_NAMESPACE),
    }
    return Sanitisation(**{**base, **changes})


CHECKS = (
    Check(name=KEY_ABSENT, result="passed", detail="keyring of epoch 8 opened; no group key found"),
    Check(name=CIPHERTEXT_ABSENT, result="passed", detail="3 blobs looked for, none found"),
    Check(name="write-ahead-log-truncated", result="passed", detail="wal_checkpoint: busy 0"),
    Check(name="decryption-fails", result="passed", detail="3 wrapped keys tried, 0 opened"),
)
COPIES = (
    Copy(place="keyring", kind="keyring", state="destroyed", expires=None),
    Copy(place="offsite.example.org:/keyrings", kind="keyring", state="destroyed", expires=None),
    Copy(place="backup 2056-01-28", kind="backup", state="live", expires=date(2056, 4, 28)),
)


def make_body(count: int = 3, **changes: Any) -> Body:
    entries = changes.get("register", register(count))
    checks, copies = changes.get("checks", CHECKS), changes.get("copies", COPIES)
    media = changes.get("sanitisations", ())
    base: dict[str, Any] = {
        "certificate_id": "C-2056-0001",
        "follows": None,
        "issued_at": PROPOSED + timedelta(hours=6),
        "gateway": Gateway(origin=ORIGIN, software="strongroom", version="0.1.0"),
        "client": "acme",
        "batch_id": "B-2056-0001",
        "scope": "documents",
        "claim": make_claim(claim_for(checks, copies, media)),
        "register": entries,
        "register_digest": register_digest(entries),
        "outcomes": outcomes(entries),
        "approvals": tuple(approval(account, entries) for account in OFFICERS),
        "witnesses": (),
        "executor": Executor(account="archivist-wang", role="archivist"),
        "proposed_by": "retention",
        "proposed_at": PROPOSED,
        "executed_at": PROPOSED + timedelta(hours=4),
        "groups_ended": ("G01", "G02"),
        "copies": copies,
        "checks": checks,
        "sanitisations": media,
        "limits": LIMITS,
    }
    return Body(**{**base, **changes})


def issue(body: Body, **changes: Any) -> Certificate:
    """Record `body` in a tree of 5,000 entries and prove it. `changes` replace parts of the entry."""
    size, index = 5100, 5043
    entry: dict[str, Any] = {
        "actor": "core",
        "at": "2056-02-01T07:00:00.000000+00:00",
        "facts": {DIGEST_FIELD: digest(body)},
        "kind": CERTIFIED,
        "seq": index,
        "subject": body.batch_id,
        "v": 1,
    }
    data = msgspec.json.encode({**entry, **changes}, order="sorted")
    nodes: dict[tuple[int, int], bytes] = {}
    frontier = Frontier()
    for number in range(size):
        leaf = leaf_hash(data if number == index else b"%d" % number)
        nodes.update({(level, idx): value for level, idx, value in frontier.append(leaf)})
    note = sign_note(Checkpoint(ORIGIN, size, frontier.root()).encode(), ORIGIN, LOG_KEY)
    path = inclusion_proof(index, size, lambda level, idx: nodes[level, idx])
    return Certificate(
        format=FORMAT,
        body=body,
        ledger=LedgerProof(
            origin=ORIGIN, vkey=VKEY, entry=data, proof=encode_proof(index, path, note)
        ),
    )


def enrolled(entries: tuple[RegisterEntry, ...] | None = None, **stated: Enrolment) -> Body:
    """The sample as it is made today, how each key was enrolled stated; `stated` by surname."""
    entries = entries or register()
    stated = {
        "chen": enrolment("officer-chen"),
        "li": enrolment("officer-li", "officer-li"),
        **stated,
    }
    return make_body(
        approvals=tuple(
            approval(f"officer-{name}", entries, enrolment=each) for name, each in stated.items()
        )
    )


def test_the_sample_passes_every_step_of_verification() -> None:
    report = verify_certificate(certificate_to_json(issue(make_body())), VKEY)
    assert [(step.number, step.passed) for step in report.steps] == [
        (number, True) for number in range(1, 12)
    ]
    assert report.passed
    assert report.certificate_id == "C-2056-0001"
