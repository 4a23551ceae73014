"""Tables of what leaves the machine: copies of keyrings, and backups."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from vault.catalogue.schema.base import ID, TIME, metadata

# Deliveries of sealed keyring files to their registered copies.
errands = Table(
    "errands",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("target", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", TIME),
    Column("delivered_at", TIME),
    Column("failure", Text, nullable=False),
    Index("ix_errands_open", "delivered_at", "next_attempt_at"),
    sqlite_autoincrement=True,
)

# Places that hold copies of keyrings, and those that did: one taken out of the configuration stays here
# until it is settled, because what lies there still opens what it held.
copy_places = Table(
    "copy_places",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("place", Text, nullable=False),  # folder or address, as configured
    Column("keeps_days", Integer, nullable=False),  # how long the place keeps what was replaced
    Column("registered_at", TIME, nullable=False),
    Column("withdrawn_at", TIME),  # taken out of the configuration
    Column("settled_at", TIME),  # a person says that nothing is left there
    Column("settled_by", String(64)),
    Column("statement", LargeBinary),  # what that person said, sealed under the house's keyring
)

# What each place was seen to hold: a row a delivery, the last one is how it is now.
copy_states = Table(
    "copy_states",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("target", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("epoch", Integer, nullable=False),  # 0: removed there
    Column("digest", String(64), nullable=False),  # SHA-256 of the sealed file
    Column("delivered_at", TIME, nullable=False),
    Index("ix_copy_states_target", "target", "owner", "id"),
    sqlite_autoincrement=True,
)

# Backups: one row a run.
backups = Table(
    "backups",
    metadata,
    Column("id", ID, primary_key=True),
    Column("target", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # running | done | failed | removed
    Column("started_at", TIME, nullable=False),
    Column("finished_at", TIME),
    Column("ledger_size", Integer, nullable=False),
    Column("documents", Integer, nullable=False),  # stored documents it covers
    Column("blobs", Integer, nullable=False),  # sealed files copied by this run
    Column("bytes", Integer, nullable=False),
    Column("manifest_digest", String(64), nullable=False),
    Column("verified_at", TIME),
    Column("failure", Text, nullable=False),
    Index("ix_backups_target", "target", "id"),
)

# Sealed files that a backup target holds, with the digest of their sealed bytes.
backup_blobs = Table(
    "backup_blobs",
    metadata,
    Column("target", String(64), nullable=False),
    Column("document_id", ID, nullable=False),
    Column("size", Integer, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("stored_at", TIME, nullable=False),
    PrimaryKeyConstraint("target", "document_id"),
)

# What a backup must be told after it was made: groups that ended since, so that survivors' new wrappings
# and the tombstones reach it.
backup_amendments = Table(
    "backup_amendments",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("target", String(64), nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("groups", Text, nullable=False),  # JSON list of group ids
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", TIME),
    Column("delivered_at", TIME),
    Column("failure", Text, nullable=False),
    Index("ix_backup_amendments_open", "delivered_at", "next_attempt_at"),
    sqlite_autoincrement=True,
)
