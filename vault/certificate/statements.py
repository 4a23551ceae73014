"""The texts that people sign with their own SSH keys, and the purposes they sign them for.

Promises: a text depends on nothing but its arguments, so that whoever checks a signature rebuilds
it from the certificate and compares; it reads line by line and ends in a newline; and the signature's
namespace keeps one made for one purpose from serving another.

Leaves out: signing and verifying (`sshsig`), and who may sign.

Rule: values are identifiers or single lines (the types of `certificate`), so that no value can pass for
a line of its own. Nothing here changes once shipped: a changed text breaks every signature over it.
"""

from __future__ import annotations

from datetime import date
from typing import Final, Literal

APPROVAL_NAMESPACE: Final = "strongroom-approval-v1"
"""The SSHSIG namespace of approvals: `ssh-keygen -Y sign -n strongroom-approval-v1`."""
WITNESS_NAMESPACE: Final = "strongroom-witness-v1"
SANITISATION_NAMESPACE: Final = "strongroom-sanitisation-v1"


def approval_statement(
    *,
    batch_id: str,
    client: str,
    register_digest: str,
    items: int,
    scope: Literal["documents", "client"],
    decision: Literal["approve", "reject"],
    account: str,
    role: str,
) -> str:
    """The text an approver signs, line by line readable, ending in a newline.

    It depends on nothing but its arguments, so a verifier rebuilds it and compares.

    Args:
        scope: `client` where the client's keyring is to end with its documents.
    """
    return (
        "strongroom approval v1\n"
        f"batch: {batch_id}\n"
        f"client: {client}\n"
        f"register: sha256:{register_digest}\n"
        f"items: {items}\n"
        f"scope: {scope}\n"
        f"account: {account}\n"
        f"role: {role}\n"
        f"decision: {decision}\n"
        f"I {decision} the destruction of the items in this register.\n"
    )


def witness_statement(
    *, batch_id: str, client: str, register_digest: str, items: int, account: str, role: str
) -> str:
    """The text a witness signs after the destruction; as `approval_statement`."""
    return (
        "strongroom witness v1\n"
        f"batch: {batch_id}\n"
        f"client: {client}\n"
        f"register: sha256:{register_digest}\n"
        f"items: {items}\n"
        f"account: {account}\n"
        f"role: {role}\n"
        "I compared this register with the items before, and witnessed their destruction.\n"
    )


def sanitisation_statement(
    *,
    batch_id: str,
    client: str,
    medium: str,
    serial: str,
    method: str,
    performed_on: date,
    place: str,
    account: str,
) -> str:
    """The text a person signs for a medium that held the batch; as `approval_statement`."""
    return (
        "strongroom sanitisation v1\n"
        f"batch: {batch_id}\n"
        f"client: {client}\n"
        f"medium: {medium}\n"
        f"serial: {serial}\n"
        f"method: {method}\n"
        f"performed: {performed_on.isoformat()}\n"
        f"place: {place}\n"
        f"account: {account}\n"
        "I state that this medium was sanitised by this method on that day.\n"
    )
