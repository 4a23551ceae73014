"""Verifying a destruction certificate, offline, with nothing but the file and the ledger's key.

What it promises: `verify_certificate` runs every step it can and reports each with its result and
what it saw; it never raises for a bad certificate, and a certificate passes only if every step does.

What it leaves out: whether the approvers' keys are those of the right people (their fingerprints are
reported, to be compared with a list kept elsewhere), whether the checkpoint is the newest, and whether
what is stated is true; it establishes that it was stated, approved and recorded, unchanged since.

Steps: 1 format · 2 ledger entry · 3 checkpoint · 4 inclusion · 5 register · 6 approvers · 7 signatures ·
8 dates · 9 claim. The order goes from the bytes to what they say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from vault.certificate import (
    APPROVAL_NAMESPACE,
    CERTIFIED,
    CLAIMS,
    DIGEST_FIELD,
    LEVELS,
    Body,
    Certificate,
    CertificateError,
    approval_statement,
    claim_for,
    digest,
    parse_certificate,
    register_digest,
)
from vault.errors import VaultError
from vault.merkle import leaf_hash, verify_inclusion
from vault.note import Checkpoint, parse_proof, verify_note
from vault.sshsig import fingerprint, verify

MIN_APPROVERS: Final = 2


class Step(msgspec.Struct, frozen=True):
    """One step of a verification: its number and name, whether it passed, and what was seen."""

    number: int
    name: str
    passed: bool
    detail: str


class VerificationReport(msgspec.Struct, frozen=True):
    """The steps that were run, in order. After a failed step 1 there are no others."""

    certificate_id: str | None
    steps: tuple[Step, ...]
    passed: bool


class _Entry(msgspec.Struct, frozen=True):
    """What is read of a ledger entry (its full form: `vault.ledger`, which needs a database)."""

    kind: str
    seq: int
    subject: str
    facts: dict[str, Any]


class _Context(msgspec.Struct, frozen=True):
    """What the steps look at: the certificate, and what the verifier trusts."""

    certificate: Certificate
    vkey: str
    origin: str | None

    @property
    def body(self) -> Body:
        return self.certificate.body


def verify_certificate(data: bytes, vkey: str, *, origin: str | None = None) -> VerificationReport:
    """Verify the certificate file `data` against the ledger key `vkey` (C2SP signed-note form).

    `vkey` is the verifier's own copy, not the one in the file. `origin` is the ledger's name if it
    differs from the key's. Never raises for whatever is wrong with `data` or `vkey`.
    """
    try:
        certificate = parse_certificate(data)
    except VaultError as error:
        return VerificationReport(None, (Step(1, "format", False, str(error)),), False)
    body = certificate.body
    steps = [Step(1, "format", True, f"certificate {body.certificate_id}, in its canonical form")]
    context = _Context(certificate, vkey, origin)
    for number, (name, run) in enumerate(_STEPS, start=2):
        try:
            steps.append(Step(number, name, True, run(context)))
        except VaultError as error:
            steps.append(Step(number, name, False, str(error)))
    return VerificationReport(body.certificate_id, tuple(steps), all(step.passed for step in steps))


def _expect(subject: str, expected: object, found: object) -> None:
    if expected != found:
        raise CertificateError(f"{subject}: expected {expected}, found {found}")


def _entry(context: _Context) -> _Entry:
    try:
        return msgspec.json.decode(context.certificate.ledger.entry, type=_Entry)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CertificateError("ledger entry: expected an entry in JSON, found another") from error


def _ledger_entry(context: _Context) -> str:
    entry = _entry(context)
    _expect("ledger entry kind", CERTIFIED, entry.kind)
    _expect("ledger entry subject", context.body.batch_id, entry.subject)
    _expect("certificate digest", digest(context.body), entry.facts.get(DIGEST_FIELD))
    return f"entry {entry.seq} holds the digest of this certificate"


def _checkpoint(context: _Context) -> str:
    ledger = context.certificate.ledger
    _expect("ledger key", context.vkey, ledger.vkey)
    note = parse_proof(ledger.proof).note
    checkpoint = Checkpoint.parse(verify_note(note, context.vkey))
    # A log's key carries its origin as its name unless the verifier knows otherwise.
    origin = context.vkey.partition("+")[0] if context.origin is None else context.origin
    _expect("checkpoint origin", origin, checkpoint.origin)
    _expect("certificate origin", origin, ledger.origin)
    _expect("gateway origin", origin, context.body.gateway.origin)
    return f"checkpoint of {checkpoint.size} entries, signed by {origin}"


def _inclusion(context: _Context) -> str:
    ledger = context.certificate.ledger
    proof = parse_proof(ledger.proof)
    # The signature is step 3's; verified again, so that this step never rests on unsigned text.
    tree = Checkpoint.parse(verify_note(proof.note, context.vkey))
    leaf = leaf_hash(ledger.entry)
    if not verify_inclusion(leaf, proof.index, tree.size, proof.hashes, tree.root):
        raise CertificateError(
            f"inclusion: expected a path from entry {proof.index} to the root of {tree.size}, "
            "found one that does not lead there"
        )
    _expect("ledger entry number", proof.index, _entry(context).seq)
    return f"entry {proof.index} is in the tree of {tree.size} entries"


def _register(context: _Context) -> str:
    body = context.body
    if not body.register:
        raise CertificateError("register: expected at least one item, found none")
    _expect("register digest", register_digest(body.register), body.register_digest)
    approved = [item.document_id for item in body.register]
    if len(set(approved)) != len(approved):
        raise CertificateError("register: expected each document once, found one twice")
    if [item.document_id for item in body.outcomes] != approved:
        raise CertificateError(
            "outcomes: expected one for each item of the register, in its order, found others"
        )
    certified = _entry(context).seq
    used: set[int] = set()
    for item in body.outcomes:
        index = item.ledger_index
        complete = item.destroyed_at is not None and index is not None
        if (item.result == "destroyed") != complete or (
            item.result == "withdrawn" and (item.destroyed_at is not None or index is not None)
        ):
            raise CertificateError(
                f"outcome of {item.document_id}: expected a time and an entry exactly where it was "
                "destroyed, found otherwise"
            )
        if index is not None:
            if index >= certified or index in used:
                raise CertificateError(
                    f"outcome of {item.document_id}: expected an entry of its own before "
                    f"{certified}, found {index}"
                )
            used.add(index)
        elif not item.reason:
            raise CertificateError(
                f"outcome of {item.document_id}: expected a reason for withdrawing, found none"
            )
    return f"{len(used)} of {len(approved)} items destroyed, {len(approved) - len(used)} withdrawn"


def _approvers(context: _Context) -> str:
    body = context.body
    accounts = {item.account for item in body.approvals}
    keys = {item.fingerprint for item in body.approvals}
    if any(item.decision != "approve" for item in body.approvals):
        raise CertificateError("approvals: expected no rejection, found one")
    if len(accounts) != len(body.approvals) or len(keys) != len(body.approvals):
        raise CertificateError("approvals: expected distinct people with distinct keys, found not")
    if len(accounts) < MIN_APPROVERS:
        raise CertificateError(
            f"approvals: expected at least {MIN_APPROVERS}, found {len(accounts)}"
        )
    if body.executor.account in accounts:
        raise CertificateError("executor: expected none of the approvers, found one of them")
    return f"approved by {', '.join(sorted(accounts))}; executed by {body.executor.account}"


def _signatures(context: _Context) -> str:
    body = context.body
    seen: list[str] = []
    for item in body.approvals:
        statement = approval_statement(
            batch_id=body.batch_id,
            client=body.client,
            # Recomputed: a signature must cover the register that is here, not a stated digest.
            register_digest=register_digest(body.register),
            items=len(body.register),
            decision=item.decision,
            account=item.account,
            role=item.role,
        )
        if item.statement != statement:
            raise CertificateError(
                f"statement of {item.account}: expected one for this batch and register, "
                "found another"
            )
        key = verify(item.signature, item.statement.encode(), APPROVAL_NAMESPACE)
        _expect(f"key of {item.account}", item.fingerprint, fingerprint(key))
        seen.append(f"{item.account} {item.fingerprint}")
    if not seen:
        raise CertificateError("signatures: expected at least one, found none")
    return "; ".join(seen)


def _dates(context: _Context) -> str:
    body = context.body
    eligible = {item.document_id: item.eligible_at for item in body.register}
    for entry in body.register:
        if entry.eligible_at < entry.retained_until:
            raise CertificateError(
                f"item {entry.document_id}: expected it eligible from {entry.retained_until}, "
                f"found {entry.eligible_at}"
            )
        if entry.eligible_at > body.proposed_at:
            raise CertificateError(
                f"item {entry.document_id}: expected a proposal from {entry.eligible_at}, "
                f"found {body.proposed_at}"
            )
    for item in body.outcomes:
        at = item.destroyed_at
        due = eligible.get(item.document_id)
        # One without a register entry is step 5's to refuse.
        early = at is not None and (at < body.executed_at or (due is not None and at < due))
        if early:
            raise CertificateError(
                f"item {item.document_id}: expected destruction after it was eligible and after "
                f"execution began, found {at}"
            )
        if at is not None and at > body.issued_at:
            raise CertificateError(
                f"item {item.document_id}: expected destruction before {body.issued_at}, found {at}"
            )
    for approval in body.approvals:
        if not body.proposed_at <= approval.signed_at <= body.executed_at:
            raise CertificateError(
                f"approval of {approval.account}: expected between {body.proposed_at} and "
                f"{body.executed_at}, found {approval.signed_at}"
            )
    if not body.executed_at <= body.issued_at:
        raise CertificateError(f"issue: expected after {body.executed_at}, found {body.issued_at}")
    return "nothing was proposed or destroyed before it was eligible, or executed unapproved"


def _claim(context: _Context) -> str:
    body = context.body
    carried = claim_for(body.checks, body.copies)
    if LEVELS.index(body.claim.level) > LEVELS.index(carried):
        raise CertificateError(f"claim: expected at most {carried}, found {body.claim.level}")
    if body.claim.sentence != CLAIMS[body.claim.level]:
        raise CertificateError(f"claim: expected the sentence of {body.claim.level}, found another")
    return f"{body.claim.level}, and the checks and copies listed carry {carried}"


_STEPS: Final[tuple[tuple[str, Callable[[_Context], str]], ...]] = (
    ("ledger entry", _ledger_entry),
    ("checkpoint", _checkpoint),
    ("inclusion", _inclusion),
    ("register", _register),
    ("approvers", _approvers),
    ("signatures", _signatures),
    ("dates", _dates),
    ("claim", _claim),
)
