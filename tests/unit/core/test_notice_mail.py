"""The form of a mail that the gateway writes: nothing from a stranger steers it, and every program can read it."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import RelaySection
from gateway.core.notices.mail import Mail, Row, Section, encode

RELAY = RelaySection(
    address="127.0.0.1:25", sender="r@gateway.example", sender_name='北京 "Firm", Ltd <x@y.example>'
)
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
ID = "01M8149T00CA37D5W3T1YSVKBX"


def made(name: str = "a", answers: str = "", subject: str = "回执 / Receipt") -> bytes:
    rows = (Row(name, "accepted", "good", (name,)),)
    sections = [Section("zh", ("您好",), rows, (name,), ("完",)), Section("en", ("Hello",), rows)]
    return encode(RELAY, Mail(ID, "to@b.example", subject, sections, answers), NOW)


def read(raw: bytes):
    return email.message_from_bytes(raw, policy=email.policy.default)


@pytest.mark.parametrize(
    "answers",
    [
        "",
        "no angle brackets",
        "<a@b>\r\nBcc: other@c.example",
        "<a@b>\nX: y",
        "<a b@c>",
        "<a@b> <c@d>",
        "<张@b>",
        "<" + "a" * 200 + "@b>",
        "<a@b>\0",
    ],
)
def test_an_id_that_is_none_is_left_out(answers):
    message = read(made(answers=answers))
    assert message["In-Reply-To"] is None
    assert message["References"] is None
    assert message["Bcc"] is None


def test_an_id_is_answered():
    message = read(made(answers="<CAF+x_1=$2@mail.example.com>"))
    assert message["In-Reply-To"] == message["References"] == "<CAF+x_1=$2@mail.example.com>"
    assert message["Auto-Submitted"] == "auto-replied"


@given(st.text(max_size=300))
def test_a_name_stays_text_in_both_forms_and_steers_no_header(name):
    name = name.encode("utf-8", "replace").decode()
    raw = made(name)
    assert raw.isascii()
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert raw.count(b"\n") == raw.count(b"\r\n")
    message = read(raw)
    assert not message.defects
    assert {each.lower() for each, _ in message.items()} == {
        "from", "to", "subject", "date", "message-id", "auto-submitted",
        "x-auto-response-suppress", "mime-version", "content-type",
    }  # fmt: skip
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]


def test_what_looks_like_markup_is_shown_as_it_stands():
    page = read(made("<script>alert(1)</script>&<a href=//x>")).get_body(("html",)).get_content()
    assert "<script" not in page
    assert "<a " not in page
    assert "&lt;script&gt;" in page


def test_the_sender_s_name_can_t_be_taken_for_an_address():
    message = read(made())
    (sender,) = message["From"].addresses
    assert sender.addr_spec == "r@gateway.example"
    assert sender.display_name == RELAY.sender_name
    assert message["Subject"] == "回执 / Receipt"
