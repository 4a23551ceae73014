"""The destruction certificate for people: what is printed, section by section.

Promises: a first page that says in plain words who destroyed what, when, on whose approval, and
what that means; then everything the certificate says, in the client's language; and the JSON file
itself, attached, so that what is read can be verified. The same certificate gives the same bytes.

Leaves out: the signed statements, signatures, commitments and the ledger proof, which are
for machines and are in the attached file. Print proves nothing; the attached file does, and the last
section says how. The electronic signature on the print (`seal`) shows who printed it.

Rules: those of the sheet (`page`); every section is printed, with "None." where there
is nothing to say, so that a missing one shows; the register, which can be long, comes after what was
decided and found.
"""

from __future__ import annotations

import re
from typing import Final

from fpdf.enums import XPos, YPos
from fpdf.errors import FPDFException
from msgspec import UNSET

from vault.certificate.model import (
    Approval,
    Body,
    Certificate,
    Sanitisation,
    Text,
    Witness,
    certificate_to_json,
    digest,
)
from vault.certificate.pdf.fonts import Fonts, find_fonts
from vault.certificate.pdf.page import (
    DEEP,
    MARGIN,
    WIDTH,
    Language,
    PrintError,
    Sheet,
)
from vault.certificate.pdf.register import register
from vault.certificate.pdf.seal import Seal, sealed
from vault.certificate.pdf.words import (
    MEANING,
    enrolled,
    headline,
    known,
    summary,
    word,
    zone_name,
    zone_of,
)

ATTACHMENT: Final = "certificate.json"
"""Name of the attached file."""
_GROUPS_SHOWN: Final = 40


def render_pdf(
    certificate: Certificate,
    language: Language = "both",
    *,
    fonts: Fonts | None = None,
    seal: Seal | None = None,
) -> bytes:
    """Print `certificate`, with its JSON attached as `certificate.json`, signed through `seal` if given.

    Args:
        fonts: instead of those that `find_fonts` finds. Without any font, `both` and `zh` are printed in
            English, and the document says why.

    Raises:
        PrintError: a font given or found is unreadable or cannot be embedded.
    """
    body = certificate.body
    zone = zone_of(body)
    try:
        foot = f"{body.certificate_id}  \u00b7  sha256:{digest(body)}  \u00b7  {zone_name(zone)}"
        sheet = Sheet(language, fonts or find_fonts(), foot, zone)
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
            _facts,
            _authority,
            _keys_and_copies,
            _checks,
            _media,
            _limits,
            register,
            _proof,
        ):
            section(sheet, certificate)
        page, box = _signature(sheet, body, seal)
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
        printed = bytes(pdf.output())
    except FPDFException as error:
        raise PrintError(
            f"certificate {body.certificate_id}: expected printable content, "
            f"found {type(error).__name__}"
        ) from error
    return printed if seal is None else sealed(printed, seal, body.issued_at, page, box)


def _head(sheet: Sheet, certificate: Certificate, wanted: Language) -> None:
    """The title, and the whole story in one paragraph."""
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
    pdf.ln(5)
    if wanted != sheet.language:
        sheet.note(
            "No font with Chinese characters was available to this gateway. This print is in "
            "English only, and other text appears as [...]; the attached file has all of it."
        )
    sheet.words(summary(body), 11)
    pdf.ln(2)


def _claim(sheet: Sheet, certificate: Certificate) -> None:
    body = certificate.body
    sheet.panel(body.claim.level, headline(body), body.claim.sentence)
    sheet.words(MEANING)


