"""What waits for a second officer's signature, and who gave an account its password and code"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "second_signatures",
        sa.Column("act", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=26), nullable=False),
        sa.Column("subject", sa.String(length=26), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_second_signatures_account_id")
        ),
        sa.PrimaryKeyConstraint("act", "digest", "account_id", name=op.f("pk_second_signatures")),
    )
    op.add_column(
        "accounts",
        sa.Column("secrets_by", sa.String(length=64), nullable=False, server_default=""),
    )
