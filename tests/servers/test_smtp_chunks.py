"""BDAT (RFC 3030): chunks are counted, each is answered once, and nothing in them is a command."""

from __future__ import annotations

import hashlib
import time

import pytest

from gateway.wire.messages import Refused
from tests.servers.test_smtp_door import (
    CLIENT,
    MESSAGE,
    MIB,
    OTHER,
    SENDER,
    certificate,
    door,
    running,
)

__all__ = ["certificate", "door"]  # fixtures

ENVELOPE = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{CLIENT}>\r\n".encode()


def until_chunks(door):
    line = door.connect()
    line.reply()
    assert "250-CHUNKING" in line.ask("EHLO client.example")
    assert "BINARYMIME" not in line.ask("EHLO client.example")
    line.send(ENVELOPE)
    assert [line.reply()[:3] for _ in range(2)] == ["250", "250"]
    return line


def test_chunks_make_one_message_and_hold_any_bytes(door):
    line = until_chunks(door)
    pieces = [MESSAGE, b"\r\n.\r\nQUIT\r\n", b"lone\nfeed\rreturn\0", bytes(range(256)), b""]
    for piece in pieces[:-1]:
        line.send(b"BDAT %d\r\n" % len(piece) + piece)
        assert line.reply() == f"250 2.0.0 {len(piece)} octets received"
    assert door.core.stored == []
    line.send(b"BDAT 0 LAST\r\n")
    reply = line.reply()
    (stored,) = door.core.stored
    assert reply == f"250 2.0.0 Stored as {stored.document_id}"
    assert stored.content == b"".join(pieces)
    assert line.ask("NOOP").startswith("250 ")


def test_a_whole_pipeline_in_one_packet(door):
    line = door.connect()
    line.reply()
    line.ask("EHLO c")
    line.send(
        ENVELOPE
        + b"BDAT 3\r\nabcBDAT 2 last\r\nde"
        + ENVELOPE
        + b"BDAT 1 LAST\r\nfNOOP\r\nQUIT\r\n"
    )
    assert [line.reply()[:3] for _ in range(9)] == ["250"] * 8 + ["221"]
    assert [stored.content for stored in door.core.stored] == [b"abcde", b"f"]


@pytest.mark.parametrize("at", range(1, 18))
def test_a_chunk_cut_anywhere_is_the_same(door, at):
    line = until_chunks(door)
    sent = b"BDAT 9 LAST\r\n" + b"\r\n.\r\nNOOP"
    line.send(sent[:at])
    time.sleep(0.03)
    line.send(sent[at:])
    assert line.reply().startswith("250 2.0.0 Stored")
    assert door.core.stored[0].content == b"\r\n.\r\nNOOP"


def test_an_empty_message_is_one_chunk_of_nothing(door):
    line = until_chunks(door)
    assert line.ask("BDAT 0 LAST").startswith("250 2.0.0 Stored")
    assert door.core.stored[0].content == b""


def test_memory_does_not_depend_on_the_size_of_a_chunk(tmp_path):
    with running(tmp_path, max_message_size=100 * MIB) as door:
        line = until_chunks(door)
        digest, piece = hashlib.sha256(), b"x" * MIB
        line.send(b"BDAT %d\r\n" % (60 * MIB))
        for _ in range(60):
            line.send(piece)
            digest.update(piece)
        assert line.reply().startswith("250 ")
        assert line.ask("BDAT 0 LAST").startswith("250 ")
        assert hashlib.sha256(door.core.stored[0].content).digest() == digest.digest()
        assert door.peak_memory < 150 * MIB


def test_thousands_of_chunks_are_no_flood_of_commands(tmp_path):
    with running(tmp_path, max_message_size=100 * MIB) as door:
        line = until_chunks(door)
        line.send((b"BDAT 2048\r\n" + b"y" * 2048) * 1500)
        assert {line.reply()[:3] for _ in range(1500)} == {"250"}
        assert line.ask("BDAT 0 LAST").startswith("250 ")
        assert door.core.stored[0].size == 1500 * 2048


def test_tiny_chunks_are(door):
    line = until_chunks(door)
    line.send(b"BDAT 1\r\nx" * 1200)
    replies = [line.reply()[:3] for _ in range(998)]
    assert "421" in replies
    assert door.core.stored == []


# ── out of order ──


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("DATA", "503 5.5.1"),
        (f"MAIL FROM:<{SENDER}>", "503 5.5.1"),
        (f"RCPT TO:<{OTHER}>", "503 5.5.1"),
        ("STARTTLS", "502 5.5.1"),
        ("NOOP", "250 2.0.0"),
        ("VRFY x", "252 2.5.0"),
    ],
)
def test_nothing_comes_between_two_chunks_and_the_message_goes_on(door, command, reply):
    line = until_chunks(door)
    line.send(b"BDAT 3\r\nabc")
    line.reply()
    assert line.ask(command).startswith(reply)
    line.send(b"BDAT 3 LAST\r\ndef")
    assert line.reply().startswith("250 2.0.0 Stored")
    assert door.core.stored[0].content == b"abcdef"


@pytest.mark.parametrize("command", ["RSET", "EHLO again", "HELO again"])
def test_a_reset_drops_the_chunks_at_once(door, command):
    line = until_chunks(door)
    line.send(b"BDAT 3\r\nabc")
    line.reply()
    assert line.ask(command).startswith("250")
    assert door.core.abandoned == door.core.begun
    assert line.ask("BDAT 0 LAST").startswith("503 ")
    line.send(ENVELOPE + b"BDAT 2 LAST\r\nok")
    assert [line.reply()[:3] for _ in range(3)] == ["250"] * 3
    assert door.core.stored[0].content == b"ok"


