"""A one-time code's QR code in the terminal: what is drawn is the code, with room around it."""

from __future__ import annotations

import io

import pyotp
import pytest
import segno

from gateway.cli.support import enrolment

URI = pyotp.TOTP(pyotp.random_base32()).provisioning_uri(
    name="accountant", issuer_name="Strongroom"
)


def modules(lines: list[str]) -> list[list[int]]:
    """The drawing read back: two rows of modules from each line of half blocks."""
    halves = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
    rows: list[list[int]] = []
    for line in lines:
        pairs = [halves[character] for character in line]
        rows.append([upper for upper, _ in pairs])
        rows.append([lower for _, lower in pairs])
    return rows


def test_what_is_drawn_is_exactly_the_symbol_with_its_quiet_zone() -> None:
    lines = enrolment.drawn(URI)
    rows = modules(lines)
    symbol = [
        [int(bool(module)) for module in row]
        for row in segno.make_qr(URI, error="m", boost_error=False).matrix
    ]
    side = len(symbol)
    assert {len(line) for line in lines} == {side + 8}
    assert [row[4:-4] for row in rows[4 : 4 + side]] == symbol
    around = [*rows[:4], *rows[4 + side :], *([row[:4] + row[-4:] for row in rows])]
    assert not any(any(row) for row in around)
    # It fits a terminal of 80 columns, with a name as long as they get.
    longest = pyotp.TOTP("A" * 32).provisioning_uri(name="n" * 32, issuer_name="Strongroom")
    assert max(len(line) for line in enrolment.drawn(longest)) <= 80


def test_a_terminal_gets_the_drawing_and_a_pipe_the_uri_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for is_terminal in (True, False):
        screen = io.StringIO()
        monkeypatch.setattr(screen, "isatty", lambda shown=is_terminal: shown)
        monkeypatch.setattr("sys.stdout", screen)
        enrolment.show(URI)
        text = screen.getvalue()
        assert text.splitlines()[-1] == URI
        assert ("█" in text) == is_terminal
        # Dark on light, said in colours, whatever the terminal's own ground is.
        assert text.count("\x1b[30;107m") == (len(enrolment.drawn(URI)) if is_terminal else 0)
