"""Keys change while documents are read; what was wrapped before is noise; history stays verifiable."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, update

from gateway.core.keys import rotation as rotate
from gateway.core.opening import open_core
from vault.catalogue import ledger_keys
from vault.catalogue.schema import documents, groups, ledger_entries, settings
from vault.certificate.verify import verify_certificate
from vault.check.ledger import verify
from vault.crypto.wrapping import unwrap_key
from vault.errors import IntegrityError, VaultError, WrongRootKey
from vault.keys.root import FileRootKey, load_root_key
from vault.ledger.note import verifier_key
from vault.store import Store

NOTE = "demonstration-note"


def rows_of(house) -> dict:
    return {
        row.id: row
        for row in house.core.store.catalogue.read(lambda c: c.execute(select(documents)).all())
    }


async def client_id(house) -> str:
    return (await house.act("client.show", slug="acme"))["id"]


async def whole(house) -> None:
    assert (await house.act("check", read_data=True))["findings"] == []


async def test_after_a_rotation_documents_open_and_every_old_wrapping_is_noise(house):
    for number in range(5):
        await house.filed(f"{number}.xml", bytes([number]) * 10)
    await house.upload("/inbox/waiting.xml", b"waiting")
    before = rows_of(house)
    old = set(house.core.store.custody.keyring(await client_id(house)).groups)
    house.clock.advance(seconds=1)
    answer = await house.act("keys.rotate", what="groups")
    assert answer["rewrapped"] == 6
    ring = house.core.store.custody.stored(await client_id(house))
    assert not old & set(ring.groups)
    for number in range(5):
        got = await house.read(f"/clients/acme/2025/invoice/{number}.xml")
        assert got == bytes([number]) * 10
    for row in before.values():
        for group in ring.groups.values():
            with pytest.raises(IntegrityError):
                unwrap_key(
                    group.key, row.wrapped_key, purpose="document", subject=row.id,
                    group=row.group_id,
                )  # fmt: skip
    await whole(house)


async def test_a_rotation_of_one_client_leaves_the_others_keys_alone(house):
    await house.filed("a.xml")
    await house.filed("b.xml", by="other")
    other = (await house.act("client.show", slug="other"))["id"]
    kept = set(house.core.store.custody.keyring(other).groups)
    house.clock.advance(seconds=1)
    await house.act("keys.rotate", what="groups", client="acme")
    assert set(house.core.store.custody.stored(other).groups) == kept
    await whole(house)


async def test_documents_are_read_and_sent_while_their_keys_change(house):
    for number in range(20):
        await house.filed(f"{number}.xml", b"%d" % number)
    stop = False
    seen = 0

    async def read_on():
        nonlocal seen
        while not stop:
            for number in range(20):
                path = f"/clients/acme/2025/invoice/{number}.xml"
                assert await house.read(path) == b"%d" % number
                seen += 1

    async def send_on():
        number = 0
        while not stop:
            await house.upload(f"/inbox/new{number}.xml", b"new")
            number += 1

    others = [asyncio.create_task(read_on()), asyncio.create_task(send_on())]
    for _ in range(8):
        house.clock.advance(seconds=1)
        await house.act("keys.rotate", what="groups")
    stop = True
    await asyncio.gather(*others)
    assert seen > 20
    await whole(house)


async def test_a_reader_that_looked_before_the_move_still_opens_the_document(house):
    """Between the look at the row and the use of its key the group ended."""

    document = await house.filed("a.xml")
    row = rows_of(house)[document]
    key = house.core.store.custody.document_key(row)
    house.clock.advance(seconds=1)
    await house.act("keys.rotate", what="groups")
    assert house.core.store.custody.document_key(row) == key


async def test_the_root_key_changes_and_the_old_one_opens_nothing(house):
    await house.filed("a.xml", b"a")
    old = FileRootKey.load(house.folder / "root.key")
    old_file = (house.folder / "root.key").read_bytes()
    answer = await house.act("keys.rotate", what="root")
    assert answer["rewrapped"] == 3  # acme, other and the house
    assert answer["root_key"] != old.id
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"
    assert not (house.folder / "root.key.next").exists()
    assert (house.folder / "root.key").read_bytes() != old_file
    # Kept for copies of keyrings that have not followed yet; `doctor` asks to remove it.
    assert (house.folder / "root.key.old").read_bytes() == old_file
    house.core.close()
    with pytest.raises(WrongRootKey):
        Store.open(house.folder / "vault", old)
    house.open()
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"
    await whole(house)


async def test_the_root_key_changes_twice_in_the_same_moment(house):
    first = (await house.act("keys.rotate", what="root"))["root_key"]
    second = await house.act("keys.rotate", what="root")
    assert second["root_key"] != first
    assert second["rewrapped"] == 3


async def test_a_root_key_given_in_the_configuration_takes_over_and_says_what_to_change(house):
    await house.filed("a.xml", b"a")
    following = FileRootKey.create(house.folder / "other.key")
    house.core.close()
    house.config = _with(house.config, next_root_key="other.key")
    house.core = open_core(house.config, house.clock)
    answer = await house.act("keys.rotate", what="root")
    assert answer["root_key"] == following.id
    house.core.close()
    # Until the configuration is changed, both are given; afterwards the new one alone will do.
    house.core = open_core(house.config, house.clock)
    house.core.close()
    house.config = _with(house.config, root_key="other.key", next_root_key="")
    house.core = open_core(house.config, house.clock)
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"


def _with(config, **store):
    import msgspec

    return msgspec.structs.replace(config, store=msgspec.structs.replace(config.store, **store))


@pytest.mark.parametrize("saved", [0, 1, 2])
async def test_a_root_change_that_was_cut_short_opens_and_goes_on(house, saved):
    """Some keyrings are under the new key, some under the old one, and the core died."""

    await house.filed("a.xml", b"a")
    rotation = await rotate.start(house.core, "root", "test")
    house.core.store.custody.keyrings.use_root(house.core.store.next_root)
    for owner in house.core.store.custody.owners()[:saved]:
        house.core.store.catalogue.write(
            lambda tx, who=owner: house.core.store.custody.save(tx.connection, who, house.clock())
        )
    house.core.close()
    house.core = open_core(house.config, house.clock)
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"
    await rotate.resume(house.wings.keys)
    shown = (await house.act("keys.status"))["rotations"]
    assert [(each["id"], each["state"]) for each in shown] == [(rotation.id, "done")]
    new = load_root_key(str(house.folder / "root.key"))
    assert {
        house.core.store.custody.keyrings.root_of(o) for o in house.core.store.custody.owners()
    } == {new.id}
    await whole(house)


async def test_a_root_change_whose_file_was_not_yet_moved_is_finished_at_the_next_start(house):
    await house.filed("a.xml", b"a")
    old_file = (house.folder / "root.key").read_bytes()
    await house.act("keys.rotate", what="root")
    house.core.close()
    # As a crash leaves it between the commit and the renaming.
    (house.folder / "root.key").rename(house.folder / "root.key.next")
    (house.folder / "root.key").write_bytes(old_file)
    (house.folder / "root.key").chmod(0o600)
    house.core = open_core(house.config, house.clock)
    assert not (house.folder / "root.key.next").exists()
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"


async def test_the_signing_key_hands_over_and_the_whole_history_still_verifies(house):
    await house.filed("note.txt", record_class=NOTE)
    first = (await house.act("ledger.checkpoint"))["checkpoint"]
    old_vkey = house.core.store.vkey
    (batch,) = await house.act("disposal.propose")
    await house.approve(batch["id"], "officer1")
    await house.approve(batch["id"], "officer2")
    done = await house.act("disposal.execute", by="officer3", id=batch["id"])
    for _ in range(2):
        await house.act("keys.rotate", what="ledger")
    await house.filed("later.xml")
    last = (await house.act("ledger.checkpoint"))["checkpoint"]
    assert house.core.store.vkey != old_vkey
    report = await house.act("ledger.verify", against=[first, last])
    assert report["findings"] == []
    # The old certificate still verifies for whoever trusts the key it was signed with.
    shown = await house.act("certificate.show", id=done["certificate"])
    assert verify_certificate(shown["json"].encode(), old_vkey).passed
    assert old_vkey in shown["vkeys"]
    await whole(house)
    # The old private keys are gone from the house's keyring.
    house.restart()
    secrets = house.core.store.custody.stored("house").secrets
    left = [name for name in secrets if name.startswith("ledger-signing-key")]
    assert left == ["ledger-signing-key"]
    assert house.core.store.vkey == report["vkey"]
    await whole(house)


async def test_a_hand_over_that_the_old_key_did_not_sign_is_found(house):
    """Whoever can write files, but has no key, names a key of their own."""

    await house.act("keys.rotate", what="ledger")
    store = house.core.store
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    stranger = Ed25519PrivateKey.generate()
    index = store.catalogue.read(ledger_keys.load)[-1].since
    own = verifier_key(store.origin, stranger.public_key())
    note = ledger_keys.handover_note(store.origin, index, own, stranger)

    def forge(tx):
        data = tx.connection.execute(
            select(ledger_entries.c.entry).where(ledger_entries.c.seq == index)
        ).scalar_one()
        import msgspec

        entry = msgspec.json.decode(data)
        entry["facts"]["handover"] = note
        tx.connection.execute(
            update(ledger_entries)
            .where(ledger_entries.c.seq == index)
            .values(entry=msgspec.json.Encoder(order="sorted").encode(entry))
        )

    store.catalogue.write(forge)
    findings = (await house.act("ledger.verify"))["findings"]
    assert any(f"entry {index}: note: expected a signature" in each for each in findings)
    assert any("keys:" in each for each in findings)


async def test_a_checkpoint_signed_by_a_key_that_had_handed_over_already_is_refused(house):
    store = house.core.store
    old = store.ledger_key
    await house.act("keys.rotate", what="ledger")
    await house.act("hold.place", client="acme", reason="x")
    from vault.ledger.note import Checkpoint, sign_note

    size = store.catalogue.ledger.size
    root = store.catalogue.ledger.mark().root()
    note = sign_note(Checkpoint(store.origin, size, root).encode(), store.origin, old)
    report = store.catalogue.read(lambda c: verify(c, store.vkey, store.origin, [note]))
    assert len(report.findings) == 1
    assert "expected a checkpoint signed by the ledger's key" in report.findings[0]


async def test_what_is_over_its_age_limit_is_due_and_the_root_key_never_by_itself(house):
    await house.filed("a.xml")
    assert await rotate.due(house.core) == []
    house.core.close()
    house.clock.advance(days=800)
    house.open()
    assert await rotate.due(house.core) == ["groups", "ledger"]
    for kind in await rotate.due(house.core):
        await rotate.run(house.wings.keys, await rotate.start(house.core, kind, "core"))
    assert await rotate.due(house.core) == []
    ages = {each["what"]: each for each in (await house.act("keys.status"))["ages"]}
    assert ages["root"]["over"]
    assert ages["root"]["days"] == 800
    assert not ages["groups"]["over"]
    await whole(house)


async def test_one_rotation_of_a_kind_at_a_time_and_only_by_who_may(house):
    await rotate.start(house.core, "ledger", "test")
    refusal = await house.refused(house.act("keys.rotate", what="ledger"))
    assert refusal.code == "locked"
    refusal = await house.refused(house.act("keys.rotate", by="accountant", what="groups"))
    assert refusal.code == "denied"
    refusal = await house.refused(house.act("keys.rotate", what="root", client="acme"))
    assert refusal.code == "invalid"


async def test_a_survivor_that_does_not_open_stops_the_rotation_and_no_key_is_dropped(house):
    document = await house.filed("a.xml", b"a")
    await house.filed("b.xml", b"b")
    store = house.core.store
    row = rows_of(house)[document]
    broken = bytearray(row.wrapped_key)
    broken[-1] ^= 1
    store.catalogue.write(
        lambda tx: tx.connection.execute(
            update(documents).where(documents.c.id == document).values(wrapped_key=bytes(broken))
        )
    )
    house.clock.advance(seconds=1)
    with pytest.raises(VaultError):
        await house.act("keys.rotate", what="groups")
    alive = store.catalogue.read(
        lambda c: c.execute(select(groups.c.ended_at).where(groups.c.id == row.group_id)).scalar()
    )
    assert alive is None
    assert row.group_id in store.custody.stored(await client_id(house)).groups
    assert await house.read("/clients/acme/2025/invoice/b.xml") == b"b"
    # Mended, the same rotation goes on.
    store.catalogue.write(
        lambda tx: tx.connection.execute(
            update(documents).where(documents.c.id == document).values(wrapped_key=row.wrapped_key)
        )
    )
    await rotate.resume(house.wings.keys)
    assert row.group_id not in store.custody.stored(await client_id(house)).groups
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"


async def test_the_setting_of_the_root_key_is_what_the_keyrings_are_under(house):
    await house.act("keys.rotate", what="root")
    stored = house.core.store.catalogue.read(
        lambda c: c.execute(
            select(settings.c.value).where(settings.c.key == "root_key_id")
        ).scalar_one()
    )
    assert stored == load_root_key(str(house.folder / "root.key")).id
