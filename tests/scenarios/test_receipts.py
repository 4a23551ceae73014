"""What a client sees of what it sent: thirty days of inbox, receipts in two forms, the same bytes recognised."""

from __future__ import annotations

import json

import jsonschema
import pytest

from gateway.core import reasons
from gateway.core.intake import temporary
from gateway.core.intake.acquaintances import Acquaintance
from gateway.core.reasons import UNJUDGED
from gateway.core.views.base import split
from gateway.wire.messages import Classification, Scan
from tests.support.inspecting import inspect
from vault.certificate.receipt import ReceiptError, json_schema, verify_receipt
from vault.ledger.note import verify_note


async def receipt(house, document, kind="json", by="acme"):
    (name,) = [
        name for name in await house.names("/receipts", by) if name.endswith(f"{document}.{kind}")
    ]
    return await house.read(f"/receipts/{name}", by)


def verified(house, data):
    return verify_receipt(data, house.core.store.vkeys)


async def test_a_receipt_says_the_same_as_text_and_as_json(house):
    document = await house.filed("März 发票.xml", b"bytes")
    stated = verified(house, await receipt(house, document))
    text = verified(house, await receipt(house, document, "txt"))
    assert stated["name"] == text["name"] == "März 发票.xml"
    assert stated["document"] == text["document"] == document
    assert str(stated["size"]) == text["size"] == "5"
    assert stated["sha256"] == text["sha256"]
    assert stated["client"] == text["client"] == "acme"
    assert stated["verdict"] == text["verdict"] == "accepted"
    assert (stated["record_class"], stated["fiscal_year"]) == ("invoice", 2025)
    assert text["class"] == "invoice (发票 / Invoice), fiscal year 2025"
    assert stated["kept"] == "until"
    assert stated["kept_until"] == text["kept_until"] == "2055-12-31T16:00:00.000000+00:00"
    assert stated["received_at"] == text["received"]


async def test_listings_tell_the_size_that_a_receipt_then_has(house):
    await house.filed("a.xml", b"a")
    await house.upload("/inbox/发票 “b”\\.xml", b"b")
    await house.upload("/inbox/c.xml", b"a")
    view = await house.view("acme")
    page = await view.entries(("receipts",), "")
    assert len(page.entries) == 6
    for entry in page.entries:
        data = await house.read(f"/receipts/{entry.name}", "acme")
        assert len(data) == entry.size == (await view.stat(("receipts", entry.name))).size


MIXED = (
    b"From: owner@acme.example\r\nTo: b@example.org\r\nSubject: papers\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="B"\r\n\r\n--B\r\nContent-Type: text/html\r\n\r\n<p>Hello</p>\r\n'
    b"--B\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=note.txt\r\n\r\n"
    b"Strongroom demonstration note\r\nDate: 2026-01-31\r\n"
    b"--B\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=odd.csv\r\n\r\na,b\r\n1,2\r\n"
    b"--B\r\nContent-Type: image/gif\r\nContent-ID: <logo>\r\nContent-Disposition: inline; filename=logo.gif\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nR0lGODlhAQABAAAAACw=\r\n--B--\r\n"
)


async def test_a_receipt_of_a_message_lists_what_became_of_every_part(house):
    message = await house.upload("/inbox/papers.eml", MIXED)
    await inspect(house)
    stated = verified(house, await receipt(house, message))
    assert [(each["name"], each["outcome"]) for each in stated["parts"]] == [
        ("note.txt", "pending"),
        ("odd.csv", "pending"),
        ("logo.gif", "ignored"),
    ]
    assert stated["parts"][2]["rule"] == "picture-in-text"
    for _ in range(2):
        await inspect(house)
    stated = verified(house, await receipt(house, message))
    assert [each["outcome"] for each in stated["parts"]] == ["filed", "review", "ignored"]
    jsonschema.validate(json.loads(await receipt(house, message)), json.loads(json_schema()))
    text = verified(house, await receipt(house, message, "txt"))
    assert text["part_3"] == "ignored by rule: picture-in-text, logo.gif"
    assert stated["parts"][0]["document"] in text["part_1"]
    view = await house.view("acme")
    for entry in (await view.entries(("receipts",), "")).entries:
        assert len(await house.read(f"/receipts/{entry.name}", "acme")) == entry.size


async def test_a_receipt_of_what_holds_nothing_has_no_list(house):
    document = await house.filed("a.xml")
    assert "parts" not in verified(house, await receipt(house, document))


