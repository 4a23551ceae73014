"""The destruction certificate: what it says, and its one exact form.

Promises: a certificate has one byte-exact JSON form; whatever reads it reads the same, and
any change shows. Its body is bound to the ledger by its digest, which the entry `disposal.certified`
holds, and the entry is bound to a signed checkpoint by a C2SP tlog-proof. Approvals are the approvers'
own SSH signatures over a statement that names the batch and the digest of the register they saw
(`statements`).

Leaves out: verification (`verify`), print (`pdf.document`), and anything it
could not know: a certificate proves the procedure, the authority and the stated checks. It never
proves absence, and its limits say so in words (`LIMITS`).

Rules:
1. Canonical form of a body, a register: JSON, keys sorted, no spaces, UTF-8 unescaped, times in ISO 8601
   with offset (`Z` for UTC). Digests are SHA-256 over it, lower-case hex.
2. The file is the canonical form of the whole, indented by two spaces, and a newline. Any other
   bytes are refused: nothing in a file can be there for one reader and not for another.
   `json_schema` is the form in JSON Schema (draft 2020-12), published as docs/certificate.schema.json.
3. No name of a person, client or document, and no plain digest of one: identifiers, classes, sizes,
   dates, and a salted commitment whose salt was destroyed with the document.
4. A claim is never above what checks, copies and statements of persons carry (`claim_for`).
5. A follow-up (`follows`) repeats what was done unchanged (`SAME`). It adds what was established since:
   a higher claim, a witness, a sanitised medium; it takes nothing back.
6. A field that came later (`enrolment`) is left out of what was made before, and never null: each file keeps
   its one form, and each reader of this version takes both.

Source: NIST SP 800-88 (certificate of sanitization, fields), Order 79 art. 18 (fields of the register,
witnesses of electronic records).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from vault.certificate.enrolment import Enrolment
from vault.certificate.parts import (
    Armored,
    CertificateError,
    Count,
    Digest,
    Line,
    Moment,
    Name,
    Part,
    Words,
)

FORMAT: Final = "strongroom-certificate-v1"
CERTIFIED: Final = "disposal.certified"
"""The kind of the ledger entry that holds a certificate's digest."""
DIGEST_FIELD: Final = "certificate_digest"
"""Where: in that entry's `facts`."""
KEY_ABSENT: Final = "live-key-absent"
CIPHERTEXT_ABSENT: Final = "ciphertext-absent"
REQUIRED_CHECKS: Final = (KEY_ABSENT, CIPHERTEXT_ABSENT)
"""The checks that must have passed for any claim above L0."""
BACKUP_UNREADABLE: Final = "backup-sample-unreadable"
"""The check that a sample from a backup could not be read: a copy without keys needs it for L2."""
MAX_CERTIFICATE: Final = 64 << 20
"""Bytes of the longest certificate that is read."""

Level = Literal["L0", "L1", "L2", "L3"]
LEVELS: Final[tuple[Level, ...]] = ("L0", "L1", "L2", "L3")


class Text(Part, frozen=True, kw_only=True):
    """The same words in English and Chinese."""

    en: Words
    zh: Words


class Gateway(Part, frozen=True, kw_only=True):
    """Who issued it: the ledger's origin name, the software and its version."""

    origin: Name
    software: Name
    version: Name


class Claim(Part, frozen=True, kw_only=True):
    """What is claimed: the level, and its sentence (`CLAIMS`)."""

    level: Level
    sentence: Text


class RegisterEntry(Part, frozen=True, kw_only=True):
    """One document as the approvers saw it in the register (销毁清册).

    `trigger_on` is the day the period was counted from, `retained_until` the instant at which the
    governing rule's period had run, `eligible_at` the instant from which destruction could be proposed
    (later than that for a part of a longer-kept document). `size` is in bytes of plaintext.
    """

    document_id: Name
    record_class: Name
    title: Text
    fiscal_year: int | None
    received_on: date
    size: Count
    rule: Name
    legal_basis: Words
    trigger: Name
    trigger_on: date
    period: Name
    retained_until: Moment
    eligible_at: Moment
    commitment: Digest


