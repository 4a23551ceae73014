"""Names from outside: one rule for every name that came from a sender, an archive or a mail.

Promises: `safe_name` gives one harmless path segment that `gateway.core.views.base.check_name` accepts,
whatever it is given, in time that grows with the name's length only. `decode_name` gives text for any bytes,
always the same for the same bytes, so that a client that lists and asks again finds what it sent.

Rules of `decode_name`: UTF-8 if it is; else what the bytes look like most, of GB18030, Big5, Shift-JIS,
code page 437 and Windows-1252 (Latin-1 as programs write it); if nothing fits, the bytes escaped. Whoever
keeps a name that was not UTF-8 keeps its bytes beside it (`NAME_BYTES`).

Leaves out: names that a client types over SFTP (`check_name` refuses those with a sentence).

Sources: GB/T 2312 and Big5 order their characters by frequency: level 1 holds the common ones; JIS X 0208
likewise. Which bytes are which level is read off these standards' rows.

>>> safe_name("C:\\\\invoices\\\\March.pdf")
'March.pdf'
>>> decode_name("发票.pdf".encode("gbk"))
'发票.pdf'
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final, Literal

NAME_LIMIT: Final = 255  # bytes in UTF-8: what file systems and SFTP clients take
_CONSIDERED: Final = 4096  # characters at each end that are looked at
_SUFFIX: Final = 16
# Cf holds the bidi overrides that make "fdp.exe" read as "exe.pdf".
_DROPPED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

NAME_BYTES: Final = "name_bytes"
"""The fact of a document's sealed metadata that holds, in hex, the bytes of a name that was not UTF-8."""

# What a system runs, mounts, imports, connects to or looks up when a person opens it. What content shows is
# told by the inspectors.
_PROGRAM_SUFFIX: Final = re.compile(
    r"\.(?:"
    r"exe|com|scr|pif|cpl|dll|ocx|sys|drv|msi|msp|mst|msix|msixbundle|appx|appxbundle|appinstaller|"
    r"bat|cmd|ps1|psm1|psd1|ps1xml|psc1|ps2|vb|vbs|vbe|vbscript|js|jse|mjs|ws|wsf|wsh|wsc|sct|hta|"
    r"lnk|url|website|desktop|scf|webloc|inetloc|library-ms|search-ms|searchconnector-ms|"
    r"settingcontent-ms|appref-ms|application|gadget|theme|themepack|deskthemepack|"
    r"rdp|rdg|rdpw|ica|vnc|remoteapp|jnlp|xbap|vsto|iqy|dqy|oqy|rqy|odc|udl|slk|ics|vcs|"
    r"xll|wll|xla|xlam|ppam|ppa|mde|mdb|accdb|accde|accda|accdr|ade|adp|mda|mdz|"
    r"jar|class|apk|ipa|app|pkg|dmg|command|terminal|workflow|deb|rpm|run|appimage|"
    r"sh|bash|zsh|csh|ksh|fish|py|pyc|pyw|pyz|pl|rb|php|php5|phtml|asp|aspx|jsp|"
    r"reg|inf|ins|isp|job|msc|chm|hlp|crx|xpi|diagcab|diagcfg|diagpkg|printerexport|"
    r"iso|img|vhd|vhdx|vmdk|wim|cab|asx|wax|wvx|wmx|pcd|prf|prg|shb|shs"
    r")(?::[^/\\]*+)?[\s.\u200b-\u200f\ufeff]*$",
    re.IGNORECASE,
)

Origin = Literal["windows", "dos"]  # which of the two western code pages programs of a kind write

# What a name must reach to be read in an encoding at all: beneath, its bytes are as likely something else.
_CREDIBLE: Final = 0.3
_VOCABULARY: Final = 0.3
# Words of the trade: short names have too few bytes for their frequency to tell Big5 from GB 18030.
_WORDS: Final = re.compile(
    "发票|銀行|银行|发货|对账|账单|帐单|合同|工资|薪资|收据|凭证|报表|报销|回单|流水|公司|税|"
    "發票|對帳|帳單|對賬|合約|薪資|收據|憑證|報表|報銷|統一|請款|扣繳|"
    "請求|領収|見積|納品|明細|給与|株式|会社|契約|決算|[年月日](?![^\\W\\d_])"
)


def safe_name(name: str, fallback: str = "unnamed") -> str:
    """One harmless path segment out of a name from outside.

    Args:
        name: any text, of any length.
        fallback: what stands for a name of which nothing is left.

    Returns:
        The last segment, NFC, without control, format, private or unassigned characters; at most `NAME_LIMIT`
        bytes in UTF-8, beginning and suffix kept. Never empty, "." or "..".
    """
    if len(name) > 2 * _CONSIDERED:
        name = name[:_CONSIDERED] + name[-_CONSIDERED:]
    segment = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    kept = "".join(
        character
        for character in unicodedata.normalize("NFC", segment)
        if unicodedata.category(character) not in _DROPPED
    ).strip()
    if len(kept.encode()) > NAME_LIMIT:
        stem, dot, suffix = kept.rpartition(".")
        tail = f"{dot}{suffix}" if dot and stem and len(suffix) < _SUFFIX else ""
        room = NAME_LIMIT - len(tail.encode())
        kept = kept[: len(kept) - len(tail)].encode()[:room].decode(errors="ignore").rstrip() + tail
    return kept if kept not in {"", ".", ".."} else fallback


def opens_as_program(name: str) -> bool:
    """Whether a file of this name runs, or points to something that runs, when a person opens it."""
    return _PROGRAM_SUFFIX.search(name) is not None


def as_sent(name: bytes) -> dict[str, str]:
    """The facts that keep a name's bytes; none where the name was UTF-8."""
    return {NAME_BYTES: name.hex()} if name else {}


