"""Tables of the ledger: entries, tree, checkpoints, keys, and where checkpoints are published."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, PrimaryKeyConstraint, String, Table, Text

from vault.catalogue.schema.base import TIME, metadata

# The ledger (vault/catalogue/ledger.py).
ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
)

ledger_nodes = Table(
    "ledger_nodes",
    metadata,
    Column("level", Integer, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("level", "idx"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", Integer, primary_key=True, autoincrement=False),
    Column("signed_at", TIME, nullable=False),
    Column("note", Text, nullable=False),
)

# The ledger's verifier keys in their order; each but the first was introduced by the one before it.
ledger_keys = Table(
    "ledger_keys",
    metadata,
    Column("since", Integer, primary_key=True, autoincrement=False),  # checkpoints above this size
    Column("vkey", Text, nullable=False),
    Column("handover", Text, nullable=False),  # signed note of the key before; empty for the first
    Column("added_at", TIME, nullable=False),
)

# How far the checkpoints that go to other places have come.
checkpoint_places = Table(
    "checkpoint_places",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("size", Integer, nullable=False),  # of the checkpoint that the place was seen to hold
    Column("tiles", Integer, nullable=False),  # entries that its tiles cover
    Column("delivered_at", TIME),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", TIME),
    Column("failure", Text, nullable=False),
    Column("alarmed_at", TIME),  # since when it holds what is not of our history
)
