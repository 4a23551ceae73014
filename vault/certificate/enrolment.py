"""How a key came to the account that signed with it: what a certificate states, and what must hold.

Promises: a reader of a certificate sees for each signature when its key was added, from when it
counted, and who answered for it; and that no person alone gave a key to somebody who approved.

Leaves out: that it is so (the gateway states it, under the ledger's signature), and older keys: that
a key which enrolled another one counted itself is the gateway's to see to when it happens.

Rules, for each signature whose enrolment is stated (certificates made before say nothing of it):
1. The enrolment is that of the key that signed; it was added, and then counted, before the batch was proposed
   (an approval), or before it signed (a witness, a sanitisation).
2. A key that approves, or an officer's that witnesses, was enrolled by its owner, by two others, by one other
   and the holder of the root key (the recovery of a lost quorum), or in the founding days. Other accounts are
   the console's to make, and an officer may answer for one: it is said.
3. A key is one account's, told by its id; nobody approves or witnesses twice; those named in one enrolment
   have a name and an id each. Enough people and enough keys approved, whichever is fewer. Names are those
   of the moment: an account can be renamed, and then signs under another name than it had.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from vault.certificate.parts import CertificateError, Moment, Name, Part

FOUNDING: Final = "founding"
CONSOLE: Final = "console"
ROOT_KEY: Final = "root-key"
"""Beside an account's id in `account_keys.enrolled_by`: the holder of the root key answered, too."""


class Enroller(Part, frozen=True, kw_only=True):
    """An account that answered for a key: its name, as approvals name it, and its id."""

    account: Name
    account_id: Name


class Enrolment(Part, frozen=True, kw_only=True):
    """When and by whom a key was given to the account that signed with it, as of that signature.

    `account_id` is the signer's, `fingerprint` the key's. `enrolled_by` are those who answered for the
    key: its owner, two other officers, or for an account that is no officer's the one who vouched;
    `founding`: it came in the founding days, when the console makes the first three officers;
    `console`: from the console since. `together_with` is there where the holder of the root key
    answered for it as well, as a lost quorum was restored.
    """

    account_id: Name
    fingerprint: Name
    added_at: Moment
    counts_from: Moment
    enrolled_by: (
        Literal["founding", "console"]
        | Annotated[tuple[Enroller, ...], Meta(min_length=1, max_length=8)]
    )
    together_with: Literal["root-key"] | UnsetType = UNSET


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A signature as the rules look at it: whose, by which key, and by when the key had to count.

    `approves`: it is an approval; `once`: one of those of whom each signs once (rule 3); `strict`: rule 2
    holds for it.
    """

    account: str
    fingerprint: str
    enrolment: Enrolment | UnsetType
    due: datetime
    approves: bool
    once: bool
    strict: bool


def check_enrolments(signatures: Sequence[Signed], approvers: int) -> str:
    """Check the rules; returns what was seen, in words.

    Args:
        approvers: how many people and keys an approval takes at least.

    Raises:
        CertificateError: a rule does not hold.
    """
    seen: list[str] = []
    silent: list[str] = []
    owners: dict[str, Enroller] = {}
    for each in signatures:
        if each.enrolment is UNSET:
            silent.append(each.account)
            continue
        seen.append(_check(each, each.enrolment))
        _check_one_person(owners, each, each.enrolment)
    approvals = [each for each in signatures if each.approves]
    if seen and approvals:
        # An account without a stated id is told by its name.
        people = {
            each.account if each.enrolment is UNSET else each.enrolment.account_id
            for each in approvals
        }
        enough = min(len(people), len({each.fingerprint for each in approvals}))
        if enough < approvers:
            raise CertificateError(
                f"approvals: expected {approvers} people with {approvers} keys, found {enough}"
            )
    if silent:
        seen.append(f"of {_and(silent)} it is not stated, as in certificates made before it was")
    return "; ".join(seen) or "not stated, as nobody signed"


def told(account: str, enrolment: Enrolment) -> str:
    """The accounts that answered for a key of `account`, in words."""
    by = enrolment.enrolled_by
    if by == FOUNDING:
        return "in the founding days"
    if by == CONSOLE:
        return "by the console"
    names = [each.account for each in by if not isinstance(each, str)]
    if enrolment.together_with is not UNSET:
        return f"by {_and([*names, 'the holder of the root key'])}"
    return "by itself" if names == [account] else f"by {_and(names)}"


def _check(signed: Signed, enrolment: Enrolment) -> str:
    """Rules 1 and 2 for one signature."""
    subject = f"key of {signed.account}"
    if enrolment.fingerprint != signed.fingerprint:
        raise CertificateError(
            f"{subject}: expected the enrolment of {signed.fingerprint}, which signed, found that of"
            f" {enrolment.fingerprint}"
        )
    if not enrolment.added_at <= enrolment.counts_from <= signed.due:
        what = "the batch was proposed" if signed.approves else "it signed"
        raise CertificateError(
            f"{subject}: expected one added, and counting, by {signed.due}, when {what}, found one"
            f" added at {enrolment.added_at} that counts from {enrolment.counts_from}"
        )
    by = enrolment.enrolled_by
    if signed.strict and by != FOUNDING:
        ids = () if isinstance(by, str) else tuple(each.account_id for each in by)
        own = enrolment.account_id
        others = len(set(ids)) + (enrolment.together_with is not UNSET)
        if ids != (own,) and (own in ids or others < 2):
            alone = " alone" if len(ids) == 1 else ""
            raise CertificateError(
                f"{subject}: expected it enrolled by itself, by two others or in the founding days,"
                f" found it enrolled {told(signed.account, enrolment)}{alone}"
            )
    day = enrolment.added_at.date()
    return f"the key of {signed.account} was enrolled {told(signed.account, enrolment)} on {day}"


def _check_one_person(owners: dict[str, Enroller], signed: Signed, enrolment: Enrolment) -> None:
    """Rule 3: what was seen together before is seen together again."""
    signer = Enroller(account=signed.account, account_id=enrolment.account_id)
    found = owners.setdefault(f"key {signed.fingerprint}", signer)
    if found.account_id != signer.account_id:
        raise _two_owners(f"key {signed.fingerprint}", found.account, signer.account)
    if signed.once:
        subject = f"id {signer.account_id}"
        found = owners.setdefault(subject, signer)
        if found.account != signer.account:
            raise _two_owners(subject, found.account, signer.account)
    then = {signer.account: signer.account_id}
    ids = {signer.account_id: signer.account}
    for each in () if isinstance(enrolment.enrolled_by, str) else enrolment.enrolled_by:
        own = then.setdefault(each.account, each.account_id)
        if own != each.account_id:
            raise _two_owners(f"account {each.account}", own, each.account_id)
        name = ids.setdefault(each.account_id, each.account)
        if name != each.account:
            raise _two_owners(f"id {each.account_id}", name, each.account)


def _two_owners(subject: str, first: str, second: str) -> CertificateError:
    return CertificateError(f"{subject}: expected one owner, found {first} and {second}")


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)
