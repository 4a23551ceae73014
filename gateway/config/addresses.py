"""Addresses in the configuration: where to listen, places outside, keys on a token.

Promises: an address is parsed strictly, whole, and in one place. It never holds a password: what opens a
place lies in a file of its own.
Leaves out: which section has which address (`sections`); a token's address beyond its scheme
(`vault.keys.pkcs11_address`).
"""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import Final, NamedTuple

from gateway.errors import ConfigurationError

_LISTEN: Final = re.compile(r"(?:\[([0-9a-fA-F:]+)\]|([^:\[\]]+)):(\d{1,5})")
# No password, query or fragment.
_SFTP: Final = re.compile(
    r"sftp://(?P<user>[0-9A-Za-z._-]+)@(?:\[(?P<six>[0-9a-fA-F:]+)\]|(?P<host>[0-9A-Za-z.-]+))"
    r"(?::(?P<port>\d{1,5}))?(?P<path>/[^\x00-\x1f?#]*)"
)
_S3: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[0-9A-Za-z._-]+(?:/[0-9A-Za-z._-]+)*))?/?"
)
_HOST_KEY: Final = re.compile(r"([a-z0-9@.-]+) ([A-Za-z0-9+/]{40,}={0,2})(?: .*)?")
_ENDPOINT: Final = re.compile(
    r"https://[^\s/?#@]+(?:/[^\s?#]*)?|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?/?"
)
_WEBHOOK: Final = re.compile(
    r"https://[^\s/?#@]+(?:/[^\s#]*)?|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?(?:/[^\s#]*)?"
)
# What an envelope takes without SMTPUTF8: a dot-string and a domain (RFC 5321, section 4.1.2).
_MAIL: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}){0,31}"
    r"@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?"
)
_PKCS11: Final = "pkcs11:"
_DNS: Final = 53


class SftpAddress(NamedTuple):
    """The parts of `sftp://user@host:port/path`; `path` is absolute, or relative to the login's folder."""

    user: str
    host: str
    port: int
    path: str


class S3Address(NamedTuple):
    """The parts of `s3://bucket/prefix`; `prefix` may be empty."""

    bucket: str
    prefix: str


def parse_listen(value: str, subject: str) -> tuple[str, int]:
    """Split `host:port` (IPv6 in brackets) into its parts (raises ConfigurationError)."""
    match = _LISTEN.fullmatch(value)
    if match is None or not 0 <= int(match[3]) <= 65535:
        raise ConfigurationError(f"{subject}: expected host:port, found {value!r}")
    return match[1] or match[2], int(match[3])


def server_address(text: str) -> tuple[str, int]:
    """Address and port of `[resolver] addresses` (raises ConfigurationError)."""
    bare = text.count(":") != 1 and not text.startswith("[")  # an IPv4 address, or an IPv6 one
    if bare:
        text = f"[{text}]:{_DNS}" if ":" in text else f"{text}:{_DNS}"
    host, port = parse_listen(text, "key resolver.addresses")
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        # A name would take a resolver to find, and every question would fail.
        raise ConfigurationError(
            f"key resolver.addresses: expected an IP address, found {host!r}"
        ) from error
    return host, port


def parse_sftp(value: str) -> SftpAddress:
    """Split `sftp://user@host:port/path` into its parts (raises ConfigurationError)."""
    match = _SFTP.fullmatch(value)
    port = int(match["port"] or 22) if match else 0
    if match is None or not 0 < port < 65536:
        raise ConfigurationError(f"key sftp: expected sftp://user@host:port/path, found {value!r}")
    path = match["path"]
    # As in curl's addresses: /~/ begins at the login's own folder.
    path = path[3:] or "." if path.startswith("/~/") else path
    return SftpAddress(match["user"], match["six"] or match["host"], port, path)


def parse_s3(value: str) -> S3Address:
    """Split `s3://bucket/prefix` into its parts (raises ConfigurationError)."""
    match = _S3.fullmatch(value)
    if match is None:
        raise ConfigurationError(f"key s3: expected s3://bucket/prefix, found {value!r}")
    return S3Address(match["bucket"], match["prefix"] or "")


def is_endpoint(value: str) -> bool:
    """Whether `value` is the address of an object store: https, or http on this machine."""
    return _ENDPOINT.fullmatch(value) is not None


def is_webhook(value: str) -> bool:
    """Whether `value` is an address to call: https, or http on this machine; no user, no fragment."""
    return _WEBHOOK.fullmatch(value) is not None


def is_loopback(host: str) -> bool:
    """Whether a host's name or address stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_mail_address(value: str) -> bool:
    """Whether `value` is a mail address that every server takes: ASCII, unquoted, at most 254 characters."""
    return len(value) <= 254 and ".." not in value and _MAIL.fullmatch(value) is not None


def is_token(value: str) -> bool:
    """Whether `value` names a key on a token and not a file."""
    return value.startswith(_PKCS11)


def is_host_key(line: str) -> bool:
    """Whether `line` is a public key of OpenSSH's: type, base64 that names the same type, comment."""
    match = _HOST_KEY.fullmatch(line)
    if match is None:
        return False
    try:
        blob = base64.b64decode(match[2], validate=True)
    except ValueError:
        return False
    name = match[1].encode()
    return blob.startswith(len(name).to_bytes(4, "big") + name)
