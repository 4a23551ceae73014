"""A certificate says of each signature when and by whom its key was enrolled, as it was when it signed."""

from __future__ import annotations

import importlib.util
import json
from datetime import date, datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import create_engine, select, update

from gateway.core.admin import second_officer
from gateway.core.login import enrolments
from tests.support.house import START, House
from vault.catalogue.schema import account_keys, accounts, approvals
from vault.catalogue.store import migrate
from vault.certificate.verify import verify_certificate
from vault.crypto import sshsig

NOTE = "demonstration-note"
SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "verify_certificate.py"
WAITED = timedelta(hours=73)
MEDIUM = {
    "medium": "Example SSD 1 TB", "serial": "EX-0001", "method": "IEEE 2883 Purge",
    "performed_on": date(2026, 11, 22).isoformat(), "place": "server room",
}  # fmt: skip


def stand_alone(text: str, vkey: str) -> str:
    spec = importlib.util.spec_from_file_location("verify_certificate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.verify(text.encode(), [vkey])


async def verified(house, certificate: str) -> tuple[dict, str, str]:
    """A certificate's body that both verifiers accept, and what each says of its enrolments."""
    shown = await house.act("certificate.show", id=certificate)
    report = verify_certificate(shown["json"].encode(), shown["vkey"])
    assert report.passed, [step for step in report.steps if not step.passed]
    said = next(step.detail for step in report.steps if step.name == "enrolments")
    return json.loads(shown["json"])["body"], said, stand_alone(shown["json"], shown["vkey"])


async def destroyed(house, by: tuple[str, str] = ("officer1", "officer2")) -> tuple[str, str]:
    """A batch approved by these two and executed by the third officer; its id and certificate."""
    (batch,) = await house.act("disposal.propose")
    for officer in by:
        await house.approve(batch["id"], officer)
    (executor,) = {"officer1", "officer2", "officer3"} - set(by)
    done = await house.act("disposal.execute", by=executor, id=batch["id"])
    return batch["id"], done["certificate"]


async def attest(house, account: str, batch: str, kind: str, **facts) -> dict:
    asked = await house.act("disposal.attestation", id=batch, account=account, kind=kind, **facts)
    signature = sshsig.sign(house.keys[account], asked["statement"].encode(), asked["namespace"])
    return await house.act(
        "disposal.attest", id=batch, account=account, kind=kind, signature=signature, **facts
    )


async def give(house, name: str, *by: str) -> Ed25519PrivateKey:
    """A new key for an officer, signed for by these."""
    new = Ed25519PrivateKey.generate()
    for officer in by:
        await house.act("account.key", by=officer, name=name, add=sshsig.public_line(new))
    return new


async def id_of(house, name: str) -> str:
    return next(each["id"] for each in await house.act("account.list") if each["name"] == name)


@pytest.mark.parametrize(
    "approvers", [("officer1", "officer2"), ("officer2", "officer3"), ("officer1", "officer3")]
)
async def test_the_founding_officers_keys_are_said_to_be_of_the_founding_days(house, approvers):
    """All three: the third, with whom those days end, too."""

    await house.filed("note.txt", record_class=NOTE)
    _, certificate = await destroyed(house, approvers)
    body, said, alone = await verified(house, certificate)
    for approval in body["approvals"]:
        assert approval["enrolment"] == {
            "account_id": await id_of(house, approval["account"]),
            "fingerprint": approval["fingerprint"],
            "added_at": f"{START:%Y-%m-%dT%H:%M:%SZ}",
            "counts_from": f"{START:%Y-%m-%dT%H:%M:%SZ}",
            "enrolled_by": "founding",
        }
        assert (
            f"the key of {approval['account']} was enrolled in the founding days on 2026-11-22"
            in said
        )
    assert alone.count("at the founding") == 2


async def test_keys_by_their_owner_and_by_two_officers_say_whose_word_they_rest_on(house):
    await house.filed("note.txt", record_class=NOTE)
    own = await give(house, "officer1", "officer1")
    given = await give(house, "officer2", "officer1", "officer3")
    house.clock.advance(hours=73)
    house.restart()
    house.keys |= {"officer1": own, "officer2": given}
    _, certificate = await destroyed(house)
    body, said, alone = await verified(house, certificate)
    first, second_one = (each["enrolment"] for each in body["approvals"])
    people = {
        name: {"account": name, "account_id": await id_of(house, name)}
        for name in ("officer1", "officer3")
    }
    assert first["enrolled_by"] == [people["officer1"]]
    assert second_one["enrolled_by"] == [people["officer1"], people["officer3"]]
    for each in (first, second_one):
        added, counts = (datetime.fromisoformat(each[name]) for name in ("added_at", "counts_from"))
        assert (added, counts - added) == (START, timedelta(hours=72))
        assert counts <= datetime.fromisoformat(body["proposed_at"])
    assert "the key of officer1 was enrolled by itself" in said
    assert "the key of officer2 was enrolled by officer1 and officer3" in said
    assert "by officer1 and officer3, counts from 2026-11-25" in alone


async def test_an_officers_key_that_another_signed_for_in_the_founding_days_is_of_those_days(
    tmp_path,
):
    """The console could have given it unsigned; one officer's word is no more than that."""
    house = House(tmp_path)
    try:
        await house.act("client.add", slug="acme", name="Acme Ltd", emails=["a@acme.example"])
        for name, by in (("officer1", ""), ("officer2", "officer1"), ("officer3", "officer1")):
            house.keys[name] = Ed25519PrivateKey.generate()
            line = sshsig.public_line(house.keys[name])
            await house.act("account.add", by=by, name=name, role="officer", keys=[line])
        house.keys["acme"] = Ed25519PrivateKey.generate()
        line = sshsig.public_line(house.keys["acme"])
        await house.act("account.add", name="acme", role="client", client="acme", keys=[line])
        await house.filed("note.txt", record_class=NOTE)
        _, certificate = await destroyed(house, ("officer2", "officer3"))
        body, _, _ = await verified(house, certificate)
        assert {each["enrolment"]["enrolled_by"] for each in body["approvals"]} == {"founding"}
    finally:
        house.close()


async def test_witness_and_sanitisation_say_that_the_console_gave_their_keys_or_who_answers(house):
    await house.filed("note.txt", record_class=NOTE)
    batch, _ = await destroyed(house)
    await house.act("account.vouch", by="officer3", name="admin")
    await attest(house, "auditor", batch, "witness")
    done = await attest(house, "admin", batch, "sanitised", **MEDIUM)
    body, said, _ = await verified(house, done["certificate"])
    assert body["witnesses"][0]["enrolment"]["enrolled_by"] == "console"
    (answers,) = body["sanitisations"][0]["enrolment"]["enrolled_by"]
    assert answers["account"] == "officer3"
    assert "the key of auditor was enrolled by the console" in said
    assert "the key of admin was enrolled by officer3" in said


async def test_what_becomes_of_a_key_after_it_signed_changes_no_certificate(house):
    """A follow-up repeats the enrolment of a key that was taken back, or answered for, since."""

    await house.filed("note.txt", record_class=NOTE)
    batch, first = await destroyed(house)
    before = (await verified(house, first))[0]["approvals"]
    watched = (await attest(house, "auditor", batch, "witness"))["certificate"]
    witness = (await verified(house, watched))[0]["witnesses"]
    house.clock.advance(hours=1)
    house.restart()
    await house.act("account.vouch", by="officer3", name="auditor")
    mark = before[0]["fingerprint"]
    line = sshsig.public_line(house.keys["officer1"])
    house.keys["officer1"] = await give(house, "officer1", "officer1")
    house.clock.advance(hours=73)
    house.restart()
    await house.act("account.key", by="officer1", name="officer1", remove=mark)
    await house.act("account.key", by="officer1", name="officer1", add=line)
    done = await attest(house, "admin", batch, "sanitised", **MEDIUM)
    body, _, _ = await verified(house, done["certificate"])
    assert (body["approvals"], body["witnesses"]) == (before, witness)


async def test_an_account_that_is_renamed_after_it_signed_is_named_as_it_signed(house):
    """Before the certificate, and before a follow-up that the same person adds to."""

    await house.filed("note.txt", record_class=NOTE)
    house.keys["officer2"] = await give(house, "officer2", "officer1", "officer3")
    house.clock.advance(hours=73)
    house.restart()
    (batch,) = await house.act("disposal.propose")
    await house.approve(batch["id"], "officer1")
    await house.act("account.rename", by="officer3", name="officer1", to="chief")
    house.keys["chief"] = house.keys["officer1"]
    await house.approve(batch["id"], "officer2")
    done = await house.act("disposal.execute", by="officer3", id=batch["id"])
    first, _, _ = await verified(house, done["certificate"])
    assert [each["account"] for each in first["approvals"]] == ["officer1", "officer2"]
    (named, _) = first["approvals"][1]["enrolment"]["enrolled_by"]
    assert (named["account"], named["account_id"]) == (
        "chief",
        first["approvals"][0]["enrolment"]["account_id"],
    )
    await attest(house, "auditor", batch["id"], "witness")
    await house.act("account.rename", name="auditor", to="watcher")
    today = {**MEDIUM, "performed_on": house.clock().date().isoformat()}
    done = await attest(house, "chief", batch["id"], "sanitised", **today)
    body, _, _ = await verified(house, done["certificate"])
    assert body["approvals"] == first["approvals"]
    assert body["witnesses"][0]["account"] == "auditor"
    assert body["sanitisations"][0]["account"] == "chief"


async def test_a_name_that_somebody_signed_under_goes_to_nobody_else(house):
    """Or two people in one certificate would have one name."""

    await house.filed("note.txt", record_class=NOTE)
    (batch,) = await house.act("disposal.propose")
    await house.approve(batch["id"], "officer1")
    await house.act("account.rename", by="officer2", name="officer1", to="chief")
    line = sshsig.public_line(Ed25519PrivateKey.generate())
    for taken in (
        house.act("account.rename", by="officer3", name="officer2", to="officer1"),
        house.act("account.add", name="officer1", role="auditor", keys=[line]),
    ):
        refusal = await house.refused(taken)
        assert (refusal.code, "signed under" in refusal.message) == ("exists", True)
    await house.act("account.rename", name="auditor", to="watcher")
    await house.act("account.add", name="auditor", role="auditor", keys=[line])
    await house.act("account.rename", by="officer2", name="chief", to="officer1")


async def test_a_key_of_one_account_signs_nothing_on_the_batch_for_another(house):
    """An approver's key that was taken back and given to the administrator: one hand, two names."""

    await house.filed("note.txt", record_class=NOTE)
    batch, _ = await destroyed(house)
    line = sshsig.public_line(house.keys["officer1"])
    mark = next(
        each["keys"][0] for each in await house.act("account.list") if each["name"] == "officer1"
    )
    await house.act("account.key", by="officer2", name="officer1", remove=mark)
    await house.act("account.key", name="admin", add=line)
    house.keys["admin"] = house.keys["officer1"]
    refusal = await house.refused(attest(house, "admin", batch, "sanitised", **MEDIUM))
    assert (refusal.code, "distinct keys" in refusal.message) == ("denied", True)


async def test_an_approval_from_before_the_upgrade_leaves_it_out_and_the_certificate_says_so(house):
    await house.filed("note.txt", record_class=NOTE)
    (batch,) = await house.act("disposal.propose")
    await house.approve(batch["id"], "officer1")
    await house.core.write(
        lambda tx: tx.connection.execute(update(approvals).values(enrolment=None))
    )
    await house.approve(batch["id"], "officer2")
    done = await house.act("disposal.execute", by="officer3", id=batch["id"])
    body, said, alone = await verified(house, done["certificate"])
    assert ["enrolment" in each for each in body["approvals"]] == [False, True]
    assert "of officer1 it is not stated" in said
    assert "how its key was enrolled is not stated" in alone


async def test_of_a_key_that_was_given_before_it_was_kept_who_gives_nothing_is_stated(house):
    await house.filed("note.txt", record_class=NOTE)
    mine = await id_of(house, "officer1")
    await house.core.write(
        lambda tx: tx.connection.execute(
            update(account_keys)
            .where(account_keys.c.account_id == mine)
            .values(enrolled_by=enrolments.UNKNOWN)
        )
    )
    _, certificate = await destroyed(house)
    _, said, _ = await verified(house, certificate)
    assert "of officer1 it is not stated" in said


async def test_a_gateway_that_counts_a_key_of_one_persons_making_issues_what_nobody_accepts(house):
    """As if the rule of two had been broken in the catalogue: the certificate gives it away."""

    await house.filed("note.txt", record_class=NOTE)
    mine = await id_of(house, "officer1")
    theirs = await id_of(house, "officer2")
    await house.core.write(
        lambda tx: tx.connection.execute(
            update(account_keys).where(account_keys.c.account_id == theirs).values(enrolled_by=mine)
        )
    )
    _, certificate = await destroyed(house)
    shown = await house.act("certificate.show", id=certificate)
    report = verify_certificate(shown["json"].encode(), shown["vkey"])
    (failed,) = (step for step in report.steps if not step.passed)
    assert failed.name == "enrolments"
    assert failed.detail == (
        "key of officer2: expected it enrolled by itself, by two others or in the founding days,"
        " found it enrolled by officer1 alone"
    )
    with pytest.raises(ValueError, match="key of officer2: enrolled by officer1 alone"):
        stand_alone(shown["json"], shown["vkey"])


def test_an_older_catalogue_keeps_founding_keys_as_such_and_takes_no_other_for_one(tmp_path):
    path = tmp_path / "c.sqlite3"
    engine = create_engine(f"sqlite:///{path}")
    rows = {  # account, when it was added, enrolled_by, counts_from: what it is afterwards
        ("o1", "2020", "", "2020"): "",
        ("o2", "2021", "o1", "2021"): "",  # signed for by one while there were two
        ("o3", "2022", second_officer.CONSOLE, "2022"): "",  # the third
        ("o1", "2023", "", "2023"): "unknown",  # from before it was kept
        ("o1", "2027", "o1", "2027"): "o1",
        ("o2", "2027", "o1,o3", "2027"): "o1,o3",
        ("o3", "2027", "o1", None): "o1",  # a second officer has yet to sign
        ("a", "2021", "", "2021"): "",
        ("a", "2022", second_officer.CONSOLE, "2022"): second_officer.CONSOLE,
        ("a", "2026", "o1", "2026"): "o1",
    }
    with (
        resources.as_file(resources.files("vault.catalogue") / "migrations") as scripts,
        engine.connect() as connection,
    ):
        config = Config()
        config.set_main_option("script_location", str(scripts))
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        for name, created in {"o1": "2020", "o2": "2021", "o3": "2022", "a": "2019"}.items():
            connection.exec_driver_sql(
                "INSERT INTO accounts (id, name, role, state, created_at) VALUES (?, ?, ?, 'active', ?)",
                (name, name, "auditor" if name == "a" else "officer", created),
            )
        for number, (account, added, by, counts) in enumerate(rows):
            connection.exec_driver_sql(
                "INSERT INTO account_keys (account_id, fingerprint, algorithm, blob, added_at,"
                " counts_from, enrolled_by) VALUES (?, ?, 'k', x'', ?, ?, ?)",
                (account, str(number), added, counts, by),
            )
        connection.commit()
    migrate(path)
    with engine.connect() as connection:
        found = connection.execute(
            select(account_keys.c.enrolled_by).order_by(account_keys.c.fingerprint)
        ).scalars()
        assert list(found) == list(rows.values())
        assert connection.execute(select(accounts.c.name)).all()
