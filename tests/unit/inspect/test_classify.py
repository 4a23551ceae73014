"""A document is surely something only for reasons that can be named; else a person decides."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspect.classify import classify
from gateway.inspect.classify.text import Reading, decode, normalise
from gateway.inspect.document import Limits
from gateway.inspect.formats import invoices
from gateway.inspect.scan import xml

SURE = classify.SURE


def words(text):
    return classify.classify(Reading(normalise(text, Limits())), "text/plain")[0]


TEXTS = {
    "invoice": (
        "电子发票（普通发票）\n发票号码：25112000000123456789\n开票日期：2026年01月31日\n价税合计（大写）壹佰元\n开票人：某",
        "2026-01-31",
    ),
    "invoice-en": (
        "ACME Ltd\nINVOICE\nInvoice number: 42\nInvoice date: 31 January 2026\nTotal due: 100.00",
        "2026-01-31",
    ),
    "invoice-de": (
        "Muster GmbH\nRechnung\nRechnungsnummer: 42\nRechnungsdatum: 31.01.2026\nGesamtbetrag 119,00",
        "2026-01-31",
    ),
    "bank-receipt": (
        "中国某银行 电子回单\n回单编号：123\n付款人：甲公司\n收款人：乙公司\n交易日期：2026-01-15\n用途：货款",
        "2026-01-15",
    ),
    "bank-statement": (
        "中国某银行对账单\n账号：6222\n对账期间：2026年01月01日至2026年01月31日\n期初余额 100\n借方发生额 5\n贷方发生额 7\n期末余额 102",
        "2026-01-31",
    ),
    "bank-reconciliation": (
        "银行存款余额调节表\n截止日期：2026年1月31日\n银行对账单余额 100\n企业银行存款日记账余额 90\n未达账项 10\n调节后余额 100",
        "2026-01-31",
    ),
    "bookkeeping-voucher": (
        "记 账 凭 证\n记字第 12 号 日期：2026年01月20日\n摘要 会计科目 借方金额 贷方金额\n制单：甲 审核：乙 记账：丙",
        "2026-01-20",
    ),
    "general-ledger": (
        "总分类账\n科目：库存现金\n2026年\n摘要 借方 贷方 方向 余额\n承前页\n期初余额",
        None,
    ),
    "subsidiary-ledger": ("应收账款明细账\n摘要 借方 贷方\n期初余额 0\n承前页\n凭证号", None),
    "journal": ("银行存款日记账\n摘要 对方科目 收入 支出\n承前页\n本日合计", None),
    "fixed-asset-card": (
        "固定资产卡片\n资产编号：1\n原值：5000\n累计折旧：100\n使用年限：5\n入账日期：2025-03-01",
        "2025-03-01",
    ),
    "annual-report": (
        "2025年度财务报表\n资产负债表\n会企01表\n编制单位：甲\n资产总计 1\n负债合计 1\n年初余额",
        "2025-12-31",
    ),
    "periodic-report": (
        "利润表\n会企02表\n编制单位：甲 2026年1月 单位：元\n营业收入 本期金额\n净利润",
        "2026-01-31",
    ),
    "tax-return": (
        "增值税及附加税费申报表\n（一般纳税人适用）\n税款所属期间：2026年01月01日至2026年01月31日\n纳税人识别号：1\n应纳税额",
        "2026-01-31",
    ),
    "payroll": (
        "2026年1月工资表\n姓名 基本工资 应发工资 社保 公积金 个税 实发工资\n",
        "2026-01-31",
    ),
    "contract": (
        "采购合同\n合同编号：1\n甲方：一\n乙方：二\n签订日期：2026年1月5日\n违约责任",
        "2026-01-05",
    ),
    "transfer-register": (
        "会计档案移交清册\n移交日期：2026年2月1日\n卷号 起止年度 应保管期限 已保管期限\n移交人 接收人 监交人",
        "2026-02-01",
    ),
    "destruction-register": (
        "会计档案销毁清册\n卷号 册数 起止年度 应保管期限\n销毁时间：2026年2月1日\n监销人",
        "2026-02-01",
    ),
    "custody-register": ("会计档案保管清册\n卷号 册数 起止年度 应保管期限 已保管期限", None),
    "appraisal-opinion": ("会计档案鉴定意见书\n鉴定意见：继续保管\n鉴定小组\n单位负责人", None),
    "identity-document": ("居民身份证\n公民身份号码 1\n签发机关 某\n有效期限", None),
    "business-licence": ("营业执照\n统一社会信用代码 1\n法定代表人 某\n注册资本\n经营范围", None),
    "demonstration-note": ("Strongroom demonstration note\nDate: 2026-01-31\ntext", "2026-01-31"),
    "demonstration-voucher": ("Strongroom demonstration voucher\nDate: 2026-01-31", "2026-01-31"),
    "demonstration-statement": (
        "\n  Strongroom demonstration statement \n\nDate: 2026-01-31",
        "2026-01-31",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_usual_form_of_each_class_is_surely_known_with_its_date(name):
    text, day = TEXTS[name]
    result = words(text)
    key = name.removesuffix("-en").removesuffix("-de")
    assert result.record_class == key, result
    assert result.confidence >= SURE, result
    assert result.document_date == day


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Dear Sir,\nplease find our invoice attached.\nKind regards",
        "发票",  # a title alone
        "Invoice",
        "发票号码：1\n价税合计：2\n开票人：3",  # labels alone
        "形式发票\n发票号码：1\n价税合计：2",
        "Proforma invoice\nInvoice number: 1\nTotal due: 2",
        "Strongroom demonstration note",  # without its date
        "My Strongroom demonstration note\nDate: 2026-01-31",
        "About the Strongroom demonstration note\nDate: 2026-01-31",
        "资产负债表\n编制单位：甲\n2025年12月31日\n资产总计\n负债合计",  # of the year, or of December?
        "采购合同\n甲方 乙方\n电子发票\n发票号码：1\n价税合计",  # two papers in one
        "x\n" * 40 + "发票\n发票号码\n价税合计",  # the title far down
        "这份文件说明了如何在系统里开具电子发票以及有关的注意事项和流程说明文字\n发票号码 价税合计",
    ],
)
def test_what_is_not_plain_is_left_to_a_person(text):
    assert words(text).confidence < SURE


def test_a_longer_title_is_not_taken_for_the_shorter_one_inside_it():
    """回单 is kept for thirty years, 对账单 for ten: twenty years' difference."""
    result = words("银行存款余额调节表\n银行对账单余额 1\n未达账项 2\n调节后余额 3")
    assert result.record_class == "bank-reconciliation"
    result = words("对账单\n账号 1\n期末余额 2\n借方发生额")
    assert result.record_class == "bank-statement"


