"""The printed certificate says what the certificate says, and carries it."""

from __future__ import annotations

import functools
import io
import re
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pikepdf
import pypdfium2
import pytest

from tests.unit.vault.test_certificate_sample import (
    CHECKS,
    COPIES,
    VKEY,
    enrolled,
    enrolment,
    issue,
    make_body,
    register,
    sanitisation,
    witness,
)
from vault.certificate.model import Check, Copy, Outcome, Recovery, Text, certificate_to_json
from vault.certificate.pdf import document as certificate_pdf
from vault.certificate.pdf.document import ATTACHMENT, render_pdf
from vault.certificate.pdf.fonts import Fonts, find_fonts
from vault.certificate.pdf.page import Language, PrintError, Sheet
from vault.certificate.verify import verify_certificate

CERTIFICATE = issue(make_body())
FONTS = find_fonts()
needs_fonts = pytest.mark.skipif(
    FONTS is None, reason="no font with Chinese characters is installed"
)


@functools.cache
def printed(language: Language) -> bytes:
    """The sample certificate's print, made once in each language."""
    return render_pdf(CERTIFICATE, language)


def text_of(data: bytes) -> str:
    document = pypdfium2.PdfDocument(data)
    try:
        pages = [
            document[number].get_textpage().get_text_range() for number in range(len(document))
        ]
    finally:
        document.close()
    return "\f".join(pages)


def pages_of(data: bytes) -> list[str]:
    return text_of(data).split("\f")


def flat(text: str) -> str:
    """Without line breaks and spaces, which wrapping puts anywhere."""
    return "".join(text.split())


def attached(data: bytes) -> bytes:
    with pikepdf.open(io.BytesIO(data)) as pdf:
        assert list(pdf.attachments) == [ATTACHMENT]
        return pdf.attachments[ATTACHMENT].get_file().read_bytes()


@pytest.fixture
def without_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_pdf, "find_fonts", lambda: None)


SHANGHAI = timezone(timedelta(hours=8))


def shown(moment: datetime) -> str:
    """A moment as it is printed: in the zone in which the first item's period ended."""
    return f"{moment.astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S}"


def expected_everywhere() -> list[str]:
    """What any print must show, whatever its language."""
    body = CERTIFICATE.body
    found = [
        body.certificate_id,
        body.client,
        body.batch_id,
        body.register_digest,
        body.claim.level,
        body.executor.account,
        body.proposed_by,
        "UTC+08:00",
        shown(body.issued_at),
        shown(body.executed_at),
        CERTIFICATE.ledger.vkey,
        *body.groups_ended,
    ]
    for entry, outcome in zip(body.register, body.outcomes, strict=True):
        assert outcome.destroyed_at is not None
        found += [entry.document_id, entry.rule, entry.trigger_on.isoformat()]
        found += [shown(entry.eligible_at), shown(outcome.destroyed_at)]
    for approval in body.approvals:
        found += [approval.account, approval.fingerprint, shown(approval.signed_at)]
    for copy in body.copies:
        found += [copy.place]
    for check in body.checks:
        assert isinstance(check.detail, str)
        found += [check.name, check.detail]
    return found


@needs_fonts
@pytest.mark.parametrize("language", ["en", "zh", "both"])
def test_every_fact_is_on_the_page_in_every_language(language: Language) -> None:
    text = flat(text_of(printed(language)))
    for fact in expected_everywhere():
        assert flat(fact) in text, fact
    claim, limits = CERTIFICATE.body.claim.sentence, CERTIFICATE.body.limits
    for words in (claim, limits):
        assert (flat(words.en) in text) == (language != "zh")
        assert (flat(words.zh) in text) == (language != "en")
    assert "会计档案管理办法(财政部国家档案局令第79号)附表1第1项" in text


@needs_fonts
def test_the_first_page_says_who_destroyed_what_when_and_on_whose_approval() -> None:
    en = flat(pages_of(printed("en"))[0])
    assert (
        flat("On 1 February 2056, 3 documents of the client acme, from the fiscal year 2025,") in en
    )
    assert flat("officer-chen (officer) and officer-li (officer) each approved it") in en
    assert flat("archivist-wang (archivist) carried it out") in en
    assert flat("a copy of a key remains in 1 place until 28 April 2056") in en
    zh = flat(pages_of(printed("zh"))[0])
    assert flat("2056年2月1日，委托人 acme 的 3 份文件（2025 年度）") in zh
    assert flat("officer-chen（主管）、officer-li（主管）均以本人密钥签名批准") in zh
    assert flat("1 处密钥副本留存至2056年4月28日") in zh


