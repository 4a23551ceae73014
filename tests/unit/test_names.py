"""One rule for names from outside."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.views.base import check_name
from gateway.names import NAME_LIMIT, decode_name, opens_as_program, safe_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("C:\\invoices\\March.pdf", "March.pdf"),
        ("../../etc/passwd", "passwd"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("a/", "a"),
        ("fdp\u202eexe.pdf", "fdpexe.pdf"),
        ("\udce9t\u00e9.pdf", "t\u00e9.pdf"),
        ("发票" * 200 + ".pdf", "发票" * 41 + "发" + ".pdf"),
        ("a\x00b\nc.txt", "abc.txt"),
    ],
)
def test_a_name_from_outside_becomes_one_harmless_segment(name, safe):
    assert safe_name(name) == safe


@given(st.text(max_size=600))
def test_whatever_comes_in_is_a_name_that_the_view_accepts(name):
    safe = safe_name(name)
    check_name(safe)
    assert 0 < len(safe.encode()) <= NAME_LIMIT


def test_a_name_of_megabytes_takes_no_longer_than_a_long_one():
    begun = time.process_time()
    for character in ("a", "发", ".", " ", "\u0301"):
        safe_name(character * 4_000_000)
    # Quadratic, one of these alone took minutes; no other figure is read into this bound.
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        (
            "gb18030",
            "发票.pdf 银行对账单-2025-03.csv 工资表2025年3月.xlsx 张三身份证.jpg 采购合同（扫描件）.pdf 图片.zip",
        ),
        (
            "gbk",
            "收 新建文本文档.txt ①季度.xls 水电费 成都分公司3月费用.xlsx",
        ),
        (
            "big5",
            "統一發票.pdf 銀行對帳單.csv 薪資表2025年3月.xlsx 身分證 合約書 水電費.pdf 陳小姐.jpg 掃描檔.pdf",
        ),
        (
            "cp932",
            "請求書.pdf 請求書ソ表.pdf 領収書2025年3月.pdf 給与明細.xlsx 山田.jpg スキャン.pdf 写真 契約書.doc",
        ),
        (
            "cp1252",
            "März.pdf Größe.xlsx Société_Générale.pdf Facture_août.pdf Löhne Málaga.csv ÄÖÜ.txt dépôt.pdf",
        ),
    ],
)
def test_a_name_in_a_local_encoding_is_read_as_its_writer_saw_it(encoding, names):
    for name in names.split():
        assert decode_name(name.encode(encoding)) == name
        assert decode_name(name.encode()) == name


@pytest.mark.parametrize(
    "name", ["Müller.pdf", "Größe.xls", "année.txt", "dépôt.pdf", "发票.pdf", "請求書.pdf"]
)
def test_archives_hold_western_names_in_the_code_page_of_dos(name):
    encoding = "cp437" if name.isascii() or ord(max(name)) < 0x400 else "gb18030"
    if "請" in name:
        encoding = "cp932"
    assert decode_name(name.encode(encoding), "dos") == name


@pytest.mark.parametrize(
    "name", ["Счёт-фактура.pdf", "Żółć.pdf", "αβγ.pdf", "חשבון", "µTorrent", "²é×.pdf"]
)
def test_utf_8_of_other_scripts_stays_what_it_is(name):
    assert decode_name(name.encode()) == name


def test_bytes_that_fit_no_encoding_are_escaped_and_not_lost():
    assert decode_name(b"a\x81\xff\xfe.pdf") == "a%81%FF%FE.pdf"


@given(st.binary(max_size=300))
def test_any_bytes_give_one_name_always_the_same(raw):
    name = safe_name(decode_name(raw))
    assert name == safe_name(decode_name(raw))
    check_name(name)


@pytest.mark.parametrize(
    ("name", "program"),
    [("a.exe", True), ("a.EXE . ", True), ("a.pdf.lnk", True), ("a.pdf", False), ("exe", False)],
)
def test_names_of_programs_are_known(name, program):
    assert opens_as_program(name) is program
