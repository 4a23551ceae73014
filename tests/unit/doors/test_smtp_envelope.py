"""The arguments of MAIL and RCPT: one mailbox in the RFC's grammar, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.doors.smtp.envelope import (
    MALFORMED,
    NEEDS_UTF8,
    SYNTAX,
    UNKNOWN_PARAMETER,
    Envelope,
    EnvelopeError,
    parse_mail,
    parse_recipient,
)


def mail(argument, *, extended=True):
    return parse_mail(argument, extended=extended)


def refused(argument, *, extended=True):
    with pytest.raises(EnvelopeError) as caught:
        mail(argument, extended=extended)
    return caught.value.reply


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<a@b.example>", Envelope("a@b.example")),
        ("from: <a@b.example>", Envelope("a@b.example")),
        ("FROM:<>", Envelope("")),
        ("FROM:<a.b+c@b.example> SIZE=10", Envelope("a.b+c@b.example", size=10)),
        ("FROM:<a@b> body=8bitmime size=0", Envelope("a@b")),
        ("FROM:<a@[192.0.2.1]>", Envelope("a@[192.0.2.1]")),
        ("FROM:<a@[IPv6:2001:db8::1]>", Envelope("a@[IPv6:2001:db8::1]")),
        ('FROM:<"a b@c>d"@e.example>', Envelope('"a b@c>d"@e.example')),
        ('FROM:<"a\\"b"@e.example>', Envelope('"a\\"b"@e.example')),
        ("FROM:<会计@云河.example> SMTPUTF8", Envelope("会计@云河.example", utf8=True)),
    ],
)
def test_a_sender_within_the_grammar_is_taken_unchanged(argument, expected):
    assert mail(argument) == expected


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("", SYNTAX),
        ("<a@b>", SYNTAX),
        ("FROM:a@b.example", SYNTAX),
        ("FROM:<a@b.example", SYNTAX),
        ('FROM:<"a@b.example>', SYNTAX),
        ("FROM:<a@b.example>SIZE=1", SYNTAX),
        ("FROM:<a@b.example> SIZE", SYNTAX),
        ("FROM:<a@b.example> SIZE=-1", SYNTAX),
        ("FROM:<a@b.example> SIZE=²", SYNTAX),
        ("FROM:<a@b.example> SIZE=" + "9" * 21, SYNTAX),
        ("FROM:<a@b.example> SIZE=1 SIZE=2", SYNTAX),
        ("FROM:<a@b.example> BODY=BINARYMIME", SYNTAX),
        ("FROM:<a@b.example> SMTPUTF8=yes", SYNTAX),
        ("FROM:<a@b.example> AUTH=<>", UNKNOWN_PARAMETER),
        ("FROM:<a@b.example> RET=FULL", UNKNOWN_PARAMETER),
        ("FROM:<a>", MALFORMED),
        ("FROM:<@b.example>", MALFORMED),
        ("FROM:<a@>", MALFORMED),
        ("FROM:<a@b@c.example>", MALFORMED),
        ("FROM:<a..b@c.example>", MALFORMED),
        ("FROM:<.a@c.example>", MALFORMED),
        ("FROM:<a@b..example>", MALFORMED),
        ("FROM:<a@-b.example>", MALFORMED),
        ("FROM:<a@b.example.>", MALFORMED),
        ("FROM:<a b@c.example>", MALFORMED),
        ("FROM:<a(comment)@c.example>", MALFORMED),
        ("FROM:<a@[300.1.1.1]>", MALFORMED),
        ("FROM:<a@[IPv6:zz]>", MALFORMED),
        ("FROM:<@relay.example:a@b.example>", MALFORMED),
        ("FROM:<a@b.example\x00>", MALFORMED),
        ("FROM:<" + "a" * 65 + "@b.example>", MALFORMED),
        ("FROM:<a@" + "b" * 254 + ">", MALFORMED),
        ("FROM:<会计@云河.example>", NEEDS_UTF8),
    ],
)
def test_anything_else_is_refused_with_its_own_code(argument, reply):
    assert refused(argument) == reply


def test_lengths_are_counted_in_octets_and_the_longest_allowed_pass():
    assert mail("FROM:<" + "a" * 64 + "@b.example>").sender.startswith("a" * 64)
    assert refused("FROM:<" + "会" * 22 + "@b.example> SMTPUTF8") == MALFORMED
    longest = "a@" + ".".join(["b" * 60] * 4) + ".bbbbbbb"
    assert len(longest) + 2 == 256 - 1
    assert mail(f"FROM:<{longest}b>").sender == longest + "b"
    assert refused(f"FROM:<{longest}bb>") == MALFORMED


def test_parameters_need_ehlo():
    assert refused("FROM:<a@b.example> SIZE=1", extended=False) == SYNTAX


def test_a_recipient_has_no_parameters_and_postmaster_needs_no_domain():
    assert parse_recipient("TO:<Postmaster>", utf8=False, extended=True) == "Postmaster"
    with pytest.raises(EnvelopeError, match=r"555 5\.5\.4"):
        parse_recipient("TO:<a@b.example> NOTIFY=NEVER", utf8=False, extended=True)
    with pytest.raises(EnvelopeError, match=r"553 5\.1\.3"):
        parse_recipient("TO:<>", utf8=False, extended=True)


@given(st.text(max_size=80) | st.text(alphabet='a.@"\\ \x00[]', max_size=12))
def test_no_argument_makes_anything_but_an_envelope_or_a_refusal(text):
    try:
        envelope = mail(f"FROM:<{text}>")
    except EnvelopeError:
        return
    assert envelope.sender == "" or "@" in envelope.sender
    assert not any(ord(character) < 0x20 for character in envelope.sender)