@needs_fonts
@pytest.mark.parametrize("language", ["en", "zh", "both"])
def test_every_signature_has_a_line_that_says_when_and_by_whom_its_key_was_enrolled(
    language: Language,
) -> None:
    body = msgspec.structs.replace(
        enrolled(li=enrolment("officer-li", "officer-chen", "officer-sun")),
        witnesses=(witness(register()),),
        sanitisations=(sanitisation(enrolment=enrolment("officer-chen", "officer-chen")),),
    )
    lines = text_of(render_pdf(issue(body), language)).splitlines()
    for en, zh in (
        ("enrolled 2054-12-28, in the founding days", "2054-12-28 系统初建时登记"),
        (
            "enrolled 2054-12-28 by officer-chen and officer-sun",
            "2054-12-28 由 officer-chen 与 officer-sun 登记",
        ),
        ("how it was enrolled is not stated", "登记情况未载明"),
        ("enrolled 2054-12-28 by its owner", "2054-12-28 由本人登记"),
    ):
        assert any(en in line for line in lines) == (language != "zh"), en
        assert any(zh in line for line in lines) == (language != "en"), zh


@needs_fonts
def test_a_chinese_print_has_no_english_sentence() -> None:
    """Identifiers, and what was reported in one language only, are what is left in Latin letters."""
    checks = tuple(
        Check(
            name=item.name, result=item.result, detail=Text(en="All found gone.", zh="均未发现。")
        )
        for item in CHECKS[:2]
    )
    text = text_of(render_pdf(issue(make_body(checks=checks)), "zh"))
    assert "均未发现。" in text
    assert "All found gone" not in text
    for english in ("the ", " of ", "Register", "approved", "copy", "destroyed"):
        assert english not in text, english


@needs_fonts
def test_the_register_has_the_columns_of_order_79_where_it_governs_and_only_there() -> None:
    columns = [
        "序号",
        "档案名称",
        "卷号",
        "册数",
        "起止年度",
        "档案编号",
        "应保管期限",
        "已保管期限",
        "销毁时间",
    ]
    text = text_of(printed("zh"))
    line = next(line for line in text.splitlines() if "档案编号" in line)
    assert [name for name in columns if name in line] == columns
    assert re.search(r"1\s*发票\s*—\s*1\s*2025\s*01JD0{22}\s*30年\s*30年1个月", text)
    elsewhere = tuple(
        msgspec.structs.replace(item, rule="house-vouchers@1", legal_basis="House rule")
        for item in register()
    )
    text = text_of(render_pdf(issue(make_body(register=elsewhere)), "zh"))
    assert "卷号" not in text
    assert "2025-03-01" in text


@needs_fonts
@pytest.mark.parametrize("language", ["en", "zh", "both"])
def test_no_identifier_period_or_time_of_the_register_is_cut_to_its_column(
    language: Language,
) -> None:
    """Even one made of the widest letters: it is set smaller instead."""
    wide = tuple(
        msgspec.structs.replace(item, document_id=f"01M{'W' * 10}M{'Q' * 8}{number:04d}")
        for number, item in enumerate(register(3))
    )
    text = text_of(render_pdf(issue(make_body(register=wide)), language))
    assert "~" not in text
    for item in wide:
        assert item.document_id in text


@needs_fonts
def test_witnesses_media_and_the_certificate_followed_are_printed() -> None:
    body = make_body(copies=COPIES[:2], sanitisations=(sanitisation(),))
    body = msgspec.structs.replace(
        body, witnesses=(witness(body.register),), follows="C-2056-0000", scope="client"
    )
    text = flat(text_of(render_pdf(issue(body), "both")))
    for fact in (
        "auditor-zhao",
        "S6Z1NX0T123456",
        "IEEE 2883 Purge",
        "Shanghai, room 3",
        "This certificate follows C-2056-0000",
        "承接证明书 C-2056-0000",
        "everything that the gateway held for this client",
        "media stated to be sanitised",
    ):
        assert flat(fact) in text, fact


@needs_fonts
def test_an_unreviewed_recovery_stands_on_the_first_page_and_beside_the_approvals() -> None:
    recovery = Recovery(since=CERTIFICATE.body.issued_at, accounts=("officer-new",))
    stated = issue(make_body(unreviewed_recovery=recovery))
    for language, said in (("en", "restored by recovery"), ("zh", "经恢复程序")):
        pages = pages_of(render_pdf(stated, language))
        assert flat(said) in flat(pages[0])
        assert flat(f"officer-new: {'since' if language == 'en' else '自'}") in flat("".join(pages))
        assert flat(said) not in flat(text_of(printed(language)))


@needs_fonts
def test_the_attached_file_is_the_certificate_and_verifies() -> None:
    data = attached(printed("both"))
    assert data == certificate_to_json(CERTIFICATE)
    assert verify_certificate(data, VKEY).passed


@needs_fonts
def test_the_file_declares_the_archival_form_and_embeds_its_fonts_as_subsets() -> None:
    data = printed("both")
    assert len(data) < 400_000
    with pikepdf.open(io.BytesIO(data)) as pdf:
        with pdf.open_metadata() as metadata:
            assert metadata.pdfa_status == "3U"
        fonts = pdf.pages[0].Resources.Font
        names = [str(fonts[name].BaseFont) for name in fonts]
        assert names
        assert all("+Noto" in name for name in names)
        assert pdf.Root.AF[0].UF == ATTACHMENT


@needs_fonts
def test_the_same_certificate_prints_the_same_bytes() -> None:
    assert render_pdf(CERTIFICATE, "zh") == printed("zh")