class Outcome(Part, frozen=True, kw_only=True):
    """What became of one document of the register.

    `destroyed`: `destroyed_at` and `ledger_index` (of its own destruction entry) are set.
    `withdrawn` (a hold came after the approval, for example): both are None and `reason` says why.
    """

    document_id: Name
    result: Literal["destroyed", "withdrawn"]
    destroyed_at: Moment | None
    ledger_index: Count | None
    reason: Words | Text = ""


class Approval(Part, frozen=True, kw_only=True):
    """One approver's decision, signed with their own key.

    `statement` is the exact text signed (`approval_statement`), `signature` the armored SSHSIG in the
    namespace APPROVAL_NAMESPACE, `fingerprint` the key's, as `ssh-keygen -l` shows it, `enrolment` how that
    key came to the account (left out of certificates made before it was stated).
    """

    account: Name
    role: Name
    decision: Literal["approve", "reject"]
    signed_at: Moment
    fingerprint: Name
    statement: Words
    signature: Armored
    enrolment: Enrolment | UnsetType = UNSET


class Witness(Part, frozen=True, kw_only=True):
    """One who watched the destruction (监销人) and signed afterwards that register and items agreed.

    As in an approval: `statement` is `witness_statement`'s, in the namespace WITNESS_NAMESPACE.
    """

    account: Name
    role: Name
    signed_at: Moment
    fingerprint: Name
    statement: Words
    signature: Armored
    enrolment: Enrolment | UnsetType = UNSET


class Sanitisation(Part, frozen=True, kw_only=True):
    """A person's word that a storage medium was sanitised; the gateway cannot check it.

    `method` names the standard and the technique ("NIST SP 800-88 Purge", "IEEE 2883 Purge").
    `statement` is `sanitisation_statement`'s, in the namespace SANITISATION_NAMESPACE.
    """

    medium: Line
    serial: Line
    method: Line
    performed_on: date
    place: Line
    recorded_at: Moment
    account: Name
    fingerprint: Name
    statement: Words
    signature: Armored
    enrolment: Enrolment | UnsetType = UNSET


class Executor(Part, frozen=True, kw_only=True):
    """The account that executed the batch, and the role it did so in."""

    account: Name
    role: Name


class Recovery(Part, frozen=True, kw_only=True):
    """A quorum that was lost, restored by the root key's holder and one officer, and not reviewed since.

    `since` is from when the first recovered key counts, `accounts` whose keys those are.
    """

    since: Moment
    accounts: Annotated[tuple[Name, ...], Meta(min_length=1)]


class Copy(Part, frozen=True, kw_only=True):
    """One known copy of a key or of sealed bytes, and what state it is in.

    `place` and `kind` are the operator's words (a path or address, `keyring`, `backup`, …); `expires`
    is the day on which a copy that still lives will be gone, None for one that has to be reached
    first. `keyless`: sealed bytes without any key, as in a backup; it opens nothing.
    """

    place: Words
    kind: Name
    state: Literal["destroyed", "expired", "live", "keyless", "unknown"]
    expires: date | None


class Check(Part, frozen=True, kw_only=True):
    """One check that was due after execution; `not_checked` is a result like any other.

    `detail` is what was seen: in both languages, or as it was reported.
    """

    name: Name
    result: Literal["passed", "failed", "not_checked"]
    detail: Words | Text


class Body(Part, frozen=True, kw_only=True):
    """Everything the certificate states; its canonical form is what the ledger commits to.

    `executed_at` is when execution began, after the last approval; `groups_ended` are the key groups
    whose keys were destroyed; `outcomes` has one entry for each of `register`, in its order. `scope`
    is `client` where all that was held for the client went, its keyring included. `follows` is the
    certificate that this one supplements (rule 5). `unreviewed_recovery` is there only while there is one.
    """

    certificate_id: Name
    follows: Name | None
    issued_at: Moment
    gateway: Gateway
    client: Name
    batch_id: Name
    scope: Literal["documents", "client"]
    claim: Claim
    register: tuple[RegisterEntry, ...]
    register_digest: Digest
    outcomes: tuple[Outcome, ...]
    approvals: tuple[Approval, ...]
    witnesses: tuple[Witness, ...]
    executor: Executor
    proposed_by: Name
    proposed_at: Moment
    executed_at: Moment
    groups_ended: tuple[Name, ...]
    copies: tuple[Copy, ...]
    checks: tuple[Check, ...]
    sanitisations: tuple[Sanitisation, ...]
    limits: Text
    unreviewed_recovery: Recovery | UnsetType = UNSET


