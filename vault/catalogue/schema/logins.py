"""Tables of logins that failed, so that a restart forgives nothing."""

from __future__ import annotations

from sqlalchemy import Column, Float, Integer, PrimaryKeyConstraint, String, Table, Text

from vault.catalogue.schema.base import ID, TIME, metadata

# Sources (an IPv4 address, an IPv6 /64) that logins failed from, so that a restart forgives nothing.
login_sources = Table(
    "login_sources",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("until", TIME, nullable=False),  # penalised until then
    Column("since", TIME, nullable=False),
    Column("touched_at", TIME, nullable=False),  # when the budgets were last reckoned
    Column(
        "budget", Float, nullable=False
    ),  # guesses left at accounts that never logged in from there
    Column("reserve", Float, nullable=False),  # more, for those that nobody guessed at
    Column("events", Text, nullable=False),  # JSON: what happened, how often
)

# What one source tried at one account: failures, and when it last logged in rightly from there.
login_lanes = Table(
    "login_lanes",
    metadata,
    Column("source", String(64), nullable=False),
    Column("account_id", ID, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("budget", Float, nullable=False),
    Column("touched_at", TIME, nullable=False),
    Column("trusted_at", TIME),
    PrimaryKeyConstraint("source", "account_id"),
)
