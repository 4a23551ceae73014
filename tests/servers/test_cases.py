"""Inputs that failed once, sent through both doors of a running gateway: each ends as it should.

They are not part of this repository (`tests/vectors/cases.py`); where they are missing there is no such test.
"""

from __future__ import annotations

import smtplib
import subprocess

import pytest

from tests.servers.gateway_process import installation, running
from tests.vectors.cases import CASES

STATEMENTS = "01-statement-period-window"
# Name of the document: state, class, fiscal year, date, and the reason's beginning. None: of no matter.
SENT = {
    "90-print-after.pdf": ("FILED", "bank-statement", 2024, "2024-12-31", ""),
    "91-print-nextline.pdf": ("FILED", "bank-statement", 2024, "2024-12-31", ""),
    "92-print-after-en.pdf": ("FILED", "bank-statement", 2024, "2024-12-31", ""),
    "93-print-nextline-en.pdf": ("FILED", "bank-statement", 2024, "2024-12-31", ""),
    "95-dec-nextyear-row.csv": ("FILED", "bank-statement", 2024, "2024-12-31", ""),
    "96-next-statement-en.pdf": ("FILED", "bank-statement", 2024, "2024-12-31", ""),
    "50-mac.zip": ("FILED", "correspondence", None, None, ""),
    "83-two-invoices.zip": ("FILED", "correspondence", None, None, ""),
    "87-shuidian.zip": ("FILED", "correspondence", None, None, ""),
    "gbk.zip": ("FILED", "correspondence", None, None, ""),
    "发票51.pdf": ("FILED", "invoice", 2025, "2025-03-14", ""),
    "发票.pdf": ("FILED", "invoice", 2025, None, ""),
    "76-invoice-delivery-dec.pdf": ("FILED", "invoice", 2025, "2025-01-02", ""),
    "77-invoice-due-first.pdf": ("FILED", "invoice", 2024, "2024-12-31", ""),
    "35-spreadsheetml2003.xls": ("FILED", "bank-statement", 2025, None, ""),
    "40-mt940.sta": ("FILED", "bank-statement", 2024, None, ""),
    "41-camt053.xml": ("FILED", "bank-statement", 2024, None, ""),
    "66-ofx.ofx": ("FILED", "bank-statement", 2024, None, ""),
    "42-ubl-sbdh.xml": ("FILED", "invoice", 2024, None, ""),
    "08-bom-before.pdf": ("REVIEW", None, None, None, "unjudged:suspect:pdf:pdf.header_not_first"),
    "09-invoice-with-xlsx-attached.pdf": ("FILED", "invoice", 2025, None, ""),
    "34-html-as.xls": ("REVIEW", None, None, None, "unjudged:"),
    "52-fapiao.7z": ("FILED", "correspondence", None, None, ""),
    "58-fapiao.rar": ("FILED", "correspondence", None, None, ""),
    "81-fatturapa-style.xml": ("FILED", "invoice", 2024, None, ""),
    "85-facturx-plus-timesheet.pdf": ("FILED", "invoice", None, None, ""),
    "86-invoice-plus-pdf.pdf": ("FILED", "invoice", 2025, None, ""),
    "invoice-14.pdf": ("FILED", "invoice", 2025, None, ""),
    "inner-11.pdf": ("FILED", "invoice", 2025, None, ""),
    "js.pdf": ("REVIEW", None, None, None, "unjudged:suspect"),
    "发票-2025年3月.pdf": ("FILED", "invoice", None, None, ""),
    "发票-五十七.pdf": ("FILED", "invoice", None, None, ""),
    "請求書ソ表.pdf": ("FILED", "invoice", None, None, ""),
    "inv19.pdf": ("FILED", "invoice", None, None, ""),
    "inv53.pdf": ("FILED", "invoice", None, None, ""),
    "inv55.pdf": ("FILED", "invoice", None, None, ""),
    "nopad.eml": ("REVIEW", None, None, None, "unjudged:ambiguous"),
    "footer.eml": ("REVIEW", None, None, None, "unjudged:ambiguous"),
    "Fwd b64.eml": ("REVIEW", None, None, None, "unjudged:ambiguous"),
    "您有一张来自示例公司的电子发票.eml": (
        "REVIEW",
        "correspondence",
        None,
        None,
        "invoice-by-link",
    ),
}
NEVER = (".DS_Store", "._发票51.pdf", ".pdf", "╖ó╞▒.pdf")


def send_all(made) -> None:
    files = []
    for path in sorted(CASES.rglob("*.*")):
        if path.suffix == ".eml":
            with smtplib.SMTP("127.0.0.1", made.smtp_port) as client:
                # As every program sends it; the door takes no other line ends.
                raw = b"\r\n".join(path.read_bytes().replace(b"\r\n", b"\n").split(b"\n"))
                client.sendmail("owner@example.com", ["acme@intake.localhost"], raw)
        elif path.suffix not in {".py", ".js", ".go", ".md"}:
            files.append(path)
    subprocess.run(
        ["scp", "-q", *made.ssh_options("acme"), *files, "acme@127.0.0.1:/inbox/"],
        check=True,
        timeout=120,
    )


if CASES.is_dir():

    @pytest.fixture(scope="module")
    def documents():
        with installation() as made, running(made):
            send_all(made)
            found = made.wait_for(
                lambda found: all(each["state"] != "RECEIVED" for each in found), 240
            )
            yield [made.admin.call("document.show", document=each["id"]) for each in found]

    @pytest.mark.parametrize("name", SENT)
    def test_what_failed_once_ends_as_it_should(documents, name):
        found = [each for each in documents if each["name"] == name]
        assert found
        state, record_class, year, day, reason = SENT[name]
        for each in found:
            said = (each["state"], each["reason"][: len(reason)] if reason else each["reason"])
            assert said == (state, reason), each
            for expected, key in (
                (record_class, "record_class"),
                (year, "fiscal_year"),
                (day, "document_date"),
            ):
                assert expected in {None, each[key]}, each

    def test_nothing_of_it_has_a_name_that_nobody_gave(documents):
        names = {each["name"] for each in documents}
        assert not names & set(NEVER)
        assert not [name for name in names if "\ufffd" in name]
