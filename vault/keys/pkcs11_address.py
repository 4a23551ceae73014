"""The address of a root key on a token: a PKCS#11 URI (RFC 7512), and the file with the token's PIN.

Promises: an address names one token, one object, one module by its absolute path and one file for
the PIN, or it is refused. A PIN is never part of an address: whatever shows an address shows no secret.

Leaves out: everything else a PKCS#11 URI may hold. RFC 7512 section 2.3 lets a reader refuse what it
does not know, and a misspelt attribute that was ignored would select another token.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from vault.errors import RootKeyRefused
from vault.keys.root_file import PKCS11, read_secret

FORM: Final = "pkcs11:token=LABEL;object=NAME?module-path=/…/module.so&pin-source=file:/…"
_PATH: Final = {"token": True, "object": True, "serial": False, "type": False}
_QUERY: Final = {"module-path": True, "pin-source": True}
_MAX_NAME: Final = 32
"""CK_TOKEN_INFO.label has 32 bytes; our object names keep to the same."""
_PIN: Final = 255


@dataclass(frozen=True)
class Address:
    """The address of a root key. `str()` gives its name in messages."""

    token: str
    """The token's label."""
    object: str
    """CKA_LABEL of the root object."""
    module: str
    """Absolute path of the PKCS#11 module."""
    pin_file: Path
    serial: str = ""
    """The token's serial number; empty: any."""

    def __str__(self) -> str:
        return f"root key {PKCS11}token={quote(self.token)};object={quote(self.object)}"


def parse(address: str) -> Address:
    """Take an address apart.

    Raises:
        RootKeyRefused: it is not of the form `FORM` (`serial=` and `type=secret-key` may be added).
    """
    if not address.startswith(PKCS11):
        raise RootKeyRefused(f"root key: expected {FORM}, found another address")
    path, _, query = address.removeprefix(PKCS11).partition("?")
    where = _attributes(path, ";", _PATH)
    how = _attributes(query, "&", _QUERY)
    if where.get("type", "secret-key") != "secret-key":
        raise RootKeyRefused("root key: expected type=secret-key in its address, found another")
    for name in ("token", "object"):
        if not 1 <= len(where[name].encode()) <= _MAX_NAME or not where[name].isprintable():
            raise RootKeyRefused(
                f"root key: expected {name} of 1 to {_MAX_NAME} bytes in its address, found other"
            )
    return Address(
        token=where["token"],
        object=where["object"],
        module=_absolute("module-path", how["module-path"]),
        pin_file=Path(_absolute("pin-source", how["pin-source"].removeprefix("file:"))),
        serial=where.get("serial", ""),
    )


def read_pin(address: Address) -> str:
    """The PIN: one line of a file that only its owner can read, or of a systemd credential.

    Raises:
        KeyUnavailable: no file.
        RootKeyRefused: others can read it, or it holds something else.
        StorageFailed: it can't be read.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    credential = bool(directory) and address.pin_file.parent == Path(str(directory))
    content = read_secret(address.pin_file, "PIN file", credential=credential)
    try:
        pin = content.decode().removesuffix("\n")
    except UnicodeDecodeError:
        pin = ""
    if not 1 <= len(pin) <= _PIN or not pin.isprintable():
        raise RootKeyRefused(
            f"PIN file {address.pin_file}: expected one line with the PIN, found other content"
        )
    return pin


def _attributes(text: str, separator: str, known: dict[str, bool]) -> dict[str, str]:
    """The attributes of one part. Messages name attributes, never values: one may be a PIN."""
    found: dict[str, str] = {}
    for each in text.split(separator) if text else []:
        name, equals, value = each.partition("=")
        if name == "pin-value":
            raise RootKeyRefused(
                "root key: expected pin-source, a file with the PIN, in its address, found the PIN;"
                " change it, for it has been seen"
            )
        if name not in known or not equals or name in found:
            raise RootKeyRefused(
                f"root key: expected in its address each of {', '.join(known)} at most once, found"
                f" {'one twice' if name in found else 'something else'}"
            )
        try:
            found[name] = unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            raise RootKeyRefused(
                f"root key: expected UTF-8 as {name} in its address, found other bytes"
            ) from None
    missing = [name for name, needed in known.items() if needed and name not in found]
    if missing:
        raise RootKeyRefused(f"root key: expected {FORM}, found no {missing[0]}")
    return found


def _absolute(name: str, value: str) -> str:
    # `|command` is a form of pin-source, too (RFC 7512, 2.4): nothing is run for a PIN.
    if not value.startswith("/") or not value.isprintable():
        raise RootKeyRefused(
            f"root key: expected an absolute path as {name} in its address, found another"
        )
    return value
