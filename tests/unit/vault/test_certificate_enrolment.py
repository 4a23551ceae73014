"""How the keys that signed were enrolled: stated, and refused by both verifiers where one person did it."""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.unit.vault.test_certificate_sample import (
    COPIES,
    ENROLLED,
    OFFICERS,
    PROPOSED,
    VKEY,
    WITNESS_KEY,
    account_id,
    approval,
    enrolled,
    enrolment,
    issue,
    make_body,
    register,
    sanitisation,
    witness,
)
from vault.certificate.enrolment import Enroller
from vault.certificate.model import (
    Body,
    CertificateError,
    Recovery,
    certificate_to_json,
    parse_certificate,
)
from vault.certificate.pdf import words
from vault.certificate.verify import verify_certificate

SCRIPT = Path(__file__).resolve().parents[3] / "docs" / "verify_certificate.py"
ENTRIES = register()
SECOND = timedelta(seconds=1)
MALLORY = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)


def load() -> Callable[[bytes, list[str]], str]:
    spec = importlib.util.spec_from_file_location("verify_certificate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[bytes, list[str]], str] = module.verify
    return found


stand_alone = load()


def step(body: Body, name: str = "enrolments") -> Any:
    report = verify_certificate(certificate_to_json(issue(body)), VKEY)
    return next(each for each in report.steps if each.name == name)


def approved(*signed: Any) -> Body:
    return make_body(approvals=signed)


def li(*by: str, **changes: Any) -> Body:
    """The sample with the second approver's key enrolled so."""
    return enrolled(li=enrolment("officer-li", *by, **changes))


def watched(*by: str, role: str = "auditor", **changes: Any) -> Body:
    stated = enrolment("auditor-zhao", *by, key=WITNESS_KEY, **changes)
    watcher = witness(ENTRIES, role=role, enrolment=stated)
    return msgspec.structs.replace(enrolled(), witnesses=(watcher,))


def stated_of_media(**changes: Any) -> Body:
    """A sanitisation by an administrator whose key the console gave it."""
    word = sanitisation(
        account="admin",
        key=MALLORY,
        enrolment=enrolment("admin", key=MALLORY, **{"enrolled_by": "console", **changes}),
    )
    return msgspec.structs.replace(
        enrolled(), sanitisations=(word,), copies=COPIES[:2],
        claim=make_body(copies=COPIES[:2], sanitisations=(word,)).claim,
    )  # fmt: skip


def renamed(to: str) -> Body:
    """A sanitisation that the first approver states under another name, with the key that approved."""
    mine = enrolment("officer-chen")
    word = sanitisation(account=to, enrolment=mine)
    return msgspec.structs.replace(
        enrolled(), sanitisations=(word,), copies=COPIES[:2],
        claim=make_body(copies=COPIES[:2], sanitisations=(word,)).claim,
    )  # fmt: skip


SOUND = {
    "by its owner": li("officer-li"),
    "in the founding days": li(),
    "by two others": li("officer-chen", "officer-sun"),
    "by one other and the root key": li("officer-chen", together_with="root-key"),
    "counting from the very proposal": li("officer-li", counts_from=PROPOSED),
    "a witness of the console's": watched(enrolled_by="console"),
    "a witness an officer answers for": watched("officer-chen"),
    "a witness who is an officer": watched("officer-chen", "officer-sun", role="officer"),
    "a witness enrolled after the proposal": watched(counts_from=PROPOSED + timedelta(hours=5)),
    "a sanitisation": stated_of_media(),
    "a sanitisation by an approver of another name since": renamed("officer-wen"),
    "an enroller of another name since": enrolled(
        li=enrolment("officer-li", enrolled_by=(
            Enroller(account="officer-wen", account_id=account_id("officer-chen")),
            Enroller(account="officer-sun", account_id=account_id("officer-sun")),
        )),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_both_verifiers_accept_a_key_that_came_to_its_owner_as_it_should(name: str) -> None:
    data = certificate_to_json(issue(SOUND[name]))
    report = verify_certificate(data, VKEY)
    assert report.passed, [each for each in report.steps if not each.passed]
    assert stand_alone(data, [VKEY]).startswith("Verified: ")


# Body, what the product's step says, what the stand-alone program says.
REFUSED: dict[str, tuple[Body, str, str]] = {
    "by one other person": (
        li("officer-chen"),
        ("key of officer-li: expected it enrolled by itself, by two others or in the founding days,"
        " found it enrolled by officer-chen alone"),
        "key of officer-li: enrolled by officer-chen alone",
    ),
    "by one other person, named twice": (
        li("officer-chen", "officer-chen"),
        "found it enrolled by officer-chen and officer-chen",
        "enrolled by officer-chen and officer-chen alone",
    ),
    "by its owner and one other person": (
        li("officer-li", "officer-chen"),
        "found it enrolled by officer-li and officer-chen",
        "enrolled by officer-li and officer-chen alone",
    ),
    "by its owner, one other person and the root key": (
        li("officer-li", "officer-chen", together_with="root-key"),
        "found it enrolled by officer-li and officer-chen and the holder of the root key",
        "enrolled by officer-li and officer-chen and the holder of the root key alone",
    ),
    "by the console and the root key": (
        li(enrolled_by="console", together_with="root-key"),
        "found it enrolled by the console",
        "enrolled at the console and the holder of the root key alone",
    ),
    "by the console": (
        li(enrolled_by="console"),
        "found it enrolled by the console",
        "key of officer-li: enrolled at the console alone",
    ),
    "an officer who witnesses, by one other person": (
        watched("officer-chen", role="officer"),
        "key of auditor-zhao: expected it enrolled by itself",
        "key of auditor-zhao: enrolled by officer-chen alone",
    ),
    "counting a second after the proposal": (
        li("officer-li", counts_from=PROPOSED + SECOND),
        ("key of officer-li: expected one added, and counting, by 2056-02-01 01:00:00+00:00, when the"
        " batch was proposed, found one added at 2054-12-28 01:00:00+00:00 that counts from"
        " 2056-02-01 01:00:01+00:00"),
        ("key of officer-li: it did not count by 2056-02-01 01:00:00+00:00, but from"
        " 2056-02-01 01:00:01+00:00"),
    ),
    "counting before it was added": (
        li("officer-li", counts_from=ENROLLED - SECOND),
        "key of officer-li: expected one added, and counting",
        "key of officer-li: it did not count by",
    ),
    "a witness's, counting after it signed": (
        watched(counts_from=PROPOSED + timedelta(hours=5, minutes=31)),
        ("key of auditor-zhao: expected one added, and counting, by 2056-02-01 06:30:00+00:00, when it"
        " signed"),
        "key of auditor-zhao: it did not count by 2056-02-01 06:30:00+00:00",
    ),
    "a sanitisation's, counting after it was recorded": (
        stated_of_media(counts_from=PROPOSED + timedelta(hours=5, minutes=46)),
        "key of admin: expected one added",
        "key of admin: it did not count",
    ),
    "the enrolment of another key": (
        li("officer-li", key=MALLORY),
        "key of officer-li: expected the enrolment of SHA256:",
        "key of officer-li: the enrolment of another key is stated",
    ),
    "one account under two names": (
        li(account_id=account_id("officer-chen")),
        f"id {account_id('officer-chen')}: expected one owner, found officer-chen and officer-li",
        f"{account_id('officer-chen')}: it belongs to both officer-chen and officer-li",
    ),
    "one enroller under two names": (
        li("officer-sun", "officer-xu", enrolled_by=(
            Enroller(account="officer-sun", account_id="01X"),
            Enroller(account="officer-xu", account_id="01X"),
        )),
        "found it enrolled by officer-sun and officer-xu",
        "key of officer-li: of those who enrolled it, one has two names or two have one",
    ),
    "one enroller with two ids": (
        li("officer-sun", "officer-sun", enrolled_by=(
            Enroller(account="officer-sun", account_id="01X"),
            Enroller(account="officer-sun", account_id="01Y"),
        )),
        "account officer-sun: expected one owner, found 01X and 01Y",
        "key of officer-li: of those who enrolled it, one has two names or two have one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_both_verifiers_refuse_a_key_that_did_not_and_say_which(name: str) -> None:
    body, ours, theirs = REFUSED[name]
    data = certificate_to_json(issue(body))
    report = verify_certificate(data, VKEY)
    assert [each.name for each in report.steps if not each.passed] == ["enrolments"]
    assert ours in step(body).detail
    with pytest.raises(ValueError, match=re.escape(theirs)):
        stand_alone(data, [VKEY])


HANDS = ("officer-li", "officer-chen", "officer-sun")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_both_verifiers_agree_on_every_list_of_enrollers(count: int) -> None:
    """In any order and with repetitions: its owner alone passes, and others if they are two."""
    for by in itertools.product(HANDS, repeat=count):
        data = certificate_to_json(issue(li(*by)))
        fine = by == ("officer-li",) or ("officer-li" not in by and len(set(by)) == 2)
        assert verify_certificate(data, VKEY).passed == fine, by
        if fine:
            assert stand_alone(data, [VKEY])
        else:
            with pytest.raises(ValueError, match="key of officer-li: enrolled by"):
                stand_alone(data, [VKEY])


def test_one_key_under_two_names_is_refused_by_both_verifiers() -> None:
    chen = OFFICERS["officer-chen"]
    body = approved(
        approval("officer-chen", ENTRIES, enrolment=enrolment("officer-chen")),
        approval(
            "officer-li", ENTRIES, key=chen, enrolment=enrolment("officer-li", "officer-li", key=chen)
        ),
    )  # fmt: skip
    found = step(body)
    assert not found.passed
    assert "expected one owner, found officer-chen and officer-li" in found.detail
    assert not step(body, "people").passed
    with pytest.raises(ValueError, match="people: one key under two names"):
        stand_alone(certificate_to_json(issue(body)), [VKEY])


def test_the_key_of_an_approver_that_states_a_sanitisation_for_another_is_refused_by_both() -> None:
    chen = OFFICERS["officer-chen"]
    mark = enrolment("officer-chen").fingerprint
    word = sanitisation(
        account="admin", key=chen, enrolment=enrolment("admin", key=chen, enrolled_by="console")
    )
    body = msgspec.structs.replace(enrolled(), sanitisations=(word,))
    assert step(body).detail == f"key {mark}: expected one owner, found officer-chen and admin"
    with pytest.raises(ValueError, match="it belongs to both officer-chen and admin"):
        stand_alone(certificate_to_json(issue(body)), [VKEY])


def test_a_certificate_from_before_verifies_and_both_say_that_enrolment_is_not_stated() -> None:
    old = make_body()
    data = certificate_to_json(issue(old))
    assert b"enrolment" not in data
    assert verify_certificate(data, VKEY).passed
    assert step(old).detail == (
        "of officer-chen and officer-li it is not stated, as in certificates made before it was"
    )
    assert stand_alone(data, [VKEY]).count("how its key was enrolled is not stated") == 2


def test_what_is_seen_of_each_enrolment_is_told_by_both() -> None:
    body = li("officer-chen", "officer-sun")
    assert step(body).detail == (
        "the key of officer-chen was enrolled in the founding days on 2054-12-28; "
        "the key of officer-li was enrolled by officer-chen and officer-sun on 2054-12-28"
    )
    told = stand_alone(certificate_to_json(issue(body)), [VKEY])
    assert "enrolled 2054-12-28 01:00:00+00:00 at the founding" in told
    assert "by officer-chen and officer-sun, counts from 2054-12-31 01:00:00+00:00" in told


def test_an_approval_from_before_stands_beside_one_that_states_its_enrolment() -> None:
    """Signed before and after the gateway learned to state it, in one batch."""
    body = approved(
        approval("officer-chen", ENTRIES),
        approval("officer-li", ENTRIES, enrolment=enrolment("officer-li")),
    )
    data = certificate_to_json(issue(body))
    assert verify_certificate(data, VKEY).passed
    assert stand_alone(data, [VKEY])
    assert "of officer-chen it is not stated" in step(body).detail


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"enrolled_by": "founding"', '"enrolled_by": "nobody"'),
        ('"enrolled_by": "founding"', '"enrolled_by": []'),
        ('"enrolled_by": "founding"', '"enrolled_by": null'),
        ('"added_at": "2054-12-28T01:00:00Z"', '"added_at": "2054-12-28T01:00:00"'),
        ('"added_at": "2054-12-28T01:00:00Z",', ""),
        ('"added_at":', '"by": "me",\n          "added_at":'),
    ],
)
def test_an_enrolment_of_another_form_is_refused(old: str, new: str) -> None:
    text = certificate_to_json(issue(enrolled())).decode()
    assert old in text
    with pytest.raises(CertificateError, match="expected format"):
        parse_certificate(text.replace(old, new, 1).encode())


def test_an_enrolment_that_is_null_is_not_one_left_out() -> None:
    plain = msgspec.json.decode(certificate_to_json(issue(make_body())))
    plain["body"]["approvals"][0]["enrolment"] = None
    with pytest.raises(CertificateError, match="expected format"):
        parse_certificate(msgspec.json.format(msgspec.json.encode(plain, order="sorted")) + b"\n")


def test_the_stand_alone_verifier_says_that_a_recovery_is_not_reviewed() -> None:
    body = li("officer-chen", together_with="root-key")
    recovery = Recovery(since=PROPOSED - SECOND, accounts=("officer-li",))
    stated = msgspec.structs.replace(body, unreviewed_recovery=recovery)
    said = stand_alone(certificate_to_json(issue(stated)), [VKEY])
    assert "by officer-chen and the holder of the root key" in said
    assert said.splitlines()[-1].startswith("A quorum was restored by recovery on 20")
    late = msgspec.structs.replace(recovery, since=body.issued_at + SECOND)
    stated = msgspec.structs.replace(body, unreviewed_recovery=late)
    with pytest.raises(Exception, match="recovery: after the certificate"):
        stand_alone(certificate_to_json(issue(stated)), [VKEY])


def test_the_print_names_the_root_keys_holder_beside_the_officer() -> None:
    stated = enrolment("officer-li", "officer-chen", together_with="root-key")
    told = words.enrolled("officer-li", stated, UTC)
    assert told.en.endswith("by officer-chen and the holder of the root key")
    assert "officer-chen 与 根密钥持有人" in told.zh