class LedgerProof(Part, frozen=True, kw_only=True):
    """The ledger's word for it.

    `entry` holds the bytes of the ledger entry of kind CERTIFIED (base64 in JSON), `proof` the C2SP
    tlog-proof that leads from it to a signed checkpoint. `origin` and `vkey` say whose; a verifier
    takes the key from elsewhere and only compares.
    """

    origin: Name
    vkey: Annotated[str, Meta(max_length=512)]
    entry: bytes
    proof: Annotated[str, Meta(max_length=1 << 20)]


class Certificate(Part, frozen=True, kw_only=True):
    """A whole certificate: the body and the ledger's proof of it."""

    format: Literal["strongroom-certificate-v1"]
    body: Body
    ledger: LedgerProof


SAME: Final = (
    "client", "batch_id", "scope", "register", "register_digest", "outcomes", "approvals",
    "executor", "proposed_by", "proposed_at", "executed_at", "groups_ended",
)  # fmt: skip
"""Fields of a body that a follow-up repeats unchanged."""

_GONE: Final = Text(
    en="The documents' keys and sealed bytes were removed, and were looked for and not found; every "
    "known copy of the keys has been destroyed or has expired. A copy listed as keyless holds sealed "
    "bytes and no key that opens them; a sample from it was tried and could not be read.",
    zh="所列文件的密钥与密文已清除，并经查找未再发现；已知的全部密钥副本均已销毁或失效。"
    "列为“无密钥”的副本仅存密文，不含可将其打开的密钥，并经抽样试读，无法读取。",
)

CLAIMS: Final[Mapping[Level, Text]] = MappingProxyType(
    {
        "L0": Text(
            en="The documents were deleted logically. Nothing further was established.",
            zh="所列文件已作逻辑删除，未作进一步查证。",
        ),
        "L1": Text(
            en="The documents' live keys and sealed bytes were removed, and were looked for and not "
            "found. A copy listed as live holds a copy of a key until the day stated or, where none "
            "is stated, until it has been reached and replaced. A copy listed as keyless holds "
            "sealed bytes and no key that opens them.",
            zh="所列文件的在用密钥与密文已清除，并经查找未再发现。列为“尚存”的副本，在所注日期之前"
            "仍含密钥副本；未注日期的，在联系到该处并完成更新之前仍含密钥副本。"
            "列为“无密钥”的副本仅存密文，不含可将其打开的密钥。",
        ),
        "L2": _GONE,
        "L3": Text(
            en=_GONE.en
            + " In addition, a person states that the media listed were sanitised by the "
            "method named; this was signed by that person and not checked by the gateway.",
            zh=_GONE.zh + "此外，有关人员声明所列介质已按所注方法清除；"
            "该声明由其本人签名，本系统未予查验。",
        ),
    }
)

LIMITS: Final = Text(
    en="This certificate attests the procedure, the authority and the checks stated, no more. It cannot "
    "prove absence: remains of a key may survive in spare cells of a storage medium. Copies held by "
    "clients, by mail providers or in exports are outside its scope. It makes no claim about any "
    "copy that is not listed. Where the sanitisation of a medium is listed, it repeats what the "
    "person named has signed; otherwise it makes no claim about one.",
    zh="本证明书仅证明所列程序、授权与查验，不证明其他事项。不存在之事实无法证明：存储介质的"
    "备用单元中可能残留密钥。委托人、邮件服务商持有的副本以及已导出的副本不在证明范围之内。"
    "对未列明的副本，本证明书不作任何声明。列有介质清除的，仅转述所列人员签名的声明；"
    "未列的，不作任何声明。",
)

