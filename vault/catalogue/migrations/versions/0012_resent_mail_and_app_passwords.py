"""By what a message that is sent again is recognised; passwords of devices that send mail.

Messages that came before are not recognised again: what they were made of is not read anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("content_index", sa.LargeBinary(), nullable=True))
    op.add_column("messages", sa.Column("same_id_as", sa.String(26), nullable=True))
    known = sa.text("content_index IS NOT NULL")
    op.create_index(
        "ix_messages_content",
        "messages",
        ["client_id", "content_index"],
        sqlite_where=known,
        postgresql_where=known,
    )
    op.create_table(
        "app_passwords",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("account_id", sa.String(26), nullable=False),
        sa.Column("selector", sa.String(8), nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("last_used_at", sa.String(32)),
        sa.Column("removed_at", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name="pk_app_passwords"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_app_passwords_account_id"
        ),
    )
    op.create_index(
        "ix_app_passwords_account", "app_passwords", ["account_id", "selector"], unique=True
    )