def test_reasons_name_features_and_never_hold_text_of_the_document():
    result = words("发票\n发票号码：SECRET-1\n价税合计：SECRET-2\n购买方：SECRET-3")
    assert result.reasons[0] == "title:发票"
    assert "field:发票号码" in result.reasons
    assert not any("SECRET" in reason for reason in result.reasons)


def test_a_message_is_correspondence_and_has_no_date_of_its_own():
    result, facts = classify.classify(Reading("发票\n发票号码：1\n价税合计"), "message/rfc822")
    assert (result.record_class, result.document_date) == ("correspondence", None)
    assert result.confidence >= SURE
    assert facts == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", date(2026, 1, 31)),
        ("2026/1/5", date(2026, 1, 5)),
        ("2026年01月31日", date(2026, 1, 31)),
        ("2026 年 1 月 31 日", date(2026, 1, 31)),
        ("20260131", date(2026, 1, 31)),
        ("31.01.2026", date(2026, 1, 31)),
        ("31/01/2026", date(2026, 1, 31)),
        ("01/31/2026", date(2026, 1, 31)),
        ("05/05/2026", date(2026, 5, 5)),
        ("03/04/2026", None),  # March or April?
        ("January 31, 2026", date(2026, 1, 31)),
        ("31st of January 2026", date(2026, 1, 31)),
        ("31. Januar 2026", date(2026, 1, 31)),
        ("1er février 2026", None),
        ("29 Feb 2026", None),
        ("2026-13-01", None),
        ("2026-02-30", None),
        ("99999920260131", None),
        ("no date", None),
        ("", None),
    ],
)
def test_dates_are_read_where_they_can_be_read_in_one_way_only(text, expected):
    assert classify.parse_date(text) == expected


