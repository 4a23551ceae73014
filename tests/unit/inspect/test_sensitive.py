"""The most sensitive thing anywhere in a document decides who may open it."""

from __future__ import annotations

import io
import time
import zipfile

import pikepdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspect import inspection
from gateway.inspect.classify import classify, numbers
from gateway.inspect.classify import text as read
from gateway.inspect.classify.text import Reading, normalise
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan.yara import RuleSet

SURE = classify.SURE
INVOICE = "Invoice\nInvoice number: RE-4711\nInvoice date: 2024-12-31\nTotal due: 119.00"
PAYSLIP = "Payslip\nEmployee: No. 7\nGross pay 1\nNet pay 2\nPay period: December 2024"
STATEMENT = "银行对账单\n对账期间:2024-12-01至2024-12-31\n账号 1 户名 2\n期初余额 3 期末余额 4"
CII = """<CrossIndustryInvoice xmlns="urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100">
<ExchangedDocument><ID>RE-4711</ID><IssueDateTime><DateTimeString>20241231</DateTimeString></IssueDateTime>
</ExchangedDocument><SupplyChainTradeTransaction><ApplicableHeaderTradeSettlement>
<SpecifiedTradeSettlementHeaderMonetarySummation><GrandTotalAmount>119.00</GrandTotalAmount>
</SpecifiedTradeSettlementHeaderMonetarySummation></ApplicableHeaderTradeSettlement></SupplyChainTradeTransaction>
</CrossIndustryInvoice>"""


@pytest.fixture(scope="module")
def rules():
    return RuleSet.load()


def taken(data, rules, name="x", limits=None):
    document = Document("x", io.BytesIO(data), len(data), name, "sftp", 0)
    found = inspection.inspect(document, limits or Limits(), None, rules=rules, clamd=None)
    return found.classification


def words(*sections):
    text = normalise("\n".join(sections), Limits())
    return classify.classify(Reading(text, sections=list(sections)), "text/plain")[0]


def pdf(*pages, xml=""):
    made = pikepdf.new()
    font = made.make_indirect(
        pikepdf.Dictionary(Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica)
    )  # fmt: skip
    for text in pages:
        made.add_blank_page()
        page = made.pages[-1]
        page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=font))
        lines = "".join(f"({line}) Tj T* " for line in text.split("\n"))
        page.Contents = made.make_stream(f"BT /F1 10 Tf 14 TL 40 700 Td {lines}ET".encode())
    if xml:
        made.attachments["factur-x.xml"] = pikepdf.AttachedFileSpec(
            made, xml.encode(), filename="factur-x.xml", mime_type="text/xml"
        )
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()


