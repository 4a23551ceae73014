"""What a person signed counts as theirs: one check for acts, approvals and attestations.

Promises: a signature counts only if it is over this very statement, by a key that the account has now, and
if the account may act now: active, not expired, inside its hours. A signed statement comes over the
console, which has no network, so networks are not looked at. An objection alone is taken from an officer
who may not act now, too: else whoever suspends the others silences them.

Leaves out: who may do what (`admin.register`), and whether one key was used twice (the act that counts).
"""

from __future__ import annotations

import base64
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from gateway.core.login import accounts as identity
from gateway.core.login import limits
from gateway.core.login.accounts import Account
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.crypto import sshsig
from vault.moments import stamp


def verify_signed(
    connection: Connection,
    *,
    name: str,
    statement: bytes,
    signature: str,
    namespace: str,
    subject: str,
    now: datetime,
    zone: ZoneInfo,
    suspended: bool = False,
) -> tuple[Account, bytes]:
    """The account that signed, as it is now, and the blob of the key it signed with.

    Args:
        suspended: a disabled or expired account signs, too; its key still has to be there and to count.

    Raises:
        Refusal: the signature is wrong, the key is not this account's, or the account may not act now.
    """
    try:
        line = sshsig.verify(signature, statement, namespace)
    except sshsig.SignatureError as error:
        raise Refusal("denied", f"{subject}: {error}") from error
    blob = base64.b64decode(line.split()[1])
    row = (
        queries.account_named(connection, name)
        if suspended
        else identity.load_account(connection, name)
    )
    if row is None or not identity.has_key(connection, row.id, blob):
        raise Refusal(
            "denied",
            f"{subject}: expected a registered key of an active account, found none for {name}",
        )
    why = None if suspended else limits.admits(row, now, zone, None)
    if why is not None:
        raise Refusal(
            "denied",
            f"{subject}: expected account {name} within its limits, found it outside: {why}",
        )
    counts = identity.counts_from(connection, row.id, blob)
    if row.role == "officer" and counts > stamp(now):
        raise Refusal(
            "denied",
            f"{subject}: expected a key of {name} whose waiting period is over, found one that counts from"
            f" {counts[:16]}Z",
        )
    return identity.describe(connection, row), blob
