"""Who may no longer act signs nothing, and the console does not reopen the beginner's rule."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vault.crypto import sshsig


async def test_an_expired_officer_neither_approves_nor_acts(house):
    await house.filed("note.txt", record_class="demonstration-note")
    (batch,) = await house.act("disposal.propose")
    await house.act("account.change", by="officer2", name="officer1", expires="2026-12-01")
    house.clock.advance(days=30)
    house.restart()
    refusal = await house.refused(house.approve(batch["id"], "officer1"))
    assert refusal.code == "denied"
    assert "officer1" in refusal.message
    signed = house.act("hold.place", by="officer1", client="acme", reason="audit")
    assert (await house.refused(signed)).code == "denied"
    await house.approve(batch["id"], "officer2")


async def test_disabling_an_officer_does_not_reopen_the_beginners_rule(house):
    line = sshsig.public_line(Ed25519PrivateKey.generate())
    await house.act("account.disable", name="officer3")
    for unsigned in (
        house.act("account.key", name="officer2", add=line),
        house.act("account.add", name="officer4", role="officer", keys=[line]),
        house.act("account.password", name="officer2", password="a long enough one"),
    ):
        refusal = await house.refused(unsigned)
        assert refusal.code == "denied"
        assert "--as" in refusal.message
        assert "--signing-key" in refusal.message


async def test_a_key_added_after_the_proposal_does_not_count_for_it(house):
    await house.filed("note.txt", record_class="demonstration-note")
    (batch,) = await house.act("disposal.propose")
    house.clock.advance(hours=1)
    house.restart()
    mine = Ed25519PrivateKey.generate()
    line = sshsig.public_line(mine)
    await house.act("account.key", by="officer1", name="officer2", add=line)
    house.keys["officer2"] = mine
    assert (await house.refused(house.approve(batch["id"], "officer2"))).code == "denied"


async def test_the_first_signature_for_a_key_counts_while_its_officer_is_active(house):
    mine = Ed25519PrivateKey.generate()
    key = {"name": "officer2", "add": line_of(mine)}
    await house.act("account.key", by="officer1", **key)
    await house.act("account.disable", name="officer1")
    assert (await house.act("account.key", by="officer3", **key))["counts_from"] is None
    await house.act("account.enable", by="officer3", name="officer1")
    assert (await house.act("account.key", by="officer1", **key))["counts_from"]


async def test_an_account_is_renamed_and_stays_who_it_is(house):
    document = await house.filed("a.xml")
    await house.act("account.rename", name="accountant", to="li.ming")
    assert await house.read("/clients/acme/2025/invoice/a.xml", by="li.ming") == b"x"
    refusal = await house.refused(house.act("account.rename", name="li.ming", to="auditor"))
    assert refusal.code == "exists"
    # An officer's name is no way around another officer.
    for by in ("", "officer1"):
        refused = house.act("account.rename", by=by, name="officer1", to="chief")
        assert (await house.refused(refused)).code == "denied"
    await house.act("account.rename", by="officer2", name="officer1", to="chief")
    house.keys["chief"] = house.keys["officer1"]
    await house.act("hold.place", by="chief", document=document, reason="audit")
    signed = house.act("hold.place", by="officer1", document=document, reason="audit")
    assert (await house.refused(signed)).code == "denied"


def line_of(key: Ed25519PrivateKey) -> str:
    return sshsig.public_line(key)


async def test_one_officer_who_enrols_keys_for_the_others_destroys_nothing(house):
    """The whole attack: keys of one's own for two others, both approvals, the execution."""

    document = await house.filed("note.txt", record_class="demonstration-note")
    mine = {name: Ed25519PrivateKey.generate() for name in ("officer2", "officer3")}
    for name, key in mine.items():
        done = await house.act("account.key", by="officer1", name=name, add=line_of(key))
        assert done["counts_from"] is None
        again = house.act("account.key", by="officer1", name=name, add=line_of(key))
        assert (await house.refused(again)).code == "exists"
    made = await house.act(
        "account.add",
        by="officer1",
        name="officer4",
        role="officer",
        keys=[line_of(Ed25519PrivateKey.generate())],
    )
    assert made["pending"]
    house.clock.advance(days=5)
    house.restart()
    (batch,) = await house.act("disposal.propose")
    house.keys |= mine
    for name in mine:
        assert (await house.refused(house.approve(batch["id"], name))).code == "denied"
        password = house.act(
            "account.password", by="officer1", name=name, password="a long password"
        )
        assert (await house.refused(password)).code == "denied"
        code = house.act("account.totp", by="officer1", name=name)
        assert (await house.refused(code)).code == "denied"
    execute = house.act("disposal.execute", by="officer1", id=batch["id"])
    assert (await house.refused(execute)).code in {"locked", "denied"}
    assert (await house.act("document.show", document=document))["state"] == "FILED"
    waiting = (await house.act("status"))["enrolments"]
    assert {each["name"] for each in waiting} == {"officer2", "officer3", "officer4"}


