"""What a message says itself becomes a document where it is one, and its links are text."""

from __future__ import annotations

import io

import pytest

from gateway.config import InspectSection
from gateway.inspect import inspection
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan import yara
from gateway.inspect.unpack import own_words
from gateway.wire.messages import INVOICE_BY_LINK
from tests.support.parts import Parts

RULES = yara.RuleSet.load()
INVOICE = (
    "Invoice\nInvoice number: 2026-17\nInvoice date: 2026-01-31\nSeller: Acme Demonstration Ltd\n"
    "Consulting in January\nTotal: 1200.00 EUR\nPlease pay within 14 days.\n"
)


def inspect(body, kind="plain", subject="January", **limits):
    raw = (
        f"From: a@example.org\nTo: b@example.org\nSubject: {subject}\nMIME-Version: 1.0\n"
        f"Content-Type: text/{kind}; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{body}"
    ).encode()
    parts = Parts()
    document = Document("d", io.BytesIO(raw), len(raw), "m.eml", "smtp", 0)
    return inspection.inspect(document, Limits(**limits), parts, rules=RULES, clamd=None), parts


def test_an_invoice_written_into_a_message_becomes_a_document():
    verdict, parts = inspect(INVOICE)
    ((name, content),) = parts.taken
    assert name == "January.txt"
    assert content.decode() == INVOICE.strip()
    assert verdict.parts == ["1"]
    assert verdict.classification.record_class == "correspondence"


@pytest.mark.parametrize(
    "body",
    [
        "Hello,\n\nplease see the attachment.\n\nKind regards\nA. Demonstration\nTel. +49 30 1234567\n",
        "您好，附件是三月的发票，请查收。谢谢！\n",
        "Thanks!\n\nOn Mon, 2 Feb 2026 at 10:00 B <b@example.org> wrote:\n> "
        + INVOICE.replace("\n", "\n> "),
        "Thanks!\n-- \n" + INVOICE,
        "Thanks!\n\n-----Original Message-----\n" + INVOICE,
        "The total of 1,200.00 EUR was paid on 2026-01-31.\n",
        "",
    ],
)
def test_greetings_signatures_and_what_is_quoted_do_not(body):
    assert inspect(body)[1].taken == []


def test_the_setting_decides():
    assert Limits.of(InspectSection()).body_text == "auto"
    assert Limits.of(InspectSection(body_text="never")).body_text == "never"
    assert inspect(INVOICE, body_text="never")[1].taken == []
    long = "We met on Monday and agreed that the books are to be kept in the new way from now on, all of us.\n"
    assert inspect(long, body_text="always")[1].taken == [("January.txt", long.strip().encode())]
    assert inspect("Hello\n", body_text="always")[1].taken == []


@pytest.mark.parametrize("size", [20_000, 40_000])
def test_reading_them_is_linear(size):
    for line in ("> " * size, "-" * size, "on " * size, "from: " * size):
        assert len(own_words.own_words(line)) <= len(line)


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_an_invoice_behind_a_link_shows_the_link_as_text(kind):
    target = "https://invoices.example.com/d?id=1&k=2"
    body = f"您的电子发票已开具，请点击下载：{target}\n"
    if kind == "html":
        body = (
            f'<p>您的电子发票已开具，请点击 <a href="{target.replace("&", "&amp;")}">下载</a></p>'
        )
    verdict, parts = inspect(body, kind)
    assert parts.taken == []
    assert INVOICE_BY_LINK in verdict.classification.reasons
    assert verdict.facts["links"] == target


def test_links_of_other_messages_are_not_kept():
    assert "links" not in inspect("See https://example.com/ for our new address.\n")[0].facts
