"""Messages fetched from mailboxes: what was decided about each of their numbers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mailbox_messages",
        sa.Column("mailbox", sa.String(64), nullable=False),
        sa.Column("uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("document_id", sa.String(26)),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("decided_at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("mailbox", "uidvalidity", "uid", name="pk_mailbox_messages"),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name="fk_mailbox_messages_document_id"
        ),
    )
