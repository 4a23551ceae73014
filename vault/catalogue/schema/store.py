"""Tables about the store itself: its settings, and the scheduled readings of its documents."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table, Text

from vault.catalogue.schema.base import ID, TIME, metadata

# Facts about the store itself: its id, the public check value of its root key, the ledger's origin.
settings = Table(
    "settings",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

# Scheduled reading of a share of the store.
fixity_runs = Table(
    "fixity_runs",
    metadata,
    Column("id", ID, primary_key=True),
    Column("started_at", TIME, nullable=False),
    Column("finished_at", TIME),
    Column(
        "upto", String(26), nullable=False
    ),  # the last document it came to: the next run goes on
    Column("documents_read", Integer, nullable=False),
    Column("bytes_read", Integer, nullable=False),
    Column("findings", Text, nullable=False),  # JSON list of subject, problem, action
)
