"""A file's name is read in every way in which mail programs write it, and is never a path."""

from __future__ import annotations

import base64
import io
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspect.document import Document, Limits
from gateway.inspect.unpack import header_words, mail
from tests.support.parts import Parts

NAME = "发票-2025年3月.pdf"
UTF8, GBK = NAME.encode(), NAME.encode("gbk")
PERCENT, PERCENT_GBK = urllib.parse.quote(UTF8), urllib.parse.quote(GBK)


def word(data, charset="UTF-8"):
    return f"=?{charset}?B?{base64.b64encode(data).decode()}?="


def raw(data):
    return data.decode("latin-1")


def named(header, kind="application/pdf"):
    """What a part under these headers is called."""
    message = (
        "From: a@example.org\r\nSubject: s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"
        f"--B\r\nContent-Type: {kind}\r\n{header}Content-Transfer-Encoding: base64\r\n\r\nJVBERi0=\r\n--B--\r\n"
    ).encode("latin-1")
    parts = Parts()
    result = mail.unpack_mail(
        Document("d", io.BytesIO(message), len(message), "n", "smtp", 0), Limits(), parts
    )
    assert result.result.suspect == []
    ((name, _),) = parts.taken
    return name


@pytest.mark.parametrize(
    "parameters",
    [
        f"filename*=UTF-8''{PERCENT}",
        f"filename*=GBK''{PERCENT_GBK}",
        f"filename*=gb2312'zh-cn'{PERCENT_GBK}",
        f"filename*=x-unknown''{PERCENT}",
        f"filename*=''{PERCENT}",
        f"filename*=GBK''{raw(GBK)}",
        f"filename*=\"UTF-8''{PERCENT}\"",
        f"filename*0*=UTF-8''{PERCENT[:27]};\r\n filename*1*={PERCENT[27:]}",
        f"filename*0*=UTF-8''{PERCENT[:24]};\r\n filename*1*={PERCENT[24:]}",  # inside an escape
        f"filename*0*=UTF-8''{PERCENT[:3]};\r\n filename*1*={PERCENT[3:]}",  # inside a character
        f"filename=\"old.pdf\"; filename*=UTF-8''{PERCENT}",
        f"filename*=UTF-8''{word(UTF8)}",
        f'filename="{word(UTF8)}"',
        f"filename={word(UTF8)}",
        f'filename="{word(GBK, "gb2312")}"',
        f'filename="{word(GBK, "GBK")}"',
        f'filename="{word(UTF8, "UTF-8*zh")}"',
        f'filename="{word(UTF8, "x-nobody-knows")}"',
        f'filename="{word(UTF8[:6])}\r\n {word(UTF8[6:])}"',
        f'filename="{word(UTF8[:13])}\r\n {word(UTF8[13:])}"',  # a character is cut in two
        f'filename="{word(UTF8[:-4])}.pdf"',
        'filename="=?utf-8?Q?' + "".join(f"={byte:02X}" for byte in UTF8) + '?="',
        f'filename="{raw(GBK)}"',
        f'filename="{raw(UTF8)}"',
        f'filename="{PERCENT}"',
        f'filename="C:\\docs\\{raw(UTF8)}"',
        f'filename="../../{raw(UTF8)}"',
    ],
)
def test_every_way_to_write_a_name_is_read(parameters):
    assert named(f"Content-Disposition: attachment; {parameters}\r\n") == NAME
    assert named("", f"application/pdf; {parameters.replace('filename', 'name')}") == NAME


def test_a_continued_name_in_plain_parts():
    header = 'Content-Disposition: attachment;\r\n filename*0="report-";\r\n filename*1="1.pdf"\r\n'
    assert named(header) == "report-1.pdf"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("application/pdf", "attachment-1.pdf"),
        ("application/ofd", "attachment-1.ofd"),
        ("application/octet-stream", "attachment-1"),
    ],
)
def test_a_part_without_a_name_is_called_by_its_type(kind, name):
    assert named("", kind) == name
    assert named('Content-Disposition: attachment; filename=""\r\n', kind) == name


@pytest.mark.parametrize("name", ["100%25 of it.pdf", "50%.pdf", "a%2Fb.pdf", "%zz.pdf"])
def test_percent_signs_that_say_nothing_stay(name):
    assert named(f'Content-Disposition: attachment; filename="{name}"\r\n') == name


@given(st.text(max_size=300))
def test_words_are_text_whatever_they_are(text):
    assert isinstance(header_words.decode_words(text), str)


@given(
    st.binary(max_size=60),
    st.sampled_from(["utf-8", "gbk", "idna", "rot13", "undefined", "hex", ""]),
)
def test_no_charset_makes_a_word_fail(data, charset):
    assert isinstance(header_words.decode_words(word(data, charset or "x")), str)
