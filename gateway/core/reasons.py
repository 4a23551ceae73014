"""Reason codes in words: why a document waits or was refused, and what the one who sent it can do.

Promises: every code that inspection gives has a sentence of its own kind, so that nobody is told of macros
who sent an archive. The sentences are for people who send documents: no code, no name of a scanner.

Rules: a reason is what `judgement` made of a verdict (`unjudged:suspect:pdf:pdf.javascript,_pdf.xfa`). Of
several findings the first in `_FINDINGS` speaks: what acts by itself before what is only unusual.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

UNJUDGED: Final = "unjudged:"
"""How the reason of a document begins that could not be looked into: it opens once two officers say so."""


SENDER_WAITING: Final = "sender:waiting"
"""The reason of a message that nobody opens before it is known whose it is."""
SENDER_UNPROVEN: Final = "sender:unproven"
"""The reason of a message that shows nothing of what its client asks for."""
LOCKED: Final = "locked"
"""What follows `UNJUDGED` where a password would open it: `unjudged:locked:pdf`."""


class Sentence(NamedTuple):
    """Why, and what to do."""

    why: str
    what_to_do: str


_WAIT: Final = "Nothing: a person at the firm looks at it."
_AS_PDF: Final = "Print it to a new PDF and send that, or wait: a person at the firm looks at it."

_ACTIVE: Final = Sentence(
    "It holds something that acts by itself when it is opened (macros, scripts, links to programs or to"
    " other computers).",
    "Save it without that, or as a PDF, and send it again; or wait: a person at the firm looks at it.",
)
_NOT_OPENED: Final = Sentence(
    "It is of a format that is not opened here.",
    "Send the files in it by themselves, or in a zip archive; or wait: a person at the firm looks at it.",
)
_LOCKED: Final = Sentence(
    "It is protected by a password and could not be checked.",
    "Give your accountant the password by telephone or in person, never by mail: it is then kept for your"
    " files. Or send a copy without one.",
)
_TOO_LARGE: Final = Sentence("It is too large inside to be checked by the machine.", _WAIT)
_DAMAGED: Final = Sentence(
    "It is damaged or not of the kind its name says.",
    "See whether it opens on your computer; if it does not, send it anew.",
)
_TWO_READINGS: Final = Sentence(
    "It can be read in more than one way.", "Send it made by another program."
)

# By the beginning of a finding's code, the gravest first.
_FINDINGS: Final[dict[str, Sentence]] = {
    "name.program_suffix": Sentence(
        "Its name is that of a program or a shortcut.",
        "Send the document itself, under its own name.",
    ),
    "name.direction_override": Sentence(
        "Its name holds characters that make it read backwards.",
        "Give it a plain name and send it again.",
    ),
    "office.encrypted": _LOCKED,
    "pdf.encrypted": _LOCKED,
    "archive.encrypted": _LOCKED,
    "archive.no_password_helps": Sentence(
        "It is an archive protected by a password, of a kind (rar) that is not opened here even with it.",
        "Send it without a password, or pack the files in a zip archive with the same one.",
    ),
    "mail.encrypted": Sentence(
        "The mail is encrypted and could not be read.",
        "Send its attachments by SFTP, or unencrypted.",
    ),
    "pdf.javascript": _ACTIVE,
    "pdf.launch": _ACTIVE,
    "pdf.automatic_action": _ACTIVE,
    "pdf.submit_form": _ACTIVE,
    "pdf.import_data": _ACTIVE,
    "pdf.xfa": Sentence(
        "It is a form of a kind (XFA) whose contents are made by a program in it.", _AS_PDF
    ),
    "pdf.media": _ACTIVE,
    "pdf.remote_target": _ACTIVE,
    "pdf.outside_reference": _ACTIVE,
    "pdf.thread_target": _ACTIVE,
    "office.outlook_attachment": Sentence(
        "It is an attachment saved by Outlook in a form of its own.",
        "Send the attached file itself.",
    ),
    "office.installer_package": Sentence("It installs a program.", "Send the document itself."),
    "office.embedded_object": Sentence(
        "Another file is embedded in it.",
        "Send the embedded file by itself, and this one without it.",
    ),
    "office.compound_file": _NOT_OPENED,
    "office.rich_text": Sentence(
        "It is a rich text file with embedded objects or damage.", "Save it as a PDF and send that."
    ),
    "office.too_many": _TOO_LARGE,
    "office.large_member": _TOO_LARGE,
    "office.workbook_too_large": _TOO_LARGE,
    "office": _ACTIVE,
    "xml.active_content": _ACTIVE,
    "text.acts_when_opened": _ACTIVE,
    "text.encoded_file": Sentence(
        "Another file is written into its text.", "Send that file by itself."
    ),
    "html.named_as_office": Sentence(
        "It is a web page, though its name says that it is a workbook or a document.",
        "Save it as a real workbook or as a PDF and send that; or wait: a person at the firm looks at it.",
    ),
    "html.page": Sentence(
        "It is a web page, also where its name says something else (.xls).",
        "Save it as a PDF, or as a real workbook, and send that; or wait: a person at the firm looks at it.",
    ),
    "xml.stylesheet": Sentence(
        "It names a style sheet of another place, which would change what it shows.",
        "Send it without, or wait: a person at the firm looks at it.",
    ),
    "xml": Sentence(
        "It defines entities, which can make it read differently in different programs.",
        "Send it without a DOCTYPE, or wait: a person at the firm looks at it.",
    ),
    "pdf.embedded_too_large": _TOO_LARGE,
    "pdf.expands_too_far": _TOO_LARGE,
    "pdf.many_contents": _TOO_LARGE,
    "pdf.too_deep": _TOO_LARGE,
    "pdf.embedded": Sentence(
        "Another file is attached to the PDF.",
        "Send the attached file by itself as well, or wait: a person at the firm looks at it.",
    ),
    "pdf.file_attachment": Sentence(
        "Another file is attached to the PDF.",
        "Send the attached file by itself as well, or wait: a person at the firm looks at it.",
    ),
    "pdf.header_not_first": Sentence("Other bytes stand before the beginning of the PDF.", _AS_PDF),
    "pdf.data_after_end": Sentence("Other bytes stand behind the end of the PDF.", _AS_PDF),
    "pdf.hidden": Sentence("It holds something that is not seen on its pages.", _AS_PDF),
    "pdf.ambiguous_end": _TWO_READINGS,
    "pdf.too_many": _TOO_LARGE,
    "pdf.exhausting_function": _TOO_LARGE,
    "pdf.page_count": _TOO_LARGE,
    "pdf.nested_too_deep": _TOO_LARGE,
    "pdf": Sentence("It is damaged, or unusual inside.", _AS_PDF),
    "format.empty": Sentence("The file is empty.", "Send it again, whole."),
    "format.not_opened": _NOT_OPENED,
    "outlook.too": _TOO_LARGE,
    "outlook.attached_by_reference": Sentence(
        "The message saved by Outlook names a file instead of holding it.",
        "Send the file itself.",
    ),
    "outlook": Sentence(
        "The message saved by Outlook is damaged, or not all of it can be taken out.",
        "Forward the message itself, or send its attachments.",
    ),
    "tnef.too": _TOO_LARGE,
    "tnef.attached_by_reference": Sentence(
        "The message made by Outlook (winmail.dat) names a file instead of holding it.",
        "Send the file itself.",
    ),
    "tnef": Sentence(
        "The message made by Outlook (winmail.dat) is damaged.",
        "Send its attachments by themselves, or the message as plain text.",
    ),
    "archive.escaping_name": Sentence(
        "A name in the archive leads out of it.", "Pack the files anew and send that."
    ),
    "archive.too_deep": Sentence(
        "The archive holds archives in archives, too deep to be opened.",
        "Send the files themselves.",
    ),
    "archive.library_missing": Sentence(
        "It is an archive of a kind that the firm's machine can't open at present.",
        "Send the files in it by themselves, or in a zip archive; or wait: a person at the firm looks at it.",
    ),
    "archive.several_volumes": Sentence(
        "It is one of several files that are one archive together.",
        "Send the files in it by themselves, or in an archive of one file.",
    ),
    "archive.over_limit": _TOO_LARGE,
    "archive.malformed": _DAMAGED,
    "archive.unsupported_method": Sentence(
        "The archive is compressed in a way that is not opened here.",
        "Pack it as an ordinary zip archive, or send the files themselves.",
    ),
    "archive.behind_another_file": Sentence(
        "An archive is hidden behind it.", "Send the files in it by themselves."
    ),
    "archive.leading_data": Sentence(
        "Other bytes stand before the beginning of the archive.",
        "Pack the files anew and send that.",
    ),
    "archive": Sentence(
        "The archive holds entries that are damaged or no ordinary files.",
        "Pack the files anew and send that.",
    ),
    "mail.empty": Sentence("The mail is empty.", "Send it again, with its attachment."),
    "mail.damaged_base64": Sentence(
        "An attachment was damaged on its way.", "Send the attachment again, or by SFTP."
    ),
    "mail.partial_or_external": Sentence(
        "The mail is only a part, or a pointer to something elsewhere.", "Send the whole of it."
    ),
    "mail.too": _TOO_LARGE,
    "mail.header_too_long": _TOO_LARGE,
    "mail": Sentence(
        "Mail programs read this mail in different ways.",
        "Send its attachments by themselves, or by SFTP.",
    ),
    "embedded": Sentence(
        "Something in a file attached to it looks harmful.", "Send it without that file."
    ),
}

_REASONS: Final[dict[str, Sentence]] = {
    "found": Sentence(
        "A scanner found something harmful in it.",
        "Check the computer it came from; send a clean copy.",
    ),
    "suspect": Sentence("Something in it looks harmful.", _WAIT),
    "integrity": Sentence(
        "The stored bytes are not those that arrived.", "Send it again. The firm has been told."
    ),
    "encrypted": _LOCKED,
    LOCKED: _LOCKED,
    "over_limit": _TOO_LARGE,
    "limit": _TOO_LARGE,
    "malformed": _DAMAGED,
    "ambiguous": _TWO_READINGS,
    "rejected": Sentence(
        "A person at the firm rejected it.", "Ask the firm why, and send the right document."
    ),
    "no-date": Sentence(
        "No date was found in it that its time of keeping could be counted from.", _WAIT
    ),
    "implausible-date": Sentence("The date found in it can't be right.", _WAIT),
    SENDER_WAITING: Sentence(
        "It is not known yet whether the mail comes from its sender: what the sender's domain publishes could"
        " not be had.",
        "Nothing: it is looked at again.",
    ),
    SENDER_UNPROVEN: Sentence(
        "The mail shows nothing that proves its sender.",
        "Send it through your own mail server, or by SFTP; or ask the firm for an address of your own.",
    ),
    "invoice-by-link": Sentence(
        "The mail holds a link to an invoice, not the invoice; links are not followed, and they expire.",
        "Download the invoice (PDF, OFD or XML) and send the file.",
    ),
}
_UNSURE: Final = Sentence("It could not be classified with certainty.", _WAIT)
_UNREAD: Final = Sentence("It could not be looked into.", _WAIT)
_NOTHING: Final = Sentence("", "")
_SEPARATORS: Final = re.compile(r"[:, ]_?")


def sentences(reason: str, findings: Sequence[str] = ()) -> Sentence:
    """A reason code in words.

    Args:
        reason: of a document's row; "" for none.
        findings: what inspection said, whole (`DocumentMetadata.findings`): a row's reason is cut short.
    """
    if not reason:
        return _NOTHING
    code = reason.removeprefix(UNJUDGED)
    kind = code.partition(":")[0]
    if kind in {"found", "integrity", "rejected"}:
        return _REASONS[kind]
    # suspect:<scanner>:<codes>; findings: "<scanner>: <outcome> <codes>"
    said = [code.split(":", 2)[2]] if code.count(":") > 1 else []
    said += [finding.split(": ", 1)[-1] for finding in findings]
    codes = [each for text in said for each in _SEPARATORS.split(text) if each]
    if reason.startswith(UNJUDGED):
        for beginning, sentence in _FINDINGS.items():
            inner = (f"{beginning}.", f"{beginning}_")
            if any(each == beginning or each.startswith(inner) for each in codes):
                return sentence
    known = _REASONS.get(code) or _REASONS.get(kind)
    return known or (_UNREAD if reason.startswith(UNJUDGED) else _UNSURE)
