"""What becomes of an inspected document: a table of verdicts, the dangerous ones first."""

from __future__ import annotations

from datetime import date

import msgspec
import pytest

from gateway.core.inspection.judgement import Circumstances, judge
from gateway.wire.messages import INVOICE_BY_LINK, Classification, Scan, Verdict
from vault.catalogue.lifecycle import Event

SHA = b"\x01" * 32
AROUND = Circumstances(
    size=10,
    sha256=SHA,
    received_on=date(2026, 11, 22),
    year_end=(12, 31),
    known_classes=frozenset({"invoice", "correspondence", "bank-statement"}),
    scanners=frozenset({"yara"}),
    clamd="required",
)
SURE = Classification("invoice", 0.96, "2025-06-30")
CLEAN = [Scan("clamd", "clean"), Scan("yara", "clean"), Scan("pdf", "clean")]


def verdict(**changes):
    return Verdict(
        **{
            "document_id": "D",
            "size": 10,
            "sha256": SHA,
            "scans": CLEAN,
            "classification": SURE,
            **changes,
        }
    )


def with_scan(*scans):
    named = {scan.scanner for scan in scans}
    return verdict(scans=[*scans, *(scan for scan in CLEAN if scan.scanner not in named)])


def test_a_clean_and_sure_document_is_filed():
    found = judge(verdict(), AROUND)
    assert (found.event, found.record_class, found.fiscal_year) == (Event.FILE, "invoice", 2025)


@pytest.mark.parametrize(
    ("what", "event", "reason"),
    [
        (verdict(sha256=b"\x02" * 32), Event.QUARANTINE, "integrity:not-the-bytes-received"),
        (verdict(size=9), Event.QUARANTINE, "integrity:not-the-bytes-received"),
        (with_scan(Scan("clamd", "found", "Eicar")), Event.QUARANTINE, "found:clamd:Eicar"),
        (with_scan(Scan("yara", "found", "eicar")), Event.QUARANTINE, "found:yara:eicar"),
        # Something found beats a scanner that is away.
        (
            with_scan(Scan("clamd", "unavailable"), Scan("yara", "found", "x")),
            Event.QUARANTINE,
            "found:yara:x",
        ),
        (with_scan(Scan("clamd", "unavailable")), None, "waiting:clamd:unavailable"),
        (with_scan(Scan("clamd", "error")), None, "waiting:clamd:error"),
        (with_scan(Scan("yara", "error")), None, "waiting:yara"),
        (with_scan(Scan("yara", "unavailable")), None, "waiting:yara"),
        (verdict(scans=[]), None, "waiting:yara:silent"),
        (verdict(scans=[Scan("yara", "clean")]), None, "waiting:clamd:silent"),
        (with_scan(Scan("fixity", "error", "x")), None, "waiting:fixity"),
        (with_scan(Scan("clamd", "limit", "big")), Event.QUESTION, "unjudged:limit:clamd:big"),
        (with_scan(Scan("pdf", "error", "x")), Event.QUESTION, "unjudged:error:pdf:x"),
        (with_scan(Scan("pdf", "suspect", "js")), Event.QUESTION, "unjudged:suspect:pdf:js"),
        (verdict(unreadable="encrypted"), Event.QUESTION, "unjudged:encrypted"),
        (verdict(unreadable="over_limit"), Event.QUESTION, "unjudged:over_limit"),
        (with_scan(Scan("reader", "error")), Event.FILE, ""),
        (verdict(classification=Classification()), Event.QUESTION, "unclassified"),
        (
            verdict(classification=Classification("love-letter", 1.0, "2025-01-01")),
            Event.QUESTION,
            "class-without-rule",
        ),
        (
            verdict(classification=Classification("invoice", 0.79, "2025-01-01")),
            Event.QUESTION,
            "low-confidence",
        ),
        (
            verdict(classification=Classification("correspondence", 0.6, None, [INVOICE_BY_LINK])),
            Event.QUESTION,
            "invoice-by-link-only",
        ),
        (verdict(classification=Classification("invoice", 0.9)), Event.QUESTION, "no-date"),
        (
            verdict(classification=Classification("invoice", 0.9, "nonsense")),
            Event.QUESTION,
            "no-date",
        ),
        (
            verdict(classification=Classification("invoice", 0.9, "2031-01-01")),
            Event.QUESTION,
            "implausible-date",
        ),
        (
            verdict(classification=Classification("invoice", 0.9, "1899-01-01")),
            Event.QUESTION,
            "implausible-date",
        ),
    ],
)
def test_every_doubt_leads_away_from_filing(what, event, reason):
    found = judge(what, AROUND)
    assert found.event == event
    assert found.reason == reason


def test_a_reason_never_carries_text_that_an_inspector_might_have_read():
    found = judge(with_scan(Scan("yara", "found", "李小明 34052419800101001X\nsalary")), AROUND)
    assert found.reason.isascii()
    assert "\n" not in found.reason
    assert " " not in found.reason
    assert len(found.reason) <= 64


def test_a_scanner_that_is_away_is_waited_for_without_end_and_a_parser_is_not():
    assert judge(with_scan(Scan("clamd", "unavailable")), AROUND).retry_for_ever
    assert not judge(with_scan(Scan("yara", "error")), AROUND).retry_for_ever


def test_without_an_antivirus_wanted_its_absence_does_not_hold_anything_up():
    around = msgspec.structs.replace(AROUND, clamd="optional")
    assert judge(with_scan(Scan("clamd", "unavailable")), around).event is Event.FILE
    # An answer that makes no sense is not an absence.
    assert judge(with_scan(Scan("clamd", "error")), around).event is None


def test_a_message_is_dated_by_its_receipt_whatever_its_sender_wrote():
    found = judge(
        verdict(classification=Classification("correspondence", 1.0, "1999-01-01")), AROUND
    )
    assert (found.event, found.fiscal_year) == (Event.FILE, 2026)


@pytest.mark.parametrize(("year_end", "year"), [((6, 30), 2025), ((3, 31), 2026), ((6, 29), 2026)])
def test_the_fiscal_year_is_the_clients(year_end, year):
    around = msgspec.structs.replace(AROUND, year_end=year_end)
    assert judge(verdict(), around).fiscal_year == year
