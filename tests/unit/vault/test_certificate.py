"""Certificates: one form, bound to the ledger, and nothing in them can be changed unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.unit.vault.test_certificate_sample import (
    CHECKS,
    COPIES,
    LOG_KEY,
    OFFICERS,
    ORIGIN,
    PROPOSED,
    VKEY,
    WITNESS_KEY,
    approval,
    issue,
    make_body,
    outcomes,
    register,
    sanitisation,
    witness,
)
from vault.certificate.model import (
    BACKUP_UNREADABLE,
    CIPHERTEXT_ABSENT,
    CLAIMS,
    KEY_ABSENT,
    Body,
    Certificate,
    CertificateError,
    Check,
    Copy,
    Executor,
    Outcome,
    Recovery,
    Text,
    canonical,
    certificate_to_json,
    claim_for,
    digest,
    json_schema,
    make_claim,
    parse_certificate,
    register_digest,
)
from vault.certificate.statements import APPROVAL_NAMESPACE, approval_statement
from vault.certificate.verify import VerificationReport, verify_certificate
from vault.crypto.sshsig import sign
from vault.ledger.note import sign_note, verifier_key

BODY = make_body()
GOOD = issue(BODY)
DATA = certificate_to_json(GOOD)


def failed(report: VerificationReport) -> list[str]:
    """The names of the steps that failed; the report as a whole must agree with them."""
    names = [step.name for step in report.steps if not step.passed]
    assert report.passed == (not names)
    return names


def reissued(**changes: Any) -> VerificationReport:
    """Verify a changed body that a dishonest gateway put into its own ledger, properly proven."""
    body = msgspec.structs.replace(BODY, **changes)
    return verify_certificate(certificate_to_json(issue(body)), VKEY)


# --- the form ------------------------------------------------------------------------------------


def test_a_certificate_survives_writing_and_reading_byte_by_byte() -> None:
    again = parse_certificate(DATA)
    assert again == GOOD
    assert certificate_to_json(again) == DATA
    assert digest(again.body) == digest(BODY)


def test_anyone_can_compute_the_digest_with_a_plain_json_library() -> None:
    """The canonical form is what Python's own json makes with sorted keys and no spaces."""
    plain = json.loads(DATA)
    text = json.dumps(plain["body"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical(BODY) == text.encode()
    assert hashlib.sha256(text.encode()).hexdigest() == digest(BODY)
    rows = json.dumps(
        plain["body"]["register"], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert hashlib.sha256(rows.encode()).hexdigest() == plain["body"]["register_digest"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: json.dumps(json.loads(text)),
        lambda text: text.replace('"client": "acme"', '"client": "acme", "client": "acme"'),
        lambda text: text.replace("2056-02-01T07:00:00Z", "2056-02-01T07:00:00+00:00"),
        lambda text: text.replace('"size": 48211', '"size": 4.8211e4'),
        lambda text: text.replace('"acme"', '"\\u0061cme"'),
    ],
)
def test_the_same_content_in_another_form_is_refused(spoil: Callable[[str], str]) -> None:
    spoiled = spoil(DATA.decode()).encode()
    assert spoiled != DATA
    with pytest.raises(CertificateError):
        parse_certificate(spoiled)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": "strongroom-certificate-v1"', '"format": "strongroom-certificate-v2"'),
        ('"format": "strongroom-certificate-v1"', '"format": 1'),
        ('"client": "acme"', '"client": "acme", "name": "Acme Ltd"'),
        ('"client": "acme",', ""),
        ('"client": "acme"', '"client": "acme\\n"'),
        ('"client": "acme"', '"client": "Acme Ltd, Dongguan"'),
        ('"level": "L1"', '"level": "L4"'),
        ('"size": 48211', '"size": -1'),
        ('"size": 48211', '"size": true'),
        ("2056-02-01T07:00:00Z", "2056-02-01T07:00:00"),
        ("2056-02-01T07:00:00Z", "2056-02-30T07:00:00Z"),
        ('"state": "live"', '"state": "gone"'),
        (f'"commitment": "{0:064x}"', f'"commitment": "{0:063x}G"'),
        (f'"commitment": "{0:064x}"', f'"commitment": "{0:064x}\\n"'),
    ],
)
def test_a_field_too_many_too_few_or_out_of_range_is_refused(old: str, new: str) -> None:
    text = DATA.decode()
    assert old in text
    with pytest.raises(CertificateError):
        parse_certificate(text.replace(old, new, 1).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"format":"strongroom-certificate-v1"}',
    ],
)
def test_other_bytes_are_refused_with_an_error_of_the_vault(data: bytes) -> None:
    with pytest.raises(CertificateError):
        parse_certificate(data)
    report = verify_certificate(data, VKEY)
    assert [step.name for step in report.steps] == ["format"]
    assert failed(report) == ["format"]
    assert report.certificate_id is None


