"""Tables of mail: what is known of each message besides that it is a document."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    text,
)

from vault.catalogue.schema.base import ID, TIME, metadata

# One row for each message that came by mail; its document is the message as received. Who sent it, from where
# and what it says is sealed in the document's metadata.
messages = Table(
    "messages",
    metadata,
    Column("document_id", ID, ForeignKey("documents.id"), primary_key=True),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    # Blind, under the client's key; NULL for none, and once the document is destroyed.
    Column("message_id_index", LargeBinary),
    # The same of what it says, who sent it and to which addresses: by this one that is sent again is known.
    Column("content_index", LargeBinary),
    Column(
        "same_id_as", ID
    ),  # the first message of the client with its Message-ID and another content
    # What showed that it comes from whom it says (`vault.catalogue.states.Proof`).
    Column("proof", String(16), nullable=False),
    Column("proven_at", TIME),
    Column("attempts", Integer, nullable=False),  # to find out what proves it
    Column("due_at", TIME),  # of the next one
    Index(
        "ix_messages_message_id",
        "client_id",
        "message_id_index",
        sqlite_where=text("message_id_index IS NOT NULL"),
        postgresql_where=text("message_id_index IS NOT NULL"),
    ),
    Index(
        "ix_messages_content",
        "client_id",
        "content_index",
        sqlite_where=text("content_index IS NOT NULL"),
        postgresql_where=text("content_index IS NOT NULL"),
    ),
    Index(
        "ix_messages_due",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
)

# One row for each message of a mailbox that was decided about, by the mailbox's own numbers (RFC 3501,
# section 2.3.1.1): the document it is, or why nobody took it.
mailbox_messages = Table(
    "mailbox_messages",
    metadata,
    Column("mailbox", String(64), primary_key=True),
    Column("uidvalidity", BigInteger, primary_key=True),
    Column("uid", BigInteger, primary_key=True),
    Column("document_id", ID, ForeignKey("documents.id")),
    Column("reason", String(32), nullable=False),
    Column("decided_at", TIME, nullable=False),
)
