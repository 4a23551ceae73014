"""Who may no longer act signs nothing, and the console does not reopen the beginner's rule."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.house import run
from vault import sshsig


def test_an_expired_officer_neither_approves_nor_acts(house):
    async def journey():
        await house.filed("note.txt", record_class="demonstration-note")
        (batch,) = await house.act("disposal.propose")
        await house.act("account.change", name="officer1", expires="2026-12-01")
        house.clock.advance(days=30)
        house.restart()
        refusal = await house.refused(house.approve(batch["id"], "officer1"))
        assert refusal.code == "denied"
        assert "officer1" in refusal.message
        signed = house.act("hold.place", by="officer1", client="acme", reason="audit")
        assert (await house.refused(signed)).code == "denied"
        await house.approve(batch["id"], "officer2")

    run(journey())


def test_disabling_an_officer_does_not_reopen_the_beginners_rule(house):
    async def journey():
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

    run(journey())


def test_a_key_added_after_the_proposal_does_not_count_for_it(house):
    async def journey():
        await house.filed("note.txt", record_class="demonstration-note")
        (batch,) = await house.act("disposal.propose")
        house.clock.advance(hours=1)
        house.restart()
        mine = Ed25519PrivateKey.generate()
        line = sshsig.public_line(mine)
        await house.act("account.key", by="officer1", name="officer2", add=line)
        house.keys["officer2"] = mine
        assert (await house.refused(house.approve(batch["id"], "officer2"))).code == "denied"

    run(journey())
