"""What is set later is indexed only where it is set; what of one client falls due has an index of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_SET_LATER = {
    "ix_documents_due": ["state", "eligible_at"],
    "ix_documents_parent": ["parent_id"],
    "ix_documents_batch": ["batch_id"],
}


def upgrade() -> None:
    for name, columns in _SET_LATER.items():
        op.drop_index(name, table_name="documents")
        where = sa.text(f"{columns[-1]} IS NOT NULL")
        op.create_index(name, "documents", columns, sqlite_where=where, postgresql_where=where)
    due = sa.text("eligible_at IS NOT NULL")
    op.create_index(
        "ix_documents_client_due",
        "documents",
        ["client_id", "state", "eligible_at"],
        sqlite_where=due,
        postgresql_where=due,
    )
