"""Mail as programs write it: every attachment is found under its name, and what is no document becomes none.

The messages are made by hand, in the form that each program gives them (which headers, which way to write a name,
which containers around what), with contents of the tests' own. What is taken out is taken apart again, as the
inspectors do with each part.
"""

from __future__ import annotations

import base64
import hashlib
import io
import quopri
import struct
import textwrap
from dataclasses import dataclass, field

import pytest

from gateway.inspect import inspection
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan import yara
from gateway.inspect.unpack import left_out
from tests.support.parts import Parts
from tests.unit.inspect.test_tnef import attached as tnef_attached
from tests.unit.inspect.test_tnef import stream as tnef_stream

PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
SECOND = PDF + b"% the second\n"
SHEET = b"account,amount\r\n1000,5.00\r\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(200))
P7S = b"\x30\x82\x01\x0a" + bytes(range(64))
CHINESE = "增值税电子发票-二〇二五年三月份-云和商贸有限公司.pdf"
GERMAN = "Rechnung für März.pdf"


@dataclass
class Case:
    """A message, and what has to become of it."""

    raw: bytes
    parts: list[tuple[str, bytes]]
    ignored: list[str] = field(default_factory=list)
    unreadable: str = ""
    subject: str = ""


def b64(content: bytes) -> bytes:
    return base64.encodebytes(content).replace(b"\n", b"\r\n")


def word(text: str, charset: str = "utf-8", coding: str = "B") -> str:
    data = text.encode(charset)
    if coding == "B":
        return f"=?{charset}?B?{base64.b64encode(data).decode()}?="
    return f"=?{charset}?Q?{''.join(f'={byte:02X}' for byte in data)}?="


def words_cut_in_characters(text: str, charset: str, label: str) -> str:
    """As QQ and Foxmail write it: a word per so many bytes, wherever characters end."""
    data = text.encode(charset)
    cut = [data[at : at + 21] for at in range(0, len(data), 21)]
    return "\r\n\t".join(f"=?{label}?B?{base64.b64encode(each).decode()}?=" for each in cut)


def extended(name: str, parameter: str, charset: str = "utf-8") -> str:
    """RFC 2231 in sections, as Thunderbird and Outlook for the Mac write long names."""
    escaped = "".join(f"%{byte:02X}" for byte in name.encode(charset))
    cut = textwrap.wrap(escaped, 45)
    head, *rest = cut
    lines = [f"{parameter}*0*={charset.upper()}''{head}"]
    lines += [f"{parameter}*{number}*={each}" for number, each in enumerate(rest, 1)]
    return ";\r\n ".join(lines)


def part(headers: str, body: bytes) -> bytes:
    return headers.replace("\n", "\r\n").replace("\r\r", "\r").encode("utf-8") + b"\r\n\r\n" + body


def text(body: str = "See the attachment.\n", kind: str = "plain", coding: str = "7bit") -> bytes:
    data = body.encode("utf-8")
    if coding == "quoted-printable":
        data = quopri.encodestring(data)
    return part(
        f"Content-Type: text/{kind}; charset=utf-8\nContent-Transfer-Encoding: {coding}",
        data.replace(b"\n", b"\r\n"),
    )


def file(kind: str, name_in_type: str, disposition: str, content: bytes, more: str = "") -> bytes:
    lines = [f"Content-Type: {kind}" + (f";\r\n {name_in_type}" if name_in_type else "")]
    lines += [f"Content-Disposition: {disposition}"] if disposition else []
    lines += ["Content-Transfer-Encoding: base64"] + ([more] if more else [])
    return part("\r\n".join(lines), b64(content))


def many(kind: str, *parts: bytes, boundary: str, preamble: bytes = b"") -> bytes:
    """A multipart entity, its headers before it."""
    line = b"--" + boundary.encode()
    body = preamble + b"".join(line + b"\r\n" + each + b"\r\n" for each in parts)
    head = f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"'.encode()
    return head + b"\r\n\r\n" + body + line + b"--\r\n"


def mail(entity: bytes, *, program: str = "", subject: str | bytes = "Documents") -> bytes:
    said = subject if isinstance(subject, bytes) else subject.encode("ascii")
    return (
        b"Date: Sat, 28 Nov 2026 08:00:00 +0000\r\nFrom: Books <books@acme.example>\r\n"
        b"To: acme@intake.localhost\r\nSubject: " + said + b"\r\nMessage-ID: <1@acme.example>\r\n"
        + (f"{program}\r\n".encode() if program else b"") + b"MIME-Version: 1.0\r\n" + entity
    )  # fmt: skip


