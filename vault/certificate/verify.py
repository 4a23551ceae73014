"""Verifying a destruction certificate, offline, with nothing but the file and the ledger's key.

Promises: `verify_certificate` runs every step it can and reports each with its result and
what it saw; it never raises for a bad certificate, and a certificate passes only if every step does.

Leaves out: whether the approvers' keys are those of the right people (their fingerprints are
reported, to be compared with a list kept elsewhere), whether the checkpoint is the newest, and whether
what is stated is true; it establishes that it was stated, approved and recorded, unchanged since.

Steps: 1 format · 2 ledger entry · 3 checkpoint · 4 inclusion · 5 register · 6 people · 7 signatures ·
8 enrolments · 9 dates · 10 claim · 11 succession. The order goes from the bytes to what they say.

A ledger's key can have rotated, and a note can carry several signatures: any of the keys that the verifier
trusts will do, and the key that the file names must have signed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import UNSET

from vault.certificate.enrolment import Signed, check_enrolments
from vault.certificate.model import (
    CERTIFIED,
    CLAIMS,
    DIGEST_FIELD,
    LEVELS,
    LIMITS,
    SAME,
    Approval,
    Body,
    Certificate,
    Sanitisation,
    Witness,
    claim_for,
    digest,
    parse_certificate,
    register_digest,
)
from vault.certificate.parts import CertificateError
from vault.certificate.statements import (
    APPROVAL_NAMESPACE,
    SANITISATION_NAMESPACE,
    WITNESS_NAMESPACE,
    approval_statement,
    sanitisation_statement,
    witness_statement,
)
from vault.crypto.sshsig import fingerprint, verify
from vault.errors import VaultError
from vault.ledger.merkle import leaf_hash, verify_inclusion
from vault.ledger.note import Checkpoint, NoteError, parse_proof, verify_note

MIN_APPROVERS: Final = 2
OFFICER: Final = "officer"
"""The role whose keys one person alone does not enrol."""


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
    """What is read of a ledger entry (its full form: `vault.catalogue.ledger`, which needs a database)."""

    kind: str
    seq: int
    subject: str
    facts: dict[str, Any]


class _Context(msgspec.Struct, frozen=True):
    """What the steps look at: the certificate, what the verifier trusts, and the one before."""

    certificate: Certificate
    vkeys: tuple[str, ...]
    origin: str | None
    earlier: bytes | None
    register_digest: str
    """Recomputed: a signature must cover the register that is here, not a stated digest."""

    @property
    def body(self) -> Body:
        return self.certificate.body


def verify_certificate(
    data: bytes,
    vkeys: str | Sequence[str],
    *,
    origin: str | None = None,
    earlier: bytes | None = None,
) -> VerificationReport:
    """Verify the certificate file `data` against the ledger's keys (C2SP signed-note form).

    Never raises for what is wrong with `data`, `vkeys` or `earlier`.

    Args:
        vkeys: the verifier's own copies, not the one in the file: one, or all that the ledger has had.
        origin: the ledger's name, if it differs from the key's.
        earlier: the certificate that this one follows, where it is at hand. It is compared, and is to be
            verified for itself.
    """
    try:
        certificate = parse_certificate(data)
    except VaultError as error:
        return VerificationReport(None, (Step(1, "format", False, str(error)),), False)
    body = certificate.body
    steps = [Step(1, "format", True, f"certificate {body.certificate_id}, in its canonical form")]
    trusted = (vkeys,) if isinstance(vkeys, str) else tuple(vkeys)
    context = _Context(certificate, trusted, origin, earlier, register_digest(body.register))
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


def _signed_tree(context: _Context) -> tuple[str, Checkpoint]:
    """The verifier's key that signed the proof's checkpoint, and what is signed."""
    note = parse_proof(context.certificate.ledger.proof).note
    refused: VaultError = NoteError("ledger key: expected one to verify with, found none")
    for vkey in context.vkeys:
        try:
            return vkey, Checkpoint.parse(verify_note(note, vkey))
        except VaultError as error:
            refused = error
    raise refused


def _checkpoint(context: _Context) -> str:
    ledger = context.certificate.ledger
    vkey, tree = _signed_tree(context)
    # What the file says of its key must be true of the note too, whether or not it is trusted.
    verify_note(parse_proof(ledger.proof).note, ledger.vkey)
    # A log's key carries its origin as its name unless the verifier knows otherwise.
    origin = vkey.partition("+")[0] if context.origin is None else context.origin
    _expect("checkpoint origin", origin, tree.origin)
    _expect("certificate origin", origin, ledger.origin)
    _expect("gateway origin", origin, context.body.gateway.origin)
    return f"checkpoint of {tree.size} entries, signed by {origin}"


def _inclusion(context: _Context) -> str:
    ledger = context.certificate.ledger
    proof = parse_proof(ledger.proof)
    # The signature is step 3's; verified again, so that this step never rests on unsigned text.
    _, tree = _signed_tree(context)
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
    _expect("register digest", context.register_digest, body.register_digest)
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


def _people(context: _Context) -> str:
    """Check that those who decided, executed and watched are different people."""
    body = context.body
    if any(item.decision != "approve" for item in body.approvals):
        raise CertificateError("approvals: expected no rejection, found one")
    signed: tuple[Approval | Witness, ...] = (*body.approvals, *body.witnesses)
    accounts = {item.account for item in signed}
    if len(accounts) != len(signed) or len({item.fingerprint for item in signed}) != len(signed):
        raise CertificateError(
            "approvals and witnesses: expected distinct people with distinct keys, found not"
        )
    if len(body.approvals) < MIN_APPROVERS:
        raise CertificateError(
            f"approvals: expected at least {MIN_APPROVERS}, found {len(body.approvals)}"
        )
    if body.executor.account in accounts:
        raise CertificateError(
            "executor: expected none of the approvers and witnesses, found one of them"
        )
    approved = ", ".join(sorted(item.account for item in body.approvals))
    watched = ", ".join(sorted(item.account for item in body.witnesses)) or "nobody"
    return f"approved by {approved}; executed by {body.executor.account}; witnessed by {watched}"


def _signatures(context: _Context) -> str:
    body = context.body
    seen: list[str] = []

    def check(
        account: str, found: str, expected: str, signature: str, stated: str, namespace: str
    ) -> None:
        if found != expected:
            raise CertificateError(
                f"statement of {account}: expected one for this batch and register, found another"
            )
        key = verify(signature, found.encode(), namespace)
        _expect(f"key of {account}", stated, fingerprint(key))
        seen.append(f"{account} {stated}")

    batch: dict[str, Any] = {"batch_id": body.batch_id, "client": body.client}
    what = {**batch, "register_digest": context.register_digest, "items": len(body.register)}
    for item in body.approvals:
        expected = approval_statement(
            **what, scope=body.scope, decision=item.decision, account=item.account, role=item.role
        )
        check(
            item.account, item.statement, expected, item.signature, item.fingerprint,
            APPROVAL_NAMESPACE,
        )  # fmt: skip
    for witness in body.witnesses:
        expected = witness_statement(**what, account=witness.account, role=witness.role)
        check(
            witness.account, witness.statement, expected, witness.signature, witness.fingerprint,
            WITNESS_NAMESPACE,
        )  # fmt: skip
    for word in body.sanitisations:
        expected = sanitisation_statement(
            **batch, medium=word.medium, serial=word.serial, method=word.method,
            performed_on=word.performed_on, place=word.place, account=word.account,
        )  # fmt: skip
        check(
            word.account, word.statement, expected, word.signature, word.fingerprint,
            SANITISATION_NAMESPACE,
        )  # fmt: skip
    if not seen:
        raise CertificateError("signatures: expected at least one, found none")
    return "; ".join(seen)


def _enrolments(context: _Context) -> str:
    """How the keys that signed came to their accounts (the rules are `enrolment`'s)."""
    body = context.body
    facts: list[tuple[Approval | Witness | Sanitisation, datetime, bool]] = [
        *((item, body.proposed_at, True) for item in body.approvals),
        *((item, item.signed_at, item.role == OFFICER) for item in body.witnesses),
        *((item, item.recorded_at, False) for item in body.sanitisations),
    ]
    signatures = [
        Signed(
            account=item.account, fingerprint=item.fingerprint, enrolment=item.enrolment, due=due,
            approves=isinstance(item, Approval), once=not isinstance(item, Sanitisation), strict=strict,
        )
        for item, due, strict in facts
    ]  # fmt: skip
    return check_enrolments(signatures, MIN_APPROVERS)


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
    for witness in body.witnesses:
        if not body.executed_at <= witness.signed_at <= body.issued_at:
            raise CertificateError(
                f"witness {witness.account}: expected between {body.executed_at} and "
                f"{body.issued_at}, found {witness.signed_at}"
            )
    for word in body.sanitisations:
        # A day has no zone: anywhere on earth it begins and ends within a day of UTC's.
        first = (body.executed_at - timedelta(days=1)).date()
        last = (word.recorded_at + timedelta(days=1)).date()
        if not (
            first <= word.performed_on <= last
            and body.executed_at <= word.recorded_at <= body.issued_at
        ):
            raise CertificateError(
                f"sanitisation stated by {word.account}: expected between execution and issue, "
                f"found {word.performed_on}, recorded {word.recorded_at}"
            )
    recovery = body.unreviewed_recovery
    if recovery is not UNSET and recovery.since > body.issued_at:
        raise CertificateError(
            f"recovery: expected one before {body.issued_at}, found one since {recovery.since}"
        )
    if not body.executed_at <= body.issued_at:
        raise CertificateError(f"issue: expected after {body.executed_at}, found {body.issued_at}")
    return "nothing was proposed or destroyed before it was eligible, or executed unapproved"


def _claim(context: _Context) -> str:
    body = context.body
    carried = claim_for(body.checks, body.copies, body.sanitisations)
    if LEVELS.index(body.claim.level) > LEVELS.index(carried):
        raise CertificateError(f"claim: expected at most {carried}, found {body.claim.level}")
    if body.claim.sentence != CLAIMS[body.claim.level]:
        raise CertificateError(f"claim: expected the sentence of {body.claim.level}, found another")
    if body.limits != LIMITS:
        raise CertificateError("limits: expected those of this format, found others")
    return f"{body.claim.level}, and the checks and copies listed carry {carried}"


def _succession(context: _Context) -> str:
    """Check that a follow-up adds to the certificate and changes nothing of what was done."""
    body, earlier = context.body, context.earlier
    if body.follows is None:
        if earlier is not None:
            raise CertificateError("follows: expected the earlier certificate, found none named")
        return "it follows no other certificate"
    attested = len(body.witnesses) + len(body.sanitisations)
    if body.follows == body.certificate_id or (body.claim.level == LEVELS[0] and not attested):
        raise CertificateError(
            "follows: expected another certificate and something to add, found none"
        )
    if earlier is None:
        return f"it follows {body.follows}, which was not at hand to compare"
    before = parse_certificate(earlier).body
    _expect("earlier certificate", body.follows, before.certificate_id)
    _expect("gateway origin", before.gateway.origin, body.gateway.origin)
    for name in SAME:
        if getattr(body, name) != getattr(before, name):
            raise CertificateError(f"{name}: expected as in {body.follows}, found otherwise")
    for name in ("witnesses", "sanitisations"):
        if not set(getattr(body, name)) >= set(getattr(before, name)):
            raise CertificateError(f"{name}: expected all of {body.follows}, found fewer")
    if body.unreviewed_recovery is UNSET and before.unreviewed_recovery is not UNSET:
        raise CertificateError(f"recovery: expected that of {body.follows}, found none")
    if body.issued_at < before.issued_at:
        raise CertificateError(f"issue: expected after {before.issued_at}, found {body.issued_at}")
    old, new = (LEVELS.index(each.claim.level) for each in (before, body))
    added = attested - len(before.witnesses) - len(before.sanitisations)
    if new < old or (new == old and not added):
        raise CertificateError(
            f"claim: expected above {before.claim.level}, or a statement more, "
            f"found {body.claim.level} and {added} more"
        )
    return (
        f"{before.claim.level} in {body.follows}, {body.claim.level} here, {added} statements more"
    )


_STEPS: Final[tuple[tuple[str, Callable[[_Context], str]], ...]] = (
    ("ledger entry", _ledger_entry),
    ("checkpoint", _checkpoint),
    ("inclusion", _inclusion),
    ("register", _register),
    ("people", _people),
    ("signatures", _signatures),
    ("enrolments", _enrolments),
    ("dates", _dates),
    ("claim", _claim),
    ("succession", _succession),
)