def test_a_certificate_that_no_reader_would_accept_is_never_written() -> None:
    for change in ({"client": "acme\n"}, {"issued_at": datetime(2056, 3, 1)}):  # noqa: DTZ001  the fault under test
        with pytest.raises(RuntimeError, match="expected values of their types"):
            certificate_to_json(
                msgspec.structs.replace(GOOD, body=msgspec.structs.replace(BODY, **change))
            )


def test_a_certificate_holds_no_plain_digest_and_no_name() -> None:
    names = set(msgspec.structs.asdict(BODY.register[0]))
    assert not names & {"name", "sha256", "digest", "sender", "subject"}


# --- verification: tampering ------------------------------------------------------------------------


def test_any_change_to_the_body_breaks_the_ledgers_digest() -> None:
    for old, new in [
        ('"client": "acme"', '"client": "acmf"'),
        ('"size": 48211', '"size": 48212'),
        ('"ledger_index": 40', '"ledger_index": 39'),
        (
            '"detail": "3 wrapped keys tried, 0 opened"',
            '"detail": "4 wrapped keys tried, 0 opened"',
        ),
        ('"state": "live"', '"state": "destroyed"'),
    ]:
        spoiled = DATA.decode().replace(old, new, 1).encode()
        assert spoiled != DATA
        assert "ledger entry" in failed(verify_certificate(spoiled, VKEY))


def test_another_ledger_key_fails_checkpoint_and_inclusion_even_under_the_same_name() -> None:
    other = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    vkey = verifier_key(ORIGIN, other.public_key())
    assert failed(verify_certificate(DATA, vkey)) == ["checkpoint", "inclusion"]


def test_the_key_in_the_file_is_never_the_one_that_is_trusted() -> None:
    """A forger who signs a tree of their own and names their own key in the file gets nowhere."""
    other = verifier_key("evil.example.org", LOG_KEY.public_key())
    changed = msgspec.structs.replace(GOOD.ledger, vkey=other, origin="evil.example.org")
    forged = Certificate(format=GOOD.format, body=BODY, ledger=changed)
    assert "checkpoint" in failed(verify_certificate(certificate_to_json(forged), VKEY))


@pytest.mark.parametrize("vkey", ["", "x", "a+b+c", VKEY + "x", VKEY.replace("+", " ", 1)])
def test_a_key_that_is_none_fails_and_does_not_raise(vkey: str) -> None:
    assert {"checkpoint", "inclusion"} <= set(failed(verify_certificate(DATA, vkey)))


def test_an_origin_other_than_the_expected_one_fails() -> None:
    assert failed(verify_certificate(DATA, VKEY, origin=ORIGIN)) == []
    assert failed(verify_certificate(DATA, VKEY, origin="other.example.org")) == ["checkpoint"]


def test_an_entry_of_another_kind_batch_or_digest_fails() -> None:
    for changes in (
        {"kind": "disposal.approved"},
        {"subject": "B-2056-0002"},
        {"facts": {}},
        {"facts": {"certificate_digest": digest(BODY).upper()}},
        {"facts": {"certificate_digest": None}},
    ):
        data = certificate_to_json(issue(BODY, **changes))
        assert failed(verify_certificate(data, VKEY)) == ["ledger entry"]


