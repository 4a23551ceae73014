"""Tables of disposal: holds, batches with their approvals, certificates, and what was destroyed."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from vault.catalogue.schema.base import ID, TIME, metadata

holds = Table(
    "holds",
    metadata,
    Column("id", ID, primary_key=True),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("document_id", ID, ForeignKey("documents.id")),  # NULL: the whole client
    Column("placed_by", String(64), nullable=False),
    Column("placed_at", TIME, nullable=False),
    Column("reason", LargeBinary, nullable=False),  # sealed under the client's "profile" key
    Column("released_by", String(64)),
    Column("released_at", TIME),
    Index("ix_holds_scope", "client_id", "released_at"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", ID, primary_key=True),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("scope", String(16), nullable=False, server_default="documents"),  # or client: its end
    Column("state", String(16), nullable=False),
    Column("proposed_at", TIME, nullable=False),
    Column("proposed_by", String(64), nullable=False),
    Column("register", LargeBinary, nullable=False),  # canonical JSON of what is approved
    Column("register_digest", String(64), nullable=False),
    Column("executor", String(64)),
    Column("started_at", TIME),
    Column("finished_at", TIME),
    Column("progress", Text, nullable=False),  # JSON: what execution must remember between steps
    Index("ix_batches_state", "state"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("batch_id", ID, ForeignKey("batches.id"), nullable=False),
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False),
    Column("role", String(16), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("signature", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("signed_at", TIME, nullable=False),
    Column("enrolment", Text),  # JSON: how its key was enrolled when it signed; none: not known
    PrimaryKeyConstraint("batch_id", "account_id"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("id", ID, primary_key=True),
    Column("batch_id", ID, ForeignKey("batches.id"), nullable=False),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("issued_at", TIME, nullable=False),
    Column("level", String(2), nullable=False),
    Column("follows", ID),  # the certificate whose claim this one raises
    Column("document", LargeBinary, nullable=False),  # the JSON certificate
    Column("printed", LargeBinary, nullable=False),  # the same as PDF
    Index("ix_certificates_batch", "batch_id"),
)

# Media that a person reports sanitised, for claim level L3: an officer's signed statement.
sanitisations = Table(
    "sanitisations",
    metadata,
    Column("id", ID, primary_key=True),
    Column("batch_id", ID, ForeignKey("batches.id"), nullable=False),
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False),
    Column("recorded_at", TIME, nullable=False),
    Column("facts", Text, nullable=False),  # JSON: medium, serial, method, day, place
    Column("statement", LargeBinary, nullable=False),  # the text that was signed
    Column("signature", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("enrolment", Text),  # as in approvals
    Index("ix_sanitisations_batch", "batch_id"),
)

# What a restore replays before anything is served.
tombstones = Table(
    "tombstones",
    metadata,
    Column("document_id", ID, primary_key=True),
    Column("client_id", ID, nullable=False),
    Column("batch_id", ID, nullable=False),
    Column("destroyed_at", TIME, nullable=False),
)
