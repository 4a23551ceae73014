"""Secrets that a person gives: asked for on the terminal, or one line of standard input; never an argument.

Leaves out: what they are for.
"""

from __future__ import annotations

import getpass
import sys


def secret_line(prompt: str) -> str:
    """A secret, not echoed."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    return getpass.getpass(prompt)
