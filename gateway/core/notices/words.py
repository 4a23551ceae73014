"""The words of receipts and notices, in Chinese and English.

Promises: every text has both. None has room for a file name of a restricted class, an amount or a document's
text. Leaves out which language somebody reads (`composing`), and why a document was refused (`phrases`).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Language = Literal["zh", "en"]
LANGUAGES: Final[dict[str, tuple[Language, ...]]] = {
    "zh": ("zh",),
    "en": ("en",),
    "both": ("zh", "en"),
}


class Words(NamedTuple):
    """One language's words."""

    # Receipts: subjects and first lines, by how it stands.
    receipt_subject: str
    client: str
    receipt_all_in: str
    receipt_some: str
    receipt_pending: str
    verdicts: dict[str, str]
    kinds: dict[str, str]
    mail_itself: str
    document: str
    year: str
    what_to_do: str
    reference: str
    comma: str
    heading: str
    more: str
    ignored: str
    receipt_end: str
    automatic: str
    received: str
    # Notices.
    topics: dict[str, str]
    urgent: str
    run: str
    since: str
    notice_end: str
    test_subject: str
    test: str


WORDS: Final[dict[Language, Words]] = {
    "zh": Words(
        receipt_subject="回执：{received} 份文件，{accepted} 份已接收{rest}",
        client="客户：{slug}",
        receipt_all_in="您发送的文件已全部接收，无需其他操作。",
        receipt_some="您发送的文件已收到，其中有文件未被接收或需要事务所人员处理，详见下方。",
        receipt_pending="您发送的文件已收到，部分仍在检查；检查结束后会再通知您。",
        verdicts={
            "accepted": "已接收",
            "review": "待人工处理",
            "refused": "未接收",
            "pending": "仍在检查",
        },
        kinds={
            "pdf": "PDF", "image": "图片", "sheet": "电子表格", "text": "文本", "word": "Word 文档",
            "archive": "压缩包", "mail": "邮件", "xml": "XML", "file": "文件",
        },
        mail_itself="邮件本身",
        document="文件 {number}",
        year="会计年度 {year}",
        what_to_do="建议：",
        reference="编号",
        comma="，",
        heading="{what}（{kind}，{size}）",
        more="另有 {count} 份文件未列出；全部回执可通过 SFTP 在 /receipts 查看。",
        ignored="另有 {count} 项按规则不作为文件（正文中的图片、电子签名、系统文件），仍保留在原件中。",
        receipt_end="经签名的回执可通过 SFTP 在 /receipts 查看。出于保密，本邮件不含文件内容。",
        automatic="本邮件由系统自动发送。如有疑问，请联系您的会计。",
        received="收到时间 {at}",
        topics={
            "review": "{count} 份文件等待人工处理",
            "quarantine": "{count} 份文件已被隔离",
            "quarantine-urgent": "发现有害内容，{count} 份文件已被隔离",
            "disposal": "{count} 个销毁批次等待审批",
            "access": "{count} 个查阅申请等待决定",
            "backup": "{count} 个备份位置落后或失败",
            "copies": "{count} 个副本位置落后",
            "expiry": "{count} 个密钥或证书临近到期",
            "check": "存储检查发现问题",
        },
        urgent="紧急：",
        run="请运行：",
        since="自 {at} 起",
        notice_end="本通知不含任何文件名或内容。同一事项每天最多通知一次，紧急事项除外。",
        test_subject="Strongroom 测试通知",
        test="这是一封测试通知：邮件中继工作正常。",
    ),
    "en": Words(
        receipt_subject="Receipt: {received} received, {accepted} accepted{rest}",
        client="Client: {slug}",
        receipt_all_in="Everything you sent was accepted. There is nothing for you to do.",
        receipt_some=(
            "What you sent has arrived. Some of it was not accepted, or a person at the firm has to look at"
            " it: see below."
        ),
        receipt_pending=(
            "What you sent has arrived. Some of it is still being inspected; you will be told how it ended."
        ),
        verdicts={
            "accepted": "accepted",
            "review": "held: a person looks at it",
            "refused": "NOT accepted",
            "pending": "still being inspected",
        },
        kinds={
            "pdf": "PDF", "image": "picture", "sheet": "spreadsheet", "text": "text",
            "word": "Word document", "archive": "archive", "mail": "mail", "xml": "XML", "file": "file",
        },
        mail_itself="The mail itself",
        document="Document {number}",
        year="fiscal year {year}",
        what_to_do="What to do: ",
        reference="reference",
        comma=", ",
        heading="{what} ({kind}, {size})",
        more="Not listed here: {count} more; every receipt is in /receipts by SFTP.",
        ignored=(
            "In it, and no documents by a rule (pictures in a text, signatures, system files): {count}; what"
            " they came in keeps them."
        ),
        receipt_end=(
            "Signed receipts are in /receipts by SFTP. To protect them, this mail says nothing of what your"
            " documents hold."
        ),
        automatic="This mail was sent by a machine. If something is unclear, ask your accountant.",
        received="received {at}",
        topics={
            "review": "Documents in review, to be classified: {count}",
            "quarantine": "Documents in quarantine: {count}",
            "quarantine-urgent": "Something harmful was found. Documents in quarantine: {count}",
            "disposal": "Disposal batches that wait for approval: {count}",
            "access": "Requests for access that wait for a decision: {count}",
            "backup": "Backup targets that are late or failed: {count}",
            "copies": "Places of copies that are behind: {count}",
            "expiry": "Keys or certificates near their end: {count}",
            "check": "A check of the store found something wrong",
        },
        urgent="URGENT: ",
        run="Run:",
        since="since {at}",
        notice_end=(
            "This notice holds no file name and no content. You get at most one a day on a matter, unless it"
            " is urgent."
        ),
        test_subject="Strongroom test notice",
        test="This is a test notice: the relay works.",
    ),
}  # fmt: skip


def kind_of(media_type: str | None) -> str:
    """The word for a media type (a key of `Words.kinds`)."""
    media = (media_type or "").lower()
    if media == "application/pdf":
        return "pdf"
    if media.startswith("image/"):
        return "image"
    if "spreadsheet" in media or "excel" in media or media == "text/csv":
        return "sheet"
    if "wordprocessing" in media or "msword" in media or "opendocument.text" in media:
        return "word"
    if media in {"application/zip", "application/gzip"} or "compressed" in media or "rar" in media:
        return "archive"
    if media == "message/rfc822":
        return "mail"
    if media.endswith("xml"):
        return "xml"
    return "text" if media.startswith("text/") else "file"
