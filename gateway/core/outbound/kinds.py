"""Every kind of delivery of what is sealed or public. A new one is added here, and nowhere else.

One kind more stands above the intake, whose documents it speaks of: `gateway.core.notices.kind`.
"""

from __future__ import annotations

from gateway.core.outbound.backup.amendments import Amendments
from gateway.core.outbound.keyring_copies import KeyringCopies
from gateway.core.outbound.ledger_publication import Publication
from gateway.core.outbound.outbound import Outbound
from gateway.core.outbound.outbox import Kind


def kinds(outbound: Outbound) -> tuple[Kind, ...]:
    """The kinds of delivery, with the places of the configuration."""
    return KeyringCopies(outbound), Amendments(outbound), Publication(outbound)
