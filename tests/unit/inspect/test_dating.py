"""The fiscal year of a document comes from the date that is its own, or a person is asked."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspect import inspection
from gateway.inspect.classify import classify, dates
from gateway.inspect.classify.text import Reading, normalise
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan.yara import RuleSet
from tests.vectors.cases import CASES

SURE = classify.SURE
ROOT = Path(__file__).resolve().parents[3]

CHINESE = "银行对账单\n户名:示例贸易有限公司 账号:6222\n{}\n期初余额 1 借方发生额 2 贷方发生额 3 期末余额 4"
ENGLISH = "Bank statement\nAccount number: 1\n{}\nOpening balance 1.00\nClosing balance 2.00"
INVOICE = "Invoice\nInvoice number: 42\nBill to: Acme Demonstration Ltd\n{}\nTotal due: 100.00"
TAX = "增值税及附加税费申报表\n纳税人识别号:1\n{}\n应纳税额 1"
PAYROLL = "工资表\n{}\n姓名 基本工资 应发工资 社保 公积金 个税 实发工资"


def words(text):
    return classify.classify(Reading(normalise(text, Limits())), "text/plain")[0]


SURELY = [
    # What stands beside or under the period, and is not its end.
    (CHINESE, "对账期间:2024-12-01至2024-12-31 打印日期:2025-01-03"),
    (CHINESE, "对账期间:2024-12-01至2024-12-31\n打印日期:2025-01-03"),
    (CHINESE, "查询期间,2024-12-01至2024-12-31\n下载时间,2025-01-02 10:00"),
    (CHINESE, "查询时间段 2024年12月1日—2024年12月31日 导出时间 2025年1月3日"),
    (CHINESE, "账期:2024年12月 还款截止日期:2025年1月20日 下期账单日:2025-01-31"),
    (CHINESE, "起止日期\t2024-12-01 ~ 2024-12-31\t打印时间\t2025-01-03 09:00:00"),
    (CHINESE, "起始时间:[2024-12-01 00:00:00] 终止时间:[2024-12-31 23:59:59]\n导出时间:[2025-01-02 08:00:00]"),
    (CHINESE, "起止日期:2024年12月1日至\n2024年12月31日"),
    (CHINESE, "起 止 日 期:2024年12月1日至12月31日"),
    (CHINESE, "2024年12月01日至2024年12月31日\n打印日期:2025-01-03"),
    (ENGLISH, "Statement period: 1 December 2024 - 31 December 2024 Printed: 3 January 2025"),
    (ENGLISH, "Statement period: 1 Dec 2024 - 31 Dec 2024\nPrinted: 3 Jan 2025"),
    (ENGLISH, "Statement date: 31 December 2024 Next statement: 31 January 2025"),
    (ENGLISH, "Statement date: 31 December 2024\nNext statement date: 31 January 2025"),
    (ENGLISH, "Next statement date: 31 January 2025\nStatement date: 31 December 2024"),
    (ENGLISH, "For the period 1 December to 31 December 2024, printed 3 January 2025"),
    (ENGLISH, "For the period from December 1, 2024 through December 31, 2024"),
    (ENGLISH, "Billing period 1 - 31 December 2024 Payment due 20 January 2025"),
    (ENGLISH, "Statement date: 3 January 2025\nStatement period: 1 Dec 2024 to 31 Dec 2024"),
    (ENGLISH, "From: 01.12.2024 To: 31.12.2024 Created: 03.01.2025"),
    ("Kontoauszug\nIBAN 1\n{}\nAlter Kontostand 1\nNeuer Kontostand 2", "Zeitraum: 01.12. - 31.12.2024 Erstellt am 03.01.2025"),
    (ENGLISH, "Statement for the period 2024-12-01 up to and including 2024-12-31"),
    (ENGLISH, "Account statement from 12/01/2024 through 12/31/2024\nPrinted 01/03/2025"),
    (CHINESE, "日期:2024-12-01至2024-12-31 打印日期:2025-01-03"),
    (CHINESE, "账单周期:2024年12月(2024-12-01至2024-12-31)"),
    (TAX, "税款所属期起:2024-12-01 税款所属期止:2024-12-31 申报日期:2025-01-15"),
    ("总分类账\n{}\n摘要 借方 贷方 方向 余额\n承前页 期初余额", "会计期间:2024年第12期"),
    (INVOICE, "Invoice date . . . . . . 31.12.2024\nDue date . . . . . . . . 30.01.2025"),
    (INVOICE, "Terms: 30 days from invoice date, 30 January 2025 at the latest\nInvoice date: 2024-12-31"),
    (CHINESE, "账单日:2024-12-31 下一账单日:2025-01-31"),
    (CHINESE, "账单日 还款日\n2024-12-31 2025-01-20"),
    (CHINESE, "日期区间:2024-12-01~2024-12-31 生成时间:2025-01-02"),
    (ENGLISH, "Statement issued 3 January 2025 for period 1 December 2024 to 31 December 2024"),
    (INVOICE, "Rechnungsdatum Lieferdatum\n31.12.2024 02.01.2025"),
    (TAX, "税种 税款所属时期 入(退)库日期 实缴(退)金额\n增值税 2024-12-01至2024-12-31 2025-01-15 9.00\n城建税 2024-12-01至2024-12-31 2025-01-15 1.00"),
    ("资产负债表 会企01表 年报\n{}\n资产总计 1 负债合计 1 年初余额", "2024年12月31日 单位:元"),
    ("Balance sheet as at 31 December 2024\n{}\nTotal assets Total liabilities", "Annual accounts printed 3 March 2025"),
    (ENGLISH, "For the month of December 2024"),
    (ENGLISH, "As of December 31, 2024"),
    (CHINESE, "对账单期间:2024/12/1-12/31 打印时间:2025/1/3"),
    (CHINESE, "开始日期\t2024-12-01\t结束日期\t2024-12-31\t打印日期\t2025-01-03"),
    (CHINESE, "起始日期,终止日期\n2024-12-01,2024-12-31"),
    ("2024年12月份对账单\n{}\n账号 户名 期初余额 期末余额", "打印日期:2025-01-03"),
    ("Relevé de compte du 01/12/2024 au 31/12/2024\nIBAN 1\n{}\nOpening balance 1", "Édité le 03/01/2025"),
    ("Kontoauszug 01.12.2024 - 31.12.2024\nIBAN 1\n{}\nAlter Kontostand 1\nNeuer Kontostand 2", "Datum: 03.01.2025"),
    ("采购合同\n合同编号:1\n甲方:一\n乙方:二\n{}\n违约责任", "合同签订日期:2024年12月31日 交货日期:2025年1月5日"),
    ("Relevé de compte\nIBAN 1\n{}\nOpening balance 1", "Période du 01.12.2024 au 31.12.2024, édité le 03.01.2025"),
    # Under its label.
    (CHINESE, "查询期间\t打印日期\n2024-12-01至2024-12-31\t2025-01-03"),
    (CHINESE, "打印日期\t查询期间\n2025-01-03\t2024-12-01至2024-12-31"),
    (ENGLISH, "Account  Statement period  Printed on\n1  1 Dec 2024 - 31 Dec 2024  3 Jan 2025"),
    (ENGLISH, "Print date Statement date\n03.01.2025 31.12.2024"),
    (ENGLISH, "Statement period\n1 December 2024 - 31 December 2024\nPrinted 3 January 2025"),
    (INVOICE, "Invoice date Due date\n31.12.2024 30.01.2025"),
    (INVOICE, "Due date  Invoice date  Amount\n30.01.2025  31.12.2024  100.00"),
    (INVOICE, "Reference,Delivery date,Invoice date\nA-1,2025-01-05,2024-12-31"),
    (INVOICE, "Invoice date\n31 December 2024\nDue date\n30 January 2025"),
    (INVOICE, "Invoice date: 31 December 2024 Due date: 30 January 2025"),
    (INVOICE, "Date printed: 3 January 2025\nInvoice date (dd.mm.yyyy): 31.12.2024"),
    (INVOICE, "Due date 2025-01-30\nDate of issue Tuesday, 31 December 2024\nDelivery date 2025-01-05"),
    # The end of what is stated, whatever the form.
    (TAX, "税款所属时间:自2024年12月01日至2024年12月31日 填表日期:2025年01月15日"),
    (TAX, "税款所属期:2024年10月至2024年12月"),
    (TAX, "税款所属时期:2024年第四季度\n申报日期:2025-01-15"),
    (TAX, "所属期:2024年1-12月"),
    (TAX, "原凭证号\t税款所属时期\t入(退)库日期\n1\t2024-12-01至2024-12-31\t2025-01-15"),
    (PAYROLL, "工资所属期:2024-12\n发放日期:2025-01-10"),
    ("总分类账\n{}\n摘要 借方 贷方 方向 余额\n承前页 期初余额", "会计期间:2024.01-2024.12"),
    ("财务报表\n资产负债表 会企01表 年报\n{}\n资产总计 1 负债合计 1 年初余额", "编制单位:示例 2024年12月31日 单位:元"),
    ("电子发票(普通发票)\n发票号码:25112000000123456789\n{}\n价税合计", "开票日期:2024年12月31日 打印日期:2025年01月03日"),
    ("电子发票(普通发票)\n{}\n购买方 销售方 价税合计", "发票号码:\n开票日期:\n25112000000123456789\n2024年12月31日"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "stated"), SURELY, ids=[text for _form, text in SURELY])
def test_the_end_of_the_stated_period_or_the_own_date_is_the_date(form, stated):
    result = words(form.format(stated))
    assert result.document_date == "2024-12-31", result
    assert result.confidence >= SURE, result


UNSURE = [
    (INVOICE, "Date: 2024-12-31"),
    (INVOICE, "Datum 2024-12-31"),
    ("收据\n{}\n交款单位 经办人 金额合计", "日期:2024-12-31"),
    (INVOICE, "Invoice date: 2024-12-31\nInvoice date: 2025-01-02"),
    (INVOICE, "Invoice date: 2024-12-31\nDate of issue: 2025-01-02"),
    (INVOICE, "Invoice date: 2024-12-31 2025-01-30"),
    (
        TAX,
        "税种 税款所属时期 入(退)库日期 实缴(退)金额\n增值税 2024-11-01至2024-11-30 2025-01-15 9.00\n城建税 2024-12-01至2024-12-31 2025-01-15 1.00",
    ),
    (INVOICE, "Acme Demonstration Ltd Invoice date:\nPrinted on 3 January 2025"),
    (CHINESE, "账单周期:2025年1月(2024-12-21至2025-01-20)"),
    (INVOICE, "Invoice date Leistung\n31.12.2024 30.01.2025"),
    (INVOICE, "Invoice date\nTotal\nShipped\n31.12.2024\n30.01.2025"),
    (INVOICE, "Due date\nInvoice date\n30.01.2025\n31.12.2024"),
    (CHINESE, "对账期间:2024-12-01至2024-12-31\n查询期间:2025-01-01至2025-01-31"),
    (CHINESE, "对账期间:2024-12-01至2024-12-31 2025-01-03"),
    (CHINESE, "对账期间:2024-12-01"),
    (CHINESE, "查询时间:2025-01-03 10:00"),
    (CHINESE, "2025-01-03"),
    (ENGLISH, "Statement period: 31 December 2024"),
    (ENGLISH, "Statement date: 31 December 2024\nStatement date: 31 January 2025"),
    (PAYROLL, "2025年1月10日"),
]


@pytest.mark.parametrize(("form", "stated"), UNSURE, ids=[text for _form, text in UNSURE])
def test_a_date_that_is_weak_or_competed_with_leaves_the_class_to_a_person(form, stated):
    result = words(form.format(stated))
    assert result.record_class is not None
    assert result.confidence < SURE, result
    assert result.reasons[-1].startswith(("date:weak:", "date:competing", "date:apart:")), result


@pytest.mark.parametrize(
    ("form", "stated"),
    [
        (CHINESE, "打印日期:2025-01-03"),
        (ENGLISH, "Printed 3 January 2025"),
        (ENGLISH, "Next statement date: 31 January 2025"),
        (ENGLISH, "Statement period: see page 2\n1 Dec 2024 - 31 Dec 2024 were quiet"),
        (ENGLISH, "Statement period: 01/12/2024 - 05/12/2024"),
        (ENGLISH, "Statement period: 31 Dec 2024 - 1 Dec 2024"),
        (CHINESE, "03/04/2025 - 05/06/2025"),
        ("Kontoauszug Nr. 12/2024\nIBAN 1\n{}\nAlter Kontostand 1", "x"),
        (
            "Agreement\nParty A\nParty B\n{}\nGoverning law",
            "It replaces the agreement dated 1 January 2020.",
        ),
        (INVOICE, "Payable within 30 days of the invoice date. 2025-01-30 is the last day."),
        (INVOICE, "Due date: 2025-01-30"),
        (INVOICE, "Date of delivery: 2025-01-05"),
        (INVOICE, "Delivery date 2025-01-05"),
        ("总分类账\n{}\n摘要 借方 贷方 方向 余额\n承前页 期初余额", "2024年"),
    ],
)
def test_a_date_of_another_label_is_none_at_all(form, stated):
    assert words(form.format(stated)).document_date is None


def test_of_competing_dates_the_latest_is_proposed():
    result = words(INVOICE.format("Invoice date: 2024-12-31\nInvoice date: 2025-01-02"))
    assert result.document_date == "2025-01-02"


def test_a_longer_label_is_not_taken_for_the_shorter_one_inside_it():
    result = words(CHINESE.format("对账期间\n2024-12-01至2024-12-31"))
    assert result.reasons[-1] == "date:对账期间"


def test_the_reason_names_the_label_and_not_the_value():
    result = words(INVOICE.format("Invoice date: 2024-12-31"))
    assert result.reasons[-1] == "date:Invoice date"
    assert not any("2024" in reason for reason in result.reasons)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-12-01/2024-12-31", date(2024, 12, 31)),
        ("20241201-20241231", date(2024, 12, 31)),
        ("01/12 - 31/12/2024", date(2024, 12, 31)),
        ("2024年12月1日至31日", date(2024, 12, 31)),
        ("Dec 1-31, 2024", date(2024, 12, 31)),
        ("October - December 2024", date(2024, 12, 31)),
        ("Q4 2024", date(2024, 12, 31)),
        ("2024 Q1", date(2024, 3, 31)),
        ("2024年二季度", date(2024, 6, 30)),
        ("02/2024", date(2024, 2, 29)),
        ("202402", date(2024, 2, 29)),
        ("2024年度", date(2024, 12, 31)),
        ("2024-12-31 - 2024-12-01", None),
        ("2024-13", None),
        ("13/2024", None),
        ("1 - 31", None),
        ("", None),
    ],
)
def test_a_period_is_read_to_its_last_day_in_every_usual_form(text, expected):
    value = dates.value_at(text, 0)
    assert (value and value.day) == expected
    assert value is None or value.day is None or value.period


# The cases themselves, where they are; what is of their kind is above.
if CASES.is_dir():

    @pytest.mark.parametrize(
        "name", ["90-print-after.pdf", "91-print-nextline.pdf", "92-print-after-en.pdf",
                 "93-print-nextline-en.pdf", "95-dec-nextyear-row.csv", "96-next-statement-en.pdf"]
    )  # fmt: skip
    def test_the_statements_of_december_are_of_that_year(name):
        path = CASES / "01-statement-period-window" / name
        data = path.read_bytes()
        document = Document("x", io.BytesIO(data), len(data), name, "sftp", 0)
        found = inspection.inspect(document, Limits(), None, rules=RuleSet.load(), clamd=None)
        assert found.classification.record_class == "bank-statement"
        assert found.classification.document_date == "2024-12-31"
        assert found.classification.confidence >= SURE


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="0123456789-/.年月日至 Dec\t\n:;,()DateQ期间截止日期", max_size=300))
def test_any_text_has_a_date_or_none(text):
    result = words("银行对账单\n账号 期末余额\n" + text)
    assert result.document_date is None or date.fromisoformat(result.document_date)


@pytest.mark.parametrize(
    "piece",
    ["Date ", "Invoice date\n", "2024-12-31 至 ", "1 1/1 ", "Period\t", "期间", "Dec 1-", "(", "日期,", " " * 50, "a" * 999 + "\n",
     "Statement period " * 17 + "\n" + "1 " * 150 + "\n"],
)  # fmt: skip
def test_repetition_costs_no_more_than_a_moment(piece):
    import time

    begun = time.process_time()
    words("Bank statement\n" + piece * (100_000 // len(piece)))
    words("Invoice\n" + piece * (100_000 // len(piece)))
    assert time.process_time() - begun < 5
