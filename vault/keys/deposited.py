"""Passwords of locked files, as they are kept: sealed under the key of the client that deposited them.

Promises: a record opens with that client's keyring alone, and is bound to its own id; once the keyring has
ended, what a backup still holds of it is noise. Leaves out: who deposits, and when one is tried
(`gateway.core.inspection.locked`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Row

from vault.crypto.wrapping import open_record, seal_record
from vault.errors import IntegrityError
from vault.keys.open_keyrings import OpenKeyrings
from vault.keys.secret_names import SECRET_PROFILE

PURPOSE: Final = "deposited-password"


class Deposited(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was deposited: the password, and what it is called."""

    label: str
    password: str

    def __repr__(self) -> str:
        return "Deposited(…)"


_encode: Final = msgspec.msgpack.encode
_decode: Final = msgspec.msgpack.Decoder(Deposited).decode


def seal(keyrings: OpenKeyrings, client_id: str, record_id: str, deposited: Deposited) -> bytes:
    """Seal a password (raises KeyUnavailable)."""
    key = keyrings.keyring(client_id).secrets[SECRET_PROFILE]
    return seal_record(key, _encode(deposited), purpose=PURPOSE, subject=record_id)


def open_deposited(keyrings: OpenKeyrings, row: Row[Any]) -> Deposited:
    """Open a row of `deposited_passwords` (raises KeyUnavailable, IntegrityError)."""
    key = keyrings.keyring(row.client_id).secrets[SECRET_PROFILE]
    data = open_record(key, row.sealed, purpose=PURPOSE, subject=row.id)
    try:
        return _decode(data)
    except msgspec.MsgspecError:
        # No cause is attached: the decoder quotes what it read.
        raise IntegrityError(
            f"password {row.id}: expected a label and a password, found other content",
            kind="format",
        ) from None