async def test_a_json_receipt_follows_its_published_schema(house):
    document = await house.filed("a.xml")
    data = json.loads(await receipt(house, document))
    jsonschema.validate(data, json.loads(json_schema()))
    data["receipt"]["more"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json.loads(json_schema()))


async def test_any_json_library_makes_the_signed_note_of_a_receipt(house):
    document = await house.filed('März 发票 "<&>" \\ 😀.xml')
    data = await receipt(house, document)
    file = json.loads(data)
    text = json.dumps(file["receipt"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    note = f"{text}\n\n{file['signature']}\n"
    assert verify_note(note, house.core.store.vkeys[0]) == f"{text}\n"


@pytest.mark.parametrize("kind", ["txt", "json"])
async def test_a_receipt_that_was_changed_verifies_no_more(house, kind):
    document = await house.filed("a.xml", b"abc")
    data = await receipt(house, document, kind)
    assert verified(house, data)
    changed = data.replace(b'"size": 3', b'"size": 4').replace(b"size: 3", b"size: 4")
    assert changed != data
    with pytest.raises(ReceiptError, match="false one"):
        verified(house, changed)
    with pytest.raises(ReceiptError):
        verify_receipt(data, ["other.example+00000000+AAAA"])
    with pytest.raises(ReceiptError, match="no key"):
        verify_receipt(data, [])


async def test_no_other_note_of_the_ledger_passes_for_a_receipt(house):
    await house.filed("a.xml")
    checkpoint = await house.act("ledger.checkpoint")
    with pytest.raises(ReceiptError, match="begin with"):
        verified(house, checkpoint["checkpoint"].encode())
    with pytest.raises(ReceiptError, match="expected JSON"):
        verified(house, b"{")


VERDICTS = [
    ({"scans": [Scan("yara", "found", "eicar")]}, "refused", "harmful", "clean copy"),
    ({"unreadable": "encrypted"}, "review", "password", "by telephone"),
    ({"unreadable": "malformed"}, "review", "damaged", "anew"),
    ({"scans": [Scan("yara", "clean"), Scan("office", "suspect", "office.macros")]},
     "review", "acts by itself", "PDF"),
    ({}, "review", "certainty", "Nothing"),
    ({"classification": Classification("invoice", 0.9, None)}, "review", "date", "Nothing"),
]  # fmt: skip


async def test_a_refusal_has_its_reason_and_what_to_do(house):
    for verdict, state, why, what in VERDICTS:
        document = await house.upload("/inbox/a.pdf", b"a")
        assert verified(house, await receipt(house, document))["verdict"] == "pending"
        await house.judge(**verdict)
        stated = verified(house, await receipt(house, document))
        text = verified(house, await receipt(house, document, "txt"))
        assert stated["verdict"] == text["verdict"] == state
        assert why in stated["reason"]
        assert what in stated["what_to_do"]
        assert (text["reason"], text["what_to_do"]) == (stated["reason"], stated["what_to_do"])
        # Which scanner said it, and by which rule, is for the firm.
        assert "yara" not in (await receipt(house, document)).decode()


async def test_what_an_officer_rejects_is_told_with_the_way_on(house):
    document = await house.upload("/inbox/a.pdf", b"a")
    await house.judge()
    await house.act("document.reject", by="officer1", document=document)
    stated = verified(house, await receipt(house, document))
    assert (stated["verdict"], stated["reason_code"]) == ("refused", "rejected")
    assert "Ask the firm" in stated["what_to_do"]


@pytest.mark.parametrize("reason", ["found:yara:x", UNJUDGED + "limit:clamd", UNJUDGED + "new-one",
                                    "rejected", "unclassified", "low-confidence"])  # fmt: skip
def test_every_reason_code_gives_two_sentences(reason):
    assert all(sentence.endswith(".") for sentence in reasons.sentences(reason))


async def test_the_same_bytes_are_recognised_said_and_kept(house):
    first = await house.upload("/inbox/a.pdf", b"same")
    house.clock.advance(days=400)
    view = await house.view("acme")
    upload, _ = await view.begin_upload(split("/inbox/b.pdf"), resume=False)
    second = await house.finish(upload, b"same")
    assert f"document {first}" in upload.said
    assert "2026-11-22" in upload.said
    assert verified(house, await receipt(house, second))["same_bytes_as"] == {
        "document": first, "received_at": "2026-11-22T08:00:00.000000+00:00",
    }  # fmt: skip
    assert first in verified(house, await receipt(house, second, "txt"))["same_bytes_as"]
    assert verified(house, await receipt(house, first))["same_bytes_as"] is None
    assert (await house.document(first))["state"] == "RECEIVED"
    # Another client is told nothing of it.
    foreign, _ = await (await house.view("other")).begin_upload(split("/inbox/c"), resume=False)
    third = await house.finish(foreign, b"same")
    assert foreign.said == ""
    assert verified(house, await receipt(house, third, by="other"))["same_bytes_as"] is None


async def test_the_same_bytes_are_recognised_across_channels_and_at_a_rename(house):
    from gateway.core.intake import recipients
    from gateway.wire.messages import BeginMail

    client = (await house.act("client.show", slug="acme"))["id"]
    begun = await recipients.begin(
        house.wings.intake,
        Acquaintance(client, unlimited=False),
        BeginMail("p", "owner@acme.example", ["a@b"]),
    )
    first = await house.finish(begun, b"From: a\r\n")
    view = await house.view("acme")
    upload, _ = await view.begin_upload(split("/inbox/a.part"), resume=False)
    import hashlib

    from vault.crypto.sealed import SealedWriter, document_context

    writer = SealedWriter(upload.descriptor, upload.key, document_context(upload.document_id))
    writer.write(b"From: a\r\n")
    size = writer.finish()
    digest = hashlib.sha256(b"From: a\r\n").digest()
    await temporary.keep(house.wings.intake, upload, size, digest)
    said = await view.rename(split("/inbox/a.part"), split("/inbox/a.eml"))
    assert f"document {first}" in said


async def test_the_inbox_lists_thirty_days_and_the_receipts_stay(house):
    view = await house.view("acme")
    await view.make_folder(split("/inbox/2026"))
    old = await house.upload("/inbox/2026/a.pdf", b"old")
    house.clock.advance(days=29, hours=23, minutes=59)
    assert await house.names("/inbox/2026", "acme") == ["a.pdf"]
    refusal = await house.refused(view.remove(split("/inbox/2026"), is_folder=True))
    assert "not empty" in refusal.message
    house.clock.advance(minutes=2)
    assert await house.names("/inbox/2026", "acme") == []
    refusal = await house.refused(view.stat(split("/inbox/2026/a.pdf")))
    assert refusal.code == "not_found"
    assert verified(house, await receipt(house, old))["name"] == "a.pdf"
    new = await house.upload("/inbox/2026/a.pdf", b"newer")
    entry = await view.stat(split("/inbox/2026/a.pdf"))
    assert (entry.size, entry.modified) == (5, int(house.clock().timestamp()))
    house.clock.advance(days=31)
    # What nobody sees any more keeps no folder; its path stays with the document.
    await view.remove(split("/inbox/2026"), is_folder=True)
    assert await house.names("/inbox", "acme") == []
    assert (await house.document(new))["path"] == "2026/a.pdf"
    assert (await house.document(old))["path"] == "2026/a.pdf"


async def test_a_long_upload_is_listed_from_its_receipt_not_from_its_beginning(house):
    view = await house.view("acme")
    upload, _ = await view.begin_upload(split("/inbox/a.pdf"), resume=False)
    house.clock.advance(hours=20)
    await house.finish(upload, b"x")
    house.clock.advance(days=29, hours=23)
    assert await house.names("/inbox", "acme") == ["a.pdf"]


async def test_a_receipt_is_found_by_its_whole_name_only(house):
    document = await house.upload("/inbox/a.pdf", b"x")
    view = await house.view("acme")
    assert (await view.stat(("receipts", f"20261122-{document}.txt"))).size
    for name in (f"20261121-{document}.txt", f"20261122-{document}.pdf", document):
        refusal = await house.refused(view.stat(("receipts", name)))
        assert refusal.code == "not_found"


async def test_receipts_are_listed_by_pages_and_completely(house, monkeypatch):
    from gateway.core.views import receipts

    monkeypatch.setattr(receipts, "RECEIPTS_AT_ONCE", 2)
    sent = [await house.upload(f"/inbox/{number}", b"%d" % number) for number in range(5)]
    await house.upload("/inbox/others", b"x", by="other")
    names = await house.names("/receipts", "acme")
    assert names == [f"20261122-{each}.{kind}" for each in sent for kind in ("txt", "json")]
