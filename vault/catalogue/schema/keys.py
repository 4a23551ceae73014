"""Tables of key groups, the documents' keys wrapped by them, rotations, and passwords of locked files."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
)

from vault.catalogue.schema.base import GROUP, ID, TIME, metadata

# Key groups: a mirror of the keyrings without the keys, so that lookups need no unsealing.
groups = Table(
    "groups",
    metadata,
    Column("id", GROUP, primary_key=True),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("kind", String(8), nullable=False),  # intake | cohort
    Column("label", String(128), nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("closed_at", TIME),  # from here on it takes nothing more: it is about to end
    Column("ended_at", TIME),  # nothing lives in it any more
    Column("dropped_at", TIME),  # its key has left the keyring
    Index("ix_groups_label", "client_id", "kind", "label"),
)

# Every group that ever wrapped a document's key: destroying the document ends those that live.
wrappings = Table(
    "wrappings",
    metadata,
    Column("document_id", ID, ForeignKey("documents.id"), nullable=False),
    Column("group_id", GROUP, ForeignKey("groups.id"), nullable=False),
    Column("wrapped_at", TIME, nullable=False),
    PrimaryKeyConstraint("document_id", "group_id"),
    Index("ix_wrappings_group", "group_id"),
)

# Rotations of keys: what is to be re-wrapped, and how far it has come.
rotations = Table(
    "rotations",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", String(8), nullable=False),  # groups | root | ledger
    Column("client_id", ID),  # groups: of one client only
    Column("cutoff", TIME, nullable=False),  # groups made before this
    Column("state", String(16), nullable=False),  # running | done
    Column("started_by", String(64), nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("finished_at", TIME),
    Column("moved", Integer, nullable=False),  # keys re-wrapped
    Index("ix_rotations_state", "state"),
)

# Passwords that clients deposited for locked files that they send.
deposited_passwords = Table(
    "deposited_passwords",
    metadata,
    Column("id", ID, primary_key=True),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    # Label and password, sealed under the client's "profile" key.
    Column("sealed", LargeBinary, nullable=False),
    Column("added_at", TIME, nullable=False),
    Column("added_by", String(64), nullable=False),
    Column("used", Integer, nullable=False),  # documents that it opened
    Column("used_at", TIME),
    Index("ix_deposited_passwords_client", "client_id"),
)