def test_an_entry_that_claims_another_place_in_the_tree_fails() -> None:
    data = certificate_to_json(issue(BODY, seq=5042))
    assert failed(verify_certificate(data, VKEY)) == ["inclusion"]


def test_an_entry_that_is_not_in_the_tree_fails() -> None:
    entry = GOOD.ledger.entry.replace(b'"actor":"core"', b'"actor":"cora"')
    assert entry != GOOD.ledger.entry
    ledger = msgspec.structs.replace(GOOD.ledger, entry=entry)
    data = certificate_to_json(msgspec.structs.replace(GOOD, ledger=ledger))
    assert failed(verify_certificate(data, VKEY)) == ["inclusion"]


@pytest.mark.parametrize("entry", [b"", b"\xff", b"{}", b"[]", b'{"kind":"disposal.certified"}'])
def test_an_entry_that_is_no_entry_fails_and_does_not_raise(entry: bytes) -> None:
    ledger = msgspec.structs.replace(GOOD.ledger, entry=entry)
    data = certificate_to_json(msgspec.structs.replace(GOOD, ledger=ledger))
    assert {"ledger entry", "inclusion"} <= set(failed(verify_certificate(data, VKEY)))


def test_a_damaged_proof_fails_and_does_not_raise() -> None:
    proof = GOOD.ledger.proof
    for spoiled in ("", proof[:100], proof.replace("index 5043", "index 5042"), proof + "x"):
        ledger = msgspec.structs.replace(GOOD.ledger, proof=spoiled)
        data = certificate_to_json(msgspec.structs.replace(GOOD, ledger=ledger))
        assert "inclusion" in failed(verify_certificate(data, VKEY))


# --- verification: what a dishonest or broken gateway could certify ----------------------------------


def test_a_register_other_than_the_approved_one_fails_register_and_signatures() -> None:
    larger = register(4)
    report = reissued(register=larger, outcomes=outcomes(larger))
    assert failed(report) == ["register", "signatures"]
    # Fixing the stated digest does not help: the signatures cover the register they saw.
    report = reissued(
        register=larger, outcomes=outcomes(larger), register_digest=register_digest(larger)
    )
    assert failed(report) == ["signatures"]


def test_outcomes_must_be_those_of_the_register_one_each_and_in_order() -> None:
    good = BODY.outcomes
    extra = Outcome(
        document_id="01JDEXTRA",
        result="destroyed",
        destroyed_at=good[0].destroyed_at,
        ledger_index=50,
    )
    for wrong in (good[:-1], good[::-1], (*good, extra), (good[0], good[0], good[2]), ()):
        assert failed(reissued(outcomes=wrong)) == ["register"]


def test_an_empty_or_repeating_register_fails() -> None:
    assert "register" in failed(verify_certificate(certificate_to_json(issue(make_body(0))), VKEY))
    twice = (*register(1), *register(1))
    body = make_body(register=twice)
    assert failed(verify_certificate(certificate_to_json(issue(body)), VKEY)) == ["register"]


@pytest.mark.parametrize(
    "change",
    [
        {"destroyed_at": None},
        {"ledger_index": None},
        {"ledger_index": 5043},
        {"ledger_index": 41},
        {"result": "withdrawn"},
        {"result": "withdrawn", "destroyed_at": None, "ledger_index": None},
    ],
)
def test_an_outcome_that_does_not_add_up_fails(change: dict[str, Any]) -> None:
    first = msgspec.structs.replace(BODY.outcomes[0], **change)
    assert failed(reissued(outcomes=(first, *BODY.outcomes[1:]))) == ["register"]


def test_an_item_withdrawn_with_its_reason_is_an_honest_outcome() -> None:
    withdrawn = Outcome(
        document_id=BODY.register[0].document_id,
        result="withdrawn",
        destroyed_at=None,
        ledger_index=None,
        reason="a hold was placed after the approval",
    )
    report = reissued(outcomes=(withdrawn, *BODY.outcomes[1:]))
    assert failed(report) == []
    assert report.steps[4].detail == "2 of 3 items destroyed, 1 withdrawn"