def decode_name(raw: bytes, origin: Origin = "windows") -> str:
    """The text of a name whose encoding nobody states.

    Args:
        raw: its bytes; only the first and last 4096 are considered.
        origin: what wrote it, where one knows: archives hold "dos" names, everything else "windows" ones.

    Returns:
        The text, or, where no encoding is credible, ASCII with every other byte as %XX. Never fails.
    """
    if len(raw) > 2 * _CONSIDERED:
        raw = raw[:_CONSIDERED] + raw[-_CONSIDERED:]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        return raw.decode("gb18030") if _by_accident(raw, text) else text
    best, text = _CREDIBLE, ""
    for encoding, weigh in _CANDIDATES:
        try:
            candidate = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        weight = _weight(raw, candidate, weigh)
        if encoding == ("cp1252" if origin == "dos" else "cp437"):
            weight -= 0.15
        if weight > best:
            best, text = weight, candidate
    return text or "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw)


def _by_accident(raw: bytes, text: str) -> bool:
    """Whether bytes are UTF-8 by accident: common ideographs of GB 18030 that give a mixture of scripts.

    图片 ("picture") is such a name: as UTF-8 it is a Greek and a Latin letter that no language has together.
    """
    scripts = {
        unicodedata.name(character, "").partition(" ")[0]
        for character in text
        if character > "\x7f"
    }
    return (
        len(scripts) > 1
        and all(character < "\u0800" for character in text)
        and min(_gb18030(raw), default=0.0) >= 1.0
    )


def _weight(raw: bytes, text: str, weigh: Callable[[bytes], Iterator[float]]) -> float:
    """How much a name looks like text in an encoding, from 0 to a little above 1."""
    if any(unicodedata.category(character) in _DROPPED for character in text):
        return 0.0
    weights = list(weigh(raw))
    weight = sum(weights) / len(weights) if weights else 0.0
    return weight + (_VOCABULARY if _WORDS.search(text) else 0.0)


def _gb18030(raw: bytes) -> Iterator[float]:
    for lead, trail, alone in _pairs(raw, lambda byte: byte >= 0x81):
        if trail < 0xA1:
            weight = 0.1  # an extension of GBK, or half of four bytes
        elif 0xB0 <= lead <= 0xD7:
            weight = 1.0  # level 1
        elif 0xD8 <= lead <= 0xF7:
            weight = 0.6
        else:
            weight = (
                0.8 if lead in {0xA1, 0xA2, 0xA3} else 0.2
            )  # punctuation, ① and full width forms
        yield weight / 2 if alone else weight


def _big5(raw: bytes) -> Iterator[float]:
    for lead, trail, alone in _pairs(raw, lambda byte: byte >= 0x81):
        if 0xA4 <= lead <= 0xC5 or (lead == 0xC6 and trail <= 0x7E):
            weight = 0.95  # level 1
        elif 0xC9 <= lead <= 0xF9:
            weight = 0.4
        else:
            weight = 0.7 if lead == 0xA1 else 0.3 if lead in {0xA2, 0xA3} else 0.1
        yield weight / 2 if alone else weight


def _shift_jis(raw: bytes) -> Iterator[float]:
    for lead, trail, alone in _pairs(raw, lambda byte: 0x81 <= byte <= 0x9F or byte >= 0xE0):
        if not trail:
            weight = 0.3  # half width katakana
        elif lead in {0x82, 0x83}:
            weight = 1.0 if trail > 0x9E or lead == 0x83 else 0.5  # kana; full width letters
        elif 0x88 <= lead <= 0x98:
            weight = 0.95  # level 1
        else:
            weight = 0.7 if lead == 0x81 else 0.3
        yield weight / 2 if alone else weight


def _pairs(raw: bytes, leads: Callable[[int], bool]) -> Iterator[tuple[int, int, bool]]:
    """The characters above ASCII: lead, trail (0 for none), and whether one stands alone among letters.

    A single ideograph between western letters is more likely an accent of a western name.
    """
    position = 0
    while position < len(raw):
        lead = raw[position]
        if lead < 0x80:
            position += 1
            continue
        width = 2 if leads(lead) and position + 1 < len(raw) else 1
        trail = raw[position + 1] if width == 2 else 0
        before, after = raw[max(0, position - 1) : position], raw[position + width :][:1]
        letters = before.isalpha() and (after.isalpha() or bytes([trail]).isalpha())
        yield lead, trail, letters
        position += width


def _western(letters: frozenset[int]) -> Callable[[bytes], Iterator[float]]:
    def weigh(raw: bytes) -> Iterator[float]:
        for position, byte in enumerate(raw):
            if byte < 0x80:
                continue
            beside = [
                neighbour.isalpha() or neighbour[0] in letters
                for neighbour in (
                    raw[max(0, position - 1) : position],
                    raw[position + 1 : position + 2],
                )
                if neighbour
            ]
            if byte not in letters:
                yield 0.1
            elif all(beside):
                yield 0.8
            else:
                yield 0.6 if any(beside) else 0.3

    return weigh


def _letters(encoding: str) -> frozenset[int]:
    """The bytes of a code page that are letters of western names."""
    return frozenset(
        byte
        for byte in range(0x80, 0x100)
        if (character := bytes([byte]).decode(encoding, "replace")).isalpha()
        and "LATIN" in unicodedata.name(character, "")
    )


_CANDIDATES: Final = (
    ("gb18030", _gb18030),
    ("big5hkscs", _big5),
    ("cp932", _shift_jis),
    ("cp437", _western(_letters("cp437"))),
    ("cp1252", _western(_letters("cp1252"))),
)
# Loaded now: doors and inspectors in their sandbox can load nothing.
for _encoding, _ in _CANDIDATES:
    codecs.lookup(_encoding)
