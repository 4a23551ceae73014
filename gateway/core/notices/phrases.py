"""The sentences of `gateway.core.reasons` in Chinese: why a document waits or was refused, and what to do.

Promises: every sentence there has one here (a test compares them). One that has none yet is given in English.
Leaves out: which sentence belongs to which reason.
"""

from __future__ import annotations

from typing import Final

ZH: Final[dict[str, str]] = {
    "": "",
    "Give your accountant the password by telephone or in person, never by mail: it is then kept for your"
    " files. Or send a copy without one.":
        "请通过电话或当面将密码告知您的会计，切勿通过邮件发送：密码将为您的文件妥善保存。也可以发送一份不带密码的副本。",
    "It is an archive of a kind that the firm's machine can't open at present.":
        "这是事务所的系统目前无法打开的压缩文件。",
    "It is an archive protected by a password, of a kind (rar) that is not opened here even with it.":
        "这是带密码的 rar 压缩文件，即使有密码也无法在此打开。",
    "It is not known yet whether the mail comes from its sender: what the sender's domain publishes could not"
    " be had.":
        "暂时无法确认该邮件是否确由发件人发出：未能查询到发件人域名公布的信息。",
    "It is one of several files that are one archive together.": "这是分卷压缩文件中的一卷。",
    "Nothing: it is looked at again.": "您无需操作：系统会再次核对。",
    "Send it through your own mail server, or by SFTP; or ask the firm for an address of your own.":
        "请通过您自己的邮件服务器或 SFTP 发送；也可以向事务所索取专用地址。",
    "Send it without a password, or pack the files in a zip archive with the same one.":
        "请去除密码后发送，或用相同密码将文件打包为 zip 后发送。",
    "Send the files in it by themselves, or in an archive of one file.":
        "请将其中的文件单独发送，或打包为一个完整的压缩文件。",
    "The mail shows nothing that proves its sender.": "该邮件没有任何可以证明发件人身份的信息。",
    "The message saved by Outlook is damaged, or not all of it can be taken out.":
        "Outlook 保存的邮件已损坏，或无法完整提取其内容。",
    "The message saved by Outlook names a file instead of holding it.":
        "Outlook 保存的邮件只引用了文件，并未包含该文件。",
    # What to do.
    "Nothing: a person at the firm looks at it.": "您无需操作：事务所人员会查看。",
    "Print it to a new PDF and send that, or wait: a person at the firm looks at it.":
        "请重新打印为新的 PDF 再发送；也可以等待，事务所人员会查看。",
    "Save it without that, or as a PDF, and send it again; or wait: a person at the firm looks at it.":
        "请去除这些内容或另存为 PDF 后重新发送；也可以等待，事务所人员会查看。",
    "Send the files in it by themselves, or in a zip archive; or wait: a person at the firm looks at it.":
        "请将其中的文件单独发送，或打包为 zip 后发送；也可以等待，事务所人员会查看。",
    "Tell the firm the password, or send a copy without one.":
        "请将密码告知事务所，或发送一份不带密码的副本。",
    "See whether it opens on your computer; if it does not, send it anew.":
        "请在您的电脑上确认能否打开；如不能，请重新发送。",
    "Send it made by another program.": "请换用其他程序生成后再发送。",
    "Send the document itself, under its own name.": "请用原来的文件名发送文件本身。",
    "Give it a plain name and send it again.": "请改用普通的文件名后重新发送。",
    "Send its attachments by SFTP, or unencrypted.": "请通过 SFTP 发送附件，或不加密发送。",
    "Forward the message itself, or send its attachments.": "请直接转发该邮件，或发送其中的附件。",
    "Send the attached file itself.": "请直接发送该附件。",
    "Send the document itself.": "请发送文件本身。",
    "Send the embedded file by itself, and this one without it.":
        "请将嵌入的文件单独发送，并发送不含该文件的版本。",
    "Save it as a PDF and send that.": "请另存为 PDF 后发送。",
    "Send that file by itself.": "请单独发送该文件。",
    "Save it as a real workbook or as a PDF and send that; or wait: a person at the firm looks at it.":
        "请另存为真正的电子表格或 PDF 后发送；也可以等待，事务所人员会查看。",
    "Save it as a PDF, or as a real workbook, and send that; or wait: a person at the firm looks at it.":
        "请另存为 PDF 或真正的电子表格后发送；也可以等待，事务所人员会查看。",
    "Send it without, or wait: a person at the firm looks at it.":
        "请去除后发送；也可以等待，事务所人员会查看。",
    "Send it without a DOCTYPE, or wait: a person at the firm looks at it.":
        "请去除 DOCTYPE 后发送；也可以等待，事务所人员会查看。",
    "Send the attached file by itself as well, or wait: a person at the firm looks at it.":
        "请将该附件也单独发送；也可以等待，事务所人员会查看。",
    "Send it again, whole.": "请重新发送完整的文件。",
    "Send the file itself.": "请发送文件本身。",
    "Send its attachments by themselves, or the message as plain text.":
        "请单独发送附件，或以纯文本格式发送该邮件。",
    "Pack the files anew and send that.": "请重新打包后发送。",
    "Send the files themselves.": "请直接发送各个文件。",
    "Pack it as an ordinary zip archive, or send the files themselves.":
        "请打包为普通的 zip，或直接发送各个文件。",
    "Send the files in it by themselves.": "请将其中的文件单独发送。",
    "Send it again, with its attachment.": "请连同附件重新发送。",
    "Send the attachment again, or by SFTP.": "请重新发送附件，或改用 SFTP。",
    "Send the whole of it.": "请发送完整的邮件。",
    "Send its attachments by themselves, or by SFTP.": "请单独发送附件，或改用 SFTP。",
    "Send it without that file.": "请去除该文件后发送。",
    "Check the computer it came from; send a clean copy.":
        "请检查发送文件的电脑，并发送无害的副本。",
    "Send it again. The firm has been told.": "请重新发送；事务所已获通知。",
    "Ask the firm why, and send the right document.": "请向事务所询问原因，并发送正确的文件。",
    "Download the invoice (PDF, OFD or XML) and send the file.":
        "请下载发票文件（PDF、OFD 或 XML）后发送。",
    # Why.
    "It holds something that acts by itself when it is opened (macros, scripts, links to programs or to"
    " other computers).": "文件含有打开时会自动运行的内容（宏、脚本、指向程序或其他电脑的链接）。",
    "It is of a format that is not opened here.": "此处不打开这种格式的文件。",
    "It is protected by a password and could not be checked.": "文件有密码保护，无法检查。",
    "It is too large inside to be checked by the machine.": "文件内容过大，无法由系统检查。",
    "It is damaged or not of the kind its name says.": "文件已损坏，或与文件名所示的类型不符。",
    "It can be read in more than one way.": "文件可以有不止一种读法。",
    "Its name is that of a program or a shortcut.": "文件名是程序或快捷方式的名称。",
    "Its name holds characters that make it read backwards.": "文件名含有使其反向显示的字符。",
    "The mail is encrypted and could not be read.": "邮件已加密，无法读取。",
    "It is a form of a kind (XFA) whose contents are made by a program in it.":
        "这是一种由内部程序生成内容的表单（XFA）。",
    "It is a message saved by Outlook, which is not opened here.":
        "这是由 Outlook 保存的邮件，此处不打开。",
    "It is an attachment saved by Outlook in a form of its own.":
        "这是由 Outlook 以其专有格式保存的附件。",
    "It installs a program.": "文件会安装程序。",
    "Another file is embedded in it.": "文件中嵌入了另一个文件。",
    "It is a rich text file with embedded objects or damage.":
        "这是含有嵌入对象或已损坏的 RTF 文件。",
    "Another file is written into its text.": "文本中写入了另一个文件。",
    "It is a web page, though its name says that it is a workbook or a document.":
        "文件名显示为电子表格或文档，实际上是网页。",
    "It is a web page, also where its name says something else (.xls).":
        "这是网页，尽管文件名可能显示为其他类型（.xls）。",
    "It names a style sheet of another place, which would change what it shows.":
        "文件引用了外部样式表，会改变其显示的内容。",
    "It defines entities, which can make it read differently in different programs.":
        "文件定义了实体，在不同程序中读出的内容可能不同。",
    "Another file is attached to the PDF.": "PDF 中附有另一个文件。",
    "Other bytes stand before the beginning of the PDF.": "PDF 开头之前有其他数据。",
    "Other bytes stand behind the end of the PDF.": "PDF 结尾之后有其他数据。",
    "It holds something that is not seen on its pages.": "文件含有页面上看不到的内容。",
    "It is damaged, or unusual inside.": "文件已损坏，或内部结构异常。",
    "The file is empty.": "文件是空的。",
    "The message made by Outlook (winmail.dat) names a file instead of holding it.":
        "Outlook 生成的邮件（winmail.dat）只引用了文件，并未包含文件。",
    "The message made by Outlook (winmail.dat) is damaged.":
        "Outlook 生成的邮件（winmail.dat）已损坏。",
    "A name in the archive leads out of it.": "压缩包中有文件名指向压缩包之外。",
    "The archive holds archives in archives, too deep to be opened.":
        "压缩包中层层嵌套压缩包，过深而无法打开。",
    "The archive is compressed in a way that is not opened here.":
        "此处不支持该压缩包的压缩方式。",
    "An archive is hidden behind it.": "文件后面隐藏着一个压缩包。",
    "Other bytes stand before the beginning of the archive.": "压缩包开头之前有其他数据。",
    "The archive holds entries that are damaged or no ordinary files.":
        "压缩包中有损坏的条目，或不是普通文件的条目。",
    "The mail is empty.": "邮件是空的。",
    "An attachment was damaged on its way.": "有附件在传输途中损坏。",
    "The mail is only a part, or a pointer to something elsewhere.":
        "邮件只是一部分，或只是指向他处的引用。",
    "Mail programs read this mail in different ways.": "不同的邮件程序对这封邮件的读法不同。",
    "Something in a file attached to it looks harmful.": "其附带的文件中有可疑内容。",
    "A scanner found something harmful in it.": "扫描发现有害内容。",
    "Something in it looks harmful.": "其中有可疑内容。",
    "The stored bytes are not those that arrived.": "存储的数据与收到的数据不一致。",
    "A person at the firm rejected it.": "事务所人员已拒收。",
    "No date was found in it that its time of keeping could be counted from.":
        "未能在其中找到用于计算保管期限的日期。",
    "The date found in it can't be right.": "其中的日期不可能正确。",
    "The mail holds a link to an invoice, not the invoice; links are not followed, and they expire.":
        "邮件中只有发票链接，没有发票本身；系统不会打开链接，且链接会过期。",
    "It could not be classified with certainty.": "无法确定其类别。",
    "It could not be looked into.": "无法查看其内容。",
}  # fmt: skip


def in_chinese(sentence: str) -> str:
    """A sentence in Chinese; one that has no translation as it is."""
    return ZH.get(sentence, sentence)
