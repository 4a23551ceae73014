"""Keys: the root key and where it lies, keys that are too old, and whether enough officers can sign.

Promises: looks, and changes nothing.
Leaves out: copies of keyrings (`places`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gateway.config import Config
from gateway.doctor.finding import Finding
from gateway.readable import moment
from vault.errors import VaultError
from vault.keys.root import load_root_key
from vault.keys.root_file import PKCS11

_MEND_PKCS11: Final = "see that the module loads, the token answers and the PIN is right"


def root_key(config: Config) -> Iterator[Finding]:
    following = config.next_root_key
    if following.startswith(PKCS11):
        from vault.keys import pkcs11

        try:
            pkcs11.exists(following)
        except VaultError as error:
            yield Finding("problem", "next root key", str(error), _MEND_PKCS11)
    where = config.root_key
    if not where:
        if not os.environ.get("CREDENTIALS_DIRECTORY"):
            yield Finding(
                "note",
                "root key",
                "it is a systemd credential, which only the service can see",
                "nothing to do; to look at it, run doctor with the same credential",
            )
        return
    try:
        load_root_key(where)
    except VaultError as error:
        yield Finding(
            "problem",
            "root key",
            str(error),
            _MEND_PKCS11
            if where.startswith(PKCS11)
            else f"chmod 0600 {where}; put the right file back from its safe copy if it is another",
        )
        return
    if where.startswith(PKCS11):
        return
    path = Path(where)
    former = path.with_name(f"{path.name}.old")
    if former.exists():
        yield Finding(
            "weak",
            "former root key",
            f"{former} is still there; with an old copy of keyrings it opens what they held",
            "copy the new key to its safe places, wait until no copy is behind, then remove this one",
        )
    if config.store_path.exists() and path.stat().st_dev == config.store_path.stat().st_dev:
        yield Finding(
            "weak",
            "root key",
            "it lies on the file system of the store: whoever copies that disk can read everything",
            "hand it over as a systemd credential (LoadCredentialEncrypted=), or keep it elsewhere",
        )


def ages(keys: dict[str, Any]) -> Iterator[Finding]:
    """Keys that are over their age limit. All but the root key are replaced by a job."""
    for age in keys["ages"]:
        if age["over"]:
            yield Finding(
                "weak",
                f"{age['what']} key" if age["what"] != "groups" else "group keys",
                f"{age['days']} days old, {age['limit_days']} allowed",
                f"strongroom keys rotate {age['what']}"
                + ("; keep a copy of the new one in a safe place" if age["what"] == "root" else ""),
            )


def quorum(state: dict[str, Any]) -> Iterator[Finding]:
    """Whether two officers can sign, and what a recovery has done about it."""
    quorum = state["quorum"]
    for each in quorum["recoveries"]:
        about = f"{each['name']} has a key ({each['fingerprint']}) by the root key and {each['begun_by']}"
        if each["counts"]:
            yield Finding(
                "weak",
                "recovery of the quorum",
                f"{about}, which counts since {moment(each['counts_from'])}; certificates say so",
                "two officers, neither of them recovered, sign `strongroom account review-recovery`",
            )
        else:
            yield Finding(
                "weak",
                "recovery of the quorum",
                f"{about}, which counts from {moment(each['counts_from'])}",
                f"if you know nothing of it: `strongroom account cancel-recovery {each['name']}`",
            )
    if quorum["lost"] and all(each["counts"] for each in quorum["recoveries"]):
        yield Finding(
            "problem",
            "officers",
            f"{quorum['can_sign']} can sign, and nothing is destroyed or released by fewer than two",
            "`account enable` or `account change` by the one who is left; else `strongroom account recover`",
        )
