"""Passwords that clients deposited for locked files that they send."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deposited_passwords",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("client_id", sa.String(26), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("added_at", sa.String(32), nullable=False),
        sa.Column("added_by", sa.String(64), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("used_at", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name="pk_deposited_passwords"),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name="fk_deposited_passwords_client_id"
        ),
    )
    op.create_index("ix_deposited_passwords_client", "deposited_passwords", ["client_id"])
