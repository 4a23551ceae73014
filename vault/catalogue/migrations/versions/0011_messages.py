"""What is known of a message besides that it is a document; those that came before proved nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "messages",
        sa.Column("document_id", sa.String(26), nullable=False),
        sa.Column("client_id", sa.String(26), nullable=False),
        sa.Column("message_id_index", sa.LargeBinary()),
        sa.Column("proof", sa.String(16), nullable=False),
        sa.Column("proven_at", sa.String(32)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.String(32)),
        sa.PrimaryKeyConstraint("document_id", name="pk_messages"),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_messages_document_id"),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name="fk_messages_client_id"),
    )
    known = sa.text("message_id_index IS NOT NULL")
    op.create_index(
        "ix_messages_message_id",
        "messages",
        ["client_id", "message_id_index"],
        sqlite_where=known,
        postgresql_where=known,
    )
    due = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_messages_due", "messages", ["due_at"], sqlite_where=due, postgresql_where=due
    )
    op.execute(
        "INSERT INTO messages (document_id, client_id, proof, attempts) "
        "SELECT id, client_id, 'none', 0 FROM documents WHERE channel = 'smtp'"
    )
