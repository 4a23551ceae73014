"""The destruction certificate for people: what is printed, section by section.

What it promises: the print says what the certificate says, and the JSON file itself is attached, so
that what is read can be verified. The same certificate gives the same bytes.

What it leaves out: the signed statements, signatures, commitments and the ledger proof, which are
for machines and are in the attached file; a PAdES signature, which is the business of whoever holds a
signing certificate. Print proves nothing; the attached file does, and the last section says how.

Rules: those of the sheet (`certificate_page`); and every section is printed, with "None." where there
is nothing to say, so that a missing one shows.
"""

from __future__ import annotations

import re
from typing import Final

from fpdf.enums import WrapMode, XPos, YPos
from fpdf.errors import FPDFException

from vault.certificate import Certificate, Text, certificate_to_json, digest
from vault.certificate_page import (
    DEEP,
    MARGIN,
    WIDTH,
    Fonts,
    Language,
    PrintError,
    Sheet,
    find_fonts,
    when,
)

ATTACHMENT: Final = "certificate.json"
"""Name of the attached file."""

_WORDS: Final = {
    "passed": "通过",
    "failed": "未通过",
    "not_checked": "未查验",
    "destroyed": "已销毁",
    "withdrawn": "已撤出",
    "expired": "已失效",
    "live": "尚存",
    "unknown": "不明",
    "approve": "同意",
    "reject": "否决",
}


def render_pdf(
    certificate: Certificate, language: Language = "both", *, fonts: Fonts | None = None
) -> bytes:
    """Print `certificate`, with its JSON attached as `certificate.json`.

    `fonts` overrides what `find_fonts` finds. Without any font, `both` and `zh` are printed in
    English, and the document says why.

    Raises PrintError: a font given or found is unreadable or cannot be embedded.
    """
    body = certificate.body
    try:
        foot = f"{body.certificate_id}  \u00b7  sha256:{digest(body)}"
        sheet = Sheet(language, fonts or find_fonts(), foot)
        pdf = sheet.pdf
        sheet.describe(
            sheet.say("Certificate of destruction", "销毁证明书"),
            f"{body.gateway.software} {body.gateway.version}",
            body.issued_at,
        )
        pdf.add_page()
        _head(sheet, certificate, language)
        for section in (
            _claim,
            _register,
            _approvals,
            _keys_and_copies,
            _checks,
            _limits,
            _proof,
        ):
            section(sheet, certificate)
        pdf.embed_file(
            bytes=certificate_to_json(certificate),
            basename=ATTACHMENT,
            desc="The certificate this document prints",
            mime_type="application/json",
            modification_date=body.issued_at,
            creation_date=body.issued_at,
            associated_file_relationship="Source",
            compress=True,
        )
        return bytes(pdf.output())
    except FPDFException as error:
        raise PrintError(
            f"certificate {body.certificate_id}: expected printable content, "
            f"found {type(error).__name__}"
        ) from error


def _word(sheet: Sheet, word: str) -> str:
    return sheet.say(word.replace("_", " "), _WORDS[word])


