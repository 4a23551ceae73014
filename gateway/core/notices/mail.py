"""The form of a mail that the gateway writes: text and simple HTML side by side, safe headers, one message
id.

Promises: every header is ASCII, encoded where it has to be (RFC 2047) and never holds a line break; what
comes from a message (its id) is put in only if it is of the strict form of one. `Auto-Submitted` says that a
program wrote it (RFC 3834), so that no other program answers. Nothing in it is loaded from elsewhere, and no
link leads out of it. Leaves out the words, and the signature (the courier adds it, where one is configured).
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from gateway.config import RelaySection

_MESSAGE_ID: Final = re.compile(r"<[!-;=?A-~]{1,128}@[!-;=?A-~]{1,128}>")
_RULE: Final = "-" * 40  # between two languages
_POLICY: Final = SMTP.clone(utf8=False, max_line_length=76)
_STYLE: Final = (
    "font-family:-apple-system,'Segoe UI','Microsoft YaHei','PingFang SC','Noto Sans CJK SC',sans-serif;"
    "font-size:15px;line-height:1.5;color:#222"
)
_COLOURS: Final = {"good": "#1a6b33", "wait": "#8a5a00", "bad": "#a3121f", "plain": "#222"}


@dataclass(frozen=True)
class Row:
    """One line of a list: a heading with a colour, and lines below it."""

    heading: str
    state: str = ""
    tone: str = "plain"  # a key of `_COLOURS`
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """One language's part of a mail. `code`: a command to run."""

    language: str
    opening: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    code: tuple[str, ...] = ()
    closing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mail:
    """What a mail is to be. `answers`: the Message-ID it answers, as it was found; "" for none."""

    notice_id: str
    recipient: str
    subject: str
    sections: Sequence[Section]
    answers: str = ""
    urgent: bool = False


def encode(relay: RelaySection, mail: Mail, now: datetime) -> bytes:
    """The message (RFC 5322), ASCII, with lines ending in CRLF."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(relay.sender_name, addr_spec=relay.sender)
    message["To"] = Address(addr_spec=mail.recipient)
    if relay.reply_to:
        message["Reply-To"] = Address(addr_spec=relay.reply_to)
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(now)
    message["Message-ID"] = message_id(relay, mail.notice_id)
    if _MESSAGE_ID.fullmatch(mail.answers):
        message["In-Reply-To"] = mail.answers
        message["References"] = mail.answers
    message["Auto-Submitted"] = "auto-replied" if mail.answers else "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"  # what Exchange looks at instead
    if mail.urgent:
        message["Importance"] = "high"
    text = f"\n\n{_RULE}\n\n".join(_text(each) for each in mail.sections)
    message.set_content(
        text + "\n", charset="utf-8", cte="quoted-printable" if text.isascii() else "base64"
    )
    page = "".join(_html(each) for each in mail.sections)
    language = mail.sections[0].language
    message.add_alternative(
        f'<!DOCTYPE html>\n<html lang="{language}"><head><meta charset="utf-8">'
        f"<title>{html.escape(mail.subject)}</title></head>"
        f'<body style="{_STYLE}">{page}</body></html>\n',
        subtype="html",
        charset="utf-8",
        cte="base64",
    )
    return message.as_bytes()


def message_id(relay: RelaySection, notice_id: str) -> str:
    """The Message-ID of a notice: the same at every attempt."""
    return f"<{notice_id.lower()}@{relay.sender.rpartition('@')[2]}>"


def _text(section: Section) -> str:
    lines = [*section.opening]
    for number, row in enumerate(section.rows, 1):
        lines += ["", f"{number}. {row.heading}" + (f" - {row.state}" if row.state else "")]
        lines += [f"   {each}" for each in row.below]
    if section.code:
        lines += ["", *(f"    {each}" for each in section.code)]
    if section.closing:
        lines += ["", *section.closing]
    return "\n".join(lines)


def _html(section: Section) -> str:
    def paragraphs(texts: Sequence[str], style: str = "") -> str:
        return "".join(
            f'<p style="margin:0 0 8px;{style}">{html.escape(each)}</p>' for each in texts
        )

    rows = "".join(
        f'<li style="margin:0 0 10px">{html.escape(row.heading)}'
        + (
            f' <strong style="color:{_COLOURS[row.tone]}">{html.escape(row.state)}</strong>'
            if row.state
            else ""
        )
        + "".join(
            f'<div style="color:#555;font-size:14px">{html.escape(each)}</div>'
            for each in row.below
        )
        + "</li>"
        for row in section.rows
    )
    code = "".join(
        f'<pre style="background:#f2f2f2;padding:8px;margin:0 0 8px">{html.escape(each)}</pre>'
        for each in section.code
    )
    return (
        f'<div lang="{section.language}" style="max-width:640px;margin:0 0 24px">'
        + paragraphs(section.opening)
        + (f'<ol style="margin:12px 0;padding-left:24px">{rows}</ol>' if rows else "")
        + code
        + paragraphs(section.closing, "color:#555;font-size:13px")
        + "</div>"
    )