def test_one_approver_is_not_enough_and_none_certainly_not() -> None:
    assert failed(reissued(approvals=BODY.approvals[:1])) == ["people"]
    assert failed(reissued(approvals=())) == ["people", "signatures"]


def test_one_person_with_two_accounts_or_two_keys_does_not_count_twice() -> None:
    entries = BODY.register
    chen = BODY.approvals[0]
    same_key = approval("officer-li", entries, key=OFFICERS["officer-chen"])
    assert failed(reissued(approvals=(chen, same_key))) == ["people"]
    same_account = approval("officer-chen", entries, key=OFFICERS["officer-li"])
    assert failed(reissued(approvals=(chen, same_account))) == ["people"]


def test_the_executor_is_none_of_the_approvers() -> None:
    executor = Executor(account="officer-li", role="archivist")
    assert failed(reissued(executor=executor)) == ["people"]


def test_a_rejection_among_the_approvals_fails() -> None:
    rejection = approval("officer-li", BODY.register, decision="reject")
    assert failed(reissued(approvals=(BODY.approvals[0], rejection))) == ["people"]


def test_a_signature_over_another_batch_role_or_purpose_fails() -> None:
    key = OFFICERS["officer-chen"]
    good = BODY.approvals[0]
    facts: dict[str, Any] = {
        "batch_id": BODY.batch_id,
        "client": BODY.client,
        "register_digest": BODY.register_digest,
        "items": 3,
        "scope": "documents",
        "decision": "approve",
        "account": "officer-chen",
        "role": "officer",
    }
    assert approval_statement(**facts) == good.statement
    for change in (
        {"batch_id": "B-2056-0002"},
        {"client": "other"},
        {"items": 2},
        {"scope": "client"},
        {"account": "officer-li"},
        {"role": "admin"},
        {"decision": "reject"},
    ):
        statement = approval_statement(**{**facts, **change})
        signature = sign(key, statement.encode(), APPROVAL_NAMESPACE)
        changed = msgspec.structs.replace(good, statement=statement, signature=signature)
        assert failed(reissued(approvals=(changed, BODY.approvals[1]))) == ["signatures"]
    elsewhere = sign(key, good.statement.encode(), "file")
    changed = msgspec.structs.replace(good, signature=elsewhere)
    assert failed(reissued(approvals=(changed, BODY.approvals[1]))) == ["signatures"]


def test_a_signature_by_a_key_other_than_the_one_stated_fails() -> None:
    stated = approval("officer-chen", BODY.register, fingerprint="SHA256:" + "A" * 43)
    assert failed(reissued(approvals=(stated, BODY.approvals[1]))) == ["signatures"]
    unsigned = msgspec.structs.replace(BODY.approvals[0], signature="")
    assert failed(reissued(approvals=(unsigned, BODY.approvals[1]))) == ["signatures"]


def test_each_approvers_fingerprint_is_reported_for_comparison() -> None:
    report = verify_certificate(DATA, VKEY)
    detail = next(step.detail for step in report.steps if step.name == "signatures")
    for item in BODY.approvals:
        assert f"{item.account} {item.fingerprint}" in detail


def _moved(days: int) -> datetime:
    return PROPOSED + timedelta(days=days)


@pytest.mark.parametrize(
    "change",
    [
        {"proposed_at": datetime.fromisoformat("2055-12-31T15:59:59+00:00")},
        {"proposed_at": _moved(1)},
        {"executed_at": PROPOSED + timedelta(hours=1)},
        {"executed_at": _moved(1)},
        {"issued_at": PROPOSED + timedelta(hours=4, minutes=30)},
        {"issued_at": PROPOSED},
    ],
)
def test_times_in_an_impossible_order_fail(change: dict[str, Any]) -> None:
    assert failed(reissued(**change)) == ["dates"]


