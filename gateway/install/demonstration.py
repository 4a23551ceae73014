"""The demonstration: who and what is in it, and its sample documents.

Promises: everything is plainly synthetic; no real company, person or number is meant. The samples are
data, kept here so that `strongroom init --demo` needs no other file: an electronic invoice (UBL 2.1, EN
16931), a note whose retention period is over at once (rule pack `demo`), and an e-mail with an invoice
attached.
Leaves out: making accounts and keys (`gateway.install.create`), and what to do with them
(`gateway.install.tour`).
"""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from typing import Final

FOLDER: Final = "demo"  # in the installation's folder
PACK: Final = "demo"
CLIENT: Final = "acme"
SENDER: Final = "owner@example.com"
ACCOUNTS: Final = {
    "acme": "client",
    "accountant": "accountant",
    "officer1": "officer",
    "officer2": "officer",
    "officer3": "officer",
    "auditor": "auditor",
}

SAMPLES: Final = "samples"  # in the demonstration's folder
NOTE: Final = "demonstration-note.txt"
NOTE_CLASS: Final = "demonstration-note"
INVOICE: Final = "invoice.xml"
MESSAGE: Final = "message.eml"

_INVOICE: Final = """\
<?xml version="1.0" encoding="UTF-8"?>
<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"
 xmlns:cac="urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
 xmlns:cbc="urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2">
  <cbc:CustomizationID>urn:cen.eu:en16931:2017</cbc:CustomizationID>
  <cbc:ID>{number}</cbc:ID>
  <cbc:IssueDate>{issued}</cbc:IssueDate>
  <cbc:DueDate>{due}</cbc:DueDate>
  <cbc:InvoiceTypeCode>380</cbc:InvoiceTypeCode>
  <cbc:Note>Synthetic sample of Strongroom's demonstration. No such sale took place.</cbc:Note>
  <cbc:DocumentCurrencyCode>EUR</cbc:DocumentCurrencyCode>
  <cac:AccountingSupplierParty><cac:Party>
    <cac:PartyName><cbc:Name>Sample Supplies (synthetic)</cbc:Name></cac:PartyName>
    <cac:PostalAddress>
      <cbc:CityName>Sampletown</cbc:CityName>
      <cac:Country><cbc:IdentificationCode>DE</cbc:IdentificationCode></cac:Country>
    </cac:PostalAddress>
    <cac:PartyLegalEntity>
      <cbc:RegistrationName>Sample Supplies (synthetic)</cbc:RegistrationName>
    </cac:PartyLegalEntity>
  </cac:Party></cac:AccountingSupplierParty>
  <cac:AccountingCustomerParty><cac:Party>
    <cac:PartyName><cbc:Name>Acme Demonstration Ltd</cbc:Name></cac:PartyName>
    <cac:PostalAddress>
      <cbc:CityName>Demoville</cbc:CityName>
      <cac:Country><cbc:IdentificationCode>CN</cbc:IdentificationCode></cac:Country>
    </cac:PostalAddress>
    <cac:PartyLegalEntity>
      <cbc:RegistrationName>Acme Demonstration Ltd</cbc:RegistrationName>
    </cac:PartyLegalEntity>
  </cac:Party></cac:AccountingCustomerParty>
  <cac:TaxTotal>
    <cbc:TaxAmount currencyID="EUR">19.00</cbc:TaxAmount>
    <cac:TaxSubtotal>
      <cbc:TaxableAmount currencyID="EUR">100.00</cbc:TaxableAmount>
      <cbc:TaxAmount currencyID="EUR">19.00</cbc:TaxAmount>
      <cac:TaxCategory>
        <cbc:ID>S</cbc:ID>
        <cbc:Percent>19</cbc:Percent>
        <cac:TaxScheme><cbc:ID>VAT</cbc:ID></cac:TaxScheme>
      </cac:TaxCategory>
    </cac:TaxSubtotal>
  </cac:TaxTotal>
  <cac:LegalMonetaryTotal>
    <cbc:LineExtensionAmount currencyID="EUR">100.00</cbc:LineExtensionAmount>
    <cbc:TaxExclusiveAmount currencyID="EUR">100.00</cbc:TaxExclusiveAmount>
    <cbc:TaxInclusiveAmount currencyID="EUR">119.00</cbc:TaxInclusiveAmount>
    <cbc:PayableAmount currencyID="EUR">119.00</cbc:PayableAmount>
  </cac:LegalMonetaryTotal>
  <cac:InvoiceLine>
    <cbc:ID>1</cbc:ID>
    <cbc:InvoicedQuantity unitCode="C62">4</cbc:InvoicedQuantity>
    <cbc:LineExtensionAmount currencyID="EUR">100.00</cbc:LineExtensionAmount>
    <cac:Item>
      <cbc:Name>Sample article</cbc:Name>
      <cac:ClassifiedTaxCategory>
        <cbc:ID>S</cbc:ID>
        <cbc:Percent>19</cbc:Percent>
        <cac:TaxScheme><cbc:ID>VAT</cbc:ID></cac:TaxScheme>
      </cac:ClassifiedTaxCategory>
    </cac:Item>
    <cac:Price><cbc:PriceAmount currencyID="EUR">25.00</cbc:PriceAmount></cac:Price>
  </cac:InvoiceLine>
</Invoice>
"""

_NOTE: Final = """\
Strongroom demonstration note
Date: {day}

This note is synthetic. Its retention period, by the rule pack "demo", is over as soon as it is filed,
so that the destruction of a document can be watched from proposal to certificate.
"""


def invoice(number: str, issued: str, due: str) -> bytes:
    """An electronic invoice as a UBL document.

    Args:
        number: its number. issued, due: ISO 8601 dates.
    """
    return _INVOICE.format(number=number, issued=issued, due=due).encode()


def note(day: str) -> bytes:
    """A demonstration note of a day (ISO 8601)."""
    return _NOTE.format(day=day).encode()


def message(sender: str, recipient: str, attachment_name: str, attachment: bytes) -> bytes:
    """An e-mail with an XML document attached, as it goes over the wire (CRLF)."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = recipient
    mail["Subject"] = "Synthetic invoice of the demonstration"
    mail["Date"] = "Fri, 20 Nov 2026 09:00:00 +0000"
    mail["Message-ID"] = "<demonstration-1@example.com>"
    mail.set_content("Please find attached a synthetic invoice.\n")
    mail.add_attachment(attachment, "application", "xml", filename=attachment_name)
    return mail.as_bytes()