def workbook(**sheets):
    """An .xlsx with inline strings: a sheet for each keyword, from lines of tab-separated cells."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        kinds = "".join(
            f'<Override PartName="/xl/worksheets/sheet{i}.xml" ContentType='
            '"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
            for i in range(len(sheets))
        )
        made.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType='
            '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" '
            'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
            f"{kinds}</Types>",
        )
        made.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r" Type="{office}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        names = "".join(
            f'<sheet name="{name}" sheetId="{i + 1}" r:id="r{i}"/>' for i, name in enumerate(sheets)
        )
        made.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{names}</sheets></workbook>',
        )
        links = "".join(
            f'<Relationship Id="r{i}" Type="{office}/worksheet" Target="worksheets/sheet{i}.xml"/>'
            for i in range(len(sheets))
        )
        made.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}/relationships">{links}</Relationships>',
        )
        for index, text in enumerate(sheets.values()):
            rows = "".join(
                "<row>"
                + "".join(f'<c t="inlineStr"><is><t>{c}</t></is></c>' for c in line.split("\t"))
                + "</row>"
                for line in text.split("\n")
            )
            made.writestr(
                f"xl/worksheets/sheet{index}.xml",
                f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>',
            )
    return buffer.getvalue()


# ── pages and sheets ─────────────────────────────────────────────────────────────────────────────

WAGES = "姓名\t基本工资\t应发工资\t个税\t实发工资\n甲\t1\t2\t3\t4"
ROWS = "\n".join(f"2024-12-{1 + day % 31:02}\t货款\t{day}" for day in range(80))


def test_an_open_workbook_stays_open(rules):
    result = taken(workbook(Sheet1=STATEMENT.replace(" ", "\t"), Sheet2=ROWS), rules)
    assert (result.record_class, result.document_date) == ("bank-statement", "2024-12-31")
    assert result.confidence >= SURE


@pytest.mark.parametrize(
    "sheets",
    [
        {"Sheet1": STATEMENT, "Sheet2": "2024年12月工资表\n" + WAGES},
        {"Sheet1": STATEMENT, "工资表": WAGES},
        {"Sheet1": STATEMENT, "Sheet2": WAGES + "\n住房公积金\t养老保险"},
        {"Sheet1": STATEMENT + "\n" + ROWS, "Sheet2": ROWS, "Sheet3": "工资表\n" + WAGES},
        {f"Sheet{i}": STATEMENT for i in range(12)} | {"Sheet99": "工资表\n" + WAGES},
        {"Sheet1": STATEMENT + "\n" + ROWS + "\n工资表\n" + WAGES},
    ],
    ids=["titled", "named", "labels alone", "behind rows", "after twelve", "under a table"],
)
def test_payroll_on_any_sheet_makes_the_workbook_payroll_for_a_person(sheets, rules):
    result = taken(workbook(**sheets), rules)
    assert result.record_class == "payroll", result
    assert result.confidence < SURE
    assert "near:bank-statement" in result.reasons


def test_a_payslip_behind_an_invoice_makes_the_pages_payroll_for_a_person(rules):
    plain = taken(pdf(INVOICE, "Terms"), rules)
    assert (plain.record_class, plain.confidence >= SURE) == ("invoice", True)
    for pages in ([INVOICE, PAYSLIP], [INVOICE, *["Terms"] * 30, PAYSLIP]):
        result = taken(pdf(*pages), rules)
        assert (result.record_class, result.confidence < SURE) == ("payroll", True), result


def test_a_payroll_of_several_sheets_stays_surely_payroll(rules):
    sheet = "工资表\n所属月份\t2024-12\n" + WAGES
    result = taken(workbook(Sheet1=sheet, Sheet2=sheet), rules)
    assert (result.record_class, result.document_date) == ("payroll", "2024-12-31")
    assert result.confidence >= SURE


def test_an_account_named_payroll_is_no_payroll(rules):
    account = "Income statement\nfor the year ended 31 December 2024\nRevenue 9,000.00\nPayroll 5,000.00\nSocial security 900.00\nNet profit 1.00"
    assert words(account).record_class == "annual-report"
    statement = STATEMENT + "\n代发工资 5,000.00\n社保 900.00\n工资单 5,000.00"
    assert words(statement).record_class == "bank-statement"


def package(**members):
    """An office package of these members; text becomes paragraphs of its format."""
    spaces = {
        "word": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "ppt": "http://schemas.openxmlformats.org/drawingml/2006/main",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("[Content_Types].xml", "<Types/>")
        for name, text in members.items():
            folder = name.split("_")[0]
            lines = "".join(f"<p><r><t>{line}</t></r></p>" for line in text.split("\n"))
            made.writestr(
                name.replace("_", "/") + ".xml", f'<x xmlns="{spaces[folder]}">{lines}</x>'
            )
    return buffer.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        {"word_document": INVOICE, "word_header2": PAYSLIP},
        {"word_document": INVOICE, "word_comments": PAYSLIP},
        {"word_document": INVOICE + "\n" + "Terms\n" * 3000 + PAYSLIP},
        {"ppt_slides_slide1": INVOICE, "ppt_slides_slide11": PAYSLIP},
    ],
    ids=["header", "comment", "end", "slide"],
)
def test_payroll_in_any_member_of_an_office_document_is_seen(members, rules):
    first = dict(list(members.items())[:1])
    if len(members) > 1:
        assert taken(package(**first), rules).record_class == "invoice"
    result = taken(package(**members), rules)
    assert (result.record_class, result.confidence < SURE) == ("payroll", True), result


@pytest.mark.parametrize(
    "section",
    [
        "示例公司2024年12月薪资明细表\n姓名\t岗位\t金额",
        "12月工资\n姓名\t社保\t金额",
        "奖金发放明细 2024年\n姓名\t金额",
        "Salaries December 2024\nEmployee\tAmount",
        "x\n姓名\t应发\t实发",
        "x\nEmployee\tGross pay\tNet pay",
        "Gehaltsabrechnung Dezember 2024\nBruttolohn 1,00",
    ],
)
def test_a_payroll_is_seen_under_other_names(section):
    result = words(STATEMENT, section)
    assert (result.record_class, result.confidence < SURE) == ("payroll", True), result


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("出库单\n部门 经办人 仓库\n品名\t应发\t实发", "source-voucher"),
        ("记账凭证\n记字第12号 日期:2024年12月31日\n借方 贷方 制单\n摘要\n计提工资\n社保\n公积金\n个税", "bookkeeping-voucher"),
        ("明细账\n科目:应付职工薪酬-工资\n会计期间:2024年12月\n摘要 借方 贷方 凭证号\n工资\n代扣个税\n社保", "subsidiary-ledger"),
        ("劳动合同\n甲方 乙方 合同编号\n签订日期:2024-12-31\n违约责任\n姓名 基本工资 社保 公积金 个人所得税", "contract"),
        ("服务合同\n甲方 乙方 合同编号\n签订日期:2024-12-31\n附件一 工资表格式说明 姓名", "contract"),
    ],
)  # fmt: skip
def test_papers_that_speak_of_pay_are_what_they_are(section, key):
    assert words(section).record_class == key


def test_a_document_that_was_read_in_part_is_never_sure(rules):
    book = workbook(Sheet1=STATEMENT, Sheet2=ROWS, Sheet3=ROWS)
    assert taken(book, rules, limits=Limits(max_sections=3)).confidence >= SURE
    result = taken(book, rules, limits=Limits(max_sections=2))
    assert (result.record_class, result.confidence < SURE) == ("bank-statement", True)
    assert result.reasons[-1] == "read:in part"


def test_a_long_table_is_looked_through_to_its_end(rules):
    rows = "\n".join(f"2024-12-01,{i},payment" for i in range(20_000))
    people = "\n".join(resident(i) for i in range(3))
    plain = INVOICE + "\n" + rows + "\n"
    assert taken(plain.encode(), rules).confidence >= SURE
    assert taken((plain + people).encode(), rules).record_class == "identity-document"
    sheet = STATEMENT + "\n" + ROWS * 30
    assert taken(workbook(Sheet1=sheet), rules).confidence >= SURE
    result = taken(workbook(Sheet1=sheet + "\n工资表\n" + WAGES), rules)
    assert (result.record_class, result.confidence < SURE) == ("payroll", True)


def test_a_table_too_long_to_be_looked_through_is_never_sure(rules):
    text = INVOICE + "\n" + "x" * 100 * 1000
    assert taken(text.encode(), rules).confidence >= SURE
    text = INVOICE + "\n" + ("x" * 99 + "\n") * 20_100
    result = taken(text.encode(), rules)
    assert (result.record_class, result.reasons[-1]) == ("invoice", "read:in part")
    assert result.confidence < SURE


def test_a_long_sheet_takes_no_room_from_those_behind_it(rules):
    long = "\n".join(["x" * 190] * 12_000)
    result = taken(workbook(Sheet1=long, Sheet2="工资表\n" + WAGES), rules)
    assert result.record_class == "payroll"


# ── a page and the structure it carries ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("page", "sure"),
    [
        (INVOICE, True),
        ("Rechnung\nNr. RE - 4711", True),
        ("Invoice of 31 December 2024\nTotal 119,00 EUR", True),
        ("Invoice\nInvoice number: RE-4712\nInvoice date: 2024-12-31", False),
        ("Invoice of 31 December 2024\nTotal 118,00 EUR", False),
        ("Employment contract\nParty A\nParty B\nRE-4711\nGoverning law", False),
        ("", False),
    ],
)
def test_an_invoice_is_sure_only_if_its_page_agrees_with_its_structure(page, sure, rules):
    result = taken(pdf(page, xml=CII), rules)
    assert result.record_class == "invoice"
    assert (result.confidence >= SURE) is sure, result
    assert sure or any(reason.startswith("page:") for reason in result.reasons)


@pytest.mark.parametrize(
    ("stated", "later"), [("2025-01-02", "2025-01-02"), ("2024-01-02", "2024-12-31")]
)
def test_an_invoice_whose_page_states_another_date_goes_by_the_later(stated, later, rules):
    page = f"Invoice\nInvoice number: RE-4711\nInvoice date: {stated}\nTotal due: 119.00"
    result = taken(pdf(page, xml=CII), rules)
    assert (result.confidence >= SURE, result.document_date) == (True, later)
    assert "page:another date" in result.reasons


def test_a_payslip_that_carries_the_structure_of_an_invoice_is_a_payslip(rules):
    for pages in ([PAYSLIP], [PAYSLIP + "\nRE-4711"], [INVOICE, PAYSLIP]):
        result = taken(pdf(*pages, xml=CII), rules)
        assert (result.record_class, result.confidence < SURE) == ("payroll", True), result


# ── numbers of people ────────────────────────────────────────────────────────────────────────────


def resident(serial, born="19900101"):
    """A number of the right form, of nobody: region 110105 with a running number."""
    first = f"110105{born}{serial:03}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return first + "10X98765432"[sum(int(d) * w for d, w in zip(first, weights, strict=True)) % 11]


def card(serial, prefix="6222"):
    first = f"{prefix}{serial:014}"
    total = sum(
        sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(reversed(first))
    )
    return first + str(-total % 10)


def wrong(number):
    return number[:-1] + ("1" if number[-1] != "1" else "2")


def listed(label, items):
    return f"员工名单\n姓名,{label}\n" + "\n".join(f"甲{i},{each}" for i, each in enumerate(items))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (listed("身份证号", [resident(i) for i in range(3)]), "identity-document"),
        (listed("号码", [resident(i).lower() for i in range(2)]), "identity-document"),
        (listed("号码", [f"{n[:6]} {n[6:14]} {n[14:]}" for n in map(resident, range(3))]), "identity-document"),
        (listed("护照号", ["E12345678", "EA1234567", "G87654321"]), "identity-document"),
        ("Name\tPassport no\tCountry\nA\tC01X00T47\tD\nB\tL01X00T48\tD", "identity-document"),
        ("Passport\nName\nA\n123456789\nUTO\nB\n987654321\nUTO", "identity-document"),
        ("护照号: E12345678\n护照号: E12345679", "identity-document"),
        ("P<UTOEXAMPLE<<PERSON<ONE<<<<<<<<<<<<<<<<<<<<\nP<UTOEXAMPLE<<PERSON<TWO<<<<<<<<<<<<<<<<<<<<", "identity-document"),
        (listed("银行卡号", [card(i) for i in range(3)]), "payroll"),
        (listed("card", ["4000 0000 0000 0002", "5105 1051 0510 5100"]), "payroll"),
        (INVOICE + "\n" + "\n".join(resident(i) for i in range(3)), "identity-document"),
        (INVOICE + "\n" + "\n".join(card(i) for i in range(3)), "payroll"),
        (STATEMENT + "\n" + "\n".join(resident(i) for i in range(3)), "identity-document"),
    ],
)  # fmt: skip
def test_a_list_of_peoples_numbers_is_restricted_and_for_a_person(text, key):
    result = words(text)
    assert (result.record_class, result.confidence < SURE) == (key, True), result
    assert not any(char in reason for reason in result.reasons for char in "0123456789")


@pytest.mark.parametrize(
    "text",
    [
        INVOICE + f"\n购买方 {resident(1)}\n销售方 {resident(2)}",  # two parties
        INVOICE + "\n身份证号: 见附件\n" + "\n".join(str(123456789 + i) for i in range(9)),
        INVOICE
        + "\n身份证号: 见附件"
        + "\n." * 9
        + "\n".join(f"AB{1234567 + i}" for i in range(9)),
        INVOICE + "\n" + "\n".join([resident(1)] * 5),  # one person
        INVOICE + "\n" + "\n".join(wrong(resident(i)) for i in range(9)),
        INVOICE + "\n" + "\n".join(resident(i, "19901332") for i in range(9)),
        INVOICE + "\n" + "\n".join("9" + resident(i) for i in range(9)),
        INVOICE + "\n" + "\n".join(str(25112000000123456789 + i) for i in range(50)),
        INVOICE + "\n" + "\n".join(str(4000000000000000 + 7 * i) for i in range(100)),
        INVOICE + "\n" + "\n".join(f"AB{1234567 + i}" for i in range(9)),  # parts, not passports
    ],
)
def test_numbers_that_are_no_list_of_people_change_nothing(text):
    result = words(text)
    assert (result.record_class, result.confidence >= SURE) == ("invoice", True), result


def test_a_bank_statement_names_the_cards_of_those_paid_by_its_nature():
    result = words(STATEMENT + "\n" + "\n".join(card(i) for i in range(20)))
    assert (result.record_class, result.confidence >= SURE) == ("bank-statement", True)


def test_a_message_that_holds_a_payroll_in_its_text_is_for_a_person():
    text = normalise("December\n工资表\n姓名 应发工资 实发工资", Limits())
    result = classify.classify(Reading(text), "message/rfc822")[0]
    assert (result.record_class, result.confidence < SURE) == ("payroll", True)


@settings(max_examples=60)
@given(st.text(alphabet="0123456789X \n-身份证EA<P", max_size=300))
def test_counting_numbers_never_fails(text):
    assert numbers.identities(text) >= 0
    assert numbers.cards(text) >= 0


@pytest.mark.parametrize("piece", ["1", "4000 ", "P<", "A1", "身份证", "护照 E12345678\n"])
def test_counting_numbers_takes_time_in_proportion(piece):
    text = piece * (400_000 // len(piece))
    begun = time.process_time()
    numbers.identities(text)
    numbers.cards(text)
    assert time.process_time() - begun < 3


def test_each_page_is_a_section_of_its_own():
    data = pdf(INVOICE, "second", "third")
    reading = read.read_pdf(
        Document("x", io.BytesIO(data), len(data), "x", "sftp", 0), Limits(), []
    )
    assert [section.split("\n")[0].strip() for section in reading.sections] == [
        "Invoice",
        "second",
        "third",
    ]
