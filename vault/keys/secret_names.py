"""What the secrets of a keyring are called.

Promises: each name once. Leaves out: what is done with them, and the secrets of backups and of prints, which
are named where they are used.
"""

from __future__ import annotations

from typing import Final

SECRET_LEDGER: Final = "ledger-signing-key"  # noqa: S105  the name of a secret, not one
SECRET_NEXT_LEDGER: Final = "ledger-signing-key.next"  # noqa: S105  the name of a secret, not one
SECRET_ACCOUNTS: Final = "accounts"  # noqa: S105  the name of a secret, not one
SECRET_INDEX: Final = "index"  # noqa: S105  the name of a secret, not one
SECRET_PROFILE: Final = "profile"  # noqa: S105  the name of a secret, not one
