"""Bank statements that machines write are known by their structure, and dated by the end of their period."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspect import inspection
from gateway.inspect.classify import classify
from gateway.inspect.document import Document, Limits
from gateway.inspect.formats import statements
from gateway.inspect.scan.yara import RuleSet
from tests.vectors.cases import CASES

SURE = classify.SURE
ROOT = Path(__file__).resolve().parents[3]
KNOWN = ("bank-statement", "2024-12-31", True)


@pytest.fixture(scope="module")
def rules():
    return RuleSet.load()


def taken(data, rules, name="x"):
    data = data if isinstance(data, bytes) else data.encode()
    document = Document("x", io.BytesIO(data), len(data), name, "sftp", 0)
    verdict = inspection.inspect(document, Limits(), None, rules=rules, clamd=None)
    assert {scan.outcome for scan in verdict.scans} <= {"clean", "skipped"}, verdict.scans
    found = verdict.classification
    return found.record_class, found.document_date, found.confidence >= SURE


# ── CAMT.053 ─────────────────────────────────────────────────────────────────────────────────────

SPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
TO = "<FrToDt><FrDtTm>2024-12-01T00:00:00</FrDtTm><ToDtTm>{}</ToDtTm></FrToDt>"
BALANCE = "<Bal><Tp><CdOrPrtry><Cd>{}</Cd></CdOrPrtry></Tp><Dt><Dt>{}</Dt></Dt></Bal>"


def camt(*contents, space=SPACE, root="Document"):
    each = "".join(f"<Stmt><Id>1</Id>{content}</Stmt>" for content in contents)
    head = "<GrpHdr><CreDtTm>2025-01-02T08:00:00</CreDtTm></GrpHdr>"
    return f'<{root} xmlns="{space}"><BkToCstmrStmt>{head}{each}</BkToCstmrStmt></{root}>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (camt(TO.format("2024-12-31T23:59:59+01:00") + BALANCE.format("CLBD", "2024-12-31")), KNOWN),
        (camt(TO.format("2024-12-31T23:59:59")), KNOWN),
        (camt(BALANCE.format("OPBD", "2024-11-30") + BALANCE.format("CLBD", "2024-12-31")), KNOWN),
        (camt(BALANCE.format("CLBD", "2024-12-30"), BALANCE.format("CLBD", "2024-12-31")), KNOWN),
        (camt(TO.format("2024-12-31T23:59:59") + BALANCE.format("CLBD", "2025-01-02")), ("bank-statement", None, False)),
        (camt(BALANCE.format("OPBD", "2024-12-31")), ("bank-statement", None, False)),
        (camt(TO.format("2024-12-32T00:00:00")), ("bank-statement", None, False)),
        (camt(), ("bank-statement", None, False)),
        (camt(TO.format("2024-12-31"), space="urn:iso:std:iso:20022:tech:xsd:pain.001.001.03"), (None, None, False)),
        (camt(TO.format("2024-12-31"), space=""), (None, None, False)),
        (camt(TO.format("2024-12-31"), root="Other"), (None, None, False)),
    ],
)  # fmt: skip
def test_a_camt_053_is_dated_by_its_period_or_its_closing_balance(text, expected, rules):
    assert taken(text, rules) == expected


# ── MT940 ────────────────────────────────────────────────────────────────────────────────────────


def mt940(day="241231", *, without="", name="62F"):
    lines = {
        "20": ":20:STARTUMS",
        "25": ":25:10020030/1234567",
        "28C": ":28C:0/1",
        "60F": ":60F:C241130EUR100,00",
        "61": ":61:2501030103D20,00NTRFNONREF",
        "86": ":86:166?00UEBERWEISUNG vom 03.01.2025",
        "62F": f":{name}:D{day}EUR80,00",
    }
    return "\n".join(line for key, line in lines.items() if key != without) + "\n-\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (mt940(), KNOWN),
        (mt940().replace("\n", "\r\n"), KNOWN),
        ("{1:F01BANKDEFFXXXX0000000000}{2:I940BANKDEFFXXXXN}{4:\n" + mt940(), KNOWN),
        ("BANKDEFF\n940\nBANKDEFF\n" + mt940(), KNOWN),
        (mt940("241130") + mt940("241231"), KNOWN),
        (mt940("241231") + mt940("241130"), KNOWN),
        (mt940("241215", name="62M") + mt940("241231"), KNOWN),
        (mt940("241231") + mt940("250131", name="62M"), ("bank-statement", None, False)),
        (mt940("241231") + mt940(without="62F"), ("bank-statement", None, False)),
        (mt940(without="62F") + mt940("241231"), ("bank-statement", None, False)),
        (mt940(without="28C"), ("bank-statement", None, False)),
        (mt940("241331"), ("bank-statement", None, False)),
        (mt940(without="20"), (None, None, False)),
        (mt940(without="25"), (None, None, False)),
        (mt940(without="60F"), (None, None, False)),
        ("see :20: and :25:\n", (None, None, False)),
    ],
)  # fmt: skip
def test_an_mt940_is_dated_by_its_last_closing_balance(text, expected, rules):
    assert taken(text, rules) == expected


def test_a_long_mt940_is_read_to_its_end(rules):
    lines = ":61:2412011201D20,00NTRFNONREF\n:86:x\n" * 20_000
    text = mt940().replace(":62F:", lines + ":62F:")
    assert len(text) > 4 * Limits().max_text
    assert taken(text, rules) == KNOWN


# ── OFX ──────────────────────────────────────────────────────────────────────────────────────────

HEADER = "OFXHEADER:100\nDATA:OFXSGML\nVERSION:102\n\n"
XML_HEADER = '<?xml version="1.0"?><?OFX OFXHEADER="200" VERSION="220"?>'


def ofx(*ends, kind="STMTRS", close=False):
    shut = "</DTSTART>", "</DTEND>", "</DTASOF>"
    start, end, as_of = shut if close else ("", "", "")
    each = "".join(
        f"<{kind}><BANKTRANLIST><DTSTART>20241201{start}"
        + (f"<DTEND>{day}{end}" if day else "")
        + f"</BANKTRANLIST><LEDGERBAL><DTASOF>20250103{as_of}</LEDGERBAL></{kind}>"
        for day in ends
    )
    return f"<OFX><BANKMSGSRSV1><STMTTRNRS>{each}</STMTTRNRS></BANKMSGSRSV1></OFX>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEADER + ofx("20241231"), KNOWN),
        (HEADER + ofx("20241231235959.000[+1:CET]"), KNOWN),
        (HEADER + ofx("20241130", "20241231"), KNOWN),
        (HEADER + ofx("20241231", kind="CCSTMTRS"), KNOWN),
        (XML_HEADER + ofx("20241231", close=True), KNOWN),
        (XML_HEADER + ofx("20241231", kind="CCSTMTRS", close=True), KNOWN),
        (HEADER + ofx(""), ("bank-statement", None, False)),
        (HEADER + ofx("20241231", ""), ("bank-statement", None, False)),
        (HEADER + ofx("20241331"), ("bank-statement", None, False)),
        (HEADER, ("bank-statement", None, False)),
        (XML_HEADER + ofx(close=True), ("bank-statement", None, False)),
    ],
)
def test_an_ofx_is_dated_by_the_end_of_its_list(text, expected, rules):
    assert taken(text, rules) == expected


# ── spreadsheets in XML, envelopes ───────────────────────────────────────────────────────────────

SHEET = "urn:schemas-microsoft-com:office:spreadsheet"


def sheet_xml(*sheets, space=SHEET):
    def row(line):
        cells = "".join(
            f"<Cell{index}><Data ss:Type='String'>{text}</Data></Cell>"
            for index, text in (
                (f" ss:Index='{cell[1]}'", cell[2:]) if cell.startswith("@") else ("", cell)
                for cell in line.split("\t")
            )
        )
        return f"<Row>{cells}</Row>"

    each = "".join(
        f"<Worksheet ss:Name='Sheet{i}'><Table>{''.join(map(row, text.splitlines()))}</Table></Worksheet>"
        for i, text in enumerate(sheets)
    )
    return f"<?xml version='1.0'?><?mso-application progid='Excel.Sheet'?><Workbook xmlns='{space}' xmlns:ss='{space}'>{each}</Workbook>"


TABLE = (
    "银行对账单\n户名\t示例\t账号\t6222\n对账期间\t2024-12-01至2024-12-31\n期初余额\t1\t期末余额\t2"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (sheet_xml(TABLE), KNOWN),
        (sheet_xml("notes", TABLE), KNOWN),
        (sheet_xml("银行对账单\n账号\t户名\t余额\n打印日期\t@4查询期间\n2025-01-03\t@42024-12-01至2024-12-31"), KNOWN),
        (sheet_xml(TABLE, "工资表\n姓名\t应发工资\t实发工资"), ("payroll", "2024-12-31", False)),
        (sheet_xml(TABLE, space="urn:other"), (None, None, False)),
    ],
)  # fmt: skip
def test_an_xml_spreadsheet_is_read_as_a_workbook(text, expected, rules):
    assert taken(text, rules, "x.xls") == expected


UBL = """<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"
 xmlns:c="urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2">
 <c:ID>U-42</c:ID><c:IssueDate>2024-12-30</c:IssueDate></Invoice>"""
ENVELOPE = "http://www.unece.org/cefact/namespaces/StandardBusinessDocumentHeader"


@pytest.mark.parametrize(
    ("inside", "space", "expected"),
    [
        (UBL, ENVELOPE, ("invoice", "2024-12-30", True)),
        (UBL + UBL, ENVELOPE, ("invoice", None, False)),
        ("<Order/>", ENVELOPE, (None, None, False)),
        ("", ENVELOPE, (None, None, False)),
        (UBL, "urn:other", (None, None, False)),
    ],
)
def test_an_invoice_in_an_envelope_is_the_invoice(inside, space, expected, rules):
    head = "<StandardBusinessDocumentHeader><HeaderVersion>1.0</HeaderVersion></StandardBusinessDocumentHeader>"
    text = f'<StandardBusinessDocument xmlns="{space}">{head}{inside}</StandardBusinessDocument>'
    assert taken(text, rules) == expected


# ── cases, bounds ────────────────────────────────────────────────────────────────────────────────


# The cases themselves, where they are; what is of their kind is above.
if CASES.is_dir():

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("35-spreadsheetml2003.xls", ("bank-statement", "2025-03-31", True)),
            ("40-mt940.sta", KNOWN),
            ("41-camt053.xml", KNOWN),
            ("42-ubl-sbdh.xml", ("invoice", "2024-12-30", True)),
            ("66-ofx.ofx", KNOWN),
        ],
    )
    def test_the_statements_that_machines_write_are_known(name, expected, rules):
        path = CASES / "13-electronic-statements-unclassified" / name
        assert taken(path.read_bytes(), rules, name) == expected


@settings(max_examples=100)
@given(st.text(alphabet=":206125F8CM{}D4EUR<>OFXSTMRDTEND\n", max_size=200))
def test_any_text_is_a_statement_or_none(text):
    statements.read_mt940(":20:1\n:25:1\n:60F:\n" + text)
    statements.read_ofx("OFXHEADER:" + text)


@pytest.mark.parametrize("piece", [":20:", ":62F:C241231EUR1,\n", "<DTEND>", "<", "<STMTRS>"])
def test_reading_takes_time_in_proportion(piece):
    text = piece * (2_000_000 // len(piece))
    begun = time.process_time()
    statements.read_mt940(":20:1\n:25:1\n:60F:\n" + text)
    statements.read_ofx("OFXHEADER:" + text)
    assert time.process_time() - begun < 5
