"""Whoever reads names and senders from the command line leaves an entry of what was read, and by whom."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.admin import holds
from gateway.core.intake import recipients
from vault.catalogue import ledger


def entries(house, kind="metadata.read"):
    found = house.core.store.catalogue.read(lambda c: list(ledger.entries(c)))
    return [entry for data in found if (entry := msgspec.json.decode(data))["kind"] == kind]


async def client_id(house, slug="acme"):
    return (await house.act("client.show", slug=slug))["id"]


async def test_a_list_is_one_entry_with_its_filter_and_its_count(house):
    for number in range(3):
        await house.upload(f"/inbox/invoice of Zhang {number}", b"x")
    acme = await client_id(house)
    before = len(entries(house))
    await house.act("document.list", client="acme", state="received")
    await house.act("document.list", by="officer1", fiscal_year=2025, record_class="invoice")
    officer = next(
        account["id"]
        for account in await house.act("account.list")
        if account["name"] == "officer1"
    )
    found = [(e["subject"], e["actor"], e["facts"]) for e in entries(house)[before:]]
    assert found == [
        (acme, "console:1000", {"act": "document.list", "count": 3, "state": "RECEIVED"}),
        (
            "store",
            officer,
            {
                "act": "document.list",
                "count": 0,
                "record_class": "invoice",
                "fiscal_year": 2025,
            },
        ),
    ]


async def test_one_document_or_client_is_an_entry_about_it(house):
    document = await house.upload("/inbox/invoice of Zhang", b"x")
    await house.act("document.show", document=document)
    acme = await client_id(house)
    found = [(e["subject"], e["facts"]) for e in entries(house)]
    assert found == [(document, {"act": "document.show"}), (acme, {"act": "client.show"})]
    text = msgspec.json.encode(entries(house)).decode()
    assert "Zhang" not in text
    assert "acme" not in text


READS = {
    "client.list": {}, "client.show": {"slug": "acme"}, "account.list": {}, "access.list": {},
    "document.list": {}, "document.show": {"document": ""}, "hold.list": {},
    "retention.explain": {"document": ""}, "retention.preview": {"at": "2060-01-01"},
    "retention.rules": {}, "disposal.list": {}, "certificate.list": {}, "certificate.keys": {},
    "ledger.checkpoint": {}, "ledger.export": {}, "keys.copies": {}, "keys.status": {},
    "keys.host": {}, "clock.show": {}, "penalty.list": {}, "backup.list": {}, "status": {},
}  # fmt: skip


@pytest.mark.parametrize("act", READS)
async def test_no_act_of_the_console_opens_what_is_sealed_without_an_entry(house, monkeypatch, act):
    """And those that open nothing sealed (`status`, again and again) leave none."""
    opened = []

    def watch(place, name):
        former = getattr(place, name)

        def look(*args, **kwargs):
            opened.append(name)
            return former(*args, **kwargs)

        monkeypatch.setattr(place, name, look)

    document = await house.upload("/inbox/a.xml", b"a")
    await house.judge()
    await house.act("hold.place", document=document, reason="lawsuit of Zhang")
    watch(house.core.store.custody, "open_metadata")
    watch(recipients, "open_record")
    watch(holds, "open_record")
    before = len(entries(house))
    arguments = {name: value or document for name, value in READS[act].items()}
    await house.act(act, **arguments)
    left = entries(house)[before:]
    assert bool(left) == bool(opened) or act == "retention.preview"
    assert all(entry["facts"]["act"] == act for entry in left)
