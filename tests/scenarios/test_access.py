"""Who sees what: views, grants, judged and unjudged documents, names as data."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.views.base import split, tagged, untag
from gateway.errors import Refusal
from gateway.wire.messages import Classification, Scan
from vault.catalogue import ledger
from vault.catalogue.states import DocumentState
from vault.crypto import sshsig


def ledger_kinds(house):
    import msgspec

    from vault.catalogue import ledger

    return [
        msgspec.json.decode(data)
        for data in house.core.store.catalogue.read(lambda c: list(ledger.entries(c)))
    ]


async def test_nothing_unjudged_is_visible_to_any_reader(house):
    await house.upload("/inbox/a.xml", b"a")
    assert await house.names("/clients/acme", "accountant") == []
    assert await house.names("/review/acme", "accountant") == []
    await house.judge(scans=[Scan("yara", "found", "eicar")])
    assert await house.names("/clients/acme", "accountant") == []
    assert await house.names("/review/acme", "accountant") == []
    # The client still sees that it was received, and is told.
    assert await house.names("/inbox", "acme") == ["a.xml"]
    receipt, _ = await house.names("/receipts", "acme")
    text = await house.read(f"/receipts/{receipt}", "acme")
    assert b"QUARANTINED" in text
    assert b"harmful" in text


async def test_what_could_not_be_checked_is_listed_but_opened_for_nobody_until_an_officer_releases_it(
    house,
):
    document = await house.upload("/inbox/locked.pdf", b"a")
    await house.judge(
        unreadable="encrypted", classification=Classification("invoice", 0.9, "2025-02-02")
    )
    assert await house.names("/review/acme", "accountant") == ["locked.pdf"]
    view = await house.view("accountant")
    refusal = await house.refused(view.open_read(split("/review/acme/locked.pdf")))
    assert "officer can release" in refusal.message
    refusal = await house.refused(
        view.rename(
            split("/review/acme/locked.pdf"), split("/clients/acme/2025/invoice/locked.pdf")
        )
    )
    assert refusal.code == "denied"
    refusal = await house.refused(
        house.act(
            "document.reclassify", by="accountant", document=document,
            record_class="invoice", fiscal_year=2025,
        )
    )  # fmt: skip
    assert refusal.code == "denied"
    await house.by_two(
        "document.release", document=document,
        record_class="invoice", fiscal_year=2025,
    )  # fmt: skip
    assert await house.read("/clients/acme/2025/invoice/locked.pdf") == b"a"


async def test_an_accountant_sees_nothing_of_other_clients(house):
    await house.filed("secret.xml", by="other")
    await house.filed("own.xml", by="acme")
    assert await house.names("/clients", "accountant") == ["acme"]
    view = await house.view("accountant")
    for path in ("/clients/other", "/clients/other/2025/invoice/secret.xml", "/review/other"):
        foreign = await house.refused(view.stat(split(path)))
        nowhere = await house.refused(view.stat(split(path.replace("other", "nobody"))))
        # What exists out of sight and what is nowhere are refused in the same words.
        assert (foreign.code, foreign.message) == (nowhere.code, nowhere.message)
    assert await house.names("/clients", "stranger") == []
    await house.act("account.revoke", name="accountant", client="acme")
    assert await house.names("/clients", "accountant") == []


async def test_a_client_can_neither_read_back_nor_change_nor_remove_nor_see_others(house):
    await house.filed("a.xml")
    view = await house.view("acme")
    for act in (
        view.open_read(split("/inbox/a.xml")),
        view.remove(split("/inbox/a.xml"), is_folder=False),
        view.rename(split("/inbox/a.xml"), split("/receipts/b.xml")),
        view.begin_upload(split("/receipts/x"), resume=False),
        view.begin_upload(split("/x"), resume=False),
        view.make_folder(split("/clients")),
    ):
        assert (await house.refused(act)).code == "denied"
    assert await house.names("/inbox", "other") == []
    receipt, _ = await house.names("/receipts", "acme")
    foreign = await house.view("other")
    assert (await house.refused(foreign.stat(split(f"/receipts/{receipt}")))).code == "not_found"


async def test_a_name_can_be_changed_for_ten_minutes_by_the_account_that_sent_it_and_by_nobody_else(
    house,
):
    document = await house.filed("a.xml")
    line = sshsig.public_line(Ed25519PrivateKey.generate())
    await house.act("account.add", name="second", role="client", client="acme", keys=[line])
    to = split("/inbox/b.xml")
    second = await house.view("second")
    assert (await house.refused(second.rename(split("/inbox/a.xml"), to))).code == "denied"
    view = await house.view("acme")
    await view.make_folder(split("/inbox/2026"))
    house.clock.advance(minutes=9)
    before = house.core.store.catalogue.ledger.size
    await view.rename(split("/inbox/a.xml"), split("/inbox/2026/b.xml"))
    (entry,) = ledger_kinds(house)[before:]
    assert (entry["kind"], entry["subject"]) == ("document.renamed", document)
    assert await house.names("/inbox", "acme") == ["2026"]
    assert await house.names("/inbox/2026", "acme") == ["b.xml"]
    assert await house.read("/clients/acme/2025/invoice/b.xml") == b"x"
    house.clock.advance(minutes=2)
    refusal = await house.refused(view.rename(split("/inbox/2026/b.xml"), to))
    assert "ten minutes" in refusal.message


async def test_a_reviewer_reads_why_each_document_waits(house):
    await house.filed("good.xml")
    assert await house.names("/review", "accountant") == ["acme"]
    await house.upload("/inbox/odd.pdf", b"odd")
    long = "pdf.header_not_first, pdf.hidden_drawing, pdf.unknown_operator, pdf.contents_type"
    reasons = ["title:工资表", "near:invoice"]
    await house.judge(
        scans=[Scan("yara", "clean"), Scan("pdf", "suspect", long)],
        classification=Classification("payroll", 0.6, "2025-03-31", reasons),
    )
    assert await house.names("/review", "accountant") == ["acme", "acme.txt"]
    text = (await house.read("/review/acme.txt")).decode()
    view = await house.view("accountant")
    assert (await view.stat(split("/review/acme.txt"))).size == len(text.encode())
    assert "odd.pdf" in text
    assert "good.xml" not in text
    assert "before the beginning of the PDF" in text
    assert long in text
    assert "title:工资表" in text
    (document,) = [each["id"] for each in await house.act("document.list", state="review")]
    shown = await house.act("document.show", document=document)
    assert shown["findings"] == [f"pdf: suspect {long}"]
    assert shown["reasons"] == reasons
    stranger = await house.view("stranger")
    assert (await house.refused(stranger.stat(split("/review/acme.txt")))).code == "not_found"


async def test_every_open_is_in_the_ledger_before_the_descriptor_leaves(house):
    document = await house.filed("a.xml")
    before = house.core.store.catalogue.ledger.size
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"x"
    (entry,) = ledger_kinds(house)[before:]
    assert (entry["kind"], entry["subject"]) == ("document.opened", document)


async def test_the_ledger_holds_no_name_no_address_and_no_plain_digest(house):
    import hashlib

    data = b"the very bytes"
    await house.filed("Invoice RE-4711 Muster GmbH.xml", data)
    await house.act("hold.place", client="acme", reason="Finanzamt asks about RE-4711")
    everything = b"".join(house.core.store.catalogue.read(lambda c: list(ledger.entries(c))))
    for secret in (
        b"RE-4711", b"Muster", b"Finanzamt", b"owner@", b"acme",
        hashlib.sha256(data).hexdigest().encode(),
    ):  # fmt: skip
        assert secret not in everything


async def test_moving_a_file_from_review_into_a_class_folder_classifies_it(house):
    document = await house.upload("/inbox/a.txt", b"a")
    await house.judge()
    assert await house.names("/review/acme", "accountant") == ["a.txt"]
    view = await house.view("accountant")
    assert await house.read("/review/acme/a.txt") == b"a"
    refusal = await house.refused(
        view.rename(split("/review/acme/a.txt"), split("/clients/acme/2025/nonsense/a.txt"))
    )
    assert "record class" in refusal.message
    await view.rename(split("/review/acme/a.txt"), split("/clients/acme/2025/bank-statement/a.txt"))
    shown = await house.document(document)
    assert (shown["state"], shown["record_class"], shown["fiscal_year"]) == (
        DocumentState.FILED, "bank-statement", 2025,
    )  # fmt: skip
    assert shown["confirmed"]
    assert await house.names("/clients/acme/2025/bank-statement", "accountant") == ["a.txt"]


async def test_a_shorter_retention_takes_an_officer(house):
    document = await house.filed("a.xml")  # an invoice: thirty years
    change = {"document": document, "record_class": "bank-statement", "fiscal_year": 2025}
    refusal = await house.refused(house.act("document.reclassify", by="accountant", **change))
    assert "shorter" in refusal.message
    assert (await house.document(document))["record_class"] == "invoice"
    await house.act("document.reclassify", by="officer1", **change)
    assert (await house.document(document))["record_class"] == "bank-statement"


async def test_documents_of_one_name_are_told_apart_and_each_can_be_read(house):
    first = await house.filed("a.xml", b"first")
    house.clock.advance(seconds=1)
    second = await house.filed("a.xml", b"second")
    names = await house.names("/clients/acme/2025/invoice", "accountant")
    assert names == ["a.xml", tagged("a.xml", second)]
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"first"
    assert await house.read(f"/clients/acme/2025/invoice/{names[1]}") == b"second"
    # In the inbox the newest stands for the name.
    view = await house.view("acme")
    assert (await view.stat(("inbox", "a.xml"))).size == len(b"second")
    assert first != second


@pytest.mark.parametrize("name", ["a.pdf", "a", ".pdf", "a.b.c", "发票.ofd", "a~b.pdf"])
def test_a_tag_can_be_taken_off_again(name):
    document = "01M80J643X9JAJ7MXAFCG8NJ02"
    assert untag(tagged(name, document)) == (name, document[-6:])
    assert untag(name) is None


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/inbox/" + "x" * 256, "invalid"),
        ("/inbox/a\nb", "invalid"),
        ("/inbox/a\x7fb", "invalid"),
        ("/inbox/\udcff", "invalid"),
        ("/inbox/gpj.\u202eexe", "invalid"),
        ("/" + "a/" * 40, "invalid"),
        ("/" + "x/" * 2100, "invalid"),
    ],
)
def test_names_that_would_lie_or_break_are_refused(path, code):
    with pytest.raises(Refusal) as refusal:
        split(path)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/", ()),
        ("", ()),
        ("/../../etc/passwd", ("etc", "passwd")),
        ("/inbox/../inbox/./a", ("inbox", "a")),
        ("inbox//a/", ("inbox", "a")),
    ],
)
def test_no_path_leads_above_the_root(path, names):
    assert split(path) == names


async def test_a_listing_of_many_documents_is_paged_and_complete(house):
    from gateway.core.views import accountant as views

    original = views.PAGE
    views.PAGE = 5
    try:
        for number in range(23):
            await house.filed(f"{number:03}.xml")
        names = await house.names("/clients/acme/2025/invoice", "accountant")
        assert sorted(names) == [f"{number:03}.xml" for number in range(23)]
    finally:
        views.PAGE = original


async def test_folders_of_the_inbox_nest_and_only_empty_ones_go(house):
    view = await house.view("acme")
    await view.make_folder(split("/inbox/2025"))
    await view.make_folder(split("/inbox/2025/januar"))
    assert (await house.refused(view.make_folder(split("/inbox/2025")))).code == "exists"
    missing = view.begin_upload(split("/inbox/nowhere/a.pdf"), resume=False)
    assert (await house.refused(missing)).code == "not_found"
    await house.upload("/inbox/2025/januar/a.pdf", b"x")
    assert await house.names("/inbox/2025/januar", "acme") == ["a.pdf"]
    refusal = await house.refused(view.remove(split("/inbox/2025"), is_folder=True))
    assert "not empty" in refusal.message
    await view.make_folder(split("/inbox/empty"))
    await view.remove(split("/inbox/empty"), is_folder=True)
    assert await house.names("/inbox", "acme") == ["2025"]


async def test_roles_without_documents_see_none(house):
    await house.filed("a.xml")
    assert await house.names("/", "auditor") == ["ledger", "certificates"]
    assert await house.names("/", "officer1") == ["disposal"]
    assert (await house.refused(house.view("admin"))).code == "denied"
    entries = await house.read("/ledger/entries-000000000000.jsonl", "auditor")
    assert entries.count(b"\n") == house.core.store.catalogue.ledger.size


async def test_what_is_revoked_is_gone_at_once_in_a_session_that_is_open(house):
    """The rights of a session are looked up for each request, not remembered from its login."""

    from gateway.core.login import accounts

    await house.filed("a.xml")
    view = await house.view("accountant")
    assert (await view.stat(split("/clients/acme/2025/invoice/a.xml"))).size == 1
    await house.act("account.revoke", **{"name": "accountant"}, client="acme")  # noqa: PIE804
    view.account = await house.core.read(lambda c: accounts.current_account(c, "accountant"))
    refusal = await house.refused(view.stat(split("/clients/acme/2025/invoice/a.xml")))
    assert refusal.code == "not_found"
    await house.act("account.disable", **{"name": "accountant"})  # noqa: PIE804
    assert await house.core.read(lambda c: accounts.current_account(c, "accountant")) is None


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "a/b", "a\\b", "", ".", "..", "x" * 400 + ".pdf", "a\nb\x00c", "\udcff",
     "gpj.\u202eexe", "发" * 200 + ".ofd"],
)  # fmt: skip
def test_a_name_from_inside_a_document_becomes_one_that_can_be_shown(name):
    from gateway.core.views.base import check_name
    from gateway.names import safe_name

    cleaned = safe_name(name)
    check_name(cleaned)
    assert "/" not in cleaned
    assert cleaned not in {"", ".", ".."}
    assert not name.endswith((".pdf", ".ofd")) or cleaned.endswith(name[-4:])
