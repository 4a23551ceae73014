"""Invoices that state themselves in a structure: UBL, CII (Factur-X, ZUGFeRD, XRechnung), FatturaPA,
the Chinese fully digital invoice (数电票) and the OFD e-invoice, and EDIFACT INVOIC. Bank statements: see
`statements`.

Promises: a tree is recognised by its root and read by fixed paths; what a document does not state
stays absent. An SBDH envelope (Peppol) is what it carries, if that is one document. Leaves out: validation
against a schema, signatures, lines and taxes.

Sources: OASIS UBL 2.1; UN/CEFACT CrossIndustryInvoice D16B and its ZUGFeRD 1.0 forerunner; Agenzia
delle Entrate FatturaPA 1.2; 财会 数电票 XML (root EInvoice); GB/T e-invoice 2019 (root eInvoice);
UN/EDIFACT D.96A INVOIC (BGM, DTM 137); UN/CEFACT Standard Business Document Header 1.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from gateway.inspect.formats import statements

if TYPE_CHECKING:
    from lxml.etree import _Element

VALUE_LENGTH: Final = 120
_EDIFACT: Final = re.compile(r"UNH\+[^']{0,200}\+INVOIC:", re.DOTALL)


@dataclass(slots=True)
class Structure:
    """A recognised structure: its label, such as "Invoice(UBL)", and what it states.

    Keys of `fields`: invoice_number, date, total, currency, seller_id, buyer_id. The date is as
    written in the document; of a bank statement it is the last day of its period.
    """

    label: str
    fields: dict[str, str] = field(default_factory=dict)
    record_class: Literal["invoice", "bank-statement"] = "invoice"


_Paths = dict[str, tuple[str, ...]]

# Each path is a chain of local names below the root; the first that has text wins.
_UBL: Final[_Paths] = {
    "invoice_number": ("ID",),
    "date": ("IssueDate",),
    "currency": ("DocumentCurrencyCode",),
    "total": ("LegalMonetaryTotal/PayableAmount", "LegalMonetaryTotal/TaxInclusiveAmount"),
    "seller_id": (
        "AccountingSupplierParty/Party/PartyTaxScheme/CompanyID",
        "AccountingSupplierParty/Party/PartyLegalEntity/CompanyID",
    ),
    "buyer_id": (
        "AccountingCustomerParty/Party/PartyTaxScheme/CompanyID",
        "AccountingCustomerParty/Party/PartyLegalEntity/CompanyID",
    ),
}
_CII_TRADE: Final = "SupplyChainTradeTransaction/ApplicableHeaderTradeAgreement/"
_CII_SUM: Final = (
    "SupplyChainTradeTransaction/ApplicableHeaderTradeSettlement/"
    "SpecifiedTradeSettlementHeaderMonetarySummation/"
)
_CII: Final[_Paths] = {
    "invoice_number": ("ExchangedDocument/ID",),
    "date": ("ExchangedDocument/IssueDateTime/DateTimeString",),
    "currency": (
        "SupplyChainTradeTransaction/ApplicableHeaderTradeSettlement/InvoiceCurrencyCode",
    ),
    "total": (_CII_SUM + "GrandTotalAmount", _CII_SUM + "DuePayableAmount"),
    "seller_id": (_CII_TRADE + "SellerTradeParty/SpecifiedTaxRegistration/ID",),
    "buyer_id": (_CII_TRADE + "BuyerTradeParty/SpecifiedTaxRegistration/ID",),
}
_ZF1_TRADE: Final = "SpecifiedSupplyChainTradeTransaction/ApplicableSupplyChainTradeAgreement/"
_ZF1_SETTLE: Final = "SpecifiedSupplyChainTradeTransaction/ApplicableSupplyChainTradeSettlement/"
_ZUGFERD1: Final[_Paths] = {
    "invoice_number": ("HeaderExchangedDocument/ID",),
    "date": ("HeaderExchangedDocument/IssueDateTime/DateTimeString",),
    "currency": (_ZF1_SETTLE + "InvoiceCurrencyCode",),
    "total": (_ZF1_SETTLE + "SpecifiedTradeSettlementMonetarySummation/GrandTotalAmount",),
    "seller_id": (_ZF1_TRADE + "SellerTradeParty/SpecifiedTaxRegistration/ID",),
    "buyer_id": (_ZF1_TRADE + "BuyerTradeParty/SpecifiedTaxRegistration/ID",),
}
_FATTURA_BODY: Final = "FatturaElettronicaBody/DatiGenerali/DatiGeneraliDocumento/"
_FATTURA_PARTY: Final = "/DatiAnagrafici/IdFiscaleIVA/IdCodice"
_FATTURA: Final[_Paths] = {
    "invoice_number": (_FATTURA_BODY + "Numero",),
    "date": (_FATTURA_BODY + "Data",),
    "currency": (_FATTURA_BODY + "Divisa",),
    "total": (_FATTURA_BODY + "ImportoTotaleDocumento",),
    "seller_id": ("FatturaElettronicaHeader/CedentePrestatore" + _FATTURA_PARTY,),
    "buyer_id": ("FatturaElettronicaHeader/CessionarioCommittente" + _FATTURA_PARTY,),
}
_EINVOICE: Final[_Paths] = {
    "invoice_number": ("TaxSupervisionInfo/InvoiceNumber", "Header/EIid"),
    "date": ("TaxSupervisionInfo/IssueTime", "EInvoiceData/BasicInformation/RequestTime"),
    "total": ("EInvoiceData/BasicInformation/TotalTax-includedAmount",),
    "seller_id": ("EInvoiceData/SellerInformation/SellerIdNum",),
    "buyer_id": ("EInvoiceData/BuyerInformation/BuyerIdNum",),
}
_EINVOICE_2019: Final[_Paths] = {
    "invoice_number": ("InvoiceNo",),
    "date": ("IssueDate",),
    "total": ("TaxInclusiveTotalAmount",),
    "seller_id": ("Seller/SellerTaxID",),
    "buyer_id": ("Buyer/BuyerTaxID",),
}
_ENVELOPE_SPACE: Final = "http://www.unece.org/cefact/namespaces/StandardBusinessDocumentHeader"
_UBL_SPACE: Final = "urn:oasis:names:specification:ubl:schema:xsd:"

# root local name → (label, what its namespace must begin with, paths)
_ROOTS: Final[dict[str, tuple[str, str, _Paths]]] = {
    "Invoice": ("Invoice(UBL)", _UBL_SPACE, _UBL),
    "CreditNote": ("CreditNote(UBL)", _UBL_SPACE, _UBL),
    "CrossIndustryInvoice": ("CrossIndustryInvoice(CII)", "urn:un:unece:uncefact:", _CII),
    "CrossIndustryDocument": ("CrossIndustryDocument(ZUGFeRD 1)", "urn:", _ZUGFERD1),
    "FatturaElettronica": ("FatturaElettronica", "", _FATTURA),
    "EInvoice": ("EInvoice", "", _EINVOICE),
    "eInvoice": ("eInvoice(2019)", "", _EINVOICE_2019),
}


def read_tree(root: _Element) -> Structure | None:
    """Recognise a document by its root element and read what it states; None for anything else."""
    space, name = _split(root.tag)
    if (space, name) == (_ENVELOPE_SPACE, "StandardBusinessDocument"):
        return _in_envelope(root)
    if name == "Document" and space.startswith(statements.CAMT_SPACE):
        return _statement("BkToCstmrStmt(CAMT.053)", statements.read_camt(root))
    if (space, name) == ("", "OFX"):
        return _statement("OFX", statements.read_ofx_tree(root))
    known = _ROOTS.get(name)
    if known is None or not space.startswith(known[1]):
        return None
    label, _space, paths = known
    structure = Structure(label)
    for key, choices in paths.items():
        for path in choices:
            value = _text_at(root, path.split("/"))
            if value:
                structure.fields[key] = value[:VALUE_LENGTH]
                break
    if name in {"EInvoice", "eInvoice"}:
        structure.fields.setdefault("currency", "CNY")
    return structure


def _in_envelope(root: _Element) -> Structure | None:
    """What an envelope carries. Of several documents the first is named, and no date of it is taken."""
    found = [each for child in root if (each := read_tree(child)) is not None]
    if not found:
        return None
    found[0].label += " in SBDH"
    if len(found) > 1:
        found[0].fields.pop("date", None)
    return found[0]


def _statement(label: str, stated: statements.Stated) -> Structure:
    day = stated.date()
    return Structure(label, {"date": day} if day else {}, "bank-statement")


def read_words(text: str) -> Structure | None:
    """Recognise an EDIFACT invoice, an MT940 or an OFX 1 in a text; None for anything else."""
    for label, read in (("MT940", statements.read_mt940), ("OFX", statements.read_ofx)):
        stated = read(text)
        if stated is not None:
            return _statement(label, stated)
    return read_edifact(text)


def read_edifact(text: str) -> Structure | None:
    """Recognise an EDIFACT invoice message; None for anything else."""
    start = text.lstrip("\ufeff \r\n")[:20_000]
    if not start.startswith(("UNA", "UNB", "UNH")) or not _EDIFACT.search(start):
        return None
    structure = Structure("INVOIC(EDIFACT)")
    for key, pattern in (
        ("invoice_number", r"BGM\+[^+']*\+([^+:']{1,35})"),
        ("date", r"DTM\+137:(\d{8})\d{0,4}:10[23]"),
        ("currency", r"CUX\+2:([A-Z]{3})"),
        ("total", r"MOA\+(?:77|388|9|86):(-?[\d.,]{1,20})"),
    ):
        match = re.search(pattern, start)
        if match:
            structure.fields[key] = match[1]
    return structure


def _split(tag: object) -> tuple[str, str]:
    space, _, name = str(tag).rpartition("}")
    return space.lstrip("{"), name


def _text_at(element: _Element, path: list[str]) -> str:
    """The text of the first element down a chain of local names."""
    for child in element:
        if _split(child.tag)[1] != path[0]:
            continue
        if len(path) > 1:
            found = _text_at(child, path[1:])
            if found:
                return found
        elif child.text and child.text.strip():
            return child.text.strip()
    return ""
