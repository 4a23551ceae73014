"""Where a message ends, however it is cut: only CR LF . CR LF, and the bytes are the sender's."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.doors.line_ends import has_bare_line_end
from gateway.doors.smtp.data_stream import _FEW, DataStream


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def stuff(message):
    """What a client sends for a message (RFC 5321, section 4.5.2), its end included."""
    if message and not message.endswith(b"\r\n"):
        message += b"\r\n"
    return (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def receive(pieces):
    """(message, what followed or None, whether a look-alike was seen) of a stream in pieces."""
    stream, message = DataStream(), b""
    for index, piece in enumerate(pieces):
        text, rest = stream.feed(piece)
        message += text
        if rest is not None:
            return message, rest + b"".join(pieces[index + 1 :]), stream.lookalike
    return message, None, stream.lookalike


def has_lone_dot_inside(raw):
    """The same question, asked of the whole at once: a dot alone between line-end characters."""
    inside = raw[: -len(b".\r\n")]
    if not inside:
        return False
    padded = b"\r\n" + inside
    return any(
        padded[i] == 0x2E and padded[i - 1] in b"\r\n" and padded[i + 1 : i + 2] in (b"\r", b"\n")
        for i in range(1, len(padded))
    )


# Only what matters here, so that every pattern comes up often; and plain bytes.
TROUBLE = st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n."]), max_size=40)
MESSAGES = st.one_of(TROUBLE.map(b"".join), st.binary(max_size=200))
CUTS = st.lists(st.integers(min_value=0, max_value=10_000), max_size=12)


@given(MESSAGES, CUTS, st.binary(max_size=20))
@example(b".", [], b"")
@example(b"", [1, 2], b"QUIT\r\n")
@example(b".\r\n.", [], b"")
@example(b"\r\n", [], b"MAIL")
def test_what_was_stuffed_comes_out_the_same_in_any_pieces_and_nothing_after_it_is_lost(
    message, cuts, following
):
    expected = message if not message or message.endswith(b"\r\n") else message + b"\r\n"
    text, rest, _ = receive(cut(stuff(message) + following, cuts))
    assert text == expected
    assert rest == following


@given(MESSAGES, CUTS)
def test_every_way_of_cutting_a_raw_stream_gives_the_same_answer(raw, cuts):
    assert receive(cut(raw, cuts)) == receive([raw])


@given(MESSAGES, CUTS)
def test_one_byte_at_a_time_gives_the_same_answer(raw, cuts):
    assert receive([raw[i : i + 1] for i in range(len(raw))]) == receive(cut(raw, cuts))


@given(TROUBLE.map(b"".join), CUTS)
def test_a_lone_dot_between_other_line_ends_is_always_noticed_and_nothing_else_is(message, cuts):
    # Stuffing doubles every dot after a CR LF, so what is left alone is what a lax reader may end at.
    raw = stuff(message)
    _, rest, lookalike = receive(cut(raw, cuts))
    assert rest == b""
    assert lookalike == has_lone_dot_inside(raw)


@pytest.mark.parametrize(
    "false_end",
    [b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r", b"\n.\r", b"\r.\n"],
)
@pytest.mark.parametrize("at", range(12))
def test_no_other_line_ends_around_a_dot_end_a_message(false_end, at):
    """CVE-2023-51764 and its family: the smuggled commands are text, and the message is marked."""
    smuggled = b"Subject: a\r\n\r\ntext" + false_end + b"MAIL FROM:<ceo@bank.example>\r\n"
    raw = smuggled + b"rest\r\n.\r\nQUIT\r\n"
    start = smuggled.index(false_end)
    text, rest, lookalike = receive([raw[: start + at], raw[start + at :]])
    assert rest == b"QUIT\r\n"
    assert b"MAIL FROM:<ceo@bank.example>\r\nrest\r\n" in text
    assert lookalike


@pytest.mark.parametrize("lone", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n"])
@pytest.mark.parametrize("dots", [0, 1, _FEW - 1, _FEW, _FEW + 1, 3 * _FEW])
def test_a_lone_dot_is_seen_however_many_others_stand_around_it(lone, dots):
    others = b"".join(b"word %d.\r\n" % number for number in range(dots))
    for raw in (others + b"x" + lone + b"y\r\n", b"x" + lone + b"y\r\n" + others):
        assert receive([raw + b".\r\n"])[2]
    assert not receive([others + b"..\r\n.\r\n"])[2]


@pytest.mark.parametrize(
    "bare", [b"a\nb\r\n", b"a\rb\r\n", b"\n\n\r\n", b"\r\r\n", b"a\n..\nb\r\n"]
)
def test_bare_line_ends_without_a_lone_dot_are_kept_and_harmless(bare):
    assert receive([stuff(bare)]) == (bare, b"", False)


def test_an_empty_message_ends_at_once():
    assert receive([b".\r\n"]) == (b"", b"", False)


def test_a_stream_without_its_end_does_not_end():
    for held in (b"", b"\r", b"\r\n", b"\r\n.", b"\r\n.\r"):
        text, rest, _ = receive([b"text" + held])
        assert rest is None
        assert text == b"text"


def test_bytes_after_the_end_are_misuse():
    stream = DataStream()
    stream.feed(b".\r\n")
    with pytest.raises(RuntimeError, match="after its end"):
        stream.feed(b"x")


@given(
    st.integers(1, 6),
    st.integers(0, 8),
    TROUBLE.map(b"".join),
    TROUBLE.map(b"".join),
    st.integers(0, 60),
)
def test_lines_of_one_length_are_looked_at_as_all_others_are(length, lines, before, after, at):
    """The quick way for attachments says what searching says, wherever something is changed."""
    uniform = (b"x" * length + b"\r\n") * lines
    for text in (before + uniform + after, uniform[:at] + b"\r" + uniform[at + 1 :]):
        rest = text.replace(b"\r\n", b"")
        assert has_bare_line_end(text) == (b"\r" in rest or b"\n" in rest)
