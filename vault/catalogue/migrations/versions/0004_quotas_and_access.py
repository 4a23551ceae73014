"""Quotas with a running count of what each client keeps, documents of the same bytes, access requests"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# States in which a document takes room: acknowledged ones that live, and uploads that can be continued.
# As they were when this migration was written; `gateway.core.intake.quotas` holds the same list.
_KEPT = "'PARTIAL', 'RECEIVED', 'REVIEW', 'QUARANTINED', 'FILED', 'ARCHIVED'"

# Triggers, because a count that some path forgets to keep is worse than none: states change in filing, in
# destruction, when an upload expires and when a restore replays tombstones. Whoever copies the table
# `documents` to change it (Alembic's batch mode does) has to make them anew.
_COUNTED = (
    """
    CREATE TRIGGER usage_inserted AFTER INSERT ON documents WHEN NEW.state IN (KEPT)
    BEGIN
        INSERT INTO usage (client_id, bytes, files) VALUES (NEW.client_id, NEW.size, 1)
        ON CONFLICT (client_id) DO UPDATE SET bytes = bytes + NEW.size, files = files + 1;
    END
    """,
    """
    CREATE TRIGGER usage_updated AFTER UPDATE OF state, size ON documents
    WHEN OLD.state IN (KEPT) OR NEW.state IN (KEPT)
    BEGIN
        UPDATE usage SET
            bytes = bytes + (NEW.state IN (KEPT)) * NEW.size - (OLD.state IN (KEPT)) * OLD.size,
            files = files + (NEW.state IN (KEPT)) - (OLD.state IN (KEPT))
        WHERE client_id = NEW.client_id;
    END
    """,
    """
    CREATE TRIGGER usage_deleted AFTER DELETE ON documents WHEN OLD.state IN (KEPT)
    BEGIN
        UPDATE usage SET bytes = bytes - OLD.size, files = files - 1
        WHERE client_id = OLD.client_id;
    END
    """,
)


def upgrade() -> None:
    for name in ("quota_bytes", "quota_files", "quota_file_size"):
        op.add_column("clients", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("documents", sa.Column("same_as", sa.String(length=26), nullable=True))
    op.create_table(
        "usage",
        sa.Column("client_id", sa.String(length=26), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_usage_client_id")),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_usage")),
    )
    op.execute(
        "INSERT INTO usage (client_id, bytes, files)"
        " SELECT client_id, sum(size), count(*) FROM documents"
        " WHERE state IN (KEPT) GROUP BY client_id".replace("KEPT", _KEPT)
    )
    for trigger in _COUNTED:
        op.execute(trigger.replace("KEPT", _KEPT))
    op.create_table(
        "access_requests",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("account_id", sa.String(length=26), nullable=False),
        sa.Column("client_id", sa.String(length=26), nullable=False),
        sa.Column("document_id", sa.String(length=26), nullable=False),
        sa.Column("record_class", sa.String(length=64), nullable=True),
        sa.Column("fiscal_year", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("requested_at", sa.String(length=32), nullable=False),
        sa.Column("decided_at", sa.String(length=32), nullable=True),
        sa.Column("decided_by", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.LargeBinary(), nullable=True),
        sa.Column("until", sa.String(length=32), nullable=True),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.Column("ended_by", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_access_requests_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_access_requests_client_id")
        ),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name=op.f("fk_access_requests_document_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_requests")),
    )
    op.create_index(
        "ix_access_requests_asked", "access_requests", ["account_id", "state", "document_id"]
    )
    op.create_index("ix_access_requests_waiting", "access_requests", ["state", "requested_at"])