def test_destruction_one_second_before_execution_began_fails() -> None:
    early = BODY.executed_at - timedelta(seconds=1)
    first = msgspec.structs.replace(BODY.outcomes[0], destroyed_at=early)
    assert failed(reissued(outcomes=(first, *BODY.outcomes[1:]))) == ["dates"]


def test_an_item_not_yet_eligible_when_proposed_fails_however_well_approved() -> None:
    late = msgspec.structs.replace(BODY.register[0], eligible_at=PROPOSED + timedelta(seconds=1))
    body = make_body(register=(late, *BODY.register[1:]))
    assert failed(verify_certificate(certificate_to_json(issue(body)), VKEY)) == ["dates"]


def test_an_item_eligible_before_its_period_had_run_fails() -> None:
    early = BODY.register[0].retained_until - timedelta(seconds=1)
    wrong = msgspec.structs.replace(BODY.register[0], eligible_at=early)
    body = make_body(register=(wrong, *BODY.register[1:]))
    assert failed(verify_certificate(certificate_to_json(issue(body)), VKEY)) == ["dates"]


# --- claims ----------------------------------------------------------------------------------------

LIVE = COPIES[2]
KEYLESS = Copy(place="s3://copies/strongroom", kind="backup", state="keyless", expires=None)
SAMPLED = Check(name=BACKUP_UNREADABLE, result="passed", detail="1 of 3 documents tried")


@pytest.mark.parametrize(
    ("checks", "copies", "level"),
    [
        (CHECKS, COPIES, "L1"),
        (CHECKS, COPIES[:2], "L2"),
        (CHECKS, (), "L2"),
        (
            CHECKS,
            (Copy(place="p", kind="backup", state="expired", expires=date(2056, 1, 1)),),
            "L2",
        ),
        (CHECKS, (msgspec.structs.replace(LIVE, expires=None),), "L1"),
        (CHECKS, (LIVE, msgspec.structs.replace(LIVE, state="unknown")), "L0"),
        ((*CHECKS, Check(name="any", result="not_checked", detail="")), (), "L1"),
        (CHECKS, (KEYLESS,), "L1"),
        ((*CHECKS, SAMPLED), (KEYLESS,), "L2"),
        ((*CHECKS, msgspec.structs.replace(SAMPLED, result="not_checked")), (KEYLESS,), "L1"),
        ((*CHECKS, msgspec.structs.replace(SAMPLED, result="failed")), (KEYLESS,), "L0"),
        ((*CHECKS, SAMPLED), (KEYLESS, LIVE), "L1"),
        (CHECKS, (msgspec.structs.replace(LIVE, state="unknown"),), "L0"),
        (CHECKS[1:], (), "L0"),
        (CHECKS[:1], (), "L0"),
        ((), (), "L0"),
        ((*CHECKS, Check(name="any", result="failed", detail="")), (), "L0"),
        ((Check(name=KEY_ABSENT, result="not_checked", detail=""), CHECKS[1]), (), "L0"),
        ((CHECKS[0], Check(name=CIPHERTEXT_ABSENT, result="failed", detail="")), (), "L0"),
    ],
)
def test_a_claim_reaches_as_far_as_the_checks_and_copies_carry_it(
    checks: tuple[Check, ...], copies: tuple[Copy, ...], level: str
) -> None:
    assert claim_for(checks, copies) == level


def test_a_claim_above_what_was_checked_fails_and_one_below_does_not() -> None:
    assert failed(reissued(claim=make_claim("L2"))) == ["claim"]
    assert failed(reissued(claim=make_claim("L3"))) == ["claim"]
    assert failed(reissued(claim=make_claim("L0"))) == []
    assert failed(reissued(checks=())) == ["claim"]


def test_a_claim_in_other_words_than_its_level_fails() -> None:
    limits = Text(en="None.", zh="无。")
    assert failed(reissued(limits=limits)) == ["claim"]
    praise = msgspec.structs.replace(make_claim("L1"), sentence=CLAIMS["L2"])
    assert failed(reissued(claim=praise)) == ["claim"]


