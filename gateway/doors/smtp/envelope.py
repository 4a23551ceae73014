"""The arguments of MAIL and RCPT, read strictly (RFC 5321, sections 4.1.2 and 4.1.3; RFC 6531).

Promises: an address that comes out of here is one mailbox in the grammar of the RFC, within its lengths;
no comment, no folding, no source route, no control character. What does not fit is refused, never
repaired: two programs that read one address differently are how mail ends up with the wrong client.

Leaves out: whether the address exists and who may send (the core decides that).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from gateway.errors import GatewayError

MAX_LOCAL_PART: Final = 64  # octets, section 4.5.3.1.1
MAX_DOMAIN: Final = 255  # octets, section 4.5.3.1.2
MAX_PATH: Final = 256  # octets with the angle brackets, section 4.5.3.1.3

_ATEXT: Final = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff"
_LOCAL_PART: Final = re.compile(
    rf'[{_ATEXT}]+(?:\.[{_ATEXT}]+)*|"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*"'
)
_LABEL: Final = (
    r"[A-Za-z0-9\u0080-\U0010ffff](?:[A-Za-z0-9\-\u0080-\U0010ffff]*[A-Za-z0-9\u0080-\U0010ffff])?"
)
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PARAMETER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_POSTMASTER: Final = "postmaster"


class EnvelopeError(GatewayError):
    """An argument that is not what the RFC allows.

    Args:
        reply: the SMTP reply for it, with its enhanced status code (RFC 3463).
    """

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


SYNTAX: Final = "501 5.5.4 Syntax error in parameters"
MALFORMED: Final = "553 5.1.3 Malformed address"
UNKNOWN_PARAMETER: Final = "555 5.5.4 Parameter not recognized or not implemented"
NEEDS_UTF8: Final = "553 5.6.7 An address outside ASCII needs SMTPUTF8"


@dataclass(frozen=True)
class Envelope:
    """What MAIL announces. `sender` is "" for the null reverse-path; `size` in bytes, 0 if not said."""

    sender: str
    size: int = 0
    utf8: bool = False


def parse_mail(argument: str, *, extended: bool) -> Envelope:
    """Read the argument of MAIL (`FROM:<path> parameters`).

    Args:
        extended: the client said EHLO; only then are there parameters.

    Raises:
        EnvelopeError: it is not within the grammar, or asks for what is not offered.
    """
    path, parameters = _split(argument, "FROM:", extended=extended)
    size, utf8 = 0, False
    for name, value in parameters.items():
        match name:
            case "SIZE":
                # RFC 1870, section 4: up to twenty digits.
                if value is None or not re.fullmatch(r"[0-9]{1,20}", value):
                    raise EnvelopeError(SYNTAX)
                size = int(value)
            case "BODY":
                if (value or "").upper() not in {"7BIT", "8BITMIME"}:
                    raise EnvelopeError(SYNTAX)
            case "SMTPUTF8":
                if value is not None:
                    raise EnvelopeError(SYNTAX)
                utf8 = True
            case _:
                raise EnvelopeError(UNKNOWN_PARAMETER)
    return Envelope(sender=_mailbox(path, utf8=utf8) if path else "", size=size, utf8=utf8)


def parse_recipient(argument: str, *, utf8: bool, extended: bool) -> str:
    """Read the argument of RCPT (`TO:<path>`); returns the address (raises EnvelopeError)."""
    path, parameters = _split(argument, "TO:", extended=extended)
    if parameters:
        raise EnvelopeError(UNKNOWN_PARAMETER)
    if path.lower() == _POSTMASTER:
        return path  # section 4.1.1.3: the one address without a domain; the core answers for it
    return _mailbox(path, utf8=utf8)


def _split(argument: str, keyword: str, *, extended: bool) -> tuple[str, dict[str, str | None]]:
    """Cut `KEYWORD:<path> parameters`; returns the path without brackets and the parameters."""
    if argument[: len(keyword)].upper() != keyword:
        raise EnvelopeError(SYNTAX)
    rest = argument[len(keyword) :].lstrip(" ")
    if not rest.startswith("<"):
        raise EnvelopeError(SYNTAX)
    end = _closing_bracket(rest)
    path, tail = rest[1:end], rest[end + 1 :]
    if len(path.encode()) + 2 > MAX_PATH:
        raise EnvelopeError(MALFORMED)
    if tail and (not extended or not tail.startswith(" ")):
        raise EnvelopeError(SYNTAX)
    parameters: dict[str, str | None] = {}
    for word in tail.split(" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None or match[1].upper() in parameters:
            raise EnvelopeError(SYNTAX)
        parameters[match[1].upper()] = match[2]
    return path, parameters


def _closing_bracket(path: str) -> int:
    """Index of the bracket that closes the path; one inside a quoted local part does not."""
    quoted = escaped = False
    for index, character in enumerate(path):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == ">" and not quoted:
            return index
    raise EnvelopeError(SYNTAX)


def _mailbox(address: str, *, utf8: bool) -> str:
    """Check `local-part@domain`; returns it unchanged."""
    local_part, at, domain = address.rpartition("@")
    if not at or not _LOCAL_PART.fullmatch(local_part) or not _is_domain(domain):
        raise EnvelopeError(MALFORMED)
    if len(local_part.encode()) > MAX_LOCAL_PART or len(domain.encode()) > MAX_DOMAIN:
        raise EnvelopeError(MALFORMED)
    if not utf8 and not address.isascii():
        raise EnvelopeError(NEEDS_UTF8)
    return address


def _is_domain(domain: str) -> bool:
    if not (domain.startswith("[") and domain.endswith("]")):
        return _DOMAIN.fullmatch(domain) is not None
    literal = domain[1:-1]
    try:
        if literal[:5].upper() == "IPV6:":
            ipaddress.IPv6Address(literal[5:])
        else:
            ipaddress.IPv4Address(literal)
    except ValueError:
        return False
    return True
