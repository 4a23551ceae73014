"""What is set later in the life of a document is indexed only where it is set"""

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