def test_a_sanitised_medium_raises_the_claim_only_where_no_copy_lives() -> None:
    media = (sanitisation(),)
    assert claim_for(CHECKS, COPIES[:2], media) == "L3"
    assert claim_for(CHECKS, COPIES, media) == "L1"
    assert claim_for(CHECKS[1:], COPIES[:2], media) == "L0"
    body = make_body(copies=COPIES[:2], sanitisations=media)
    assert body.claim.level == "L3"
    report = verify_certificate(certificate_to_json(issue(body)), VKEY)
    assert failed(report) == []


@pytest.mark.parametrize(
    "change",
    [
        {"serial": "S6Z1NX0T999999"},
        {"method": "IEEE 2883 Destruct"},
        {"account": "officer-li"},
        {"fingerprint": "SHA256:" + "A" * 43},
        {"signature": ""},
    ],
)
def test_a_sanitisation_other_than_the_one_signed_fails(change: dict[str, Any]) -> None:
    forged = msgspec.structs.replace(sanitisation(), **change)
    body = make_body(copies=COPIES[:2], sanitisations=(forged,))
    assert failed(verify_certificate(certificate_to_json(issue(body)), VKEY)) == ["signatures"]


@pytest.mark.parametrize(
    "change",
    [
        {"performed_on": date(2056, 1, 30)},
        {"performed_on": date(2056, 2, 3)},
        {"recorded_at": PROPOSED},
        {"recorded_at": PROPOSED + timedelta(hours=7)},
    ],
)
def test_a_medium_sanitised_before_the_destruction_or_recorded_after_the_issue_fails(
    change: dict[str, Any],
) -> None:
    body = make_body(copies=COPIES[:2], sanitisations=(sanitisation(**change),))
    assert failed(verify_certificate(certificate_to_json(issue(body)), VKEY)) == ["dates"]


def test_a_line_break_in_a_mediums_name_is_refused_before_it_can_pass_for_another_line() -> None:
    forged = sanitisation(medium="SSD\nserial: X")
    with pytest.raises(RuntimeError, match="expected values of their types"):
        certificate_to_json(issue(make_body(copies=COPIES[:2], sanitisations=(forged,))))


# --- witnesses ---------------------------------------------------------------------------------------


def test_a_witness_who_signed_after_the_destruction_is_reported() -> None:
    report = reissued(witnesses=(witness(BODY.register),))
    assert failed(report) == []
    assert "witnessed by auditor-zhao" in report.steps[5].detail
    assert "auditor-zhao SHA256:" in report.steps[6].detail


def test_a_witness_is_none_of_those_who_approved_or_executed() -> None:
    for account in ("officer-chen", "archivist-wang"):
        watched = witness(BODY.register, account=account)
        assert failed(reissued(witnesses=(watched,))) == ["people"]
    same_key = witness(BODY.register, key=OFFICERS["officer-chen"])
    assert failed(reissued(witnesses=(same_key,))) == ["people"]
    assert failed(reissued(witnesses=(witness(BODY.register),) * 2)) == ["people"]


def test_a_witness_of_another_register_or_purpose_or_time_fails() -> None:
    other = witness(register(4))
    assert failed(reissued(witnesses=(other,))) == ["signatures"]
    good = witness(BODY.register)
    elsewhere = sign(WITNESS_KEY, good.statement.encode(), APPROVAL_NAMESPACE)
    changed = msgspec.structs.replace(good, signature=elsewhere)
    assert failed(reissued(witnesses=(changed,))) == ["signatures"]
    for moment in (BODY.executed_at - timedelta(seconds=1), BODY.issued_at + timedelta(seconds=1)):
        moved = msgspec.structs.replace(good, signed_at=moment)
        assert failed(reissued(witnesses=(moved,))) == ["dates"]


# --- follow-ups --------------------------------------------------------------------------------------

RAISED = msgspec.structs.replace(
    BODY,
    certificate_id="C-2056-0002",
    follows=BODY.certificate_id,
    issued_at=BODY.issued_at + timedelta(days=90),
    copies=(*COPIES[:2], msgspec.structs.replace(LIVE, state="expired")),
    claim=make_claim("L2"),
)


