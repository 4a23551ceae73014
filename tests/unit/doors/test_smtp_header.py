"""What is known of a message by its header, however the network cut it."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.doors.header import MOST, Header

MAIL = (
    b"Received: from a\r\n\tby b; Sat, 28 Nov 2026\r\n"
    b"From: ap@acme.example\r\n"
    b"Message-ID:\r\n <one@acme.example>\r\n"
    b"DKIM-Signature: v=1;\r\n d=acme.example\r\n"
    b"Subject: invoice\r\n 2026\r\n\r\n"
    b"Received: not a field\r\nbody\r\n"
)
SAYS = (
    b"From: ap@acme.example\r\nMessage-ID:\r\n <one@acme.example>\r\nSubject: invoice\r\n 2026\r\n"
    b"\r\nReceived: not a field\r\nbody\r\n"
)


def read(data, *cuts):
    header = Header()
    places = [0, *cuts, len(data)]
    for start, end in itertools.pairwise(places):
        header.feed(data[start:end])
    return header.content(), header.message_id


def whole(data):
    return hashlib.sha256(data).digest()


@given(st.lists(st.integers(0, len(MAIL)), max_size=6).map(sorted))
def test_content_and_id_do_not_depend_on_how_the_network_cuts(cuts):
    assert read(MAIL, *cuts) == (whole(SAYS), "<one@acme.example>")


def test_another_hop_changes_nothing_of_what_a_message_says():
    again = MAIL.replace(b"from a", b"from c").replace(b"v=1;", b"v=1; t=2;")
    assert read(b"Return-Path: <ap@acme.example>\r\n" + again) == read(MAIL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ap@acme", b"mallory@acme"),
        (b"invoice", b"invoicf"),
        (b" 2026\r\n\r\n", b" 2027\r\n\r\n"),
        (b"body", b"bodz"),
        (b"not a field", b"of another kind"),
        (b"Subject:", b"X-Subject:"),
    ],
)
def test_any_other_difference_is_one(old, new):
    assert read(MAIL.replace(old, new, 1))[0] != read(MAIL)[0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"\r\nReceived: in the body\r\n",
        b"this is no field\r\nReceived: x\r\n\r\nbody",
        b"From: a\nReceived: x\r\n\r\nbody",
        b"Received: x\rSubject: hidden in it\r\n\r\nbody",
        b" begins with a continuation\r\n\r\n",
        b"Received: never ends",
        b"A: " + b"x" * MOST + b"\r\nReceived: x\r\n\r\nbody",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_header_is_all_content(data):
    assert read(data) == (whole(data), "")


def test_a_header_without_a_body_is_one_too():
    assert read(b"Received: a\r\nFrom: b\r\n") == (whole(b"From: b\r\n"), "")


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (b"Message-ID: <a@b>\r\n", "<a@b>"),
        (b"MESSAGE-ID :<a@b>\r\n", "<a@b>"),
        (b"Message-Id:\t<a\r\n b@c>  \r\n", "<ab@c>"),
        (b"Message-ID: <a@b>\r\nMessage-ID: <a@b>\r\n", ""),
        (b"Message-ID:\r\n", ""),
        (b"X-Message-ID: <a@b>\r\n", ""),
        (b"Message-ID: <" + b"y" * 5000 + b">\r\n", "<" + "y" * 997),
        (b"Message-ID: <\xff@b>\r\n", "<\ufffd@b>"),
    ],
    ids=lambda each: repr(each[:24]),
)
def test_a_message_has_one_id_or_none(ids, found):
    assert read(ids + b"From: a\r\n\r\nbody\r\n")[1] == found


def test_memory_is_bounded_where_a_header_does_not_end():
    header = Header()
    for _ in range(100):
        header.feed(b"A: " + b"x" * 65536 + b"\r\n")
        assert len(header._held) <= MOST + 70_000
    assert header.content() == whole((b"A: " + b"x" * 65536 + b"\r\n") * 100)
