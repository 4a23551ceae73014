"""A mail that holds only the link to an invoice is no invoice, and a person hears of it."""

from __future__ import annotations

import io
import time
from email.message import EmailMessage
from pathlib import Path

import pytest

from gateway.inspect import inspection
from gateway.inspect.classify import classify, letters
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan.yara import RuleSet
from gateway.wire.messages import INVOICE_BY_LINK
from tests.support.parts import Parts
from tests.vectors.cases import CASES

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def rules():
    return RuleSet.load()


def taken(data, rules):
    document = Document("x", io.BytesIO(data), len(data), "x.eml", "smtp", 0)
    verdict = inspection.inspect(document, Limits(), Parts(), rules=rules, clamd=None)
    assert verdict.classification.record_class == "correspondence"
    sure = verdict.classification.confidence >= classify.SURE
    by_link = INVOICE_BY_LINK in verdict.classification.reasons
    assert sure is not by_link
    return by_link


def mail(body, *, subject="Hello", html=False, attachment=b""):
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@example.com", "b@example.com", subject
    made.set_content(body, subtype="html" if html else "plain")
    if attachment:
        made.add_attachment(attachment, maintype="application", subtype="pdf", filename="a.pdf")
    return made.as_bytes()


TO = '<a href="https://e.example.com/d?id=1">{}</a>'
NUMBER = "发票号码：25442000000123456789"


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (f"<p>{NUMBER} {TO.format('点击下载PDF')} {TO.format('下载OFD')}</p>", {"html": True}),
        (f"<p>您的电子发票已开具</p>{TO.format('查看')}", {"html": True}),
        (f"<p>Your invoice is ready.</p>{TO.format('Download')}", {"html": True}),
        (TO.format("View"), {"html": True, "subject": "Your e-invoice 42"}),
        ("Ihre Rechnung können Sie hier abrufen: https://e.example.com/r", {}),
        ("Votre facture: consulter sur https://e.example.com/f", {}),
        (f"{NUMBER}\nhttps://e.example.com/d", {}),
        ("<A HREF = 'HTTPS://e.example.com/" + "x" * 600 + "'>下载发票</A>", {"html": True}),
    ],
)
def test_an_invoice_behind_a_link_alone_is_for_a_person(body, more, rules):
    assert taken(mail(body, **more), rules)
    assert not taken(mail(body, **more, attachment=b"text of the invoice"), rules)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ("Thank you for the invoice.\n-- \nhttps://example.com", {}),
        ("Did you get my invoice? We see two open invoices.\n-- \nhttps://example.com", {}),
        ("Please download the minutes: https://example.com/m", {}),
        ("The invoice is paid." + " So it is." * 30 + " See https://example.com", {}),
        ("请把发票寄给我们。", {}),
        ("Download your invoice at the counter.", {}),
        (f"<p>{NUMBER}</p><a href='#top'>up</a>", {"html": True}),
        ("The invoiced sum; get a factor. https://example.com", {}),
    ],
)
def test_a_letter_that_names_an_invoice_or_a_link_is_a_letter(body, more, rules):
    assert not taken(mail(body, **more), rules)


# The cases themselves, where they are; what is of their kind is above.
if CASES.is_dir():

    def test_the_mail_of_links_is_for_a_person(rules):
        path = CASES / "18-link-only-einvoice" / "21-link-only.eml"
        assert taken(path.read_bytes(), rules)


@pytest.mark.parametrize("piece", ["invoice ", "发票", "[link]", "发票号码:", "1"])
def test_the_question_takes_time_in_proportion(piece):
    begun = time.process_time()
    letters.offers_invoice_by_link("https://x " + piece * (100_000 // len(piece)))
    assert time.process_time() - begun < 2
