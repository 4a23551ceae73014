"""The printed certificate says what the certificate says, and carries it."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path

import msgspec
import pikepdf
import pypdfium2
import pytest

from tests.unit.test_certificate_sample import CHECKS, COPIES, VKEY, issue, make_body
from vault import certificate_pdf
from vault.certificate import Check, Copy, Outcome, certificate_to_json
from vault.certificate_page import Fonts, Language, find_fonts
from vault.certificate_pdf import ATTACHMENT, PrintError, render_pdf
from vault.certificate_verify import verify_certificate

CERTIFICATE = issue(make_body())
FONTS = find_fonts()
needs_fonts = pytest.mark.skipif(
    FONTS is None, reason="no font with Chinese characters is installed"
)


def text_of(data: bytes) -> str:
    document = pypdfium2.PdfDocument(data)
    try:
        pages = [
            document[number].get_textpage().get_text_range() for number in range(len(document))
        ]
    finally:
        document.close()
    return "\n".join(pages)


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
        CERTIFICATE.ledger.vkey,
        *body.groups_ended,
    ]
    for entry, outcome in zip(body.register, body.outcomes, strict=True):
        assert outcome.destroyed_at is not None
        found += [entry.document_id, f"{entry.size:,}", entry.rule, entry.trigger, entry.period]
        found += [outcome.destroyed_at.isoformat(sep=" ", timespec="seconds")]
    for approval in body.approvals:
        found += [approval.account, approval.fingerprint]
    for copy in body.copies:
        found += [copy.place, copy.kind]
    for check in body.checks:
        found += [check.name, check.detail]
    return found


@needs_fonts
@pytest.mark.parametrize("language", ["en", "zh", "both"])
def test_every_fact_is_on_the_page_in_every_language(language: Language) -> None:
    text = flat(text_of(render_pdf(CERTIFICATE, language)))
    for fact in expected_everywhere():
        assert flat(fact) in text, fact
    claim, limits = CERTIFICATE.body.claim.sentence, CERTIFICATE.body.limits
    for words in (claim, limits):
        assert (flat(words.en) in text) == (language != "zh")
        assert (flat(words.zh) in text) == (language != "en")
    assert "会计档案管理办法(财政部国家档案局令第79号)附表1第1项" in text


@needs_fonts
def test_the_attached_file_is_the_certificate_and_verifies() -> None:
    data = attached(render_pdf(CERTIFICATE, "both"))
    assert data == certificate_to_json(CERTIFICATE)
    assert verify_certificate(data, VKEY).passed


@needs_fonts
def test_the_file_declares_the_archival_form_and_embeds_its_fonts_as_subsets() -> None:
    data = render_pdf(CERTIFICATE, "both")
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
    assert render_pdf(CERTIFICATE, "zh") == render_pdf(CERTIFICATE, "zh")


@needs_fonts
def test_a_long_register_repeats_its_heading_and_loses_no_line() -> None:
    certificate = issue(make_body(150))
    text = text_of(render_pdf(certificate, "en"))
    for entry in certificate.body.register:
        assert text.count(entry.document_id) == 1
    assert text.count("Received") >= 3


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
    assert "Key groups ended and known copies" in text
    assert "None." in text


@pytest.mark.parametrize("content", [None, b"", b"x" * 200, b"OTTO" + b"\0" * 200])
def test_a_font_that_is_none_is_an_error_of_the_vault(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "font.otf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PrintError, match=r"font font\.otf: expected a readable"):
        render_pdf(CERTIFICATE, "zh", fonts=Fonts(path, path))


def test_the_sample_copies_have_one_that_lives() -> None:
    """Otherwise the tests above would not see the column of expiry days."""
    assert any(copy.expires for copy in COPIES)
