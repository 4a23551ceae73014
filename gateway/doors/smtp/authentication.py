"""AUTH PLAIN and AUTH LOGIN: what a client says of who it is (RFC 4954, 4616; LOGIN as its draft has it).

Promises: what comes out is a name and a password in UTF-8, within bounds; everything else is one refusal.
Leaves out: whether they are right, which the core alone decides, and TLS, without which nobody gets here.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from gateway.doors.smtp.envelope import EnvelopeError
from gateway.wire.messages import CREDENTIAL

MECHANISMS: Final = ("PLAIN", "LOGIN")
MAX_RESPONSE: Final = 12_288  # octets of a line, RFC 4954, section 4
USERNAME: Final = "334 VXNlcm5hbWU6"  # "Username:"
PASSWORD: Final = "334 UGFzc3dvcmQ6"  # "Password:"  # noqa: S105  a prompt
CANCELLED: Final = "501 5.7.0 Login cancelled"
MALFORMED: Final = "501 5.5.2 The name or password could not be read"
UNKNOWN: Final = "504 5.5.4 Only PLAIN and LOGIN are known here"


def decode(response: str) -> bytes:
    """A response in base64; `=` stands for an empty one (raises EnvelopeError)."""
    if response == "*":
        raise EnvelopeError(CANCELLED)
    if response == "=":
        return b""
    try:
        return base64.b64decode(response.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise EnvelopeError(MALFORMED) from error


def credential(raw: bytes) -> str:
    """A name or a password (raises EnvelopeError)."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EnvelopeError(MALFORMED) from error
    if not text or len(text) > CREDENTIAL or "\0" in text:
        raise EnvelopeError(MALFORMED)
    return text


def plain(response: str) -> tuple[str, str]:
    """Name and password of a PLAIN response: `authorize NUL name NUL password` (raises EnvelopeError).

    Whoever wants to act as somebody else is refused: nobody may.
    """
    parts = decode(response).split(b"\0")
    if len(parts) != 3 or parts[0] not in {b"", parts[1]}:
        raise EnvelopeError(MALFORMED)
    return credential(parts[1]), credential(parts[2])
