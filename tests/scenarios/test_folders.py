"""Folders of an inbox: bounded in number, and in the ledger without their names."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.views import inbox
from gateway.core.views.base import split
from vault.catalogue import ledger


def folder_entries(house):
    found = house.core.store.catalogue.read(lambda c: list(ledger.entries(c)))
    decoded = [(msgspec.json.decode(data), data) for data in found]
    return [(entry, data) for entry, data in decoded if entry["kind"].startswith("folder.")]


async def test_making_and_removing_a_folder_is_in_the_ledger_without_its_name(house):
    view = await house.view("acme")
    await view.make_folder(split("/inbox/secretname"))
    await view.make_folder(split("/inbox/secretname/deeper"))
    await house.refused(view.make_folder(split("/inbox/secretname")))
    await house.refused(view.remove(split("/inbox/secretname"), is_folder=True))
    await view.remove(split("/inbox/secretname/deeper"), is_folder=True)
    made, deeper, removed = [entry for entry, _ in folder_entries(house)]
    assert [made["kind"], deeper["kind"], removed["kind"]] == [
        "folder.made", "folder.made", "folder.removed",
    ]  # fmt: skip
    assert removed["subject"] == deeper["subject"] != made["subject"]
    assert {each["actor"] for each in (made, deeper, removed)} == {view.account.id}
    assert made["facts"] == {"client": view.client_id}
    assert all(b"secretname" not in data for _, data in folder_entries(house))


async def test_folders_are_bounded_for_each_client_and_a_removed_one_makes_room(
    house, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inbox, "MOST_FOLDERS", 3)
    view = await house.view("acme")
    for path in ("/inbox/a", "/inbox/a/b", "/inbox/a/b/c"):
        await view.make_folder(split(path))
    for path in ("/inbox/d", "/inbox/a/b/c/d"):
        refusal = await house.refused(view.make_folder(split(path)))
        assert refusal.code == "quota"
        assert "There are 3 folders" in refusal.message
    assert len(folder_entries(house)) == 3
    await (await house.view("other")).make_folder(split("/inbox/d"))
    await view.remove(split("/inbox/a/b/c"), is_folder=True)
    await view.make_folder(split("/inbox/d"))
    assert sorted(await house.names("/inbox", "acme")) == ["a", "d"]
