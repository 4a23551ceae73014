"""The tables of the catalogue.

What stands here in plain is what the gateway needs to decide by: states, dates, classes, sizes, opaque
identifiers. What says something about a person or a company (a document's name, sender, subject, digest
and extracted facts, a client's name and addresses, the reason of a hold) is sealed: under the document's
key, or under a key of the client's keyring, and is noise once that key is gone. Looking up by name goes
through blind indexes. Times are ISO 8601 in UTC with microseconds, so that text order is time order.

Not here: asking and writing (`vault.catalogue.queries`, `lifecycle`, and whoever owns a table).
The schema changes by Alembic migrations only (`vault/catalogue/migrations`); a test holds the two together.
The tables stand in modules by topic, and all of them are imported from here:

    from vault.catalogue.schema import documents
"""

from __future__ import annotations

from typing import Final

from vault.catalogue.schema.base import GROUP, ID, TIME, metadata
from vault.catalogue.schema.copies import (
    backup_amendments,
    backup_blobs,
    backups,
    copy_places,
    copy_states,
    errands,
)
from vault.catalogue.schema.disposal import (
    approvals,
    batches,
    certificates,
    holds,
    sanitisations,
    tombstones,
)
from vault.catalogue.schema.intake import access_requests, documents, folders, usage
from vault.catalogue.schema.keys import deposited_passwords, groups, rotations, wrappings
from vault.catalogue.schema.ledger import (
    checkpoint_places,
    checkpoints,
    ledger_entries,
    ledger_keys,
    ledger_nodes,
)
from vault.catalogue.schema.logins import login_lanes, login_sources
from vault.catalogue.schema.mail import mailbox_messages, messages
from vault.catalogue.schema.notices import conditions, notice_documents, notices
from vault.catalogue.schema.people import (
    account_keys,
    accounts,
    app_passwords,
    clients,
    grants,
    recoveries,
    second_signatures,
)
from vault.catalogue.schema.store import fixity_runs, settings

REVISION: Final = "0015"  # of the newest migration

__all__ = [
    "GROUP",
    "ID",
    "REVISION",
    "TIME",
    "access_requests",
    "account_keys",
    "accounts",
    "app_passwords",
    "approvals",
    "backup_amendments",
    "backup_blobs",
    "backups",
    "batches",
    "certificates",
    "checkpoint_places",
    "checkpoints",
    "clients",
    "conditions",
    "copy_places",
    "copy_states",
    "deposited_passwords",
    "documents",
    "errands",
    "fixity_runs",
    "folders",
    "grants",
    "groups",
    "holds",
    "ledger_entries",
    "ledger_keys",
    "ledger_nodes",
    "login_lanes",
    "login_sources",
    "mailbox_messages",
    "messages",
    "metadata",
    "notice_documents",
    "notices",
    "recoveries",
    "rotations",
    "sanitisations",
    "second_signatures",
    "settings",
    "tombstones",
    "usage",
    "wrappings",
]
