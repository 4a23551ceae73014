"""Showing a one-time code's secret once, at enrolment: a QR code in the terminal, and its URI.

Promises: nothing of the secret goes to a log or a file. The code is dark on light whatever the terminal's
colours are; where there is no terminal it is not drawn, as nothing could scan it.
Leaves out: making the secret (`gateway.core.admin.factors`).

Sources: ISO/IEC 18004, which asks for a quiet zone of four modules around the code.
"""

from __future__ import annotations

import sys
from typing import Final

import segno

from gateway.cli.support import output

_BLACK_ON_WHITE: Final = "\x1b[30;107m"
_PLAIN: Final = "\x1b[0m"
_HALVES: Final = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
QUIET: Final = 4  # modules around the symbol


def show(uri: str) -> None:
    """Show an `otpauth:` URI, as a QR code too where it is a terminal that shows it."""
    output.say("Enrol this one-time code now; it is not shown again:")
    if sys.stdout.isatty():
        output.say()
        for line in drawn(uri):
            output.say(f"{_BLACK_ON_WHITE}{line}{_PLAIN}")
        output.say()
    output.say(uri)


def drawn(text: str) -> list[str]:
    """A QR code as lines of half blocks, a character for two modules one above the other; 1 is dark."""
    code = segno.make_qr(text, error="m", boost_error=False)
    rows = [[int(bool(module)) for module in row] for row in code.matrix_iter(border=QUIET)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    return [
        "".join(_HALVES[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
