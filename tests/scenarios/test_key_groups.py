"""A key goes with its group: after the end is committed, and in every copy, also if the first request was lost."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from gateway.core.outbound import keyring_copies, outbox
from gateway.wire.messages import Classification
from vault.catalogue.schema import documents, errands, groups
from vault.errors import KeyUnavailable
from vault.keys import copies


async def test_a_key_goes_only_after_the_end_of_its_group_is_committed(house):
    """A transaction that ends a group may still be rolled back, and then needs the key."""

    document = await house.upload("/inbox/a.xml", b"a")
    custody = house.core.store.custody
    group = house.core.store.catalogue.read(
        lambda c: c.execute(select(documents.c.group_id)).scalar_one()
    )

    def ends_and_fails(tx):
        tx.connection.execute(update(documents).values(group_id=None))
        custody.end_groups(tx.connection, [group], house.clock.now)
        raise ValueError("rolled back")

    with pytest.raises(ValueError, match="rolled back"):
        await house.core.write(ends_and_fails)
    client = (await house.act("client.show", slug="acme"))["id"]
    assert group in custody.stored(client).groups
    with pytest.raises(RuntimeError, match="alive"):
        await house.core.write(
            lambda tx: custody.drop_keys(tx.connection, client, [group], house.clock.now)
        )
    assert await house.judge(classification=Classification("invoice", 0.9, "2025-01-01"))
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"
    assert document


async def test_copies_are_asked_to_follow_again_when_the_request_was_lost(tmp_path):
    from gateway.config import KeyringCopy
    from tests.support.house import House

    house = House(
        tmp_path, **{"keyring.copies": [KeyringCopy(name="other", directory=str(tmp_path / "o"))]}
    )
    try:
        await house.settle()
        client = (await house.act("client.show", slug="acme"))["id"]
        await house.upload("/inbox/a.xml", b"a")
        await house.judge(classification=Classification("invoice", 0.9, "2025-01-01"))
        custody = house.core.store.custody
        (intake,) = house.core.store.catalogue.read(
            lambda c: c.execute(
                select(groups.c.id).where(groups.c.kind == "intake", groups.c.ended_at.is_(None))
            ).scalars().all()
        )  # fmt: skip
        await house.core.write(
            lambda tx: custody.end_groups(tx.connection, [intake], house.clock.now)
        )
        await house.core.write(
            lambda tx: custody.drop_keys(tx.connection, client, [intake], house.clock.now)
        )
        # The crash: the keyring is saved, the request rolled back with its transaction.
        await house.core.write(
            lambda tx: tx.connection.execute(update(errands).values(delivered_at="x"))
        )
        assert not await house.core.read(lambda c: copies.behind(c, client))
        await house.core.write(
            lambda tx: custody.drop_keys(tx.connection, client, [intake], house.clock.now)
        )
        assert await house.core.read(lambda c: copies.behind(c, client)) == {"other"}
        # A keyring that is missing though its client is open is no reason to remove its last copy.
        custody._store.path(client).unlink()
        row = await house.core.read(
            lambda c: c.execute(
                select(errands).where(
                    errands.c.name == f"{client}{copies.SUFFIX}", errands.c.delivered_at.is_(None)
                )
            ).one()
        )
        kind = keyring_copies.KeyringCopies(house.wings.outbound)
        with pytest.raises(KeyUnavailable, match="its copies stay as they are"):
            await kind.deliver(outbox.Delivery("other", row.attempts, row))
    finally:
        house.close()