INNER = mail(
    many(
        "mixed",
        text("What the supplier wrote.\n"),
        file("application/pdf", 'name="supplier.pdf"', 'attachment; filename="supplier.pdf"', PDF),
        boundary="inner",
    ),
    subject="From the supplier",
)
INVITATION = (
    b"BEGIN:VCALENDAR\r\nPRODID:-//Example//EN\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\n"
    b"UID:1@acme.example\r\nDTSTART:20261130T090000Z\r\nSUMMARY:Year-end mee\r\n ting\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
CARRYING = INVITATION.replace(
    b"SUMMARY", b"ATT\r\n ACH;VALUE=BINARY;ENCODING=BASE64:JVBERi0=\r\nSUMMARY"
)
CARD = b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Books\r\nEMAIL:books@acme.example\r\nEND:VCARD\r\n"


def fork(*kinds: int) -> bytes:
    table = b"".join(struct.pack(">III", kind, 0, 0) for kind in kinds)
    return bytes.fromhex("00051607 00020000") + bytes(16) + struct.pack(">H", len(kinds)) + table


FORK = fork(9, 2) + b"\0" * 40


CASES = {
    "Thunderbird: RFC 2231 in sections, format=flowed": Case(
        mail(
            many(
                "mixed",
                text(coding="quoted-printable"),
                file(
                    "application/pdf", f'name="{word(CHINESE)}"',
                    f"attachment;\r\n {extended(CHINESE, 'filename')}", PDF,
                ),
                file("text/csv", 'charset=UTF-8; name="ledger.csv"', 'attachment; filename="ledger.csv"', SHEET),
                boundary="------------0x7Bq",
                preamble=b"This is a multi-part message in MIME format.\r\n",
            ),
            program="User-Agent: Mozilla Thunderbird",
            subject=word("三月份发票"),
        ),
        [(CHINESE, PDF), ("ledger.csv", SHEET)],
        subject="三月份发票",
    ),
    "Thunderbird: a forwarded message inline as attachment, in a forwarded message": Case(
        mail(
            many(
                "mixed",
                text(),
                part(
                    'Content-Type: message/rfc822; charset=UTF-8; name="Fwd.eml"\n'
                    'Content-Disposition: attachment; filename="Fwd.eml"\nContent-Transfer-Encoding: 7bit',
                    mail(
                        many("mixed", text(), part("Content-Type: message/rfc822", INNER), boundary="middle"),
                        subject="The middle one",
                    ),
                ),
                boundary="outer",
            )
        ),
        [
            ("The middle one.eml", b""),
            ("From the supplier.eml", b""),
            ("supplier.pdf", PDF),
        ],
    ),
    "Outlook: winmail.dat": Case(
        mail(
            many(
                "mixed",
                text(),
                file(
                    "application/ms-tnef", 'name="winmail.dat"', 'attachment; filename="winmail.dat"',
                    tnef_stream(tnef_attached(PDF, b"report.pdf\0"), tnef_attached(SHEET, b"ledger.csv\0")),
                ),
                boundary="_000_OL",
            ),
            program="X-MS-TNEF-Correlator: <1@acme.example>",
        ),
        [("winmail.dat", b""), ("report.pdf", PDF), ("ledger.csv", SHEET)],
    ),
    "Outlook: pictures in a related HTML, 2047 words in parameters, sizes and dates": Case(
        mail(
            many(
                "mixed",
                many(
                    "related",
                    many(
                        "alternative", text(),
                        text('<p>See.<img src="cid:image001.png@01DC"></p>\n', "html", "quoted-printable"),
                        boundary="_000_A",
                    ),
                    file(
                        "image/png", 'name="image001.png"',
                        'inline; filename="image001.png"; size=208;\r\n creation-date="Sat, 28 Nov 2026 08:00:00 GMT"',
                        PNG, "Content-ID: <image001.png@01DC>\r\nContent-Description: image001.png",
                    ),
                    boundary="_001_R",
                ),
                file(
                    "application/pdf", f'name="{word(GERMAN, "iso-8859-1", "Q")}"',
                    f'attachment;\r\n filename="{word(GERMAN, "iso-8859-1", "Q")}"; size=50;\r\n'
                    ' modification-date="Sat, 28 Nov 2026 08:00:00 GMT"',
                    PDF, "Content-Description: " + word(GERMAN, "iso-8859-1", "Q"),
                ),
                boundary="_002_M",
            ),
            program="X-Mailer: Microsoft Outlook 16.0\r\nThread-Index: AdoAAA==",
        ),
        [(GERMAN, PDF)],
        ["picture-in-text: image001.png"],
    ),
    "Outlook: a photograph of a receipt in the text is no logo": Case(
        mail(
            many(
                "related",
                text('<img src="cid:a">\n', "html"),
                file("image/jpeg", 'name="IMG_1.jpg"', 'inline; filename="IMG_1.jpg"', JPEG + bytes(300_000), "Content-ID: <a>"),
                boundary="R",
            )
        ),
        [("IMG_1.jpg", JPEG + bytes(300_000))],
    ),
    "Outlook: S/MIME signed": Case(
        mail(
            many(
                'signed; protocol="application/x-pkcs7-signature";\r\n micalg=SHA-256',
                many(
                    "mixed", text(),
                    file("application/pdf", 'name="signed.pdf"', 'attachment; filename="signed.pdf"', PDF),
                    boundary="in",
                ),
                file("application/x-pkcs7-signature", 'name="smime.p7s"', 'attachment; filename="smime.p7s"', P7S),
                boundary="out",
            )
        ),
        [("signed.pdf", PDF)],
        ["signature: smime.p7s"],
    ),
    "Outlook: S/MIME encrypted": Case(
        mail(
            file(
                "application/pkcs7-mime", 'smime-type=enveloped-data; name="smime.p7m"',
                'attachment; filename="smime.p7m"', P7S,
            )
        ),
        [("smime.p7m", P7S)],
        unreadable="encrypted",
    ),
    "Outlook: an invitation with a file beside it": Case(
        mail(
            many(
                "mixed",
                many(
                    "alternative", text(), text("<p>Meeting</p>\n", "html"),
                    part('Content-Type: text/calendar; charset="utf-8"; method=REQUEST\nContent-Transfer-Encoding: base64', b64(INVITATION)),
                    boundary="alt",
                ),
                file("application/pdf", 'name="agenda.pdf"', 'attachment; filename="agenda.pdf"', PDF),
                boundary="mix",
            )
        ),
        [("agenda.pdf", PDF)],
        ["invitation: text-calendar"],
    ),
    "Google: the invitation once more as a file": Case(
        mail(
            many(
                "mixed",
                many("alternative", text(), part("Content-Type: text/calendar; charset=UTF-8; method=REQUEST", INVITATION), boundary="alt"),
                file("application/ics", 'name="invite.ics"', 'attachment; filename="invite.ics"', INVITATION),
                boundary="mix",
            )
        ),
        [],
        ["invitation: text-calendar", "invitation: invite.ics"],
    ),
    "an invitation that carries a file is a document": Case(
        mail(many("alternative", text(), part("Content-Type: text/calendar; method=REQUEST", CARRYING), boundary="alt")),
        [("attachment-2.ics", CARRYING)],
    ),
    "a visiting card beside the document": Case(
        mail(
            many(
                "mixed", text(),
                part('Content-Type: text/x-vcard; charset=utf-8; name="books.vcf"\nContent-Disposition: attachment; filename="books.vcf"', CARD),
                file("application/pdf", "", 'attachment; filename="a.pdf"', PDF),
                boundary="mix",
            )
        ),
        [("a.pdf", PDF)],
        ["visiting-card: books.vcf"],
    ),
    "what only calls itself a card, a calendar or a fork is a document": Case(
        mail(
            many(
                "mixed", text(),
                file("text/vcard", 'name="a.vcf"', 'attachment; filename="a.vcf"', PDF),
                file("text/calendar", 'name="a.ics"', 'attachment; filename="a.ics"', SECOND),
                file("application/applefile", 'name="b.bin"', 'attachment; filename="b.bin"', PDF + b"3"),
                file("application/applefile", 'name="c.bin"', 'attachment; filename="c.bin"', fork(2, 1) + PDF),
                file("text/vcard", 'name="d.exe"', 'attachment; filename="d.exe"', CARD),
                file("text/calendar", 'name="e.exe.ics"', 'attachment; filename="e.exe.ics"', INVITATION),
                boundary="mix",
            )
        ),
        [("a.vcf", PDF), ("a.ics", SECOND), ("b.bin", PDF + b"3"), ("c.bin", fork(2, 1) + PDF), ("d.exe", CARD),
         ("e.exe.ics", INVITATION)],
    ),
    "Apple Mail: appledouble, its name in the type only": Case(
        mail(
            many(
                "mixed",
                text(),
                many(
                    "appledouble",
                    file("application/applefile", f'name="{word(GERMAN)}"', "attachment", FORK),
                    file("application/pdf", f'name="{word(GERMAN)}"', "inline", PDF),
                    boundary="Apple-Mail-2",
                ),
                boundary="Apple-Mail-1",
            ),
            program="X-Mailer: Apple Mail (2.3864)",
        ),
        [(GERMAN, PDF)],
        [f"resource-fork: {GERMAN}"],
    ),
    "Apple Mail: files between pieces of text, names in both unix modes": Case(
        mail(
            many(
                "alternative",
                text(),
                many(
                    "mixed",
                    text("<html><body>Above", "html"),
                    file(
                        "application/pdf", 'x-unix-mode=0644;\r\n name="scan 1.pdf"',
                        'inline;\r\n filename="scan 1.pdf"', PDF,
                    ),
                    text("<html><body>Below", "html"),
                    file("application/pdf", 'x-unix-mode=0644; name="scan 2.pdf"', "inline", SECOND),
                    boundary="Apple-Mail-4",
                ),
                boundary="Apple-Mail-3",
            )
        ),
        [("scan 1.pdf", PDF), ("scan 2.pdf", SECOND)],
    ),
    "QQ: GB18030 words cut in the middle of characters": Case(
        mail(
            many(
                "mixed",
                many("alternative", text(), text("<div>见附件</div>\n", "html", "quoted-printable"), boundary="_NextPart_2"),
                file(
                    "application/octet-stream",
                    f'charset="gb18030";\r\n name="{words_cut_in_characters(CHINESE, "gb18030", "gb18030")}"',
                    f'attachment; filename="{words_cut_in_characters(CHINESE, "gb18030", "gb18030")}"',
                    PDF,
                ),
                boundary="----=_NextPart_6927",
                preamble=b"This is a multi-part message in MIME format.\r\n\r\n",
            ),
            program="X-Mailer: QQMail 2.x\r\nX-QQ-MIME: TCMime 1.0 by Tencent",
            subject=words_cut_in_characters("三月份的增值税发票和对账单，请查收", "gb18030", "gb18030"),
        ),
        [(CHINESE, PDF)],
        subject="三月份的增值税发票和对账单，请查收",
    ),
    "163: GBK words, the type's name in one, the disposition's in several": Case(
        mail(
            many(
                "mixed", text(),
                file(
                    "application/pdf", f'name="{word(CHINESE, "gbk")}"',
                    f'attachment; filename="{words_cut_in_characters(CHINESE, "gbk", "GBK")}"', PDF,
                ),
                boundary="----=_Part_1_2.3",
            ),
            program="X-Mailer: Coremail Webmail Server",
        ),
        [(CHINESE, PDF)],
    ),
    "Foxmail: raw GBK subject, GB2312 said of letters that only GBK has": Case(
        mail(
            many(
                "mixed", text(),
                file(
                    "application/octet-stream", f'name="{words_cut_in_characters("朱镕基的发票.pdf", "gbk", "gb2312")}"',
                    f'attachment; filename="{words_cut_in_characters("朱镕基的发票.pdf", "gbk", "gb2312")}"', PDF,
                ),
                boundary="----=_001_NextPart",
            ),
            program="X-Mailer: Foxmail 7.2.25",
            subject="三月份发票与对账单".encode("gbk"),
        ),
        [("朱镕基的发票.pdf", PDF)],
        subject="三月份发票与对账单",
    ),
    "a scanner: no text, type and name by guess": Case(
        mail(
            many(
                "mixed",
                file("application/pdf", 'name="SKM_C250i26112808000.pdf"', 'attachment; filename="SKM_C250i26112808000.pdf"', PDF),
                boundary="KONICA_MINOLTA_Internet_Fax_Boundary",
            )
        ),
        [("SKM_C250i26112808000.pdf", PDF)],
    ),
    "a scanner: the file is the whole message": Case(
        mail(file("application/pdf", 'name="scan0001.pdf"', "", PDF)),
        [("scan0001.pdf", PDF)],
    ),
    "a telephone: no names at all, pictures as they are": Case(
        mail(
            many(
                "mixed", text(),
                file("image/jpeg", "", "inline", JPEG),
                file("application/pdf", "", "attachment", PDF),
                boundary="--_com.android.email_1",
            )
        ),
        [("attachment-2.jpg", JPEG), ("attachment-3.pdf", PDF)],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def rules() -> yara.RuleSet:
    return yara.RuleSet.load()


def apart(raw: bytes, rules: yara.RuleSet) -> tuple[list[tuple[str, bytes]], list[str], list[str]]:
    """All parts of all depths in order, what was left out, and the reasons why a container was closed."""
    found: list[tuple[str, bytes]] = []
    ignored: list[str] = []
    closed: list[str] = []

    def look(content: bytes, name: str, depth: int) -> None:
        parts = Parts()
        channel = "part" if depth else "smtp"
        document = Document("d", io.BytesIO(content), len(content), name, channel, depth)
        verdict = inspection.inspect(document, Limits(), parts, rules=rules, clamd=None)
        ignored.extend(verdict.ignored)
        if parts.taken or not depth:
            # A part that is no container may be unreadable for reasons of its own: these PDFs hold no page.
            closed.append(verdict.unreadable)
            # Of a container nothing is suspect unless it is closed.
            suspects = [each for each in verdict.scans if each.outcome in {"suspect", "error"}]
            assert not suspects or verdict.unreadable, suspects
        for name, content in parts.taken:
            found.append((name, content))
            look(content, name, depth + 1)

    look(raw, "message", 0)
    return found, ignored, [each for each in closed if each]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_attachment_is_found_under_its_name_and_nothing_else_is(
    case: Case, rules: yara.RuleSet
) -> None:
    found, ignored, closed = apart(case.raw, rules)
    wanted = case.parts
    assert [name for name, _ in found] == [name for name, _ in wanted]
    # A container's own bytes (b"" here) are what its parts are found in.
    assert [
        hashlib.sha256(content).hexdigest() if expected else ""
        for (_, content), (_, expected) in zip(found, wanted, strict=True)
    ] == [hashlib.sha256(expected).hexdigest() if expected else "" for _, expected in wanted]
    assert ignored == case.ignored
    assert closed == ([case.unreadable] if case.unreadable else [])


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in CASES.items() if case.subject]
)
def test_the_subject_is_read_as_it_was_meant(case: Case, rules: yara.RuleSet) -> None:
    document = Document("d", io.BytesIO(case.raw), len(case.raw), "message", "smtp", 0)
    verdict = inspection.inspect(document, Limits(), Parts(), rules=rules, clamd=None)
    assert verdict.facts["subject"] == case.subject


@pytest.mark.parametrize(
    ("kind", "content", "rule"),
    [
        ("text/calendar", INVITATION, "invitation"),
        ("text/calendar", INVITATION.replace(b"\r\n", b"\n"), "invitation"),
        ("text/calendar", INVITATION.replace(b"METHOD:REQUEST\r\n", b""), ""),  # somebody's calendar
        ("text/calendar", INVITATION + PDF, ""),
        ("text/calendar", b"x" + INVITATION, ""),
        ("text/calendar", INVITATION.replace(b"2026", b"\0"), ""),
        ("text/calendar", INVITATION.replace(b"UID:", b"IMAGE:"), ""),
        ("text/calendar", INVITATION.replace(b"UID", b" " * (256 * 1024) + b"UID"), ""),
        ("text/x-vcard", CARD, "visiting-card"),
        ("text/vcard", CARD + PDF, ""),
        ("application/applefile", fork(), "resource-fork"),
        ("application/applefile", fork(2)[:-1], ""),
        ("application/applefile", fork(2)[:25], ""),
        ("application/applefile", fork(1), ""),
        ("application/pdf", CARD, ""),
        ("text/calendar", b"", ""),
    ],
)  # fmt: skip
def test_only_what_is_nothing_else_is_left_out(kind: str, content: bytes, rule: str) -> None:
    assert left_out.rule_of(kind, content) == rule
