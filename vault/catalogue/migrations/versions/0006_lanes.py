"""Who sent a document that waits for its inspection, blinded, and an index of those"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What waits while the store is migrated shares one lane for each client.
    op.add_column(
        "documents", sa.Column("lane", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_index(
        "ix_documents_lanes",
        "documents",
        ["client_id", "lane", "reason", "next_attempt_at"],
        sqlite_where=sa.text("state = 'RECEIVED'"),
        postgresql_where=sa.text("state = 'RECEIVED'"),
    )
