"""What a finding says to do is done, word for word, and the finding is gone."""

from __future__ import annotations

import base64
import re
import shlex
import subprocess

import pytest
from sqlalchemy import update

from tests.scenarios.test_backup_drill import NOTE, content, drill
from tests.scenarios.test_check import (
    _both_filed_and_destroyed,
    _destroyed_with_remains,
    _ended_group,
    _forgotten_wrapping,
    _other_size,
    _row_without_key,
    _swapped_key,
    blob_of,
)
from tests.scenarios.test_keyring_restore import keyring_of
from vault.catalogue.schema import checkpoints, usage

__all__ = ["drill"]  # a fixture


async def findings(house, **more) -> list[dict[str, str]]:
    return list((await house.act("check", **more))["findings"])


def removed_as_named(action: str) -> None:
    """Run the `rm` that a finding names."""
    command = shlex.split(re.search(r"`(rm \S+)`", action)[1])
    subprocess.run(command, check=True, timeout=10)


def _checkpoint_of_another(tx, _document):
    tx.connection.execute(update(checkpoints).values(note="another text"))


@pytest.mark.parametrize(
    "damage",
    [
        _row_without_key, _swapped_key, _forgotten_wrapping, _other_size, _ended_group,
        _both_filed_and_destroyed, _destroyed_with_remains, _checkpoint_of_another,
    ],
)  # fmt: skip
async def test_a_row_that_contradicts_the_rest_comes_back_with_the_newest_backup(
    drill, tmp_path, damage
):
    document = await drill.filed("a.xml", b"kept")
    await drill.filed("b.xml", b"other")
    await drill.back_up()
    await drill.act("ledger.checkpoint")
    await drill.core.write(lambda tx: damage(tx, document))
    found = await findings(drill)
    assert found
    assert any("`strongroom backup restore`" in each["action"] for each in found) or all(
        "document restore" in each["action"] for each in found
    )
    there = drill.restored(tmp_path / "elsewhere")
    assert await there.is_whole()
    assert await content(there, "a.xml") == b"kept"
    there.close()


async def test_a_file_of_no_document_is_removed_as_the_finding_says(house):
    document = await house.filed("a.xml")
    stray = blob_of(house, document).with_name("01M80J643X9JAJ7MXAFCG8NJ02")
    stray.write_bytes(b"x" * 80)
    (finding,) = await findings(house)
    removed_as_named(finding["action"])
    assert not stray.exists()
    assert await findings(house, read_data=True) == []


async def test_a_keyring_of_no_client_is_removed_as_the_finding_says(house):
    stray = keyring_of(house).with_name("01M80J643X9JAJ7MXAFCG8NJ02.keyring")
    stray.write_bytes(keyring_of(house).read_bytes())
    (finding,) = await findings(house)
    removed_as_named(finding["action"])
    assert await findings(house) == []


async def test_while_the_catalogue_may_be_an_older_one_nothing_is_said_to_be_removed_at_once(house):
    document = await house.filed("a.xml")
    blob_of(house, document).with_name("01M80J643X9JAJ7MXAFCG8NJ02").write_bytes(b"x" * 80)
    (house.folder / "vault/changed-at-rest").write_text("catalogue.sqlite3: changed\n")
    found = {each["subject"]: each["action"] for each in await findings(house)}
    assert "keep it until that is settled" in found["blob 01M80J643X9JAJ7MXAFCG8NJ02"]


async def test_an_older_keyring_in_the_place_of_the_present_one_is_replaced_by_the_copy(house):
    """It opens, and lacks a group that lives: documents in it can't be read."""

    path = keyring_of(house)
    older = path.read_bytes()
    await house.filed("a.xml", b"kept")
    newest = path.read_bytes()
    path.write_bytes(older)
    house.restart()
    named = {
        found[1]
        for each in await findings(house)
        if (found := re.search(r"`strongroom keys restore (\S+) \S+`", each["action"]))
    }
    assert named == {"acme"}
    restore = base64.b64encode(newest).decode()
    await house.act("keys.restore", client="acme", content=restore)
    assert await findings(house, read_data=True) == []
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"kept"


async def test_the_key_of_an_ended_group_that_came_back_is_dropped_by_a_restart(house):
    await house.filed("gone.txt", b"gone", NOTE)
    path = keyring_of(house)
    before = path.read_bytes()
    (batch,) = await house.act("disposal.propose")
    await house.approve(batch["id"], "officer1")
    await house.approve(batch["id"], "officer2")
    await house.act("disposal.execute", by="officer3", id=batch["id"])
    present = path.read_bytes()
    path.write_bytes(before)  # as somebody would who puts a copy back by hand
    house.core.store.custody._open.clear()
    found = await findings(house)
    assert any("expected no group" in each["problem"] for each in found)
    assert any("restart the gateway" in each["action"] for each in found)
    house.restart()
    assert not any("expected no group" in each["problem"] for each in await findings(house))
    assert path.read_bytes() not in (before, present)


async def test_wrong_counts_are_counted_anew_by_an_officer(house):
    await house.filed("a.xml")
    await house.core.write(lambda tx: tx.connection.execute(update(usage).values(bytes=77)))
    (finding,) = await findings(house)
    assert "`strongroom check --acknowledge --as NAME --key FILE`" in finding["action"]
    assert (await house.act("check", by="officer1", acknowledge=True))["findings"] == []


async def test_a_keyring_of_a_closed_client_names_the_restart_that_ends_it(house):
    path = keyring_of(house, "other")
    kept = path.read_bytes()
    await house.act("client.close", slug="other")
    path.write_bytes(kept)
    (finding,) = await findings(house)
    assert finding["action"].startswith("restart the gateway")
    house.restart()
    assert await findings(house) == []
