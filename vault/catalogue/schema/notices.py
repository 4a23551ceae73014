"""Tables of what the gateway says by itself: receipts and notices, and the conditions they tell of.

No row holds an address or a text: whom a notice goes to and what it says is read when it is carried.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

from vault.catalogue.schema.base import ID, TIME, metadata

# What is to be said, and what became of it. `number` is the order in which it came up.
notices = Table(
    "notices",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", ID, nullable=False, unique=True),  # of its message: the same at every attempt
    Column("target", String(80), nullable=False),  # relay | webhook:<name>
    Column("kind", String(16), nullable=False),  # receipt, or the topic of a notice
    Column("client_id", ID, ForeignKey("clients.id")),  # whose receipt it is
    Column("account_id", ID, ForeignKey("accounts.id")),  # whom a notice by mail goes to
    Column("message_id", ID, ForeignKey("documents.id")),  # the mail that a receipt answers
    Column("urgent", Boolean, nullable=False),
    Column("events", Integer, nullable=False),  # entries of the ledger that it is about, so far
    Column(
        "entry", Integer
    ),  # of the ledger: what a webhook is called for, or a receipt began with
    Column("created_at", TIME, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", TIME),
    Column("delivered_at", TIME),  # when it was over: sent, or ended without (`outcome`)
    Column(
        "outcome", String(16), nullable=False
    ),  # "" | sent | refused | given-up | withheld | joined | moot
    Column("failure", Text, nullable=False),
    Column("recipient_index", LargeBinary),  # of a receipt, blind, under the client's key
    Index(
        "ix_notices_waiting",
        "target",
        "next_attempt_at",
        sqlite_where=text("delivered_at IS NULL"),
        postgresql_where=text("delivered_at IS NULL"),
    ),
    Index(  # of a webhook the first that waits
        "ix_notices_order",
        "target",
        "number",
        sqlite_where=text("delivered_at IS NULL"),
        postgresql_where=text("delivered_at IS NULL"),
    ),
    Index("ix_notices_over", "delivered_at"),
    Index("ix_notices_account", "account_id", "kind", "delivered_at"),
    Index("ix_notices_client", "client_id", "delivered_at"),
    sqlite_autoincrement=True,
)

# The documents that a receipt is to speak of: those that were sent, not their parts.
notice_documents = Table(
    "notice_documents",
    metadata,
    Column("number", Integer, ForeignKey("notices.number"), nullable=False),
    Column("document_id", ID, ForeignKey("documents.id"), nullable=False),
    Column("told", Boolean, nullable=False),  # as still being inspected: its answer is due
    PrimaryKeyConstraint("number", "document_id"),
    Index("ix_notice_documents_document", "document_id"),
)

# What is not as it should be now: a backup that is late, a key near its end.
conditions = Table(
    "conditions",
    metadata,
    Column("topic", String(16), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("since", TIME, nullable=False),
    PrimaryKeyConstraint("topic", "subject"),
)