def _facts(sheet: Sheet, certificate: Certificate) -> None:
    body = certificate.body
    destroyed = {item.document_id for item in body.outcomes if item.result == "destroyed"}
    size = sum(item.size for item in body.register if item.document_id in destroyed)
    results = [item.result for item in body.checks]
    sheet.section("At a glance", "要目")
    sheet.pairs(
        [
            (sheet.say("Certificate", "证明书编号"), body.certificate_id),
            *(
                [(sheet.say("Follows", "承接证明书"), body.follows)]
                if body.follows is not None
                else []
            ),
            (
                sheet.say("Issued", "签发时间"),
                f"{sheet.when(body.issued_at)} ({zone_name(sheet.zone)})",
            ),
            (
                sheet.say("Issued by", "签发系统"),
                f"{body.gateway.origin} ({body.gateway.software} {body.gateway.version})",
            ),
            (sheet.say("Client", "委托人"), body.client),
            (sheet.say("Batch", "销毁批次"), body.batch_id),
            (
                sheet.say("Scope", "范围"),
                sheet.say("all that was held for the client", "为该委托人保管的全部文件")
                if body.scope == "client"
                else sheet.say("the documents of the register", "清册所列文件"),
            ),
            (
                sheet.say("Documents destroyed", "已销毁文件"),
                f"{len(destroyed)} ({size:,} {sheet.say('bytes', '字节')})",
            ),
            (
                sheet.say("Withdrawn after approval", "批准后撤出"),
                str(len(body.outcomes) - len(destroyed)),
            ),
            (
                sheet.say("Checks", "查验结果"),
                "  \u00b7  ".join(
                    f"{results.count(result)} {sheet.pick(word(result))}"
                    for result in ("passed", "failed", "not_checked")
                ),
            ),
        ]
    )


def _authority(sheet: Sheet, certificate: Certificate) -> None:
    body = certificate.body
    sheet.section("Authority, execution and witnesses", "批准、执行与监销")
    people: list[tuple[Approval | Witness, Text]] = [
        *((item, word(item.decision)) for item in body.approvals),
        *((item, Text(en="witnessed", zh="监销")) for item in body.witnesses),
    ]
    sheet.table(
        [
            sheet.say("Account", "账号"),
            sheet.say("Role", "角色"),
            sheet.say("Decision", "意见"),
            sheet.say("Signed", "签署时间"),
            sheet.say("Signing key, and who enrolled it", "签名密钥及其登记"),
        ],
        [
            [
                item.account,
                sheet.pick(word(item.role)),
                sheet.pick(decision),
                sheet.when(item.signed_at),
                _key(sheet, item),
            ]
            for item, decision in people
        ],
        (28, 18, 17, 30, 81),
    )
    witnesses = ", ".join(item.account for item in body.witnesses)
    executor = sheet.pick(word(body.executor.role))
    sheet.keep(17)  # three lines that belong together
    sheet.pairs(
        [
            (
                sheet.say("Proposed", "提请"),
                f"{body.proposed_by}, {sheet.when(body.proposed_at)}",
            ),
            (
                sheet.say("Executed", "执行"),
                f"{body.executor.account} ({executor}), {sheet.when(body.executed_at)}",
            ),
            (
                sheet.say("Witnesses", "监销人"),
                witnesses or sheet.say("none is recorded", "无记载"),
            ),
            *_recovery(sheet, body),
        ]
    )


def _recovery(sheet: Sheet, body: Body) -> list[tuple[str, str]]:
    """A quorum that was restored by recovery, as long as nobody has reviewed it."""
    recovery = body.unreviewed_recovery
    if recovery is UNSET:
        return []
    since = sheet.when(recovery.since)
    told = sheet.say(f"since {since}, not yet reviewed", f"自 {since} 起，尚未复核")
    return [
        (
            sheet.say("Quorum restored by recovery", "经恢复程序重建法定人数"),
            f"{', '.join(recovery.accounts)}: {told}",
        )
    ]


def _key(sheet: Sheet, item: Approval | Witness | Sanitisation) -> str:
    """The key that signed, and below it when and by whom it was enrolled, a line for each language."""
    told = enrolled(item.account, item.enrolment, sheet.zone)
    lines = [item.fingerprint]
    lines += [told.en] if sheet.language != "zh" else []
    lines += [told.zh] if sheet.language != "en" else []
    return "\n".join(lines)


def _keys_and_copies(sheet: Sheet, certificate: Certificate) -> None:
    body = certificate.body
    sheet.section("Known copies, and key groups ended", "已知副本与已终止的密钥组")
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
                sheet.pick(word(item.kind)),
                sheet.pick(word(item.state)),
                item.expires.isoformat()
                if item.expires
                else (sheet.say("once reached", "联系到后") if item.state == "live" else ""),
            ]
            for item in body.copies
        ],
        (88, 36, 24, 26),
    )
    ended = body.groups_ended
    shown = ", ".join(ended[:_GROUPS_SHOWN]) or sheet.say("none", "无")
    if len(ended) > _GROUPS_SHOWN:
        shown += sheet.say(
            f" and {len(ended) - _GROUPS_SHOWN} more, in the attached file",
            f" 等 {len(ended)} 个，详见所附文件",
        )
    sheet.pairs([(sheet.say("Key groups ended", "已终止的密钥组"), shown)])


