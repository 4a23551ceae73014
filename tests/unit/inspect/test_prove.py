"""What a message has to show for its sender, as its hostile writer would have it read."""

from __future__ import annotations

import re

import dkim.canonicalization
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspect import prove
from gateway.inspect.document import Document, Limits
from gateway.wire.messages import MailReport, Proving
from tests.support.mail_domain import MailDomain, letter, sealed_by

UPSTREAM = "mx.house.example"
OWNER = "owner@acme.example"


class _Whole:
    """A document that is in memory."""

    document_id = "a-document"

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def whole(self, _limits: Limits) -> bytes:
        return self._raw


def report(raw: bytes, records: dict[str, list[str]] | None = None) -> MailReport:
    document: Document = _Whole(raw)  # type: ignore[assignment]
    return prove.prove(document, Limits(), Proving(records, UPSTREAM))


def said(field: str) -> list[tuple[str, str, str]]:
    """What is read of a judgement of the configured host."""
    found = report(f"Authentication-Results: {field}\r\n".encode() + letter(OWNER))
    return [(each.method, each.result, each.domain) for each in found.upstream]


@pytest.mark.parametrize(
    "field",
    [
        f'{UPSTREAM}; spf=fail smtp.mailfrom="a; dkim=pass header.d=acme.example "@evil.example',
        f'{UPSTREAM}; dkim=fail header.i="a; dmarc=pass header.from=acme.example "@evil.example',
        f'{UPSTREAM}; spf=fail smtp.mailfrom="a\\"; dkim=pass header.d=acme.example "@evil.example',
        f"{UPSTREAM}; spf=fail (a; dkim=pass header.d=acme.example)",
        f"{UPSTREAM}; spf=fail (a (b; dkim=pass header.d=acme.example)) smtp.helo=evil.example",
        f'{UPSTREAM}; spf=fail smtp.mailfrom=")" (; dkim=pass header.d=acme.example)',
        f'{UPSTREAM}; spf=fail smtp.mailfrom="a; dkim=pass header.d=acme.example',
        f"{UPSTREAM}; spf=fail ( dkim=none; dkim=pass header.d=acme.example",
        f'"{UPSTREAM}; dkim=pass header.d=acme.example',
    ],
)
def test_what_a_stranger_chose_within_a_judgement_is_no_judgement(field: str) -> None:
    assert [each for each in said(field) if each[1] == "pass"] == []


def test_a_judgement_is_read_with_its_comments_and_quotation_marks() -> None:
    assert said(
        f'{UPSTREAM} 1; dkim=pass (2048-bit key; "good") header.d="acme.example";\r\n'
        ' spf=pass smtp.mailfrom="the owner"@acme.example; dmarc=pass (p=none) header.from=acme.example'
    ) == [
        ("dkim", "pass", "acme.example"),
        ("spf", "pass", "acme.example"),
        ("dmarc", "pass", "acme.example"),
    ]


@pytest.mark.parametrize(
    "values",
    [
        [b"a:" * 1000 + b" <owner@acme.example>"],
        [b"(" * 2000 + b")" * 2000 + b" owner@acme.example"],
        [b'"' * 999 + b" <owner@acme.example>"],
        [("x@" + "\u4e2d." * 120 + "cn").encode()],
        [b" " * 100_000 + b"owner@acme.example"],
    ],
)
def test_an_author_that_can_not_be_read_is_none_and_raises_nothing(values: list[bytes]) -> None:
    author, fault = prove.author_of(values)
    assert author == ""
    assert fault


@pytest.mark.parametrize("name", [b"From :", b"from\t:", b"FROM  :"])
def test_a_second_author_that_only_some_programs_see_makes_a_message_ambiguous(name: bytes) -> None:
    acme = MailDomain("acme.example")
    message = acme.signed(letter(OWNER))
    hidden = message.replace(b"\r\nTo:", b"\r\n" + name + b" thief@evil.example\r\nTo:")
    assert report(message).author == OWNER
    assert report(hidden).author == ""


def test_a_message_that_no_reader_can_take_ends_in_a_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_values: list[bytes]) -> tuple[str, str]:
        raise RecursionError

    monkeypatch.setattr(prove, "author_of", fails)
    assert report(letter(OWNER)).author_fault == "malformed"


@given(st.lists(st.sampled_from([b" ", b"\t", b"a", b"\r\n", b"\r", b"\n", b"  \r\n"])))
def test_white_space_is_left_out_as_the_standard_says(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    expected = re.sub(b"[\t ]+\r\n", b"\r\n", body)
    assert dkim.canonicalization.strip_trailing_whitespace(body) == expected


def test_runs_of_white_space_and_nested_comments_cost_what_their_length_does() -> None:
    """Where the square of their length counts, this takes a quarter of an hour and its limit ends it."""
    evil = MailDomain("evil.example")
    spaces = evil.signed(letter(OWNER, body="x\r\n")) + b" " * 1_000_000 + b"x\r\n"
    assert report(spaces, evil.records).signatures[0].outcome == "fail"
    nested = b"Authentication-Results: " + b"(" * 100_000 + b")" * 100_000 + b"\r\n" + letter(OWNER)
    assert report(nested).author == OWNER
    folds = b"DKIM-Signature: v=1; a=rsa-sha256; d=evil.example; s=s1; h=from; bh=aa; b=" + (
        b"\r\n " * 60_000 + b"!\r\n"
    )
    assert report(folds + letter(OWNER), evil.records).signatures[0].outcome == "fail"


def test_a_chain_whose_keys_are_not_at_hand_says_whose_they_are() -> None:
    relay = MailDomain("relay.example")
    found = report(sealed_by(relay, letter(OWNER), "dkim=pass header.d=acme.example"), {})
    assert (found.chain, found.sealers) == ("later", ["relay.example"])
