"""What the gateway says by itself: notices, the conditions they tell of, and accounts' addresses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("email", sa.LargeBinary()))
    op.create_table(
        "notices",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("target", sa.String(80), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("client_id", sa.String(26)),
        sa.Column("account_id", sa.String(26)),
        sa.Column("message_id", sa.String(26)),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("entry", sa.Integer()),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.String(32)),
        sa.Column("delivered_at", sa.String(32)),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.Column("recipient_index", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("number", name="pk_notices"),
        sa.UniqueConstraint("id", name="uq_notices_id"),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name="fk_notices_client_id"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_notices_account_id"),
        sa.ForeignKeyConstraint(["message_id"], ["documents.id"], name="fk_notices_message_id"),
        sqlite_autoincrement=True,
    )
    waiting = sa.text("delivered_at IS NULL")
    op.create_index(
        "ix_notices_waiting",
        "notices",
        ["target", "next_attempt_at"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index(
        "ix_notices_order",
        "notices",
        ["target", "number"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index("ix_notices_over", "notices", ["delivered_at"])
    op.create_index("ix_notices_account", "notices", ["account_id", "kind", "delivered_at"])
    op.create_index("ix_notices_client", "notices", ["client_id", "delivered_at"])
    op.create_table(
        "notice_documents",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.String(26), nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number", "document_id", name="pk_notice_documents"),
        sa.ForeignKeyConstraint(["number"], ["notices.number"], name="fk_notice_documents_number"),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name="fk_notice_documents_document_id"
        ),
    )
    op.create_index("ix_notice_documents_document", "notice_documents", ["document_id"])
    op.create_table(
        "conditions",
        sa.Column("topic", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(80), nullable=False),
        sa.Column("since", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("topic", "subject", name="pk_conditions"),
    )
