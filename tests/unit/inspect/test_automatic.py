"""Which messages count as written by a program: nobody answers such a one (RFC 3834)."""

from __future__ import annotations

import email

import pytest

from gateway.inspect.unpack.automatic import automatic

WRITTEN = b"From: a@a.example\r\nSubject: x\r\n"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"", "no"),
        (b"Auto-Submitted: no", "no"),
        (b"Auto-Submitted: No (a comment); x=y", "no"),
        (b"Auto-Submitted: auto-replied", "auto-submitted"),
        (b"AUTO-SUBMITTED: auto-generated; owner-email=x", "auto-submitted"),
        (b"Auto-Submitted:", "auto-submitted"),
        (b"Auto-Submitted: no\r\nAuto-Submitted: auto-replied", "auto-submitted"),
        (b"Precedence: Bulk", "precedence"),
        (b"Precedence: list", "precedence"),
        (b"Precedence:\r\n junk", "precedence"),
        (b"Precedence: first-class", "no"),
        (b"List-Id: <x.example>", "list-id"),
        (b"X-Auto-Response-Suppress: All", "x-auto-response-suppress"),
        (b"X-Auto-Response-Suppress: None", "no"),
        (b"Content-Type: multipart/report; report-type=delivery-status", "content-type"),
    ],
)
def test_a_header_that_says_so_is_named(header, said):
    message = email.message_from_bytes(WRITTEN + header + (b"\r\n" if header else b"") + b"\r\nx")
    assert automatic(message) == said
