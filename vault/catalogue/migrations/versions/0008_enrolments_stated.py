"""How the key of a signature was enrolled when it signed, and the founding officers' keys as what they are"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Signatures from before state nothing of it, and so do their certificates.
    op.add_column("approvals", sa.Column("enrolment", sa.Text(), nullable=True))
    op.add_column("sanitisations", sa.Column("enrolment", sa.Text(), nullable=True))
    # The third officer's first key was put down as the console's, and one that an officer signed for in the
    # founding days as that officer's. Since those days neither can come to count: an officer's key takes its
    # owner or two others.
    op.execute(
        "UPDATE account_keys SET enrolled_by = '' WHERE counts_from IS NOT NULL"
        " AND enrolled_by <> account_id AND instr(enrolled_by, ',') = 0"
        " AND account_id IN (SELECT id FROM accounts WHERE role = 'officer')"
    )
    # What came after those days and names nobody was given before it was kept who gives a key.
    op.execute(
        "UPDATE account_keys SET enrolled_by = 'unknown' WHERE enrolled_by = '' AND added_at >"
        " (SELECT created_at FROM accounts WHERE role = 'officer' ORDER BY created_at, id LIMIT 1 OFFSET 2)"
    )
