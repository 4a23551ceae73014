"""Limits of accounts; what is remembered of failed and of right logins"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("expires_at", sa.String(length=32), nullable=True))
    op.add_column("accounts", sa.Column("networks", sa.Text(), nullable=True))
    op.add_column("accounts", sa.Column("hours", sa.Text(), nullable=True))
    op.create_table(
        "login_sources",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("until", sa.String(length=32), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.Column("touched_at", sa.String(length=32), nullable=False),
        sa.Column("budget", sa.Float(), nullable=False),
        sa.Column("reserve", sa.Float(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_login_sources")),
    )
    op.create_table(
        "login_lanes",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=26), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("budget", sa.Float(), nullable=False),
        sa.Column("touched_at", sa.String(length=32), nullable=False),
        sa.Column("trusted_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("source", "account_id", name=op.f("pk_login_lanes")),
    )