def _head(sheet: Sheet, certificate: Certificate, wanted: Language) -> None:
    pdf, body = sheet.pdf, certificate.body
    pdf.set_draw_color(*DEEP)
    pdf.set_line_width(0.8)
    pdf.line(MARGIN, 16, MARGIN + WIDTH, 16)
    pdf.set_line_width(0.2)
    pdf.line(MARGIN, 17.3, MARGIN + WIDTH, 17.3)
    pdf.set_y(24)
    pdf.set_text_color(*DEEP)
    if sheet.language != "en":
        pdf.set_font(sheet.serif, size=25)
        pdf.cell(WIDTH, 13, "销毁证明书", align="C", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    if sheet.language != "zh":
        pdf.set_font(sheet.serif, size=21 if sheet.language == "en" else 14)
        title = "Certificate of Destruction"
        pdf.cell(WIDTH, 9, title, align="C", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.ln(4)
    if wanted != sheet.language:
        sheet.note(
            "No font with Chinese characters was available to this gateway. This print is in "
            "English only, and other text appears as [...]; the attached file has all of it."
        )
    destroyed = [item for item in body.outcomes if item.result == "destroyed"]
    gone = {item.document_id for item in destroyed}
    size = sum(item.size for item in body.register if item.document_id in gone)
    withdrawn = len(body.outcomes) - len(destroyed)
    sheet.pairs(
        [
            (sheet.say("Certificate", "证明书编号"), body.certificate_id),
            (sheet.say("Issued", "签发时间"), when(body.issued_at)),
            (sheet.say("Client", "委托人"), body.client),
            (sheet.say("Batch", "销毁批次"), body.batch_id),
            (
                sheet.say("Issued by", "签发系统"),
                f"{body.gateway.origin} ({body.gateway.software} {body.gateway.version})",
            ),
            (
                sheet.say("Documents destroyed", "已销毁文件"),
                f"{len(destroyed)} ({size:,} bytes)",
            ),
            (sheet.say("Withdrawn after approval", "批准后撤出"), str(withdrawn)),
            (sheet.say("Register digest", "清册摘要"), f"sha256:{body.register_digest}"),
        ]
    )


def _claim(sheet: Sheet, certificate: Certificate) -> None:
    claim = certificate.body.claim
    sheet.section("What is claimed", "声明级别与内容")
    sheet.pdf.set_font(sheet.serif, size=15)
    sheet.pdf.set_text_color(*DEEP)
    sheet.pdf.cell(WIDTH, 8, claim.level, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    sheet.words(claim.sentence)


def _register(sheet: Sheet, certificate: Certificate) -> None:
    """The rules first, numbered, then one line for each document that refers to them.

    A register can have thousands of lines: what repeats is printed once.
    """
    body = certificate.body
    sheet.section("Register of documents", "销毁清册")
    grounds: dict[tuple[str, ...], int] = {}
    references: list[int] = []
    for item in body.register:
        ground = (
            f"{item.record_class}\n{sheet.pick(item.title)}",
            f"{item.rule}\n{item.legal_basis}",
            f"{item.trigger} {item.trigger_on.isoformat()} + {item.period}",
            when(item.eligible_at),
        )
        references.append(grounds.setdefault(ground, len(grounds) + 1))
    sheet.table(
        [
            "§",
            sheet.say("Record class", "档案类别"),
            sheet.say("Rule and legal basis", "规则与法律依据"),
            sheet.say("Period", "保管期限"),
            sheet.say("Eligible from", "可销毁起始"),
        ],
        [[str(number), *ground] for ground, number in grounds.items()],
        (7, 37, 62, 45, 23),
        size=6.8,
    )

    outcomes = {item.document_id: item for item in body.outcomes}
    lines: list[list[str]] = []
    for number, (item, reference) in enumerate(
        zip(body.register, references, strict=True), start=1
    ):
        outcome = outcomes.get(item.document_id)
        result = entry = ""
        if outcome is not None and outcome.destroyed_at is not None:
            result, entry = when(outcome.destroyed_at), str(outcome.ledger_index)
        elif outcome is not None:
            result = _word(sheet, outcome.result)
        lines.append(
            [
                str(number),
                item.document_id,
                item.record_class,
                "" if item.fiscal_year is None else str(item.fiscal_year),
                item.received_on.isoformat(),
                f"{item.size:,}",
                str(reference),
                result,
                entry,
            ]
        )
    sheet.listing(
        [
            "#",
            sheet.say("Document", "文件"),
            sheet.say("Class", "类别"),
            sheet.say("Year", "年度") if sheet.language != "both" else "年度",
            sheet.say("Received", "收到"),
            sheet.say("Bytes", "字节"),
            "§",
            sheet.say("Destroyed", "销毁时间"),
            sheet.say("Entry", "账目"),
        ],
        lines,
    )
    for outcome in body.outcomes:
        if outcome.result == "withdrawn":
            word = _word(sheet, outcome.result)
            sheet.paragraph(f"{outcome.document_id}, {word}: {outcome.reason}", WrapMode.CHAR, 8)


def _approvals(sheet: Sheet, certificate: Certificate) -> None:
    body = certificate.body
    sheet.section("Authority and execution", "批准与执行")
    sheet.table(
        [
            sheet.say("Account", "账号"),
            sheet.say("Role", "角色"),
            sheet.say("Decision", "决定"),
            sheet.say("Signed", "签署时间"),
            sheet.say("Signing key", "签名密钥"),
        ],
        [
            [
                item.account,
                item.role,
                _word(sheet, item.decision),
                when(item.signed_at),
                item.fingerprint,
            ]
            for item in body.approvals
        ],
        (26, 18, 17, 30, 83),
    )
    sheet.pairs(
        [
            (
                sheet.say("Proposed", "提请"),
                f"{body.proposed_by}, {when(body.proposed_at)}",
            ),
            (
                sheet.say("Executed", "执行"),
                f"{body.executor.account} ({body.executor.role}), {when(body.executed_at)}",
            ),
        ]
    )


def _keys_and_copies(sheet: Sheet, certificate: Certificate) -> None:
    body = certificate.body
    sheet.section("Key groups ended and known copies", "已终止的密钥组与已知副本")
    ended = ", ".join(body.groups_ended) or sheet.say("none", "无")
    sheet.pairs([(sheet.say("Key groups ended", "已终止的密钥组"), ended)])
    sheet.table(
        [
            sheet.say("Place", "位置"),
            sheet.say("Kind", "种类"),
            sheet.say("State", "状态"),
            sheet.say("Gone by", "失效日期"),
        ],
        [
            [
                item.place,
                item.kind,
                _word(sheet, item.state),
                item.expires.isoformat() if item.expires else "",
            ]
            for item in body.copies
        ],
        (94, 28, 26, 26),
    )


def _checks(sheet: Sheet, certificate: Certificate) -> None:
    sheet.section("Checks", "查验")
    sheet.table(
        [
            sheet.say("Check", "查验项目"),
            sheet.say("Result", "结果"),
            sheet.say("Detail", "说明"),
        ],
        [[item.name, _word(sheet, item.result), item.detail] for item in certificate.body.checks],
        (44, 24, 106),
    )


def _limits(sheet: Sheet, certificate: Certificate) -> None:
    sheet.section("Limits of this certificate", "本证明书的限度")
    sheet.words(certificate.body.limits)


def _proof(sheet: Sheet, certificate: Certificate) -> None:
    ledger = certificate.ledger
    sheet.section("Ledger record and verification", "账本记录与核验")
    index = re.search(r"^index ([0-9]+)$", ledger.proof, re.MULTILINE)
    sheet.pairs(
        [
            (sheet.say("Ledger", "账本"), ledger.origin),
            (sheet.say("Entry", "账目序号"), index.group(1) if index else ""),
            (sheet.say("Ledger key", "账本公钥"), ledger.vkey),
            (sheet.say("Certificate digest", "证明书摘要"), f"sha256:{digest(certificate.body)}"),
        ]
    )
    sheet.words(
        Text(
            en=f"The file {ATTACHMENT} attached to this document is the certificate itself, with "
            "the approvers' statements and signatures and the ledger's proof. It can be verified "
            "without this gateway: strongroom certificate verify, given the ledger's key from a "
            "source of your own. The signatures are OpenSSH's (ssh-keygen -Y verify), the proof "
            "is a C2SP tlog-proof.",
            zh=f"本文件所附 {ATTACHMENT} 即证明书本身，载有批准人的声明与签名以及账本的证明。"
            "核验无需本系统运行：持自行取得的账本公钥执行 strongroom certificate verify 即可。"
            "签名为 OpenSSH 格式（ssh-keygen -Y verify），账本证明为 C2SP tlog-proof 格式。",
        )
    )