def test_the_date_is_the_one_after_its_label_and_not_the_first_in_sight():
    result = words(
        "Invoice\nPrinted 2020-01-01\nInvoice number: 1\nDue date: 2026-03-01\nInvoice date: 2026-02-01\nTotal due 1"
    )
    assert result.document_date == "2026-02-01"


UBL = """<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"
 xmlns:c="urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2">
 <c:ID>{number}</c:ID><c:IssueDate>{day}</c:IssueDate></Invoice>"""
EINVOICE = """<?xml version="1.0" encoding="UTF-8"?><EInvoice><Header><EIid>25112000000123456789</EIid></Header>
<EInvoiceData><BasicInformation><TotalTax-includedAmount>113.00</TotalTax-includedAmount></BasicInformation>
<SellerInformation><SellerIdNum>91350100M000100Y43</SellerIdNum></SellerInformation></EInvoiceData>
<TaxSupervisionInfo><InvoiceNumber>25112000000123456789</InvoiceNumber><IssueTime>2026-01-31</IssueTime></TaxSupervisionInfo></EInvoice>"""


def structured(text):
    reading = Reading("", invoices.read_tree(xml.parse(text.encode())))
    return classify.classify(reading, "text/xml")


def test_a_chinese_digital_invoice_is_known_by_its_structure():
    result, facts = structured(EINVOICE)
    assert (result.record_class, result.document_date) == ("invoice", "2026-01-31")
    assert result.confidence >= 0.95
    assert facts == {
        "invoice_number": "25112000000123456789",
        "total": "113.00",
        "seller_id": "91350100M000100Y43",
        "currency": "CNY",
    }


@pytest.mark.parametrize(
    ("number", "day", "sure"),
    [
        ("1", "2026-01-31", True),
        ("", "2026-01-31", False),
        ("1", "", False),
        ("1", "2026-02-31", False),
    ],
)
def test_a_structure_without_number_or_date_is_not_sure(number, day, sure):
    result, _facts = structured(UBL.format(number=number, day=day))
    assert result.record_class == "invoice"
    assert (result.confidence >= SURE) is sure


def test_a_root_of_the_same_name_in_another_namespace_is_no_invoice():
    assert invoices.read_tree(xml.parse(b"<Invoice><ID>1</ID></Invoice>")) is None


def test_an_edifact_invoice_is_known_and_another_message_is_not():
    text = "UNA:+.? 'UNB+UNOC:3+1+2+260131:1200+1'UNH+1+INVOIC:D:96A:UN'BGM+380+RE-1+9'DTM+137:20260131:102'MOA+77:119.00'"
    found = invoices.read_edifact(text)
    assert found.fields == {"invoice_number": "RE-1", "date": "20260131", "total": "119.00"}
    assert invoices.read_edifact(text.replace("INVOIC", "ORDERS")) is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le"])
def test_chinese_text_is_read_in_each_usual_encoding(encoding):
    text = "记账凭证 2026年01月31日 借方金额"
    assert decode(text.encode(encoding)) == text


def test_western_accents_are_not_taken_for_chinese():
    text = "Société Générale, Übertrag, à payer: 12 €".replace("€", "EUR")
    assert decode(text.encode("latin-1")) == text


@given(st.binary(max_size=300))
def test_any_bytes_decode_to_something(data):
    assert isinstance(decode(data), str)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_confidence_is_a_share_and_the_class_is_known(text):
    result = words(text)
    assert 0 <= result.confidence <= 1
    assert (result.record_class is None) == (result.confidence == 0)
