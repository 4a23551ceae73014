"""From when a key counts for what its owner signs, and who enrolled it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("account_keys", sa.Column("counts_from", sa.String(length=32), nullable=True))
    op.add_column(
        "account_keys",
        sa.Column("enrolled_by", sa.String(length=64), nullable=False, server_default=""),
    )
    # What was there before counted from the day it was added.
    op.execute("UPDATE account_keys SET counts_from = added_at")