_encode: Final = msgspec.json.Encoder(order="sorted").encode


def canonical(value: Body | Sequence[RegisterEntry]) -> bytes:
    """The canonical form of a body or a register: the bytes their digests are taken over."""
    return _encode(value)


def digest(body: Body) -> str:
    """SHA-256 of the canonical body, hex: what the ledger entry holds."""
    return hashlib.sha256(canonical(body)).hexdigest()


def register_digest(register: Sequence[RegisterEntry]) -> str:
    """SHA-256 of the canonical register, hex: what the approvers sign."""
    return hashlib.sha256(canonical(tuple(register))).hexdigest()


def claim_for(
    checks: Sequence[Check], copies: Sequence[Copy], sanitisations: Sequence[Sanitisation] = ()
) -> Level:
    """The highest level that these carry.

    L1 needs REQUIRED_CHECKS passed, no check failed, and no copy of unknown state; L2 also that every
    check listed was made and passed, that no known copy lives, and BACKUP_UNREADABLE passed if any copy
    is keyless; L3 also a sanitisation.
    """
    passed = {check.name for check in checks if check.result == "passed"}
    failed = any(check.result == "failed" for check in checks)
    states = {copy.state for copy in copies}
    if failed or not passed.issuperset(REQUIRED_CHECKS) or "unknown" in states:
        return "L0"
    complete = all(check.result == "passed" for check in checks)
    if "live" in states or not complete:
        return "L1"
    if "keyless" in states and BACKUP_UNREADABLE not in passed:
        return "L1"
    return "L3" if sanitisations else "L2"


def make_claim(level: Level) -> Claim:
    """The claim of a level, with its sentence."""
    return Claim(level=level, sentence=CLAIMS[level])


def certificate_to_json(certificate: Certificate) -> bytes:
    """The one byte-exact file form of a certificate (rule 2).

    Raises:
        RuntimeError: no reader would accept the certificate, so none is issued: values are not checked
            when a part is made, only when one is read.
    """
    try:
        msgspec.json.decode(_encode(certificate), type=Certificate)
    except msgspec.ValidationError as error:
        raise RuntimeError(f"certificate: expected values of their types: {error}") from error
    return _file_form(certificate)


def _file_form(certificate: Certificate) -> bytes:
    return msgspec.json.format(_encode(certificate), indent=2) + b"\n"


def parse_certificate(data: bytes) -> Certificate:
    """Read a certificate file. Nothing in it is verified yet.

    Raises:
        CertificateError: it is too long or not of this format, a field is too many, too few or out of its
            range, or its bytes are not the one form of what they say.
    """
    if len(data) > MAX_CERTIFICATE:
        raise CertificateError(
            f"certificate: expected at most {MAX_CERTIFICATE} bytes, found {len(data)}"
        )
    try:
        kind = msgspec.json.decode(data, type=_Kind).format
        if kind != FORMAT:
            raise CertificateError(f"certificate: expected {FORMAT}, found another format")
        certificate = msgspec.json.decode(data, type=Certificate)
        again = _file_form(certificate)
    except msgspec.ValidationError as error:
        raise CertificateError(f"certificate: expected format {FORMAT}: {error}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CertificateError("certificate: expected JSON, found other bytes") from error
    if again != data:
        raise CertificateError("certificate: expected its canonical form, found another")
    return certificate


class _Kind(msgspec.Struct):
    """The one field that says which format the rest is in."""

    format: Any = None


def json_schema() -> bytes:
    """The form of a certificate file in JSON Schema (draft 2020-12), indented, with a newline.

    What a schema cannot say (the one canonical form, digests, signatures) is left to verification.
    """
    schema = msgspec.json.schema(Certificate)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Certificate of destruction, " + FORMAT,
        **schema,
    }
    # \\Z is Python's; in the regular expressions of JSON Schema (ECMA 262), $ is the very end.
    text = _encode(schema).replace(rb"\\Z", b"$")
    return msgspec.json.format(text, indent=2) + b"\n"