def follow_up(earlier: bytes | None = DATA, **changes: Any) -> VerificationReport:
    body = msgspec.structs.replace(RAISED, **changes)
    return verify_certificate(certificate_to_json(issue(body)), VKEY, earlier=earlier)


def test_a_follow_up_verifies_alone_and_beside_the_certificate_it_raises() -> None:
    assert failed(follow_up()) == []
    assert follow_up().steps[-1].detail == "L1 in C-2056-0001, L2 here, 0 statements more"
    assert failed(follow_up(None)) == []
    assert "not at hand" in follow_up(None).steps[-1].detail


def test_a_follow_up_of_itself_or_without_a_claim_fails_even_alone() -> None:
    assert failed(follow_up(None, certificate_id=BODY.certificate_id)) == ["succession"]
    assert failed(follow_up(None, claim=make_claim("L0"))) == ["succession"]


@pytest.mark.parametrize(
    "change",
    [
        {"follows": "C-2056-0009"},
        {"follows": None},
        {"groups_ended": ("G01",)},
        {"proposed_by": "somebody"},
        {"issued_at": BODY.issued_at - timedelta(minutes=1)},
        {"claim": make_claim("L1")},
        {"executor": Executor(account="archivist-xu", role="archivist")},
    ],
)
def test_a_follow_up_that_changes_what_was_done_or_raises_nothing_fails(
    change: dict[str, Any],
) -> None:
    # What approvers signed for is in their statements, too.
    assert failed(follow_up(**change))[-1] == "succession"


RECOVERY = Recovery(since=BODY.issued_at - timedelta(days=9), accounts=("officer-new",))


def test_an_unreviewed_recovery_is_stated_only_where_there_is_one() -> None:
    assert b"unreviewed_recovery" not in DATA
    stated = issue(make_body(unreviewed_recovery=RECOVERY))
    data = certificate_to_json(stated)
    assert parse_certificate(data) == stated
    assert failed(verify_certificate(data, VKEY)) == []
    # A field without a value would be a second form of the same certificate.
    nothing = DATA.replace(b'"witnesses":', b'"unreviewed_recovery": null,\n    "witnesses":')
    with pytest.raises(CertificateError):
        parse_certificate(nothing)


def test_a_recovery_after_the_certificate_was_issued_fails() -> None:
    late = msgspec.structs.replace(RECOVERY, since=BODY.issued_at + timedelta(seconds=1))
    data = certificate_to_json(issue(make_body(unreviewed_recovery=late)))
    assert failed(verify_certificate(data, VKEY)) == ["dates"]


def test_a_follow_up_may_state_a_recovery_and_never_leaves_one_out() -> None:
    assert failed(follow_up(unreviewed_recovery=RECOVERY)) == []
    earlier = certificate_to_json(
        issue(msgspec.structs.replace(BODY, unreviewed_recovery=RECOVERY))
    )
    assert failed(follow_up(earlier)) == ["succession"]
    assert failed(follow_up(earlier, unreviewed_recovery=RECOVERY)) == []


def test_a_scope_wider_than_the_one_approved_fails_in_a_follow_up_or_not() -> None:
    assert failed(reissued(scope="client")) == ["signatures"]
    assert failed(follow_up(scope="client")) == ["signatures", "succession"]


def test_a_follow_up_may_add_a_witness_and_may_not_drop_one() -> None:
    watched = (witness(BODY.register),)
    assert failed(follow_up(witnesses=watched)) == []
    # A witness is enough to follow with, whatever the level.
    same = {"copies": COPIES, "claim": make_claim("L1")}
    assert failed(follow_up(witnesses=watched, **same)) == []
    lowered = make_claim("L0")
    assert failed(follow_up(None, witnesses=watched, claim=lowered)) == []
    assert failed(follow_up(witnesses=watched, claim=lowered)) == ["succession"]
    before = msgspec.structs.replace(BODY, witnesses=watched)
    assert failed(follow_up(certificate_to_json(issue(before)))) == ["succession"]