@needs_fonts
def test_a_long_register_repeats_its_heading_and_loses_no_line() -> None:
    certificate = issue(make_body(150))
    text = text_of(render_pdf(certificate, "en"))
    for entry in certificate.body.register:
        assert text.count(entry.document_id) == 1
    assert text.count("Archive number") >= 3
    for column in ("No.", "Kept"):
        assert text.count(column) >= 3


@pytest.mark.usefixtures("without_fonts")
@pytest.mark.parametrize("language", ["en", "zh", "both"])
def test_without_a_font_the_print_is_english_and_says_so(language: Language) -> None:
    data = render_pdf(CERTIFICATE, language)
    text = flat(text_of(data))
    for fact in expected_everywhere():
        assert flat(fact) in text, fact
    assert flat(CERTIFICATE.body.limits.en) in text
    assert ("NofontwithChinesecharacters" in text) == (language != "en")
    # What cannot be shown leaves a mark where it was.
    assert "[...]" in text
    assert attached(data) == certificate_to_json(CERTIFICATE)


@pytest.mark.usefixtures("without_fonts")
def test_text_from_outside_is_neither_markup_nor_layout() -> None:
    hostile = "**bold** __under__ {nb} \x00\x1b[31m\u202eevil\u200b\r\n(Tj) ET \\ %% <</AA>>"
    copies = (Copy(place=hostile, kind="backup", state="live", expires=date(2056, 4, 1)),)
    checks = (*CHECKS, Check(name="odd", result="passed", detail=hostile))
    data = render_pdf(issue(make_body(copies=copies, checks=checks)), "en")
    text = text_of(data)
    assert text.count("**bold**") == 2
    assert text.count("(Tj) ET") == 2
    for char in ("\x00", "\x1b", "\u202e", "\u200b"):
        assert char not in text


@pytest.mark.usefixtures("without_fonts")
def test_a_withdrawn_item_is_printed_with_its_reason() -> None:
    body = make_body()
    withdrawn = Outcome(
        document_id=body.register[1].document_id,
        result="withdrawn",
        destroyed_at=None,
        ledger_index=None,
        reason="a hold was placed after the approval",
    )
    outcomes = (body.outcomes[0], withdrawn, body.outcomes[2])
    text = text_of(render_pdf(issue(msgspec.structs.replace(body, outcomes=outcomes)), "en"))
    assert "a hold was placed after the approval" in text
    assert text.count(withdrawn.document_id) == 2


@pytest.mark.usefixtures("without_fonts")
def test_an_empty_section_says_none_instead_of_vanishing() -> None:
    text = text_of(render_pdf(issue(make_body(copies=(), groups_ended=())), "en"))
    assert "Known copies, and key groups ended" in text
    assert text.count("None.") == 2
    assert "none is recorded" in text


@pytest.mark.parametrize("content", [None, b"", b"x" * 200, b"OTTO" + b"\0" * 200])
def test_a_font_that_is_none_is_an_error_of_the_vault(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "font.otf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PrintError, match=r"font font\.otf: expected a readable"):
        render_pdf(CERTIFICATE, "zh", fonts=Fonts(path, path))


# --- lines -------------------------------------------------------------------------------------------


@functools.cache
def sheet_of_ten_points() -> Sheet:
    assert FONTS is not None
    sheet = Sheet("zh", FONTS, "", SHANGHAI)
    sheet.pdf.add_page()
    sheet.pdf.set_font(sheet.sans, size=10)
    return sheet


def broken(text: str, width: float) -> list[str]:
    return sheet_of_ten_points()._break(text, width)


@needs_fonts
def test_no_line_begins_with_a_closing_mark_or_ends_with_an_opening_one() -> None:
    text = "由审核人员（主管）签名批准，并由“档案人员”执行；至此，全部完成。" * 3
    for width in range(20, 80):
        lines = broken(text, width)
        assert "".join(lines) == text
        assert len(lines) > 3
        for line in lines:
            assert line[0] not in "，。、；：！？）》”’」』】…"
            assert line[-1] not in "（《“‘「『【"


@needs_fonts
def test_words_dates_and_identifiers_are_not_cut_and_only_what_is_longer_than_a_line_is() -> None:
    text = "系统 vault.example.org/ledger 于2056年1月1日执行 archivist-wang 所请。"
    for width in range(48, 90):
        for word in ("vault.example.org/ledger", "archivist-wang", "2056年", "1日"):
            assert any(word in line for line in broken(text, width)), (width, word)
    digest = "0123456789abcdef" * 4
    lines = broken(f"sha256:{digest}", 30)
    assert len(lines) > 2
    assert "".join(lines) == f"sha256:{digest}"


@needs_fonts
def test_line_breaks_of_the_text_are_kept_and_spaces_at_them_are_not() -> None:
    assert broken("one two\n\nthree", 100) == ["one two", "", "three"]
    assert broken("", 100) == [""]
    assert broken("aaaa bbbb", 12) == ["aaaa", "bbbb"]


def test_the_sample_copies_have_one_that_lives() -> None:
    """Otherwise the tests above would not see the column of expiry days."""
    assert any(copy.expires for copy in COPIES)