async def test_the_console_alone_makes_no_officer_by_disabling_one(house):
    await house.act("account.disable", name="officer3")
    for act in (
        house.act("account.enable", name="officer3"),
        house.act("account.change", name="officer2", expires=""),
        house.act("account.key", name="officer1", add=line_of(Ed25519PrivateKey.generate())),
    ):
        assert (await house.refused(act)).code == "denied"
    assert (
        await house.refused(house.act("account.enable", by="officer3", name="officer3"))
    ).code == "denied"
    await house.act("account.enable", by="officer1", name="officer3")
    await house.act("hold.place", by="officer3", client="acme", reason="audit")


async def test_a_key_by_two_other_officers_counts_after_its_waiting_period_and_for_later_batches(
    house,
):
    await house.filed("early.txt", record_class="demonstration-note")
    (early,) = await house.act("disposal.propose")
    new = Ed25519PrivateKey.generate()
    await house.act("account.key", by="officer1", name="officer2", add=line_of(new))
    done = await house.act("account.key", by="officer3", name="officer2", add=line_of(new))
    assert done["counts_from"] > house.clock().isoformat()
    house.keys["officer2"] = new
    place = {"client": "other", "reason": "audit"}
    waits = await house.refused(house.act("hold.place", by="officer2", **place))
    assert "waiting period" in waits.message
    house.clock.advance(hours=73)
    house.restart()
    await house.act("hold.place", by="officer2", **place)
    refusal = await house.refused(house.approve(early["id"], "officer2"))
    assert "counted before" in refusal.message
    await house.filed("late.txt", b"another note", record_class="demonstration-note")
    (late,) = await house.act("disposal.propose")
    await house.approve(late["id"], "officer2")


async def test_an_officer_enrols_a_further_key_with_one_that_counts(house):
    new = Ed25519PrivateKey.generate()
    done = await house.act("account.key", by="officer1", name="officer1", add=line_of(new))
    assert done["counts_from"]
    other = house.act("account.key", by="officer2", name="officer2", add=line_of(new))
    assert (await house.refused(other)).code == "exists"  # one key, one person


async def test_an_officer_makes_himself_no_way_into_an_account_that_asks_him_for_access(house):
    """With a key of the accountant's he would ask for a restricted document and approve it himself."""

    line = line_of(Ed25519PrivateKey.generate())
    for act in (
        house.act("account.key", by="officer1", name="accountant", add=line),
        house.act("account.add", by="officer1", name="second", role="accountant", keys=[line]),
        house.act("account.add", by="officer1", name="second", role="archivist", keys=[line]),
        house.act("account.password", by="officer1", name="accountant", password="a long password"),
    ):
        refusal = await house.refused(act)
        assert refusal.code == "denied"
        assert "expected an officer's" in refusal.message


async def test_a_further_officer_has_no_password_or_code_before_a_second_officer_signed(house):
    line = line_of(Ed25519PrivateKey.generate())
    officer = {"name": "officer4", "role": "officer"}
    for more in (
        {"password": "a long password"},
        {"password": "a long password", "keys": [line]},
        {"totp": True, "keys": [line]},
    ):
        made = house.act("account.add", by="officer1", **officer, **more)
        assert (await house.refused(made)).code == "denied"


async def test_the_console_makes_the_first_officers_and_no_others(house):
    line = sshsig.public_line(Ed25519PrivateKey.generate())
    new = {"role": "officer", "keys": [line]}
    for by in ("", "admin"):
        refused = house.act("account.add", by=by, name="puppet", **new)
        assert (await house.refused(refused)).code == "denied"
    refused = house.act("account.key", name="officer1", add=line)
    assert (await house.refused(refused)).code == "denied"
    await house.act("account.add", by="officer1", name="officer4", **new)


async def test_an_approval_of_someone_disabled_since_no_longer_counts(house):
    await house.filed("note.txt", record_class="demonstration-note")
    (batch,) = await house.act("disposal.propose")
    await house.approve(batch["id"], "officer1")
    await house.approve(batch["id"], "officer2")
    await house.act("account.disable", name="officer1")
    refusal = await house.refused(house.act("disposal.execute", by="officer3", id=batch["id"]))
    assert "approvals by active officers" in refusal.message