def _checks(sheet: Sheet, certificate: Certificate) -> None:
    sheet.section("What was looked for, and what was found", "查验项目与结果")
    sheet.table(
        [
            sheet.say("Check", "查验项目"),
            sheet.say("Result", "结果"),
            sheet.say("Detail", "说明"),
        ],
        [
            [
                f"{sheet.pick(word(item.name))}\n{item.name}" if known(item.name) else item.name,
                sheet.pick(word(item.result)),
                sheet.told(item.detail),
            ]
            for item in certificate.body.checks
        ],
        (62, 22, 90),
    )


def _media(sheet: Sheet, certificate: Certificate) -> None:
    sheet.section("Storage media stated to be sanitised", "介质清除声明")
    sheet.table(
        [
            sheet.say("Medium", "介质"),
            sheet.say("Serial number", "序列号"),
            sheet.say("Method", "方法"),
            sheet.say("Day and place", "日期与地点"),
            sheet.say("Stated by", "声明人"),
        ],
        [
            [
                item.medium,
                item.serial,
                item.method,
                f"{item.performed_on.isoformat()}\n{item.place}",
                f"{item.account}, {sheet.when(item.recorded_at)}\n{_key(sheet, item)}",
            ]
            for item in certificate.body.sanitisations
        ],
        (32, 30, 32, 28, 52),
        size=6.8,
    )


def _limits(sheet: Sheet, certificate: Certificate) -> None:
    sheet.section("What this certificate does not say", "本证明书的限度")
    sheet.words(certificate.body.limits)


def _proof(sheet: Sheet, certificate: Certificate) -> None:
    ledger = certificate.ledger
    sheet.section("How to verify this", "核验方法")
    sheet.words(
        Text(
            en=f"The file {ATTACHMENT} attached to this document is the certificate itself, with "
            "the statements and signatures of the people named and the ledger's proof. It can be verified "
            "without this gateway: strongroom certificate verify, or the short program in the "
            "documentation (verify_certificate.py), given the ledger's key from a "
            "source of your own. The signatures are OpenSSH's (ssh-keygen -Y verify), the proof "
            "is a C2SP tlog-proof.",
            zh=f"本文件所附 {ATTACHMENT} 即证明书本身，载有所列人员的声明与签名以及账本的证明。"
            "核验无需本系统运行：持自行取得的账本公钥，执行 strongroom certificate verify，"
            "或使用文档中的短程序 verify_certificate.py。"
            "签名为 OpenSSH 格式（ssh-keygen -Y verify），账本证明为 C2SP tlog-proof 格式。",
        )
    )
    index = re.search(r"^index ([0-9]+)$", ledger.proof, re.MULTILINE)
    sheet.pairs(
        [
            (sheet.say("Ledger", "账本"), ledger.origin),
            (sheet.say("Entry", "账目序号"), index.group(1) if index else ""),
            (sheet.say("Ledger key", "账本公钥"), ledger.vkey),
            (sheet.say("Certificate digest", "证明书摘要"), f"sha256:{digest(certificate.body)}"),
            (
                sheet.say("Register digest", "清册摘要"),
                f"sha256:{certificate.body.register_digest}",
            ),
        ]
    )


def _signature(
    sheet: Sheet, body: Body, seal: Seal | None
) -> tuple[int, tuple[int, int, int, int]]:
    """The block the electronic signature stands on, or one that says there is none."""
    if seal is None:
        return sheet.seal(
            [sheet.say("This print is not signed electronically.", "本打印件未加电子签名。")]
        )
    if sheet.language == "both":
        title = "Signed electronically by the gateway 本系统电子签名"
    else:
        title = sheet.say("Signed electronically by the gateway", "本系统电子签名")
    return sheet.seal(
        [
            title,
            f"{sheet.say('Signer', '签名者')}: {seal.name}",
            f"{sheet.say('Certificate', '签名证书')} SHA-256: {seal.fingerprint}",
            f"{sheet.say('Time', '签名时间')}: {sheet.when(body.issued_at)} ({zone_name(sheet.zone)})",
            sheet.say(
                "PAdES-B-B; any later change of this file breaks the signature.",
                "PAdES-B-B；签名后对本文件的任何改动均使签名失效。",
            ),
        ]
    )