def test_an_earlier_certificate_that_is_none_fails_and_does_not_raise() -> None:
    assert failed(follow_up(b"")) == ["succession"]


# --- keys that rotate --------------------------------------------------------------------------------


def test_any_of_the_keys_that_a_ledger_has_had_is_enough() -> None:
    newer = verifier_key(
        ORIGIN, ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32).public_key()
    )
    assert failed(verify_certificate(DATA, [newer, VKEY])) == []
    assert failed(verify_certificate(DATA, (VKEY, newer))) == []
    assert failed(verify_certificate(DATA, [newer])) == ["checkpoint", "inclusion"]
    assert failed(verify_certificate(DATA, [])) == ["checkpoint", "inclusion"]


def test_a_note_that_two_keys_have_signed_verifies_with_either() -> None:
    other = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    text = GOOD.ledger.proof.partition("\n\n")[2].rpartition("\n\n")[0] + "\n"
    second = sign_note(text, ORIGIN, other).rpartition("\n\n")[2]
    ledger = msgspec.structs.replace(GOOD.ledger, proof=GOOD.ledger.proof + second)
    data = certificate_to_json(msgspec.structs.replace(GOOD, ledger=ledger))
    for key in (LOG_KEY, other):
        assert failed(verify_certificate(data, verifier_key(ORIGIN, key.public_key()))) == []


def test_the_key_that_the_file_names_must_have_signed_even_beside_a_trusted_one() -> None:
    other = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    named = verifier_key(ORIGIN, other.public_key())
    ledger = msgspec.structs.replace(GOOD.ledger, vkey=named)
    data = certificate_to_json(msgspec.structs.replace(GOOD, ledger=ledger))
    assert failed(verify_certificate(data, [VKEY, named])) == ["checkpoint"]


# --- the published schema ----------------------------------------------------------------------------

PUBLISHED = Path(__file__).resolve().parents[3] / "docs" / "certificate.schema.json"


def test_the_published_schema_is_the_one_of_this_format() -> None:
    """To renew it: `strongroom certificate schema > docs/certificate.schema.json`."""
    assert PUBLISHED.read_bytes() == json_schema()


def test_a_json_schema_validator_accepts_certificates_and_refuses_what_is_none() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="no JSON Schema validator is installed")
    schema = json.loads(PUBLISHED.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    everything = msgspec.structs.replace(
        RAISED, witnesses=(witness(BODY.register),), sanitisations=(sanitisation(),)
    )
    for body in (BODY, everything):
        assert check.is_valid(json.loads(certificate_to_json(issue(body))))
    for spoil in (
        lambda whole: whole.update(format="other"),
        lambda whole: whole["body"].pop("limits"),
        lambda whole: whole["body"].update(name="Acme Ltd"),
        lambda whole: whole["body"].update(register_digest="0" * 63),
        lambda whole: whole["body"]["claim"].update(level="L4"),
        lambda whole: whole["body"]["copies"][0].update(state="gone"),
        lambda whole: whole["body"]["register"][0].update(size=-1),
    ):
        whole = json.loads(DATA)
        spoil(whole)
        assert not check.is_valid(whole)


def test_no_claim_or_limit_says_that_anything_is_irrecoverable() -> None:
    words = " ".join(text.en + text.zh for text in (*CLAIMS.values(), BODY.limits)).lower()
    for word in ("irrecoverable", "unrecoverable", "permanently", "不可恢复", "无法恢复"):
        assert word not in words


def test_verification_needs_neither_a_database_nor_the_rest_of_the_vault(tmp_path: Path) -> None:
    """An auditor's machine has the file, the key and these modules; nothing opens a store."""
    import subprocess
    import sys

    code = "import sys; import vault.certificate.verify; print('sqlalchemy' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_body_type_is_what_the_sample_is_made_of() -> None:
    assert msgspec.json.decode(canonical(BODY), type=Body) == BODY