def test_a_chunk_without_a_recipient_is_read_and_refused(door):
    line = door.connect()
    line.reply()
    line.ask("EHLO c")
    line.send(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    assert line.reply().startswith("503 ")
    assert line.reply().startswith("250 ")
    line.ask(f"MAIL FROM:<{SENDER}>")
    line.send(b"BDAT 6\r\nQUIT\r\nNOOP\r\n")
    assert line.reply().startswith("503 ")
    assert line.reply().startswith("250 ")


def test_after_the_last_chunk_another_is_out_of_order_and_no_command(door):
    line = until_chunks(door)
    line.send(b"BDAT 1 LAST\r\naBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    assert [line.reply()[:3] for _ in range(3)] == ["250", "503", "250"]
    assert len(door.core.stored) == 1


@pytest.mark.parametrize(
    "argument",
    ["", "LAST", "-1", "+1", "1 FIRST", "1 LAST LAST", "0x10", "1e3", "１", "9" * 21, "1\t"],
)
def test_a_length_that_can_not_be_read_ends_the_connection(door, argument):
    """What follows can't be told from commands: none of it is obeyed (a way to smuggle otherwise)."""
    line = until_chunks(door)
    line.send(f"BDAT {argument}\r\n".encode() + ENVELOPE + b"BDAT 0 LAST\r\n")
    assert line.reply().startswith("501 5.5.4 ")
    assert line.reply() == ""
    assert door.core.stored == []


@pytest.mark.parametrize("command", [b"BDAT 6\n", b"bdat 6\r", b"BDAT\0 6\r\n", b"BDAT6\r\n"])
def test_a_chunk_command_that_is_no_line_ends_the_connection_too(door, command):
    line = until_chunks(door)
    line.send(command + b"NOOP\r\n" * 3)
    assert line.reply().startswith("501 5.5.4 ")
    assert line.reply() == ""


# ── what does not fit, and what breaks off ──


def test_a_message_that_grows_too_large_is_refused_once_a_chunk_until_its_end(door):
    line = until_chunks(door)
    line.send(b"BDAT 60000\r\n" + b"x" * 60000)
    assert line.reply().startswith("250 ")
    line.send(b"BDAT 60000\r\n" + b"\r\nNOOP\r\n" * 7500)
    assert line.reply().startswith("552 5.3.4 ")
    assert door.core.abandoned == door.core.begun
    line.send(b"BDAT 5\r\nNOOP\nBDAT 5 LAST\r\nNOOP\nNOOP\r\n")
    assert [line.reply()[:3] for _ in range(3)] == ["552", "552", "250"]
    assert door.core.stored == []


def test_a_chunk_larger_than_anything_is_hung_up_on(door):
    line = until_chunks(door)
    line.send(b"BDAT 99999999999999\r\n" + b"x" * 300_000)
    assert line.reply().startswith("552 5.3.4 ")
    assert line.reply() == ""
    line = door.connect()
    line.reply()
    line.ask("EHLO c")
    line.send(b"BDAT 99999999999999\r\n")
    assert line.reply().startswith("552 5.3.4 ")


def test_a_full_store_refuses_a_chunk_after_it_was_read(door):
    door.core.refuse_begin = Refused("full", "no room")
    line = until_chunks(door)
    line.send(b"BDAT 6\r\nQUIT\r\nNOOP\r\n")
    assert line.reply().startswith("452 4.3.1 ")
    assert line.reply().startswith("250 ")


@pytest.mark.parametrize("sent", [b"BDAT 10\r\nabc", b"BDAT 3\r\nabc", b"BDAT 10 LAST\r\nabc"])
def test_a_connection_cut_in_or_between_chunks_keeps_nothing(door, sent):
    line = until_chunks(door)
    line.send(sent)
    door.core.wait_for(lambda: door.core.begun)
    line.close()
    door.core.wait_for(lambda: door.core.dropped == door.core.begun)
    assert door.core.stored == []


def test_a_core_killed_between_chunks_means_try_again(door):
    line = until_chunks(door)
    line.send(b"BDAT 3\r\nabc")
    line.reply()
    door.core.kill()
    line.send(b"BDAT 3 LAST\r\ndef")
    assert line.reply().startswith("451 4.3.0 ")


@pytest.mark.parametrize("where", ["in a chunk", "between chunks"])
def test_whoever_trickles_is_hung_up_on(tmp_path, where):
    with running(tmp_path, timeout=1.0) as door:
        line = until_chunks(door)
        began = time.monotonic()
        try:
            line.send(b"BDAT 1000\r\n" if where == "in a chunk" else b"")
            while time.monotonic() - began < 8:
                line.send(b"x" if where == "in a chunk" else b"BDAT 1\r\nx")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - began < 5
        door.core.wait_for(lambda: door.core.dropped == door.core.begun)


def test_stopping_waits_for_a_message_in_chunks(door):
    line = until_chunks(door)
    line.send(b"BDAT 3\r\nabc")
    line.reply()
    door.process.terminate()
    time.sleep(0.2)
    line.send(b"BDAT 3 LAST\r\ndef")
    assert line.reply().startswith("250 2.0.0 Stored")
    assert line.reply().startswith("421 ")
    assert door.process.wait(20) == 0
    import subprocess
    import sys

    # The fixture asserts that a door ends only when asked: it was.
    door.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
